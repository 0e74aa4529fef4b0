"""What each stage of an ensemble does: no training, its members' predictions combined. The table is in `stages.py`.

Heavy packages are imported inside the functions, so that a stage which is skipped costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline.chain import Run, Stage
from pipeline.config.load import Loaded
from pipeline.files import atomic_path, sha256_text, write_atomic
from pipeline.report.read import read_json
from pipeline.work.combining import Arrays, check_room, forget_streamed, make_each, store_facts
from pipeline.work.experiment import competition_folder
from pipeline.work.held_out import HeldOut, findings, findings_text, fitted_weights, image_maker, own_scores
from pipeline.work.members import (
    held_out_table,
    leaked_pairs,
    member_facts,
    member_runs,
    predict_members,
    require_alike,
    require_trained,
)
from pipeline.work.outcome import Make, fitted_decoding, write_checked_submission, write_outcome

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.inference.ensemble import Recipe
    from pipeline.inference.predict import Prediction


def predict(run: Run, stages_of: Callable[[Loaded], tuple[Stage, ...]]) -> None:
    """Makes sure that every member has predicted; writes what they are and which images they were not trained on.

    Raises:
        UserError: a member is not trained, or not as its config says now; with the commands to type.
    """
    from pipeline.data.catalog import read_catalog
    from pipeline.data.statistics import class_table

    members, is_streamed = member_runs(run), run.loaded.config.ensemble.stream
    require_trained(members, stages_of, tqdm.write)
    if not is_streamed:
        check_room(run, stages_of, tqdm.write)
        predict_members(members, stages_of, tqdm.write)
    require_alike(members, is_streamed)
    catalog = read_catalog(members[0].paths / "catalog.csv")
    split = held_out_table(members, catalog)
    tables = {"catalog.csv": catalog, "split.csv": split, "leakage.csv": leaked_pairs(members, _held_out(split))}
    tables["classes.csv"] = class_table(catalog, split, run.loaded.competition)
    for name, table in tables.items():
        with atomic_path(run.paths / name) as path:
            table.to_csv(path, index=False)
    facts = [member_facts(member, stages_of) for member in members]
    stores = [] if is_streamed else [store_facts(run, number) for number in range(len(members))]
    write_atomic(run.paths / "stores.json", json.dumps(stores, indent=1))
    write_atomic(run.paths / "members.json", json.dumps(facts, indent=1))


def evaluate(run: Run) -> None:
    """Scores the ensemble on the validation images, each combined from the members that were not trained on it."""
    import numpy as np
    import torch

    from pipeline.inference.ensemble import METHODS, Recipe
    from pipeline.scores import per_image_score

    folder, is_fitted = competition_folder(run), run.loaded.config.ensemble.weights == "fitted"
    rows, held_out = _held_out_rows(run)
    chosen, competition = _recipe(run), run.loaded.competition
    scored, score = competition.scored_indices, per_image_score(competition.score)
    recipes = [*map(Recipe, METHODS), *([chosen] if chosen.weights is not None else [])]
    index = [recipe.method for recipe in recipes].index(chosen.method)
    make = image_maker(run, folder, rows, held_out, lambda image_id: recipes, index, is_fitted)
    made = make_each(run, "valid", held_out, make, "methods")
    bar = tqdm(rows["id"], desc="combine", leave=False, disable=None)
    results = [{name: array for name, array in made(image_id).items() if name != "mask"} for image_id in bar]
    by_method = {
        recipe.method: np.stack([result["methods"][number] for result in results])
        for number, recipe in enumerate(recipes)
    }
    own = own_scores(rows["id"], held_out, results, len(run.loaded.config.ensemble.members), scored, score)
    fitted = fitted_weights(run, rows, results) if is_fitted else None
    del results
    if fitted is not None and fitted.by_image:
        chosen = Recipe("WEIGHTED", fitted.weights)

        def recipe_of(image_id: str) -> list[Recipe]:  # weights that were fitted without its sequence
            return [Recipe("WEIGHTED", fitted.by_image.get(image_id, fitted.weights))]

        made = make_each(run, "valid", held_out, image_maker(run, folder, rows, held_out, recipe_of), "fitted")
        bar = tqdm(rows["id"], desc="combine", leave=False, disable=None)
        by_method["WEIGHTED"] = np.stack([made(image_id)["methods"][0] for image_id in bar])
    confusion_ICC = torch.from_numpy(by_method[chosen.method])
    write_outcome(run, folder, rows, confusion_ICC, _origin(run), lambda image_id: made(image_id)["mask"])
    found = findings(rows, held_out, by_method, own, scored, score)
    found["method"] = chosen.method
    found["weights"] = None if chosen.weights is None else chosen.weights.tolist()
    if fitted is not None:
        found["fit"] = {"kind": fitted.kind, **fitted.trials.facts(), "words": fitted.words[0]}
    write_atomic(run.paths / "ensemble.json", json.dumps(found, indent=1))
    forget_streamed(run)
    tqdm.write("\n".join([findings_text(found), *(fitted.words if fitted else [])]))


def submit(run: Run) -> None:
    """Combines the members' test probabilities, writes the submission and checks what was written."""
    import numpy as np

    from pipeline.data.catalog import read_catalog
    from pipeline.inference.decoding import decode_with_rules
    from pipeline.inference.ensemble import Recipe, for_members
    from pipeline.inference.offsets import with_factors

    found, folder = read_json(run.paths / "ensemble.json"), competition_folder(run)
    fitted = Recipe(found["method"], None if found["weights"] is None else np.array(found["weights"]))
    rows, held_out = _held_out_rows(run)

    def make_valid(name: str, make: Make) -> Callable[[str], Arrays]:
        return make_each(run, "valid", held_out, make, name)

    decoding = fitted_decoding(run, folder, rows, lambda image_id: for_members(fitted, held_out[image_id]), make_valid)
    everyone = range(len(run.loaded.config.ensemble.members))
    recipe = fitted if decoding.factors is None else with_factors(fitted, decoding.factors, len(everyone))
    catalog = read_catalog(run.paths / "catalog.csv")
    wanted = dict.fromkeys(catalog.loc[catalog["subset"] == "test", "id"], everyone)

    def decode(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
        return {"mask": decode_with_rules(predictions, recipe, decoding.rules)}

    decoded = make_each(run, "test", wanted, decode, "test")
    write_checked_submission(run, folder, lambda image_id: decoded(image_id)["mask"], decoding)
    forget_streamed(run)


def _recipe(run: Run) -> Recipe:
    """Returns what the config says; WEIGHTED without weights is an equal share each."""
    from pipeline.inference.ensemble import Recipe, normalised

    settings = run.loaded.config.ensemble
    if settings.method != "WEIGHTED":
        return Recipe(settings.method)
    weights = settings.weights if isinstance(settings.weights, tuple) else (1.0,) * len(settings.members)
    return Recipe("WEIGHTED", normalised(weights))


def _held_out(split: pd.DataFrame) -> HeldOut:
    return {row.id: [int(word) for word in row.members.split()] for row in split.itertuples()}


def _held_out_rows(run: Run) -> tuple[pd.DataFrame, HeldOut]:
    """Returns the catalog rows of the validation images and the members that were not trained on each."""
    import pandas as pd

    from pipeline.training.inputs import split_rows

    split = pd.read_csv(run.paths / "split.csv", dtype=str, keep_default_na=False)
    rows = split_rows(run.paths, "valid")
    held_out = _held_out(split)
    return rows, {image_id: held_out[image_id] for image_id in rows["id"]}


def _origin(run: Run) -> dict[str, Any]:
    """Returns what metrics.json says of split and checkpoint: those of the members."""
    members = json.loads((run.paths / "members.json").read_text())
    kinds = sorted({(member["split"] or {}).get("by", "?") for member in members})
    hashes = [member["checkpoint_sha256"] for member in members]
    checkpoint = {"epoch": None, "valid_loss": None, "sha256": sha256_text(" ".join(hashes))}
    return {"split": {"by": " and ".join(kinds), "index": None}, "checkpoint": checkpoint}
