"""The decoding of a run: factors or thresholds of probabilities, rules for classes and their components, and objects.

All of it is fitted on out-of-fold images; rules for components may also be given, and are then measured there.

In: predictions of images that their members were not trained on. Out: plain values for decode.json, and from these the
function that turns the predictions of a test image into its mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.config.competition import Competition
from pipeline.config.component_rules import ComponentRule, from_facts, parse_components, rule_text
from pipeline.engine.run import Run
from pipeline.scores import LABELS, counted_score, mean_scored, per_image_score
from pipeline.segmentation.component_fitting import (
    ComponentImage,
    JointGain,
    fit_components,
    given_facts,
    key_name,
    try_components,
)
from pipeline.segmentation.components import Changing, with_components
from pipeline.segmentation.decoding import (
    DecodedImage,
    Rule,
    decode_with_rules,
    fit_suppression,
    measure_image,
    suppressed,
)
from pipeline.segmentation.ensemble import Recipe, combine, for_members, found_recipe
from pipeline.segmentation.mask_scores import image_score
from pipeline.segmentation.mask_source import MaskSource, masks_of
from pipeline.segmentation.object_decoding import with_objects
from pipeline.segmentation.object_fitting import ObjectTrial, fit_objects, try_objects
from pipeline.segmentation.offsets import fit_offsets, sample_combined, with_factors
from pipeline.segmentation.out_of_fold import Fitted, arrays_of, image_from
from pipeline.segmentation.pixel_sample import THRESHOLD, PixelSample
from pipeline.segmentation.predict import Prediction, decode
from pipeline.segmentation.thresholds import ThresholdImage, count_probs, fit_thresholds
from pipeline.task import HeldOut, MakeEach


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
    settings, competition = run.loaded.config.decode, run.loaded.competition
    classes, scored, score = competition.class_names, competition.scored_indices, per_image_score(competition.score)
    recipe = Recipe("AP") if found is None else found_recipe(found)
    by_id = {row.id: row for row in rows.itertuples()}
    images, facts = _OutOfFold(competition, masks_of(run, folder), by_id, held_out, recipe, make_each), {}
    if settings.offsets == "fitted":
        fit = _fit_thresholds if competition.is_multilabel else _fit_factors
        facts, images.change = fit(run, images)
    if settings.suppress == "fitted":
        measured, keeps_largest = images.each(DecodedImage, "rules", images.measure), not competition.is_multilabel
        dropped = fit_suppression(measured, classes, scored, score, keeps_largest)
        facts["rules"] = [vars(rule) | {"class": classes[rule.class_index]} for rule in dropped.adopted]
        facts |= _fit_facts(run, dropped, classes.__getitem__)
        images.rules = dropped.adopted
    if settings.components != "none":
        facts["components"] = _components_facts(run, images)
        images.components = component_rules(facts, classes)
    if settings.objects == "fitted":
        told = fit_objects(images.each(ObjectTrial, "objects", images.try_objects), competition.objects, score)
        facts["objects"] = {**_fit_facts(run, told), "seed": told.adopted.seed, "min_size": told.adopted.min_size}
    return facts


Change = Callable[[Recipe, int], Recipe]  # a recipe and the number of its members to the recipe as fitted


@dataclass
class _OutOfFold:
    """The out-of-fold images, and what the fits need of each.

    Attributes:
        rows: those of the catalog by image id.
        held_out, make_each: as of `fit_decoding`.
        recipe: how all members are combined.
        change: what was fitted so far changes in it.
        rules: those that drop classes, as fitted so far.
        components: those for components, likewise.
    """

    competition: Competition
    masks: MaskSource
    rows: Mapping[str, Any]
    held_out: HeldOut
    recipe: Recipe
    make_each: MakeEach
    change: Change = field(default=lambda recipe, num_members: recipe)
    rules: tuple[Rule, ...] = ()
    components: tuple[ComponentRule, ...] = ()

    def each(self, kind: type, name: str, make: Callable[[str, Sequence[Prediction]], Any]) -> list:
        """Returns what `make` returns of each image, which is of `kind`."""
        made = self.make_each(name, lambda image_id, predictions: arrays_of(make(image_id, predictions)))
        bar = tqdm(self.rows.values(), total=len(self.rows), desc=name, leave=False, disable=None)
        return [image_from(kind, row.id, row.sequence, made(row.id)) for row in bar]

    def reduced(self, kind: type, name: str, reduce: Callable[..., Any]) -> list:
        """Returns what `reduce(id, sequence, predictions, recipe, truth)` makes of each image, which is of `kind`."""

        def make(image_id: str, predictions: Sequence[Prediction]) -> Any:
            row, recipe = self.rows[image_id], for_members(self.recipe, self.held_out[image_id])
            return reduce(image_id, row.sequence, predictions, recipe, self.masks.read(row))

        return self.each(kind, name, make)

    def measure(self, image_id: str, predictions: Sequence[Prediction]) -> DecodedImage:
        row, mask = self.rows[image_id], self._mask_of(image_id, predictions)
        truth, objects = self.masks.read_both(row)
        score, options = per_image_score(self.competition.score), self.competition.score_options
        pair = (with_objects(predictions, mask, self.competition), objects)
        return measure_image(image_id, row.sequence, predictions, mask, truth, score, options, pair)

    def try_objects(self, image_id: str, predictions: Sequence[Prediction]) -> ObjectTrial:
        row, mask = self.rows[image_id], self._mask_of(image_id, predictions)
        truth, objects = self.masks.read_both(row)
        score, options = per_image_score(self.competition.score), self.competition.score_options
        activation = predictions[0].activation
        counted = activation.counted(activation.count_masks(mask, truth, self.competition.num_classes))

        def score_of(map_HW: np.ndarray) -> np.ndarray:
            return image_score(score, counted, map_HW, objects, options)

        return try_objects(image_id, row.sequence, predictions, mask, self.competition, score_of)

    def try_components(self, image_id: str, predictions: Sequence[Prediction]) -> ComponentImage:
        recipe, scored = self._recipe_of(image_id, predictions), self.competition.scored_indices
        mask, excluded = suppressed(predictions, recipe, self.rules)
        changing = Changing(predictions, recipe, mask, excluded, scored)
        score_of = self._score_of(image_id, predictions)
        return try_components(image_id, self.rows[image_id].sequence, changing, score_of, scored)

    def joint(self, name: str, rules_of: Callable[[str], Sequence[ComponentRule]]) -> list[JointGain]:
        """Returns what rules for components change in the score of each image, in a pass of this name."""
        scored = self.competition.scored_indices

        def make(image_id: str, predictions: Sequence[Prediction]) -> JointGain:
            recipe, score_of = self._recipe_of(image_id, predictions), self._score_of(image_id, predictions)
            mask, excluded = suppressed(predictions, recipe, self.rules)
            changed = with_components(predictions, recipe, mask, rules_of(image_id), excluded)
            gain = mean_scored(score_of(changed), scored) - mean_scored(score_of(mask), scored)
            return JointGain(image_id, self.rows[image_id].sequence, np.array([gain]))

        return self.each(JointGain, name, make)

    def _score_of(self, image_id: str, predictions: Sequence[Prediction]) -> Callable[[np.ndarray], np.ndarray]:
        """Returns a function from a mask of an image to its score of each class, float64 (C,)."""
        truth, objects = self.masks.read_both(self.rows[image_id])
        competition, activation = self.competition, predictions[0].activation
        score, options = per_image_score(competition.score), competition.score_options

        def score_of(mask: np.ndarray) -> np.ndarray:
            counted = activation.counted(activation.count_masks(mask, truth, competition.num_classes))
            return image_score(score, counted, with_objects(predictions, mask, competition), objects, options)

        return score_of

    def _mask_of(self, image_id: str, predictions: Sequence[Prediction]) -> np.ndarray:
        recipe = self._recipe_of(image_id, predictions)
        if self.components:
            return decode_with_rules(predictions, recipe, self.rules, self.components)
        return combine(predictions, [recipe])[0]

    def _recipe_of(self, image_id: str, predictions: Sequence[Prediction]) -> Recipe:
        return self.change(for_members(self.recipe, self.held_out[image_id]), len(predictions))


def _fit_factors(run: Run, images: _OutOfFold) -> tuple[dict[str, Any], Change]:
    """Returns the content of decode.json on factors of probabilities, and what they change."""
    competition = run.loaded.competition
    classes, score = competition.class_names, counted_score(competition.score)
    sampled = images.reduced(PixelSample, "offsets", sample_combined)
    fitted = fit_offsets(sampled, classes, competition.scored_indices, score)
    own = {name: value for name, value in zip(classes, fitted.adopted.tolist(), strict=True) if value != 1}
    facts = {"offsets": {**_fit_facts(run, fitted, classes.__getitem__), "factors": own}}
    return facts, lambda recipe, number: with_factors(recipe, fitted.adopted, number) if own else recipe


def _fit_thresholds(run: Run, images: _OutOfFold) -> tuple[dict[str, Any], Change]:
    """Returns the content of decode.json on thresholds of probabilities, and what they change."""
    competition = run.loaded.competition
    classes, score = competition.class_names, counted_score(competition.score)
    counted = images.reduced(ThresholdImage, "thresholds", count_probs)
    fitted = fit_thresholds(counted, classes, competition.scored_indices, score)
    own = {name: value for name, value in zip(classes, fitted.adopted.tolist(), strict=True) if value != THRESHOLD}
    facts = {"thresholds": {**_fit_facts(run, fitted, classes.__getitem__), "of": own}}
    return facts, lambda recipe, number: replace(recipe, thresholds=fitted.adopted)


def _components_facts(run: Run, images: _OutOfFold) -> dict[str, Any]:
    """Returns the content of decode.json on rules for components: fitted ones, or the gain of those that are given."""
    competition, text = run.loaded.competition, run.loaded.config.decode.components
    classes, scored, score = competition.class_names, competition.scored_indices, per_image_score(competition.score)
    if text == "fitted":
        tried = images.each(ComponentImage, "components", images.try_components)
        fitted = fit_components(tried, classes, scored, score, partial(images.joint, "components together"))
        rules, facts = fitted.adopted, _fit_facts(run, fitted, partial(key_name, classes))
    else:
        rules = parse_components(text, classes, scored)
        facts = given_facts(images.joint("components", lambda image_id: rules), LABELS[score])
        run.log(facts["words"])
    return {**facts, "is_given": text != "fitted", "rules": [rule.facts(classes[rule.class_index]) for rule in rules]}


def component_rules(facts: Mapping[str, Any], classes: Sequence[str]) -> tuple[ComponentRule, ...]:
    """Returns the rules for components that decode.json has."""
    return tuple(from_facts(own, classes) for own in facts.get("components", {}).get("rules", ()))


def decoder(
    run: Run, found: Mapping[str, Any] | None, facts: Mapping[str, Any]
) -> Callable[[Sequence[Prediction]], np.ndarray]:
    """Returns a function from the predictions of an image to its mask, uint8 (height, width), planes or object map.

    Args:
        found: of an ensemble, the content of ensemble.json.
        facts: what `fit_decoding` returned; empty: the most probable class per pixel, or all from 0.5 on.
    """
    others, own = {name: fact for name, fact in facts.items() if name != "objects"}, facts.get("objects")
    mask_of, competition = _mask_decoder(run, found, others), run.loaded.competition
    settings = (
        competition.objects if own is None else replace(competition.objects, seed=own["seed"], min_size=own["min_size"])
    )
    return lambda predictions: with_objects(predictions, mask_of(predictions), competition, settings)


def _mask_decoder(
    run: Run, found: Mapping[str, Any] | None, facts: Mapping[str, Any]
) -> Callable[[Sequence[Prediction]], np.ndarray]:
    if found is None and not facts:
        return lambda predictions: decode(predictions[0])
    recipe = Recipe("AP") if found is None else found_recipe(found)
    num_members = 1 if found is None else len(found["members"])
    rules = tuple(Rule(rule["class_index"], rule["measure"], rule["least"]) for rule in facts.get("rules", ()))
    factors, own = facts.get("offsets", {}).get("factors", {}), facts.get("thresholds", {}).get("of", {})
    classes = run.loaded.competition.class_names
    if factors:
        recipe = with_factors(recipe, np.array([factors.get(name, 1.0) for name in classes]), num_members)
    if own:
        recipe = replace(recipe, thresholds=np.array([own.get(name, THRESHOLD) for name in classes]))
    of_components = component_rules(facts, classes)
    return lambda predictions: decode_with_rules(predictions, recipe, rules, of_components)


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
    if "components" in facts:
        own = (rule_text(rule) for rule in facts["components"]["rules"])
        origin["components"] = " + ".join(own) or "as they are"
    if "objects" in facts:
        origin["objects"] = f"SEED {facts['objects']['seed']:g}, MIN_SIZE {facts['objects']['min_size']}"
    return origin


def _fit_facts(run: Run, fitted: Fitted, name_of: Callable[[Any], str] = str) -> dict[str, Any]:
    """Logs what was decided; returns it for decode.json."""
    run.log("\n".join(fitted.words))
    facts = fitted.trials.facts(name_of)
    return {**facts, "survived": fitted.trials.survived, "words": fitted.words[0]}
