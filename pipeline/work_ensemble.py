"""What each stage of an ensemble does: no training, its members' predictions combined. The table is in `stages.py`.

Heavy packages are imported inside the functions, so that a stage which is skipped costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline.chain import Run, Stage
from pipeline.combining import Arrays, Make, forget_streamed, make_each
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
from pipeline.outcome import fitted_rules, sight_maker, write_checked_submission, write_outcome
from pipeline.report.read import read_json
from pipeline.work import competition_folder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipeline.inference.decoding import Rule
    from pipeline.inference.ensemble import Recipe
    from pipeline.inference.ensemble_weights import Fit
    from pipeline.inference.predict import Prediction

Judges = dict[str, list[int]]  # numbers of the members that may judge a picture, by its id


def predict(run: Run, stages_of: Callable[[Loaded], tuple[Stage, ...]]) -> None:
    """Makes sure that every member has predicted; writes who they are and who may judge which picture.

    Raises:
        UserError: a member is not trained, or not as its config says now; with the commands to type.
    """
    from pipeline.data.catalog import read_catalog
    from pipeline.data.statistics import class_table

    members, is_streamed = member_runs(run), run.loaded.config.ensemble.stream
    require_trained(members, stages_of)
    if not is_streamed:
        predict_members(members, stages_of, tqdm.write)
    require_alike(members, is_streamed)
    catalog = read_catalog(members[0].paths / "catalog.csv")
    split = judges_table(members, catalog)
    tables = {"catalog.csv": catalog, "split.csv": split, "leakage.csv": leaked_pairs(members, _judges(split))}
    tables["classes.csv"] = class_table(catalog, split, run.loaded.competition)
    for name, table in tables.items():
        with atomic_path(run.paths / name) as path:
            table.to_csv(path, index=False)
    write_atomic(
        run.paths / "members.json", json.dumps([member_facts(member, stages_of) for member in members], indent=1)
    )


def evaluate(run: Run) -> None:
    """Combines the members on the validation pictures, each judged by those that did not train on it, and scores."""
    import numpy as np
    import torch

    from pipeline.inference.ensemble import METHODS, Recipe

    folder, is_fitted = competition_folder(run), run.loaded.config.ensemble.weights == "fitted"
    rows, judges = _judged_rows(run)
    chosen = _recipe(run)
    recipes = [*map(Recipe, METHODS), *([chosen] if chosen.weights is not None else [])]
    place = [recipe.method for recipe in recipes].index(chosen.method)
    judge = _judge(run, folder, rows, judges, lambda picture_id: recipes, place, is_fitted)
    judged = make_each(run, "valid", judges, judge, "judged")
    bar = tqdm(rows["id"], desc="combine", leave=False, disable=None)
    results = [{name: array for name, array in judged(picture_id).items() if name != "mask"} for picture_id in bar]
    by_method = {
        recipe.method: np.stack([result["methods"][index] for result in results])
        for index, recipe in enumerate(recipes)
    }
    own = _own_scores(rows["id"], judges, results, len(run.loaded.config.ensemble.members))
    fitted = _fit(run, rows, judges, results) if is_fitted else None
    del results
    if fitted is not None and fitted.by_picture:
        chosen = Recipe("WEIGHTED", fitted.weights)

        def unseen(picture_id: str) -> list[Recipe]:  # weights that do not know its sequence
            return [Recipe("WEIGHTED", fitted.by_picture.get(picture_id, fitted.weights))]

        judged = make_each(run, "valid", judges, _judge(run, folder, rows, judges, unseen), "fitted")
        bar = tqdm(rows["id"], desc="combine", leave=False, disable=None)
        by_method["WEIGHTED"] = np.stack([judged(picture_id)["methods"][0] for picture_id in bar])
    confusion_PCC = torch.from_numpy(by_method[chosen.method])
    write_outcome(run, folder, rows, confusion_PCC, _origin(run), lambda picture_id: judged(picture_id)["mask"])
    found = _findings(rows, judges, by_method, own)
    found["method"] = chosen.method
    found["weights"] = None if chosen.weights is None else chosen.weights.tolist()
    if fitted is not None:
        gains = {kind: vars(gain) for kind, gain in fitted.gains.items()}
        found["fit"] = {"kind": fitted.kind, "gains": gains, "in_sample": dict(fitted.in_sample)}
        found["words"] = [fitted.words]
    write_atomic(run.paths / "ensemble.json", json.dumps(found, indent=1))
    forget_streamed(run)
    tqdm.write(_words(found))


def _judge(
    run: Run,
    folder: Path,
    rows: pd.DataFrame,
    judges: Judges,
    recipes_of: Callable[[str], Sequence[Recipe]],
    place: int = 0,
    with_evidence: bool = False,
) -> Make:
    """Returns what makes of a judged picture its confusion matrices, its mask, and what weights are fitted on.

    `methods` has a matrix per recipe, `own` one per judge alone, `mask` is that of the recipe at `place`.
    """
    import numpy as np

    from pipeline.data.pictures import read_mask
    from pipeline.inference.ensemble import Recipe, combine, for_members
    from pipeline.inference.ensemble_weights import evidence_arrays, look
    from pipeline.inference.evaluate import confusion_of

    files, num_classes = rows.set_index("id"), num_scored(run.loaded.competition)

    def judge(picture_id: str, predictions: Sequence[Prediction]) -> Arrays:
        numbers, row = judges[picture_id], files.loc[picture_id]
        truth = read_mask(folder / row["mask"], run.loaded.competition.ignore_index)
        masks = combine(predictions, [for_members(recipe, numbers) for recipe in recipes_of(picture_id)])
        alone = [combine([one], [Recipe("GEO")])[0] for one in predictions]  # the cheapest recipe: no softmax
        made = {
            "methods": np.stack([confusion_of(mask, truth, num_classes).numpy() for mask in masks]),
            "own": np.stack([confusion_of(mask, truth, num_classes).numpy() for mask in alone]),
            "mask": masks[place],
        }
        if with_evidence:
            made |= evidence_arrays(look(picture_id, row["sequence"], numbers, predictions, truth))
        return made

    return judge


def _fit(run: Run, rows: pd.DataFrame, judges: Judges, results: Sequence[Arrays]) -> Fit:
    """Returns the weights fitted on the judged pictures."""
    from pipeline.inference.ensemble_weights import evidence_from, fit

    pairs = zip(rows.itertuples(), results, strict=True)
    evidence = [evidence_from(row.id, row.sequence, judges[row.id], result) for row, result in pairs]
    return fit(evidence, len(run.loaded.config.ensemble.members))


def _own_scores(
    ids: Sequence[str], judges: Judges, results: Sequence[Arrays], num_members: int
) -> list[dict[str, tuple[float, float]]]:
    """Returns of each member the mean Dice and IoU by picture that it judges."""
    import torch

    from pipeline.model.metrics import dice_iou

    own: list[dict[str, tuple[float, float]]] = [{} for _ in range(num_members)]
    for picture_id, result in zip(ids, results, strict=True):
        dice_JC, iou_JC = dice_iou(torch.from_numpy(result["own"]))
        for number, dice, iou in zip(
            judges[picture_id], dice_JC.mean(1).tolist(), iou_JC.mean(1).tolist(), strict=True
        ):
            own[number][picture_id] = (dice, iou)
    return own


def submit(run: Run) -> None:
    """Combines the members' test probabilities, writes the submission and checks what was written."""
    import numpy as np

    from pipeline.data.catalog import read_catalog
    from pipeline.inference.decoding import decode_with_rules
    from pipeline.inference.ensemble import Recipe

    found, folder = read_json(run.paths / "ensemble.json"), competition_folder(run)
    recipe = Recipe(found["method"], None if found["weights"] is None else np.array(found["weights"]))
    rules = _rules(run, folder, recipe)
    catalog = read_catalog(run.paths / "catalog.csv")
    everyone = range(len(run.loaded.config.ensemble.members))
    wanted = dict.fromkeys(catalog.loc[catalog["subset"] == "test", "id"], everyone)

    def decode(picture_id: str, predictions: Sequence[Prediction]) -> Arrays:
        return {"mask": decode_with_rules(predictions, recipe, rules)}

    decoded = make_each(run, "test", wanted, decode, "test")
    write_checked_submission(run, folder, lambda picture_id: decoded(picture_id)["mask"], rules)
    forget_streamed(run)


