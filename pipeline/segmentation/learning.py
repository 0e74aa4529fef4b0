"""What training and validation need of segmentation: loss, running sums, scores. See `Learning` in `pipeline/task.py`.

Letters: B images, C classes, P images of a whole validation, H rows, W columns. A network whose padding is a class of
its own has one output more than there are classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config.competition import IGNORE
from pipeline.config.load import Loaded
from pipeline.config.loss_mix import parse_mix
from pipeline.config.schema import LossFn
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.scores import BASIC, Chosen, chosen_scores, mean_score, mean_scored
from pipeline.segmentation.activation import SOFTMAX, Activation, activation_of
from pipeline.segmentation.auxiliary import with_presence
from pipeline.segmentation.class_weights import weights_of
from pipeline.segmentation.labels import class_presence
from pipeline.segmentation.mask_scores import score_masks
from pipeline.segmentation.mixing import MixedMasks, heavier, masks_to, mixed_criterion, split_masks
from pipeline.segmentation.networks import main_logits, num_outputs, whole_logits
from pipeline.segmentation.scores import counts_of, dataset_iou, scores_over_all
from pipeline.segmentation.soft_losses import as_index
from pipeline.task import Criterion, Learning, Score, Scores
from pipeline.training.inputs import split_rows


def learning(run: Run, device: torch.device) -> Learning:
    """Returns what training and validation need, for a run on a device.

    Raises:
        UserError: no training image shows a class of the loss.
    """
    loaded, loss_fn = run.loaded, run.loaded.config.loss_fn
    if loaded.config.datasets.classes != "all" and not loaded.has_pseudo_labels:
        _require_loss_classes(run)
    competition = loaded.competition
    weights = weights_of(run) if isinstance(loss_fn.weights, str) else loss_fn.weights
    chosen = chosen_scores(competition, loaded.config.solver.monitor).without_volumes()
    classes = (competition.class_names, scored_classes(loaded), loss_classes(loaded), num_outputs(loaded))
    options = (loss_fn, device, chosen, activation_of(competition), weights, loaded.config.model.aux_weight)
    return bind(*classes, *options)


def _require_loss_classes(run: Run) -> None:
    shown_C = class_presence(split_rows(run.paths, "train")).any(0)
    names = run.loaded.competition.class_names
    if not shown_C[list(loss_classes(run.loaded))].any():
        chosen, known = (", ".join(own) for own in (run.loaded.config.datasets.classes, np.array(names)[shown_C]))
        raise UserError(
            f"DATASETS.CLASSES: no training image shows {chosen}, so there is nothing to learn; choose from {known}"
        )


def loss_classes(loaded: Loaded) -> tuple[int, ...]:
    """Returns the indices of the classes that enter the loss (DATASETS.CLASSES)."""
    names = loaded.competition.class_names
    chosen = loaded.config.datasets.classes
    return tuple(index for index, name in enumerate(names) if chosen == "all" or name in chosen)


def scored_classes(loaded: Loaded) -> tuple[int, ...]:
    """Returns the indices of the classes that enter means and monitor: the loss classes that are submitted."""
    submitted = loaded.competition.scored_indices
    return tuple(index for index in loss_classes(loaded) if index in submitted)


def bind(
    classes: Sequence[str],
    scored: Sequence[int],
    in_loss: Sequence[int],
    outputs: int,
    loss_fn: LossFn,
    device: torch.device,
    chosen: Chosen = BASIC,
    activation: Activation = SOFTMAX,
    weights: Sequence[float] | None = None,
    aux_weight: float = 0.0,
) -> Learning:
    """Returns the same for these classes.

    Args:
        scored: indices of the classes that enter means.
        in_loss: indices of the classes that enter the loss.
        outputs: channels of the network.
        chosen: the scores of a validation; those of training samples are Dice and IoU.
        activation: whether a pixel has one class, or any number of them.
        weights: of the classes, in the loss; None: those of LOSS_FN.
        aux_weight: of the loss of the auxiliary head; 0: there is none.
    """
    num_classes = len(classes)
    given = loss_fn.weights if weights is None else weights

    def criterion(mix: str, epoch: int, class_dice: Sequence[float]) -> Criterion:
        if loss_fn.adaptive.enable and epoch > 0 and class_dice:  # the validation before training is not used
            weights_C = _only_in_loss(adaptive_class_weights(class_dice, loss_fn.adaptive.max_weight), in_loss, outputs)
        else:
            weights_C = fixed_weights(given, in_loss, num_classes, outputs)
        weights_C = None if weights_C is None else weights_C.to(device)
        main = partial(activation.mixed_loss, parse_mix(mix), weights_C=weights_C)
        return mixed_criterion(with_presence(main, aux_weight, in_loss) if aux_weight else main)

    def sample_sums(logits_BCHW: Tensor, masks: Tensor | MixedMasks) -> Tensor:
        counts = count_pixels(main_logits(logits_BCHW), heavier(masks), num_classes, activation)
        dice_BC, iou_BC = dice_iou(*activation.split_counts(counts))
        return torch.cat([dice_BC.sum(0), iou_BC.sum(0)])

    def sample_scores(means: Sequence[float]) -> Scores:
        dice, iou = list(means[:num_classes]), list(means[num_classes:])
        by_name = {"dice": score_of_classes(dice, scored), "iou": score_of_classes(iou, scored)}
        return Scores(by_name, dice, [True] * num_classes)

    return Learning(
        classes=tuple(classes),
        scored=tuple(scored),
        class_label="Dice",
        split_labels=split_masks,
        to_device=partial(masks_to, device=device),
        join_outputs=torch.cat,
        criterion=criterion,
        num_sums=2 * num_classes,
        sample_sums=sample_sums,
        sample_scores=sample_scores,
        scorer=lambda: MaskScorer(num_classes, tuple(scored), chosen, activation),
        whole=whole_logits,
    )


@dataclass
class MaskScorer:
    """Counts of pixels of a validation, kept on the network's device until all images are in.

    Scores that need the masks are computed batch by batch, on the CPU; those of a large image are the mean of its
    windows'.
    """

    num_classes: int
    scored: tuple[int, ...]
    chosen: Chosen = BASIC
    activation: Activation = SOFTMAX
    counts: list[Tensor] = field(default_factory=list)
    of_masks: list[dict[str, np.ndarray]] = field(default_factory=list)
    windows: dict[str, MaskScorer] = field(default_factory=dict)

    def add(self, logits_BCHW: Tensor, masks: Tensor, windows_of: str | None = None) -> None:
        """Adds a batch: logits (B, C or one more, H, W), masks uint8 (B, H, W) or (B, H, W, C), 255 where ignored.

        Args:
            windows_of: the id of the image of which the batch has windows.
        """
        if windows_of is not None:
            fresh = MaskScorer(self.num_classes, self.scored, self.chosen, self.activation)
            self.windows.setdefault(windows_of, fresh).add(logits_BCHW, masks)
            return
        predicted = self.activation.choose(logits_BCHW[:, : self.num_classes])
        masks = without_padding_class(masks, self.num_classes)
        self.counts.append(self.activation.count(predicted, masks, self.num_classes))
        if names := self.chosen.of_masks:
            pairs = zip(predicted.cpu().numpy(), masks.cpu().numpy(), strict=True)
            self.of_masks += [score_masks(names, *pair, self.num_classes, self.chosen.options) for pair in pairs]

    def collected(self) -> dict[str, Any]:
        """Returns what was added, on the CPU, for `take` of another process's scorer."""
        windows = {image_id: own.collected() for image_id, own in self.windows.items()}
        return {"counts": [own.cpu() for own in self.counts], "of_masks": self.of_masks, "windows": windows}

    def take(self, collected: Mapping[str, Any]) -> None:
        """Adds what another scorer has collected, of the batches that follow."""
        self.counts += collected["counts"]
        self.of_masks += collected["of_masks"]
        for image_id, own in collected["windows"].items():
            fresh = MaskScorer(self.num_classes, self.scored, self.chosen, self.activation)
            self.windows.setdefault(image_id, fresh).take(own)

    def scores(self) -> Scores:
        """Returns Dice and IoU per image, as the competition's, the IoU of all pixels, and what else is chosen.

        Images whose pixels are all ignored have no Dice and no IoU.
        """
        for own in self.windows.values():
            self.counts.append(torch.cat(own.counts).sum(0, keepdim=True))
            if names := self.chosen.of_masks:
                values = {name: np.stack([scores[name] for scores in own.of_masks]) for name in names}
                self.of_masks.append({name: values_PC.mean(0) for name, values_PC in values.items()})
        self.windows = {}
        counts = torch.cat(self.counts)
        of_images = counts if self.activation.is_sigmoid else counts[counts.flatten(1).any(1)]  # not all ignored
        dice_PC, iou_PC = dice_iou(*self.activation.split_counts(of_images))
        summed = counts.sum(0)
        hits_C, true_C, _ = self.activation.split_counts(summed)
        found_C = (hits_C > 0) | (true_C == 0)
        miou_C = dataset_iou(self.activation.counted(summed.cpu().numpy()))
        families = {"dice": dice_PC.mean(0), "iou": iou_PC.mean(0), "miou": miou_C}
        by_name = {name: score_of_classes(values.tolist(), self.scored) for name, values in families.items()}
        if self.chosen.others:
            by_name |= self._others(counts.cpu().numpy())
        return Scores(by_name, by_name["dice"].classes, found_C.tolist())

    def _others(self, counts: np.ndarray) -> dict[str, Score]:
        of_masks = {name: np.stack([own[name] for own in self.of_masks]) for name in self.chosen.of_masks}
        counted = self.activation.counted(counts)
        values, true_C = scores_over_all(counted, self.chosen, of_masks), counts_of(counted).true.sum(0)
        means = {name: mean_score(name, values[name], self.scored, true_C) for name in self.chosen.others}
        return {name: Score(None if math.isnan(mean) else mean, values[name].tolist()) for name, mean in means.items()}


