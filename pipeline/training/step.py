"""One optimizer step, and the running sums of an epoch kept on the device so that no step waits for the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.task import Batch, Criterion, Learning, Loss, Scores
from pipeline.training.finite import FiniteWatch
from pipeline.training.learner import Learner
from pipeline.training.memory import MicroBatches
from pipeline.training.ranks import group
from pipeline.training.ranks.engine import average_statistics

ALL = slice(None)


@dataclass(frozen=True)
class Means:
    """Means over the samples of an epoch so far, or over the images of a validation.

    Attributes:
        terms: of each term of the loss that was used, before its weight.
    """

    loss: float
    terms: dict[str, float | None]
    scores: Scores


class EpochSums:
    """Sums over the samples of an epoch, as float64 on the device.

    Args:
        learning: gives the task's own sums.
        terms: names of the loss terms that the plan uses.
    """

    def __init__(self, learning: Learning, terms: Sequence[str], device: torch.device) -> None:
        self.learning, self.terms = learning, tuple(terms)
        # Loss and samples; then each term and the samples that it was computed for; then the task's sums.
        self.values = torch.zeros(2 + 2 * len(terms) + learning.num_sums, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, loss: Loss, sample_sums: Tensor, num_samples: int) -> None:
        """Adds a batch, of all ranks; nothing is copied between host and device.

        Args:
            sample_sums: the task's own sums over its samples.
        """
        total = loss.total.double()
        zero, count = torch.zeros_like(total), torch.full_like(total, num_samples)
        sums = [total * num_samples, count]
        for name in self.terms:
            sums += [loss.terms[name].double() * num_samples, count] if name in loss.terms else [zero, zero]
        self.values += group.summed(torch.cat([torch.stack(sums), sample_sums]))

    def means(self) -> Means:
        """Returns the means over all samples so far."""
        values = self.values.tolist()
        count, first = max(values[1], 1), 2 + 2 * len(self.terms)
        pairs = zip(self.terms, values[2:first:2], values[3:first:2], strict=True)
        terms = {name: total / samples if samples else None for name, total, samples in pairs}
        scores = self.learning.sample_scores([value / count for value in values[first:]])
        return Means(values[0] / count, terms, scores)

    def num_samples(self) -> int:
        """Returns how many samples are in the sums."""
        return int(self.values[1])

    def reset(self) -> None:
        """Starts a new epoch."""
        self.values.zero_()

    def state_dict(self) -> Tensor:
        """Returns the sums for a checkpoint."""
        return self.values.cpu()

    def load_state_dict(self, values: Tensor, terms: Sequence[str] | None = None) -> None:
        """Continues sums from a checkpoint.

        Args:
            terms: the loss terms of these sums, where they may be others than today's; one that is new is at zero.
        """
        terms = self.terms if terms is None else terms
        first = 2 + 2 * len(terms)
        pairs = dict(zip(terms, values[2:first].reshape(-1, 2), strict=True))
        own = [pairs.get(name, values.new_zeros(2)) for name in self.terms]
        self.values.copy_(torch.cat([values[:2], *own, values[first:]]))


def train_step(
    learner: Learner,
    batch: Batch,
    criterion: Criterion,
    sums: EpochSums,
    watch: FiniteWatch,
    position: Any = None,
) -> Loss:
    """Does forward, backward and one optimizer step on a batch, cut into SOLVER.ACCUMULATE micro-batches.

    Where memory runs out, forward and backward are repeated in more of them, see `memory.py`. Of several ranks each
    takes its part of every micro-batch, and all take the same step. None repeats one: the others would wait for it.

    Args:
        batch: that of all ranks, or this rank's part of it, see `PartSampler`.
        position: where this is, for the message when the step is not finite.

    Returns:
        The mean loss of the batch and its terms, on the device.

    Raises:
        NotFinite: loss or gradient are not finite, now or (see `FiniteWatch`) one step ago. The weights are untouched
            where the answer does not lag.
    """
    solver, learning = learner.config.solver, sums.learning
    images_BHWC = batch.images.to(learner.device, non_blocking=True)
    labels = learning.to_device(batch.labels)

    def attempt(num_parts: int, own: slice = ALL) -> tuple[list[Loss], list[float]]:
        return accumulated(learner, criterion, sums, (images_BHWC, labels), num_parts, own)

    if group.count() > 1:
        losses, shares = attempt(*own_parts(len(images_BHWC), learner.micro))
    else:
        losses, shares = learner.micro.fitted(attempt, len(images_BHWC), learner.network, sums.values)
    learner.scaler.unscale_(learner.optimizer)
    is_finite = torch.isfinite(torch.stack([loss.total for loss in losses])).all()
    norm = _clip(learner, solver.clip_norm)
    # The scaler leaves out a step whose gradients overflow and goes on with a smaller scale.
    if not learner.scaler.is_enabled():
        is_finite &= torch.isfinite(norm)
    watch.check(is_finite, "the training loss or its gradient is not finite", position)
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    if group.count() > 1 and not learner.config.runtime.sync_batch_norm:
        average_statistics(learner.network)
    if learner.ema:
        learner.ema.update(learner.network)
    return _weighted(losses, shares)


def accumulated(
    learner: Learner, criterion: Criterion, sums: EpochSums, batch: tuple[Tensor, Any], num_parts: int, own: slice
) -> tuple[list[Loss], list[float]]:
    """Adds up the gradients of those of a batch's parts that this process computes; returns their losses and shares.

    The gradient is that of the whole batch. If the loss is divided by a count, the count is known only after the last
    part; until then, parts are weighted relative to the first one.
    """
    learner.optimizer.zero_grad(set_to_none=True)
    images_BHWC, labels = batch
    pairs = zip(images_BHWC.tensor_split(num_parts), sums.learning.split_labels(labels, num_parts), strict=True)
    pairs = list(pairs)[own]
    sizes = [len(images_part) for images_part, _ in pairs]
    losses, sampled = [], 0
    for index, (images_part, labels_part) in enumerate(pairs):
        with learner.reducing(index == len(pairs) - 1), group.joint_batches():
            outputs = learner.outputs(images_part)
            loss = criterion(outputs, labels_part)
            losses.append(loss._replace(total=loss.total.detach()))
            is_mean = loss.count is None
            share = sizes[index] / sum(sizes) if is_mean else loss.count.clamp(min=1) / losses[0].count.clamp(min=1)
            learner.scaler.scale(loss.total * share).backward()
            with torch.no_grad():
                sampled = sampled + sums.learning.sample_sums(outputs, labels_part)
    weights, divisor = weights_of(losses, sizes)
    shares = [weight / divisor for weight in weights]
    if not is_mean and len(pairs) > 1:
        torch._foreach_mul_([param.grad for param in learner.network.parameters() if param.grad is not None], shares[0])
    with group.joint_batches():
        sums.add(_weighted(losses, shares), sampled, sum(sizes))
    return losses, shares


def weights_of(losses: Sequence[Loss], samples: Sequence[float]) -> tuple[list[Any], Any]:
    """Returns the weight of each part's loss in that of the whole, and what the weighted sum is divided by.

    Args:
        samples: of each part.

    >>> weights_of([Loss(torch.tensor(3.0), {}), Loss(torch.tensor(1.0), {})], [1, 3])
    ([1, 3], 4)
    >>> parts = [Loss(torch.tensor(3.0), {}, torch.tensor(count)) for count in (6, 0)]
    >>> weights, divisor = weights_of(parts, [1, 3])
    >>> [weight.item() for weight in weights], divisor.item()
    ([6, 1], 6)
    """
    if losses[0].count is None:
        return list(samples), sum(samples)
    counts = torch.stack([loss.count for loss in losses])
    return list(counts.clamp(min=1)), counts.sum().clamp(min=1)


def own_parts(num_loaded: int, micro: MicroBatches) -> tuple[int, slice]:
    """Returns into how many parts to cut what was loaded, and which of them this one of several ranks computes.

    Args:
        num_loaded: samples of the batch, or of this rank's part of it.
    """
    if num_loaded == micro.batch_size:
        return micro.accumulate * group.count(), slice(group.rank(), None, group.count())
    return micro.accumulate, ALL


def _weighted(losses: Sequence[Loss], shares: Sequence[float]) -> Loss:
    """Returns the loss of a batch from those of its parts."""
    total = sum(loss.total * share for loss, share in zip(losses, shares, strict=True))
    names = losses[0].terms
    return Loss(
        total,
        {name: sum(loss.terms[name] * share for loss, share in zip(losses, shares, strict=True)) for name in names},
    )


def _clip(learner: Learner, clip_norm: float | None) -> Tensor:
    """Limits the gradient's norm to `clip_norm`, if one is given; returns what it was."""
    params = [param for param in learner.network.parameters() if param.grad is not None]
    if clip_norm is not None:
        return torch.nn.utils.clip_grad_norm_(params, clip_norm)
    return torch.nn.utils.get_total_norm([param.grad for param in params])
