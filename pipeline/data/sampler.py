"""Batches of labelled and pseudo-labelled samples, the same number of the latter in each.

An epoch is one pass over the labelled samples. Pseudo-labelled ones are drawn without replacement from epoch to epoch,
so that all come equally often, and are a pure function of (seed, epoch) too: an epoch can be entered at any step.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Dataset, Sampler

from pipeline.data.loaders import EpochSampler, SampleKey
from pipeline.data.streams import PSEUDO_ORDER


class PseudoSampler(Sampler):
    """Batches of `SampleKey`s of one epoch, from one step on; set both with `begin` before iterating.

    Args:
        labelled: the batches of labelled samples, to each of which pseudo-labelled ones are added.
        pseudo: gives the number of pseudo-labelled samples and the size of each; their indices come after the labelled.
        per_batch: pseudo-labelled samples of a batch; a last, smaller batch has proportionally fewer.
    """

    def __init__(self, labelled: EpochSampler, pseudo: Dataset, per_batch: int):
        self.labelled, self.num_pseudo, self.per_batch = labelled, len(pseudo), per_batch
        self.batch_size = labelled.batch_size + per_batch
        self.frames = list(map(tuple, pseudo.frames().tolist()))

    def begin(self, epoch: int, start_step: int = 0, augment: bool = True) -> None:
        """Chooses what the next iteration yields."""
        self.labelled.begin(epoch, start_step, augment)

    def __len__(self) -> int:
        return len(self.labelled)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        yield from self.batches(self.labelled.epoch, self.labelled.augment)[self.labelled.start_step :]

    def batches(self, epoch: int, augment: bool = True) -> list[list[SampleKey]]:
        """Returns all batches of an epoch; a pure function of (seed, epoch) and the sampler's settings."""
        batches = self.labelled.batches(epoch, augment)
        counts = [min(self.per_batch, self.per_batch * len(batch) // self.labelled.batch_size) for batch in batches]
        keys, start = self._drawn(epoch, sum(counts), augment), 0
        rng = np.random.default_rng((self.labelled.seed, epoch, 1, 0, PSEUDO_ORDER))
        for step in self._steps(batches, keys, rng):
            batches[step] = [*batches[step], *keys[start : start + counts[step]]]
            start += counts[step]
        if not self.labelled.shuffle:
            return batches
        # Micro-batches of SOLVER.ACCUMULATE, and MixUp's neighbours, are of both kinds.
        return [[batch[position] for position in rng.permutation(len(batch))] for batch in batches]

    def _steps(self, batches: list[list[SampleKey]], keys: list[SampleKey], rng: np.random.Generator) -> list[int]:
        """Returns the order in which batches get their keys; sorts these by size where images have several.

        So small images come to small ones, and little is padded.
        """
        steps, sizes = list(range(len(batches))), self.labelled.frames
        if len(set(self.frames)) > 1:
            keys.sort(key=lambda key: self.frames[key.index - self.labelled.num_samples])
            steps = rng.permutation(len(batches)).tolist() if self.labelled.shuffle else steps
        return steps if sizes is None else sorted(steps, key=lambda step: tuple(sizes[batches[step][0].index]))

    def _drawn(self, epoch: int, number: int, augment: bool) -> list[SampleKey]:
        """Returns the keys of so many pseudo-labelled samples, which each earlier epoch drew as many of."""
        first, num_pseudo = (epoch - 1) * number, self.num_pseudo
        drawn: dict[int, int] = {}
        keys = []
        for position in range(first, first + number):
            if position == first or position % num_pseudo == 0:  # all were drawn once more: a new order
                order = self._order(position // num_pseudo)
            index = int(order[position % num_pseudo])
            drawn[index] = drawn.get(index, -1) + 1
            keys.append(SampleKey(epoch, self.labelled.num_samples + index, augment, drawn[index]))
        return keys

    def _order(self, number: int) -> np.ndarray:
        """Returns the order in which all are drawn for the n-th time."""
        if not self.labelled.shuffle:
            return np.arange(self.num_pseudo)
        return np.random.default_rng((self.labelled.seed, number, 0, 0, PSEUDO_ORDER)).permutation(self.num_pseudo)
