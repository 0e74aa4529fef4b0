"""What the out-of-fold images say of an ensemble: confusion matrices, the weights to fit, gains with their intervals.

In: the predictions of those members that did not train on an image, and its truth. Out: what `evaluate` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.chain import Run
from pipeline.config.competition import mask_code
from pipeline.work.combining import Arrays, Make

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipeline.inference.ensemble import Recipe
    from pipeline.inference.ensemble_weights import Fit
    from pipeline.inference.predict import Prediction

Judges = dict[str, list[int]]  # numbers of the members that may judge an image, by its id


def judge_maker(
    run: Run,
    folder: Path,
    rows: pd.DataFrame,
    judges: Judges,
    recipes_of: Callable[[str], Sequence[Recipe]],
    place: int = 0,
    with_evidence: bool = False,
) -> Make:
    """Returns what makes of a judged image its confusion matrices, its mask, and what weights are fitted on.

    `methods` has a matrix per recipe, `own` one per judge alone, `mask` is that of the recipe at `place`.
    """
    import numpy as np

    from pipeline.data.images import read_mask
    from pipeline.inference.ensemble import Recipe, combine, for_members
    from pipeline.inference.ensemble_weights import evidence_arrays, look
    from pipeline.inference.evaluate import confusion_of

    files, num_classes = rows.set_index("id"), run.loaded.competition.num_classes

    def judge(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
        numbers, row = judges[image_id], files.loc[image_id]
        truth = read_mask(folder / row["mask"], mask_code(run.loaded.competition))
        masks = combine(predictions, [for_members(recipe, numbers) for recipe in recipes_of(image_id)])
        alone = [combine([one], [Recipe("GEO")])[0] for one in predictions]  # the cheapest recipe: no softmax
        made = {
            "methods": np.stack([confusion_of(mask, truth, num_classes).numpy() for mask in masks]),
            "own": np.stack([confusion_of(mask, truth, num_classes).numpy() for mask in alone]),
            "mask": masks[place],
        }
        if with_evidence:
            made |= evidence_arrays(look(image_id, row["sequence"], numbers, predictions, truth))
        return made

    return judge


def fitted_weights(run: Run, rows: pd.DataFrame, judges: Judges, results: Sequence[Arrays]) -> Fit:
    """Returns the weights fitted on the judged images."""
    from pipeline.inference.ensemble_weights import evidence_from, fit

    pairs = zip(rows.itertuples(), results, strict=True)
    evidence = [evidence_from(row.id, row.sequence, judges[row.id], result) for row, result in pairs]
    return fit(evidence, len(run.loaded.config.ensemble.members), list(run.loaded.competition.scored_indices))


def own_scores(
    ids: Sequence[str], judges: Judges, results: Sequence[Arrays], num_members: int, scored: Sequence[int]
) -> list[dict[str, tuple[float, float]]]:
    """Returns of each member the Dice and IoU, mean over the classes `scored`, by image that it judges."""
    import torch

    from pipeline.model.metrics import dice_iou

    own: list[dict[str, tuple[float, float]]] = [{} for _ in range(num_members)]
    for image_id, result in zip(ids, results, strict=True):
        scores_J = (scores_JC[:, list(scored)].mean(1) for scores_JC in dice_iou(torch.from_numpy(result["own"])))
        for number, dice, iou in zip(judges[image_id], *(scores.tolist() for scores in scores_J), strict=True):
            own[number][image_id] = (dice, iou)
    return own


def findings(
    rows: pd.DataFrame,
    judges: Judges,
    by_method: Mapping[str, np.ndarray],
    own: Sequence[Mapping[str, tuple[float, float]]],
    scored: Sequence[int],
) -> dict[str, Any]:
    """Returns, per method, the Dice with its interval and the gain over the judges' mean on the same images.

    Args:
        by_method: confusion matrices, int64 (P, C, C).
        own: of each member, Dice and IoU by image that it judges.
        scored: indices of the classes that enter means.
    """
    import numpy as np
    import torch

    from pipeline.intervals import group_numbers, interval
    from pipeline.model.metrics import dice_iou

    ids = rows["id"].tolist()
    groups = group_numbers(ids, rows["sequence"])
    group_of = dict(zip(ids, groups.tolist(), strict=True))
    single = np.array([np.mean([own[number][image_id][0] for number in judges[image_id]]) for image_id in ids])
    numbers = np.array([len(judges[image_id]) for image_id in ids])
    found: dict[str, Any] = {
        "images": len(rows),
        "sequences": len(set(groups.tolist())),
        "judges": {"least": int(numbers.min()), "mean": float(numbers.mean()), "most": int(numbers.max())},
        "single": vars(interval(single, groups)),
        "members": [],
        "methods": {},
    }
    for scores in own:
        dice, iou = (np.array([pair[place] for pair in scores.values()]) for place in range(2))
        own_groups = np.array([group_of[image_id] for image_id in scores])
        is_judge = len(scores) > 0
        found["members"].append(
            {
                "images": len(scores),
                "dice": vars(interval(dice, own_groups)) if is_judge else None,
                "iou": float(iou.mean()) if is_judge else None,
            }
        )
    for method, confusion_PCC in by_method.items():
        dice = dice_iou(torch.from_numpy(confusion_PCC))[0][:, list(scored)].mean(1).numpy()
        gain = interval(dice - single, groups)
        found["methods"][method] = {"dice": vars(interval(dice, groups)), "gain": vars(gain)}
    return found


def findings_text(found: dict[str, Any]) -> str:
    """Returns the table of methods as text."""
    judges = found["judges"]
    lines = [
        f"{found['images']} images in {found['sequences']} sequences, each judged by {judges['least']} to "
        f"{judges['most']} members (mean {judges['mean']:.1f}); one member alone: Dice {found['single']['mean']:.4f}"
    ]
    if judges["most"] == 1:
        lines.append("no image is judged by two members, so this tells nothing of what combining them gains")
    for method, scores in found["methods"].items():
        dice, gain = scores["dice"], scores["gain"]
        text = f"{gain['mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"
        lines.append(f"  {method:<8} Dice {dice['mean']:.4f}, gain over one member {text}")
    return "\n".join([*lines, *([found["fit"]["words"]] if "fit" in found else [])])
