"""Random labelled boxes and detections, and pycocotools' scores of them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.detection.boxes import Boxes, Detections, clip_boxes, make_boxes, make_detections

SIZE = (400, 500)  # height and width of all images
Truth, Found = dict[str, Boxes], dict[str, Detections]


def random_xyxy(rng: np.random.Generator, number: int) -> np.ndarray:
    """Boxes of all of COCO's sizes, from 4 to 250 pixels a side."""
    centres, sides = (
        rng.uniform(0, 1, (number, 2)) * SIZE[::-1],
        np.exp(rng.uniform(np.log(4), np.log(250), (number, 2))),
    )
    return clip_boxes(np.concatenate([centres - sides / 2, centres + sides / 2], 1), SIZE)


def jittered(rng: np.random.Generator, xyxy: np.ndarray, share: float = 0.1) -> np.ndarray:
    """The boxes with each side moved by some share of the box's size."""
    sides = np.tile(xyxy[:, 2:] - xyxy[:, :2], 2)
    return clip_boxes(xyxy + rng.normal(0, share, xyxy.shape) * sides, SIZE)


def random_image(
    rng: np.random.Generator, num_classes: int, num_true: int, num_others: int, crowds: float = 0.0, digits: int = 6
) -> tuple[Boxes, Detections]:
    """An image's boxes, and detections: each box found twice by chance, some as another class, and some of nothing."""
    classes = rng.integers(0, num_classes, num_true)
    truth = make_boxes(random_xyxy(rng, num_true), classes, rng.random(num_true) < crowds)
    chosen = np.flatnonzero(rng.random(2 * num_true) < 0.7) % max(num_true, 1)
    found_classes = np.where(rng.random(len(chosen)) < 0.85, classes[chosen], rng.integers(0, num_classes, len(chosen)))
    xyxy = np.concatenate([jittered(rng, truth.xyxy[chosen]), random_xyxy(rng, num_others)])
    all_classes = np.concatenate([found_classes, rng.integers(0, num_classes, num_others)])
    return truth, make_detections(xyxy, rng.random(len(xyxy)).round(digits), all_classes)


def random_set(seed: int, num_images: int = 12, num_classes: int = 4, **options: object) -> tuple[Truth, Found]:
    """Images by id; `options` as `random_image`'s."""
    rng = np.random.default_rng(seed)
    wanted = {"num_true": 8, "num_others": 10} | options
    images = {f"image {index:03}": random_image(rng, num_classes, **wanted) for index in range(num_images)}
    return {name: image[0] for name, image in images.items()}, {name: image[1] for name, image in images.items()}


def reference_scores(
    truth: Mapping[str, Boxes],
    found: Mapping[str, Detections],
    num_classes: int,
    thresholds: Sequence[float] | None = None,
) -> COCOeval:
    """pycocotools after its evaluation; -1 is what is undefined. With thresholds of IoU: after its matching."""
    numbers = {name: number for number, name in enumerate(sorted(truth), start=1)}
    annotations, results = [], []
    for name, number in numbers.items():
        boxes = truth[name]
        for (left, top, right, bottom), index, crowd in zip(*(part.tolist() for part in boxes), strict=True):
            box = [left, top, right - left, bottom - top]
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": index, "bbox": box})
            annotations[-1] |= {"area": box[2] * box[3], "iscrowd": int(crowd)}
        if name in found:
            for (left, top, right, bottom), score, index in zip(*(part.tolist() for part in found[name]), strict=True):
                box = [left, top, right - left, bottom - top]
                results.append({"image_id": number, "category_id": index, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO()
        labels.dataset = {
            "images": [{"id": number} for number in numbers.values()],
            "annotations": annotations,
            "categories": [{"id": index, "name": str(index)} for index in range(num_classes)],
            "info": {},
        }
        labels.createIndex()
        evaluator = COCOeval(labels, labels.loadRes(results), "bbox")
        if thresholds is not None:
            evaluator.params.iouThrs = np.array(thresholds)
        evaluator.evaluate()
        if thresholds is not None:
            return evaluator
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator
