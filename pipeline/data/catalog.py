"""The catalogs: one row per image, after every file was read and found good. One for training, one for test images.

In: a competition's folder. Out: the tables behind catalog_train.csv and catalog_test.csv, and all problems at once, so
that one pass of fixing is enough. Only a catalog without problems may be written or used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import pandas as pd

from pipeline.config.competition import ID_FIELD, SUFFIX, Competition, fill_template, image_file
from pipeline.data.competition import Listed, read_list, sequence_of
from pipeline.data.images import READ_SUFFIXES, Inspection, compare_sizes, inspect_image, map_files
from pipeline.data.problems import Problem, make_problem
from pipeline.files import atomic_path
from pipeline.task import Task

TEXT_COLUMNS = ("id", "sequence", "image", "mask")
Key = Literal["IMAGES", "TEST_IMAGES", "MASKS"]
_NOTHING = Inspection(0, 0, None, ())


class _Entry(NamedTuple):
    """An image to inspect: files relative to the competition folder; a test image has no label."""

    id: str
    sequence: str
    image: str
    label: str | None


def build_train_catalog(competition: Competition, folder: Path, task: Task) -> tuple[pd.DataFrame, list[Problem]]:
    """Returns the catalog of the training images, and everything that is wrong with their list and files.

    Columns: id, sequence, image, mask (the label; paths are relative), width, height, and those that the task adds.
    Rows in the order of train.csv.
    """
    listed, problems = read_list(competition, folder, "train")
    entries = [
        _Entry(*one, image_file(competition, one.id, "train"), task.label_file(competition, one.id)) for one in listed
    ]
    inspected, found = _inspect_all(competition, folder, entries, "IMAGES", task.inspect_label)
    columns = [*TEXT_COLUMNS, "width", "height", *task.label_columns(competition)]
    rows = [
        [*entry, image.width, image.height, *task.label_values(competition, label)]
        for entry, (image, label) in zip(entries, inspected, strict=True)
    ]
    return pd.DataFrame(rows, columns=columns), problems + found


def build_test_catalog(
    competition: Competition, folder: Path, is_hidden: bool = False
) -> tuple[pd.DataFrame, list[Problem]]:
    """Returns the catalog of the test images, and everything that is wrong with their list and files.

    Columns: id, sequence, image, width, height. Rows in the order of test.csv.

    Args:
        folder: of the competition, or for a hidden test set of its images.
        is_hidden: whether the folder holds a hidden test set: images alone, or a test.csv beside them. Its images may
            repeat training images, as the examples do that a code competition shows before it scores.
    """
    has_list = (folder / competition.test_csv).is_file()
    if is_hidden and not has_list:
        entries, problems = _entries_of_files(competition, folder)
    else:
        listed, problems = read_list(competition, folder, "test")
        entries = [_Entry(*one, image_file(competition, one.id, "test"), None) for one in listed]
        if not is_hidden:
            problems += _also_in_training(competition, folder, listed)
    key = "TEST_IMAGES" if competition.test_images else "IMAGES"
    inspected, found = _inspect_all(competition, folder, entries, key)
    problems += found
    rows = [[*entry[:3], image.width, image.height] for entry, (image, _) in zip(entries, inspected, strict=True)]
    return pd.DataFrame(rows, columns=["id", "sequence", "image", "width", "height"]), problems


def read_catalog(path: Path | str) -> pd.DataFrame:
    """Returns a catalog as it was written: ids with leading zeros stay text, numbers are int64."""
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Writes a table as CSV without its index; a kill leaves the old or the new file."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def find_notices(competition: Competition, folder: Path, catalog: pd.DataFrame, task: Task) -> list[str]:
    """Returns what is unusual but no mistake, a sentence each: unlisted images, and what the task finds in labels."""
    notices = []
    listed = set(catalog["image"])
    if not competition.test_images:  # test images may be in the same folder
        listed |= {image_file(competition, one.id, "test") for one in read_list(competition, folder, "test")[0]}
    for parent, suffix in sorted({(str(file.parent), file.suffix) for file in map(PurePosixPath, catalog["image"])}):
        files = [f"{parent}/{name}" for name in sorted(os.listdir(folder / parent)) if name.endswith(suffix)]
        unlisted = [file for file in files if file not in listed]
        if unlisted:
            notices.append(f"{len(unlisted):,} images in {parent} are in no list and unused (first: {unlisted[0]})")
    return notices + task.label_notices(competition, catalog)


def _entries_of_files(competition: Competition, folder: Path) -> tuple[list[_Entry], list[Problem]]:
    """Returns an entry for every image in a folder without a list; ids by the file part of the template."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in READ_SUFFIXES and path.is_file())
    if not names:
        found = f"no {competition.test_csv}, and no file that ends with {', '.join(READ_SUFFIXES)}"
        return [], [make_problem("test folder empty", str(folder), found)]
    template = PurePosixPath(competition.test_images or competition.images).name
    ids = [_id_of(name, template) for name in names]
    rows = [{competition.id_column: id} for id in ids]
    sequences = [sequence_of(competition, row, name, 0)[0] for row, name in zip(rows, names, strict=True)]
    twice = [make_problem("id twice", name, id) for id, name in zip(ids, names, strict=True) if ids.count(id) > 1]
    return [_Entry(*texts, None) for texts in zip(ids, sequences, names, strict=True)], twice


