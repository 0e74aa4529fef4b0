"""What a network's outputs mean, as records of functions: softmax for one class per pixel, sigmoid for any number.

Predictions name their activation, so ensembles, decoding and scores work with both. `decision.py` and `sigmoid.py`
hold the rules, `planes.py` the masks that sigmoid needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.config.competition import Competition
from pipeline.segmentation import decision, losses, losses_by_class, sigmoid, soft_losses
from pipeline.segmentation.compact import to_codes, to_sigmoid_codes
from pipeline.segmentation.scores import Counts
from pipeline.task import Loss

COUNTED_VALUES = 2**24  # of masks that are compared at once, so that a mask of a gigapixel needs little beside itself


@dataclass(frozen=True)
class Activation:
    """What differs between softmax and sigmoid. A mask is an index mask (H, W) or planes (H, W, C).

    Attributes:
        probs: (logits, class axis) to probabilities.
        from_probs: (probabilities (B, C, H, W)) to logits.
        choose: (logits (B, C, H, W)) to masks.
        count: (predicted masks, true masks, classes) to counts of pixels, int64: confusion matrices (B, C, C), or
            correct, true and predicted pixels (B, 3, C).
        to_codes: (logits (B, C, H, W)) to codes of `compact.py`.
        mixed_loss: (mix, logits, masks, class weights) to the loss of a batch.
        terms: names of the available losses.
    """

    name: str
    probs: Callable[..., Tensor]
    from_probs: Callable[[Tensor], Tensor]
    choose: Callable[[Tensor], Tensor]
    count: Callable[[Tensor, Tensor, int], Tensor]
    to_codes: Callable[[Tensor], Tensor]
    mixed_loss: Callable[..., Loss]
    terms: Sequence[str]

    @property
    def is_sigmoid(self) -> bool:
        return self.name == "sigmoid"

    def count_masks(self, predicted: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
        """Returns `count` of two masks, some rows at a time: int64 (C, C) or (3, C).

        Raises:
            ValueError: as `count`.
        """
        if predicted.shape != truth.shape:
            raise ValueError(f"prediction {predicted.shape} and mask {truth.shape} differ in shape")
        pred, mask = torch.from_numpy(predicted)[None], torch.from_numpy(truth)[None]
        step = COUNTED_VALUES // max(1, predicted[0].size) + 1
        blocks = [slice(top, top + step) for top in range(0, max(1, len(predicted)), step)]
        return sum(self.count(pred[:, rows], mask[:, rows], num_classes)[0].numpy() for rows in blocks)

    def counted(self, counts: np.ndarray) -> np.ndarray | Counts:
        """Returns what scores are computed from, for any number of results of `count_masks`."""
        return Counts(*np.moveaxis(counts, -2, 0)) if self.is_sigmoid else counts

    def split_counts(self, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns correct, true and predicted pixels of each class, (..., C) each, from results of `count`."""
        if self.is_sigmoid:
            hits, true, predicted = counts.unbind(-2)
            return hits, true, predicted
        return counts.diagonal(dim1=-2, dim2=-1), counts.sum(-1), counts.sum(-2)


SOFTMAX = Activation(
    name="softmax",
    probs=decision.probs,
    from_probs=decision.from_probs,
    choose=decision.choose,
    count=decision.count,
    to_codes=to_codes,
    mixed_loss=soft_losses.mixed_loss,
    terms=tuple(losses.TERMS),
)
SIGMOID = Activation(
    name="sigmoid",
    probs=sigmoid.probs,
    from_probs=sigmoid.from_probs,
    choose=sigmoid.choose,
    count=sigmoid.count,
    to_codes=to_sigmoid_codes,
    mixed_loss=losses_by_class.mixed_loss,
    terms=tuple(losses_by_class.TERMS),
)


def activation_of(competition: Competition) -> Activation:
    """Returns the activation of a competition's networks: LABELS says which."""
    return SIGMOID if competition.is_multilabel else SOFTMAX
