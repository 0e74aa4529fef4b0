"""Dropping small and unsure classes: the best rule is found, and adopted only where it gains on held-out sequences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.competition import ScoreOptions
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.decoding import (
    DecodedImage,
    Rule,
    decode_with_rules,
    dropped,
    fit_rule,
    fit_suppression,
    gain_of,
    measure_classes,
    measure_image,
)
from pipeline.segmentation.ensemble import Recipe, combine
from pipeline.segmentation.mask_scores import score_masks
from pipeline.segmentation.scores import image_scores
from tests.segmentation.members import CLASSES, draw_prediction

NAMES = ("ground", "bird")


def make_image(
    area: float, is_present: bool, dice: float, sequence: str = "s", name: str = "p", mass: float | None = None
) -> DecodedImage:
    mass = area if mass is None else mass
    areas, masses = np.array([1 - area, area]), np.array([1 - mass, mass])
    return DecodedImage(name, sequence, areas, masses, np.array([1.0, dice]), np.array([True, is_present]))


def flights(num_sequences: int, is_spurious, frames: int = 4, seed: int = 0) -> list[DecodedImage]:
    """Images in which small birds are real or not, as `is_spurious(generator)` says, and large ones always real."""
    generator = np.random.default_rng(seed)
    images = []
    for sequence in range(num_sequences):
        for frame in range(frames):
            is_small = frame % 2 == 0
            area = float(generator.uniform(1e-5, 1e-3) if is_small else generator.uniform(0.01, 0.1))
            is_present = not (is_small and is_spurious(generator))
            dice = float(generator.uniform(0.5, 0.9)) if is_present else 0.0
            images.append(make_image(area, is_present, dice, f"s{sequence}", f"{sequence}_{frame}"))
    return images


def test_shares_of_area_and_mass_and_the_dice_are_those_of_the_masks():
    generator = np.random.default_rng(0)
    predictions = [draw_prediction(generator, (40, 50), 4, True) for _ in range(2)]
    mask = combine(predictions, [Recipe("AP")])[0]
    truth = generator.integers(0, len(CLASSES), mask.shape, dtype=np.uint8)
    truth[:5] = 255
    found = measure_image("p", "s", predictions, mask, truth)
    assert np.allclose(found.area, np.bincount(mask.ravel(), minlength=4) / mask.size)
    assert (found.mass < found.area).all()
    assert (found.mass >= found.area / len(CLASSES)).all()
    exact = image_scores(SOFTMAX.count_masks(mask, truth, 4))
    assert np.allclose(found.scores, exact["dice"])
    assert np.allclose(measure_image("p", "s", predictions, mask, truth, "iou").scores, exact["iou"])
    assert found.is_present.all()


def test_where_the_score_leaves_out_absent_classes_nothing_is_gained_by_dropping_them():
    present = make_image(0.001, is_present=True, dice=0.4)
    absent = replace(make_image(0.001, is_present=False, dice=0.0), scores=np.array([1.0, np.nan]))
    assert (gain_of(present, 1), gain_of(absent, 1)) == (-0.4, 0.0)
    images = [replace(image, scores=np.where(image.is_present, image.scores, np.nan)) for image in flights(12, noisy)]
    assert fit_suppression(images, NAMES, score="present_dice").adopted == ()


def test_a_score_of_masks_is_that_of_the_decoded_mask():
    generator = np.random.default_rng(0)
    predictions = [draw_prediction(generator, (40, 50), 4, True)]
    mask = combine(predictions, [Recipe("AP")])[0]
    truth = generator.integers(0, len(CLASSES), mask.shape, dtype=np.uint8)
    options = ScoreOptions(tolerance=3.0)
    found = measure_image("p", "s", predictions, mask, truth, "boundary_f", options)
    wanted = score_masks(("boundary_f",), mask, truth, len(CLASSES), options)["boundary_f"]
    assert np.array_equal(found.scores, wanted) and (wanted > 0).all()


def noisy(generator: np.random.Generator) -> bool:
    return bool(generator.random() < 0.9)


def test_a_dropped_class_is_gone_and_its_pixels_go_to_the_next_best():
    predictions = [draw_prediction(np.random.default_rng(seed), (40, 50), 4) for seed in range(3)]
    plain = combine(predictions, [Recipe("AP")])[0]
    shares = measure_classes(predictions, plain)
    smallest = int(shares["area"].argmin())
    rule = Rule(smallest, "area", float(shares["area"][smallest]) * 1.01)
    mask = decode_with_rules(predictions, Recipe("AP"), [rule])
    assert smallest not in mask
    assert np.array_equal(mask[plain != smallest], plain[plain != smallest])
    unchanged = decode_with_rules(predictions, Recipe("AP"), [Rule(smallest, "area", rule.least / 1.1)])
    assert np.array_equal(unchanged, plain)


def test_the_largest_class_is_never_dropped():
    shares = {"area": np.array([0.6, 0.4]), "mass": np.array([0.4, 0.3])}
    assert dropped(shares, [Rule(0, "area", 0.9), Rule(1, "area", 0.9)]) == (1,)


@given(
    st.lists(
        st.tuples(st.floats(1e-6, 0.4), st.booleans(), st.floats(0.01, 1), st.floats(0.5, 1)), min_size=1, max_size=30
    )
)
@settings(max_examples=100)
def test_no_threshold_gains_more_on_its_own_images_than_the_one_found(drawn):
    images = [
        make_image(area, is_present, dice if is_present else 0.0, mass=area * sureness)
        for area, is_present, dice, sureness in drawn
    ]

    def total(rule: Rule) -> float:
        return sum(gain_of(one, 1) for one in images if dropped(vars(one), [rule]))

    found = fit_rule(1, images)
    best = total(found) if found else 0.0
    tries = [Rule(1, measure, getattr(one, measure)[1] * 1.00005) for one in images for measure in ("area", "mass")]
    assert best >= max(map(total, tries)) - 1e-9


def test_a_rule_is_adopted_where_small_birds_are_mostly_noise():
    found = fit_suppression(flights(12, lambda generator: generator.random() < 0.9), NAMES)
    assert [rule.class_index for rule in found.adopted] == [1]
    assert 1e-5 < found.adopted[0].least < 0.05
    assert found.trials.by_key[1].gain.low > 0
    assert 0.5 < found.trials.survived <= 1.05
    assert found.words[0].startswith("rules for 1 of 2 classes, ")
    assert "bird: dropped where its area is below" in found.words[1]


@pytest.mark.parametrize("seed", range(4))
def test_no_rule_is_adopted_where_small_birds_are_as_often_real(seed):
    found = fit_suppression(flights(12, lambda generator: generator.random() < 0.4, seed=seed), NAMES)
    assert found.adopted == ()
    assert all(trial.in_sample > trial.gain.mean for trial in found.trials.by_key.values())


def test_a_flock_of_noise_in_one_sequence_is_no_proof():
    images = flights(10, lambda generator: False)
    images += [make_image(1e-4, False, 0.0, "odd", f"odd_{frame}") for frame in range(30)]
    found = fit_suppression(images, NAMES)
    assert found.trials.by_key[1].in_sample > 0
    assert found.adopted == ()
    assert found.words[0] == "no class is dropped: no gain on held-out sequences exceeds noise"
    assert "bird: kept, not dropped where" in found.words[1]


def test_too_few_sequences_adopt_nothing():
    found = fit_suppression(flights(3, lambda generator: True), NAMES)
    assert (found.adopted, found.trials.survived) == ((), None)
    assert found.words == ["no class is dropped: fitting needs 4 sequences or more, found 3"]


def test_where_nothing_gains_the_words_say_so():
    found = fit_suppression(flights(6, lambda generator: False), NAMES)
    assert found.adopted == ()
    assert found.words == ["no class is dropped: no setting improves the score, even on the images it was fitted on"]
