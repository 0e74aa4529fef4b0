from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from pipeline.bootstrap.requirements import installed_distributions, parse_requirements, satisfies, unmet
from pipeline.errors import UserError

PROJECT = Path(__file__).resolve().parent.parent.parent
VERSIONS = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(lambda numbers: ".".join(map(str, numbers)))
OPERATORS = st.sampled_from(["==", "!=", ">=", "<=", ">", "<"])


@pytest.fixture(scope="module")
def ours():
    return {line.name: line for line in parse_requirements((PROJECT / "requirements.txt").read_text())}


def test_every_line_of_ours_has_a_reason(ours):
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    reasons = [line.partition("#")[2].strip() for line in lines if line and not line.startswith("#")]
    assert len(reasons) == len(ours)
    assert all(len(reason) > 3 for reason in reasons)


def test_there_is_one_opencv_and_toolbelt_does_not_install_another(ours):
    assert [name for name in ours if name.startswith("opencv")] == ["opencv-python-headless"]
    assert ours["pytorch-toolbelt"].kind == "no-deps"


def test_torch_has_no_upper_bound_and_albumentations_is_pinned(ours):
    assert {operator for operator, _ in ours["torch"].bounds} == {">="}
    assert ours["albumentations"].bounds == (("==", "2.0.8"),)


def test_an_image_with_torch_2_10_lacks_only_what_it_does_not_have(ours):
    names = ("segmentation-models-pytorch", "pytorch-toolbelt", "torch-optimizer", "pytorch-ranger")
    image = {line.name: line.bounds[0][1] if line.bounds else "1" for line in ours.values() if line.name not in names}
    image |= {"torch": "2.10.0+cu128", "torchvision": "0.25.0+cu128"}
    assert {line.name for line in unmet(ours.values(), image)} == set(names)


@pytest.mark.parametrize("line", ["torch>=2.6", "-r other.txt", "torch~=2.6  # networks", "torch>=x  # networks"])
def test_a_line_that_cannot_be_read_is_refused_with_its_number(line: str):
    with pytest.raises(UserError, match="line 2"):
        parse_requirements(f"# packages\n{line}\n")


@given(found=VERSIONS, operator=OPERATORS, bound=VERSIONS)
def test_bounds_mean_what_pip_means(found: str, operator: str, bound: str):
    assert satisfies(found, [(operator, bound)]) == SpecifierSet(operator + bound).contains(found)


def test_a_half_installed_package_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "halfway-1.0.dist-info").mkdir()
    (tmp_path / "nameless-1.0.dist-info").mkdir()
    (tmp_path / "nameless-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not {"halfway", "nameless"} & set(installed_distributions())
