"""Which images train and which validate: the table behind split.csv.

In: the training catalog, the kind of split and SPLIT_INDEX. Out: id, subset (train, valid).

- `slice`: the original's, 20 overlapping slices of 20 % of the shuffled list. Frames of one video land on both sides.
- `kfold`: scikit-learn's KFold, 5 folds; index 5 to 9 are the folds of another shuffle, and so on.
- `sequence`: whole sequences; which of them validate is searched, with a fixed seed, among many random choices.
- `stratified`: whole sequences in 5 folds with similar shares of each class, scikit-learn's StratifiedGroupKFold.

  SPLIT.FOLDS is the number of folds of kfold and stratified, where it is not 5. With it `sequence` divides the
  sequences into so many folds, each of which validates once.
- `none`: all images train and none validates.
- `given`: the organisers' own, from a list or folder of validation images or a column of subsets. A column of fold
  numbers is read by SPLIT_INDEX: that fold, in their order, validates.

A negative SPLIT_INDEX -p is for a quick try: p % of both sides of index 0.
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.data.sequence_folds import assign_sequences, fewer_folds, too_few_sequences
from pipeline.data.table import read_table
from pipeline.errors import UserError

SEED = 42  # of every shuffle and search here
NUM_FOLDS = 5  # of kfold and stratified where SPLIT.FOLDS is null
# By SPLIT_INDEX: the seed of the run; where the validation slice starts, in twentieths of the list (5 is 0.25).
SLICES = (
    (2, 0), (3, 4), (5, 8), (7, 12), (11, 16), (13, 2), (17, 6), (19, 10), (23, 14), (29, 18),
    (31, 1), (37, 3), (41, 5), (43, 7), (47, 9), (53, 11), (59, 13), (61, 15), (67, 17), (71, 19),
)  # fmt: skip
VALID_NAMES = ("valid", "val", "validation", "dev")  # what organisers call the images that validate
_SLICE_WIDTH = 4  # twentieths: 20 %
VALID_SHARE = 0.2
NUM_TRIALS = 400  # with 141 sequences and four classes in few of them each, some 10 choices are good in every respect
_TOLERANCE = 0.05  # up to here a lost class weighs more than a validation share nearer to 20 %


def make_split(
    catalog: pd.DataFrame,
    present: np.ndarray,
    by: Literal["slice", "sequence", "kfold", "stratified", "given", "none"],
    split_index: int,
    num_folds: int | None = None,
) -> pd.DataFrame:
    """Returns id, subset ("train" or "valid") of the catalog's images, in its order.

    Args:
        present: bool, images x classes: which classes each image shows.
        split_index: -100 to 19, as the config's schema has checked.
        num_folds: SPLIT.FOLDS.

    Raises:
        UserError: images or sequences are too few for this kind of split or this index; with the kinds that work.
    """
    try:
        train, valid = _sides(catalog, present, by, split_index, num_folds)
    except UserError as error:
        raise UserError(f"{error}\n{_what_works(catalog, present, split_index, num_folds)}") from None
    subset_of = dict.fromkeys(train, "train") | dict.fromkeys(valid, "valid")
    return pd.DataFrame([(id, subset_of[id]) for id in catalog["id"] if id in subset_of], columns=["id", "subset"])


def _what_works(catalog: pd.DataFrame, present: np.ndarray, index: int, num_folds: int | None) -> str:
    """Returns what to type instead of a refused split; each setting is tried first, so that none of them is refused."""
    ways: dict[str, str] = {}
    others = (("sequence", None), ("slice", None)) if num_folds is None else ()  # else a fold is wanted
    for kind, folds in (*others, ("kfold", num_folds), ("kfold", 2)):
        with contextlib.suppress(UserError):
            if kind not in ways:
                _sides(catalog, present, kind, index, folds)
                ways[kind] = f"DATASETS.SPLIT.BY={kind}" + f" DATASETS.SPLIT.FOLDS={folds}" * (folds != num_folds)
    if not ways:
        return "No split leaves images for both training and validation; add images."
    are_split = "sequence" not in ways and catalog["sequence"].nunique() > 1
    about = " (optimistic scores: frames of a sequence are on both sides)" if are_split else ""
    return f"These images can be split with {' or '.join(ways.values())}{about}."


def _sides(
    catalog: pd.DataFrame, present: np.ndarray, by: str, split_index: int, num_folds: int | None
) -> tuple[list[str], list[str]]:
    """Returns (train, valid) ids; the arguments and what is raised are those of `make_split`."""
    ids, index = catalog["id"].tolist(), max(split_index, 0)
    if by == "none":
        train, valid = ids, []
    elif by == "given":
        train, valid = given_split(ids, catalog["given"].tolist(), index)
    elif by == "slice":
        train, valid = slice_split(ids, index)
    elif by == "kfold":
        train, valid = kfold_split(ids, index, num_folds or NUM_FOLDS)
    elif by == "stratified":
        train, valid = stratified_split(ids, catalog["sequence"].tolist(), present, index, num_folds or NUM_FOLDS)
    else:
        split, folds = (sequence_fold_split, (num_folds,)) if num_folds else (sequence_split, ())
        train, valid = split(ids, catalog["sequence"].tolist(), present, index, *folds)
    if split_index < 0:
        train, valid = take_percent(train, -split_index), take_percent(valid, -split_index)
    if not train or (not valid and by != "none"):
        raise UserError(
            f"SPLIT.BY {by} leaves {len(train)} to train and {len(valid)} to validate of {len(ids)} images."
        )
    return train, valid


def read_split(path: Path) -> pd.DataFrame:
    """Returns split.csv as it was written: every cell is text."""
    return read_table(path, ("id", "subset"))


def split_seed(split_index: int) -> int:
    """Returns the seed of a run, which in the original belongs to the split.

    >>> split_seed(0), split_seed(19), split_seed(-10)
    (2, 71, 2)
    """
    return SLICES[max(split_index, 0)][0]


def slice_split(ids: list[str], split_index: int) -> tuple[list[str], list[str]]:
    """Returns (train, valid) ids as the original splits, each in the order of `ids`.

    The list is shuffled by Python's `random.Random(42)`. The slice goes from offset to offset + 20 %, both rounded half
    up, and wraps around: indices 0 to 4 validate every image exactly once, for which slices of a list that does
    not divide by 20 differ by one (2,621: 524, 524, 525, 524, 524).

    >>> slice_split(list("abcdefghij"), 1)
    (['a', 'b', 'd', 'e', 'f', 'g', 'h', 'j'], ['c', 'i'])
    """
    shuffled = _shuffled(ids)
    _, offset = SLICES[split_index]
    start, end = (round_half_up(twentieths * len(ids), 20) for twentieths in (offset, offset + _SLICE_WIDTH))
    valid = {shuffled[position % len(ids)] for position in range(start, end)}
    return [id for id in ids if id not in valid], [id for id in ids if id in valid]


def kfold_split(ids: list[str], split_index: int, num_folds: int = NUM_FOLDS) -> tuple[list[str], list[str]]:
    """Returns (train, valid) ids of fold `split_index` % `num_folds` of shuffle `split_index` // `num_folds`.

    Raises:
        UserError: fewer images than folds.
    """
    if len(ids) < num_folds:
        found = f"SPLIT.BY kfold needs {num_folds} images or more for as many folds, found {len(ids)}."
        raise UserError(found + fewer_folds(len(ids)))
    from sklearn.model_selection import KFold  # here: it takes longer to import than most splits to make

    splitter = KFold(num_folds, shuffle=True, random_state=SEED + split_index // num_folds)
    return _pick(ids, splitter.split(ids), split_index % num_folds)


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
        found = f"found {len(sizes) - ('' in sizes)}; SEQUENCE_COLUMN or SEQUENCE_PATTERN of the competition names them"
        raise UserError(f"SPLIT.BY sequence needs at least 2 sequences, {found}.")
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
            found = f"{len(names)} sequences allow {index} validation sets of about 20 %"
            raise UserError(f"SPLIT.BY sequence: {found}.\nGive SPLIT_INDEX 0 to {index - 1}.")
        best = choices_TS[_order(choices_TS, present_SC, num_images, num_uses)[0]]
        chosen.append(best.tobytes())
        num_uses += best
    valid = {name for name, is_valid in zip(names, best, strict=True) if is_valid}
    paired = list(zip(ids, sequences, strict=True))
    return [id for id, name in paired if name not in valid], [id for id, name in paired if name in valid]


def sequence_fold_split(
    ids: list[str], sequences: list[str], present_NC: np.ndarray, split_index: int, num_folds: int
) -> tuple[list[str], list[str]]:
    """Returns (train, valid) ids of fold `split_index` of whole sequences, of which every one validates once.

    Raises:
        UserError: an image without a sequence, or fewer sequences than folds.
    """
    fold_of = assign_sequences(sequences, present_NC, num_folds, SEED)
    is_valid = dict(zip(ids, (fold_of[name] == split_index for name in sequences), strict=True))
    return [id for id in ids if not is_valid[id]], [id for id in ids if is_valid[id]]


def _choices(num_images: np.ndarray, num_uses: np.ndarray, index: int) -> Iterator[np.ndarray]:
    """Yields sets of sequences, bool [S], of about 20 % of the images; half of them take the least used first."""
    rng = random.Random(f"{SEED} {index}")  # Python promises the same shuffles in every version, NumPy does not
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


def _order(choices_TS: np.ndarray, present_SC: np.ndarray, num_images: np.ndarray, num_uses: np.ndarray) -> np.ndarray:
    """Returns the indices of the choices, the best first."""
    in_valid, in_train = (sides_TS.astype(int) @ present_SC > 0 for sides_TS in (choices_TS, ~choices_TS))
    num_valid = choices_TS @ num_images
    distance = np.abs(num_valid / num_images.sum() - VALID_SHARE)
    beyond = np.where(distance < _TOLERANCE + 1e-9, 0, distance)
    num_lost = (in_valid & ~in_train).sum(axis=1)
    num_untested = (in_train & ~in_valid).sum(axis=1)
    repeated = choices_TS @ (num_images * num_uses) / num_valid
    return np.lexsort([distance, repeated, num_untested, num_lost, beyond])  # the last key weighs most


def stratified_split(
    ids: list[str], sequences: list[str], present_NC: np.ndarray, split_index: int, num_folds: int = NUM_FOLDS
) -> tuple[list[str], list[str]]:
    """Returns (train, valid) ids of fold `split_index` % `num_folds`, sequences kept whole.

    The folds are those of shuffle `split_index` // `num_folds`.

    An image counts for the rarest of its classes, because the common ones are everywhere. Images without a sequence
    are a sequence each. `present_NC` is bool, images x classes.

    Raises:
        UserError: fewer sequences than folds.
    """
    groups = [sequence or f"image {id}" for id, sequence in zip(ids, sequences, strict=True)]
    if len(set(groups)) < num_folds:
        raise UserError(f"SPLIT.BY stratified: {too_few_sequences(len(set(groups)), num_folds)}")
    rarity = np.argsort(present_NC.sum(axis=0), kind="stable")
    rarest = rarity[present_NC[:, rarity].argmax(axis=1)]
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=SEED + split_index // num_folds)
    with warnings.catch_warnings():
        # A class with fewer images than folds cannot be everywhere; the others still can.
        warnings.filterwarnings("ignore", message="The least populated class")
        return _pick(ids, splitter.split(ids, rarest, groups), split_index % num_folds)


def given_split(ids: list[str], subsets: list[str], split_index: int) -> tuple[list[str], list[str]]:
    """Returns (train, valid) ids by the organisers' subset or fold of each image.

    Raises:
        UserError: no image has one, or no subset validates.

    >>> given_split(["a", "b", "c"], ["train", "val", "train"], 0), given_split(["a", "b", "c"], ["0", "1", "2"], 4)
    ((['a', 'c'], ['b']), (['a', 'c'], ['b']))
    """
    names = sorted(set(subsets) - {""}, key=lambda name: (len(name), name))
    validating = {name for name in names if name.casefold() in VALID_NAMES}
    if not validating and len(names) > 1 and all(name.isdecimal() for name in names):
        validating = {names[split_index % len(names)]}
    if not validating:
        found = f"the images have {', '.join(map(repr, names))}" if names else "no image has a subset"
        raise UserError(
            f"SPLIT.BY given: {found}; expected a subset called {', '.join(VALID_NAMES)}, or numbers of folds. "
            "VALID_CSV, VALID_IMAGES, VALID_PATTERN or SPLIT_COLUMN of the competition's file give it."
        )
    valid = {id for id, subset in zip(ids, subsets, strict=True) if subset in validating}
    return [id for id in ids if id not in valid], [id for id in ids if id in valid]


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
    random.Random(SEED).shuffle(shuffled)
    return shuffled


def _pick(ids: list[str], folds: Iterator[tuple[np.ndarray, np.ndarray]], index: int) -> tuple[list[str], list[str]]:
    train, valid = list(folds)[index]
    return [ids[index] for index in sorted(train)], [ids[index] for index in sorted(valid)]
