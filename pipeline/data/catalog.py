"""The catalogs: one row per image, after every file was read and found good. One for training, one for test images.

In: a competition's folder. Out: the tables behind catalog_train.csv and catalog_test.csv, and all problems at once, so
that one pass of fixing is enough. Only a catalog without problems may be written or used.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import pandas as pd

from pipeline.config.competition import Competition
from pipeline.config.template import SUFFIX, below_folders, fill_template, id_values, name_pattern
from pipeline.data.competition import (
    Listed,
    cell_of,
    ids_of_files,
    list_files,
    list_images,
    sequence_of,
    unreadable_names,
    with_neighbours,
)
from pipeline.data.decode import SUFFIXES
from pipeline.data.image_facts import format_problems_of
from pipeline.data.image_files import JOIN, Files, id_of, label_files
from pipeline.data.image_source import ImageSource
from pipeline.data.images import Inspection, compare_sizes, map_files
from pipeline.data.problems import Problem, make_problem
from pipeline.data.table import read_table
from pipeline.files import atomic_path
from pipeline.task import Labels, Task
from pipeline.wording import loose_name, name_difference

TEXT_COLUMNS = ("id", "sequence", "given", "image", "mask")
Key = Literal["IMAGES", "VALID_IMAGES", "TEST_IMAGES", "MASKS"]
_NOTHING = Inspection(0, 0, None, ())


class _Entry(NamedTuple):
    """An image to inspect: files relative to the competition folder; a test image has no label."""

    id: str
    sequence: str
    subset: str
    image: str
    label: str | None


def build_train_catalog(
    competition: Competition, folder: Path, task: Task, labels: Labels
) -> tuple[pd.DataFrame, list[Problem]]:
    """Returns the catalog of the training images, and everything that is wrong with their list and files.

    Columns: id, sequence, given (the organisers' subset, or empty), image, mask (the label; paths are relative), width,
    height, and those that the task adds. Rows in the order of the list, or of the files.
    """
    listed, problems = list_files(competition, folder, "train")
    entries = [_Entry(*one, file, labels.cell(one.id)) for one, file in listed]
    if competition.without_mask == "skip":
        entries = [entry for entry in entries if entry.label]
    inspected, found = _inspect_all(competition, folder, entries, "IMAGES", labels)
    found += format_problems_of([entry.image for entry in entries], [image for image, _ in inspected], competition.name)
    columns = [*TEXT_COLUMNS, "width", "height", *task.label_columns(competition)]
    rows = [
        [*entry, image.width, image.height, *task.label_values(competition, label)]
        for entry, (image, label) in zip(entries, inspected, strict=True)
    ]
    return pd.DataFrame(rows, columns=columns), [*labels.problems, *problems, *found]


def build_test_catalog(
    competition: Competition, folder: Path, is_hidden: bool = False, number_format: str | None = None
) -> tuple[pd.DataFrame, list[Problem]]:
    """Returns the catalog of the test images, and everything that is wrong with their list and files.

    Columns: id, sequence, image, width, height. Rows in the order of test.csv.

    Args:
        folder: of the competition, or for a hidden test set of its images.
        is_hidden: whether the folder holds a hidden test set: images alone, or a test.csv beside them. Its images may
            repeat training images, as the examples do that a code competition shows before it scores.
        number_format: of the training images; None: of most.
    """
    has_list = competition.test_csv is not None and (folder / competition.test_csv).is_file()
    if is_hidden and not has_list:
        entries, problems = _entries_of_files(competition, folder)
    else:
        listed, problems = list_files(competition, folder, "test")
        entries = [_Entry(*one, file, None) for one, file in listed]
        if not is_hidden:
            problems += _also_in_training(competition, folder, [one for one, _ in listed])
    key = "TEST_IMAGES" if competition.test_images else "IMAGES"
    inspected, found = _inspect_all(competition, folder, entries, key)
    cells, images = [entry.image for entry in entries], [image for image, _ in inspected]
    found += format_problems_of(cells, images, competition.name, number_format)
    rows = [
        [entry.id, entry.sequence, entry.image, image.width, image.height]
        for entry, (image, _) in zip(entries, inspected, strict=True)
    ]
    return pd.DataFrame(rows, columns=["id", "sequence", "image", "width", "height"]), [*problems, *found]


def read_catalog(path: Path | str) -> pd.DataFrame:
    """Returns a catalog as it was written: ids with leading zeros stay text, numbers are int64."""
    return read_table(Path(path), ("id", "sequence", "image", "width", "height"), TEXT_COLUMNS)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Writes a table as CSV without its index; a kill leaves the old or the new file."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def find_notices(
    competition: Competition, folder: Path, catalog: pd.DataFrame, task: Task, labels: Labels
) -> list[str]:
    """Returns what is unusual but no mistake, a sentence each: unlisted images, and what the task finds in labels."""
    notices = [*labels.notices]
    used = {file for name in ("image", "mask") for cell in catalog[name] for file in label_files(cell)}
    if competition.train_csv is None and competition.without_mask == "skip":
        subsets = ("train", "valid") if competition.valid_images else ("train",)
        templates = [competition.templates(subset)[0] for subset in subsets]
        num_images = sum(len(ids_of_files(competition, folder, template)) for template in templates)
        if num_images > len(catalog):
            what = "boxes" if competition.has_boxes else "a mask"
            notices.append(f"{num_images - len(catalog):,} images without {what} are left out (WITHOUT_MASK: skip)")
        return notices + task.label_notices(competition, catalog)
    if not competition.test_images and competition.test_csv:  # test images may be in the same folder
        used |= {file for _, cell in list_files(competition, folder, "test")[0] for file in label_files(cell)}
    own = [file for cell in catalog["image"] for file in label_files(cell)]
    parents, suffixes = {file.rpartition("/")[0] for file in own}, {os.path.splitext(file)[1] for file in own}
    # Of bands and layers not all are used; with ID_PATTERN, not all files are images.
    if len(competition.templates("train")) == 1 and competition.id_pattern is None:
        named = [(parent, name) for parent in sorted(parents) for name in sorted(os.listdir(folder / parent))]
        there = [f"{parent}/{name}" if parent else name for parent, name in named]
        unused = [file for file in there if file not in used and os.path.splitext(file)[1] in suffixes]
        if unused:
            where = f" in {next(iter(parents))}" if len(parents) == 1 else ""
            notices.append(f"{len(unused):,} images{where} are in no list and unused (first: {unused[0]})")
    return notices + task.label_notices(competition, catalog)


def _entries_of_files(competition: Competition, folder: Path) -> tuple[list[_Entry], list[Problem]]:
    """Returns an entry for every image in a folder without a list; ids by the file part of the template."""
    templates = [below_folders(template) for template in competition.templates("test")]
    if len(templates) > 1 or "/" in templates[0] or "*" in templates[0]:
        entries = _entries_by_templates(competition, folder, templates)
        if entries or len(templates) > 1:
            unreadable = unreadable_names([entry.id for entry in entries])
            return entries, unreadable if entries else [
                _empty(competition, folder, f"no file that fits {templates[0]}")
            ]
    names, ids = [], []
    for name in sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()):
        names.append(name)
        ids.append(_id_of(name, PurePosixPath(templates[0]).name))
    if not names:
        return [], [_empty(competition, folder, f"no file that ends with {', '.join(SUFFIXES)}")]
    rows = [{competition.id_column: id} for id in ids]
    sequences = [sequence_of(competition, row, name, 0)[0] for row, name in zip(rows, names, strict=True)]
    counts = Counter(ids)
    twice = [make_problem("id twice", name, id) for id, name in zip(ids, names, strict=True) if counts[id] > 1]
    found = zip(ids, sequences, names, strict=True)
    listed = [(Listed(id, own, ""), name) for id, own, name in found if JOIN not in name]
    return _entries_of(listed, competition), [*twice, *unreadable_names(ids)]


def _empty(competition: Competition, folder: Path, found: str) -> Problem:
    found = f"no {competition.test_csv}, and {found}" if competition.test_csv else found
    return make_problem("test folder empty", str(folder), found)


def _entries_of(listed: list[tuple[Listed, str]], competition: Competition) -> list[_Entry]:
    if competition.image.neighbours:
        listed = with_neighbours(listed, competition.image.neighbours)
    return [_Entry(*one, cell, None) for one, cell in listed]


def _entries_by_templates(competition: Competition, folder: Path, templates: Sequence[str]) -> list[_Entry]:
    """Returns an entry for every image of which a folder has several files, or that has a folder of its own."""
    files = Files(folder, templates, competition.id_format)
    ids = ids_of_files(competition, folder, templates[0])
    rows = [{competition.id_column: id} for id in ids]
    sequences = [sequence_of(competition, row, templates[0], 0)[0] for row in rows]
    listed = [(Listed(id, own, ""), cell_of(files, id)) for id, own in zip(ids, sequences, strict=True)]
    return _entries_of(listed, competition)


def _id_of(name: str, template: str) -> str:
    """Returns the id of an image file by the file part of the competition's template.

    >>> _id_of("7_gt.png", "{id}_gt.png"), _id_of("7.png", "{id}.jpg"), _id_of("7.jpg", "{id}")
    ('7', '7', '7.jpg')
    """
    match = name_pattern(template, {}).fullmatch(name)
    return id_of(match.groupdict() if match else {}, None) or PurePosixPath(name).stem


def _inspect_all(
    competition: Competition, folder: Path, entries: Sequence[_Entry], key: Key, labels: Labels | None = None
) -> tuple[list[tuple[Inspection, Inspection]], list[Problem]]:
    """Returns what image and label of each entry hold, and their problems; `key` names the images' template."""
    images = ImageSource(competition, folder)
    files: dict[Key, list[str]] = {key: [file for entry in entries for file in label_files(entry.image)]}
    is_labelled = labels is not None and not labels.problems  # a csv with problems has none to inspect
    if is_labelled:
        files["MASKS"] = list(dict.fromkeys(file for entry in entries for file in label_files(entry.label)))
    there = {file for named in files.values() for file in named if os.path.isfile(os.path.join(folder, file))}
    problems = [
        one for name, named in files.items() for one in _explain_missing(competition, folder, name, named, there)
    ]

    def inspect(entry: _Entry) -> tuple[Inspection, Inspection, list[Problem]]:
        image = label = _NOTHING
        is_there = there.issuperset(label_files(entry.image))
        with images.alone(entry.image) if is_there else nullcontext():
            if is_there:
                image = images.inspect(entry.image)
            if is_labelled and there.issuperset(label_files(entry.label)):
                label = labels.inspect(entry.id, entry.label or "", image)
        return image, label, [*image.problems, *label.problems, *compare_sizes(image, label, entry.label or "")]

    inspected = map_files(inspect, entries, "check files")
    problems += [problem for _, _, found in inspected for problem in found]
    return [(image, label) for image, label, _ in inspected], problems


def _also_in_training(competition: Competition, folder: Path, test: list[Listed]) -> list[Problem]:
    train_ids = {listed.id for listed in list_images(competition, folder, "train")[0]}
    both = [listed.id for listed in test if listed.id in train_ids]
    name = competition.test_csv or competition.templates("test")[0]
    lists = f"{competition.train_csv or competition.templates('train')[0]} and {name}"
    return [make_problem("id in train and test", name, f"{id} is in {lists}") for id in both]


def _explain_missing(
    competition: Competition, folder: Path, key: Key, files: list[str], there: set[str]
) -> list[Problem]:
    """Returns the problems of those `files` that are not `there`, no ordinary files below `folder`.

    `key` is the descriptor's whose template names them. A folder that is missing or closed is one problem.
    """
    gone_in: dict[str, list[str]] = {}
    for file in files:
        if file not in there:
            gone_in.setdefault(str(PurePosixPath(file).parent), []).append(file)
    wanted = set(files) if gone_in else set()
    explained = (_explain_all(competition, folder, parent, key, gone, wanted) for parent, gone in gone_in.items())
    return [problem for problems in explained for problem in problems]


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
    near = {loose_name(name): name for name in names if f"{parent}/{name}" not in wanted}
    return [
        _id_with_suffix(competition, folder, key, file)
        or _explain(folder, file, what, near.get(loose_name(PurePosixPath(file).name)), competition)
        for file in gone
    ]


def _id_with_suffix(competition: Competition, folder: Path, key: Key, file: str) -> Problem | None:
    """Returns the problem of an id that ends like a file, where the file is there under another template."""
    template = getattr(competition, key.lower())
    before, _, behind = template.partition("{id}") if isinstance(template, str) else ("", "", "")
    image_id = file[len(before) : len(file) - len(behind)]
    if not isinstance(template, str) or "{id}" not in template or not SUFFIX.search(image_id) or "*" in template:
        return None
    for other in (before + "{id}", before + "{stem}" + behind):
        there = fill_template(other, id_values(image_id))
        if there != file and os.path.isfile(folder / there):
            facts = {"key": key, "template": other, "competition": competition.name}
            return make_problem("id with a suffix", file, f"there is {PurePosixPath(there).name}", **facts)
    return None


def _explain(folder: Path, file: str, what: str, near: str | None, competition: Competition) -> Problem:
    if os.path.isdir(folder / file):
        return make_problem("not a file", file, "a folder of that name")
    if os.path.exists(folder / file):
        return make_problem("not a file", file, "a device, pipe or socket")
    if os.path.islink(folder / file):
        return make_problem("link to nowhere", file, f"a link to {os.readlink(folder / file)}")
    if near is not None:
        difference = name_difference(PurePosixPath(file).name, near)
        return make_problem(f"{what} under another name", file, f"there is {near} ({difference})")
    return make_problem(f"{what} missing", file, "no such file", competition=competition.name)
