"""The folder of a competition's data, and its images by their lists or by the files that are there.

In: a competition's descriptor and the folders to search. Out: its folder; ids, sequences, subsets and files of images.
An id is a name, so leading zeros, `NA` and `1e5` stay as they are.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.config.competition import TEXT_LIST, Competition, MaskCsv, split_row
from pipeline.config.template import FIELD, fill_template
from pipeline.data.csv_file import read_csv, read_ids
from pipeline.data.image_files import JOIN, Files, ids_of
from pipeline.data.problems import Problem, make_problem
from pipeline.errors import UserError
from pipeline.paths import PROJECT, descriptor, shown


class Listed(NamedTuple):
    """An image: its id, the sequence that it belongs to ("": none known), and the organisers' subset ("": none)."""

    id: str
    sequence: str
    subset: str


def find_folder(competition: Competition, roots: Sequence[Path], directory: str | None = None) -> Path:
    """Returns the folder with a competition's data.

    An explicit `directory` is used as it is. Otherwise it is the first folder that has the name of the competition or
    its Kaggle slug, directly in one of `roots` or one level down, and holds what `needed_names` names.

    Raises:
        UserError: nothing found (names the folders searched and how to get the data), or found without its train.csv.
    """
    candidates = [Path(directory).expanduser()] if directory else _candidates(competition, roots)
    folders = [folder for folder in candidates if os.path.isdir(folder)]
    for folder in folders:
        if all(os.path.exists(folder / name) for name in needed_names(competition)):
            return folder.resolve()
    raise UserError(_incomplete(competition, folders[0]) if folders else _not_found(competition, roots, directory))


def needed_names(competition: Competition) -> list[str]:
    """Returns what a folder must have to be the competition's: the list of training images, or where they begin."""
    return [competition.train_csv] if competition.train_csv else [_first_folder(competition.templates("train")[0])]


def _first_folder(template: str) -> str:
    parts = template.split("/")
    known = [part for part in parts[:-1] if not FIELD.search(part) and "*" not in part]
    return known[0] if known and known[0] == parts[0] else "."


def list_images(competition: Competition, folder: Path, subset: str) -> tuple[list[Listed], list[Problem]]:
    """Returns the images of a subset, from its list or from the files there are, and what is wrong with the list.

    `subset` is "train", with the organisers' validation images behind the training images, or "test".
    """
    if subset == "test":
        template = competition.templates("test")[0]
        return _listed(competition, folder, competition.test_csv, template, "TEST_CSV", "")
    given = "train" if competition.valid_csv or competition.valid_images else ""
    template = competition.templates("train")[0]
    listed, problems = _listed(competition, folder, competition.train_csv, template, "TRAIN_CSV", given)
    if competition.valid_pattern:
        listed = [one._replace(subset=_subset_of(one.id, competition.valid_pattern)) for one in listed]
    if given:
        template = competition.templates("valid")[0]
        more, found = _listed(competition, folder, competition.valid_csv, template, "VALID_CSV", "valid")
        known = {one.id for one in listed}
        name = competition.valid_csv or template
        twice = [make_problem("id twice", name, f"{one.id}, also for training") for one in more if one.id in known]
        listed, problems = [*listed, *more], [*problems, *found, *twice]
    return listed, problems


def list_files(competition: Competition, folder: Path, subset: str) -> tuple[list[tuple[Listed, str]], list[Problem]]:
    """Returns the images of a subset, each with its file relative to `folder`, and what is wrong with the list.

    Files that are stacked are joined, as are those of neighbours. Where no file is found it is the template, filled in
    as far as the id goes.
    """
    listed, problems = list_images(competition, folder, subset)
    subsets, id_format = ("train", "valid", "test"), competition.id_format
    finders = {name: Files(folder, competition.templates(name), id_format) for name in subsets}
    found = []
    for one in listed:
        own = "valid" if subset == "train" and one.subset == "valid" else subset
        found.append((one, cell_of(finders[own], one.id)))
    if competition.image.neighbours:
        found = with_neighbours(found, competition.image.neighbours)
    return found, problems


def cell_of(files: Files, image_id: str) -> str:
    """Returns the files of an image, joined; of a template that finds none, the template with the id filled in."""
    values = files.values_of(image_id) or {"id": image_id}
    found = zip(files.templates, files.of_each(image_id), strict=True)
    return JOIN.join(
        file for template, own in found for file in [file for file, _ in own] or [fill_template(template, values)]
    )


