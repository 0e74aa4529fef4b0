"""`submit`: decodes the test predictions, writes the submission and checks what was written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.engine.run import Run
from pipeline.inference.decoding import decode_with_rules
from pipeline.inference.ensemble import Recipe
from pipeline.inference.offsets import with_factors
from pipeline.inference.predict import decode
from pipeline.inference.probability_store import ProbabilityStore
from pipeline.paths import PROBS
from pipeline.training.inputs import split_rows
from pipeline.work.outcome import Arrays, Look, fitted_decoding, write_checked_submission


def submit(run: Run) -> None:
    """Writes the submission, the `.json` of its origin beside it, and `submission.json`."""
    recipe = Recipe("AP")
    store, held_out = (ProbabilityStore(run.paths / PROBS[subset]) for subset in ("test", "valid"))

    def look_with(name: str, look: Look) -> Callable[[str], Arrays]:
        return lambda image_id: look(image_id, [held_out.view(image_id)])

    decoding = fitted_decoding(run, split_rows(run.paths, "valid"), lambda image_id: recipe, look_with)
    if decoding.factors is not None:
        recipe = with_factors(recipe, decoding.factors, 1)
    is_plain = decoding.factors is None and not decoding.rules

    def mask_of(image_id: str) -> np.ndarray:
        prediction = store[image_id]
        return decode(prediction) if is_plain else decode_with_rules([prediction], recipe, decoding.rules)

    write_checked_submission(run, mask_of, decoding)
