"""The decoding of boxes: score thresholds per class, fitted on out-of-fold images.

In: detections of images that their members were not trained on. Out: plain values for decode.json, and from these the
function that turns the detections of a test image into what is submitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.detection.box_source import boxes_of
from pipeline.detection.boxes import Boxes, Detections
from pipeline.detection.coco_scores import image_ap
from pipeline.detection.curves import thresholds_by_f1
from pipeline.detection.ensembling import Recipe, combine, for_members, found_recipe
from pipeline.engine.run import Run
from pipeline.intervals import Interval, assign_folds, group_numbers, interval
from pipeline.scores import LABELS, per_image_score
from pipeline.task import HeldOut, MakeEach

NUM_FOLDS = 5


def fit_decoding(
    run: Run,
    folder: Path,
    rows: pd.DataFrame,
    held_out: HeldOut,
    found: Mapping[str, Any] | None,
    make_each: MakeEach,
) -> dict[str, Any]:
    """Returns the score thresholds by class that improve the score out of fold; see `Task`.

    The threshold of a class is the one with the best F1. It is adopted only if the whole interval of its gain is above
    0.
    """
    competition, labels = run.loaded.competition, boxes_of(run, folder)
    truth = {row.id: labels.read(row) for row in rows.itertuples()}
    made = make_each("combined", lambda image_id, predictions: {"members": list(predictions)})
    recipe = None if found is None else found_recipe(run, found)
    detections = {
        image_id: _combined(run, recipe, made(image_id)["members"], held_out[image_id]) for image_id in rows["id"]
    }
    groups = group_numbers(rows["id"], rows["sequence"])
    folds, ids = assign_folds(groups, NUM_FOLDS), rows["id"].tolist()
    gains_IC = np.full((len(ids), competition.num_classes), np.nan)
    for fold in range(NUM_FOLDS):
        inside = [image_id for image_id, own in zip(ids, folds, strict=True) if own != fold]
        if len(inside) in (0, len(ids)):
            continue
        least_C = _fit(inside, truth, detections, competition.num_classes)
        for number in np.flatnonzero(folds == fold):
            gains_IC[number] = _gain(truth[ids[number]], detections[ids[number]], least_C)
    least_C = _fit(ids, truth, detections, competition.num_classes)
    inside_IC = np.array([_gain(truth[image_id], detections[image_id], least_C) for image_id in ids])
    return _facts(run, gains_IC, inside_IC, groups, least_C)


def _combined(run: Run, recipe: Recipe | None, members: Sequence[Detections], numbers: Sequence[int]) -> Detections:
    if recipe is None:
        return members[0]
    return combine(members, for_members(recipe, numbers), run.loaded.config.predict.detections.most)


def _fit(
    ids: Sequence[str], truth: Mapping[str, Boxes], found: Mapping[str, Detections], num_classes: int
) -> np.ndarray:
    own = ({image_id: by_id[image_id] for image_id in ids} for by_id in (truth, found))
    return np.array(thresholds_by_f1(*own, num_classes))


def _gain(truth: Boxes, found: Detections, least_C: np.ndarray) -> np.ndarray:
    """Returns the change in each class's AP in one image when boxes are dropped, (C,); NaN where it has no AP."""
    kept = above(found, least_C)
    return image_ap(truth, kept, len(least_C)) - image_ap(truth, found, len(least_C))


def above(found: Detections, least_C: np.ndarray) -> Detections:
    """Returns the detections with at least the threshold of their class."""
    return found.keep(found.scores >= least_C[found.classes])


def _facts(
    run: Run, gains_IC: np.ndarray, inside_IC: np.ndarray, groups: np.ndarray, least_C: np.ndarray
) -> dict[str, Any]:
    classes, label = run.loaded.competition.class_names, LABELS[per_image_score(run.loaded.competition.score)]
    gains: dict[str, Interval] = {}
    for index, name in enumerate(classes):
        known = ~np.isnan(gains_IC[:, index])
        if known.any():
            gains[name] = interval(gains_IC[known, index], groups[known])
    adopted = [name for name, own in gains.items() if own.low > 0]
    in_sample = {name: float(np.nanmean(inside_IC[:, classes.index(name)])) for name in gains}
    total, inside = sum(gains[name].mean for name in adopted), sum(in_sample[name] for name in adopted)
    listed = ", ".join(adopted) if adopted else "no class"
    words = f"Dropping boxes below a score threshold improves the {label} on unseen sequences for {listed}"
    run.log(words)
    rules = [{"class": name, "measure": "score", "least": float(least_C[classes.index(name)])} for name in adopted]
    return {
        "rules": rules,
        "gains": {name: vars(own) for name, own in gains.items()},
        "in_sample": in_sample,
        "survived": total / inside if adopted and inside > 0 else None,
        "words": words,
    }


def decoder(
    run: Run, found: Mapping[str, Any] | None, facts: Mapping[str, Any]
) -> Callable[[Sequence[Detections]], Detections]:
    """Returns a function from an image's detections by the members to what is submitted; see `Task`."""
    recipe, classes = None if found is None else found_recipe(run, found), run.loaded.competition.class_names
    least_C = np.zeros(len(classes))
    for rule in facts.get("rules", ()):
        least_C[classes.index(rule["class"])] = rule["least"]

    def decode(members: Sequence[Detections]) -> Detections:
        return above(_combined(run, recipe, members, range(len(members))), least_C)

    return decode


def origin_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Returns what a submission's origin says of decode.json."""
    if not facts:
        return {}
    listed = ", ".join(f"{rule['class']} below {rule['least']:.2f}" for rule in facts["rules"])
    return {"decoding": f"dropped: {listed}" if listed else "no box was dropped: no threshold improved the score"}
