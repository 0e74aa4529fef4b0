"""How often an interval of `pipeline/intervals.py` misses the truth, in simulation: 5 % are promised.

    python -m tests.long.intervals [--trials 4000]

Each trial draws sequences of unequal sizes, an effect per sequence and noise per image, all with mean 0, and asks
whether the interval holds 0. The effects of sequences are as large as the noise of an image, so that images of one
sequence are worth little more than one. Prints a table: rows are spreads and sizes, columns numbers of sequences.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from pipeline.intervals import interval

NUM_SEQUENCES = (3, 4, 5, 8, 12, 20, 60)
SIZES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "all of 20 images": lambda generator, count: np.full(count, 20),
    "5 to 40 images": lambda generator, count: generator.integers(5, 41, count),
    "lognormal": lambda generator, count: np.maximum(1, np.exp(generator.normal(2.5, 1, count))).astype(int),
    "one of 100 among 5 to 14": lambda generator, count: np.r_[100, generator.integers(5, 15, count - 1)],
}
SPREADS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda generator, count: generator.normal(size=count),
    "heavy tails (t, 3 degrees)": lambda generator, count: generator.standard_t(3, count),
    "skewed (exponential)": lambda generator, count: generator.exponential(size=count) - 1,
}


def missed_share(size: str, spread: str, num_sequences: int, num_trials: int, seed: int = 0) -> float:
    """Returns the share of trials whose 95 % interval does not hold the true mean."""
    generator, missed = np.random.default_rng(seed), 0
    for _ in range(num_trials):
        sizes = SIZES[size](generator, num_sequences)
        values = np.repeat(SPREADS[spread](generator, num_sequences), sizes) + generator.normal(size=sizes.sum())
        found = interval(values, np.repeat(np.arange(num_sequences), sizes))
        missed += not found.low <= 0 <= found.high
    return missed / num_trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000, help="per cell; 4000 leave an error of 0.3 %%")
    num_trials = parser.parse_args().trials
    print("| effects of sequences | sizes | " + " | ".join(map(str, NUM_SEQUENCES)) + " |")
    print("|---|---|" + "---|" * len(NUM_SEQUENCES))
    for spread in SPREADS:
        for size in SIZES:
            shares = (missed_share(size, spread, count, num_trials) for count in NUM_SEQUENCES)
            print(f"| {spread} | {size} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |", flush=True)


if __name__ == "__main__":
    main()
