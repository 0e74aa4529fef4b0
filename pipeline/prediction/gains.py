"""What combining members gains on out-of-fold images: the score of each method, its gain over one member, a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.intervals import Interval, group_numbers, interval
from pipeline.scores import LABELS, image_parts, per_image_score
from pipeline.verdicts import OF_MEMBERS, contrast_of_images, verdicts

if TYPE_CHECKING:  # the report takes the words from here, and needs no pandas
    import pandas as pd

    from pipeline.task import HeldOut

LEAST_COMBINED = 2  # members of an image, for it to tell anything about combining them


def findings(
    rows: pd.DataFrame,
    held_out: HeldOut,
    by_method: Mapping[str, np.ndarray],
    own: Sequence[np.ndarray],
    competition: Competition,
    num_members: int,
) -> dict[str, Any]:
    """Returns, per method, the score and its gain over the members' mean on the same images, with their intervals.

    The gain is measured on images that several members predict: on others, all methods return the prediction of the one
    member. The verdicts on it are corrected for the number of methods.

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
    single_IC = np.where(counts_IC > 0, totals_IC / np.maximum(counts_IC, 1), np.nan)
    is_combined_I, members = counts_I >= LEAST_COMBINED, []
    for scores_IC, is_known_I in zip(scores_IMC.swapaxes(0, 1), is_known_IM.T, strict=True):
        own_groups = groups[is_known_I]
        mean = vars(interval(image_parts(scores_IC[is_known_I]), own_groups)) if is_known_I.any() else None
        members.append({"images": int(is_known_I.sum()), "score": mean})
    by_method = {method: scores_IC[has_score_I][:, list(scored)] for method, scores_IC in by_method.items()}
    return {
        "images": len(rows),
        "sequences": len(np.unique(groups)),
        "combined_images": int(is_combined_I.sum()),
        "score": score,
        "held_out": {"least": int(counts_I.min()), "mean": float(counts_I.mean()), "most": int(counts_I.max())},
        "single": vars(interval(image_parts(single_IC), groups)),
        "members": members,
        "methods": _methods(by_method, single_IC, groups, is_combined_I),
    }


def _methods(
    by_method: Mapping[str, np.ndarray], single_IC: np.ndarray, groups: np.ndarray, is_combined_I: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Returns score, gain and verdict of each method, from the scores of each image by it and by one member alone."""
    gains = {}
    if is_combined_I.any():
        single_I = image_parts(single_IC[is_combined_I])  # not of all images: an image's part depends on the others
        for method, scores_IC in by_method.items():
            gains_I = image_parts(scores_IC[is_combined_I]) - single_I
            gains[method] = contrast_of_images(gains_I, groups[is_combined_I])
    words = dict(zip(gains, verdicts(list(gains.values()), about=OF_MEMBERS), strict=True))
    return {
        method: {
            "score": vars(interval(image_parts(scores_IC), groups)),
            "gain": vars(gains[method].interval) if gains else None,
            "verdict": words.get(method, ""),
        }
        for method, scores_IC in by_method.items()
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
        gain = f", gain over one member {Interval(**own['gain'])}: {own['verdict']}" if own["gain"] else ""
        lines.append(f"  {method:<8} {label} {own['score']['mean']:.4f}{gain}")
    return "\n".join([*lines, *gain_notes(found)])


def gain_notes(found: Mapping[str, Any]) -> list[str]:
    """Returns notes on the gains of methods, as sentences.

    >>> gain_notes({"images": 9, "combined_images": 0, "methods": {"AP": {}}, "held_out": {"most": 1}})
    ['With one such member per image, the gain of combining members cannot be measured.']
    >>> gain_notes({"images": 9, "combined_images": 6, "methods": {"AP": {}}, "held_out": {"most": 2}})
    ['Gains are measured on the 6 images that several such members predict.']
    >>> gain_notes({"images": 9, "methods": {"AP": {}, "BP": {}}, "held_out": {"most": 2}})  # older than verdicts
    []
    """
    # Files from before there were verdicts have no number of images for the gain either.
    num_images = found.get("combined_images", found["images"])
    num_methods = sum("verdict" in own for own in found["methods"].values())
    if not num_images or found["held_out"]["most"] < LEAST_COMBINED:
        return ["With one such member per image, the gain of combining members cannot be measured."]
    notes = []
    if num_images < found["images"]:
        notes.append(f"Gains are measured on the {num_images} images that several such members predict.")
    if num_methods > 1:
        notes.append(f"Better and worse are corrected for {num_methods} methods (Holm).")
    return notes