def with_neighbours(images: list[tuple[Listed, str]], count: int) -> list[tuple[Listed, str]]:
    """Returns each image with the files of its neighbours in the same sequence, by id, stacked around its own.

    Numbers in ids count as numbers: 2 is before 10. At the ends of a sequence the last file is repeated.

    >>> a, b, c = (Listed(id, "s", "") for id in "abc")
    >>> [cell for _, cell in with_neighbours([(a, "1"), (b, "2"), (c, "3")], 1)]
    ['1|1|2', '1|2|3', '2|3|3']
    """
    sequences: dict[str, list[tuple[str, str]]] = {}
    for one, cell in images:
        sequences.setdefault(one.sequence or one.id, []).append((one.id, cell))
    cells: dict[str, str] = {}
    for members in sequences.values():
        members.sort(key=lambda member: natural_order(member[0]))
        for index, (image_id, _) in enumerate(members):
            places = (min(max(index + step, 0), len(members) - 1) for step in range(-count, count + 1))
            cells[image_id] = JOIN.join(members[place][1] for place in places)
    return [(one, cells[one.id]) for one, _ in images]


def natural_order(text: str) -> list[str | int]:
    """Returns a key that sorts names with their numbers in order.

    >>> sorted(["s_10", "s_2", "s_1"], key=natural_order)
    ['s_1', 's_2', 's_10']
    """
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", text))]


def ids_of_files(competition: Competition, folder: Path, template: str) -> list[str]:
    """Returns the ids of all images that fit a template: of the files that match ID_PATTERN."""
    ids = ids_of(folder, template, competition.id_format)
    return [id for id in ids if re.search(competition.id_pattern, id)] if competition.id_pattern else ids


def unreadable_names(ids: Sequence[str]) -> list[Problem]:
    """Returns a problem for each name that cannot be an id: with line breaks, JOIN, or bytes that are no text."""
    bad = [ascii(id)[1:-1] for id in ids if not id.isprintable()]
    problems = [make_problem("file name not text", name, "characters that cannot be printed") for name in bad]
    joins = [id for id in ids if id.isprintable() and JOIN in id]
    return problems + [make_problem("file name not text", id, f"{JOIN}, which separates names") for id in joins]


def _can_name_a_file(id: str) -> bool:
    """Returns whether an id may stand in a template.

    >>> [_can_name_a_file(id) for id in ("a/b c", "a|b", "../a", "/a", "a\\tb")]
    [True, False, False, False, False]
    """
    return id.isprintable() and not (
        id.startswith("/") or "\\" in id or JOIN in id or {".", "..", ""} & set(id.split("/"))
    )


def _subset_of(image_id: str, valid_pattern: str) -> str:
    return "valid" if re.search(valid_pattern, image_id) else "train"


def _listed(
    competition: Competition, folder: Path, file: str | None, template: str, key: str, subset: str
) -> tuple[list[Listed], list[Problem]]:
    if file is not None:
        return _read_list(competition, folder, file, key, subset)
    rows = [{competition.id_column: id} for id in ids_of_files(competition, folder, template)]
    found = [(row, *sequence_of(competition, row, template, 0)) for row in rows]
    listed = [Listed(row[competition.id_column], sequence, subset) for row, sequence, _ in found]
    needs_sequence = key != "TEST_CSV" or competition.image.neighbours > 0
    problems = [problem for _, _, wrong in found for problem in wrong] if needs_sequence else []
    problems += unreadable_names([one.id for one in listed])
    listed = [one for one in listed if JOIN not in one.id]  # or its parts would be missing files
    if not rows:
        problems.append(make_problem("no image found", template, "no such file", key=key, competition=competition.name))
    return listed, problems


def _read_list(
    competition: Competition, folder: Path, file: str, key: str, subset: str
) -> tuple[list[Listed], list[Problem]]:
    """Returns the usable rows of a list, and what is wrong with the others.

    The first row of an id that appears twice is kept; it is no problem in a list with a row per class or object. Spaces
    around cells and a byte-order mark are dropped.
    """
    needs_sequence = key != "TEST_CSV" or competition.image.neighbours > 0
    id_column, has_class, has_many = _form_of(competition, file)
    columns = {id_column: "ID_COLUMN"}
    if needs_sequence and competition.sequence_column:
        columns[competition.sequence_column] = "SEQUENCE_COLUMN"
    if key == "TRAIN_CSV" and competition.split_column:
        columns[competition.split_column] = "SPLIT_COLUMN"
    if file.endswith(TEXT_LIST):
        rows, problems = read_ids(folder / file, file, id_column, competition.name, key)
    else:
        rows, problems = read_csv(folder / file, file, columns, competition.name, key)
    labels = {label.casefold() for label in (*competition.label_texts, *competition.classes)}
    listed: list[Listed] = []
    line_of: dict[str, int] = {}
    for line, row in rows:
        id = split_row(row[id_column], labels)[0] if has_class else row[id_column]
        if not id:
            problems.append(make_problem("id empty", file, f"line {line}"))
        elif not _can_name_a_file(id):
            problems.append(make_problem("id not a file name", file, f"line {line}: {id!r}"))
        elif id not in line_of:
            line_of[id] = line
            sequence, wrong = sequence_of(competition, {**row, competition.id_column: id}, file, line)
            listed.append(Listed(id, sequence, subset or row.get(competition.split_column or "", "")))
            problems += wrong if needs_sequence else []
        elif not has_many:
            problems.append(make_problem("id twice", file, f"{id} in lines {line_of[id]} and {line}"))
    return listed, problems


