"""The training loss: any mix of named losses, computed in float32, with one set of class weights.

Letters: B images, C classes, H rows, W columns. The formulas are in `loss_terms.py`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.config.competition import IGNORE
from pipeline.errors import UserError
from pipeline.segmentation import loss_terms

LossTerm = Callable[[Tensor, Tensor, Tensor | None, int], Tensor]  # logits, mask, class weights, ignored value

TERMS: dict[str, LossTerm] = {
    "dice": loss_terms.soft_dice,
    "jaccard": loss_terms.soft_jaccard,
    "ce": loss_terms.cross_entropy,
    "focal": loss_terms.focal,
    "bitempered": loss_terms.bitempered,
    "lovasz": loss_terms.lovasz,
    "tversky": loss_terms.soft_tversky,
    "boundary": loss_terms.boundary,
}


@dataclass(frozen=True, eq=False)
class LossMix:
    """A weighted sum of named losses, called with logits and masks. Made by `build_loss`."""

    terms: tuple[tuple[str, float], ...]  # name and weight
    num_classes: int

    def __call__(self, logits_BCHW: Tensor, mask_BHW: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """Returns the loss of a batch.

        Args:
            logits_BCHW: network output; half precision is converted to float32, under autocast too.
            mask_BHW: true classes 0 to C - 1 or `IGNORE`, uint8 or int64.
            class_weights: (C,) of mean 1; None weighs all classes alike.

        Returns:
            A scalar, float32 (float64 for float64 logits). 0 with a zero gradient when every pixel is ignored.

        Raises:
            ValueError: the shapes of logits and mask do not fit.
            IndexError: a mask value is not a class.
        """
        return self.with_terms(logits_BCHW, mask_BHW, class_weights)[0]

    def with_terms(
        self, logits_BCHW: Tensor, mask_BHW: Tensor, class_weights: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch, and each term by name: before its weight, detached."""
        if logits_BCHW.shape[1] != self.num_classes or logits_BCHW.shape[2:] != mask_BHW.shape[1:]:
            raise ValueError(
                f"logits {tuple(logits_BCHW.shape)} and mask {tuple(mask_BHW.shape)} do not fit a loss of "
                f"{self.num_classes} classes: expected (B, {self.num_classes}, H, W) and (B, H, W)"
            )
        weights_C = class_weights
        with torch.autocast(logits_BCHW.device.type, enabled=False):
            logits_BCHW = logits_BCHW if logits_BCHW.dtype == torch.float64 else logits_BCHW.float()
            if weights_C is not None:
                weights_C = weights_C.to(logits_BCHW.device, logits_BCHW.dtype)
            values = {name: TERMS[name](logits_BCHW, mask_BHW, weights_C, IGNORE) for name, _ in self.terms}
            total = torch.stack([weight * values[name] for name, weight in self.terms]).sum()
        return total, {name: value.detach() for name, value in values.items()}


def build_loss(mix: Mapping[str, float] | Iterable[tuple[str, float]], num_classes: int) -> LossMix:
    """Returns the loss of a mix such as `{"ce": 0.7, "dice": 0.3}`.

    Args:
        mix: name and weight of each part; the weights need not sum to 1.
        num_classes: number of network outputs.

    Raises:
        UserError: a name is unknown or given twice, a weight is not above 0, or the mix is empty.

    >>> loss = build_loss({"ce": 0.7, "dice": 0.3}, num_classes=2)
    >>> loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]))
    tensor(0.6352)
    """
    terms = tuple(mix.items() if isinstance(mix, Mapping) else mix)
    names = [name for name, _ in terms]
    if not terms:
        raise UserError(f"the loss mix is empty: name at least one of {', '.join(TERMS)}")
    for name, weight in terms:
        if name not in TERMS:
            raise UserError(f"loss {name!r} is unknown: choose from {', '.join(TERMS)}")
        if names.count(name) > 1:
            raise UserError(f"loss {name!r} is in the mix {names.count(name)} times: add the weights up")
        if not (math.isfinite(weight) and weight > 0):
            raise UserError(
                f"loss {name!r} has weight {weight}, wanted a number above 0: leave it out to switch it off"
            )
    return LossMix(terms, num_classes)


def normalise_class_weights(weights: Sequence[float] | Tensor) -> Tensor:
    """Returns class weights scaled to sum to the number of classes: (C,) float32.

    Raises:
        UserError: a weight is negative or not finite, or all are 0.

    >>> normalise_class_weights([3.0, 1.0, 0.0])
    tensor([2.2500, 0.7500, 0.0000])
    """
    weights_C = torch.as_tensor(weights, dtype=torch.float64)
    if not bool(torch.isfinite(weights_C).all()) or bool((weights_C < 0).any()) or float(weights_C.sum()) == 0:
        raise UserError(f"class weights {weights_C.tolist()}: wanted numbers of at least 0, not all of them 0")
    return (weights_C * (len(weights_C) / weights_C.sum())).float()


def adaptive_class_weights(valid_dice_C: Sequence[float] | Tensor, max_weight: float) -> Tensor:
    """Returns class weights that are higher where the validation Dice is lower: (C,) float32 of mean 1.

    A class with Dice 0 weighs `max_weight` times as much as one with Dice 1. Source: as in the original.

    >>> adaptive_class_weights([1.0, 0.0], max_weight=3.0)
    tensor([0.5000, 1.5000])
    """
    valid_dice_C = torch.as_tensor(valid_dice_C, dtype=torch.float64)
    return normalise_class_weights((1 - valid_dice_C) * (max_weight - 1) + 1)
