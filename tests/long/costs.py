"""What the 73 experiments of the original cost: floating-point operations, and from these or a measured step, hours.

    python -m tests.long.costs                                   operations, exact, on any machine, in a minute
    python -m tests.long.costs --tflops 65 --utilisation 5 25    hours by arithmetic, on a GPU with that peak
    python -m tests.long.costs --measure --price 2.50            measures a step of each kind here; hours and price
    python -m tests.long.costs --write                           writes the table of docs/clusters.md

Counted are the convolutions and matrix products of the network, a multiplication and an addition as two operations: of
the LR sweep, of training with its validation after each epoch, of the evaluation and the prediction of the test images.
Loss, optimizer, batch norms and the CPU's work on images are not in the operations. The number of images is that of the
competition (2,621 with masks, 648 without, 1280 x 720); splits, tiles and padding are computed as a training does it.

How many epochs a phase with patience takes is not known in advance. `--epochs` is the number that is assumed.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config.load import Loaded, load
from pipeline.config.plan import Phase
from pipeline.data.split import slice_split
from pipeline.data.tiles import tile_windows
from pipeline.paths import PROJECT
from pipeline.segmentation.networks import frame_sizes, main_logits, network_of
from pipeline.training.learner import build_learner
from tests.benchmarks.bench_step import bare_step, fixed_loss

NUM_LABELLED, NUM_TEST, SIZE = 2621, 648, (1280, 720)  # AeroScapes, the competition of all experiments
BATCH = 2  # for counting, then divided by it: one sample has too few values for a batch norm behind a pooling
BEGIN, END = "<!-- the table begins: python -m tests.long.costs --write -->", "<!-- the table ends -->"


class Kind(NamedTuple):
    """What decides the operations of one sample."""

    network: str
    encoder: str
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.network}, {self.encoder}, {self.width} x {self.height}"


@dataclass(frozen=True)
class Work:
    """How many samples, images and epochs an experiment computes.

    Attributes:
        trained: the kind of a training sample, padded; `whole`: of a whole image, for validation and prediction.
        per_epoch: training samples of an epoch.
        validated: images of a validation.
        epochs: at most, by the plan.
        assumed: epochs, with the given number for phases with patience.
        sweep: training samples and validated images of the LR sweep.
    """

    name: str
    trained: Kind
    whole: Kind
    batch: int
    per_epoch: int
    validated: int
    epochs: int
    assumed: int
    sweep: tuple[int, int]

    def total(self, train: Callable[[Kind], float], predict: Callable[[Kind], float], epochs: int) -> float:
        """Returns the sum of what samples cost, forward and backward, and images, forward only."""
        samples = epochs * self.per_epoch + self.sweep[0]
        images = (epochs + 2) * self.validated + self.sweep[1] + NUM_TEST  # once before training, once to evaluate
        return samples * train(self.trained) + images * predict(self.whole)


def epochs_of(phases: Sequence[Phase], assumed: int | None = None) -> int:
    """Returns the epochs of a plan, at most, or with an assumed number for each phase that has patience."""
    return sum(min(phase.epochs, assumed) if phase.patience and assumed else phase.epochs for phase in phases)


def work_of(loaded: Loaded, assumed: int) -> Work:
    """Returns the work of an experiment."""
    config, sizes = loaded.config, frame_sizes(loaded)
    tile, batch, sweep = config.datasets.augmentation.tile, config.dataloaders.train.batch_size, config.sweep
    ids = [str(number) for number in range(NUM_LABELLED)]
    trained, validated = map(len, slice_split(ids, config.datasets.split_index))
    tiles = len(tile_windows(tile.sets, tile.width, tile.height, SIZE)) if tile.enable else 1
    shape = (tile.height, tile.width) if tile.enable else SIZE[::-1]
    steps = sweep.steps * sweep.repeats if sweep.enable else 0
    names = config.model.name, config.model.encoder.name
    return Work(
        loaded.name,
        Kind(*names, *sizes.padded(*shape)),
        Kind(*names, *sizes.padded(*SIZE[::-1])),
        batch,
        trained * tiles // batch * batch,
        validated,
        epochs_of(loaded.plan),
        epochs_of(loaded.plan, assumed),
        (steps * batch, steps * sweep.images),
    )


@cache
def experiments() -> list[Loaded]:
    """Returns the configs of the original's experiments."""
    with open(PROJECT / "tests" / "config" / "experiments.csv") as file:
        return [load(row["experiment"]) for row in csv.DictReader(file)]