def _rules(run: Run, folder: Path, recipe: Recipe) -> tuple[Rule, ...]:
    """Returns the rules by which classes are dropped, fitted on the judged pictures where DECODE.SUPPRESS says so."""
    from pipeline.inference.decoding import arrays_of, sight_from
    from pipeline.inference.ensemble import for_members

    rows, judges = _judged_rows(run)
    if run.loaded.config.decode.suppress == "none":
        return fitted_rules(run, rows, lambda picture_id: None)
    look = sight_maker(run, folder, rows, lambda picture_id: for_members(recipe, judges[picture_id]))
    seen = make_each(run, "valid", judges, lambda picture_id, ones: arrays_of(look(picture_id, ones)), "rules")
    sequences = dict(zip(rows["id"], rows["sequence"], strict=True))
    return fitted_rules(run, rows, lambda picture_id: sight_from(picture_id, sequences[picture_id], seen(picture_id)))


def _recipe(run: Run) -> Recipe:
    """Returns what the config says; WEIGHTED without weights is an equal share each."""
    from pipeline.inference.ensemble import Recipe, normalised

    settings = run.loaded.config.ensemble
    if settings.method != "WEIGHTED":
        return Recipe(settings.method)
    weights = settings.weights if isinstance(settings.weights, tuple) else (1.0,) * len(settings.members)
    return Recipe("WEIGHTED", normalised(weights))


