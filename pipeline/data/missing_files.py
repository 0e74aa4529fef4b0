"""Which listed files are missing, and how to fix that: often they exist under a similar name."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Literal

from pipeline.config.competition import SUFFIX, Competition, fill_template
from pipeline.data.problems import Problem, make_problem

Key = Literal["IMAGES", "TEST_IMAGES", "MASKS"]


def find_missing(
    competition: Competition, folder: Path, key: Key, files: list[str]
) -> list[tuple[str, Problem | None]]:
    """Returns (file, problem) for each of `files` that is no ordinary file below `folder`.

    `key` is the descriptor's whose template names them. Of a folder that is missing or closed only the first file
    carries a problem.
    """
    by_parent: dict[str, list[str]] = {}
    for file in files:
        by_parent.setdefault(str(PurePosixPath(file).parent), []).append(file)
    missing: list[tuple[str, Problem | None]] = []
    for parent, wanted in by_parent.items():
        gone = [file for file in wanted if not os.path.isfile(folder / file)]
        if gone:
            missing += _explain_all(competition, folder, parent, key, gone, set(wanted))
    return missing


def _explain_all(competition: Competition, folder: Path, parent: str, key: Key, gone: list[str], wanted: set[str]):
    what = "mask" if key == "MASKS" else "image"
    concerned = f"; {len(gone):,} {what}{'s' * (len(gone) > 1)} should be in it"
    try:
        names = os.listdir(folder / parent)
    except OSError as error:
        if os.path.isdir(folder / parent):
            problem = make_problem("folder unreadable", parent, (error.strerror or str(error)) + concerned)
        else:
            facts = {"what": what, "key": key, "competition": competition.name}
            problem = make_problem("folder missing", parent, "no such folder" + concerned, **facts)
        return [(gone[0], problem), *((file, None) for file in gone[1:])]
    near = {_loose(name): name for name in names if f"{parent}/{name}" not in wanted}
    found = []
    for file in gone:
        near_name = near.get(_loose(PurePosixPath(file).name))
        suffixed = _id_with_suffix(competition, folder, key, file)
        found.append((file, suffixed or _explain(folder, file, what, near_name, competition)))
    return found


def _id_with_suffix(competition: Competition, folder: Path, key: Key, file: str) -> Problem | None:
    """Returns the problem of an id that ends like a file, where the file is there under another template."""
    template = getattr(competition, key.lower())
    before, _, behind = template.partition("{id}")
    image_id = file[len(before) : len(file) - len(behind)]
    if "{id}" not in template or not SUFFIX.search(image_id):
        return None
    for other in (before + "{id}", before + "{stem}" + behind):
        there = fill_template(other, image_id)
        if there != file and os.path.isfile(folder / there):
            facts = {"key": key, "template": other, "competition": competition.name}
            return make_problem("id with a suffix", file, f"there is {PurePosixPath(there).name}", **facts)
    return None


def _explain(folder: Path, file: str, what: str, near: str | None, competition: Competition) -> Problem:
    if os.path.isdir(folder / file):
        return make_problem("not a file", file, "a folder of that name")
    if os.path.islink(folder / file):
        return make_problem("link to nowhere", file, f"a link to {os.readlink(folder / file)}")
    if os.path.exists(folder / file):
        return make_problem("not a file", file, "a device, pipe or socket")
    if near is not None:
        return make_problem(f"{what} under another name", file, f"there is {near}")
    return make_problem(f"{what} missing", file, "no such file", competition=competition.name)


def _loose(name: str) -> str:
    """Returns a file name without case, extensions and leading zeros, which cameras and spreadsheets change.

    >>> _loose("000001_012.JPG") == _loose("1_12.jpg") == _loose("000001_012.jpg.png")
    True
    """
    stem = re.sub(r"(\.[a-z]{3,4})+$", "", name.casefold())
    return re.sub(r"(?<!\d)0+(?=\d)", "", stem)
