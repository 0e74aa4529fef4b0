"""The texts of the page that differ between tasks: pixels or boxes. They are chosen here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.competition import Competition


@dataclass(frozen=True)
class Words:
    """The words of a task.

    Attributes:
        wrong: what is counted in the share that the gallery shows for each image.
        about_wrong: what counts as wrong; "" where it is clear.
        stores: the caption of the table of members' stores.
        is_compressed: whether a store has a size to compare with that of all probabilities as float32.
        counted: heads of the columns of counts in the table of classes.
        checked: what the check of a submission has confirmed.
        left_out: head of a column in the table of what decoding drops.
        about_left_out: caption of that table.
        absent: the sections that the task never has.
    """

    wrong: str
    about_wrong: str
    stores: str
    is_compressed: bool
    checked: str
    counted: tuple[str, ...]
    left_out: str
    about_left_out: str
    absent: tuple[str, ...]


OF_PIXELS = Words(
    wrong="wrong pixels",
    about_wrong="",
    stores="Probability stores: size, and pixels whose class is that of the network's own float32 output",
    is_compressed=True,
    checked="ids, rows, overlaps, ranges and orientation are right",
    counted=(),
    left_out="dropped where",
    about_left_out="Classes dropped: gain in their own score",
    absent=("Boxes",),
)
OF_BOXES = Words(
    wrong="wrong boxes",
    about_wrong=" Wrong boxes are labelled boxes without a hit and predictions without a hit; the share is "
    "wrong boxes / (wrong boxes + hits). Predictions with a score below 0.3 are ignored here.",
    stores="Stores of predicted boxes: size, and boxes that equal the network's own float32 output",
    is_compressed=False,
    checked="ids, rows, classes, scores and boxes are right",
    counted=("boxes, all",),
    left_out="dropped where",
    about_left_out="Boxes dropped: gain in the F-beta of their class",
    absent=("Suspicious", "Errors", "Calibration", "Pseudo-labels"),
)


def words_of(competition: Competition) -> Words:
    """Returns the words of a competition's task."""
    return OF_BOXES if competition.has_boxes else OF_PIXELS
