"""What each stage of an ensemble does: no training, its members' predictions combined. The table is in `stages.py`.

Heavy packages are imported inside the functions, so that a stage which is skipped costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline.chain import Run, Stage
from pipeline.config.competition import num_scored
from pipeline.config.load import Loaded
from pipeline.files import atomic_path, sha256_text, write_atomic
from pipeline.members import (
    judges_table,
    leaked_pairs,
    member_facts,
    member_runs,
    predict_members,
    require_alike,
    require_trained,
)
from pipeline.outcome import fitted_rules, truth_masks, write_checked_submission, write_outcome
from pipeline.report.read import read_columns, read_json
from pipeline.work import competition_folder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from pipeline.inference.ensemble import Recipe
    from pipeline.inference.ensemble_weights import Fit
    from pipeline.inference.predict import Prediction
    from pipeline.inference.probability_store import ProbabilityStore

Judges = dict[str, list[int]]  # numbers of the members that may judge a picture, by its id


def predict(run: Run, stages_of: Callable[[Loaded], tuple[Stage, ...]]) -> None:
    """Makes sure that every member has predicted; writes who they are and who may judge which picture.

    Raises:
        UserError: a member is not trained, or not as its config says now; with the commands to type.
    """
    from pipeline.data.catalog import read_catalog
    from pipeline.data.statistics import class_table

    members = member_runs(run)
    require_trained(members, stages_of)
    predict_members(members, stages_of, tqdm.write)
    require_alike(members)
    catalog = read_catalog(members[0].paths / "catalog.csv")
    split = judges_table(members, catalog)
    tables = {"catalog.csv": catalog, "split.csv": split, "leakage.csv": leaked_pairs(members, _judges(split))}
    tables["classes.csv"] = class_table(catalog, split, run.loaded.competition)
    for name, table in tables.items():
        with atomic_path(run.paths / name) as path:
            table.to_csv(path, index=False)
    write_atomic(run.paths / "members.json", json.dumps([member_facts(member) for member in members], indent=1))


def evaluate(run: Run) -> None:
    """Combines the members on the validation pictures, each judged by those that did not train on it, and scores."""
    import torch

    from pipeline.inference.ensemble import METHODS, Recipe, combine, for_members
    from pipeline.inference.evaluate import confusion_of

    folder, num_classes = competition_folder(run), num_scored(run.loaded.competition)
    rows, judges = _judged_rows(run)
    stores, chosen = _open_stores(run, "valid"), _recipe(run)
    fitted = _fit(run, folder, rows, judges, stores) if run.loaded.config.ensemble.weights == "fitted" else None
    if fitted is not None:
        chosen = Recipe("WEIGHTED", fitted.weights)
    recipes = [*map(Recipe, METHODS), *([chosen] if chosen.weights is not None else [])]

    def masks_of(picture_id: str, wanted: Sequence[Recipe]) -> list[np.ndarray]:
        numbers = judges[picture_id]
        views = [stores[number].view(picture_id) for number in numbers]
        if fitted is not None and picture_id in fitted.by_picture:  # weights that do not know its sequence
            own = Recipe("WEIGHTED", fitted.by_picture[picture_id])
            wanted = [own if recipe is chosen else recipe for recipe in wanted]
        return combine(views, [for_members(recipe, numbers) for recipe in wanted])

    pairs = zip(rows["id"], truth_masks(run, folder, rows), strict=True)
    confusions = []
    for picture_id, truth in tqdm(pairs, total=len(rows), desc="combine", leave=False, disable=None):
        confusions.append([confusion_of(mask, truth, num_classes) for mask in masks_of(picture_id, recipes)])
    by_method = {recipe.method: torch.stack([row[index] for row in confusions]) for index, recipe in enumerate(recipes)}
    write_outcome(
        run, folder, rows, by_method[chosen.method], _origin(run), lambda picture_id: masks_of(picture_id, [chosen])[0]
    )
    found = _findings(run, rows, judges, by_method)
    found["method"] = chosen.method
    found["weights"] = None if chosen.weights is None else chosen.weights.tolist()
    if fitted is not None:
        gains = {kind: vars(gain) for kind, gain in fitted.gains.items()}
        found["fit"] = {"kind": fitted.kind, "gains": gains, "in_sample": dict(fitted.in_sample)}
        found["words"] = [fitted.words]
    write_atomic(run.paths / "ensemble.json", json.dumps(found, indent=1))
    tqdm.write(_words(found))


def _fit(run: Run, folder: Path, rows: pd.DataFrame, judges: Judges, stores: Sequence[ProbabilityStore]) -> Fit:
    """Returns the weights fitted on the judged pictures."""
    from pipeline.inference.ensemble_weights import fit, look

    bar = tqdm(rows.itertuples(), total=len(rows), desc="look", leave=False, disable=None)
    evidence = []
    for row, truth in zip(bar, truth_masks(run, folder, rows), strict=True):
        views = [stores[number].view(row.id) for number in judges[row.id]]
        evidence.append(look(row.id, row.sequence, judges[row.id], views, truth))
    return fit(evidence, len(stores))


def submit(run: Run) -> None:
    """Combines the members' test probabilities, writes the submission and checks what was written."""
    import numpy as np

    from pipeline.inference.decoding import decode_with_rules
    from pipeline.inference.ensemble import Recipe, for_members

    found, folder = read_json(run.paths / "ensemble.json"), competition_folder(run)
    recipe = Recipe(found["method"], None if found["weights"] is None else np.array(found["weights"]))
    stores, judged_stores = _open_stores(run, "test"), _open_stores(run, "valid")
    rows, judges = _judged_rows(run)

    def judged_predictions(picture_id: str) -> list[Prediction]:
        return [judged_stores[number].view(picture_id) for number in judges[picture_id]]

    rules = fitted_rules(run, folder, rows, judged_predictions, lambda id: for_members(recipe, judges[id]))

    def mask_of(picture_id: str) -> np.ndarray:
        return decode_with_rules([store.view(picture_id) for store in stores], recipe, rules)

    write_checked_submission(run, folder, mask_of, rules)


