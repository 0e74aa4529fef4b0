"""The decoding of boxes: score thresholds per class, fitted on out-of-fold images.

In: detections of images that their members were not trained on. Out: plain values for decode.json, and from these the
function that turns the detections of a test image into what is submitted.

Letters: I images, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.config.competition import ScoreOptions
from pipeline.detection.box_fbeta import best_threshold, fbeta_of, fbeta_parts, hits_by_image, tally
from pipeline.detection.box_source import boxes_of
from pipeline.detection.boxes import Detections
from pipeline.detection.ensembling import Recipe, combine, for_members, found_recipe
from pipeline.detection.hits import Hits
from pipeline.engine.run import Run
from pipeline.intervals import Interval, assign_folds, group_numbers
from pipeline.scores import LABELS, mean_scored
from pipeline.task import HeldOut, MakeEach
from pipeline.verdicts import held_out_gain

NUM_FOLDS = 5
FITTED = "box_fbeta"  # the score that thresholds can raise; AP ranks detections, and needs all of them


class ClassFit(NamedTuple):
    """The threshold of a class.

    Attributes:
        least: fitted on all images.
        before: the F-beta of all detections.
        after: the F-beta with thresholds that were fitted on other images.
        gain: from `before` to `after`; widened for the number of classes.
        verdict: on the gain, in words; "better" where the threshold is adopted.
        in_sample: the gain with `least` on the images that it was fitted on.
    """

    least: float
    before: float
    after: float
    gain: Interval
    verdict: str
    in_sample: float


def fit_decoding(
    run: Run,
    folder: Path,
    rows: pd.DataFrame,
    held_out: HeldOut,
    found: Mapping[str, Any] | None,
    make_each: MakeEach,
) -> dict[str, Any]:
    """Returns the score thresholds by class that improve SCORE: box_fbeta out of fold; see `Task`.

    The threshold of a class is the one of its highest F-beta. It is adopted only if the whole interval of its gain is
    above 0. With another score nothing is fitted.
    """
    competition, labels = run.loaded.competition, boxes_of(run, folder)
    if competition.score != FITTED:
        words = f"No score threshold was fitted: {LABELS[competition.score]} never gains from dropping boxes"
        run.log(words)
        return {"rules": [], "gains": {}, "verdicts": {}, "in_sample": {}, "survived": None, "words": words}
    truth = {row.id: labels.read(row) for row in rows.itertuples()}
    made = make_each("combined", lambda image_id, predictions: {"members": list(predictions)})
    recipe = None if found is None else found_recipe(run, found)
    detections = {image_id: _combined(run, recipe, made(image_id)["members"], held_out[image_id]) for image_id in truth}
    groups = group_numbers(rows["id"], rows["sequence"])
    options, known = competition.score_options, {}
    for index, name in enumerate(competition.class_names):
        parts = hits_by_image(truth, detections, index, options.thresholds)
        if not np.isnan(fbeta_of(tally(parts), options.beta)):
            known[name] = parts
    return _facts(run, {name: fit_class(parts, groups, options, len(known)) for name, parts in known.items()})


def _combined(run: Run, recipe: Recipe | None, members: Sequence[Detections], numbers: Sequence[int]) -> Detections:
    if recipe is None:
        return members[0]
    return combine(members, for_members(recipe, numbers), run.loaded.config.predict.detections.most)


def fit_class(parts: Sequence[Hits], groups: np.ndarray, options: ScoreOptions, num_classes: int = 1) -> ClassFit:
    """Returns the threshold of a class that has an F-beta.

    Args:
        parts: its hits in each image.
        groups: int (I,), the sequence of each image.
        num_classes: for how many classes a threshold is fitted.
    """
    folds, least_I = assign_folds(groups, NUM_FOLDS), np.zeros(len(parts))
    for fold in np.unique(folds):
        others = [part for part, own in zip(parts, folds, strict=True) if own != fold]
        least_I[folds == fold] = best_threshold(others, options.beta) if others else 0.0
    least = best_threshold(parts, options.beta)
    plain, unseen, fitted = (tally(parts, own) for own in (0.0, least_I, least))
    gains_I = fbeta_parts(unseen, options.beta) - fbeta_parts(plain, options.beta)
    before, after, inside = (fbeta_of(counted, options.beta) for counted in (plain, unseen, fitted))
    return ClassFit(least, before, after, *held_out_gain(gains_I, groups, num_classes), inside - before)


def above(found: Detections, least_C: np.ndarray) -> Detections:
    """Returns the detections with at least the threshold of their class."""
    return found.keep(found.scores >= least_C[found.classes])


def _facts(run: Run, fits: Mapping[str, ClassFit]) -> dict[str, Any]:
    competition, label = run.loaded.competition, LABELS[FITTED]
    adopted = [name for name, own in fits.items() if own.gain.low > 0]
    total, inside = sum(fits[name].gain.mean for name in adopted), sum(fits[name].in_sample for name in adopted)
    scored = [name for name in (competition.class_names[index] for index in competition.scored_indices) if name in fits]
    before = [fits[name].before for name in scored]
    after = [fits[name].after if name in adopted else fits[name].before for name in scored]
    means = [float(mean_scored(values)) for values in (before, after)]
    listed = ", ".join(adopted) if adopted else "no class"
    words = f"Dropping boxes below a score threshold improves the {label} on unseen sequences for {listed}"
    if adopted:
        words += f": from {means[0]:.4f} to {means[1]:.4f} over the scored classes"
    run.log(words)
    return {
        "rules": [{"class": name, "measure": "score", "least": fits[name].least} for name in adopted],
        "gains": {name: vars(own.gain) for name, own in fits.items()},
        "verdicts": {name: own.verdict for name, own in fits.items()},
        "in_sample": {name: own.in_sample for name, own in fits.items()},
        "survived": total / inside if adopted and inside > 0 else None,
        "score": {
            "label": label,
            "before": dict(zip(scored, before, strict=True)),
            "after": dict(zip(scored, after, strict=True)),
            "means": means,
        },
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
