"""`evaluate` of an ensemble: combines the members on images that they did not train on, and scores."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pipeline.engine.run import Run
from pipeline.files import sha256_text, write_atomic
from pipeline.paths import ENSEMBLE, MEMBERS
from pipeline.segmentation.ensemble import METHODS, Recipe, normalised
from pipeline.work.combining import forget_streamed, make_each
from pipeline.work.inputs import competition_folder
from pipeline.work.judging import findings, findings_text, fitted_weights, judge_maker, own_scores
from pipeline.work.members import held_out_rows
from pipeline.work.outcome import write_outcome


def evaluate(run: Run) -> None:
    """Writes the files of an evaluation, and `ensemble.json` with the score and gain of each method."""
    folder, is_fitted = competition_folder(run), run.loaded.config.ensemble.weights == "fitted"
    rows, judges = held_out_rows(run)
    chosen, scored = _recipe(run), run.loaded.competition.scored_indices
    recipes = [*map(Recipe, METHODS), *([chosen] if chosen.weights is not None else [])]
    place = [recipe.method for recipe in recipes].index(chosen.method)
    judge = judge_maker(run, folder, rows, judges, lambda image_id: recipes, place, is_fitted)
    judged = make_each(run, "valid", judges, judge, "judged")
    bar = tqdm(rows["id"], desc="combine", leave=False, disable=None)
    results = [{name: array for name, array in judged(image_id).items() if name != "mask"} for image_id in bar]
    by_method = {
        recipe.method: np.stack([result["methods"][index] for result in results])
        for index, recipe in enumerate(recipes)
    }
    own = own_scores(rows["id"], judges, results, len(run.loaded.config.ensemble.members), scored)
    fitted = fitted_weights(run, rows, judges, results) if is_fitted else None
    del results
    if fitted is not None and fitted.by_image:
        chosen = Recipe("WEIGHTED", fitted.weights)

        def unseen(image_id: str) -> list[Recipe]:  # weights that were fitted without its sequence
            return [Recipe("WEIGHTED", fitted.by_image.get(image_id, fitted.weights))]

        judged = make_each(run, "valid", judges, judge_maker(run, folder, rows, judges, unseen), "fitted")
        bar = tqdm(rows["id"], desc="combine", leave=False, disable=None)
        by_method["WEIGHTED"] = np.stack([judged(image_id)["methods"][0] for image_id in bar])
    confusion_PCC = torch.from_numpy(by_method[chosen.method])
    write_outcome(run, folder, rows, confusion_PCC, _origin(run), lambda image_id: judged(image_id)["mask"])
    found = findings(rows, judges, by_method, own, scored)
    found["method"] = chosen.method
    found["weights"] = None if chosen.weights is None else chosen.weights.tolist()
    if fitted is not None:
        gains = {kind: vars(gain) for kind, gain in fitted.gains.items()}
        found["fit"] = {"kind": fitted.kind, "gains": gains, "in_sample": dict(fitted.in_sample)}
        found["fit"]["words"] = fitted.words
    write_atomic(run.paths / ENSEMBLE, json.dumps(found, indent=1))
    forget_streamed(run)
    run.log(findings_text(found))


def _recipe(run: Run) -> Recipe:
    """Returns what the config says; WEIGHTED without weights is an equal share each."""
    settings = run.loaded.config.ensemble
    if settings.method != "WEIGHTED":
        return Recipe(settings.method)
    weights = settings.weights if isinstance(settings.weights, tuple) else (1.0,) * len(settings.members)
    return Recipe("WEIGHTED", normalised(weights))


def _origin(run: Run) -> dict[str, Any]:
    """Returns what metrics.json says of split and checkpoint: those of the members."""
    members = json.loads((run.paths / MEMBERS).read_text())
    kinds = sorted({(member["split"] or {}).get("by", "?") for member in members})
    hashes = [member["checkpoint_sha256"] for member in members]
    checkpoint = {"epoch": None, "valid_loss": None, "sha256": sha256_text(" ".join(hashes))}
    return {"split": {"by": " and ".join(kinds), "index": None}, "checkpoint": checkpoint}