def dice_iou(hits_C: Tensor, true_C: Tensor, predicted_C: Tensor) -> tuple[Tensor, Tensor]:
    """Returns Dice and IoU of each class, 1 where truth and prediction both lack it: two (..., C) float64.

    Takes counts of pixels, (..., C) each. They stay on the device: no GPU has to wait.

    >>> dice, iou = dice_iou(torch.tensor([2, 0, 0]), torch.tensor([3, 1, 0]), torch.tensor([3, 1, 0]))
    >>> dice.tolist(), iou.tolist()
    ([0.6666666666666666, 0.0, 1.0], [0.5, 0.0, 1.0])
    """
    hits_C, areas_C = hits_C.double(), (true_C + predicted_C).double()
    dice_C, iou_C = 2 * hits_C / areas_C, hits_C / (areas_C - hits_C)
    return dice_C.masked_fill(areas_C == 0, 1.0), iou_C.masked_fill(areas_C == 0, 1.0)


def count_pixels(logits_BCHW: Tensor, masks: Tensor, num_classes: int, activation: Activation = SOFTMAX) -> Tensor:
    """Returns the counts of each image, int64 (B, C, C) or (B, 3, C); a padding class is left out.

    Soft labels of one class per pixel count for the class of the largest share.
    """
    predicted = activation.choose(logits_BCHW[:, :num_classes])
    masks = masks if activation.is_sigmoid else as_index(masks)
    return activation.count(predicted, without_padding_class(masks, num_classes), num_classes)


