"""Passes over validation images: a whole one after an epoch, and one over few images after each step of an LR sweep."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from pipeline.data.loaders import image_loader, valid_batches
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.scores import score_of
from pipeline.task import Batch, Criterion, Learning, Loss, Scores
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.inputs import split_rows, valid_folder
from pipeline.training.learner import Learner, autocast
from pipeline.training.memory import in_parts
from pipeline.training.ranks import group
from pipeline.training.step import Means, weights_of

Item = TypeVar("Item")


def validate(learner: Learner, batches: Iterable[Batch], criterion: Criterion, learning: Learning) -> Means:
    """Returns loss and scores of the network (averaged weights where the run keeps them) on validation batches.

    Of several ranks each has batches of its own, and all return the same.
    """
    scaling, scorer = scaling_of(learner.network, learner.config.model.encoder), learning.scorer()
    losses, counts = [], []
    with learner.validated() as network:
        for batch in batches:
            images_BHWC = batch.images.to(learner.device, non_blocking=True)
            labels = learning.to_device(batch.labels)
            with autocast(learner.device, learner.precision):
                outputs = in_parts(
                    lambda part: learning.whole(network, normalise(part, scaling)),
                    images_BHWC,
                    learning.join_outputs,
                    learner.limit,
                )
            losses.append(criterion(outputs, labels))
            counts.append(batch.num_images)
            scorer.add(outputs, labels, *([batch.windows_of] if batch.windows_of is not None else []))
    if group.count() > 1:
        losses, counts, scorer = _of_all_ranks(losses, counts, scorer, learning)
    # Shares of windows are rounded to float32 in the sum, too: the mean of equal losses is then that loss.
    weights, divisor = weights_of(losses, torch.tensor(counts).tolist())

    def mean(values: list[Tensor]) -> float:
        values_B = torch.stack([value.double() for value in values])
        return float((values_B * torch.tensor(weights).to(values_B)).sum() / divisor)

    terms = {name: mean([loss.terms[name] for loss in losses]) for name in losses[0].terms}
    return Means(mean([loss.total for loss in losses]), terms, scorer.scores())


def _of_all_ranks(
    losses: list[Loss], counts: list[float], scorer: Any, learning: Learning
) -> tuple[list[Loss], list[float], Any]:
    """Returns what all ranks have collected, in the order of the batches."""
    own = [
        Loss(loss.total.cpu(), {name: term.cpu() for name, term in loss.terms.items()}, _on_cpu(loss.count))
        for loss in losses
    ]
    parts = group.objects_of_all((own, counts, scorer.collected()))
    scorer = learning.scorer()
    for _, _, collected in parts:
        scorer.take(collected)
    return [loss for part in parts for loss in part[0]], [number for part in parts for number in part[1]], scorer


def _on_cpu(count: Tensor | None) -> Tensor | None:
    return None if count is None else count.cpu()


def no_validation(learning: Learning) -> Means:
    """Returns a validation of no image: nothing in it has a value."""
    scores = learning.sample_scores([math.nan] * learning.num_sums)
    return Means(math.nan, {}, Scores(scores.by_name, [], []))


def monitored_value(monitor: str, validation: Means, epoch: int) -> float:
    """Returns what SOLVER.MONITOR watches, as a value to be lowered; a score without a value counts as 0.

    Without a validation each epoch is better than the one before.

    Raises:
        UserError: the task has no such score.
    """
    name, found = score_of(monitor), validation.scores.by_name
    if math.isnan(validation.loss):  # one of no image, see `no_validation`; any other is finite
        return -float(epoch)
    if name is None:
        return validation.loss
    if name not in found:
        raise UserError(f"SOLVER.MONITOR {monitor}: the scores are {', '.join(found)}; name one of them")
    return 1 - (found[name].mean or 0.0)


def choose_images(
    ids: Sequence[Item], present: np.ndarray, count: int, sequences: Sequence[str] | None = None
) -> list[Item]:
    """Returns ids of validation images that together hold every class they can, then rare classes once more.

    Each is the one with most classes that none before it had (greedy set cover: Chvatal 1979), rare ones first.

    Args:
        present: bool, images x classes: which classes each image shows.
        sequences: of each image; as long as there are others, none is taken twice. None: they do not matter.

    >>> present = np.array([[True, True], [True, True], [True, False]])
    >>> choose_images("abc", present, 2), choose_images("abc", present, 2, sequences="xxy")
    (['a', 'b'], ['a', 'c'])
    """
    rarity = 1 / np.maximum(present.sum(0), 1)
    chosen: list[int] = []
    seen = np.zeros(present.shape[1], int)
    for _ in range(min(count, len(ids))):
        is_new = present & (seen == 0)
        # All rarities together are less than one more new class.
        gain = is_new.sum(1) + (present * (rarity / (1 + seen) ** 2)).sum(1) / present.shape[1]
        used = {sequences[index] for index in chosen} if sequences is not None else set()
        if sequences is not None and used != set(sequences):
            gain[[one in used for one in sequences]] = -1
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        seen += present[chosen[-1]]
    return [ids[index] for index in sorted(chosen)]


def validation_batches(run: Run) -> Iterator[Batch]:
    """Yields the fixed validation images as batches, decoded once for the whole sweep."""
    config = run.loaded.config
    return chosen_batches(run, config.sweep.images, config.dataloaders.valid.batch_size)


def chosen_batches(run: Run, count: int, batch_size: int, varied: bool = False) -> Iterator[Batch]:
    """Yields some validation images, chosen by the classes that they show, as batches.

    Of large images windows are chosen in the same way as images: as many as there are images to choose.

    Args:
        varied: whether they are of different sequences, as far as there are some.
    """
    task = run.task
    rows = split_rows(run.paths, "valid")
    sequences = rows["sequence"].where(rows["sequence"] != "", rows["id"]).tolist() if varied else None
    chosen = choose_images(rows["id"].tolist(), task.class_presence(rows), count, sequences)
    dataset = task.valid_data(run, valid_folder(run), rows[rows["id"].isin(chosen)])
    if len(dataset) > len(dataset.rows):
        dataset.keep(choose_images(range(len(dataset)), dataset.class_presence(), count))
    loader = image_loader(dataset, batch_size, task.collate_valid, num_workers=0)
    yield from valid_batches(loader)


def validation_loss(learner: Learner, batches: Sequence[Batch], criterion: Criterion, learning: Learning) -> float:
    """Returns the mean loss over images."""
    losses = []
    for batch in batches:
        images_BHWC, labels = batch.images.to(learner.device), learning.to_device(batch.labels)
        with at_this_step(learner) as network, autocast(learner.device, learner.precision):
            scaling = scaling_of(network, learner.config.model.encoder)
            outputs = learning.whole(network, normalise(images_BHWC, scaling))
        losses.append(criterion(outputs, labels))
    # A window counts as an image here, because few windows of each image are chosen.
    weights, divisor = weights_of(losses, [len(batch.images) for batch in batches])
    return float(sum(float(loss.total) * weight for loss, weight in zip(losses, weights, strict=True)) / divisor)


@contextlib.contextmanager
def at_this_step(learner: Learner) -> Iterator[nn.Module]:
    """Yields the network in evaluation mode, except that trained batch norms use the statistics of their batch.

    Their running averages lag by about ten steps. Where the rate grows from step to step, they belong to another
    network, and the loss explodes long before training does. Only a norm that sees a single value of each channel, as
    behind a global pooling of one image, uses the running averages.
    """
    norms = [module for module in learner.network.modules() if isinstance(module, BatchNorm)]
    momenta = {norm: norm.momentum for norm in norms if norm.training}
    with learner.validated() as network:
        hooks = [norm.register_forward_pre_hook(_use_batch_statistics) for norm in momenta]
        for norm in momenta:
            norm.momentum = 0.0  # the averages stay as they are
        try:
            yield network
        finally:
            for hook in hooks:
                hook.remove()
            for norm, momentum in momenta.items():
                norm.momentum = momentum


def _use_batch_statistics(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    norm.training = inputs[0].numel() > inputs[0].shape[1]
