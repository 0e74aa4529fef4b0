"""Contrasts of settings that were trained several times, and the words for them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.intervals import Interval, group_numbers, interval
from pipeline.verdicts import Contrast, Pair, contrast, holm, verdict
from tests.long.power import p_value_of, simulate


def draw_pairs(
    generator: np.random.Generator, num_sequences: int, num_seeds: int, num_splits: int, of_seed: float, gain: float = 0
) -> list[Pair]:
    """Pairs of trainings; sequences gain differently, and each training is as a whole a little better or worse."""
    pairs = []
    effects = generator.normal(0, 1, num_sequences)
    sizes = generator.integers(5, 41, num_sequences)
    for split in range(num_splits):
        own = range(split, num_sequences, num_splits)
        for seed in range(num_seeds):
            shift = generator.normal(0, of_seed)
            images = {
                f"{sequence}_{frame}": (str(sequence), gain + effects[sequence] + shift + generator.normal(0, 0.5))
                for sequence in own
                for frame in range(sizes[sequence])
            }
            pairs.append(Pair(split, seed, images))
    return pairs


@pytest.mark.parametrize(
    ("num_sequences", "num_seeds", "num_splits"), [(8, 2, 1), (8, 2, 2), (20, 3, 1), (60, 2, 4), (20, 1, 4)]
)
@pytest.mark.parametrize("of_seed", [0.0, 0.5])
def test_settings_of_equal_strength_are_rarely_told_apart(num_sequences, num_seeds, num_splits, of_seed):
    generator, alarms = np.random.default_rng(num_sequences), 0
    for _ in range(300):
        found = contrast(draw_pairs(generator, num_sequences, num_seeds, num_splits, of_seed))
        alarms += found.p_value < 0.05
        assert (found.p_value < 0.05) == (not found.interval.low <= 0 <= found.interval.high)
    assert alarms / 300 <= 0.06


@pytest.mark.parametrize(("num_sequences", "num_seeds"), [(3, 5), (5, 3), (8, 3)])
def test_a_study_of_many_settings_without_a_difference_rarely_has_a_verdict(num_sequences, num_seeds):
    found = simulate(num_sequences, num_seeds, 200, np.array([0.0, 0.05]))
    assert found.alarms <= 0.06 and all(share <= 0.06 for share in found.any_alarm.values())
    assert found.power[1][1] > 0.1 > found.power[20][0]
    assert found.power[1][1] >= found.power[5][1] >= found.power[20][1]


def test_a_simulated_difference_is_that_of_gains_which_are_all_larger():
    pairs = draw_pairs(np.random.default_rng(3), 8, 3, 1, 0.5)
    more = [Pair(one.split, one.seed, {key: (s, gain + 0.7) for key, (s, gain) in one.gains.items()}) for one in pairs]
    assert p_value_of(contrast(pairs), 0.7) == pytest.approx(contrast(more).p_value)


def test_one_training_each_is_the_interval_over_sequences():
    pairs = draw_pairs(np.random.default_rng(0), 10, 1, 1, 0.0)
    names, rows = list(pairs[0].gains), list(pairs[0].gains.values())
    wanted = interval(np.array([gain for _, gain in rows]), group_numbers(names, [sequence for sequence, _ in rows]))
    found = contrast(pairs)
    assert (found.interval.low, found.interval.high) == pytest.approx((wanted.low, wanted.high))
    assert not found.covers_training


def gains_of(*values: float, names: str = "abcd") -> dict[str, tuple[str, float]]:
    """Images that are a sequence each."""
    return {name: (name, value) for name, value in zip(names, values, strict=False)}


def test_the_spread_of_two_seeds_is_added_to_that_of_sequences_in_a_worked_study():
    found = contrast([Pair(0, 0, gains_of(0.0, 0.1, 0.2, 0.3)), Pair(0, 1, gains_of(0.2, 0.3, 0.4, 0.5))])
    # Gains of images 0.1, 0.2, 0.3, 0.4: squared error 1 / 60 / 4 with 3 degrees. Means of the trainings 0.15 and 0.35:
    # variance 0.02, halved for two of them, with 1 degree. Welch: 1.8972 degrees of 17 / 1200.
    assert (found.interval.mean, found.error) == pytest.approx((0.25, (1 / 240 + 0.01) ** 0.5))
    assert found.degrees == pytest.approx((1 / 240 + 0.01) ** 2 / ((1 / 240) ** 2 / 3 + 0.01**2))
    assert (found.num_images, found.interval.num_groups, found.covers_training) == (4, 4, False)
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.25 / found.error, found.degrees))


def test_splits_count_by_their_images_and_only_those_with_two_seeds_say_how_trainings_differ():
    two = [
        Pair(0, 0, gains_of(0.0, 0.1, 0.2)),
        Pair(0, 1, gains_of(0.2, 0.3, 0.4)),
        Pair(1, 0, gains_of(0.9, names="d")),
    ]
    found, of_images = contrast(two), contrast([Pair(0, 0, gains_of(0.1, 0.2, 0.3, 0.9))])
    # 0.02 is the variance of one training. Of 4 images 3 are in the split with two, 1 in the one with one.
    assert found.error**2 - of_images.error**2 == pytest.approx(0.02 * ((3 / 4) ** 2 / 2 + (1 / 4) ** 2))
    assert not found.covers_training and not of_images.covers_training


def test_where_no_split_has_two_seeds_the_splits_say_how_trainings_differ():
    found = contrast([Pair(0, 0, gains_of(0.0, 0.2)), Pair(1, 0, gains_of(0.3, 0.5, names="cd"))])
    of_images = contrast([Pair(0, 0, gains_of(0.0, 0.2, 0.3, 0.5))])
    # Means 0.1 and 0.4: variance 0.045 of one training, each of half of the images.
    assert found.error**2 - of_images.error**2 == pytest.approx(0.045 / 2)
    assert not found.covers_training, "one difference, of two splits"


def test_gains_that_are_all_the_same_leave_no_doubt():
    certain, none = contrast([Pair(0, 0, gains_of(*[0.1] * 4))]), contrast([Pair(0, 0, gains_of(*[0.0] * 4))])
    assert (certain.error, certain.p_value, none.p_value) == (0, 0, 1)
    assert verdict(none, none.p_value, 0.005) == "equal within 0.005 with this seed"


def test_what_can_be_detected_grows_with_the_number_of_comparisons():
    found = contrast([Pair(0, 0, gains_of(-0.1, 0.0, 0.1, 0.2))])
    for number in (1, 4):
        wanted = found.error * (stats.t.ppf(1 - 0.025 / number, 3) + stats.t.ppf(0.8, 3))
        assert found.detectable(number) == pytest.approx(wanted)
        assert verdict(found, found.p_value, 0.005, number) == f"inconclusive (detectable: {wanted:.2g})"
    assert found.detectable() == found.detectable(1)
    one = contrast([Pair(0, 0, {"a": ("s", 0.1), "b": ("s", 0.2)})])
    assert one.detectable() == np.inf


def test_seeds_that_disagree_widen_the_interval():
    alike = draw_pairs(np.random.default_rng(0), 10, 3, 1, 0.0)
    apart = [
        Pair(0, pair.seed, {key: (s, gain + pair.seed) for key, (s, gain) in pair.gains.items()}) for pair in alike
    ]
    widths = [found.interval.high - found.interval.low for found in map(contrast, (alike, apart))]
    assert widths[1] > 1.3 * widths[0]


def test_a_gain_of_the_detectable_size_is_found_in_about_four_of_five_cases():
    generator, found, hits = np.random.default_rng(1), [], 0
    typical = np.median([contrast(draw_pairs(generator, 12, 1, 1, 0.0)).detectable() for _ in range(200)])
    for _ in range(300):
        found = contrast(draw_pairs(generator, 12, 1, 1, 0.0, gain=typical))
        hits += found.p_value < 0.05
    assert 0.65 < hits / 300 < 0.95


def test_p_values_of_several_comparisons_are_raised_in_order():
    assert holm([0.01, 0.02, 0.9]) == pytest.approx([0.03, 0.04, 0.9])
    assert holm([0.5, 0.6]) == holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("gain", "spread", "words"),
    [
        (0.03, 0.01, "better"),
        (-0.03, 0.01, "worse"),
        (0.001, 0.002, "equal within 0.005"),
        (0.01, 0.1, "inconclusive (detectable: 0."),
        (0.01, 2, "inconclusive (too little data)"),
    ],
)
def test_verdicts_are_the_four_that_there_are(gain, spread, words):
    effects = np.linspace(-1, 1, 12) * spread + gain
    found = contrast([Pair(0, 0, {str(index): (str(index), effect) for index, effect in enumerate(effects)})])
    assert verdict(found, found.p_value, 0.005).startswith(words)


def test_the_limits_of_a_verdict_belong_to_the_careful_side():
    for gain in (-0.25, 0.25):  # an interval of no width, at the largest difference that does not matter
        found = contrast([Pair(0, 0, gains_of(*[gain] * 4))])
        assert verdict(found, found.p_value, 0.25) == "equal within 0.25 with this seed"
        assert verdict(found, found.p_value, 0.249) == f"{'better' if gain > 0 else 'worse'} with this seed"
    found = contrast([Pair(0, 0, gains_of(0.1, 0.2, 0.3, 0.4))])
    assert verdict(found, 0.0499, 0.005) == "better with this seed"
    assert verdict(found, 0.05, 0.005).startswith("inconclusive")


def test_a_gain_of_one_or_two_trainings_is_called_that_of_these():
    effects = {str(index): (str(index), 0.1 + 0.001 * index) for index in range(12)}

    def words(*repeats: tuple[int, int]) -> str:
        found = contrast([Pair(split, seed, effects) for split, seed in repeats])
        return verdict(found, found.p_value, 0.005)

    assert words((0, 0)) == "better with this seed"
    assert words((0, 0), (0, 1)) == words((0, 0), (1, 0)) == "better with these trainings"
    assert words((0, 0), (0, 1), (0, 2)) == words((0, 0), (0, 1), (1, 0), (1, 1)) == "better"


def test_one_sequence_allows_no_conclusion():
    found = contrast([Pair(0, seed, {"a": ("s", 0.125), "b": ("s", 0.25)}) for seed in range(2)])
    assert found == Contrast(
        Interval(0.1875, -np.inf, np.inf, 1), 1.0, np.inf, 1.0, num_images=2, num_pairs=2, covers_training=False
    )
    assert verdict(found, found.p_value, 0.005) == "one sequence: nothing can be concluded"


def test_pairs_without_images_are_refused():
    with pytest.raises(ValueError, match="no image was evaluated in both"):
        contrast([Pair(0, 0, {})])
