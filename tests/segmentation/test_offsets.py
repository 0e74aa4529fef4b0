"""Factors on probabilities: right on images that they were not fitted on, adopted only where they gain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.competition import IGNORE
from pipeline.prediction.fewer_members import normalised
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.ensemble import METHODS, Recipe, combine
from pipeline.segmentation.offsets import FACTORS, fit_offsets, sample_combined, score_with, with_factors
from pipeline.segmentation.out_of_fold import arrays_of, image_from
from pipeline.segmentation.pixel_sample import PixelSample
from pipeline.segmentation.predict import Prediction
from pipeline.segmentation.scores import image_scores
from tests.segmentation.members import CLASSES, draw_prediction

HEIGHT, WIDTH = 24, 32
NUM_CLASSES = len(CLASSES)
OTHER_ONLY = np.array([HEIGHT * WIDTH] + [0] * (NUM_CLASSES - 1), float)  # true pixels of an image of one class


def draw_image(generator: np.random.Generator, shyness: float) -> tuple[Prediction, np.ndarray]:
    """Truth of four bands, and probabilities that are right but for the last class's, `shyness` times too low."""
    truth = np.repeat(np.arange(NUM_CLASSES, dtype=np.uint8), HEIGHT // NUM_CLASSES)[:, None].repeat(WIDTH, 1)
    logits = generator.normal(0, 1, (NUM_CLASSES, HEIGHT, WIDTH))
    np.put_along_axis(logits, truth[None].astype(int), np.take_along_axis(logits, truth[None].astype(int), 0) + 1.2, 0)
    logits[-1] -= np.log(shyness)
    return Prediction(logits.astype(np.float16), 1, False, (0, 0), (HEIGHT, WIDTH)), truth


def draw_samples(shyness: float, num_images: int = 24, num_sequences: int = 8):
    generator = np.random.default_rng(4)
    for number in range(num_images):
        prediction, truth = draw_image(generator, shyness)
        yield sample_combined(f"{number}", f"s{number % num_sequences}", [prediction], Recipe("AP"), truth)


def test_a_class_that_is_chosen_too_seldom_gets_a_factor_and_gains_where_nothing_was_fitted():
    found = fit_offsets(list(draw_samples(shyness=4.0)), CLASSES)
    assert found.adopted[-1] in (2.0, 4.0)
    assert found.trials.by_key[NUM_CLASSES - 1].gain.low > 0
    assert 0.8 < found.trials.survived <= 1.01
    assert any("sky: times" in line for line in found.words)


def test_thresholds_that_are_right_stay():
    found = fit_offsets(list(draw_samples(shyness=1.0)), CLASSES)
    assert (found.adopted == 1).all()
    assert not found.trials.adopted


def test_images_without_a_value_of_the_score_take_no_part():
    samples = list(draw_samples(shyness=4.0))
    emptied = [
        replace(sample, image_id=f"empty {sample.image_id}", truth=np.zeros_like(sample.truth), true_areas=OTHER_ONLY)
        for sample in samples[:8]
    ]
    last = (NUM_CLASSES - 1,)
    plain = fit_offsets(samples, CLASSES, last, "present_dice")
    mixed = fit_offsets(samples + emptied, CLASSES, last, "present_dice")
    assert np.array_equal(plain.adopted, mixed.adopted) and plain.adopted[-1] > 1
    assert plain.words == mixed.words


def test_few_sequences_move_nothing():
    found = fit_offsets(list(draw_samples(shyness=4.0, num_sequences=3)), CLASSES)
    assert (found.adopted == 1).all()
    assert found.words == ["no threshold is moved: fitting needs 4 sequences or more, found 3"]


def test_offsets_are_fitted_by_the_score_of_the_competition():
    images = list(draw_samples(shyness=4.0))
    dice, iou = (fit_offsets(images, CLASSES, score=score) for score in ("dice", "iou"))
    assert iou.words[1].startswith("  ") and "mean IoU" in iou.words[1] and "mean Dice" in dice.words[1]
    assert iou.trials.by_key[NUM_CLASSES - 1].gain != dice.trials.by_key[NUM_CLASSES - 1].gain


@pytest.mark.parametrize("recipe", [Recipe("AP"), Recipe("WEIGHTED", normalised([1, 2, 5]))])
def test_the_score_of_a_sample_is_that_of_the_mask_which_the_factors_give(recipe):
    generator = np.random.default_rng(1)
    predictions = [draw_prediction(generator, (20, 30)) for _ in range(3)]
    truth = generator.integers(0, NUM_CLASSES, (20, 30), dtype=np.uint8)
    truth[:3] = IGNORE
    image = sample_combined("a", "", predictions, recipe, truth)
    again = image_from(PixelSample, "a", "", arrays_of(image))
    for index in range(NUM_CLASSES):
        for factor in FACTORS:
            factors = np.ones(NUM_CLASSES)
            factors[index] = factor
            mask = combine(predictions, [with_factors(recipe, factors, 3)])[0]
            exact = image_scores(SOFTMAX.count_masks(mask, truth, NUM_CLASSES))
            for score, by_class in exact.items():
                found = score_with(image, factors, score=score)
                assert found == pytest.approx(float(by_class.mean()), abs=0.004)  # kept in float16
                assert score_with(again, factors, score=score) == found


def test_factors_of_one_change_no_mask():
    generator = np.random.default_rng(2)
    predictions = [draw_prediction(generator, (20, 30)) for _ in range(3)]
    plain = combine(predictions, [Recipe(METHODS[0])])[0]
    assert np.array_equal(combine(predictions, [with_factors(Recipe("AP"), np.ones(NUM_CLASSES), 3)])[0], plain)


def test_of_an_image_with_very_many_open_pixels_a_thinned_sample_estimates_the_same(monkeypatch):
    one, truth = draw_image(np.random.default_rng(8), shyness=1.0)
    large = replace(one, logits=np.tile(one.logits, (1, 40, 40)), size=(40 * HEIGHT, 40 * WIDTH))
    monkeypatch.setattr("pipeline.segmentation.pixel_sample.MOST_HELD", 20_000)
    images = [
        sample_combined("a", "", [prediction], Recipe("AP"), mask)
        for prediction, mask in ((one, truth), (large, np.tile(truth, (40, 40))))
    ]
    num_settled = images[1].settled[1].sum()  # predicted as any class
    assert num_settled + images[1].scale * len(images[1].truth) == pytest.approx(truth.size * 1600)
    np.testing.assert_array_equal(images[1].true_areas, images[0].true_areas * 1600)
    scores = [score_with(image, np.ones(NUM_CLASSES)) for image in images]
    assert scores[1] == pytest.approx(scores[0], abs=0.03)
