"""The lists of an unknown folder: which columns have ids, run lengths, classes; which is a sample submission.

In: csv files, and text files with an id in each line. Out: a `Listing` each. What a column is, its cells decide; its
name only where these leave it open.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from pipeline.config.competition import TEXT_LIST
from pipeline.data.cells import WKT, class_text, is_empty
from pipeline.data.csv_file import read_csv, read_ids
from pipeline.data.discovery.names import SUBSETS, suffix_of, words_of

RUNS = re.compile(r"\d+ \d+( \d+ \d+)*")
ATTRIBUTES, CLASS_PATTERN = re.compile(r"\d+(_\d+)*"), "^([0-9]+)"
SAMPLE_WORDS = ("sample", "submission", "submit", "example")
CLASS_WORDS = ("class", "classid", "label", "category")
SEQUENCE_WORDS = ("sequence", "scene", "video", "patient", "flight", "clip", "group", "site", "drive")
MOST_CLASSES = 60
NUM_TEXTS = 200  # cells of a column by which run lengths are known
MOST = 0.9  # share of these that are run lengths, if the column has any: files may be cut off
KNOWN = 0.5  # share of a column's cells that are ids of files, if it is the column of ids


@dataclass(frozen=True)
class Listing:
    """A list; `columns` has the cells by column, without spaces around them.

    A header alone has columns without cells. The one column of a text file without a header is called "".
    """

    file: str
    columns: dict[str, list[str]]

    @property
    def is_sample(self) -> bool:
        return any(word in words_of(PurePosixPath(self.file).stem) for word in SAMPLE_WORDS[:2])

    @property
    def num_rows(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @cached_property
    def runs_column(self) -> str | None:
        """The column of run lengths: pairs of numbers, and texts of an empty mask."""
        for column, cells in self.columns.items():
            texts = [cell for cell in cells if not is_empty(cell)]
            texts = texts[:NUM_TEXTS]
            if texts and sum(map(is_runs, texts)) >= MOST * len(texts):
                return column
        return None

    @property
    def has_polygons(self) -> bool:
        """Whether a column has outlines instead of run lengths."""
        return any(WKT.match(cell) for cells in self.columns.values() for cell in cells[:NUM_TEXTS])

    def id_column(self, ids: Collection[str]) -> tuple[str, bool] | None:
        """Returns the column whose cells are ids, and whether they end with a class, `<id>_<class>`; None: none is."""
        for has_class in (False, True):
            shares = {}
            for column, cells in self.columns.items():
                named = [split_cell(cell, ids)[0] for cell in cells] if has_class else cells
                shares[column] = sum(cell in ids for cell in named) / max(1, len(cells))
            best = max(shares, key=shares.get, default=None)
            if best is not None and shares[best] >= KNOWN:
                return best, has_class
        return None

    def has_own_rows(self, ids: Collection[str]) -> bool:
        """Returns whether each image has one row."""
        column, has_class = self.id_column(ids)
        return not has_class and len({*self.columns[column]}) == self.num_rows

    @property
    def ends_with_class(self) -> bool:
        """Whether the cells of the first column end with a class, where no file is called so: each id has each."""
        column, cells = next(iter(self.columns.items()))
        if len(self.columns) != 2:
            return False
        ids, labels = {cell.rpartition("_")[0] for cell in cells}, {cell.rpartition("_")[2] for cell in cells}
        if "" not in ids and 1 < len(labels) <= MOST_CLASSES and len(cells) == len({*cells}) == len(ids) * len(labels):
            return True
        words = words_of(column)
        return len(words) > 1 and bool({*words[1:]} & {*CLASS_WORDS})

    def class_column(self, id_column: str, runs_column: str) -> str | None:
        """Returns the column of classes: called so, or with few values of which an image has several."""
        left = [column for column in self.columns if column not in (id_column, runs_column)]
        labels = {column: self.labels(column) for column in left}
        few = [column for column in left if 1 < len({*labels[column]}) <= min(MOST_CLASSES, self.num_rows / 2)]
        ids = self.columns[id_column]
        several = [column for column in few if len({*zip(ids, labels[column], strict=True)}) > len({*ids})]
        named = [column for column in left if {*words_of(column)} & {*CLASS_WORDS}]
        return next(iter([*(column for column in named if column in few or not self.num_rows), *several]), None)

    def class_pattern(self, column: str) -> str | None:
        """Returns the CLASS_PATTERN of a column whose cells have numbers of attributes behind the class: `12_3_45`."""
        cells = {*self.columns[column]}
        has_more = all(map(ATTRIBUTES.fullmatch, cells)) and any("_" in cell for cell in cells)
        return CLASS_PATTERN if has_more else None

    def labels(self, column: str) -> list[str]:
        """Returns the labels of the classes in the cells of a column."""
        pattern = self.class_pattern(column)
        return [class_text(cell, pattern) for cell in self.columns[column]]

    def subset_column(self) -> str | None:
        """Returns the column that says which images validate: a subset's name, or the number of a fold."""
        for column, cells in self.columns.items():
            values = {cell.casefold() for cell in cells}
            if len(values) > 1 and values <= {*SUBSETS}:
                return column
            if "fold" in words_of(column) and 1 < len(values) <= 20 and all(value.isdecimal() for value in values):
                return column
        return None

    def color_table(self) -> dict[str, tuple[int, int, int]]:
        """Returns the colour of each class, where the list has the columns r, g, b and a name; else nothing."""
        by_word = {column.lower(): column for column in self.columns}
        for words in (("r", "g", "b"), ("red", "green", "blue")):
            if set(words) <= by_word.keys() and len(by_word) == 4:
                name = next(column for word, column in by_word.items() if word not in words)
                cells = [self.columns[by_word[word]] for word in words]
                if all(cell.isdecimal() and int(cell) < 256 for column in cells for cell in column):
                    colors = [tuple(map(int, color)) for color in zip(*cells, strict=True)]
                    return dict(zip(self.columns[name], colors, strict=True))
        return {}

    def sequence_column(self) -> str | None:
        """Returns the column that says which images belong together, by its name."""
        for column, cells in self.columns.items():
            is_named = any(word in SEQUENCE_WORDS for word in words_of(column))
            if is_named and 1 < len(set(cells)) < len(cells) and "" not in cells:
                return column
        return None


