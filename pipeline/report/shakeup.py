"""What a leaderboard may do to submissions: public and private boards drawn again and again from out-of-fold scores.

    ./run.sh shakeup ExpBAA EnsAAA Ens01

In: `per_image.csv` of several runs, on the images that all of them were evaluated on. Out: a table, the gap between
two submissions that tells them apart, and which two to choose as finals. Sequences are drawn whole, because a new test
set means new flights, not new frames of the old ones.

Letters: I images, N submissions, G sequences, B boards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.intervals import Interval, group_numbers, interval
from pipeline.paths import METRICS, shown
from pipeline.paths import PER_IMAGE as PER_IMAGE_TABLE
from pipeline.scores import LABELS, PER_IMAGE, per_image_score

PUBLIC_SHARE = 0.3  # of the test images, usual for Kaggle
NUM_BOARDS = 4000  # a probability is then known to one per cent
LEAST_IMAGES, LEAST_SEQUENCES = 10, 4


@dataclass(frozen=True)
class Outlook:
    """The estimate for one submission.

    Attributes:
        score: the mean over images with its 95 % interval.
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
        needed: how large the gap must be for its interval to exclude 0.
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

    score: str
    outlooks: tuple[Outlook, ...]
    pairs: tuple[Pair, ...]
    finals: tuple[str, str]
    num_images: int
    num_sequences: int

    def __str__(self) -> str:
        return shake_up_text(self)


def read_scores(folders: Mapping[str, Path]) -> tuple[pd.DataFrame, np.ndarray, str]:
    """Returns the score of each run (columns) by image, each image's sequence, and the score's name.

    The images are those that all runs were evaluated on; the score is the competition's own, or IoU where that has no
    value per image.

    Raises:
        UserError: a run was not evaluated, its scores are damaged, or too few images or sequences are common to all.
    """
    score, tables = "", {}
    for run, folder in folders.items():
        if not (folder / PER_IMAGE_TABLE).is_file():
            raise UserError(f"{run} was not evaluated yet; type: ./run.sh {run} evaluate")
        own, tables[run] = _read_run(run, folder)
        score = score or own
    scores = pd.concat({run: table[score] for run, table in tables.items()}, axis=1, join="inner")
    sequences = next(iter(tables.values())).loc[scores.index, "sequence"]
    groups = group_numbers(scores.index.tolist(), sequences.tolist())
    num_groups = len(np.unique(groups))
    if len(scores) < LEAST_IMAGES or num_groups < LEAST_SEQUENCES:
        most = max(len(table) for table in tables.values())
        remedy = (
            "These runs validate on too few images"
            if most == len(scores)
            else f"They validate on different images, at most {most}: compare runs of one slice, or ensembles of it"
        )
        raise UserError(
            f"{', '.join(folders)} were evaluated on {len(scores)} images in common, of {num_groups} sequences (an "
            f"image without one is its own); expected at least {LEAST_IMAGES} of {LEAST_SEQUENCES}. {remedy}."
        )
    return scores, groups, score


def _read_run(run: str, folder: Path) -> tuple[str, pd.DataFrame]:
    """Returns the score that compares single images of a run, and sequence and scores by image."""
    try:
        score = per_image_score(json.loads((folder / METRICS).read_text())["score"])
        table = pd.read_csv(folder / PER_IMAGE_TABLE, dtype={"id": str, "sequence": str}, keep_default_na=False)
        return score, table.set_index("id")[["sequence", *PER_IMAGE]].astype(dict.fromkeys(PER_IMAGE, float))
    except (OSError, ValueError, KeyError, TypeError):  # errors of pandas and json are ValueErrors
        files = f"{shown(folder)}: {METRICS} or {PER_IMAGE_TABLE}"
        raise UserError(f"{files} is damaged; type: ./run.sh {run} evaluate --force") from None


def shake_up(scores: pd.DataFrame, groups: np.ndarray, score: str = "dice") -> ShakeUp:
    """Returns the estimate for several submissions.

    Args:
        scores: by image, a column per submission (I x N).
        groups: int (I,), the sequence of each image.
        score: the name of the score.
    """
    names, scores_IN = list(scores.columns), scores.to_numpy()
    public_BN, private_BN = draw_boards(scores_IN, groups)
    best_B = private_BN.argmax(1)
    outlooks = [
        Outlook(
            name,
            interval(scores_IN[:, index], groups),
            float((private_BN - public_BN)[:, index].std()),
            float((best_B == index).mean()),
        )
        for index, name in enumerate(names)
    ]
    order = sorted(range(len(names)), key=lambda index: -outlooks[index].score.mean)
    pairs = [_pair(names, scores_IN, groups, public_BN, private_BN, *two) for two in combinations(order, 2)]
    best = max(combinations(order, 2), key=lambda two: private_BN[:, list(two)].max(1).mean())
    return ShakeUp(
        score,
        tuple(outlooks[index] for index in order),
        tuple(pairs),
        (names[best[0]], names[best[1]]),
        len(scores_IN),
        len(np.unique(groups)),
    )


def draw_boards(scores_IN: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns public and private scores, float64 (B, N) each: sequences drawn with replacement, then split."""
    _, group_of = np.unique(groups, return_inverse=True)
    num_groups = int(group_of.max()) + 1
    sums_GN = np.stack([np.bincount(group_of, column) for column in scores_IN.T], 1)
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
        f"{'submission':<{width}}  {LABELS[found.score]:>6}  {'95 %':>16}  {'shake-up':>8}  best on private",
    ]
    for outlook in found.outlooks:
        score = outlook.score
        lines.append(
            f"{outlook.name:<{width}}  {score.mean:6.4f}  {score.low:7.4f} to {score.high:.4f}  ±{outlook.shake:.4f}  "
            f"{100 * outlook.best_share:.0f} % of boards"
        )
    lines.append("")
    for pair in found.pairs:
        verdict = "different" if pair.gap.low > 0 else f"not told apart, a gap of {pair.needed:.4f} is needed"
        lines.append(
            f"{pair.first} over {pair.second}: {pair.gap}, ahead on {100 * pair.kept_share:.0f} % of private boards, "
            f"public and private disagree on {100 * pair.flipped_share:.0f} %: {verdict}"
        )
    lines.append(f"two finals: {found.finals[0]} and {found.finals[1]}")
    return "\n".join(lines)


def _pair(
    names: Sequence[str],
    scores_IN: np.ndarray,
    groups: np.ndarray,
    public_BN: np.ndarray,
    private_BN: np.ndarray,
    first: int,
    second: int,
) -> Pair:
    gap = interval(scores_IN[:, first] - scores_IN[:, second], groups)
    public_B, private_B = (board[:, first] - board[:, second] for board in (public_BN, private_BN))
    return Pair(
        names[first],
        names[second],
        gap,
        float((private_B > 0).mean()),
        float((public_B * private_B < 0).mean()),
        gap.mean - gap.low,
    )
