"""An ensemble on out-of-fold images: confusion matrices, what weights are fitted on, and each method's gain.

In: the predictions of those members that were not trained on an image, and its truth. Out: ensemble.json and its text.
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
    from pipeline.inference.ensemble_weights import FittedWeights
    from pipeline.inference.predict import Prediction

HeldOut = dict[str, list[int]]  # numbers of the members that were not trained on an image, by its id


def image_maker(
    run: Run,
    folder: Path,
    rows: pd.DataFrame,
    held_out: HeldOut,
    recipes_of: Callable[[str], Sequence[Recipe]],
    mask_index: int = 0,
    with_sample: bool = False,
) -> Make:
    """Returns a function from an image and its predictions to `methods`, `own`, `mask` and, if asked, a member sample.

    `methods` has a confusion matrix per recipe, `own` one per member alone, `mask` is by the recipe at `mask_index`.
    """
    import numpy as np

    from pipeline.data.images import read_mask
    from pipeline.inference.ensemble import Recipe, combine, for_members
    from pipeline.inference.ensemble_weights import sample_members
    from pipeline.inference.evaluate import confusion_of
    from pipeline.inference.out_of_fold import arrays_of

    files, num_classes = rows.set_index("id"), run.loaded.competition.num_classes

    def make(image_id: str, predictions: Sequence[Prediction]) -> Arrays:
        members, row = held_out[image_id], files.loc[image_id]
        truth = read_mask(folder / row["mask"], mask_code(run.loaded.competition))
        masks = combine(predictions, [for_members(recipe, members) for recipe in recipes_of(image_id)])
        alone = [combine([one], [Recipe("GEO")])[0] for one in predictions]  # the cheapest recipe: no softmax
        made = {
            "methods": np.stack([confusion_of(mask, truth, num_classes).numpy() for mask in masks]),
            "own": np.stack([confusion_of(mask, truth, num_classes).numpy() for mask in alone]),
            "mask": masks[mask_index],
        }
        if with_sample:
            made |= arrays_of(sample_members(image_id, row["sequence"], members, predictions, truth))
        return made

    return make


def fitted_weights(run: Run, rows: pd.DataFrame, results: Sequence[Arrays]) -> FittedWeights:
    """Returns the weights fitted on the out-of-fold images."""
    from pipeline.inference.ensemble_weights import MemberSample, fit_weights
    from pipeline.inference.out_of_fold import image_from
    from pipeline.scores import per_image_score

    pairs = zip(rows.itertuples(), results, strict=True)
    images = [image_from(MemberSample, row.id, row.sequence, result) for row, result in pairs]
    competition, num_members = run.loaded.competition, len(run.loaded.config.ensemble.members)
    return fit_weights(images, num_members, competition.scored_indices, per_image_score(competition.score))


def own_scores(
    ids: Sequence[str],
    held_out: HeldOut,
    results: Sequence[Arrays],
    num_members: int,
    scored: Sequence[int],
    score: str,
) -> list[dict[str, float]]:
    """Returns of each member its score, mean over the scored classes, by image that it was not trained on."""
    from pipeline.inference.evaluate import image_scores
    from pipeline.scores import mean_scored

    own: list[dict[str, float]] = [{} for _ in range(num_members)]
    for image_id, result in zip(ids, results, strict=True):
        scores_J = mean_scored(image_scores(result["own"])[score], scored)
        for number, value in zip(held_out[image_id], scores_J.tolist(), strict=True):
            own[number][image_id] = value
    return own


def findings(
    rows: pd.DataFrame,
    held_out: HeldOut,
    by_method: Mapping[str, np.ndarray],
    own: Sequence[Mapping[str, float]],
    scored: Sequence[int],
    score: str,
) -> dict[str, Any]:
    """Returns, per method, the score and its gain over the members' mean on the same images, with their intervals.

    Args:
        by_method: confusion matrices, int64 (I, C, C).
        own: of each member, its score by image that it was not trained on.
        scored: indices of the classes that enter means.
        score: the name of the score, `dice` or `iou`.
    """
    import numpy as np

    from pipeline.inference.evaluate import image_scores
    from pipeline.intervals import group_numbers, interval
    from pipeline.scores import mean_scored

    ids = rows["id"].tolist()
    groups = group_numbers(ids, rows["sequence"])
    group_of = dict(zip(ids, groups.tolist(), strict=True))
    single = np.array([np.mean([own[number][image_id] for number in held_out[image_id]]) for image_id in ids])
    counts = np.array([len(held_out[image_id]) for image_id in ids])
    found: dict[str, Any] = {
        "images": len(rows),
        "sequences": len(np.unique(groups)),
        "score": score,
        "held_out": {"least": int(counts.min()), "mean": float(counts.mean()), "most": int(counts.max())},
        "single": vars(interval(single, groups)),
        "members": [],
        "methods": {},
    }
    for scores in own:
        own_groups = np.array([group_of[image_id] for image_id in scores])
        mean = vars(interval(np.array(list(scores.values())), own_groups)) if scores else None
        found["members"].append({"images": len(scores), "score": mean})
    for method, confusion_ICC in by_method.items():
        means = mean_scored(image_scores(confusion_ICC)[score], scored)
        gain = vars(interval(means - single, groups))
        found["methods"][method] = {"score": vars(interval(means, groups)), "gain": gain}
    return found


def findings_text(found: Mapping[str, Any]) -> str:
    """Returns the table of methods as text."""
    from pipeline.intervals import Interval
    from pipeline.scores import LABELS

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
