"""A competition's descriptor: classes, files, and the format of its submission. One YAML file each.

Every key with its meaning, default and an example: `docs/competitions.md`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pipeline.config.box_convention import BOX_DEFAULTS, BoxConvention, BoxFormat
from pipeline.config.box_form import BoxForm
from pipeline.config.colors import distinct_colors
from pipeline.config.plain_yaml import Range
from pipeline.config.template import expand_ranges

ByteValue = Annotated[int, Range(least=0, most=255)]
Pixels = Annotated[int, Range(least=1, most=65535)]
MaskValue = Annotated[int, Range(least=-1, most=65535)]  # of a stored mask: 8 or 16 bits; some write -1 for ignored

# Value of ignored pixels in masks in memory and in the tile store; class indices are below it.
IGNORE = 255
BINARY_CLASS = 1  # the class that is submitted where there is one row per image; class 0 is the background
TEXT_LIST = ".txt"  # how a list ends that has an id in each line, and no header
IGNORED, OTHERS = "ignore", "others"  # in MASK_VALUES: the values that are ignored, and all that are not named


MaskValues = tuple[MaskValue, ...] | Literal["others"]


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
    columns: tuple[str, ...] | None = None  # all columns in their order; None: id, class, value, or as in the sample


@dataclass(frozen=True)
class ImageForm:
    """How image files become the channels that a network sees.

    Attributes:
        channels: how many; None: one per stacked file or band, otherwise 3, for which grey images are repeated.
        bands: which channels of a file, in this order; None: all.
        frame: which image of a file with several.
        frame_axis: the axis that counts them; None: the shortest, apart from three or four colours behind three others.
        neighbours: how many images of the same sequence before and after each are stacked with it.
        nan: what a pixel of a float image without a value is read as, NaN or infinite; None: such are refused.
        range: the values that are black and white; None: 0 and 255 of 8-bit images, measured for others.
        whole_px: the pixels of the largest image that is read and predicted as a whole; a larger one is read by region,
            which TIFF and npy files allow, and predicted in windows.
    """

    channels: Annotated[int, Range(least=1, most=512)] | None = None
    bands: tuple[Annotated[int, Range(least=0)], ...] | None = None
    frame: Annotated[int, Range(least=0)] | None = None
    frame_axis: Annotated[int, Range(least=0, most=3)] | None = None
    neighbours: Annotated[int, Range(least=0, most=16)] = 0
    nan: float | None = None
    range: tuple[float, float] | None = None
    whole_px: Annotated[int, Range(least=1)] = 2**26  # 8192 x 8192: float32 logits of 12 classes take 3.2 GB there


@dataclass(frozen=True)
class MaskCsv:
    """A csv that has the masks as run lengths, a row per image, per image and class, or per object.

    Where they are None, order, base and relative are found from texts and images; the column of ids is ID_COLUMN of the
    competition, and that of values the only one that is left.
    """

    csv: str
    id_column: str | None = None
    value_column: str | None = None
    class_column: str | None = None
    class_pattern: str | None = None  # a regular expression whose one group is the class in its cell; None: all of it
    rows: Literal["id", "id_class"] = "id"  # whether the cell of the id ends with the class
    order: Literal["row", "column"] | None = None
    base: Literal[0, 1] | None = None
    relative: bool | None = None


# How the names of files in a zip end, by SUBMISSION.FORMAT, where that is not left open.
FILE_SUFFIXES = {"tiff_masks": (".tif", ".tiff"), "npz": (".npy",)}


@dataclass(frozen=True)
class Submission:
    """The form of a submission; for run lengths, `Convention` has the rest, for boxes `BoxConvention`."""

    # See `pipeline/submission/formats.py`; None: run_lengths, or prediction_string where TASK is boxes.
    format: Literal["run_lengths", "png_masks", "tiff_masks", "npz", BoxFormat] | None = None
    file: str | None = None  # template of a mask's name in the zip; None: the id and the suffix of the format
    # What masks store: class indices, the colours of COLORS, or the grey value of each class, in order; None: what
    # the competition's own masks store.
    values: Literal["indices", "colors"] | tuple[ByteValue, ...] | None = None
    size: tuple[Pixels, Pixels] | None = None  # width, height of every submitted mask; None: those of its image


@dataclass(frozen=True)
class Objects:
    """How the objects of a class are told apart, where a competition wants and scores each by itself.

    Attributes:
        method: how the pixels of a predicted class become objects; None: the class is submitted as a whole.
        min_size: pixels; smaller predicted objects are dropped.
        seed: of `watershed`: the probability from which on a pixel belongs to the core of an object.
        border: the class that pixels near two objects are trained as; it is not submitted.
        border_width: pixels: how near.
        empty_rows: whether each class without an object has an empty row, or only an image without any object.
    """

    method: Literal["components", "watershed"] | None = None
    min_size: Annotated[int, Range(least=0)] = 0
    seed: Annotated[float, Range(least=0.0, most=0.99)] = 0.7
    border: str | None = None
    border_width: Annotated[int, Range(least=1, most=50)] = 2
    empty_rows: Literal["class", "image"] = "class"


# What each is: `pipeline/scores.py`, and `docs/competitions.md`.
ScoreName = Literal[
    "dice", "iou", "miou", "present_dice", "present_iou", "global_dice", "global_iou", "fbeta", "fwiou",
    "pixel_accuracy", "boundary_f", "surface_dice", "hausdorff_dice", "uw_madison", "mask_ap", "object_ap",
    "object_fbeta", "ap", "ap50", "ap75", "image_ap", "box_fbeta",
]  # fmt: skip
OF_BOXES = ("ap", "ap50", "ap75", "image_ap", "box_fbeta")  # the scores of TASK: boxes; all others are of masks
# Of whole volumes, each the images of a sequence. Value: the score of single images that stands in for it.
OF_VOLUMES = {"uw_madison": "hausdorff_dice"}


@dataclass(frozen=True)
class ScoreOptions:
    """The numbers that some scores need.

    Attributes:
        beta: of `fbeta`, `object_fbeta` and `box_fbeta`; below 1, a wrong pixel, object or box costs more than a missed
            one.
        tolerance: of `boundary_f` and `surface_dice`, pixels.
        thresholds: of `mask_ap`, `object_ap` and `object_fbeta`: IoU above which a mask or object is a hit; of
            `box_fbeta`: the lowest IoU of a hit. Only boxes may have thresholds below 0.5.
    """

    beta: Annotated[float, Range(above=0)] = 1.0
    tolerance: Annotated[float, Range(least=0)] = 2.0
    thresholds: tuple[Annotated[float, Range(above=0, most=0.99)], ...] = (
        *(0.5, 0.55, 0.6, 0.65, 0.7),
        *(0.75, 0.8, 0.85, 0.9, 0.95),
    )


SCORE_DEFAULTS = ScoreOptions()
# Which scores each option is of.
OPTION_OF = {
    "beta": ("fbeta", "object_fbeta", "box_fbeta"),
    "tolerance": ("boundary_f", "surface_dice"),
    "thresholds": ("mask_ap", "object_ap", "object_fbeta", "box_fbeta"),
}


@dataclass(frozen=True)
class Competition:
    """A competition's descriptor, as read from `configs/competitions/<name>.yaml`."""

    name: str
    title: str
    classes: tuple[str, ...]
    images: str | tuple[str, ...]
    masks: str | tuple[str, ...] | MaskCsv | None = None  # given, unless TASK is boxes
    colors: tuple[tuple[ByteValue, ByteValue, ByteValue], ...] = ()
    licence: str | None = None
    ignore_index: int | None = None
    train_csv: str | None = "train.csv"
    valid_csv: str | None = None
    test_csv: str | None = "test.csv"
    id_column: str = "ImageID"
    id_format: str | None = None
    id_pattern: str | None = None
    sample_submission: str | None = None
    sequence_column: str | None = None
    sequence_pattern: str | None = None
    split_column: str | None = None
    valid_pattern: str | None = None
    kaggle_slug: str | None = None
    repository: str | None = None
    convention: Convention = Convention()
    box_convention: BoxConvention = BOX_DEFAULTS
    valid_images: str | tuple[str, ...] | None = None
    test_images: str | tuple[str, ...] | None = None
    image: ImageForm = ImageForm()
    labels: Literal["exclusive", "multilabel"] = "exclusive"  # one class per pixel, or any number of them
    annotators: Literal["vote", "mean"] | None = None  # each template of MASKS is of one annotator
    mask_folder: str | None = None
    mask_values: Literal["colors", "shares", "objects"] | tuple[MaskValue, ...] | dict[str, MaskValues] | None = None
    mask_size: Literal["image", "any"] | tuple[Pixels, Pixels] = "image"  # any: of files; width, height: of run lengths
    without_mask: Literal["refuse", "empty", "skip"] = "refuse"
    valid_region: str | None = None
    score: ScoreName | None = None  # None: ap of boxes, else dice
    score_options: ScoreOptions = SCORE_DEFAULTS
    submitted: tuple[str, ...] | None = None
    class_labels: Literal["names"] | tuple[str, ...] | None = None
    submission: Submission = Submission()
    objects: Objects = Objects()
    task: Literal["segmentation", "boxes"] = "segmentation"
    boxes: BoxForm | None = None

    def __post_init__(self) -> None:
        if self.convention.id_column is None:  # submissions name the column of ids as the image lists do
            object.__setattr__(self, "convention", replace(self.convention, id_column=self.id_column))
        if self.submission.format is None:
            form = "prediction_string" if self.has_boxes else "run_lengths"
            object.__setattr__(self, "submission", replace(self.submission, format=form))
        if self.score is None:
            object.__setattr__(self, "score", "ap" if self.has_boxes else "dice")
        if not self.colors:
            first = int(self.is_multilabel or self.has_boxes)  # these have no background, which black is of
            object.__setattr__(self, "colors", distinct_colors(len(self.classes) + first)[first:])

    @property
    def num_channels(self) -> int:
        """The number of channels of an image as a network sees it."""
        if self.image.channels is not None:
            return self.image.channels
        stacked = len(as_templates(self.images)) * (2 * self.image.neighbours + 1) * len(self.image.bands or (0,))
        return stacked if stacked > 1 else 3

    def templates(self, subset: Literal["train", "valid", "test"]) -> list[str]:
        """Returns the templates of an image's files, whose channels are stacked in this order."""
        own = {"valid": self.valid_images, "test": self.test_images}.get(subset)
        return as_templates(own or self.images)

    @property
    def has_boxes(self) -> bool:
        """Whether labels are boxes instead of masks; if so, no class is the background."""
        return self.task == "boxes"

    @property
    def is_multilabel(self) -> bool:
        """Whether a pixel may have several classes, or none."""
        return self.labels == "multilabel"

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
        """The indices of the classes that enter the competition's mean score: those that are submitted, in order.

        The others are predicted, but not scored.
        """
        return tuple(index for index in self.submitted_indices if index < self.num_classes)

    @property
    def submitted_indices(self) -> tuple[int, ...]:
        """The indices of the classes that a submission has rows of.

        Those of SUBMITTED, in its order: an ignored class that is named there has empty rows. Otherwise all that are
        neither ignored nor of borders between objects, or with one row per image class 1 alone, as class 0 is then the
        background.
        """
        if self.submitted is not None:
            return tuple(self.classes.index(name) for name in self.submitted)
        every = tuple(index for index in range(self.num_classes) if index != self.border_index)
        is_binary = self.convention.rows == "id" and not self.is_multilabel and not self.has_boxes
        return (BINARY_CLASS,) if is_binary else every

    @property
    def has_objects(self) -> bool:
        """Whether each object is submitted and scored by itself."""
        return self.objects.method is not None

    @property
    def border_index(self) -> int | None:
        """The index of the class of borders between objects, which no mask file stores."""
        return None if self.objects.border is None else self.classes.index(self.objects.border)

    @property
    def label_texts(self) -> tuple[str, ...]:
        """What lists and submissions call each class, in index order: CLASS_LABELS, or numbers from CLASS_BASE on."""
        if self.class_labels == "names":
            return self.classes
        base = (self.box_convention if self.has_boxes else self.convention).class_base
        return self.class_labels or tuple(str(base + index) for index in range(len(self.classes)))


def as_templates(given: str | tuple[str, ...]) -> list[str]:
    """Returns the templates that a key gives, with its ranges of numbers written out.

    >>> as_templates("{id}/{1..2}.png"), as_templates(("a/{id}.png", "b/{id}.png"))
    (['{id}/1.png', '{id}/2.png'], ['a/{id}.png', 'b/{id}.png'])
    """
    return [one for template in ((given,) if isinstance(given, str) else given) for one in expand_ranges(template)]


def split_row(cell: str, labels: Collection[str]) -> tuple[str, str]:
    """Returns id and label of a cell `<id>_<label>`: the longest label that it ends with, or what follows the last `_`.

    Args:
        labels: those in lower case stand for any case.

    >>> split_row("7_a.jpg_Large_bowel", {"large_bowel", "bowel"}), split_row("7_1", ())
    (('7_a.jpg', 'Large_bowel'), ('7', '1'))
    """
    place = cell.find("_")
    while place >= 0 and cell[place + 1 :] not in labels and cell[place + 1 :].casefold() not in labels:
        place = cell.find("_", place + 1)
    if place < 0:
        place = cell.rfind("_")
    return (cell[:place], cell[place + 1 :]) if place >= 0 else ("", cell)