def is_runs(cell: str) -> bool:
    """Returns whether a cell has run lengths: pairs of numbers.

    >>> is_runs(" 12 3 40 5"), is_runs("12 3 40"), is_runs("-1")
    (True, False, False)
    """
    return RUNS.fullmatch(" ".join(cell.split())) is not None


def read_listings(folder: Path, files: Sequence[str]) -> list[Listing]:
    """Returns the csv files that can be read as tables, and the text files with an id in each line."""
    listings = []
    for file in files:
        if file.endswith(TEXT_LIST):
            rows, problems = read_ids(folder / file, file, "", "", "TRAIN_CSV")
            listings += [] if problems else [Listing(file, {"": [row[""] for _, row in rows]})]
            continue
        rows, _ = read_csv(folder / file, file, {}, "", "TRAIN_CSV")
        header = list(rows[0][1]) if rows else _header(folder / file)
        if header:
            listings.append(Listing(file, {column: [row[column] for _, row in rows] for column in header}))
    return listings


def join_listings(listings: Sequence[Listing]) -> Listing | None:
    """Returns the rows of all lists that have the columns of the first, under its name; None where there is no list."""
    if not listings:
        return None
    alike = [one for one in listings if one.columns.keys() == listings[0].columns.keys()]
    columns = {name: [cell for one in alike for cell in one.columns[name]] for name in listings[0].columns}
    return Listing(listings[0].file, columns)


def split_cell(cell: str, ids: Collection[str]) -> tuple[str, str]:
    """Returns id and class of a cell `<id>_<class>`: the longest of `ids` that it begins with, or split at the last _.

    >>> split_cell("7_a_large_bowel", {"7", "7_a"}), split_cell("7_1", ())
    (('7_a', 'large_bowel'), ('7', '1'))
    """
    place = cell.rfind("_")
    while place >= 0 and cell[:place] not in ids:
        place = cell.rfind("_", 0, place)
    if place < 0:
        place = cell.rfind("_")
    return (cell[:place], cell[place + 1 :]) if place >= 0 else ("", cell)


def cells_of(listing: Listing, ids: set[str]) -> set[str]:
    """Returns the ids in a list, of which those that are no file's are kept, too."""
    column, has_class = listing.id_column(ids)
    cells = listing.columns[column]
    return {split_cell(cell, ids)[0] for cell in cells} if has_class else set(cells)


def words_in(listings: Sequence[Listing], paths: Sequence[str]) -> set[str]:
    """Returns all cells that may be ids: of every column without run lengths, with and without their class.

    Args:
        paths: of all files, which tell the id where a class has a `_`.
    """
    names = {path.rpartition("/")[2] for path in paths}
    files = names | {name.removesuffix(suffix_of(name)) for name in names}
    cells = {
        cell
        for listing in listings
        for column, own in listing.columns.items()
        if column != listing.runs_column
        for cell in own
        if cell and len(cell) < 200
    }
    return cells | {split_cell(cell, files)[0] for cell in cells if "_" in cell}


def _header(path: Path) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = [cell.strip() for cell in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return header if len(header) > 1 and all(header) and len(set(header)) == len(header) else []
