"""An ensemble of networks that find boxes: how members are combined, and what that gains on out-of-fold images.

In: the detections of those members that were not trained on an image, and its boxes. Out: the evaluation of the chosen
method, and the content of ensemble.json.

Letters: I images, C classes, M members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.detection.box_fusion import fit_fusion_weights, fuse, nms_members
from pipeline.detection.box_source import boxes_of
from pipeline.detection.boxes import Boxes, Detections
from pipeline.detection.coco_scores import image_ap
from pipeline.detection.evaluation import evaluation_of
from pipeline.detection.set_scores import own_score
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.intervals import assign_folds, group_numbers
from pipeline.prediction.fewer_members import normalised
from pipeline.prediction.gains import findings, findings_text
from pipeline.scores import LABELS, image_parts, per_image_score
from pipeline.task import Evaluation, HeldOut, MakeEach
from pipeline.verdicts import held_out_gain

NUM_FOLDS = 5  # of the out-of-fold test of fitted weights
METHODS = ("WBF", "NMS")


@dataclass(frozen=True)
class Recipe:
    """How detections of members are combined.

    Attributes:
        method: WBF or NMS.
        overlap: IoU above which boxes of two members count as the same object.
        weights: of the members, with a sum of 1; None: all alike.
    """

    method: str
    overlap: float
    weights: tuple[float, ...] | None = None


def combine(members: Sequence[Detections], recipe: Recipe, most: int) -> Detections:
    """Returns the detections of some members as one list, at most `most` of them.

    `recipe.weights`, if given, has one weight for each of these members.
    """
    if len(members) == 1:
        return members[0].keep(slice(most))
    weights = recipe.weights or (1.0,) * len(members)
    found = (
        fuse(members, weights, recipe.overlap)
        if recipe.method == "WBF"
        else nms_members(members, weights, recipe.overlap)
    )
    return found.keep(slice(most))


def for_members(recipe: Recipe, numbers: Sequence[int]) -> Recipe:
    """Returns the recipe for some of the members, with weights normalised over them.

    >>> for_members(Recipe("WBF", 0.5, (0.2, 0.3, 0.5)), [0, 1]).weights
    (0.4, 0.6)
    """
    if recipe.weights is None:
        return recipe
    own = normalised([recipe.weights[number] for number in numbers])[:, 0]
    return Recipe(recipe.method, recipe.overlap, tuple(own.tolist()))


def configured_recipe(run: Run) -> Recipe:
    """Returns the recipe of the config; with fitted weights, all are equal at first."""
    settings, overlap = run.loaded.config.ensemble, run.loaded.config.predict.detections.overlap
    weights = settings.weights if isinstance(settings.weights, tuple) else None
    return Recipe(settings.method, overlap, weights and tuple(normalised(weights)[:, 0].tolist()))


def found_recipe(run: Run, found: Mapping[str, Any]) -> Recipe:
    """Returns how test images are combined, by ensemble.json."""
    weights = found["weights"] and tuple(own[0] for own in found["weights"])
    return Recipe(found["method"], found["overlap"], weights)


def check_members(indices: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses members that have other classes.

    Args:
        indices: the index of each member's store, by the member's name.

    Raises:
        UserError: names two members.
    """
    (first, own), *others = indices.items()
    for name, index in others:
        if index["classes"] != own["classes"]:
            raise UserError(f"members {first} and {name} have different classes; combine members with the same classes")


