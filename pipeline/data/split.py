"""Which images train and which validate: the table behind split.csv.

In: the training catalog, the kind of split and SPLIT_INDEX. Out: id, subset (train, valid).

- `slice`: the original's, 20 overlapping slices of 20 % of the shuffled list. Frames of one video land on both sides.
- `kfold`: scikit-learn's KFold, 5 folds; index 5 to 9 are the folds of another shuffle, and so on.
- `sequence`: whole sequences, see `sequence_split.py`.
- `stratified`: whole sequences in 5 folds with like shares of each class, scikit-learn's StratifiedGroupKFold.

A negative SPLIT_INDEX -p is for a quick try: p % of both sides of index 0.
"""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.data.sequence_split import sequence_split
from pipeline.errors import UserError

SHUFFLE_SEED = 42
NUM_FOLDS = 5
# By SPLIT_INDEX: the seed of the run; where the validation slice starts, in twentieths of the list (5 is 0.25).
SLICES = (
    (2, 0), (3, 4), (5, 8), (7, 12), (11, 16), (13, 2), (17, 6), (19, 10), (23, 14), (29, 18),
    (31, 1), (37, 3), (41, 5), (43, 7), (47, 9), (53, 11), (59, 13), (61, 15), (67, 17), (71, 19),
)  # fmt: skip
_SLICE_WIDTH = 4  # twentieths: 20 %


def make_split(
    catalog: pd.DataFrame, present: np.ndarray, by: Literal["slice", "sequence", "kfold", "stratified"], split_index: int
) -> pd.DataFrame:
    """Returns id, subset ("train" or "valid") of the catalog's images, in its order.

    Args:
        present: bool, images x classes: which classes each image shows.

    Raises:
        UserError: an index outside -100..19, or images or sequences too few for this kind of split.
    """
    ids, sequences = catalog["id"].tolist(), catalog["sequence"].tolist()
    check_index(split_index)
    index = max(split_index, 0)
    if by == "slice":
        train, valid = slice_split(ids, index)
    elif by == "kfold":
        train, valid = kfold_split(ids, index)
    elif by == "sequence":
        train, valid = sequence_split(ids, sequences, present, index)
    else:
        train, valid = stratified_split(ids, sequences, present, index)
    if split_index < 0:
        train, valid = take_percent(train, -split_index), take_percent(valid, -split_index)
    if not train or not valid:
        raise UserError(
            f"SPLIT.BY {by} leaves {len(train)} to train and {len(valid)} to validate of {len(ids)} images."
        )
    subset_of = dict.fromkeys(train, "train") | dict.fromkeys(valid, "valid")
    kept = [id for id in ids if id in subset_of]
    return pd.DataFrame({"id": kept, "subset": [subset_of[id] for id in kept]})


