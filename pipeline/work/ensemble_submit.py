"""`submit` of an ensemble: combines the members on the test images, encodes and checks the submission."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.data.catalog import read_catalog
from pipeline.engine.run import Run
from pipeline.inference.decoding import decode_with_rules
from pipeline.inference.ensemble import Recipe, for_members
from pipeline.inference.offsets import with_factors
from pipeline.inference.predict import Prediction
from pipeline.paths import ENSEMBLE, TEST_CATALOG
from pipeline.report.read import read_json
from pipeline.work.combining import Arrays, forget_streamed, make_each
from pipeline.work.members import held_out_rows
from pipeline.work.outcome import Look, fitted_decoding, write_checked_submission


def submit(run: Run) -> None:
    """Writes the submission, the `.json` of its origin beside it, and `submission.json`."""
    found = read_json(run.paths / ENSEMBLE)
    fitted = Recipe(found["method"], None if found["weights"] is None else np.array(found["weights"]))
    rows, judges = held_out_rows(run)

    def look_with(name: str, look: Look) -> Callable[[str], Arrays]:
        return make_each(run, "valid", judges, look, name)

    decoding = fitted_decoding(run, rows, lambda image_id: for_members(fitted, judges[image_id]), look_with)
    everyone = range(len(run.loaded.config.ensemble.members))
    recipe = fitted if decoding.factors is None else with_factors(fitted, decoding.factors, len(everyone))
    wanted = dict.fromkeys(read_catalog(run.paths / TEST_CATALOG)["id"], everyone)

    def decode(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
        return {"mask": decode_with_rules(predictions, recipe, decoding.rules)}

    decoded = make_each(run, "test", wanted, decode, "test")
    write_checked_submission(run, lambda image_id: decoded(image_id)["mask"], decoding)
    forget_streamed(run)
