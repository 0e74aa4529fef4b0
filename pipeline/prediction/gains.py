"""What combining members gains on out-of-fold images: the score of each method, and its gain over one member alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.intervals import Interval, group_numbers, interval
from pipeline.scores import LABELS, image_parts, per_image_score
from pipeline.task import HeldOut


def findings(
    rows: pd.DataFrame,
    held_out: HeldOut,
    by_method: Mapping[str, np.ndarray],
    own: Sequence[np.ndarray],
    competition: Competition,
    num_members: int,
) -> dict[str, Any]:
    """Returns, per method, the score and its gain over the members' mean on the same images, with their intervals.

    Args:
        by_method: the score of each class, float64 (I, C). Images without any, as the score is only of classes that
            an image shows, are left out. All means are those of `image_parts`, as in metrics.json.
        own: of each image, the score of each class by its members alone, float64 (J, C).

    Raises:
        UserError: no image has the score.
    """
    score, scored = per_image_score(competition.score), competition.scored_indices
    scores_IMC = np.full((len(rows), num_members, len(scored)), np.nan)
    for scores_MC, image_id, own_JC in zip(scores_IMC, rows["id"], own, strict=True):
        scores_MC[held_out[image_id]] = own_JC[:, list(scored)]
    has_score_I = ~np.isnan(scores_IMC).all((1, 2))
    if not has_score_I.any():
        raise UserError(f"{LABELS[score]} has no value: no out-of-fold image shows a scored class")
    rows, scores_IMC = rows[has_score_I], scores_IMC[has_score_I]
    groups = group_numbers(rows["id"], rows["sequence"])
    is_known_IMC = ~np.isnan(scores_IMC)
    is_known_IM = is_known_IMC.any(2)
    counts_I, counts_IC = is_known_IM.sum(1), is_known_IMC.sum(1)
    totals_IC = np.where(is_known_IMC, scores_IMC, 0).sum(1)
    single_I = image_parts(np.where(counts_IC > 0, totals_IC / np.maximum(counts_IC, 1), np.nan))
    members, methods = [], {}
    for scores_IC, is_known_I in zip(scores_IMC.swapaxes(0, 1), is_known_IM.T, strict=True):
        own_groups = groups[is_known_I]
        mean = vars(interval(image_parts(scores_IC[is_known_I]), own_groups)) if is_known_I.any() else None
        members.append({"images": int(is_known_I.sum()), "score": mean})
    for method, scores_IC in by_method.items():
        means_I = image_parts(scores_IC[has_score_I], scored)
        gain = vars(interval(means_I - single_I, groups))
        methods[method] = {"score": vars(interval(means_I, groups)), "gain": gain}
    return {
        "images": len(rows),
        "sequences": len(np.unique(groups)),
        "score": score,
        "held_out": {"least": int(counts_I.min()), "mean": float(counts_I.mean()), "most": int(counts_I.max())},
        "single": vars(interval(single_I, groups)),
        "members": members,
        "methods": methods,
    }


def findings_text(found: Mapping[str, Any]) -> str:
    """Returns the table of methods as text."""
    held_out, label = found["held_out"], LABELS[found["score"]]
    lines = [
        f"{found['images']} images in {found['sequences']} sequences, each predicted by {held_out['least']} to "
        f"{held_out['most']} members that were not trained on it (mean {held_out['mean']:.1f})",
        f"  one member alone: {label} {found['single']['mean']:.4f}",
    ]
    for method, own in found["methods"].items():
        gain = Interval(**own["gain"])
        lines.append(f"  {method:<8} {label} {own['score']['mean']:.4f}, gain over one member {gain}")
    if held_out["most"] == 1:
        lines.append("With one such member per image, the gain of combining members cannot be measured.")
    return "\n".join(lines)