def evaluate_ensemble(
    run: Run, folder: Path, rows: pd.DataFrame, held_out: HeldOut, make_each: MakeEach
) -> tuple[Evaluation, dict[str, Any]]:
    """Returns the evaluation of the chosen method, and the content of ensemble.json; see `Task`."""
    competition, most = run.loaded.competition, run.loaded.config.predict.detections.most
    labels = boxes_of(run, folder)
    truth = {row.id: labels.read(row) for row in rows.itertuples()}
    made = make_each("combined", lambda image_id, predictions: {"members": list(predictions)})
    bar = tqdm(rows["id"], desc="combine", leave=False, disable=None)
    members = {image_id: made(image_id)["members"] for image_id in bar}
    chosen, fit = configured_recipe(run), None
    if run.loaded.config.ensemble.weights == "fitted":
        chosen, fit = fitted_recipe(run, rows, members, held_out, truth, chosen)
    recipes = {method: Recipe(method, chosen.overlap) for method in METHODS} | {chosen.method: chosen}
    own = [
        np.array([image_ap(truth[image_id], found, competition.num_classes) for found in members[image_id]])
        for image_id in rows["id"]
    ]
    combined = {
        name: {
            image_id: combine(found, for_members(recipe, held_out[image_id]), most)
            for image_id, found in members.items()
        }
        for name, recipe in recipes.items()
    }
    by_method = {
        name: np.array([image_ap(truth[image_id], found[image_id], competition.num_classes) for image_id in rows["id"]])
        for name, found in combined.items()
    }
    content = findings(rows, held_out, by_method, own, competition, len(run.loaded.config.ensemble.members))
    content["method"], content["overlap"] = chosen.method, chosen.overlap
    content["weights"] = None if chosen.weights is None else [[weight] for weight in chosen.weights]
    if fit is not None:
        content["fit"] = fit
    run.log("\n".join([findings_text(content), *([fit["words"]] if fit else [])]))
    return evaluation_of(run, rows, truth, combined[chosen.method]), content


def fitted_recipe(
    run: Run,
    rows: pd.DataFrame,
    members: Mapping[str, Sequence[Detections]],
    held_out: HeldOut,
    truth: Mapping[str, Boxes],
    equal: Recipe,
) -> tuple[Recipe, dict[str, Any]]:
    """Returns the recipe with fitted weights if these are better out of fold, else the equal one; and the facts.

    For each fold, weights are fitted on the sequences of the other folds for the competition's score, and the gain in
    the AP of single images is measured on the fold, as only this score has an interval. Fitted weights are adopted only
    if the whole interval is above 0.
    """
    competition, most = run.loaded.competition, run.loaded.config.predict.detections.most
    has_thresholds = run.loaded.config.decode.suppress == "fitted"
    everyone = [
        image_id for image_id in rows["id"] if len(members[image_id]) == len(run.loaded.config.ensemble.members)
    ]
    label = LABELS[per_image_score(competition.score)]
    if len(everyone) < 2 * NUM_FOLDS:
        words = "Weights were not fitted: too few images are out of fold for all members; train these on the same split"
        return equal, {"kind": "equal", "words": words, "gains": {}, "verdicts": {}, "in_sample": {}}
    known = rows[rows["id"].isin(everyone)]
    groups = group_numbers(known["id"], known["sequence"])
    folds = assign_folds(groups, NUM_FOLDS)

    def fit(ids: Sequence[str]) -> Recipe:
        own, labels = ({image_id: of[image_id] for image_id in ids} for of in (members, truth))
        score = partial(own_score, labels, competition=competition, has_thresholds=has_thresholds)
        found = fit_fusion_weights(own, score)
        if np.isnan(found.score):  # no other fold has a scored class
            return equal
        return Recipe("WBF", found.iou, tuple(normalised(found.weights)[:, 0].tolist()))

    def ap_with(recipes: Sequence[Recipe]) -> np.ndarray:
        """Returns what each image adds to the AP with a recipe of its own."""
        found = (combine(members[image_id], recipe, most) for image_id, recipe in zip(ids, recipes, strict=True))
        values = [
            image_ap(truth[image_id], own, competition.num_classes) for image_id, own in zip(ids, found, strict=True)
        ]
        return image_parts(np.array(values), competition.scored_indices)

    ids = known["id"].tolist()
    others = {fold: [one for one, own in zip(ids, folds, strict=True) if own != fold] for fold in set(folds.tolist())}
    by_fold = {fold: fit(own) if own else equal for fold, own in others.items()}
    final, plain_I = fit(ids), ap_with([equal] * len(ids))
    found, verdict = held_out_gain(ap_with([by_fold[fold] for fold in folds.tolist()]) - plain_I, groups)
    in_sample = float((ap_with([final] * len(ids)) - plain_I).mean())
    is_adopted = found.low > 0
    decision = "adopted" if is_adopted else "members are weighted equally"
    gain = f"{found} {label} on sequences that they were not fitted on"
    facts = {
        "kind": "member" if is_adopted else "equal",
        "words": f"Fitted weights gain {gain}: {verdict}; {decision}",
        "gains": {"member": vars(found)},
        "verdicts": {"member": verdict},
        "in_sample": {"member": in_sample},
    }
    return (final if is_adopted else equal), facts
