"""What a competition is: classes, folders, metric and how it wants its submission. One YAML file each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import UserError

# Mask value of a pixel that counts nowhere, in memory and in the tile store; class indices stay below it.
IGNORE = 255


@dataclass(frozen=True)
class Convention:
    """How a competition writes runs of pixels; reference table in `docs/conventions.md`."""

    order: Literal["row", "column"] = "row"
    base: Literal[0, 1] = 0
    relative: bool = False
    empty: str = ""
    id_column: str = "ImageID"
    value_column: str = "EncodedPixels"
    rows: Literal["id_class", "id", "id+class"] = "id_class"
    class_column: str | None = None
    class_base: int = 0


@dataclass(frozen=True)
class Competition:
    """A competition's descriptor, as read from `configs/competitions/<name>.yaml`."""

    name: str
    title: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    pictures: str
    masks: str
    licence: str
    ignore_index: int | None = None
    train_csv: str = "train.csv"
    test_csv: str = "test.csv"
    id_column: str = "ImageID"
    sample_submission: str | None = None
    sequence_column: str | None = None
    sequence_pattern: str | None = None
    kaggle_slug: str | None = None
    repository: str | None = None
    convention: Convention = Convention()


def num_scored(competition: Competition) -> int:
    """Returns the number of classes that count, which is the number of network outputs."""
    ignored_is_class = competition.ignore_index is not None and competition.ignore_index < len(competition.classes)
    return len(competition.classes) - int(ignored_is_class)


def scored_classes(competition: Competition) -> tuple[str, ...]:
    """Returns the names of the classes that count, in index order."""
    return competition.classes[: num_scored(competition)]


def check_competition(competition: Competition, origin: str) -> None:
    """Refuses a descriptor that contradicts itself.

    Raises:
        UserError: names `origin` (the file) and the key at fault.
    """

    def refuse(key: str, why: str) -> None:
        raise UserError(f"{origin}: {key}: {why}")

    classes, colors = competition.classes, competition.colors
    if not 2 <= len(classes) <= 254:
        refuse("CLASSES", f"{len(classes)} classes; 2 to 254 fit an 8-bit mask beside the ignored value {IGNORE}")
    if len(set(classes)) != len(classes):
        refuse("CLASSES", "a name appears twice")
    if len(colors) != len(classes):
        refuse("COLORS", f"{len(colors)} colours for {len(classes)} classes; give one [red, green, blue] per class")
    if any(not 0 <= value <= 255 for color in colors for value in color):
        refuse("COLORS", "values lie between 0 and 255")
    ignore = competition.ignore_index
    if ignore is not None and ignore != len(classes) - 1 and not len(classes) <= ignore <= 255:
        refuse("IGNORE_INDEX", f"{ignore}; it must be the last class ({len(classes) - 1}) or a value outside the classes")
    for key in ("pictures", "masks"):
        if "{id}" not in getattr(competition, key):
            refuse(key.upper(), "the template must contain {id}")
    if competition.sequence_pattern is not None:
        try:
            groups = re.compile(competition.sequence_pattern).groups
        except re.error as error:
            refuse("SEQUENCE_PATTERN", f"not a regular expression: {error}")
        if groups != 1:
            refuse("SEQUENCE_PATTERN", f"{groups} groups in parentheses; exactly one names the sequence")
    if (competition.convention.rows == "id+class") != (competition.convention.class_column is not None):
        refuse("CONVENTION.CLASS_COLUMN", "needed with ROWS: id+class, and only there")