def _judges(split: pd.DataFrame) -> Judges:
    return {row.id: [int(word) for word in row.judges.split()] for row in split.itertuples()}


def _judged_rows(run: Run) -> tuple[pd.DataFrame, Judges]:
    """Returns the catalog rows of the judged pictures and who judges each."""
    import pandas as pd

    from pipeline.training.inputs import split_rows

    split = pd.read_csv(run.paths / "split.csv", dtype=str, keep_default_na=False)
    rows = split_rows(run.paths, "valid")
    judges = _judges(split)
    return rows, {picture_id: judges[picture_id] for picture_id in rows["id"]}


def _origin(run: Run) -> dict[str, Any]:
    """Returns what metrics.json says of split and checkpoint: those of the members."""
    members = json.loads((run.paths / "members.json").read_text())
    kinds = sorted({(member["split"] or {}).get("by", "?") for member in members})
    hashes = [member["checkpoint_sha256"] for member in members]
    checkpoint = {"epoch": None, "valid_loss": None, "sha256": sha256_text(" ".join(hashes))}
    return {"split": {"by": " and ".join(kinds), "index": None}, "checkpoint": checkpoint}


def _findings(
    rows: pd.DataFrame,
    judges: Judges,
    by_method: Mapping[str, np.ndarray],
    own: Sequence[Mapping[str, tuple[float, float]]],
) -> dict[str, Any]:
    """Returns, per method, the Dice with its interval and the gain over the judges' mean on the same pictures.

    Args:
        by_method: confusion matrices, int64 (P, C, C).
        own: of each member, Dice and IoU by picture that it judges.
    """
    import numpy as np
    import torch

    from pipeline.inference.intervals import group_numbers, interval
    from pipeline.model.metrics import dice_iou

    ids = rows["id"].tolist()
    groups = group_numbers(ids, rows["sequence"])
    group_of = dict(zip(ids, groups.tolist(), strict=True))
    single = np.array([np.mean([own[number][picture_id][0] for number in judges[picture_id]]) for picture_id in ids])
    numbers = np.array([len(judges[picture_id]) for picture_id in ids])
    found: dict[str, Any] = {
        "pictures": len(rows),
        "sequences": len(set(groups.tolist())),
        "judges": {"least": int(numbers.min()), "mean": float(numbers.mean()), "most": int(numbers.max())},
        "single": vars(interval(single, groups)),
        "members": [],
        "methods": {},
    }
    for scores in own:
        dice, iou = (np.array([pair[place] for pair in scores.values()]) for place in range(2))
        own_groups = np.array([group_of[picture_id] for picture_id in scores])
        is_judge = len(scores) > 0
        found["members"].append(
            {
                "pictures": len(scores),
                "dice": vars(interval(dice, own_groups)) if is_judge else None,
                "iou": float(iou.mean()) if is_judge else None,
            }
        )
    for method, confusion_PCC in by_method.items():
        dice = dice_iou(torch.from_numpy(confusion_PCC))[0].mean(1).numpy()
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