def backward_operations(
    out: Sequence[int], x: Sequence[int], weight: Sequence[int], *rest: Any, out_shape: Any = None, **names: Any
) -> int:
    """Returns the operations of a convolution's backward pass: as many as forward for each gradient that is computed.

    torch's own count (2.15) takes no account of groups: for depthwise convolutions it is too high by their number.

    Args:
        out, x, weight: shapes of the gradient of the outputs, of the inputs, of the weights.
        rest: bias, stride, padding, dilation, whether it is transposed, output padding, groups, which gradients.
    """
    transposed, gradients = rest[4], rest[7]
    pixels = x if transposed else out
    return 2 * math.prod(weight) * pixels[0] * math.prod(pixels[2:]) * sum(gradients[:2])


COUNTED = {torch.ops.aten.convolution_backward: backward_operations}


@cache
def _network(network: str, encoder: str) -> torch.nn.Module:
    loaded = next(one for one in experiments() if _names(one) == (network, encoder))
    return network_of(loaded).to("meta")


def _names(loaded: Loaded) -> tuple[str, str]:
    return loaded.config.model.name, loaded.config.model.encoder.name


@cache
def operations(kind: Kind, is_training: bool) -> float:
    """Returns the floating-point operations of one sample: forward, and with `is_training` backward."""
    network = _network(kind.network, kind.encoder).train(is_training)
    images = torch.empty(BATCH, 3, kind.height, kind.width, device="meta")
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter, torch.set_grad_enabled(is_training):
        logits = main_logits(network(images))
        if is_training:
            logits.sum().backward()
    return counter.get_total_flops() / BATCH


