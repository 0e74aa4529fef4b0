"""Parts of batches and of lists of batches, for processes that train together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from torch.utils.data import Sampler

Item = TypeVar("Item")


class PartSampler(Sampler):
    """One process's part of each batch of another sampler.

    Args:
        whole: an `EpochSampler` or `PseudoSampler`, whose batches have one size that `num_parts` times `micro_batches`
            divides.
        part, num_parts: which process it is, from 0 on, of how many.
        micro_batches: into which the whole batch is cut; each of them is divided among the processes.
    """

    def __init__(self, whole: Any, part: int, num_parts: int, micro_batches: int):
        self.whole, self.part, self.num_parts, self.micro_batches = whole, part, num_parts, micro_batches
        self.batch_size = whole.batch_size // num_parts

    def begin(self, epoch: int, start_step: int = 0, augment: bool = True) -> None:
        """Chooses what the next iteration yields."""
        self.whole.begin(epoch, start_step, augment)

    def __len__(self) -> int:
        return len(self.whole)

    def __iter__(self) -> Iterator[list]:
        for keys in self.whole:
            yield part_of(keys, self.part, self.num_parts, self.micro_batches)


def part_of(items: Sequence[Item], part: int, num_parts: int, micro_batches: int = 1) -> list[Item]:
    """Returns a part's share of each micro-batch, one after the other.

    >>> part_of("abcdefgh", part=0, num_parts=2), part_of("abcdefgh", part=0, num_parts=2, micro_batches=2)
    (['a', 'b', 'c', 'd'], ['a', 'b', 'e', 'f'])
    """
    size = len(items) // (num_parts * micro_batches)
    starts = range(part * size, len(items), num_parts * size)
    return [item for start in starts for item in items[start : start + size]]


def block(items: list[Item], part: int, num_parts: int) -> list[Item]:
    """Returns one of several parts of a list, neighbours together, whose lengths differ by 1 at most.

    >>> block([1, 2, 3], 0, 2), block([1, 2, 3], 1, 2)
    ([1], [2, 3])
    """
    return items[len(items) * part // num_parts : len(items) * (part + 1) // num_parts]
