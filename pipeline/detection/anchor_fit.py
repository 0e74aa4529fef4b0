"""How well the anchors of a RetinaNet fit the labelled boxes: a plot and a warning before training.

In: the labelled boxes of the training tiles or images. Out: `anchors.json`, `plots/anchors.png`; a line in the log if
many boxes have no similar anchor. Such boxes are trained on few anchors, or on poorly fitting ones.

Letters: N boxes, C classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.config.detector_options import options_of
from pipeline.config.schema import Model
from pipeline.detection.anchors import anchor_coverage, is_thin
from pipeline.detection.boxes import areas
from pipeline.detection.geometry import scaled
from pipeline.detection.networks import seen_size
from pipeline.detection.train_samples import BoxDataset
from pipeline.engine.run import Run
from pipeline.files import write_atomic, write_json
from pipeline.paths import ANCHORS, ANCHORS_PLOT
from pipeline.report.box_plots import draw_anchor_fit

NUM_BINS = 50  # of the best IoU, 0 to 1
LEAST_IOU = 0.5  # from this IoU with a box on, RetinaNet assigns an anchor to the box
MOST_WITHOUT = 0.1  # share of boxes without such an anchor, above which a remedy is proposed
SMALLEST = 5  # percentile of the boxes' sizes that the smallest proposed anchors have
LEAST_SIZE = 4  # pixels, of proposed anchors

Group = tuple[np.ndarray, np.ndarray, tuple[int, int]]  # xyxy (N, 4) and classes (N,) of frames of one size


def check_anchors(run: Run, dataset: BoxDataset) -> None:
    """Writes how well anchors fit the labelled boxes, and logs what to set if many boxes have no similar anchor.

    Does nothing for networks without anchors, except that it removes earlier files.
    """
    model, competition = run.loaded.config.model, run.loaded.competition
    if model.name != "RetinaNet":
        for name in (ANCHORS, ANCHORS_PLOT):
            (run.paths / name).unlink(missing_ok=True)
        return
    groups = seen_boxes(dataset, run.loaded.config.datasets.input_scale)
    best_N, classes_N = best_ious(groups, model), np.concatenate([own for _, own, _ in groups] or [np.zeros(0, int)])
    facts = fit_facts(best_N, classes_N, competition.class_names)
    write_json(run.paths / ANCHORS, facts)
    write_atomic(run.paths / ANCHORS_PLOT, draw_anchor_fit(facts, competition.colors))
    without = float((best_N < LEAST_IOU).mean()) if len(best_N) else 0.0
    if without > MOST_WITHOUT:
        run.log(
            f"note: {100 * without:.0f} % of the boxes have no anchor with an IoU of {LEAST_IOU:g} or more (see "
            f"{ANCHORS_PLOT}); {_remedy(groups, model, without)}"
        )


def seen_boxes(dataset: BoxDataset, input_scale: float) -> list[Group]:
    """Returns the boxes of all tiles or images before augmentation, in pixels of the network's input.

    Crowds are left out, since they are not trained on.
    """
    found: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for index in range(len(dataset)):
        boxes, size = dataset.boxes(index), dataset.padded_size(index)
        seen = seen_size(size, input_scale)
        own = boxes.keep(~boxes.is_crowd)
        found[seen].append((scaled(own.xyxy, size, seen), own.classes))
    return [(*map(np.concatenate, zip(*parts, strict=True)), seen) for seen, parts in found.items()]


def best_ious(groups: Sequence[Group], model: Model) -> np.ndarray:
    """Returns the best IoU that any anchor of a model has with each box, float32 (N,)."""
    return np.concatenate([anchor_coverage(xyxy, model, size) for xyxy, _, size in groups] or [np.zeros(0, np.float32)])


def fit_facts(best_N: np.ndarray, classes_N: np.ndarray, classes: Sequence[str]) -> dict[str, object]:
    """Returns the content of anchors.json: how many boxes of each class have a best IoU in each of equal bins.

    >>> facts = fit_facts(np.array([0.99, 0.41, 0.3]), np.array([0, 0, 1]), ["Cell", "Dust"])
    >>> [(name, sum(counts), sum(counts[:25])) for name, counts in facts["counts"].items()]
    [('Cell', 2, 1), ('Dust', 1, 1)]
    """
    bins_N = np.minimum((best_N.astype(np.float64) * NUM_BINS).astype(int), NUM_BINS - 1)
    counts = {
        name: np.bincount(bins_N[classes_N == index], minlength=NUM_BINS).tolist() for index, name in enumerate(classes)
    }
    return {"bins": NUM_BINS, "counts": counts}


def _remedy(groups: Sequence[Group], model: Model, without: float) -> str:
    """Returns which setting gives more boxes an anchor: other sizes or, if these do not help, ratios, or both."""
    xyxy_N4 = np.concatenate([xyxy for xyxy, _, _ in groups])
    smallest = max(LEAST_SIZE, round(float(np.percentile(np.sqrt(areas(xyxy_N4)), SMALLEST))))
    sizes = [smallest * 2**level for level in range(len(options_of(model).anchor_sizes))]
    sides_N2 = np.maximum(xyxy_N4[:, 2:] - xyxy_N4[:, :2], 1e-6)
    shares = np.percentile(sides_N2[:, 1] / sides_N2[:, 0], (10, 50, 90))
    ratios = list(dict.fromkeys(float(f"{ratio:.2g}") for ratio in shares))
    for tried in ({"ANCHOR_SIZES": sizes}, {"RATIOS": ratios}, {"ANCHOR_SIZES": sizes, "RATIOS": ratios}):
        given = {key: value for key, value in model.options.items() if key.upper() not in tried}
        other = replace(model, options=given | tried)
        if not is_thin(options_of(other)) and float((best_ious(groups, other) < LEAST_IOU).mean()) < without:
            settings = " and ".join(f"MODEL.OPTIONS.{key}: {value}" for key, value in tried.items())
            return f"set for example {settings}"
    return f"ANCHOR_SIZES {sizes} and RATIOS {ratios}, computed from the boxes, do not fit better"
