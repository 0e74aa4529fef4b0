"""How a competition writes boxes in its submissions.

Every key with its meaning: `docs/competitions.md`; known competitions: `docs/conventions.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pipeline.config.plain_yaml import Range

BoxFormat = Literal["prediction_string", "coco_results", "nuscenes_boxes"]  # of SUBMISSION.FORMAT
BoxField = Literal[
    "class", "score", "left", "top", "right", "bottom", "width", "height", "center_x", "center_y"
]  # fmt: skip

# The four coordinates that can describe a box.
XYXY = ("left", "top", "right", "bottom")
XYWH = ("left", "top", "width", "height")
CXCYWH = ("center_x", "center_y", "width", "height")
LAYOUTS = (XYXY, XYWH, CXCYWH)
PIXEL_DECIMALS, SHARE_DECIMALS = (
    2,
    6,
)  # steps of 0.01 pixels; 1e-6 of a side is a smaller step if the image is below 10,000 pixels


@dataclass(frozen=True)
class BoxConvention:
    """How a competition writes the boxes of a submission.

    Classes are written as `Competition.label_texts`: by CLASS_LABELS, or by number from `class_base` on.

    Attributes:
        fields: the values of a box in the text, in order; `class` may be omitted if one class is submitted.
        class_base: the number of the first class.
        normalised: whether coordinates are fractions of the image's width and height instead of pixels.
        decimals: maximum number of decimals of a coordinate; None: 2 for pixels, 6 for fractions.
        empty: the text for an image without boxes; None: such an image has no row.
        id_column: of the csv; None: the competition's ID_COLUMN.
        value_column: of the csv: the column that has the boxes.
        id_suffix: suffix of the image ids in the file, such as `.jpg`.
        image_id: of COCO results: the id as text, or the number at its end.
        score_key: of nuScenes boxes: the key of a box's score.
        class_key: of nuScenes boxes: the key of a box's class.
        token_key: of nuScenes boxes: the key under which each box repeats the id of its image; None: not repeated.
        meta: of nuScenes boxes: content of `meta` in the file.
    """

    fields: tuple[BoxField, ...] = ("class", "score", *XYXY)
    class_base: Annotated[int, Range(least=0)] = 0
    normalised: bool = False
    decimals: Annotated[int, Range(least=0, most=8)] | None = None
    empty: str | None = ""
    id_column: str | None = None
    value_column: str = "PredictionString"
    id_suffix: str = ""
    image_id: Literal["text", "number"] = "text"
    score_key: str = "score"
    class_key: str = "category_name"
    token_key: str | None = None
    meta: dict[str, bool] | None = None

    @property
    def most_decimals(self) -> int:
        """The maximum number of decimals of a coordinate."""
        default = SHARE_DECIMALS if self.normalised else PIXEL_DECIMALS
        return default if self.decimals is None else self.decimals

    @property
    def layout(self) -> tuple[BoxField, ...]:
        """Which four numbers give a box: `XYXY`, `XYWH` or `CXCYWH`; empty where FIELDS has none of them."""
        return next((layout for layout in LAYOUTS if set(layout) == set(self.fields) - {"class", "score"}), ())


BOX_DEFAULTS = BoxConvention()
