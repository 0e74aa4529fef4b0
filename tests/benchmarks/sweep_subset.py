"""How few validation images, repeats and steps an LR sweep needs to suggest what a full one does.

    python -m tests.benchmarks.sweep_subset record CamVidPAB SWEEP.STEPS=41 SWEEP.REPEATS=3
    python -m tests.benchmarks.sweep_subset draw CamVidPAB SWEEP.STEPS=41 SWEEP.REPEATS=3

`record` does real sweeps and keeps, after each step, what each validation image adds to cross entropy and soft Dice;
from these the loss of any draw of images follows exactly, so that `draw` needs no network. It writes
`sweep_subset.npz` into the run's folder (the stages up to `tile` must be done).

`draw` compares suggestions of many random draws, and of the images that the sweep itself chooses, with those of the
full pass on the same training steps. Fewer steps are another training, not every second point of the longer one: record
them separately.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.config.competition import IGNORE
from pipeline.config.loss_mix import parse_mix
from pipeline.data.loaders import image_loader, valid_batches
from pipeline.engine.api import open_run
from pipeline.engine.run import Run
from pipeline.task import Criterion, Learning
from pipeline.training.encoder import normalise
from pipeline.training.inputs import split_rows
from pipeline.training.learner import Learner, autocast
from pipeline.training.lr_sweep import sweep_points
from pipeline.training.sweep_curve import smooth, smooth_rates, suggest
from pipeline.training.validate import at_this_step, choose_images
from pipeline.work.inputs import competition_folder

COUNTS = (4, 8, 16)
SMOOTHINGS = (0.2, 0.3, 0.5)
NUM_DRAWS = 300  # random subsets of each size
MOST_TRIES = 20_000  # to find them
ORIGINAL = 61 * 524  # forward passes of the original's sweep
BAR = ORIGINAL / 30
FACTOR = 2.0  # how far a suggestion may lie from the full pass's
MARKS = ("steep", "trough", "valley", "minimum")

Sums = np.ndarray  # (images, 1 + 3 C): cross entropy summed over pixels; overlap, predicted and true area per class


@dataclass(frozen=True)
class Recorded:
    """What sweeps recorded: per repeat its rates (steps,) and the sums of every image (steps, P, 1 + 3 C)."""

    lrs: list[np.ndarray]
    sums: list[np.ndarray]


def sums_of(logits_BCHW: torch.Tensor, mask_BHW: torch.Tensor) -> Sums:
    """Returns what each image adds to cross entropy and soft Dice."""
    num_classes = logits_BCHW.shape[1]
    counts_BHW = mask_BHW != IGNORE
    true_BHW = mask_BHW.long().masked_fill(~counts_BHW, 0)
    nll_BHW = torch.nn.functional.cross_entropy(logits_BCHW, true_BHW, reduction="none") * counts_BHW
    probs_BCHW = logits_BCHW.softmax(1).double() * counts_BHW.unsqueeze(1)
    own_BHW = probs_BCHW.gather(1, true_BHW.unsqueeze(1)).squeeze(1)
    rows = []
    for nll_HW, probs_CHW, own_HW, true_HW, counts_HW in zip(
        nll_BHW, probs_BCHW, own_BHW, true_BHW, counts_BHW, strict=True
    ):
        overlap = torch.bincount(true_HW[counts_HW], weights=own_HW[counts_HW], minlength=num_classes)
        true = torch.bincount(true_HW[counts_HW], minlength=num_classes).double()
        rows.append(torch.cat([nll_HW.double().sum().view(1), overlap, probs_CHW.sum((1, 2)), true]))
    return torch.stack(rows).cpu().numpy()


def loss_of_sums(sums: np.ndarray, mix: Sequence[tuple[str, float]]) -> np.ndarray:
    """Returns the loss of one batch of images: sums (..., P, 1 + 3 C) to (...)."""
    batch = sums.sum(-2)
    overlap, predicted, true = np.split(batch[..., 1:], 3, axis=-1)
    dice = (1 - 2 * overlap / np.maximum(predicted + true, 1e-7)) * (true > 0)
    parts = {"ce": batch[..., 0] / np.maximum(true.sum(-1), 1), "dice": dice.mean(-1)}
    return sum(weight * parts[name] for name, weight in mix)


def loss_of_images(sums: np.ndarray, indices: Sequence[int], batch_size: int, mix: Sequence) -> np.ndarray:
    """Returns the validation loss over some images in batches, as the sweep has it: (steps, P, ..) to (steps,)."""
    indices = sorted(indices)
    batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    losses = [loss_of_sums(sums[:, batch], mix) * len(batch) for batch in batches]
    return np.sum(losses, axis=0) / len(indices)


def record(run: Run) -> None:
    """Sweeps with every validation image in each validation, and writes what they add to the losses."""
    config, paths, task = run.loaded.config, run.paths, run.task
    mix, batch_size = parse_mix(config.loss_fn.mix), config.dataloaders.valid.batch_size
    rows = split_rows(paths, "valid")
    dataset = task.valid_data(run, competition_folder(run), rows)
    batches = list(valid_batches(image_loader(dataset, batch_size, task.collate_valid, num_workers=0)))
    recorded: list[np.ndarray] = []

    def validate(learner: Learner, criterion: Criterion, learning: Learning) -> float:
        found, losses = [], []
        for batch in batches:
            images_BHWC, mask_BHW = batch.images.to(learner.device), learning.to_device(batch.labels)
            with at_this_step(learner) as network, autocast(learner.device, learner.precision):
                logits_BCHW = network(normalise(images_BHWC, config.model.encoder))
                found.append(sums_of(logits_BCHW, mask_BHW))
            losses.append(float(loss_of_sums(found[-1], mix)))
        expected = float(criterion(logits_BCHW, mask_BHW).total)
        if math.isfinite(expected) and not math.isclose(losses[-1], expected, rel_tol=1e-3):
            raise SystemExit(f"the sums give a loss of {losses[-1]}, the pipeline {expected}")
        loss = float(np.average(losses, weights=[len(batch.keys) for batch in batches]))
        if math.isfinite(loss):
            recorded.append(np.concatenate(found))
        return loss

    _, points = sweep_points(run, validate)
    np.savez_compressed(
        paths / "sweep_subset.npz",
        repeat=[point.repeat for point in points],
        lr=[point.lr for point in points],
        sums=np.stack(recorded),
    )
    print(f"{len(points)} steps of {config.sweep.repeats} repeats, {len(rows)} images after each")


def read(path) -> Recorded:
    """Returns what `record` wrote."""
    with np.load(path) as file:
        repeat, lr, sums = file["repeat"], file["lr"], file["sums"]
    repeats = range(repeat.max() + 1)
    return Recorded([lr[repeat == one] for one in repeats], [sums[repeat == one] for one in repeats])


def draws(sums: Sums, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Returns random sets of images that hold every class of all images; fewer than NUM_DRAWS where they are rare."""
    present = sums[:, -(sums.shape[1] - 1) // 3 :] > 0
    required = present.any(0)
    tries = (rng.choice(len(sums), size=min(count, len(sums)), replace=False) for _ in range(MOST_TRIES))
    fitting = (indices for indices in tries if (present[indices].any(0) == required).all())
    return list(itertools.islice(fitting, NUM_DRAWS))


def suggestions(recorded: Recorded, indices, smoothing: float, batch_size: int, mix) -> list[dict[str, float]]:
    """Returns each repeat's suggestion from the loss of some images."""
    return [
        suggest(smooth_rates(lrs, smoothing), smooth(loss_of_images(sums, indices, batch_size, mix), smoothing))
        for lrs, sums in zip(recorded.lrs, recorded.sums, strict=True)
    ]


def middle(found: Sequence[dict[str, float]], mark: str) -> float:
    """Returns the median over repeats on a log axis, as the sweep takes it."""
    return math.exp(statistics.median(math.log(one[mark]) for one in found))


def is_near(rate: float, other: float, factor: float = FACTOR) -> bool:
    """Returns whether two rates differ by no more than a factor.

    >>> is_near(0.01, 0.02), is_near(0.01, 0.021)
    (True, False)
    """
    return abs(math.log(rate / other)) <= math.log(factor) + 1e-9


def report(run: Run) -> None:
    """Prints how often the full pass's suggestion is found, by number of images, repeats and smoothing."""
    config, paths = run.loaded.config, run.paths
    recorded = read(paths / "sweep_subset.npz")
    mixes = dict.fromkeys([config.loss_fn.mix, "1 dice", "1 ce"])
    batch_size, num_repeats = config.dataloaders.valid.batch_size, len(recorded.lrs)
    everything = range(recorded.sums[0].shape[1])
    rows, rng = split_rows(paths, "valid"), np.random.default_rng(0)
    present, ids = run.task.class_presence(rows), rows["id"].tolist()
    chosen = {count: np.flatnonzero(rows["id"].isin(choose_images(ids, present, count))) for count in COUNTS}
    print(f"{run.name}: {config.sweep.steps} steps, {num_repeats} repeats, {len(everything)} images in full")
    print("share of draws within x2 of the full pass; our own choice of images; spread of the full pass's repeats")
    subsets = {count: draws(recorded.sums[0][0], count, rng) for count in COUNTS if count < len(everything)}
    different = (f"{len({tuple(sorted(one)) for one in many})} of {count}" for count, many in subsets.items())
    print(f"different draws that hold every class: {', '.join(different)}")
    for mix_text, smoothing in itertools.product(mixes, SMOOTHINGS):
        how = (smoothing, batch_size, parse_mix(mix_text))
        full = suggestions(recorded, everything, *how)
        spread = ", ".join(f"{mark} x{max(o[mark] for o in full) / min(o[mark] for o in full):.1f}" for mark in MARKS)
        rates = ", ".join(f"{mark} {middle(full, mark):.2g}" for mark in MARKS)
        print(f"\nloss {mix_text}, smoothing {smoothing}: full pass {rates}; between repeats {spread}")
        for count, many in subsets.items():
            found = [suggestions(recorded, one, *how) for one in many]
            own = suggestions(recorded, chosen[count], *how)
            for size in sorted({1, min(3, num_repeats)}):
                groups = list(itertools.combinations(range(num_repeats), size))
                cells = [_cell(found, own, full, groups, mark) for mark in MARKS]
                forwards = size * config.sweep.steps * count
                print(f"  {count:2d} images x {size}: {'  '.join(cells)}  {forwards:5d} forwards ({BAR:.0f} allowed)")


def _cell(found, own, full, groups, mark: str) -> str:
    """Returns one entry of the table: shares within the factor, over draws and groups of repeats."""

    def share(many) -> float:
        pairs = [
            (middle([one[r] for r in group], mark), middle([full[r] for r in group], mark))
            for one in many
            for group in groups
        ]
        return sum(is_near(rate, other) for rate, other in pairs) / len(pairs)

    return f"{mark} {100 * share(found):5.1f} % (own {100 * share([own]):3.0f} %)"


def main(arguments: Sequence[str]) -> None:
    what, name, *overrides = arguments
    {"record": record, "draw": report}[what](open_run(name, overrides))


if __name__ == "__main__":
    main(sys.argv[1:])