def seconds(kind: Kind, is_training: bool, batch: int, num_steps: int) -> float:
    """Returns the seconds of one sample here: wall clock of a GPU, processor time of a CPU; the first step is left out.

    A batch for which the GPU has too little memory is halved.
    """
    loaded = next(one for one in experiments() if _names(one) == kind[:2])
    torch.manual_seed(0)
    learner = build_learner(loaded.config, network_of(loaded))
    is_gpu, criterion = learner.device.type == "cuda", fixed_loss(loaded, learner)
    images = torch.randint(0, 256, (batch, kind.height, kind.width, 3), dtype=torch.uint8, device=learner.device)
    masks = torch.randint(0, 12, images.shape[:3], dtype=torch.uint8, device=learner.device)
    learner.network.train(is_training)
    taken = []
    try:
        for _ in range(num_steps + 1):
            began = _now(is_gpu)
            if is_training:
                bare_step(learner, learner.outputs, images, masks, criterion)
            else:
                with torch.inference_mode():
                    learner.outputs(images)
            taken.append(_now(is_gpu) - began)
    except torch.cuda.OutOfMemoryError:
        if batch == 1:
            raise
        del learner, images, masks
        torch.cuda.empty_cache()
        return seconds(kind, is_training, batch // 2, num_steps)
    return statistics.median(taken[1:]) / batch


def _now(is_gpu: bool) -> float:
    if is_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() if is_gpu else time.process_time()


def measured(works: Sequence[Work], num_steps: int, most: int) -> Callable[[Kind, bool], float]:
    """Returns the seconds of one sample of each kind, measured here; prints them with the operations per second."""
    found: dict[tuple[Kind, bool], float] = {}
    batches = {work.trained: min(work.batch, most) for work in works}
    for kind, is_training in [(kind, True) for kind in batches] + [(work.whole, False) for work in works]:
        if (kind, is_training) not in found:
            batch = batches[kind] if is_training else min(2, most)
            taken = found[kind, is_training] = seconds(kind, is_training, max(batch, 2), num_steps)
            rate = operations(kind, is_training) / taken / 1e9
            what = "training " if is_training else "predicting"
            print(f"{what} {kind}: {taken:.4f} s per sample, {rate:.1f} GFLOP/s", flush=True)
    return lambda kind, is_training: found[kind, is_training]


def rows(works: Sequence[Work]) -> list[str]:
    """Returns a table in Markdown: a row for all experiments with the same kind, batch and plan."""
    groups: dict[tuple, list[Work]] = {}
    for work in works:
        groups.setdefault((work.trained, work.batch, work.epochs, work.assumed), []).append(work)
    lines = [
        "| experiments | network, encoder, samples | batch | samples per epoch | GFLOP per sample | PFLOP per epoch | "
        "epochs at most | assumed | PFLOP of each |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    train, predict = (lambda kind: operations(kind, True)), (lambda kind: operations(kind, False))
    for (kind, batch, epochs, assumed), group in groups.items():
        one = group[0]
        epoch = one.total(train, predict, 1) - one.total(train, predict, 0)
        name = one.name if len(group) == 1 else f"{one.name} and {len(group) - 1} more"
        cells = [name, str(kind), batch, f"{one.per_epoch:,}", f"{train(kind) / 1e9:,.0f}", f"{epoch / 1e15:.2f}"]
        cells += [epochs, assumed, f"{one.total(train, predict, assumed) / 1e15:,.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def sums(
    works: Sequence[Work], train: Callable[[Kind], float], predict: Callable[[Kind], float]
) -> tuple[float, float]:
    """Returns the sum of all experiments with the assumed epochs, and with as many as the plans allow."""
    return tuple(
        sum(work.total(train, predict, getattr(work, epochs)) for work in works) for epochs in ("assumed", "epochs")
    )


def main(arguments: Sequence[str]) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--epochs", type=int, default=30, help="assumed for phases with patience (default 30)")
    options.add_argument("--tflops", type=float, help="peak of one GPU, in 10^12 operations per second")
    meaning = "assumed shares of the peak in percent, the least and the most (default 5 25)"
    options.add_argument("--utilisation", type=float, nargs=2, default=(5.0, 25.0), metavar="PERCENT", help=meaning)
    options.add_argument("--measure", action="store_true", help="measure a step of each kind on this machine")
    options.add_argument("--steps", type=int, default=2, help="steps of a measurement")
    options.add_argument("--batch", type=int, default=64, help="largest batch of a measurement")
    options.add_argument("--gpus", type=int, default=1, help="number of GPUs; each trains one experiment at a time")
    options.add_argument("--price", type=float, help="of the machine, per hour")
    options.add_argument("--write", action="store_true", help="write the table of docs/clusters.md")
    chosen = options.parse_args(arguments)
    works = [work_of(loaded, chosen.epochs) for loaded in experiments()]
    train, predict = (lambda kind: operations(kind, True)), (lambda kind: operations(kind, False))
    lines = rows(works)
    assumed, most = sums(works, train, predict)
    total = f"{len(works)} experiments: {assumed / 1e18:.2f} EFLOP with {chosen.epochs} epochs in each phase that has "
    lines += ["", f"{total}patience;\n{most / 1e18:.2f} EFLOP with as many epochs as the plans allow."]
    print("\n".join(lines), flush=True)
    if chosen.write:
        path = PROJECT / "docs" / "clusters.md"
        before, _, rest = path.read_text().partition(BEGIN)
        path.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.partition(END)[2]}")

    def say(what: str, seconds: float) -> None:
        hours = seconds / 3600 / chosen.gpus
        cost = f", {hours * chosen.price:,.0f} at {chosen.price:g} per hour" if chosen.price is not None else ""
        print(f"{what}: {hours:,.1f} hours on {chosen.gpus} GPU(s), or CPU cores{cost}")

    if chosen.tflops:
        for share in chosen.utilisation:
            say(
                f"if {share:g} % of {chosen.tflops:g} TFLOP/s are reached",
                assumed / (chosen.tflops * 1e12 * share / 100),
            )
    if chosen.measure:
        taken = measured(works, chosen.steps, chosen.batch)
        here, here_most = sums(works, lambda kind: taken(kind, True), lambda kind: taken(kind, False))
        say("as measured here, without data loading", here)
        say("with as many epochs as the plans allow", here_most)


if __name__ == "__main__":
    main(sys.argv[1:])
