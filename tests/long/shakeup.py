"""How often the first of several submissions stays first on a new private board, and how often `shakeup` says so.

    python -m tests.long.shakeup [--trials 200]

Each trial draws submissions whose true scores differ by a known spread, evaluates them on sequences of 2 to 15 images,
asks `draw_boards` for how many private boards the first of them is the best, and draws a new private board. The spreads
of a submission's score between sequences and images are those of `tests/long/power.py`. Prints a table in Markdown:
how often the first stayed first, what was claimed, and what boards drawn around the local scores alone would claim.
"""

from __future__ import annotations

import argparse
from unittest import mock

import numpy as np

from pipeline.report import shakeup
from tests.long.power import LEAST_IMAGES, MOST_IMAGES, SPREADS

NUM_SEQUENCES, NUM_SUBMISSIONS, TRUE_SPREADS = (4, 8, 20, 60), (2, 5, 10), (0.0, 0.005, 0.01, 0.02)
COMMON = 0.1  # between sequences, of all submissions alike: a scene is hard or easy


def draw_images(
    generator: np.random.Generator, true_N: np.ndarray, num_sequences: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the scores of images, float64 (I, N), and the sequence of each."""
    groups = np.repeat(np.arange(num_sequences), generator.integers(LEAST_IMAGES, MOST_IMAGES + 1, num_sequences))
    own = {name: spread / np.sqrt(2) for name, spread in SPREADS.items()}  # of one of the two in a gain
    sequences = generator.normal(0, own["sequence"], (num_sequences, len(true_N)))
    sequences += generator.normal(0, COMMON, (num_sequences, 1))
    images = generator.normal(0, np.hypot(own["image"], own["noise"]), (len(groups), len(true_N)))
    return true_N + sequences[groups] + images, groups


def plain_boards(scores_IN: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `draw_boards` returns, with the local scores as the true ones."""
    with mock.patch.object(shakeup, "_true_scores", lambda sums_GN, sizes_G, *_: sums_GN.sum(0) / sizes_G.sum()):
        return shakeup.draw_boards(scores_IN, groups)


def first_place(
    num_sequences: int, num_submissions: int, spread: float, num_trials: int, seed: int = 0, is_plain: bool = False
) -> tuple[float, float]:
    """Returns how often the first is claimed to stay first, and how often it does.

    Args:
        spread: standard deviation of the true scores.
        is_plain: whether boards are drawn around the local scores alone.
    """
    generator, claims, stays = np.random.default_rng([seed, num_sequences, num_submissions]), [], []
    num_private = num_sequences - max(1, round(shakeup.PUBLIC_SHARE * num_sequences))
    for _ in range(num_trials):
        true_N = generator.normal(0, spread, num_submissions)
        local_IN, groups = draw_images(generator, true_N, num_sequences)
        first = local_IN.mean(0).argmax()
        private_BN = (plain_boards if is_plain else shakeup.draw_boards)(local_IN, groups)[1]
        claims.append((private_BN.argmax(1) == first).mean())
        stays.append(draw_images(generator, true_N, num_private)[0].mean(0).argmax() == first)
    return float(np.mean(claims)), float(np.mean(stays))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200, help="per cell; 200 leave an error of 3 %% in what stays")
    num_trials = parser.parse_args().trials
    print("| sequences | submissions | " + " | ".join(f"{spread:g}" for spread in TRUE_SPREADS) + " |")
    print("|---|---|" + "---|" * len(TRUE_SPREADS))
    for num_sequences in NUM_SEQUENCES:
        for num_submissions in NUM_SUBMISSIONS:
            cells = []
            for spread in TRUE_SPREADS:
                size = (num_sequences, num_submissions, spread, num_trials)
                claimed, stays = first_place(*size)
                plain, _ = first_place(*size, is_plain=True)
                cells.append(f"{100 * stays:.0f} / {100 * claimed:.0f} / {100 * plain:.0f}")
            print(f"| {num_sequences} | {num_submissions} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
