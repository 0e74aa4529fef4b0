"""One pass over the validation images: the loss and the task's scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from pipeline.task import Batch, Criterion, Learning, Scores
from pipeline.training.device import in_parts
from pipeline.training.encoder import normalise
from pipeline.training.learner import Learner, autocast


@dataclass(frozen=True)
class Validation:
    """The result of one validation.

    Attributes:
        loss: mean over images.
        terms: mean over images of each term of the loss, before its weight.
    """

    loss: float
    terms: dict[str, float]
    scores: Scores


def validate(learner: Learner, batches: Iterable[Batch], criterion: Criterion, learning: Learning) -> Validation:
    """Returns loss and scores of the network (averaged weights where the run keeps them) on validation batches."""
    encoder, scorer = learner.config.model.encoder, learning.scorer()
    losses, counts = [], []
    with learner.validated() as network:
        for batch in batches:
            images_BHWC = batch.images.to(learner.device, non_blocking=True)
            labels = learning.to_device(batch.labels)
            with autocast(learner.device, learner.precision):
                outputs = in_parts(lambda part: network(normalise(part, encoder)), images_BHWC, learning.join_outputs)
            losses.append(criterion(outputs, labels))
            counts.append(len(images_BHWC))
            scorer.add(outputs, labels)
    weights = torch.tensor(counts)

    def mean(values: list[torch.Tensor]) -> float:
        values_B = torch.stack([value.double() for value in values])
        weights_B = weights.to(values_B)
        return float((values_B * weights_B).sum() / weights_B.sum())

    terms = {name: mean([loss.terms[name] for loss in losses]) for name in losses[0].terms}
    return Validation(mean([loss.total for loss in losses]), terms, scorer.scores())
