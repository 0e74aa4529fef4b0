"""An ensemble on out-of-fold images: each method's score and gain, and the weights fitted there.

In: the predictions of those members that were not trained on an image, and its truth. Out: the evaluation of the chosen
method, and the content of ensemble.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.config.competition import Competition
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.intervals import Interval, group_numbers, interval
from pipeline.scores import KINDS, LABELS, counted_score, mean_scored, per_image_score
from pipeline.segmentation.decision import confusion_of
from pipeline.segmentation.ensemble import METHODS, Recipe, combine, combined_rows, for_members, normalised
from pipeline.segmentation.ensemble_weights import MemberSample, fit_weights, sample_members
from pipeline.segmentation.evaluation import evaluation_of
from pipeline.segmentation.mask_scores import image_score
from pipeline.segmentation.mask_source import masks_of
from pipeline.segmentation.out_of_fold import Fitted, arrays_of, image_from
from pipeline.segmentation.predict import Prediction
from pipeline.task import Arrays, Evaluation, HeldOut, Make, MakeEach

ALONE = Recipe("GEO")  # of a single member the cheapest: no softmax


def evaluate_ensemble(
    run: Run, folder: Path, rows: pd.DataFrame, held_out: HeldOut, make_each: MakeEach
) -> tuple[Evaluation, dict[str, Any]]:
    """Returns the evaluation of the chosen method, and the content of ensemble.json.

    Args:
        folder: of the competition.
        rows: catalog rows of the out-of-fold images.
        held_out: numbers of the members that were not trained on an image, by its id.
        make_each: see `MakeEach`.
    """
    settings, competition = run.loaded.config.ensemble, run.loaded.competition
    chosen, is_fitted = configured_recipe(run), settings.weights == "fitted"
    recipes = [*map(Recipe, METHODS), *([chosen] if chosen.weights is not None else [])]
    index = [recipe.method for recipe in recipes].index(chosen.method)
    made = make_each("methods", image_maker(run, folder, rows, held_out, lambda image_id: recipes, index, is_fitted))
    bar = tqdm(rows["id"], desc="combine", leave=False, disable=None)
    results = [{name: array for name, array in made(image_id).items() if name != "mask"} for image_id in bar]
    by_method = {
        recipe.method: np.stack([result["methods"][number] for result in results])
        for number, recipe in enumerate(recipes)
    }
    scores = {
        recipe.method: np.stack([result["scores"][number] for result in results])
        for number, recipe in enumerate(recipes)
    }
    own = [result["own"] for result in results]
    fitted = fitted_weights(run, rows, results) if is_fitted else None
    del results
    if fitted is not None and fitted.adopted is not None:
        trial = fitted.trials.by_key[fitted.adopted]
        chosen = Recipe("WEIGHTED", trial.setting)

        def recipe_of(image_id: str) -> list[Recipe]:  # weights that were fitted without its sequence
            return [Recipe("WEIGHTED", trial.held_out.get(image_id, trial.setting))]

        made = make_each("fitted", image_maker(run, folder, rows, held_out, recipe_of))
        bar = tqdm(rows["id"], desc="combine", leave=False, disable=None)
        by_method["WEIGHTED"] = np.stack([made(image_id)["methods"][0] for image_id in bar])
        scores["WEIGHTED"] = np.stack([made(image_id)["scores"][0] for image_id in rows["id"]])
    evaluation = evaluation_of(run, folder, rows, by_method[chosen.method], lambda image_id: made(image_id)["mask"])
    found = findings(rows, held_out, scores, own, competition, len(settings.members))
    found["method"] = chosen.method
    found["weights"] = None if chosen.weights is None else chosen.weights.tolist()
    if fitted is not None:
        found["fit"] = {"kind": fitted.adopted or "equal", **fitted.trials.facts(), "words": fitted.words[0]}
    run.log("\n".join([findings_text(found), *(fitted.words if fitted else [])]))
    return evaluation, found


def configured_recipe(run: Run) -> Recipe:
    """Returns what the config says; WEIGHTED without weights is an equal share each."""
    settings = run.loaded.config.ensemble
    if settings.method != "WEIGHTED":
        return Recipe(settings.method)
    weights = settings.weights if isinstance(settings.weights, tuple) else (1.0,) * len(settings.members)
    return Recipe("WEIGHTED", normalised(weights))


def image_maker(
    run: Run,
    folder: Path,
    rows: pd.DataFrame,
    held_out: HeldOut,
    recipes_of: Callable[[str], Sequence[Recipe]],
    mask_index: int = 0,
    with_sample: bool = False,
) -> Make:
    """Returns a function from an image and its predictions to `methods`, `scores`, `own`, `mask`, and a member sample.

    `methods` has a confusion matrix per recipe, `scores` its score of each class, `own` that of each member alone;
    `mask` is by the recipe at `mask_index`. The sample is there if it is asked for.
    """
    competition, files = run.loaded.competition, {row.id: row for row in rows.itertuples()}
    true_masks, score = masks_of(run, folder), per_image_score(competition.score)

    def scored(
        predictions: Sequence[Prediction], recipes: Sequence[Recipe], truth: np.ndarray, chosen: int
    ) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """Returns confusion matrix and scores of each recipe, and the mask by the one at `chosen`."""
        if KINDS[score].needs == "masks" or truth.size <= competition.image.whole_px:
            masks = combine(predictions, recipes)
            confusions = [confusion_of(mask, truth, competition.num_classes) for mask in masks]
        else:  # of a large image, the masks of all recipes would not fit into the memory
            masks = [np.empty_like(truth) if number == chosen else truth for number in range(len(recipes))]
            confusions = [np.zeros((competition.num_classes,) * 2, np.int64) for _ in recipes]
            for top, bottom, rows in combined_rows(predictions, recipes):
                masks[chosen][top:bottom] = rows[chosen]
                for confusion_CC, own in zip(confusions, rows, strict=True):
                    confusion_CC += confusion_of(own, truth[top:bottom], competition.num_classes)
        scores = [
            image_score(score, confusion_CC, mask, truth, competition.score_options)
            for confusion_CC, mask in zip(confusions, masks, strict=True)
        ]
        return confusions, scores, masks[chosen]

    def make(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
        members, row = held_out[image_id], files[image_id]
        truth = true_masks.read(row)
        recipes = [for_members(recipe, members) for recipe in recipes_of(image_id)]
        own = np.stack([scored([one], [ALONE], truth, 0)[1][0] for one in predictions])
        confusions, scores, mask = scored(predictions, recipes, truth, mask_index)
        made = {"methods": np.stack(confusions), "scores": np.stack(scores), "own": own, "mask": mask}
        if with_sample:
            made |= arrays_of(sample_members(image_id, row.sequence, members, predictions, truth))
        return made

    return make


def fitted_weights(run: Run, rows: pd.DataFrame, results: Sequence[Arrays]) -> Fitted:
    """Returns what `fit_weights` finds on the out-of-fold images."""
    pairs = zip(rows.itertuples(), results, strict=True)
    images = [image_from(MemberSample, row.id, row.sequence, result) for row, result in pairs]
    competition, num_members = run.loaded.competition, len(run.loaded.config.ensemble.members)
    return fit_weights(images, num_members, competition.scored_indices, counted_score(competition.score))


def findings(
    rows: pd.DataFrame,
    held_out: HeldOut,
    by_method: Mapping[str, np.ndarray],
    own: Sequence[np.ndarray],
    competition: Competition,
    num_members: int,
) -> dict[str, Any]:
    """Returns, per method, the score and its gain over the members' mean on the same images, with their intervals.

    Args:
        by_method: the score of each class, float64 (I, C). Images without any, as the score is only of classes that
            an image shows, are left out.
        own: of each image, the score of each class by its members alone, float64 (J, C).

    Raises:
        UserError: no image has the score.
    """
    score, scored = per_image_score(competition.score), competition.scored_indices
    scores_IM = np.full((len(rows), num_members), np.nan)
    for scores_M, image_id, own_JC in zip(scores_IM, rows["id"], own, strict=True):
        scores_M[held_out[image_id]] = mean_scored(own_JC, scored)
    has_score_I = ~np.isnan(scores_IM).all(1)
    if not has_score_I.any():
        raise UserError(f"{LABELS[score]} has no value: no out-of-fold image shows a scored class")
    rows, scores_IM = rows[has_score_I], scores_IM[has_score_I]
    groups = group_numbers(rows["id"], rows["sequence"])
    is_known_IM = ~np.isnan(scores_IM)
    counts_I, single_I = is_known_IM.sum(1), np.nanmean(scores_IM, 1)
    members, methods = [], {}
    for scores_I, is_known_I in zip(scores_IM.T, is_known_IM.T, strict=True):
        mean = vars(interval(scores_I[is_known_I], groups[is_known_I])) if is_known_I.any() else None
        members.append({"images": int(is_known_I.sum()), "score": mean})
    for method, scores_IC in by_method.items():
        means_I = mean_scored(scores_IC[has_score_I], scored)
        gain = vars(interval(means_I - single_I, groups))
        methods[method] = {"score": vars(interval(means_I, groups)), "gain": gain}
    return {
        "images": len(rows),
        "sequences": len(np.unique(groups)),
        "score": score,
        "held_out": {"least": int(counts_I.min()), "mean": float(counts_I.mean()), "most": int(counts_I.max())},
        "single": vars(interval(single_I, groups)),
        "members": members,
        "methods": methods,
    }


def findings_text(found: Mapping[str, Any]) -> str:
    """Returns the table of methods as text."""
    held_out, label = found["held_out"], LABELS[found["score"]]
    lines = [
        f"{found['images']} images in {found['sequences']} sequences, each predicted by {held_out['least']} to "
        f"{held_out['most']} members that were not trained on it (mean {held_out['mean']:.1f})",
        f"  one member alone: {label} {found['single']['mean']:.4f}",
    ]
    for method, own in found["methods"].items():
        gain = Interval(**own["gain"])
        lines.append(f"  {method:<8} {label} {own['score']['mean']:.4f}, gain over one member {gain}")
    if held_out["most"] == 1:
        lines.append("With one such member per image, the gain of combining members cannot be measured.")
    return "\n".join(lines)
