"""What a leaderboard may do to submissions: public and private boards drawn again and again from out-of-fold scores.

    ./run.sh shakeup ExpBAA EnsAAA Ens01

In: `per_image.csv` of several runs, on the images that all of them were judged on. Out: a table, how far two
submissions must lie apart to be truly different, and which two to choose as finals. Sequences are drawn whole, because
a new test set means new flights, not new frames of the old ones.

Letters: I images, N submissions, G sequences, B boards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.inference.intervals import Interval, group_numbers, interval
from pipeline.paths import PER_IMAGE, shown

PUBLIC_SHARE = 0.3  # of the test images, usual for Kaggle
NUM_BOARDS = 4000  # a probability is then known to one per cent
LEAST_IMAGES, LEAST_SEQUENCES = 10, 4


@dataclass(frozen=True)
class Outlook:
    """What awaits one submission.

    Attributes:
        score: mean Dice with its 95 % interval.
        shake: standard deviation of private minus public score.
        best_share: on how many of the private boards it is the best of all.
    """

    name: str
    score: Interval
    shake: float
    best_share: float


@dataclass(frozen=True)
class Pair:
    """Two submissions, the one with the higher score first.

    Attributes:
        gap: the difference of their scores with its 95 % interval.
        kept_share: on how many private boards the first is ahead.
        flipped_share: on how many boards public and private disagree about the two.
        needed: how large the gap must be for the interval to leave out 0.
    """

    first: str
    second: str
    gap: Interval
    kept_share: float
    flipped_share: float
    needed: float


@dataclass(frozen=True)
class ShakeUp:
    """The whole estimate; `finals` are the two whose better one has the highest mean private score."""

    outlooks: tuple[Outlook, ...]
    pairs: tuple[Pair, ...]
    finals: tuple[str, str]
    num_images: int
    num_sequences: int

    def __str__(self) -> str:
        return shake_up_text(self)


def read_scores(folders: Mapping[str, Path]) -> tuple[pd.DataFrame, np.ndarray]:
    """Returns the Dice of each run (columns) on the images that all were judged on, and each image's sequence.

    Raises:
        UserError: a run was not judged, its scores are damaged, or too few images or sequences are common to all.
    """
    tables = {}
    for name, folder in folders.items():
        path = folder / PER_IMAGE
        if not path.is_file():
            raise UserError(f"{name} was not judged yet; type: ./run.sh {name} evaluate")
        tables[name] = _read_table(name, path)
    dice = pd.concat({name: table["dice"] for name, table in tables.items()}, axis=1, join="inner")
    sequences = next(iter(tables.values())).loc[dice.index, "sequence"]
    groups = group_numbers(dice.index.tolist(), sequences.tolist())
    num_groups = len(set(groups.tolist()))
    if len(dice) < LEAST_IMAGES or num_groups < LEAST_SEQUENCES:
        own = max(len(table) for table in tables.values())
        cure = (
            "These validate on too few images for it"
            if own == len(dice)
            else f"They validate on different ones, {own} at most: compare runs of one slice, or ensembles of it"
        )
        raise UserError(
            f"{', '.join(folders)}: judged images that all have in common: {len(dice)}, sequences: {num_groups} (a "
            f"image without one is its own); wanted: {LEAST_IMAGES} and {LEAST_SEQUENCES} at least. {cure}."
        )
    return dice, groups


def _read_table(name: str, path: Path) -> pd.DataFrame:
    """Returns sequence and Dice by image of one run."""
    try:
        table = pd.read_csv(path, dtype={"id": str, "sequence": str}, keep_default_na=False)
        return table.set_index("id")[["sequence", "dice"]].astype({"dice": float})
    except (ValueError, KeyError):  # pandas' own errors are ValueErrors
        raise UserError(f"{shown(path)} is damaged; type: ./run.sh {name} evaluate --force") from None


def shake_up(dice: pd.DataFrame, groups: np.ndarray) -> ShakeUp:
    """Returns the outlook of several submissions from their Dice per image (I x N) and the images' sequences."""
    names, dice_IN = list(dice.columns), dice.to_numpy()
    public_BN, private_BN = draw_boards(dice_IN, groups)
    best_B = private_BN.argmax(1)
    outlooks = [
        Outlook(
            name,
            interval(dice_IN[:, index], groups),
            float((private_BN - public_BN)[:, index].std()),
            float((best_B == index).mean()),
        )
        for index, name in enumerate(names)
    ]
    order = sorted(range(len(names)), key=lambda index: -outlooks[index].score.mean)
    pairs = [_pair(names, dice_IN, groups, public_BN, private_BN, *two) for two in combinations(order, 2)]
    best = max(combinations(order, 2), key=lambda two: private_BN[:, list(two)].max(1).mean())
    return ShakeUp(
        tuple(outlooks[index] for index in order),
        tuple(pairs),
        (names[best[0]], names[best[1]]),
        len(dice_IN),
        len(np.unique(groups)),
    )


