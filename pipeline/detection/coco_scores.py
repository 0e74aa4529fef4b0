"""Scores of detected boxes: COCO's twelve numbers, the AP of each class, and scores of single images.

In: the labelled boxes and the detections of images, by id. Out: numbers from 0 to 1; NaN where one is undefined, such
as the AP of a class that no image has. Sets are scored by faster-coco-eval (https://github.com/MiXaiLL76/faster_coco_eval,
Apache-2.0), which is pycocotools in C++; single images by `hits.py`, which a test holds equal to pycocotools. The size
of a labelled box is its area; in COCO's own files it is the area of the object's mask, which is smaller.

Letters: C classes, T thresholds of IoU (0.5, 0.55, ... 0.95), R points of recall (0, 0.01, ... 1).

Source: Lin et al. 2014, "Microsoft COCO: Common Objects in Context"; https://cocodataset.org/#detection-eval
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.data.decode import library
from pipeline.detection.boxes import Boxes, Detections
from pipeline.detection.hits import NOTHING_FOUND, THRESHOLDS, check_images, hits_of, precision_at_recalls

NUMBERS = (  # in the order of COCO's summary
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
)
BY_CLASS = ("ap", "ap50", "ap75")
IOU_50, IOU_75 = 0, 5  # where these are among the thresholds


@dataclass(frozen=True)
class CocoScores:
    """The scores of a set of images.

    Attributes:
        numbers: each of `NUMBERS`; NaN where no box of the set is of such a size, or there is none at all.
        by_class: each of `BY_CLASS`, a value per class; NaN for a class without boxes in the set.
        precision_CTR: float64 (C, T, R), the precision of each class; NaN for a class without boxes in the set.
    """

    numbers: dict[str, float]
    by_class: dict[str, list[float]]
    precision_CTR: np.ndarray


def coco_scores(
    truth: Mapping[str, Boxes], detections: Mapping[str, Detections], class_names: Sequence[str]
) -> CocoScores:
    """Returns the scores of a set of images.

    As in COCO, the 100 detections with the highest scores per image and class count, and detections in crowds are
    ignored. An image without an entry in `detections` has no detections. Equal scores are ordered by image id.

    Raises:
        UserError: detections are of images whose truth is not known, no image has labels, or faster-coco-eval is not
            installed.
    """
    check_images(truth, detections, len(class_names))
    package = library("faster_coco_eval", "scores of boxes")
    image_ids = sorted(truth)
    true = [_annotations(truth[image_id]) for image_id in image_ids]
    found = [_annotations(detections.get(image_id, NOTHING_FOUND)) for image_id in image_ids]
    both = [package.COCO(_dataset(parts, class_names)) for parts in (true, found)]
    evaluator = package.COCOeval_faster(*both, "bbox", print_function=_print_nothing)
    evaluator.run()
    precision_CTR = _nan_for_undefined(evaluator.eval["precision"][:, :, :, 0, -1].transpose(2, 0, 1))
    by_class = [precision_CTR.mean((1, 2)), *(precision_CTR[:, index].mean(1) for index in (IOU_50, IOU_75))]
    return CocoScores(
        dict(zip(NUMBERS, _nan_for_undefined(evaluator.stats).tolist(), strict=True)),
        {name: values.tolist() for name, values in zip(BY_CLASS, by_class, strict=True)},
        precision_CTR,
    )


def image_scores(truth: Boxes, found: Detections, num_classes: int) -> dict[str, np.ndarray]:
    """Returns each of `BY_CLASS` of one image, float64 (C,) each.

    A class that the image has gets COCO's score on a set of this one image. A class that the image does not have gets 0
    if it was detected at any score outside of crowds (less than half in a crowd), and NaN otherwise.

    >>> from pipeline.detection.boxes import make_boxes, make_detections
    >>> truth = make_boxes([[0, 0, 10, 10]], [0])
    >>> found = make_detections([[0, 0, 10, 8], [5, 5, 9, 9]], [0.9, 0.8], [0, 1])
    >>> image_scores(truth, found, 3)["ap"].round(2).tolist()
    [0.7, 0.0, nan]
    """
    values = np.full((len(BY_CLASS), num_classes), np.nan)
    for index in np.union1d(truth.classes, found.classes):
        hits = hits_of(truth, found, index, THRESHOLDS)
        if hits.num_true:
            ap_T = precision_at_recalls(hits).mean(1)
            values[:, index] = ap_T.mean(), ap_T[IOU_50], ap_T[IOU_75]
        elif not hits.is_ignored[IOU_50].all():
            values[:, index] = 0
    return dict(zip(BY_CLASS, values, strict=True))


def image_ap(truth: Boxes, found: Detections, num_classes: int) -> np.ndarray:
    """Returns the AP of each class in a single image, float64 (C,); NaN where it is neither labelled nor detected."""
    return image_scores(truth, found, num_classes)["ap"]


def mean_image_ap(truth: Mapping[str, Boxes], found: Mapping[str, Detections], num_classes: int) -> np.ndarray:
    """Returns the mean over images of each class's AP in single images, float64 (C,); NaN where no image has one."""
    values_IC = np.array([image_ap(boxes, found[image_id], num_classes) for image_id, boxes in truth.items()])
    known_IC = ~np.isnan(values_IC)
    counts_C = known_IC.sum(0)
    return np.where(counts_C, np.where(known_IC, values_IC, 0).sum(0) / np.maximum(counts_C, 1), np.nan)


def _annotations(boxes: Boxes | Detections) -> list[dict[str, Any]]:
    """Returns the boxes of an image in COCO's form, without the ids of image and annotation."""
    xyxy_N4 = boxes.xyxy.astype(np.float64)
    xywh_N4 = np.concatenate([xyxy_N4[:, :2], xyxy_N4[:, 2:] - xyxy_N4[:, :2]], 1)
    columns: dict[str, list[Any]] = {
        "bbox": xywh_N4.tolist(),
        "area": xywh_N4[:, 2:].prod(1).tolist(),
        "category_id": boxes.classes.tolist(),
    }
    if isinstance(boxes, Detections):
        columns |= {"score": boxes.scores.tolist(), "iscrowd": [0] * len(xywh_N4)}
    else:
        columns["iscrowd"] = boxes.is_crowd.astype(int).tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _dataset(parts: Sequence[list[dict[str, Any]]], class_names: Sequence[str]) -> dict[str, Any]:
    """Returns a data set in COCO's form; ids of images and annotations count from 1, as 0 means "no match" there."""
    flat = [one | {"image_id": image} for image, part in enumerate(parts, start=1) for one in part]
    return {
        "images": [{"id": image} for image in range(1, len(parts) + 1)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(class_names)],
        "annotations": [one | {"id": number} for number, one in enumerate(flat, start=1)],
    }


def _nan_for_undefined(values: np.ndarray) -> np.ndarray:
    """Returns float64 values with NaN where COCO has -1."""
    return np.where(np.asarray(values) < 0, np.nan, values)


def _print_nothing(*_: object) -> None:
    """Prints nothing, where the evaluator would print its progress."""
