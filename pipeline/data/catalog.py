"""The catalog: one row per image of a competition, after every file was read and found good.

In: a competition's folder. Out: the table behind catalog.csv, and all problems at once, so that one pass of mending is
enough. Only a catalog without problems may be written or used.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from pipeline.config.competition import IGNORE, Competition, mask_file, image_file
from pipeline.data.competition import Listed, read_list
from pipeline.data.inspection import Inspection, compare_sizes, inspect_mask, inspect_image
from pipeline.data.missing_files import Key, find_missing
from pipeline.data.parallel import map_files
from pipeline.data.problems import Problem, make_problem

TEXT_COLUMNS = ("id", "subset", "sequence", "image", "mask")
_NOTHING = Inspection(0, 0, None, ())


@dataclass(frozen=True)
class _Entry:
    """An image to look at: files relative to the competition folder; a mask of "" is not wanted."""

    listed: Listed
    subset: str
    image: str
    mask: str


def build_catalog(competition: Competition, folder: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Returns the catalog and everything that is wrong with the competition's lists and files.

    Columns: id, subset (train, test), sequence, image, mask (relative paths; "" for test), width, height, pixels_0 to
    pixels_<C-1> for the C scored classes, pixels_ignored. Rows in the order of train.csv, then test.csv.
    """
    folder = Path(folder)
    train, problems = read_list(competition, folder, "train")
    test, test_problems = read_list(competition, folder, "test")
    problems += test_problems + _in_both(competition, train, test)
    entries = [_entry(competition, listed, "train") for listed in train]
    entries += [_entry(competition, listed, "test") for listed in test]
    missing = _missing(competition, folder, entries)
    problems += [problem for _, problem in missing if problem]
    absent = {file for file, _ in missing}
    looks = map_files(lambda entry: _look(competition, folder, entry, absent), entries, "check images and masks")
    problems += [problem for _, _, found in looks for problem in found]
    rows = [_row(competition, entry, *seen[:2]) for entry, seen in zip(entries, looks, strict=True)]
    return pd.DataFrame(rows, columns=catalog_columns(competition)), problems


def catalog_columns(competition: Competition) -> list[str]:
    """Returns the names of the catalog's columns."""
    pixels = [f"pixels_{index}" for index in range(competition.num_classes)]
    return [*TEXT_COLUMNS, "width", "height", *pixels, "pixels_ignored"]


def read_catalog(path: Path | str) -> pd.DataFrame:
    """Returns catalog.csv as it was written: ids with leading zeros and empty masks stay text, numbers are int64."""
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False)


def find_notices(competition: Competition, folder: Path, catalog: pd.DataFrame) -> list[str]:
    """Returns what is odd but no mistake, a sentence each: unlisted images, classes or masks without a pixel."""
    notices = []
    listed = set(catalog["image"])
    for parent, suffix in sorted({(str(file.parent), file.suffix) for file in map(PurePosixPath, listed)}):
        files = [f"{parent}/{name}" for name in sorted(os.listdir(Path(folder) / parent)) if name.endswith(suffix)]
        unlisted = [file for file in files if file not in listed]
        if unlisted:
            notices.append(f"{len(unlisted):,} images in {parent} are in no list and unused (first: {unlisted[0]})")
    train = catalog[catalog["subset"] == "train"]
    scored = train[[f"pixels_{index}" for index in range(competition.num_classes)]]
    unseen = [name for name, pixels in zip(competition.class_names, scored.sum(), strict=True) if pixels == 0]
    if unseen:
        notices.append(f"no mask contains {', '.join(unseen)}: nothing can be loss_classes about that")
    blank = train["id"][scored.sum(axis=1) == 0]
    if len(blank):
        notices.append(f"{len(blank):,} masks hold only ignored pixels (first: {blank.iloc[0]})")
    return notices


def _entry(competition: Competition, listed: Listed, subset: str) -> _Entry:
    mask = mask_file(competition, listed.id) if subset == "train" else ""
    return _Entry(listed, subset, image_file(competition, listed.id, subset), mask)


def _missing(competition: Competition, folder: Path, entries: list[_Entry]) -> list[tuple[str, Problem | None]]:
    """Returns the files that are not there, each with its problem or None, by the key whose template names them."""
    files: dict[Key, list[str]] = {"IMAGES": [], "TEST_IMAGES": [], "MASKS": []}
    for entry in entries:
        is_elsewhere = entry.subset == "test" and competition.test_images
        files["TEST_IMAGES" if is_elsewhere else "IMAGES"].append(entry.image)
        files["MASKS"] += [entry.mask] if entry.mask else []
    return [one for key, named in files.items() for one in find_missing(competition, folder, key, named)]


def _in_both(competition: Competition, train: list[Listed], test: list[Listed]) -> list[Problem]:
    train_ids = {listed.id for listed in train}
    both = [listed.id for listed in test if listed.id in train_ids]
    lists = f"{competition.train_csv} and {competition.test_csv}"
    return [make_problem("id in train and test", competition.test_csv, f"{id} is in {lists}") for id in both]


def _look(competition: Competition, folder: Path, entry: _Entry, absent: set[str]):
    image = mask = _NOTHING
    if entry.image not in absent:
        image = inspect_image(folder / entry.image, entry.image)
    if entry.mask and entry.mask not in absent:
        mask = inspect_mask(folder / entry.mask, entry.mask, competition)
    problems = [*image.problems, *mask.problems, *compare_sizes(image, mask, entry.mask)]
    return image, mask, problems


def _row(competition: Competition, entry: _Entry, image: Inspection, mask: Inspection) -> list[object]:
    counts = np.zeros(256, np.int64) if mask.counts is None else mask.counts
    pixels = [int(counts[index]) for index in range(competition.num_classes)]
    listed = entry.listed
    texts = [listed.id, entry.subset, listed.sequence, entry.image, entry.mask]
    return [*texts, image.width, image.height, *pixels, int(counts[IGNORE])]
