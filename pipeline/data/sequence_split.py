"""Whole sequences to one side: the honest split for video, where neighbouring frames are near duplicates.

In: ids with their sequences and classes. Out: (train, valid) ids. Which sequences validate is searched, with a fixed
seed, among many random choices of about 20 % of the images.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import numpy as np

from pipeline.errors import UserError

VALID_SHARE = 0.2
SEARCH_SEED = 42
NUM_TRIALS = 400  # with 141 sequences and four classes in few of them each, some 10 choices are good in every respect
_TOLERANCE = 0.05  # up to here a lost class weighs more than a validation share nearer to 20 %


def sequence_split(
    ids: list[str], sequences: list[str], present_NC: np.ndarray, split_index: int
) -> tuple[list[str], list[str]]:
    """Returns (train, valid) ids with no sequence on both sides, in the order of `ids`.

    Wanted of the validating sequences, in this order: 15 to 25 % of the images; every class that occurs is left in
    training; every class is in validation; sequences that lower indices have not used yet; as near to 20 % as possible.
    Each index gets a choice of its own, so that five indices together validate (nearly) every image.

    Args:
        present_NC: bool, images x classes: the image has a pixel of the class.

    Raises:
        UserError: no or one sequence, or an index beyond the choices that so few sequences offer.
    """
    sizes = Counter(sequences)
    if "" in sizes or len(sizes) < 2:
        raise UserError(
            f"SPLIT.BY sequence needs at least 2 sequences; this competition names {len(sizes) - ('' in sizes)}.\n"
            "Name SEQUENCE_COLUMN or SEQUENCE_PATTERN in its descriptor, or use DATASETS.SPLIT.BY=slice."
        )
    names = sorted(sizes)
    num_images = np.array([sizes[name] for name in names])
    groups = np.array(sequences)
    present_SC = np.array([present_NC[groups == name].any(axis=0) for name in names])
    num_uses = np.zeros(len(names), int)
    chosen: list[bytes] = []
    for index in range(split_index + 1):
        choices_TS = np.unique(list(_choices(num_images, num_uses, index)), axis=0)
        choices_TS = choices_TS[[choice.tobytes() not in chosen for choice in choices_TS]]
        if not len(choices_TS):
            raise UserError(
                f"SPLIT.BY sequence: {len(names)} sequences offer {index} ways to validate on about 20 %, "
                f"so there is no SPLIT_INDEX {split_index}.\nGive 0 to {index - 1}."
            )
        best = choices_TS[_order(choices_TS, present_SC, num_images, num_uses)[0]]
        chosen.append(best.tobytes())
        num_uses += best
    valid = {name for name, is_valid in zip(names, best, strict=True) if is_valid}
    paired = list(zip(ids, sequences, strict=True))
    return [id for id, name in paired if name not in valid], [id for id, name in paired if name in valid]


def _choices(num_images: np.ndarray, num_uses: np.ndarray, index: int) -> Iterator[np.ndarray]:
    """Yields sets of sequences, bool [S], of about 20 % of the images; half of them take the least used first."""
    rng = random.Random(f"{SEARCH_SEED} {index}")  # Python promises the same shuffles for ever, NumPy does not
    for trial in range(NUM_TRIALS):
        order = list(range(len(num_images)))
        rng.shuffle(order)
        if trial % 2 == 0:
            order.sort(key=num_uses.__getitem__)
        yield _fill(order, num_images.tolist())


def _fill(order: list[int], num_images: list[int]) -> np.ndarray:
    """Returns the sequences that, taken in this order, each bring the total nearer to 20 %; at least one."""
    target, total = VALID_SHARE * sum(num_images), 0
    taken = np.zeros(len(order), bool)
    for sequence in order:
        if abs(total + num_images[sequence] - target) < abs(total - target):
            taken[sequence] = True
            total += num_images[sequence]
    if total == 0:
        taken[min(order, key=num_images.__getitem__)] = True
    return taken


def _order(
    choices_TS: np.ndarray, present_SC: np.ndarray, num_images: np.ndarray, num_uses: np.ndarray
) -> np.ndarray:
    """Returns the indices of the choices, the best first."""
    in_valid, in_train = (sides_TS.astype(int) @ present_SC > 0 for sides_TS in (choices_TS, ~choices_TS))
    num_valid = choices_TS @ num_images
    distance = np.abs(num_valid / num_images.sum() - VALID_SHARE)
    beyond = np.where(distance < _TOLERANCE + 1e-9, 0, distance)
    num_lost = (in_valid & ~in_train).sum(axis=1)
    num_untested = (in_train & ~in_valid).sum(axis=1)
    repeated = choices_TS @ (num_images * num_uses) / num_valid
    return np.lexsort([distance, repeated, num_untested, num_lost, beyond])  # the last key weighs most
