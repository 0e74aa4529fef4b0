"""The scores of a prediction: their names, what they are per class, and their mean over the scored classes.

`KINDS` has them all. Dice, IoU and mIoU are always computed, any other one where it is the competition's own (SCORE)
or is watched (SOLVER.MONITOR). Imports NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pipeline.config.competition import OF_VOLUMES, SCORE_DEFAULTS, Competition, ScoreOptions


@dataclass(frozen=True)
class Kind:
    """What a score is.

    Attributes:
        label: what people call it.
        per: `image`: a value per image and class, averaged over images; `all`: a value per class, of the pixels of all
            images at once; `volume`: a value per class, of volumes, whose slices are the images of a sequence.
        needs: `counts`: correct, true and predicted pixels of each class; `masks`: where these pixels are; `boxes`: the
            detections and the labelled boxes.
        like: the score that stands in for it where one of `per: image` from counts is needed; itself where it is one.
        meaning: its values per class, in words.
        is_weighted: whether its mean is over all classes, each weighted with its true pixels, instead of the mean over
            the scored classes.
    """

    label: str
    per: Literal["image", "all", "volume"]
    needs: Literal["counts", "masks", "boxes"]
    like: str
    meaning: str
    is_weighted: bool = False


_IMAGE = "per image and class"
ABSENT_IS_1 = f"{_IMAGE}, 1 where neither prediction nor label has the class"
_SHOWN = f"{_IMAGE}, of images whose label has the class"
_ALL = "over the data set at once"
KINDS = {
    "dice": Kind("Dice", "image", "counts", "dice", ABSENT_IS_1),
    "iou": Kind("IoU", "image", "counts", "iou", ABSENT_IS_1),
    "miou": Kind("mIoU", "all", "counts", "iou", _ALL),
    "present_dice": Kind("Dice where present", "image", "counts", "present_dice", _SHOWN),
    "present_iou": Kind("IoU where present", "image", "counts", "present_iou", _SHOWN),
    "global_dice": Kind("global Dice", "all", "counts", "dice", _ALL),
    "global_iou": Kind("global IoU", "all", "counts", "iou", _ALL),
    "fbeta": Kind("F-beta", "all", "counts", "dice", _ALL),
    "fwiou": Kind("fwIoU", "all", "counts", "iou", f"{_ALL}, all classes weighted with their pixels", is_weighted=True),
    "pixel_accuracy": Kind("pixel accuracy", "all", "counts", "iou", f"{_ALL}, of all classes", is_weighted=True),
    "boundary_f": Kind("boundary F", "image", "masks", "dice", ABSENT_IS_1),
    "surface_dice": Kind("surface Dice", "image", "masks", "dice", ABSENT_IS_1),
    "hausdorff_dice": Kind("Dice and Hausdorff", "image", "masks", "dice", ABSENT_IS_1),
    "uw_madison": Kind("Dice and 3D Hausdorff", "volume", "masks", "dice", "over slices and volumes with the class"),
    "mask_ap": Kind("mask AP", "image", "counts", "iou", ABSENT_IS_1),
    "object_ap": Kind("object AP", "image", "masks", "iou", ABSENT_IS_1),
    "object_fbeta": Kind("object F-beta", "image", "masks", "dice", ABSENT_IS_1),
    "ap": Kind("AP", "all", "boxes", "image_ap", f"{_ALL}, mean over IoU thresholds from 0.5 to 0.95"),
    "ap50": Kind("AP50", "all", "boxes", "image_ap", f"{_ALL}, at an IoU of 0.5"),
    "ap75": Kind("AP75", "all", "boxes", "image_ap", f"{_ALL}, at an IoU of 0.75"),
    "image_ap": Kind("AP of single images", "image", "boxes", "image_ap", f"{_IMAGE}, mean over IoU thresholds"),
    "box_fbeta": Kind("F-beta of boxes", "all", "boxes", "image_ap", f"{_ALL}, mean over IoU thresholds"),
}
LABELS = {name: kind.label for name, kind in KINDS.items()}  # by the name that files and configs use
PER_IMAGE = ("dice", "iou")  # of those that are always computed, the ones that a single image has
ALWAYS = (*PER_IMAGE, "miou")
OF_EVERY_RUN = ("dice", "ap")  # what every run of masks, and of boxes, is validated by


@dataclass(frozen=True)
class Chosen:
    """The scores that a run computes.

    Attributes:
        names: `ALWAYS`, then the others.
        options: the numbers that some of them need.
    """

    names: tuple[str, ...] = ALWAYS
    options: ScoreOptions = SCORE_DEFAULTS

    @property
    def others(self) -> tuple[str, ...]:
        """Those that are not always computed."""
        return self.names[len(ALWAYS) :]

    @property
    def of_images(self) -> tuple[str, ...]:
        """Those that a single image has."""
        return tuple(name for name in self.names if KINDS[name].per == "image")

    @property
    def of_masks(self) -> tuple[str, ...]:
        """Those that need the masks of one image."""
        return tuple(name for name in self.of_images if KINDS[name].needs == "masks")

    @property
    def of_volumes(self) -> tuple[str, ...]:
        """Those that need the masks of all images of a sequence."""
        return tuple(name for name in self.names if KINDS[name].per == "volume")

    def without_volumes(self) -> Chosen:
        """Returns those that images have which come one by one, in no order."""
        return replace(self, names=tuple(name for name in self.names if name not in self.of_volumes))


BASIC = Chosen()


def chosen_scores(competition: Competition, monitor: str = "valid_loss") -> Chosen:
    """Returns the scores of a run: the three that are always there, the competition's own, the one that is watched.

    Beside one of volumes is the one of images that stands in for it.
    """
    own = competition.score
    stands_in = (OF_VOLUMES[own],) if own in OF_VOLUMES else ()
    others = [name for name in (*stands_in, own, score_of(monitor)) if name is not None]
    return Chosen(tuple(dict.fromkeys((*ALWAYS, *others))), competition.score_options)


def label_of(score: str) -> str:
    """Returns the label of a score; one that has none is shown by its name.

    >>> label_of("miou"), label_of("accuracy")
    ('mIoU', 'accuracy')
    """
    return LABELS.get(score, score)


def of_images(label: str) -> str:
    """Returns the label of a score of single images with this said, if it does not say so itself.

    >>> of_images("Dice"), of_images("AP of single images")
    ('Dice of images', 'AP of single images')
    """
    return label if label.endswith("images") else f"{label} of images"


def score_of(monitor: str) -> str | None:
    """Returns the score that SOLVER.MONITOR watches, or None for the validation loss.

    >>> score_of("valid_dice"), score_of("valid_loss")
    ('dice', None)
    """
    return None if monitor == "valid_loss" else monitor.removeprefix("valid_")


def monitor_label(monitor: str) -> str:
    """Returns what SOLVER.MONITOR watches, for messages.

    >>> monitor_label("valid_miou"), monitor_label("valid_loss")
    ('validation mIoU', 'validation loss')
    """
    name = score_of(monitor)
    return f"validation {label_of(name) if name else 'loss'}"


def per_image_score(score: str) -> str:
    """Returns the score by which single images are compared where `score` is the competition's.

    >>> per_image_score("dice"), per_image_score("miou"), per_image_score("uw_madison")
    ('dice', 'iou', 'hausdorff_dice')
    """
    score = OF_VOLUMES.get(score, score)
    return score if KINDS[score].per == "image" else KINDS[score].like


def counted_score(score: str) -> str:
    """Returns the score per image that can be estimated from counts of pixels where `score` is the competition's.

    >>> counted_score("present_dice"), counted_score("miou"), counted_score("boundary_f")
    ('present_dice', 'iou', 'dice')
    """
    return KINDS[score].like


def class_scores(
    score: str, hits: np.ndarray, true: np.ndarray, predicted: np.ndarray, options: ScoreOptions = SCORE_DEFAULTS
) -> np.ndarray:
    """Returns a score of `needs: counts`, float64, of any shape.

    Of `per: image` it is 1 where there are no pixels, or NaN where only images with the class count; of `per: all` it
    is NaN where there are no pixels.

    Args:
        hits: pixels of a class that were predicted correctly.
        true: its pixels in the truth.
        predicted: its predicted pixels.

    >>> hits, true, predicted = np.array([1, 0, 0]), np.array([1, 0, 0]), np.array([2, 0, 1])
    >>> class_scores("dice", hits, true, predicted).tolist(), class_scores("iou", hits, true, predicted).tolist()
    ([0.6666666666666666, 1.0, 0.0], [0.5, 1.0, 0.0])
    >>> class_scores("present_dice", hits, true, predicted).tolist()
    [0.6666666666666666, nan, nan]
    """
    areas = predicted + true
    if score in ("miou", "global_iou", "fwiou"):
        return _ratio(hits, areas - hits, np.nan)
    if score == "global_dice":
        return _ratio(2 * hits, areas, np.nan)
    if score == "fbeta":  # van Rijsbergen 1979; 1 is Dice, below 1 a false pixel costs more than a missed one
        square = options.beta**2
        return _ratio((1 + square) * hits, square * true + predicted, np.nan)
    if score == "pixel_accuracy":  # of one class; weighted with the true pixels it is the share of correct ones
        return _ratio(hits, true, np.nan)
    if score in ("present_dice", "present_iou"):
        return np.where(true > 0, class_scores(score.removeprefix("present_"), hits, true, predicted), np.nan)
    if score == "mask_ap":  # the share of IoU thresholds that the whole mask passes, as in TGS Salt
        iou = class_scores("iou", hits, true, predicted)
        return (iou[..., None] > np.array(options.thresholds)).mean(-1)
    return _ratio(2 * hits, areas, 1.0) if score == "dice" else _ratio(hits, areas - hits, 1.0)


def _ratio(tops: np.ndarray, bottoms: np.ndarray, empty: float) -> np.ndarray:
    """Returns tops / bottoms, and `empty` where a bottom is 0."""
    return np.where(bottoms > 0, tops / np.where(bottoms > 0, bottoms, 1), empty)


def mean_scored(values: np.ndarray | Sequence[float], scored: Sequence[int] | None = None) -> np.ndarray:
    """Returns the mean over the scored classes, float64 (...), of values (..., C).

    NaNs (a class without pixels) are left out; where all are NaN, so is the mean.

    Args:
        scored: indices of the scored classes; None: all.

    >>> mean_scored([[0.5, 1.0, 0.0], [0.25, np.nan, 0.5]], [0, 1]).tolist()
    [0.75, 0.25]
    """
    values = np.asarray(values, np.float64)
    values = values if scored is None else values[..., list(scored)]
    is_known = ~np.isnan(values)
    # Added up class by class, so that the same scores have the same mean to the last bit in every file.
    totals, counts = np.cumsum(np.where(is_known, values, 0), -1)[..., -1], is_known.sum(-1)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def image_parts(values_IC: np.ndarray, scored: Sequence[int] | None = None) -> np.ndarray:
    """Returns the part of each image in a score of single images, float64 (I,); the mean of the parts is the score.

    The score is a mean over the scored classes; that of a class is the mean over the images that have a value for it.
    The part of an image is the score plus the image's deviations from the means of its classes, with more weight for
    classes that fewer images have (the linearisation of the score). If all images have all classes, the part of an
    image is its own mean. An image without any value has the score as its part. If no image has
    a value, all parts are NaN.

    Args:
        values_IC: a score per image and class; NaN where an image has none.
        scored: indices of the scored classes; None: all.

    >>> parts = image_parts(np.array([[0.5, 1.0], [0.25, np.nan], [0.75, np.nan]]))
    >>> parts.tolist(), float(parts.mean())
    ([0.75, 0.625, 0.875], 0.75)
    """
    values_IC = np.asarray(values_IC, np.float64)
    values_IC = values_IC if scored is None else values_IC[:, list(scored)]
    is_known_IC = ~np.isnan(values_IC)
    counts_C = is_known_IC.sum(0)
    if is_known_IC.all() or not counts_C.any():
        return mean_scored(values_IC)
    values_IC, is_known_IC, counts_C = values_IC[:, counts_C > 0], is_known_IC[:, counts_C > 0], counts_C[counts_C > 0]
    means_C = np.where(is_known_IC, values_IC, 0).sum(0) / counts_C
    deviations_IC = np.where(is_known_IC, values_IC - means_C, 0) * (len(values_IC) / counts_C)
    return means_C.mean() + deviations_IC.mean(1)


def mean_score(
    score: str, values_C: np.ndarray | Sequence[float], scored: Sequence[int] | None, true_C: np.ndarray
) -> float:
    """Returns the one number of a score: the mean over the scored classes, or weighted over all classes.

    Args:
        values_C: of each class over all images.
        scored: indices of the scored classes; None: all.
        true_C: true pixels of each class.

    >>> mean_score("pixel_accuracy", [0.5, 1.0, np.nan], [1], np.array([30, 10, 0]))
    0.625
    """
    if not KINDS[score].is_weighted:
        return float(mean_scored(values_C, scored))
    total = true_C.sum()
    return float(np.where(true_C > 0, true_C * np.asarray(values_C), 0).sum() / total) if total else float("nan")


def score_table(
    values: Mapping[str, np.ndarray],
    classes: Sequence[str],
    scored: Sequence[int] | None = None,
    true_C: np.ndarray | None = None,
) -> dict[str, dict[str, Any]]:
    """Returns of each score its label, its mean, and the value of each class; None for NaN.

    Args:
        values: float64 (C,), by the name of the score.
        classes: their C names.
        scored: indices of the scored classes; None: all.
        true_C: true pixels of each class, for scores whose mean is weighted.

    >>> score_table({"miou": np.array([0.5, np.nan])}, ["Car", "Road"])
    {'miou': {'label': 'mIoU', 'mean': 0.5, 'classes': {'Car': 0.5, 'Road': None}}}
    """

    def known(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return {
        name: {
            "label": LABELS[name],
            "mean": known(mean_score(name, values_C, scored, true_C)),
            "classes": dict(zip(classes, map(known, values_C), strict=True)),
        }
        for name, values_C in values.items()
    }