def _id_of(name: str, template: str) -> str:
    """Returns the id of an image file by the file part of the competition's template.

    >>> _id_of("7_gt.png", "{id}_gt.png"), _id_of("7.png", "{id}.jpg"), _id_of("7.jpg", "{id}")
    ('7', '7', '7.jpg')
    """
    before, *rest = ID_FIELD.split(template)
    if rest == [""]:  # ids carry their file's suffix
        return name.removeprefix(before)
    if rest and name.startswith(before) and name.endswith(rest[0]):
        return name[len(before) : len(name) - len(rest[0])]
    return PurePosixPath(name).stem  # another suffix, or a template whose id is a folder's name


def _inspect_all(
    competition: Competition,
    folder: Path,
    entries: Sequence[_Entry],
    key: Key,
    inspect_label: Callable[[Path, str, Competition], Inspection] | None = None,
) -> tuple[list[tuple[Inspection, Inspection]], list[Problem]]:
    """Returns what image and label of each entry hold, and their problems; `key` names the images' template."""
    files: dict[Key, list[str]] = {key: [entry.image for entry in entries]}
    files["MASKS"] = [entry.label for entry in entries if entry.label is not None]
    problems = [one for name, named in files.items() for one in _find_missing(competition, folder, name, named)]

    def inspect(entry: _Entry) -> tuple[Inspection, Inspection, list[Problem]]:
        image = label = _NOTHING
        if os.path.isfile(folder / entry.image):
            image = inspect_image(folder / entry.image, entry.image)
        if entry.label is not None and os.path.isfile(folder / entry.label):
            label = inspect_label(folder / entry.label, entry.label, competition)
        return image, label, [*image.problems, *label.problems, *compare_sizes(image, label, entry.label or "")]

    inspected = map_files(inspect, entries, "check files")
    problems += [problem for _, _, found in inspected for problem in found]
    return [(image, label) for image, label, _ in inspected], problems


def _also_in_training(competition: Competition, folder: Path, test: list[Listed]) -> list[Problem]:
    train_ids = {listed.id for listed in read_list(competition, folder, "train")[0]}
    both = [listed.id for listed in test if listed.id in train_ids]
    lists = f"{competition.train_csv} and {competition.test_csv}"
    return [make_problem("id in train and test", competition.test_csv, f"{id} is in {lists}") for id in both]


def _find_missing(competition: Competition, folder: Path, key: Key, files: list[str]) -> list[Problem]:
    """Returns the problems of those `files` that are no ordinary files below `folder`.

    `key` is the descriptor's whose template names them. A folder that is missing or closed is one problem.
    """
    by_parent: dict[str, list[str]] = {}
    for file in files:
        by_parent.setdefault(str(PurePosixPath(file).parent), []).append(file)
    problems: list[Problem] = []
    for parent, wanted in by_parent.items():
        gone = [file for file in wanted if not os.path.isfile(folder / file)]
        if gone:
            problems += _explain_all(competition, folder, parent, key, gone, set(wanted))
    return problems


def _explain_all(
    competition: Competition, folder: Path, parent: str, key: Key, gone: list[str], wanted: set[str]
) -> list[Problem]:
    what = "mask" if key == "MASKS" else "image"
    concerned = f"; {len(gone):,} {what}{'s' * (len(gone) > 1)} should be in it"
    try:
        names = os.listdir(folder / parent)
    except OSError as error:
        if os.path.isdir(folder / parent):
            return [make_problem("folder unreadable", parent, (error.strerror or str(error)) + concerned)]
        facts = {"what": what, "key": key, "competition": competition.name}
        return [make_problem("folder missing", parent, "no such folder" + concerned, **facts)]
    near = {_loose(name): name for name in names if f"{parent}/{name}" not in wanted}
    return [
        _id_with_suffix(competition, folder, key, file)
        or _explain(folder, file, what, near.get(_loose(PurePosixPath(file).name)), competition)
        for file in gone
    ]


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
