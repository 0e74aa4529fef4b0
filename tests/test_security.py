"""The page on security names the tests that hold its claims: each of them exists, and so does what it says to type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.bootstrap.requirements import parse_lock, parse_requirements, unmet

PROJECT = Path(__file__).resolve().parent.parent
PAGE = (PROJECT / "docs" / "security.md").read_text()
LOCK = (PROJECT / "requirements.lock").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda value: value)
def test_every_test_that_the_page_names_exists(file, name):
    assert f"\ndef {name}(" in (PROJECT / file).read_text()


def test_the_page_names_a_test_for_many_claims():
    assert len(set(NAMED)) > 20


def test_the_readme_links_the_page():
    assert "(docs/security.md)" in (PROJECT / "README.md").read_text()


def test_the_lock_file_meets_every_range_and_pins_each_package_once_with_hashes():
    pinned = parse_lock(LOCK)
    versions = {line.name: line.bounds[0][1] for line in pinned}
    assert len(versions) == len(pinned)
    assert unmet(parse_requirements((PROJECT / "requirements.txt").read_text()), versions) == []
    assert "opencv-python" not in versions  # which would overwrite cv2/ of the headless one
    blocks = re.split(r"\n(?=[a-z0-9])", LOCK.partition("\nabsl-py")[1].strip() + LOCK.partition("\nabsl-py")[2])
    assert [block.split("==")[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_lock_file_names_no_host():
    assert "://" not in LOCK and "--index" not in LOCK.replace("--no-emit-index-url", "")
