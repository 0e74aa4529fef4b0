"""Combines several members' predictions of one image into one mask, a few rows at a time.

In: one `Prediction` per member, of any network, tiles and padding. Out: index masks, or planes where a pixel may have
several classes. Only running sums over a few rows
are held, so memory grows neither with the number of members nor with the image, and no further store is needed.

Letters: M members, C classes, R rows of a block, W the image's columns.

    AP        class of the highest mean probability
    BP        class of the highest single probability
    MW        class that most members choose; ties go to the class with the highest single probability
    GEO       class of the highest geometric mean probability
    WEIGHTED  class of the highest weighted mean probability, weights per member or per member and class

Where a pixel may have several classes, each class is decided alone: it is there where its mean (AP, WEIGHTED),
geometric mean of the odds (GEO), or most certain probability (BP) reaches its threshold, 0.5 unless another is fitted;
or where more than half of the members say so (MW; with half of them the mean probability decides).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import UserError
from pipeline.prediction.fewer_members import normalised
from pipeline.segmentation import decision, sigmoid
from pipeline.segmentation.compact import BAND_PIXELS
from pipeline.segmentation.predict import Prediction

Method = Literal["AP", "BP", "MW", "GEO", "WEIGHTED"]
METHODS: tuple[Method, ...] = ("AP", "BP", "MW", "GEO")  # those that need no weights
BLOCK_PIXELS = BAND_PIXELS  # 1.5 MB of float32 for 12 classes: softmax and sums stay in a core's cache


@dataclass(frozen=True)
class Recipe:
    """How members are combined.

    Attributes:
        weights: float64 (M, C) or (M, 1), columns of sum 1; with WEIGHTED only.
        thresholds: float64 (C,), from which probability on a class is there where a pixel may have several; None: 0.5.
    """

    method: Method
    weights: np.ndarray | None = None
    thresholds: np.ndarray | None = None


def for_members(recipe: Recipe, numbers: Sequence[int]) -> Recipe:
    """Returns the recipe for some of the members, given by their numbers, with weights normalised over them.

    >>> for_members(Recipe("WEIGHTED", normalised([2, 3, 5])), [0, 1]).weights.tolist()
    [[0.4], [0.6]]
    """
    if recipe.weights is None:
        return recipe
    return replace(recipe, weights=normalised(recipe.weights[list(numbers)]))


def found_recipe(found: Mapping[str, Any]) -> Recipe:
    """Returns the recipe that ensemble.json names."""
    return Recipe(found["method"], None if found["weights"] is None else np.array(found["weights"]))


def combine(
    predictions: Sequence[Prediction], recipes: Sequence[Recipe], excluded: Sequence[int] = ()
) -> list[np.ndarray]:
    """Returns a mask per recipe, uint8 (height, width) or planes (height, width, C); members are read once for all.

    Args:
        predictions: one per member, of the same image.
        recipes: one per mask; weights have a row per prediction.
        excluded: classes that may not be chosen.

    Raises:
        UserError: predictions are of different sizes or numbers of classes.

    >>> logits = np.log(np.array([[0.6, 0.2, 0.2], [0.1, 0.4, 0.5], [0.1, 0.4, 0.5]], np.float16))[:, :, None, None]
    >>> members = [Prediction(one, 1, False, (0, 0), (1, 1)) for one in logits]
    >>> [mask.item() for mask in combine(members, [Recipe("AP"), Recipe("BP"), Recipe("MW"), Recipe("GEO")])]
    [2, 0, 2, 2]
    """
    activation, num_classes = predictions[0].activation, len(predictions[0].logits)
    size = common_size(predictions)
    masks = [np.empty((*size, num_classes) if activation.is_sigmoid else size, np.uint8) for _ in recipes]
    for top, bottom, rows in combined_rows(predictions, recipes, excluded):
        for mask, own in zip(masks, rows, strict=True):
            mask[top:bottom] = own
    return masks


def combined_rows(
    predictions: Sequence[Prediction], recipes: Sequence[Recipe], excluded: Sequence[int] = ()
) -> Iterator[tuple[int, int, list[np.ndarray]]]:
    """Yields (first row, row behind the last, rows of the mask of each recipe), top to bottom; see `combine`."""
    activation = predictions[0].activation
    scores_of = _margins if activation.is_sigmoid else _scores
    for top, bottom in row_blocks(*common_size(predictions)):
        rows = []
        for scores_CRW in scores_of(predictions, recipes, top, bottom):
            if excluded:
                scores_CRW = scores_CRW.clone()  # the sums may serve the next recipe too
                scores_CRW[list(excluded)] = -torch.inf
            rows.append(activation.choose(scores_CRW[None])[0].numpy())
        yield top, bottom, rows


def next_best(predictions: Sequence[Prediction], recipe: Recipe, excluded: Sequence[int] = ()) -> np.ndarray:
    """Returns the second best class of each pixel, uint8 (height, width), where a pixel has one class.

    Args:
        excluded: classes that may not be chosen.
    """
    mask_HW = np.empty(common_size(predictions), np.uint8)
    for top, bottom in row_blocks(*mask_HW.shape):
        (scores_CRW,) = _scores(predictions, [recipe], top, bottom)
        scores_CRW = scores_CRW.float().clone()
        scores_CRW[list(excluded)] = -torch.inf
        best_1RW = decision.choose(scores_CRW[None]).long()
        scores_CRW.scatter_(0, best_1RW, -torch.inf)
        mask_HW[top:bottom] = decision.choose(scores_CRW[None])[0].numpy()
    return mask_HW


def mean_probs(predictions: Sequence[Prediction]) -> Iterator[tuple[int, int, Tensor]]:
    """Yields (first row, row behind the last, mean probabilities float32 (C, R, W)) of one image, top to bottom."""
    probs = predictions[0].activation.probs
    for top, bottom in row_blocks(*common_size(predictions)):
        first, *others = (probs(logits_rows(one, top, bottom), 0) for one in predictions)
        for probs_CRW in others:
            first += probs_CRW
        yield top, bottom, first.div_(len(predictions))


def row_blocks(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yields (first row, row behind the last) of blocks that cover an image.

    >>> list(row_blocks(5, 2**13))
    [(0, 4), (4, 5)]
    """
    step = max(1, BLOCK_PIXELS // width)
    for top in range(0, height, step):
        yield top, min(top + step, height)


def logits_rows(prediction: Prediction, top: int, bottom: int) -> Tensor:
    """Returns rows of the image's full-size logits, float32 (C, R, W): those of `full_logits`, computed alone.

    The bilinear upsampling goes first down the columns and then along the rows, which gives the same values.
    """
    (frame_top, left), (_, width), factor = prediction.offset, prediction.size, prediction.factor
    stored_rows = prediction.logits.shape[1]
    if factor == 1:
        rows = prediction.logits[:, frame_top + top : frame_top + bottom, left : left + width]
        return torch.from_numpy(np.array(rows)).float()
    positions = torch.arange(frame_top + top, frame_top + bottom, dtype=torch.float64)
    if prediction.align_corners:
        positions *= (stored_rows - 1) / max(1, stored_rows * factor - 1)
    else:
        positions = ((positions + 0.5) / factor - 0.5).clamp_min(0)
    above = positions.long().clamp_max(stored_rows - 1)
    below = (above + 1).clamp_max(stored_rows - 1)
    first, last = int(above[0]), int(below[-1])
    stored_CRw = torch.from_numpy(np.array(prediction.logits[:, first : last + 1])).float()
    share_R1 = (positions - above).float()[:, None]
    rows_CRw = torch.lerp(stored_CRw[:, above - first], stored_CRw[:, below - first], share_R1)
    num_columns = stored_CRw.shape[2] * factor
    rows_CRw = F.interpolate(rows_CRw, size=num_columns, mode="linear", align_corners=prediction.align_corners)
    return rows_CRw[:, :, left : left + width]


def check_members(facts: Mapping[str, Mapping[str, object]]) -> None:
    """Refuses members whose stores have other classes or another competition than the first member's.

    Args:
        facts: the store's index by the member's name, of which `competition` and `classes` are compared.

    Raises:
        UserError: names both members and what differs.
    """
    first, *others = facts
    for name in others:
        for key in ("competition", "classes"):
            expected, found = facts[first].get(key), facts[name].get(key)
            if found != expected:
                raise UserError(
                    f"{name} cannot be combined with {first}: {key} of {name}: {_listed(found)}; "
                    f"{key} of {first}: {_listed(expected)}. Take {name} out of ENSEMBLE.MEMBERS."
                )


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def common_size(predictions: Sequence[Prediction]) -> tuple[int, int]:
    """Returns the (height, width) of an image that all members predict.

    Raises:
        UserError: their predictions are of different sizes, classes or LABELS.
    """
    if len({prediction.is_sigmoid for prediction in predictions}) > 1:
        raise UserError("members were predicted with different LABELS; predict again with --force")
    sizes = {tuple(prediction.size) for prediction in predictions}
    classes = {len(prediction.logits) for prediction in predictions}
    if len(sizes) != 1 or len(classes) != 1:
        raise UserError(
            f"members predict one image at sizes {sorted(sizes)} (height, width) with {sorted(classes)} classes, "
            "expected one size and one number of classes; predict again with --force"
        )
    return sizes.pop()


def _margins(predictions: Sequence[Prediction], recipes: Sequence[Recipe], top: int, bottom: int) -> list[Tensor]:
    """Returns per recipe how far each class is above its threshold, float32 (C, R, W): it is there from 0 on."""
    logits_MCRW = torch.stack([logits_rows(prediction, top, bottom) for prediction in predictions])
    probs_MCRW = sigmoid.probs(logits_MCRW)
    margins = []
    for recipe in recipes:
        thresholds = 0.5 if recipe.thresholds is None else torch.from_numpy(recipe.thresholds).float()[:, None, None]
        mean_CRW = None
        if recipe.weights is not None:
            weights = torch.from_numpy(np.broadcast_to(recipe.weights, probs_MCRW.shape[:2]).copy()).float()
            mean_CRW = torch.einsum("mcrw,mc->crw", probs_MCRW, weights)
        elif recipe.method == "GEO":
            mean_CRW = sigmoid.probs(logits_MCRW.mean(0))
        elif recipe.method == "BP":
            surest_1CRW = (probs_MCRW - 0.5).abs().argmax(0, keepdim=True)
            mean_CRW = probs_MCRW.gather(0, surest_1CRW)[0]
        else:
            mean_CRW = probs_MCRW.mean(0)
        margin_CRW = mean_CRW - thresholds
        if recipe.method == "MW":
            votes_CRW = 2 * (probs_MCRW >= thresholds).sum(0) - len(predictions)
            margin_CRW = torch.where(votes_CRW == 0, margin_CRW, votes_CRW.float())
        margins.append(margin_CRW)
    return margins


def _scores(predictions: Sequence[Prediction], recipes: Sequence[Recipe], top: int, bottom: int) -> list[Tensor]:
    """Returns per recipe the scores that rank the classes, float32 (C, R, W)."""
    methods = {recipe.method for recipe in recipes}
    sums: dict[str, Tensor] = {}

    def add(name: str, values: Tensor) -> None:
        sums[name] = sums[name].add_(values) if name in sums else values.clone()

    for member, prediction in enumerate(predictions):
        logits_CRW = logits_rows(prediction, top, bottom)
        if "GEO" in methods:
            add("GEO", decision.unnormalised_log_probs(logits_CRW))
        if methods == {"GEO"}:
            continue
        probs_CRW = decision.probs(logits_CRW, 0)
        if "AP" in methods:
            add("AP", probs_CRW)
        if methods & {"BP", "MW"}:
            highest = sums.get("BP")
            sums["BP"] = probs_CRW if highest is None else torch.maximum(highest, probs_CRW)
        if "MW" in methods:
            add("votes", decision.vote(probs_CRW))
        for index, recipe in enumerate(recipes):
            if recipe.weights is not None:
                weights_C11 = torch.from_numpy(np.ascontiguousarray(recipe.weights[member])).float()[:, None, None]
                add(f"WEIGHTED {index}", probs_CRW * weights_C11)
    if "MW" in methods:
        votes_CRW = sums["votes"]
        sums["MW"] = sums["BP"].masked_fill(votes_CRW < votes_CRW.amax(0), -1.0)
    names = [recipe.method if recipe.weights is None else f"WEIGHTED {index}" for index, recipe in enumerate(recipes)]
    return [sums[name] for name in names]