def read_split(path: Path) -> pd.DataFrame:
    """Returns split.csv as it was written: every cell is text."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def check_index(split_index: int) -> None:
    """Refuses an index that names no split.

    Raises:
        UserError: the index is outside -100..19.
    """
    if not -100 <= split_index < len(SLICES):
        raise UserError(f"DATASETS.SPLIT_INDEX {split_index}: give 0 to 19, or -p to try p % of the images.")


def split_seed(split_index: int) -> int:
    """Returns the seed of a run, which in the original belongs to the split.

    >>> split_seed(0), split_seed(19), split_seed(-10)
    (2, 71, 2)
    """
    check_index(split_index)
    return SLICES[max(split_index, 0)][0]


def slice_split(ids: list[str], split_index: int) -> tuple[list[str], list[str]]:
    """Returns (train, valid) ids as the original splits, each in the order of `ids`.

    The list is shuffled by Python's `random.Random(42)`. The slice goes from offset to offset + 20 %, both rounded half
    up, and wraps around: indices 0 to 4 validate every image exactly once, for which slices of a list that does
    not divide by 20 differ by one (2,621: 524, 524, 525, 524, 524).

    >>> slice_split(list("abcdefghij"), 1)
    (['a', 'b', 'd', 'e', 'f', 'g', 'h', 'j'], ['c', 'i'])
    """
    check_index(split_index)
    if split_index < 0:
        train, valid = slice_split(ids, 0)
        return take_percent(train, -split_index), take_percent(valid, -split_index)
    shuffled = _shuffled(ids)
    _, offset = SLICES[split_index]
    start, end = (round_half_up(twentieths * len(ids), 20) for twentieths in (offset, offset + _SLICE_WIDTH))
    valid = {shuffled[position % len(ids)] for position in range(start, end)}
    return [id for id in ids if id not in valid], [id for id in ids if id in valid]


def kfold_split(ids: list[str], split_index: int) -> tuple[list[str], list[str]]:
    """Returns (train, valid) ids of fold `split_index` % 5 of shuffle `split_index` // 5.

    Raises:
        UserError: fewer images than folds.
    """
    if len(ids) < NUM_FOLDS:
        raise UserError(f"SPLIT.BY kfold cuts {NUM_FOLDS} folds, but there are only {len(ids)} images.")
    repeat, fold = divmod(split_index, NUM_FOLDS)
    from sklearn.model_selection import KFold  # here: it takes longer to import than most splits to make

    folds = list(KFold(NUM_FOLDS, shuffle=True, random_state=SHUFFLE_SEED + repeat).split(ids))
    return _pick(ids, folds[fold])


def stratified_split(
    ids: list[str], sequences: list[str], present_NC: np.ndarray, split_index: int
) -> tuple[list[str], list[str]]:
    """Returns (train, valid) ids of fold `split_index` % 5 of shuffle `split_index` // 5, sequences kept whole.

    An image counts for the rarest of its classes, because the common ones are everywhere. Images without a sequence
    are a sequence each. `present_NC` is bool, images x classes.

    Raises:
        UserError: fewer sequences than folds.
    """
    groups = [sequence or f"image {id}" for id, sequence in zip(ids, sequences, strict=True)]
    if len(set(groups)) < NUM_FOLDS:
        raise UserError(
            f"SPLIT.BY stratified deals sequences into {NUM_FOLDS} folds, but there are only {len(set(groups))}.\n"
            f"Use DATASETS.SPLIT.BY=sequence, which validates on the sequences nearest to 20 %."
        )
    rarity = np.argsort(present_NC.sum(axis=0), kind="stable")
    rarest = rarity[present_NC[:, rarity].argmax(axis=1)]
    repeat, fold = divmod(split_index, NUM_FOLDS)
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=SHUFFLE_SEED + repeat)
    with warnings.catch_warnings():
        # A class with fewer images than folds cannot be everywhere; the others still can.
        warnings.filterwarnings("ignore", message="The least populated class")
        folds = list(splitter.split(ids, rarest, groups))
    return _pick(ids, folds[fold])


def take_percent(ids: list[str], percent: int) -> list[str]:
    """Returns `percent` % of the ids, rounded half up but at least one, drawn by a fixed shuffle, in the given order.

    >>> len(take_percent([str(number) for number in range(50)], 5))
    3
    """
    num_kept = max(1, round_half_up(percent * len(ids), 100)) if ids else 0
    kept = set(_shuffled(ids)[:num_kept])
    return [id for id in ids if id in kept]


def round_half_up(numerator: int, denominator: int) -> int:
    """Returns the fraction rounded to an integer, halves upwards, without passing through floating point.

    >>> round_half_up(5, 2), round_half_up(7, 2), round_half_up(1, 3)
    (3, 4, 0)
    """
    return (2 * numerator + denominator) // (2 * denominator)


def _shuffled(ids: list[str]) -> list[str]:
    shuffled = list(ids)
    random.Random(SHUFFLE_SEED).shuffle(shuffled)
    return shuffled


def _pick(ids: list[str], fold: tuple[np.ndarray, np.ndarray]) -> tuple[list[str], list[str]]:
    train, valid = fold
    return [ids[index] for index in sorted(train)], [ids[index] for index in sorted(valid)]
