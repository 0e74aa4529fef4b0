"""Training is blind to the task: the same loop trains a network that returns one number per image.

Labels are float32 (B,), the mean brightness of an image. The score is the share of images within a tenth, by name
`hit_rate`, and by kind of image (dark, bright); no class, mask or confusion is anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from pipeline.config.loss_mix import parse_mix
from pipeline.config.schema import Config
from pipeline.errors import Stopped, UserError
from pipeline.task import Batch, Criterion, Learning, Loss, Score, Scores
from pipeline.training.lr_sweep import LrSweep
from pipeline.training.trainer import train
from pipeline.training.validate import validation_loss
from tests.training.toy import STEPS, StopAt, history, make, results, run

KINDS = ("dark", "bright")
NEAR = 0.1
LEARNS = ("SOLVER.OPTIMIZER.NAME=AdamW", "SOLVER.MAX_LR=0.1", "SOLVER.NUM_EPOCHS=12", "SOLVER.PATIENCE=12")
TERMS = {"ce": lambda error: error.square().mean(), "focal": lambda error: error.abs().mean()}  # names of the config


class Brightness(nn.Module):
    """An encoder that pools, and a linear head: one number per image."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(3, 1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.head(self.encoder(image_BCHW).flatten(1))[:, 0]


def kind_scores(hits_BK: Tensor, counts_BK: Tensor) -> Tensor:
    return torch.cat([hits_BK.sum(0), counts_BK.sum(0)]).double()


def hits(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns per image and kind whether it was hit, and whether it is of that kind."""
    is_kind_BK = torch.stack([labels < 0.5, labels >= 0.5], 1)
    return is_kind_BK & ((outputs - labels).abs() < NEAR)[:, None], is_kind_BK


def scores_of(sums: Sequence[float]) -> Scores:
    """Returns the scores from hits and images per kind."""
    rates = [hit / count if count else math.nan for hit, count in zip(sums[:2], sums[2:], strict=True)]
    found = sum(sums[2:])
    score = Score(sum(sums[:2]) / found if found else None, rates)
    return Scores({"hit_rate": score}, rates, [hit > 0 for hit in sums[:2]])


@dataclass
class HitScorer:
    """Sums of a validation."""

    sums: list[Tensor] = field(default_factory=list)

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        self.sums.append(kind_scores(*hits(outputs, labels)))

    def scores(self) -> Scores:
        return scores_of(torch.stack(self.sums).sum(0).tolist())


def brightness_learning(config: Config, device: torch.device) -> Learning:
    def criterion(mix: str, epoch: int, class_scores: Sequence[float]) -> Criterion:
        def loss(outputs: Tensor, labels: Tensor) -> Loss:
            values = {name: TERMS[name](outputs - labels) for name, _ in parse_mix(mix)}
            total = sum(weight * values[name] for name, weight in parse_mix(mix))
            return Loss(total, {name: value.detach() for name, value in values.items()})

        return loss

    return Learning(
        classes=KINDS,
        scored=(0, 1),
        class_label="hit rate",
        split_labels=lambda labels, num_parts: labels.tensor_split(num_parts),
        to_device=lambda labels: labels.to(device),
        join_outputs=torch.cat,
        criterion=criterion,
        num_sums=4,
        sample_sums=lambda outputs, labels: kind_scores(*hits(outputs, labels)),
        sample_scores=lambda means: scores_of([0.0 if math.isnan(mean) else mean for mean in means]),
        scorer=HitScorer,
    )


def batch(*seed: int, keys: Sequence[str] = ()) -> Batch:
    """Returns grey images of one brightness each, and that brightness."""
    generator = torch.Generator().manual_seed(sum(part << (16 * index) for index, part in enumerate(seed)))
    labels = torch.rand(4, generator=generator)
    images = (255 * labels).round().to(torch.uint8)[:, None, None, None].expand(-1, 8, 8, 3)
    return Batch(images, labels, list(keys))


def train_batches(epoch: int, start_step: int, augment: bool, class_scores: Sequence[float]) -> Iterator[Batch]:
    for step in range(start_step, STEPS):
        yield batch(epoch, step, keys=[f"epoch {epoch} sample {step}"])


def options(*changes: str) -> dict:
    torch.manual_seed(5)
    return {
        "changes": [*LEARNS, *changes],
        "network": Brightness(),
        "learning_of": brightness_learning,
        "batches": train_batches,
        "validation": lambda: iter([batch(999, index) for index in range(2)]),
    }


def test_another_task_learns_and_is_recorded_by_its_own_names():
    lines: list[str] = []
    rows = history(run(**options("LOSS_FN.MIX=1 ce + 0.5 focal"), log=lines.append))
    assert float(rows[-1]["valid_loss"]) < 0.1 * float(rows[0]["valid_loss"])
    assert float(rows[-1]["valid_hit_rate"]) > 0.8 and rows[0]["train_hit_rate"] == ""
    assert 0 <= float(rows[1]["train_hit_rate_dark"]) <= 1 and "valid_hit_rate_bright" in rows[0]
    assert float(rows[1]["train_loss"]) == pytest.approx(
        float(rows[1]["train_loss_ce"]) + 0.5 * float(rows[1]["train_loss_focal"]), rel=1e-5
    )
    last = next(line for line in reversed(lines) if line.startswith("epoch"))
    assert f"hit_rate {float(rows[-1]['valid_hit_rate']):.4f}" in last


def test_another_task_stopped_at_every_step_ends_with_the_same_bits():
    expected = results(run("whole", **options("SOLVER.ACCUMULATE=2")))
    for _ in range(100):
        try:
            paths = run("stopped", stop=StopAt(2), **options("SOLVER.ACCUMULATE=2"))
            break
        except Stopped:
            continue
    assert results(paths) == expected


def test_a_class_of_another_task_that_is_never_found_is_logged_with_its_own_label():
    lines: list[str] = []
    hopeless = options("SOLVER.MAX_LR=1e-8")
    torch.nn.init.constant_(hopeless["network"].head.bias, 100.0)
    run(**hopeless, log=lines.append)
    assert any(line.startswith("never found in 5 validations: dark (hit rate 0.000), bright") for line in lines)


def test_a_monitor_of_segmentation_is_refused_by_another_task():
    with pytest.raises(UserError, match=r"SOLVER\.MONITOR valid_iou: the scores are hit_rate; name one of them"):
        train(make(**options("SOLVER.MONITOR=valid_iou")))


def test_a_step_and_a_validation_of_the_sweep_work_on_another_task():
    training = make(**options())
    criterion = training.learning.criterion("1 ce", 0, ())
    validation = [batch(999, index) for index in range(2)]
    before = validation_loss(training.learner, validation, criterion, training.learning)
    training.learner.optimizer.param_groups[0]["lr"] = 0.1
    sweep, batches = LrSweep(training.run, training.learner, criterion, training.sums), train_batches(1, 0, True, ())
    for seed in range(STEPS):
        sweep.step(batches, seed)
    assert validation_loss(training.learner, validation, criterion, training.learning) < before
