"""How the labelled boxes of a competition are stored: the key BOXES of its descriptor.

Every key with its meaning, default and an example: `docs/competitions.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FORMS = ("coco", "voc", "yolo", "csv", "nuscenes")  # exactly one of these keys is given
PER_IMAGE = ("voc", "yolo")  # forms with a file per image
IGNORED, OTHERS = (
    "ignore",
    "others",
)  # in NAMES: the class of dropped names, and a value for all names that are not listed


@dataclass(frozen=True)
class BoxForm:
    """Where boxes are, and how their numbers are read.

    Attributes:
        coco: a JSON file with images, annotations and categories; `bbox` is left, top, width, height.
        valid_coco: a second COCO file, for the organisers' validation images.
        voc: XML files in Pascal VOC's format, one per image.
        yolo: text files, one per image: class index, centre x, centre y, width and height, as fractions of the
            image's width and height.
        csv: a file with a row per box.
        nuscenes: a JSON list of boxes, as nuScenes' image_annotations.json.
        id_column: of `csv`; None: the competition's ID_COLUMN.
        class_column: of `csv`; None: there is one class.
        columns: of `csv`: the four columns of the coordinates, in the order that `order` gives.
        box_column: of `csv`: the column that has all four coordinates, with or without brackets.
        order: of `csv`: left, top, right, bottom; left, top, width, height; or centre x and y, width, height.
        normalised: of `csv`: whether coordinates are fractions of the image's width and height.
        first_px: the number of the first pixel. With 1, right and bottom are inclusive, as in Pascal VOC; with 0, they
            are exclusive. None: 1 for `voc`, else 0.
        names: for each class, its names in the annotations; None: the names in CLASSES and CLASS_LABELS.
        bad_boxes: whether invalid boxes are refused, or dropped and counted.
    """

    coco: str | None = None
    valid_coco: str | None = None
    voc: str | None = None
    yolo: str | None = None
    csv: str | None = None
    nuscenes: str | None = None
    id_column: str | None = None
    class_column: str | None = None
    columns: tuple[str, ...] | None = None
    box_column: str | None = None
    order: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    normalised: bool = False
    first_px: Literal[0, 1] | None = None
    names: dict[str, tuple[str, ...] | Literal["others"]] | None = None
    bad_boxes: Literal["refuse", "skip"] = "refuse"

    @property
    def kind(self) -> str:
        """Which of `FORMS` is given; "" for none."""
        return next((form for form in FORMS if getattr(self, form) is not None), "")

    @property
    def template(self) -> str | None:
        """The template of the file of an image's boxes; None where one file has the boxes of many images."""
        return getattr(self, self.kind) if self.kind in PER_IMAGE else None

    @property
    def files(self) -> tuple[str, ...]:
        """The files that have the boxes of many images."""
        return tuple(name for name in (self.coco, self.valid_coco, self.csv, self.nuscenes) if name is not None)

    @property
    def first(self) -> int:
        """The number of the first pixel."""
        return (1 if self.kind == "voc" else 0) if self.first_px is None else self.first_px
