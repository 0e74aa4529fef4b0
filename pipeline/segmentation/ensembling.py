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

from pipeline.engine.run import Run
from pipeline.prediction.fewer_members import member_order
from pipeline.prediction.gains import findings, findings_text
from pipeline.scores import KINDS, counted_score, per_image_score
from pipeline.segmentation.activation import activation_of
from pipeline.segmentation.diagnosis import EXAMINED, examine
from pipeline.segmentation.ensemble import METHODS, Recipe, combine, combined_rows, for_members, normalised
from pipeline.segmentation.ensemble_weights import (
    MemberSample,
    fit_weights,
    of_members,
    sample_members,
    ways_to_fit,
)
from pipeline.segmentation.evaluation import evaluation_of
from pipeline.segmentation.findings import Findings, new_findings
from pipeline.segmentation.mask_scores import image_score
from pipeline.segmentation.mask_source import masks_of
from pipeline.segmentation.object_decoding import with_objects
from pipeline.segmentation.out_of_fold import Fitted, arrays_of, image_from
from pipeline.segmentation.predict import Prediction
from pipeline.segmentation.seams import seams_of
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
    made = make_each("combined", image_maker(run, folder, rows, held_out, lambda image_id: recipes, index, is_fitted))
    results, examined = gathered(run, rows, made)
    by_method = {
        recipe.method: np.stack([result["methods"][number] for result in results])
        for number, recipe in enumerate(recipes)
    }
    scores = {
        recipe.method: np.stack([result["scores"][number] for result in results])
        for number, recipe in enumerate(recipes)
    }
    own = [result["own"] for result in results]
    samples = member_samples(rows, results) if is_fitted else []
    fitted = fitted_weights(run, samples) if is_fitted else None
    del results
    weights_without: Mapping[str, np.ndarray] = {}  # fitted ones, for each image without its sequence

    def final_of(image_id: str) -> Recipe:
        return Recipe("WEIGHTED", weights_without[image_id]) if image_id in weights_without else chosen

    if fitted is not None and fitted.adopted is not None:
        trial = fitted.trials.by_key[fitted.adopted]
        chosen, weights_without = Recipe("WEIGHTED", trial.setting), trial.held_out
        maker = image_maker(run, folder, rows, held_out, lambda image_id: [final_of(image_id)])
        made = make_each("combined_again", maker)
        results, examined = gathered(run, rows, made)
        by_method["WEIGHTED"], scores["WEIGHTED"] = (
            np.stack([result[name][0] for result in results]) for name in ("methods", "scores")
        )
    if not settings.stream:  # nothing was kept of an image, and all of them are drawn: the mask alone is combined again
        made = make_each("masks", mask_maker(run, held_out, final_of))
    evaluation = evaluation_of(
        run, folder, rows, by_method[chosen.method], lambda image_id: made(image_id)["mask"], examined
    )
    found = findings(rows, held_out, scores, own, competition, len(settings.members))
    found["method"] = chosen.method
    found["weights"] = None if chosen.weights is None else chosen.weights.tolist()
    if fitted is not None:
        found["fit"] = {"kind": fitted.adopted or "equal", **fitted.trials.facts(), "words": fitted.words[0]}
        found["fewer"] = weights_of_fewer(run, found, samples)
    run.log("\n".join([findings_text(found), *(fitted.words if fitted else [])]))
    return evaluation, found


