"""A competition's descriptor: classes, files, and the format of its submission. One YAML file each.

Every key with its meaning, default and an example: `docs/competitions.md`.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated, Literal

from pipeline.config.plain_yaml import Range
from pipeline.config.tree import Problems, first_repeated, refuse

ByteValue = Annotated[int, Range(least=0, most=255)]

# Value of ignored pixels in masks in memory and in the tile store; class indices are below it.
IGNORE = 255
ID_FIELD = re.compile(r"\{id\}|\{stem\}")  # in a template: the image's id, as it is or without a file suffix
SUFFIX = re.compile(r"(?<=.)\.[A-Za-z]{3,4}$")  # a file suffix at the end of an id
BINARY_CLASS = 1  # the class that is submitted where there is one row per image; class 0 is the background


@dataclass(frozen=True)
class Convention:
    """How a competition writes run lengths; reference table in `docs/conventions.md`.

    `id_column` None: the competition's ID_COLUMN.
    """

    order: Literal["row", "column"] = "row"
    base: Literal[0, 1] = 0
    relative: bool = False
    empty: str = ""
    id_column: str | None = None
    value_column: str = "EncodedPixels"
    rows: Literal["id_class", "id", "id+class"] = "id_class"
    class_column: str | None = None
    class_base: Annotated[int, Range(least=0)] = 0


@dataclass(frozen=True)
class Submission:
    """The form of a submission; for run lengths, `Convention` has the rest."""

    format: Literal["run_lengths", "png_masks"] = "run_lengths"  # names in `pipeline/submission/formats.py`
    file: str = "{id}.png"  # template of a mask's name in the zip
    # What PNG masks store: class indices, the colours of COLORS, or the grey value of each class, in order; None: what
    # the competition's own masks store.
    values: Literal["indices", "colors"] | tuple[ByteValue, ...] | None = None


@dataclass(frozen=True)
class Competition:
    """A competition's descriptor, as read from `configs/competitions/<name>.yaml`."""

    name: str
    title: str
    classes: tuple[str, ...]
    colors: tuple[tuple[ByteValue, ByteValue, ByteValue], ...]
    images: str
    masks: str
    licence: str | None = None
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
    test_images: str | None = None
    mask_values: Literal["colors"] | tuple[ByteValue, ...] | None = None
    score: Literal["dice", "iou", "miou"] = "dice"
    submission: Submission = Submission()
    task: Literal["segmentation"] = "segmentation"

    def __post_init__(self) -> None:
        if self.convention.id_column is None:  # submissions name the column of ids as the image lists do
            object.__setattr__(self, "convention", replace(self.convention, id_column=self.id_column))

    @property
    def num_classes(self) -> int:
        """The number of classes that a network predicts: all except an ignored last one."""
        ignored_is_class = self.ignore_index is not None and self.ignore_index < len(self.classes)
        return len(self.classes) - int(ignored_is_class)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes that a network predicts, in index order."""
        return self.classes[: self.num_classes]

    @property
    def scored_indices(self) -> tuple[int, ...]:
        """The indices of the classes that enter the competition's mean score: those that are submitted.

        With one row per image that is class 1 only; the background is predicted, but not scored.
        """
        if self.convention.rows == "id":
            return (BINARY_CLASS,)
        return tuple(range(self.num_classes))


@dataclass(frozen=True)
class MaskCode:
    """What the pixel values of mask files mean; default: class indices, none ignored."""

    ignore_index: int | None = None  # the ignored class, or a grey value outside the classes; None: no pixel is ignored
    values: tuple[int, ...] | None = None  # the grey value of each class, in order; None: its index
    colors: tuple[tuple[int, int, int], ...] | None = None  # RGB of each class, in order; None: masks are grey


def mask_code(competition: Competition) -> MaskCode:
    """Returns the mask code of a competition (MASK_VALUES, COLORS, IGNORE_INDEX)."""
    if competition.mask_values == "colors":
        return MaskCode(competition.ignore_index, None, competition.colors)
    return MaskCode(competition.ignore_index, competition.mask_values)


def submission_code(competition: Competition) -> MaskCode:
    """Returns what the pixels of PNG masks in a submission mean; grey values are always given in full."""
    stored = competition.submission.values or competition.mask_values or "indices"
    if stored == "colors":
        return MaskCode(competition.ignore_index, None, competition.colors)
    return MaskCode(competition.ignore_index, tuple(range(len(competition.classes))) if stored == "indices" else stored)


def image_file(competition: Competition, image_id: str, subset: Literal["train", "test"]) -> str:
    """Returns an image's file, relative to the competition's folder; `subset` is the list that contains it."""
    template = competition.test_images if subset == "test" else None
    return fill_template(template or competition.images, image_id)


def any_file(template: str) -> str:
    """Returns the glob pattern that matches the file of every image.

    >>> any_file("train/{id}/image.png")
    'train/*/image.png'
    """
    return ID_FIELD.sub("*", glob.escape(template))


def mask_file(competition: Competition, image_id: str) -> str:
    """Returns the file of a training image's mask, relative to the competition's folder."""
    return fill_template(competition.masks, image_id)


def fill_template(template: str, image_id: str) -> str:
    """Returns a template filled in: `{id}` is replaced by the id, `{stem}` by the id without a file suffix.

    >>> fill_template("masks/{stem}.png", "0001.jpg"), fill_template("masks/{id}", "0001.jpg")
    ('masks/0001.png', 'masks/0001.jpg')
    """
    return template.replace("{id}", image_id).replace("{stem}", SUFFIX.sub("", image_id))


def check_competition(competition: Competition, origins: Mapping[str, str]) -> None:
    """Refuses a descriptor that contradicts itself.

    Raises:
        UserError: file, line and key, what was found and what was expected.
    """
    values = (("MASK_VALUES", competition.mask_values), ("SUBMISSION.VALUES", competition.submission.values))
    problems = [_classes(competition), *(_values(key, stored, competition) for key, stored in values)]
    for key, why in chain(*problems, _paths(competition), _columns(competition)):
        refuse(origins, key, why, default=f"configs/competitions/{competition.name}.yaml")


def _classes(competition: Competition) -> Problems:
    classes, colors, ignore = competition.classes, competition.colors, competition.ignore_index
    num, last = len(classes), len(classes) - 1
    if not 2 <= num <= 254:
        why = f"(value {IGNORE} of an 8-bit mask is for ignored pixels)"
        yield "CLASSES", f"found {num} classes, expected 2 to 254 {why}"
    if first_repeated(classes) is not None or "" in classes:
        yield "CLASSES", "a class name is empty or used twice; each class needs its own"
    if len(colors) != num:
        yield "COLORS", f"found {len(colors)} colours for {num} classes; give one [red, green, blue] per class"
    if (twice := first_repeated(colors)) is not None:
        yield "COLORS", f"{list(twice)} is the colour of two classes; give each its own"
    if ignore is not None and ignore != last and not num <= ignore <= 255:
        expected = f"the last class ({last}) or a value outside the classes ({num} to 255)"
        yield "IGNORE_INDEX", f"found {ignore}, expected {expected}"
    if competition.num_classes < 2:
        why = "only one class is not ignored; at least two are needed, for example background and object"
        yield "IGNORE_INDEX", why


def _values(key: str, values: str | tuple[int, ...] | None, competition: Competition) -> Problems:
    """Yields where what a key says masks store contradicts CLASSES or IGNORE_INDEX."""
    classes, ignore = competition.classes, competition.ignore_index
    is_outside = ignore is not None and ignore >= len(classes)
    if values == "colors" and is_outside:
        found = f"found {ignore}, a grey value, but with {key}: colors masks are in colour"
        yield "IGNORE_INDEX", f"{found}; make the ignored colour the last class, and give its index here"
    if not isinstance(values, tuple):
        return
    if len(values) != len(classes):
        found = f"found {len(values)} values for {len(classes)} classes"
        yield key, f"{found}; give the grey value of each class, in order"
    if (twice := first_repeated(values)) is not None:
        yield key, f"{twice} is the value of two classes; give each its own"
    if is_outside and ignore in values:
        yield "IGNORE_INDEX", f"{ignore} is the value of {classes[values.index(ignore)]} in {key}; give another"


def _paths(competition: Competition) -> Problems:
    paths = {key.upper(): getattr(competition, key) for key in ("images", "test_images", "masks")}
    paths["SUBMISSION.FILE"] = competition.submission.file
    for key, template in paths.items():
        if template is None:
            continue
        if len(ID_FIELD.findall(template)) != 1 or set("{}") & set(ID_FIELD.sub("", template)):
            yield key, f"found {template!r}, expected a path with {{id}} in place of the image's id"
    paths |= {key.upper(): getattr(competition, key) for key in ("train_csv", "test_csv", "sample_submission")}
    for key, path in paths.items():
        if path is not None and (path.startswith("/") or ".." in path.split("/")):
            inside = "the zip" if key == "SUBMISSION.FILE" else "the competition's folder"
            yield key, f"found {path!r}, expected a path inside {inside}"


def _columns(competition: Competition) -> Problems:
    if competition.sequence_pattern is not None:
        try:
            groups = re.compile(competition.sequence_pattern).groups
        except (re.error, OverflowError, RecursionError) as error:
            yield "SEQUENCE_PATTERN", f"not a valid regular expression: {error}"
            return
        if groups != 1:
            why = f"found {groups} groups in parentheses, expected exactly one: the sequence's name"
            yield "SEQUENCE_PATTERN", why
    convention = competition.convention
    if (convention.rows == "id+class") != (convention.class_column is not None):
        yield "CONVENTION.CLASS_COLUMN", "belongs to ROWS: id+class; give both or neither"
    columns = [convention.id_column, convention.value_column, convention.class_column]
    if first_repeated(columns) is not None:
        yield "CONVENTION.VALUE_COLUMN", f"columns have the same name: {', '.join(filter(None, columns))}"