def draw_boards(dice_IN: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns public and private scores, float64 (B, N) each: sequences drawn anew with replacement, then parted."""
    _, group_of = np.unique(groups, return_inverse=True)
    num_groups = int(group_of.max()) + 1
    sums_GN = np.stack([np.bincount(group_of, column) for column in dice_IN.T], 1)
    sizes_G = np.bincount(group_of)
    num_public = min(max(1, round(PUBLIC_SHARE * num_groups)), num_groups - 1)
    generator = np.random.default_rng(0)
    boards = []
    for num_drawn in (num_public, num_groups - num_public):
        counts_BG = generator.multinomial(num_drawn, np.full(num_groups, 1 / num_groups), NUM_BOARDS)
        boards.append((counts_BG @ sums_GN) / (counts_BG @ sizes_G)[:, None])
    return boards[0], boards[1]


def shake_up_text(found: ShakeUp) -> str:
    """Returns the estimate as a table."""
    width = max(len(outlook.name) for outlook in found.outlooks)
    lines = [
        f"{found.num_images} images in {found.num_sequences} sequences; {NUM_BOARDS:,} boards, "
        f"{100 * PUBLIC_SHARE:.0f} % of the sequences public",
        f"{'submission':<{width}}  {'Dice':>6}  {'95 %':>16}  {'shake-up':>8}  best on private",
    ]
    for outlook in found.outlooks:
        score = outlook.score
        lines.append(
            f"{outlook.name:<{width}}  {score.mean:6.4f}  {score.low:7.4f} to {score.high:.4f}  ±{outlook.shake:.4f}  "
            f"{100 * outlook.best_share:.0f} % of boards"
        )
    lines.append("")
    for pair in found.pairs:
        is_true = pair.gap.low > 0
        verdict = "truly different" if is_true else f"not told apart; {pair.needed:.4f} would be needed"
        lines.append(
            f"{pair.first} over {pair.second}: {pair.gap.mean:+.4f} ({pair.gap.low:+.4f} to {pair.gap.high:+.4f}), "
            f"ahead on {100 * pair.kept_share:.0f} % of private boards, public misleads on "
            f"{100 * pair.flipped_share:.0f} %: {verdict}"
        )
    lines.append(f"two finals: {found.finals[0]} and {found.finals[1]}")
    return "\n".join(lines)


def _pair(
    names: Sequence[str],
    dice_IN: np.ndarray,
    groups: np.ndarray,
    public_BN: np.ndarray,
    private_BN: np.ndarray,
    first: int,
    second: int,
) -> Pair:
    gap = interval(dice_IN[:, first] - dice_IN[:, second], groups)
    public_B, private_B = (board[:, first] - board[:, second] for board in (public_BN, private_BN))
    return Pair(
        names[first],
        names[second],
        gap,
        float((private_B > 0).mean()),
        float((public_B * private_B < 0).mean()),
        gap.mean - gap.low,
    )
