"""A training with every option of the augmentation on, stopped at every step, ends with the same bits."""

from __future__ import annotations

import torch

from pipeline.data.contact_sheet import SHOWN_ALONE
from pipeline.paths import BEST, SAMPLES_PLOT
from pipeline.training.checkpoint import load_checkpoint
from tests.tiny import draw_nothing, run_paths, run_stages
from tests.training.toy import train_in_pieces

EVERY = tuple(f"DATASETS.AUGMENTATION.{name.upper()}.ENABLE=true" for name in SHOWN_ALONE)
LEARNING = (
    *("SWEEP.ENABLE=false", "SOLVER.OPTIMIZER.NAME=Adam", "SOLVER.OPTIMIZER.ENCODER_LR_DECAY=0.7"),
    *("SOLVER.CHECKPOINT_ENCODER=true", "SOLVER.ACCUMULATE=2", "DATALOADERS.TRAIN.BATCH_SIZE=4"),
    *("DATASETS.AUGMENTATION.RANDOM_CROP.WIDTH=64", "DATASETS.AUGMENTATION.RANDOM_CROP.HEIGHT=32"),
    "DATASETS.SAMPLING.RARE_CLASS_RATE=0.5",
)


def weights_of(name: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(run_paths(name) / BEST)["network"]


def test_with_every_option_on_a_training_stopped_at_every_step_ends_with_the_same_bits(workshop, monkeypatch):
    draw_nothing(monkeypatch)
    whole = workshop.tiny(*EVERY, *LEARNING)
    sheet = run_stages(whole, "train")[0] / SAMPLES_PLOT
    assert sheet.is_file()
    expected = weights_of(whole.run)
    assert train_in_pieces(whole) >= 4
    found = weights_of(whole.run)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
