"""Whole sequences in folds of similar size, so that every image validates exactly once.

In: the sequence of each image, which classes it shows, a number of folds. Out: the fold of each sequence.
"""

from __future__ import annotations

import random
from collections import Counter

import numpy as np

from pipeline.errors import UserError

NUM_TRIALS = 400  # as of the search for `sequence`; 400 assignments of 141 sequences take 0.1 s
_TOLERANCE = 0.25  # of a fold's fair share of images: up to here a lost class weighs more than equal sizes


def assign_sequences(sequences: list[str], present_NC: np.ndarray, num_folds: int, seed: int) -> dict[str, int]:
    """Returns the fold of each sequence, 0 to `num_folds` - 1; no fold is empty.

    Wanted, in this order: sizes within a quarter of an equal share; every class that occurs is left in training,
    whichever fold validates; every class is in every fold; sizes as equal as possible. The best of many
    random assignments is taken. Each gives sequence after sequence, in random order or the large ones first, to the
    fold that is the smallest so far.

    Args:
        sequences: of each image.
        present_NC: bool, images x classes: the image has a pixel of the class.
        seed: of the random orders.

    Raises:
        UserError: an image has no sequence, or there are fewer sequences than folds.
    """
    sizes = Counter(sequences)
    names = sorted(sizes)
    if "" in sizes:
        raise UserError(
            f"SPLIT.BY sequence: {sizes['']} of {len(sequences)} images are of no sequence.\n"
            "SEQUENCE_COLUMN or SEQUENCE_PATTERN in the competition's file names them."
        )
    if len(names) < num_folds:
        raise UserError(too_few_sequences(len(names), num_folds))
    num_images = np.array([sizes[name] for name in names])
    groups = np.array(sequences)
    present_SC = np.array([present_NC[groups == name].any(axis=0) for name in names])
    best, least = [], ()
    for trial in range(NUM_TRIALS):
        folds = _assign(num_images.tolist(), num_folds, random.Random(f"{seed} {trial}"), is_sorted=trial % 2 == 0)
        cost = _cost(np.array(folds), num_folds, num_images, present_SC)
        if not best or cost < least:
            best, least = folds, cost
    return dict(zip(names, best, strict=True))


def too_few_sequences(num_sequences: int, num_folds: int) -> str:
    """Returns what to say where each fold cannot have a sequence of its own.

    >>> print(too_few_sequences(3, 5))
    5 folds of whole sequences need 5 sequences or more, but there are only 3.
    Give --folds 2 to 3 (DATASETS.SPLIT.FOLDS).
    """
    found = f"{num_folds} folds of whole sequences need {num_folds} sequences or more, but there are only"
    return f"{found} {num_sequences}.{fewer_folds(num_sequences)}"


def fewer_folds(most: int) -> str:
    """Returns a line with the numbers of folds that so many images or sequences allow; "" where they allow none."""
    return f"\nGive --folds 2{f' to {most}' if most > 2 else ''} (DATASETS.SPLIT.FOLDS)." if most > 1 else ""


def _assign(num_images: list[int], num_folds: int, rng: random.Random, is_sorted: bool) -> list[int]:
    """Returns the fold of each sequence: each goes to the fold with the fewest images so far."""
    order = list(range(len(num_images)))
    rng.shuffle(order)  # Python promises the same shuffles in every version, NumPy does not
    if is_sorted:
        order.sort(key=lambda sequence: -num_images[sequence])
    totals, folds = [0] * num_folds, [0] * len(num_images)
    for sequence in order:
        fold = totals.index(min(totals))  # an empty one first, so that none stays empty
        folds[sequence] = fold
        totals[fold] += num_images[sequence]
    return folds


def _cost(folds_S: np.ndarray, num_folds: int, num_images: np.ndarray, present_SC: np.ndarray) -> tuple[float, ...]:
    """Returns what an assignment lacks, the most important first."""
    in_fold_FS = folds_S == np.arange(num_folds)[:, None]
    shares = in_fold_FS @ num_images * num_folds / num_images.sum()  # 1 each would be equal
    distance = float(np.abs(shares - 1).max())
    in_valid_FC, in_train_FC = (sides.astype(int) @ present_SC > 0 for sides in (in_fold_FS, ~in_fold_FS))
    num_lost, num_untested = int((in_valid_FC & ~in_train_FC).sum()), int((in_train_FC & ~in_valid_FC).sum())
    beyond = 0.0 if distance < _TOLERANCE + 1e-9 else distance
    return beyond, num_lost, num_untested, float(np.square(shares - 1).sum())
