"""The decoding of a run: factors or thresholds of probabilities, and rules for small classes, fitted out of fold.

In: predictions of images that their members were not trained on. Out: plain values for decode.json, and from these the
function that turns the predictions of a test image into its mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.engine.run import Run
from pipeline.scores import counted_score, per_image_score
from pipeline.segmentation.decoding import (
    DecodedImage,
    Rule,
    decode_with_rules,
    fit_suppression,
    measure_image,
)
from pipeline.segmentation.ensemble import Recipe, combine, for_members, found_recipe
from pipeline.segmentation.mask_source import masks_of
from pipeline.segmentation.offsets import fit_offsets, sample_combined, with_factors
from pipeline.segmentation.out_of_fold import Fitted, arrays_of, image_from
from pipeline.segmentation.pixel_sample import THRESHOLD, PixelSample
from pipeline.segmentation.predict import Prediction, decode
from pipeline.segmentation.thresholds import ThresholdImage, count_probs, fit_thresholds
from pipeline.task import Arrays, HeldOut, MakeEach


@dataclass(frozen=True)
class OutOfFold:
    """The out-of-fold images that something is fitted on.

    Attributes:
        rows: of the catalog.
        recipe_of: how the members of an image are combined, by its id.
        truth_of: the mask of a row.
        make_each: see `MakeEach`.
    """

    rows: pd.DataFrame
    recipe_of: Callable[[str], Recipe]
    truth_of: Callable[[Any], np.ndarray]
    make_each: MakeEach

    def reduced(self, kind: type, name: str, reduce: Callable[..., Any]) -> list:
        """Returns each image as `kind`, made by `reduce(id, sequence, predictions, recipe, truth)` in a pass `name`."""
        by_id = {row.id: row for row in self.rows.itertuples()}

        def make(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
            row = by_id[image_id]
            return arrays_of(reduce(image_id, row.sequence, predictions, self.recipe_of(image_id), self.truth_of(row)))

        made = self.make_each(name, make)
        bar = tqdm(by_id.items(), total=len(by_id), desc=name, leave=False, disable=None)
        return [image_from(kind, image_id, row.sequence, made(image_id)) for image_id, row in bar]


def fit_decoding(
    run: Run,
    folder: Path,
    rows: pd.DataFrame,
    held_out: HeldOut,
    found: Mapping[str, Any] | None,
    make_each: MakeEach,
) -> dict[str, Any]:
    """Returns what DECODE asks for, fitted on out-of-fold images, as the content of decode.json.

    Args:
        folder: of the competition.
        rows: catalog rows of the out-of-fold images.
        held_out: numbers of the members that were not trained on an image, by its id.
        found: of an ensemble, the content of ensemble.json.
        make_each: see `MakeEach`.
    """
    whole = Recipe("AP") if found is None else found_recipe(found)
    settings, competition = run.loaded.config.decode, run.loaded.competition
    classes, scored, score = competition.class_names, competition.scored_indices, per_image_score(competition.score)
    images = OutOfFold(
        rows, lambda image_id: for_members(whole, held_out[image_id]), masks_of(run, folder).read, make_each
    )
    facts, change = {}, lambda recipe, num_members: recipe
    if settings.offsets == "fitted":
        fit = _fit_thresholds if competition.is_multilabel else _fit_factors
        facts, change = fit(run, images)

    def measure(image_id: str, sequence: str, predictions: Sequence[Prediction], recipe: Recipe, truth: np.ndarray):
        mask = combine(predictions, [change(recipe, len(predictions))])[0]
        return measure_image(image_id, sequence, predictions, mask, truth, score, competition.score_options)

    if settings.suppress == "fitted":
        is_kept = not competition.is_multilabel
        dropped = fit_suppression(images.reduced(DecodedImage, "rules", measure), classes, scored, score, is_kept)
        facts["rules"] = [vars(rule) | {"class": classes[rule.class_index]} for rule in dropped.adopted]
        facts |= _fit_facts(run, dropped, classes)
    return facts


Change = Callable[[Recipe, int], Recipe]  # a recipe and the number of its members to the recipe as fitted


def _fit_factors(run: Run, images: OutOfFold) -> tuple[dict[str, Any], Change]:
    """Returns the content of decode.json on factors of probabilities, and what they change."""
    competition = run.loaded.competition
    classes, score = competition.class_names, counted_score(competition.score)
    sampled = images.reduced(PixelSample, "offsets", sample_combined)
    fitted = fit_offsets(sampled, classes, competition.scored_indices, score)
    own = {name: value for name, value in zip(classes, fitted.adopted.tolist(), strict=True) if value != 1}
    facts = {"offsets": {**_fit_facts(run, fitted, classes), "factors": own}}
    return facts, lambda recipe, number: with_factors(recipe, fitted.adopted, number) if own else recipe


def _fit_thresholds(run: Run, images: OutOfFold) -> tuple[dict[str, Any], Change]:
    """Returns the content of decode.json on thresholds of probabilities, and what they change."""
    competition = run.loaded.competition
    classes, score = competition.class_names, counted_score(competition.score)
    counted = images.reduced(ThresholdImage, "thresholds", count_probs)
    fitted = fit_thresholds(counted, classes, competition.scored_indices, score)
    own = {name: value for name, value in zip(classes, fitted.adopted.tolist(), strict=True) if value != THRESHOLD}
    facts = {"thresholds": {**_fit_facts(run, fitted, classes), "of": own}}
    return facts, lambda recipe, number: replace(recipe, thresholds=fitted.adopted)


def decoder(
    run: Run, found: Mapping[str, Any] | None, facts: Mapping[str, Any]
) -> Callable[[Sequence[Prediction]], np.ndarray]:
    """Returns a function from the predictions of an image to its mask: uint8 (height, width), or planes.

    Args:
        found: of an ensemble, the content of ensemble.json.
        facts: what `fit_decoding` returned; empty: the most probable class per pixel, or all from 0.5 on.
    """
    if found is None and not facts:
        return lambda predictions: decode(predictions[0])
    recipe = Recipe("AP") if found is None else found_recipe(found)
    num_members = 1 if found is None else len(run.loaded.config.ensemble.members)
    rules = tuple(Rule(rule["class_index"], rule["measure"], rule["least"]) for rule in facts.get("rules", ()))
    factors, own = facts.get("offsets", {}).get("factors", {}), facts.get("thresholds", {}).get("of", {})
    classes = run.loaded.competition.class_names
    if factors:
        recipe = with_factors(recipe, np.array([factors.get(name, 1.0) for name in classes]), num_members)
    if own:
        recipe = replace(recipe, thresholds=np.array([own.get(name, THRESHOLD) for name in classes]))
    return lambda predictions: decode_with_rules(predictions, recipe, rules)


def origin_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Returns what a submission's origin says of its decoding."""
    origin = {}
    if "rules" in facts:
        origin["dropped_where_small"] = ", ".join(rule["class"] for rule in facts["rules"]) or "no class"
    if "offsets" in facts:
        factors = facts["offsets"]["factors"].items()
        origin["probabilities"] = ", ".join(f"{name} times {factor:g}" for name, factor in factors) or "as predicted"
    if "thresholds" in facts:
        own = facts["thresholds"]["of"].items()
        origin["thresholds"] = ", ".join(f"{name} {value:g}" for name, value in own) or f"{THRESHOLD} for all classes"
    return origin


def _fit_facts(run: Run, fitted: Fitted, classes: Sequence[str]) -> dict[str, Any]:
    """Logs what was decided; returns it for decode.json."""
    run.log("\n".join(fitted.words))
    facts = fitted.trials.facts(classes.__getitem__)
    return {**facts, "survived": fitted.trials.survived, "words": fitted.words[0]}