def _form_of(competition: Competition, file: str) -> tuple[str, bool, bool]:
    """Returns the column of ids of a list, whether its cells end with a class, and whether an image has many rows."""
    masks, convention = competition.masks, competition.convention
    if isinstance(masks, MaskCsv) and file == masks.csv:
        return masks.id_column or competition.id_column, masks.rows == "id_class", True
    if competition.boxes is not None and file == competition.boxes.csv:
        return competition.boxes.id_column or competition.id_column, False, True
    if file == competition.sample_submission and competition.submission.format == "run_lengths":
        return convention.id_column, convention.rows == "id_class", convention.rows != "id" or competition.has_objects
    if file == competition.sample_submission and competition.submission.format == "prediction_string":
        return competition.box_convention.id_column or competition.id_column, False, False
    return competition.id_column, False, False


def sequence_of(competition: Competition, row: dict[str, str], file: str, line: int) -> tuple[str, list[Problem]]:
    """Returns the sequence of an image by its row in a list ("": none known), and what is wrong with it."""
    if competition.sequence_column:
        sequence = row.get(competition.sequence_column, "")
        return sequence, [] if sequence else [make_problem("sequence empty", file, f"line {line}")]
    if competition.sequence_pattern:
        id, pattern = row[competition.id_column], competition.sequence_pattern
        match = re.search(pattern, id)
        if match:
            return match.group(1), []
        facts = {"pattern": pattern, "competition": competition.name}
        return "", [make_problem("sequence not in the id", file, f"line {line}: {id}", **facts)]
    return "", []


def _names(competition: Competition) -> list[str]:
    return [competition.name, *([competition.kaggle_slug] if competition.kaggle_slug else [])]


def _candidates(competition: Competition, roots: Sequence[Path]) -> Iterator[Path]:
    for root in roots:
        yield from (root / name for name in _names(competition))
        for name in _names(competition):  # Kaggle mounts below /kaggle/input/competitions and the like
            yield from sorted(root.glob(f"*/{name}")) if os.path.isdir(root) else ()


def quoted(path: Path) -> str:
    """Returns a path as it is typed in a shell."""
    return shlex.quote(str(path))


def _not_found(competition: Competition, roots: Sequence[Path], directory: str | None) -> str:
    needed = needed_names(competition)[0]
    if directory:
        what = "the images" if needed == "." else needed
        return (
            f"DATASETS.DIRECTORY: there is no folder {directory}.\n"
            f"Name the folder that holds {what}, or leave the key null to search for it by name."
        )
    names = " or ".join(map(repr, _names(competition)))
    lines = [f"No data of the competition '{competition.name}' found. Searched for a folder called {names} in"]
    for root in roots:
        what = "   (a file, not a folder)" if os.path.isfile(root) else "   (no such folder)"
        lines.append(f"  {shown(root)}" + ("" if os.path.isdir(root) else what))
        if needed != "." and os.path.exists(root / needed):
            lines.append(
                "    which is itself a competition's folder: name the one above it, "
                f"DATA_DIR={quoted(root.resolve().parent)}"
            )
    if competition.kaggle_slug or competition.repository:
        lines.append(f"To get it:       ./run.sh download {shlex.quote(competition.name)}")
    lines.append(
        "If it is here:   DATA_DIR=<the folder above it>, or put it or a link to it at "
        f"{shown(PROJECT / 'data' / competition.name)}"
    )
    return "\n".join(lines)


def _incomplete(competition: Competition, folder: Path) -> str:
    try:
        holds = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    except OSError as error:
        return (
            f"Found the folder {folder}, but it cannot be listed: {error.strerror}.\nType: chmod u+rx {quoted(folder)}"
        )
    needed = needed_names(competition)[0]
    lines = [
        f"Found the folder {folder} of the competition '{competition.name}', but it has no {needed}.",
        f"It holds: {', '.join(holds[:10]) + (' ...' if len(holds) > 10 else '') or 'nothing'}",
    ]
    if competition.train_csv and any(name.endswith(".csv") for name in holds):
        lines.append(
            "If a csv there lists the training images under another name, give it as TRAIN_CSV in "
            f"{descriptor(competition.name)}"
        )
    inner = next(iter(sorted(folder.glob(f"*/{needed}"))), None)
    archive = next(iter(sorted(folder.glob("*.zip"))), None)
    if inner:
        lines.append(
            f"There is one in {inner.parent}: move everything one level up, or set "
            f"DATASETS.DIRECTORY={quoted(inner.parent)}"
        )
    elif archive:
        lines.append(f"Unpack it first: unzip {quoted(archive)} -d {quoted(folder)}")
    elif competition.kaggle_slug or competition.repository:
        lines.append(f"Move it away and get it again: ./run.sh download {shlex.quote(competition.name)}")
    else:
        lines.append(f"Put {needed} there, or name another folder with DATASETS.DIRECTORY=...")
    return "\n".join(lines)