def _recipe(run: Run) -> Recipe:
    """Returns what the config says; WEIGHTED without weights is an equal share each."""
    from pipeline.inference.ensemble import Recipe, normalised

    settings = run.loaded.config.ensemble
    if settings.method != "WEIGHTED":
        return Recipe(settings.method)
    weights = settings.weights if isinstance(settings.weights, tuple) else (1.0,) * len(settings.members)
    return Recipe("WEIGHTED", normalised(weights))


def _open_stores(run: Run, subset: str) -> list[ProbabilityStore]:
    from pipeline.inference.probability_store import ProbabilityStore

    return [ProbabilityStore(member.paths.probs(subset)) for member in member_runs(run)]


def _judges(split: pd.DataFrame) -> Judges:
    return {row.id: [int(word) for word in row.judges.split()] for row in split.itertuples()}


def _judged_rows(run: Run) -> tuple[pd.DataFrame, Judges]:
    """Returns the catalog rows of the judged pictures and who judges each."""
    import pandas as pd

    from pipeline.training.inputs import split_rows

    split = pd.read_csv(run.paths / "split.csv", dtype=str, keep_default_na=False)
    return split_rows(run.paths, "valid"), _judges(split)


def _origin(run: Run) -> dict[str, Any]:
    """Returns what metrics.json says of split and checkpoint: those of the members."""
    members = json.loads((run.paths / "members.json").read_text())
    kinds = sorted({(member["split"] or {}).get("by", "?") for member in members})
    hashes = [member["checkpoint_sha256"] for member in members]
    checkpoint = {"epoch": None, "valid_loss": None, "sha256": sha256_text(" ".join(hashes))}
    return {"split": {"by": " and ".join(kinds), "index": None}, "checkpoint": checkpoint}


def _findings(run: Run, rows: pd.DataFrame, judges: Judges, by_method: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Returns, per method, the Dice with its interval and the gain over the judges' mean on the same pictures."""
    import numpy as np

    from pipeline.inference.intervals import group_numbers, interval
    from pipeline.model.metrics import dice_iou

    groups = group_numbers(rows["id"], rows["sequence"])
    own = []  # of each member: Dice by picture
    for member in member_runs(run):
        table = read_columns(member.paths / "per_image.csv")
        own.append(dict(zip(table["id"], map(float, table["dice"]), strict=True)))
    single = np.array(
        [np.mean([own[number][picture_id] for number in judges[picture_id]]) for picture_id in rows["id"]]
    )
    numbers = np.array([len(judges[picture_id]) for picture_id in rows["id"]])
    found: dict[str, Any] = {
        "pictures": len(rows),
        "sequences": len(set(groups.tolist())),
        "judges": {"least": int(numbers.min()), "mean": float(numbers.mean()), "most": int(numbers.max())},
        "single": vars(interval(single, groups)),
        "methods": {},
    }
    for method, confusion_PCC in by_method.items():
        dice = dice_iou(confusion_PCC)[0].mean(1).numpy()
        gain = interval(dice - single, groups)
        found["methods"][method] = {"dice": vars(interval(dice, groups)), "gain": vars(gain)}
    return found


def _words(found: dict[str, Any]) -> str:
    """Returns the table of methods as text."""
    judges = found["judges"]
    lines = [
        f"{found['pictures']} pictures in {found['sequences']} sequences, each judged by {judges['least']} to "
        f"{judges['most']} members (mean {judges['mean']:.1f}); one member alone: Dice {found['single']['mean']:.4f}"
    ]
    if judges["most"] == 1:
        lines.append("no picture is judged by two members, so this tells nothing of what combining them gains")
    for method, scores in found["methods"].items():
        dice, gain = scores["dice"], scores["gain"]
        text = f"{gain['mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"
        lines.append(f"  {method:<8} Dice {dice['mean']:.4f}, gain over one member {text}")
    return "\n".join([*lines, *found.get("words", [])])