def without_padding_class(masks: Tensor, num_classes: int) -> Tensor:
    """Returns index masks with pixels of a padding class ignored; planes have none."""
    return masks.masked_fill(masks >= num_classes, IGNORE) if masks.ndim == 3 else masks


def score_of_classes(values: list[float], scored: Sequence[int]) -> Score:
    """Returns a score with its mean over the scored classes that have a value.

    >>> score_of_classes([0.5, math.nan, 0.7], scored=[0, 1]).mean, score_of_classes([math.nan], scored=[0]).mean
    (0.5, None)
    """
    mean = float(mean_scored(values, scored))
    return Score(None if math.isnan(mean) else mean, values)


def fixed_weights(
    given: Sequence[float] | None, in_loss: Sequence[int], num_classes: int, num_outputs: int
) -> Tensor | None:
    """Returns LOSS_FN.WEIGHTS per output, 0 for classes outside DATASETS.CLASSES; None when all are alike.

    >>> fixed_weights(None, in_loss=(0, 2), num_classes=3, num_outputs=4)
    tensor([1.5000, 0.0000, 1.5000, 1.0000])
    """
    if given is None and len(in_loss) == num_classes:
        return None
    return _only_in_loss(torch.tensor(given or [1.0] * num_classes), in_loss, num_outputs)


def _only_in_loss(weights_C: Tensor, in_loss: Sequence[int], num_outputs: int) -> Tensor:
    """Returns weights of mean 1, 0 for classes outside the loss, and 1 for a padding class."""
    keep_C = torch.zeros(len(weights_C))
    keep_C[list(in_loss)] = 1.0
    weights_C = normalise_class_weights(weights_C * keep_C)
    return torch.cat([weights_C, torch.ones(num_outputs - len(weights_C))])


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