def gathered(run: Run, rows: pd.DataFrame, made: Callable[[str], Arrays]) -> tuple[list[Arrays], Findings]:
    """Returns the small arrays of each image, and the sums of what all of them were examined for."""
    results, summed = [], new_findings(run)
    for image_id in tqdm(rows["id"], desc="combine", leave=False, disable=None):
        arrays = made(image_id)
        summed.add(image_id, arrays["mask"].shape[:2], arrays)
        results.append({name: array for name, array in arrays.items() if name not in ("mask", *EXAMINED)})
    return results, summed


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

    `methods` has the counts of pixels per recipe, `scores` its score of each class, `own` that of each member alone;
    `mask` is the mask, or object map, by the recipe at `mask_index`, for which the image is examined (`EXAMINED`). The
    sample is there if it is asked for.
    """
    competition, files = run.loaded.competition, {row.id: row for row in rows.itertuples()}
    true_masks, score = masks_of(run, folder), per_image_score(competition.score)
    activation, seams = activation_of(competition), seams_of(run)

    def scored(
        predictions: Sequence[Prediction],
        recipes: Sequence[Recipe],
        truth: np.ndarray,
        objects: np.ndarray,
        chosen: int = 0,
    ) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """Returns counts and scores of each recipe, and the mask, or object map, by the one at `chosen`."""
        num_classes, num_pixels = competition.num_classes, truth.shape[0] * truth.shape[1]
        needs_masks = KINDS[score].needs == "masks" or competition.has_objects
        if needs_masks or num_pixels <= competition.image.whole_px:
            combined = combine(predictions, recipes)
            counts = [activation.count_masks(mask, truth, num_classes) for mask in combined]
            masks = [with_objects(predictions, mask, competition) for mask in combined]
        else:  # of a large image, the masks of all recipes would not fit into the memory
            masks = [np.empty_like(truth) if number == chosen else truth for number in range(len(recipes))]
            counts = [np.int64(0)] * len(recipes)
            for top, bottom, rows in combined_rows(predictions, recipes):
                masks[chosen][top:bottom] = rows[chosen]
                pairs = zip(counts, rows, strict=True)
                counts = [sum_ + activation.count_masks(own, truth[top:bottom], num_classes) for sum_, own in pairs]
        scores = [
            image_score(score, activation.counted(own), mask, objects, competition.score_options)
            for own, mask in zip(counts, masks, strict=True)
        ]
        return counts, scores, masks[chosen]

    def make(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
        members, row = held_out[image_id], files[image_id]
        truth, objects = true_masks.read_both(row)
        recipes = [for_members(recipe, members) for recipe in recipes_of(image_id)]
        own = np.stack([scored([one], [ALONE], truth, objects)[1][0] for one in predictions])
        counts, scores, mask = scored(predictions, recipes, truth, objects, mask_index)
        made = {"methods": np.stack(counts), "scores": np.stack(scores), "own": own, "mask": mask}
        chosen = combine(predictions, [recipes[mask_index]])[0] if competition.has_objects else mask
        made |= examine(predictions, chosen, truth, seams(*truth.shape[:2]))
        if with_sample:
            made |= arrays_of(sample_members(image_id, row.sequence, members, predictions, truth))
        return made

    return make


def mask_maker(run: Run, held_out: HeldOut, recipe_of: Callable[[str], Recipe]) -> Make:
    """Returns a function from an image and its predictions to `mask`, as `image_maker` has it, and nothing else."""
    competition = run.loaded.competition

    def make(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
        recipe = for_members(recipe_of(image_id), held_out[image_id])
        return {"mask": with_objects(predictions, combine(predictions, [recipe])[0], competition)}

    return make


def member_samples(rows: pd.DataFrame, results: Sequence[Arrays]) -> list[MemberSample]:
    """Returns the sample of each out-of-fold image, from what `image_maker` made of them."""
    pairs = zip(rows.itertuples(), results, strict=True)
    return [image_from(MemberSample, row.id, row.sequence, result) for row, result in pairs]


def fitted_weights(run: Run, images: Sequence[MemberSample]) -> Fitted:
    """Returns what `fit_weights` finds on the out-of-fold images."""
    competition, num_members = run.loaded.competition, len(run.loaded.config.ensemble.members)
    return fit_weights(images, num_members, competition.scored_indices, counted_score(competition.score))


def weights_of_fewer(run: Run, found: Mapping[str, Any], images: Sequence[MemberSample]) -> list[dict[str, Any]]:
    """Returns the weights fitted for the best two members alone, the best three and so on, for a time limit.

    They are fitted in the way that was adopted for all members, on all images, without a trial of their own, as trials
    take longer than all else. Where no way was adopted, the weights are equal and there is nothing to fit.
    """
    kind, competition = found["fit"]["kind"], run.loaded.competition
    order, fewer = member_order(run, found), []
    for num_members in range(2, len(order)) if kind != "equal" else ():
        numbers = sorted(order[:num_members])
        own = [left for image in images if (left := of_members(image, numbers)) and len(left.members) > 1]
        if own:
            fit = ways_to_fit(num_members, competition.scored_indices, counted_score(competition.score))[kind]
            fewer.append({"members": numbers, "weights": fit(own).tolist(), "kind": kind})
    return fewer
