"""What a competition is: classes, folders, metric and how it wants its submission. One YAML file each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pipeline.config.coerce import Range
from pipeline.errors import UserError

ByteValue = Annotated[int, Range(least=0, most=255)]

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
    class_base: Annotated[int, Range(least=0)] = 0


@dataclass(frozen=True)
class Competition:
    """A competition's descriptor, as read from `configs/competitions/<name>.yaml`."""

    name: str
    title: str
    classes: tuple[str, ...]
    colors: tuple[tuple[ByteValue, ByteValue, ByteValue], ...]
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


def check_competition(competition: Competition, origins: Mapping[str, str]) -> None:
    """Refuses a descriptor that contradicts itself.

    Args:
        origins: where each key was written, for messages.

    Raises:
        UserError: names file, line and key, what was found and what was wanted.
    """

    def refuse(key: str, why: str) -> None:
        raise UserError(f"{origins.get(key, f'configs/competitions/{competition.name}.yaml')}: {key}: {why}")

    _check_classes(competition, refuse)
    for key in ("pictures", "masks"):
        template = getattr(competition, key)
        if template.count("{id}") != 1 or set("{}") & set(template.replace("{id}", "")):
            refuse(key.upper(), f"found {template!r}, wanted a path with {{id}} where the picture's id stands")
    for key in ("pictures", "masks", "train_csv", "test_csv", "sample_submission"):
        path = getattr(competition, key)
        if path is not None and (path.startswith("/") or ".." in path.split("/")):
            refuse(key.upper(), f"found {path!r}, wanted a path inside the competition's folder")
    if competition.sequence_pattern is not None:
        try:
            groups = re.compile(competition.sequence_pattern).groups
        except (re.error, OverflowError, RecursionError) as error:
            refuse("SEQUENCE_PATTERN", f"not a regular expression: {error}")
        if groups != 1:
            refuse("SEQUENCE_PATTERN", f"{groups} groups in parentheses; exactly one names the sequence")
    convention = competition.convention
    if (convention.rows == "id+class") != (convention.class_column is not None):
        refuse("CONVENTION.CLASS_COLUMN", "goes with ROWS: id+class; give both or neither")
    columns = [convention.id_column, convention.value_column, convention.class_column]
    if len(set(columns)) < len(columns):
        refuse("CONVENTION.VALUE_COLUMN", f"two columns have one name: {', '.join(filter(None, columns))}")


def _check_classes(competition: Competition, refuse: Callable[[str, str], None]) -> None:
    classes, colors, ignore = competition.classes, competition.colors, competition.ignore_index
    if not 2 <= len(classes) <= 254:
        refuse("CLASSES", f"{len(classes)} classes; 2 to 254 fit an 8-bit mask beside the ignored value {IGNORE}")
    if len(set(classes)) != len(classes) or "" in classes:
        refuse("CLASSES", "each class needs a name of its own")
    if len(colors) != len(classes):
        refuse("COLORS", f"{len(colors)} colours for {len(classes)} classes; give one [red, green, blue] per class")
    if len(set(colors)) != len(colors):
        twice = next(color for color in colors if colors.count(color) > 1)
        refuse("COLORS", f"{list(twice)} stands for two classes; give each its own")
    if ignore is not None and ignore != len(classes) - 1 and not len(classes) <= ignore <= 255:
        last = len(classes) - 1
        refuse(
            "IGNORE_INDEX",
            f"found {ignore}, wanted the last class ({last}) or a value outside the classes ({last + 1} to 255)",
        )
    if num_scored(competition) < 2:
        refuse(
            "IGNORE_INDEX",
            "only one class is left to score; at least two are needed, for example background and object",
        )
