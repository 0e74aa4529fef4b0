"""The decoding of a run: factors on probabilities and rules for small classes, fitted on out-of-fold images.

In: predictions of images that their members were not trained on. Out: plain values for decode.json, and from these the
function that turns the predictions of a test image into its mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from pipeline.segmentation.pixel_sample import PixelSample
from pipeline.segmentation.predict import Prediction, decode
from pipeline.task import Arrays, HeldOut, MakeEach


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

    def recipe_of(image_id: str) -> Recipe:
        return for_members(whole, held_out[image_id])

    settings, competition = run.loaded.config.decode, run.loaded.competition
    classes, scored, score = competition.class_names, competition.scored_indices, per_image_score(competition.score)
    masks, facts, factors = masks_of(run, folder), {}, None
    files, by_id = rows.set_index("id"), {row.id: row for row in rows.itertuples()}

    def truth_of(image_id: str) -> np.ndarray:
        return masks.read(by_id[image_id])

    def sample(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
        sequence, truth = files.at[image_id, "sequence"], truth_of(image_id)
        return arrays_of(sample_combined(image_id, sequence, predictions, recipe_of(image_id), truth))

    def measure(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
        recipe, sequence = recipe_of(image_id), files.at[image_id, "sequence"]
        mask = combine(predictions, [recipe if factors is None else with_factors(recipe, factors, len(predictions))])[0]
        return arrays_of(
            measure_image(image_id, sequence, predictions, mask, truth_of(image_id), score, competition.score_options)
        )

    def images_of(kind: type, name: str, make: Callable[[str, Sequence[Prediction]], Arrays]) -> list:
        made = make_each(name, make)
        bar = tqdm(files["sequence"].items(), total=len(files), desc=name, leave=False, disable=None)
        return [image_from(kind, image_id, sequence, made(image_id)) for image_id, sequence in bar]

    if settings.offsets == "fitted":
        moved = fit_offsets(
            images_of(PixelSample, "offsets", sample), classes, scored, counted_score(competition.score)
        )
        factors = moved.adopted if (moved.adopted != 1).any() else None
        pairs = zip(classes, moved.adopted.tolist(), strict=True)
        own = {name: factor for name, factor in pairs if factor != 1}
        facts["offsets"] = {**_fit_facts(run, moved, classes), "factors": own}
    if settings.suppress == "fitted":
        dropped = fit_suppression(images_of(DecodedImage, "rules", measure), classes, scored, score)
        facts["rules"] = [vars(rule) | {"class": classes[rule.class_index]} for rule in dropped.adopted]
        facts |= _fit_facts(run, dropped, classes)
    return facts


def decoder(
    run: Run, found: Mapping[str, Any] | None, facts: Mapping[str, Any]
) -> Callable[[Sequence[Prediction]], np.ndarray]:
    """Returns a function from the predictions of an image to its mask, uint8 (height, width).

    Args:
        found: of an ensemble, the content of ensemble.json.
        facts: what `fit_decoding` returned; empty: the most probable class per pixel.
    """
    if found is None and not facts:
        return lambda predictions: decode(predictions[0])
    recipe = Recipe("AP") if found is None else found_recipe(found)
    num_members = 1 if found is None else len(found["members"])
    rules = tuple(Rule(rule["class_index"], rule["measure"], rule["least"]) for rule in facts.get("rules", ()))
    factors = facts.get("offsets", {}).get("factors", {})
    if factors:
        factors_C = np.array([factors.get(name, 1.0) for name in run.loaded.competition.class_names])
        recipe = with_factors(recipe, factors_C, num_members)
    return lambda predictions: decode_with_rules(predictions, recipe, rules)


def origin_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Returns what a submission's origin says of its decoding."""
    origin = {}
    if "rules" in facts:
        origin["dropped_where_small"] = ", ".join(rule["class"] for rule in facts["rules"]) or "no class"
    if "offsets" in facts:
        factors = facts["offsets"]["factors"].items()
        origin["probabilities"] = ", ".join(f"{name} times {factor:g}" for name, factor in factors) or "as predicted"
    return origin


def _fit_facts(run: Run, fitted: Fitted, classes: Sequence[str]) -> dict[str, Any]:
    """Logs what was decided; returns it for decode.json."""
    run.log("\n".join(fitted.words))
    facts = fitted.trials.facts(classes.__getitem__)
    return {**facts, "survived": fitted.trials.survived, "words": fitted.words[0]}
