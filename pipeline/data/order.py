"""Which samples come in an epoch, how often, and of which sizes they are: arrays, since there may be millions."""

from __future__ import annotations

import numpy as np

SHARDS_AT_A_TIME = 16  # more shards: smaller reads; fewer: neighbouring images meet more often


def draw_shares(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns as many indices as there are shares, each drawn its expected number of times, rounded up or down.

    >>> draw_shares(np.array([0.5, 0.25, 0.25, 0.0]), np.random.default_rng(1)).tolist()
    [0, 0, 1, 2]
    """
    num = len(shares)
    positions = (np.arange(num) + rng.random()) / num
    return np.minimum(np.searchsorted(np.cumsum(shares), positions, side="right"), num - 1)


def by_shards(ranks: np.ndarray, window: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a random order of samples in which only about `window` images are in use at a time.

    Neighbouring images form shards, so that SHARDS_AT_A_TIME shards have `window` images. The shards come in a random
    order, and the samples of a shard are spread at random over the time that SHARDS_AT_A_TIME shards take. The order is
    circular: what goes beyond its end continues at its beginning.

    Args:
        ranks: of each sample, the position of its image where images are stored.
        window: number of images; with no more images than that, the order is fully random.

    Source: shuffling shards, and then within a buffer, as WebDataset (Aizman et al., "High Performance I/O For Large
    Scale Deep Learning", 2019) and tf.data do; here without state, so that an epoch can be resumed anywhere.

    >>> ranks = np.repeat(np.arange(64), 2)  # two samples of each image
    >>> order = by_shards(ranks, 16, np.random.default_rng(0))
    >>> len(set(order.tolist())), len(set(ranks[order[:16]].tolist()))
    (128, 14)
    """
    shard_of = ranks // -(-window // SHARDS_AT_A_TIME)
    num_shards = int(shard_of.max()) + 1
    if num_shards <= SHARDS_AT_A_TIME:
        return rng.permutation(len(ranks))
    starts = rng.permutation(num_shards)
    times = (starts[shard_of] + SHARDS_AT_A_TIME * rng.random(len(ranks))) % num_shards
    return np.argsort(times, kind="stable")


def times_before(order: np.ndarray) -> np.ndarray:
    """Returns of each entry how often it has come before.

    >>> times_before(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    by_value = np.argsort(order, kind="stable")
    values = order[by_value]
    is_first = np.r_[True, values[1:] != values[:-1]]
    positions = np.arange(len(order))
    times = np.empty_like(positions)
    times[by_value] = positions - np.maximum.accumulate(np.where(is_first, positions, 0))
    return times


def distinct_frames(frames: np.ndarray) -> set[tuple[int, int]]:
    """Returns the different sizes (height, width) of samples.

    >>> sorted(distinct_frames(np.array([[32, 64], [32, 32], [32, 64]])))
    [(32, 32), (32, 64)]
    """
    if frames.strides[0] == 0:  # one, repeated
        frames = frames[:1]
    codes = np.unique(frames[:, 0].astype(np.int64) << 32 | frames[:, 1])
    return {(code >> 32, code & (2**32 - 1)) for code in codes.tolist()}


def similar_together(frames: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns an order of samples in which each batch has frames of similar size and shape, so that little is padded.

    Samples are split in two at the multiple of the batch size where both parts, each padded to its own largest height
    and width, have the fewest pixels; these parts are split likewise, down to a batch or equal frames. Samples with
    equal frames keep their order.

    Args:
        frames: (height, width) of each sample: int (samples, 2).

    >>> similar_together(np.array([[32, 96], [96, 32], [32, 64], [96, 32]]), 2).tolist()
    [2, 0, 1, 3]
    """
    order, parts = np.arange(len(frames)), [(0, len(frames))]
    while parts:
        start, end = parts.pop()
        own = frames[order[start:end]]
        if len(own) <= batch_size or (own == own[0]).all():
            continue
        num_first = np.arange(batch_size, len(own), batch_size)
        splits = []
        for keys in (own.T[::-1], own.T):  # by height, then width; by width, then height
            by_size = np.lexsort(keys)
            ordered = own[by_size]
            first = np.maximum.accumulate(ordered)[num_first - 1].prod(1) * num_first
            second = np.maximum.accumulate(ordered[::-1])[::-1][num_first].prod(1) * (len(own) - num_first)
            best = int((first + second).argmin())
            splits.append(((first + second)[best], by_size, start + int(num_first[best])))
        _, by_size, middle = min(splits, key=lambda split: split[0])
        order[start:end] = order[start:end][by_size]
        parts += [(start, middle), (middle, end)]
    return order


def num_batches(num_samples: int, batch_size: int, drop_last: bool) -> int:
    """Returns the steps of an epoch. A last batch of one sample joins the one before: batch norm cannot use it.

    >>> num_batches(10, 4, drop_last=True), num_batches(10, 4, drop_last=False), num_batches(9, 4, drop_last=False)
    (2, 3, 2)
    """
    whole, rest = divmod(num_samples, batch_size)
    joins = rest == 1 and whole > 0
    return whole if drop_last or rest == 0 or joins else whole + 1


def too_large(batch_size: int, num_samples: int, unit: int, num_pseudo: int = 0) -> str:
    """Returns why a batch cannot be larger than all training samples together, and what to set.

    Args:
        unit: of how many samples a batch size is a multiple: ranks times micro-batches.
        num_pseudo: how many samples of a batch are pseudo-labelled, and not among `num_samples`.

    >>> too_large(8, 7, 4).partition("\\n")[2]
    'Set BATCH_SIZE to 4, a multiple of RUNTIME.RANKS times SOLVER.ACCUMULATE.'
    """
    found = f"DATALOADERS.TRAIN.BATCH_SIZE is {batch_size}, but there are {num_samples} training samples"
    if num_pseudo:
        of_batch = f"{found} for the {batch_size - num_pseudo} labelled samples of a batch (PSEUDO.SHARE)"
        return f"{of_batch}, and DROP_LAST leaves none of them.\nLower BATCH_SIZE."
    if unit == 1:
        fix = f"Set BATCH_SIZE to {num_samples} or less, or DROP_LAST to false."
    elif fitting := num_samples // unit * unit:
        fix = f"Set BATCH_SIZE to {fitting}, a multiple of RUNTIME.RANKS times SOLVER.ACCUMULATE."
    else:
        fix = f"Set BATCH_SIZE to {num_samples} or less, SOLVER.ACCUMULATE to 1 and RUNTIME.RANKS to 1."
    return f"{found} and DROP_LAST leaves none of them.\n{fix}"
