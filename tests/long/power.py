"""How often a study finds a true difference, and how often one that is not there, in simulation.

    python -m tests.long.power [--trials 600] [--plot docs/power.webp]
    python -m tests.long.power --trials 600 --others      # folds, and how often "equal" is wrong

Each trial draws a study: a reference and 20 settings, of which the first is better by a known difference and the others
are as good as the reference. All are trained with the same seeds and evaluated on the same sequences of 2 to 15 images.
A score is the sum of

- an effect of the sequence on the setting, and one of the image: other scenes would suit other settings;
- an effect of the training: another seed gives another network, better or worse on all images;
- noise of each image in each training.

SPREADS has their standard deviations. A difference is found where the verdict of `pipeline/verdicts.py` is "better",
alone or with Holm's correction over 5 or 20 comparisons. Prints two tables in Markdown, and draws the power curves.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.special import stdtr

from pipeline.verdicts import EQUIVALENT, Contrast, Pair, contrast, holm

NUM_SEQUENCES, NUM_SEEDS, NUM_COMPARISONS = (3, 5, 8, 20, 60), (1, 3, 5), (1, 5, 20)
DIFFERENCES = (0.005, 0.01, 0.02, 0.05)
NUM_FOLDS, SCALES = (3, 5), (0.05, 0.1, 0.3)  # with larger spreads, nothing is called equal
CURVE = np.linspace(0, 0.06, 25)
LEAST_IMAGES, MOST_IMAGES = 2, 15
ALPHA = 0.05
# Standard deviations, in Dice, of a gain. In a few recorded runs on Dubai and CamVid sequences differ by 0.007
# to 0.03 and images of a sequence by 0.02 to 0.08; that of trainings is assumed.
SPREADS = {"sequence": 0.02, "image": 0.03, "training": 0.007, "noise": 0.04}


@dataclass(frozen=True)
class Found:
    """What a study of one size finds.

    Attributes:
        alarms: share of comparisons without a difference that are called better or worse.
        any_alarm: by number of comparisons, share of studies without any difference in which at least one is.
        power: by number of comparisons, share of studies that find the difference, float (D,) as in `differences`.
    """

    alarms: float
    any_alarm: dict[int, float]
    power: dict[int, np.ndarray]


def draw_study(
    generator: np.random.Generator,
    num_sequences: int,
    num_seeds: int,
    most: int,
    num_folds: int = 1,
    scale: float = 1.0,
) -> list[Contrast]:
    """Returns the contrasts of `most` settings with one reference, all equally good.

    Args:
        num_folds: each sequence is validated by the networks of one fold.
        scale: of all spreads.
    """
    sizes = generator.integers(LEAST_IMAGES, MOST_IMAGES + 1, num_sequences)
    sequence_I = np.repeat(np.arange(num_sequences), sizes)
    # Of a setting: a gain is the difference of two, which doubles the variance.
    own = {name: scale * spread / np.sqrt(2) for name, spread in SPREADS.items()}
    of_sequences = generator.normal(0, own["sequence"], (most + 1, 1, num_sequences))[..., sequence_I]
    of_images = generator.normal(0, own["image"], (most + 1, 1, len(sequence_I)))
    fold_I = sequence_I % num_folds
    of_trainings = generator.normal(0, own["training"], (most + 1, num_seeds, num_folds))[..., fold_I]
    noise = generator.normal(0, own["noise"], (most + 1, num_seeds, len(sequence_I)))
    scores = of_sequences + of_images + of_trainings + noise
    names = [(f"{index}", f"s{sequence}") for index, sequence in enumerate(sequence_I)]
    found = []
    for gains in scores[1:] - scores[0]:
        pairs = []
        for seed, of_seed in enumerate(gains.tolist()):
            for fold in range(num_folds):
                known = zip(names, of_seed, fold_I.tolist(), strict=True)
                pairs.append(Pair(fold, seed, {name: (s, gain) for (name, s), gain, one in known if one == fold}))
        found.append(contrast(pairs))
    return found


def p_value_of(found: Contrast, difference: float) -> float:
    """Returns the p value of a contrast whose every gain is larger by a difference: only the mean moves with it."""
    return float(2 * stdtr(found.degrees, -abs(found.interval.mean + difference) / found.error))


def simulate(num_sequences: int, num_seeds: int, num_trials: int, differences: np.ndarray, seed: int = 0) -> Found:
    """Returns what studies of one size find."""
    generator = np.random.default_rng([seed, num_sequences, num_seeds])
    most = max(NUM_COMPARISONS)
    hits = {count: np.zeros(len(differences)) for count in NUM_COMPARISONS}
    alarms, any_alarm = 0, dict.fromkeys(NUM_COMPARISONS, 0)
    for _ in range(num_trials):
        study = draw_study(generator, num_sequences, num_seeds, most)
        p_values = [found.p_value for found in study]
        alarms += sum(p_value < ALPHA for p_value in p_values)
        shifted = [p_value_of(study[0], difference) for difference in differences]
        is_better = np.array([study[0].interval.mean + difference > 0 for difference in differences])
        for count in NUM_COMPARISONS:
            any_alarm[count] += min(holm(p_values[:count])) < ALPHA
            adjusted = np.array([holm([own, *p_values[1:count]])[0] for own in shifted])
            hits[count] += (adjusted < ALPHA) & is_better
    shares = {count: number / num_trials for count, number in any_alarm.items()}
    return Found(alarms / num_trials / most, shares, {count: own / num_trials for count, own in hits.items()})


def wrong_equals(
    num_sequences: int, num_seeds: int, scale: float, num_trials: int, seed: int = 0
) -> tuple[float, float]:
    """Returns how often "equal within 0.005" is said where the true difference is 0.005, and where there is none."""
    generator, most = np.random.default_rng([seed, num_sequences, num_seeds]), 20
    wrong = right = 0
    for _ in range(max(1, num_trials // most)):
        for found in draw_study(generator, num_sequences, num_seeds, most, scale=scale):
            half = found.interval.mean - found.interval.low
            wrong += abs(found.interval.mean + EQUIVALENT) + half <= EQUIVALENT
            right += abs(found.interval.mean) + half <= EQUIVALENT
    count = most * max(1, num_trials // most)
    return wrong / count, right / count


def alarms_of_folds(num_sequences: int, num_folds: int, num_trials: int, seed: int = 0) -> float:
    """Returns the share of false alarms where each setting is trained once per fold."""
    generator, most = np.random.default_rng([seed, num_sequences, num_folds]), 20
    studies = [draw_study(generator, num_sequences, 1, most, num_folds) for _ in range(max(1, num_trials // most))]
    return float(np.mean([found.p_value < ALPHA for study in studies for found in study]))


def print_others(num_trials: int) -> None:
    """Prints false alarms of folds, and how often "equal" is said, as Markdown."""
    print("| sequences | " + " | ".join(f"{count} folds" for count in NUM_FOLDS) + " |")
    print("|---|" + "---|" * len(NUM_FOLDS))
    for num_sequences in NUM_SEQUENCES[1:]:
        shares = (alarms_of_folds(num_sequences, count, num_trials) for count in NUM_FOLDS if count <= num_sequences)
        print(f"| {num_sequences} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |", flush=True)
    print("\n| sequences | seeds | " + " | ".join(f"spreads x {scale:g}" for scale in SCALES) + " |")
    print("|---|---|" + "---|" * len(SCALES))
    for num_sequences in NUM_SEQUENCES:
        for num_seeds in NUM_SEEDS:
            found = (wrong_equals(num_sequences, num_seeds, scale, num_trials) for scale in SCALES)
            cells = (f"{100 * wrong:.1f} / {100 * right:.0f} %" for wrong, right in found)
            print(f"| {num_sequences} | {num_seeds} | " + " | ".join(cells) + " |", flush=True)


def draw_curves(found: dict[tuple[int, int], Found], differences: np.ndarray, path: Path) -> None:
    """Draws power against the true difference: a column per number of seeds, a row per number of comparisons."""
    rows = (NUM_COMPARISONS[0], NUM_COMPARISONS[-1])
    figure = Figure(figsize=(10, 6), layout="constrained", dpi=110)
    axes = figure.subplots(len(rows), len(NUM_SEEDS), sharex=True, sharey=True)
    for row, count in enumerate(rows):
        for column, num_seeds in enumerate(NUM_SEEDS):
            axis = axes[row, column]
            for index, num_sequences in enumerate(NUM_SEQUENCES):
                power = found[num_sequences, num_seeds].power[count]
                color = (0.85 - 0.2 * index, 0.25, 0.15 + 0.2 * index)
                axis.plot(differences, 100 * power, color=color, label=f"{num_sequences} sequences")
            axis.axhline(80, color="0.6", linewidth=0.8, linestyle=":")
            axis.set_title(
                f"{num_seeds} seed{'s' * (num_seeds > 1)}, {count} comparison{'s' * (count > 1)}", fontsize=10
            )
            axis.set(xlim=(0, differences[-1]), ylim=(0, 100))
            axis.grid(alpha=0.25)
    for axis in axes[-1]:
        axis.set_xlabel("true difference in Dice")
    for axis in axes[:, 0]:
        axis.set_ylabel("found, % of studies")
    axes[0, 0].legend(fontsize=8, loc="lower right")
    figure.savefig(path)


def print_tables(found: dict[tuple[int, int], Found], differences: np.ndarray) -> None:
    """Prints false alarms and power as Markdown."""
    print("| sequences | seeds | false alarms | any of 5 | any of 20 |\n|---|---|---|---|---|")
    for (num_sequences, num_seeds), own in found.items():
        any_of = " | ".join(f"{100 * own.any_alarm[count]:.1f} %" for count in NUM_COMPARISONS[1:])
        print(f"| {num_sequences} | {num_seeds} | {100 * own.alarms:.1f} % | {any_of} |")
    print("\n| sequences | seeds | " + " | ".join(f"{difference:g}" for difference in DIFFERENCES) + " |")
    print("|---|---|" + "---|" * len(DIFFERENCES))
    for (num_sequences, num_seeds), own in found.items():
        indices = [int(np.abs(differences - difference).argmin()) for difference in DIFFERENCES]
        cells = (" / ".join(f"{100 * own.power[count][index]:.0f}" for count in NUM_COMPARISONS) for index in indices)
        print(f"| {num_sequences} | {num_seeds} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=600, help="studies per cell; 600 leave an error of 2 %% in power")
    parser.add_argument("--others", action="store_true", help='instead, print the tables of folds and of "equal"')
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where to draw the power curves")
    chosen = parser.parse_args()
    if chosen.others:
        return print_others(chosen.trials)
    sizes = [(num_sequences, num_seeds) for num_sequences in NUM_SEQUENCES for num_seeds in NUM_SEEDS]
    found = {size: simulate(*size, chosen.trials, CURVE) for size in sizes}
    print_tables(found, CURVE)
    if chosen.plot:
        draw_curves(found, CURVE, chosen.plot)


if __name__ == "__main__":
    main()
