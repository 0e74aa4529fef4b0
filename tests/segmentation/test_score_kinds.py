"""Each score held to scikit-learn, SciPy, or its definition written down pixel by pixel; and its empty cases."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.ndimage import binary_erosion, distance_transform_edt, label
from scipy.spatial.distance import directed_hausdorff
from sklearn.metrics import accuracy_score, fbeta_score, jaccard_score

from pipeline.config.competition import SCORE_DEFAULTS, ScoreOptions
from pipeline.scores import KINDS, Chosen, mean_score
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.mask_scores import image_score, score_masks
from pipeline.segmentation.planes import from_bool
from pipeline.segmentation.scores import image_scores, scores_over_all, summarise

NUM_CLASSES = 3
NAMES = ("ground", "car", "boat")
OPTIONS = ScoreOptions(beta=0.5, tolerance=1.5, thresholds=(0.5, 0.6, 0.75))
EVERY = Chosen(tuple(name for name, kind in KINDS.items() if kind.needs != "boxes"), OPTIONS)
WITHOUT_MASKS = Chosen(tuple(name for name, kind in KINDS.items() if kind.needs == "counts"), OPTIONS)


@st.composite
def sets(draw: st.DrawFn, num_images: int = 3, num_classes: int = NUM_CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and truths of a few small images, blocky enough for objects; some pixels are ignored."""
    shape = (num_images, draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    predicted = draw(npst.arrays(np.uint8, shape, elements=st.integers(0, num_classes - 1)))
    values = st.sampled_from([*range(num_classes), 255])
    return predicted, draw(npst.arrays(np.uint8, shape, elements=values))


def confusions(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.stack([SOFTMAX.count_masks(*pair, NUM_CLASSES) for pair in zip(predicted, truth, strict=True)])


def known(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else pytest.approx(float(value)) for value in values]


@given(sets())
def test_scores_over_all_pixels_are_those_of_scikit_learn(case):
    predicted, truth = case
    found = scores_over_all(confusions(predicted, truth), WITHOUT_MASKS)
    is_scored = truth != 255
    true, guess = truth[is_scored], predicted[is_scored]
    labels = {"labels": range(NUM_CLASSES), "average": None, "zero_division": 0}
    has_pixels = [bool(((true == index) | (guess == index)).any()) for index in range(NUM_CLASSES)]
    wanted = {
        "global_iou": jaccard_score(true, guess, **labels) if len(true) else np.zeros(NUM_CLASSES),
        "global_dice": fbeta_score(true, guess, beta=1, **labels) if len(true) else np.zeros(NUM_CLASSES),
        "fbeta": fbeta_score(true, guess, beta=0.5, **labels) if len(true) else np.zeros(NUM_CLASSES),
    }
    for name, values in wanted.items():
        assert known(found[name]) == known(np.where(has_pixels, values, np.nan)), name
    assert known(found["miou"]) == known(found["global_iou"])


@given(sets())
def test_accuracy_and_weighted_iou_are_of_all_classes_whatever_is_scored(case):
    predicted, truth = case
    confusion_ICC, is_scored = confusions(predicted, truth), truth != 255
    true, guess = truth[is_scored], predicted[is_scored]
    metrics = summarise(confusion_ICC, NAMES, (1,), "fwiou", WITHOUT_MASKS)["scores"]
    if not len(true):
        assert metrics["pixel_accuracy"]["mean"] is None and metrics["fwiou"]["mean"] is None
        return
    assert metrics["pixel_accuracy"]["mean"] == pytest.approx(accuracy_score(true, guess))
    labels = {"labels": range(NUM_CLASSES), "average": "weighted", "zero_division": 0}
    assert metrics["fwiou"]["mean"] == pytest.approx(jaccard_score(true, guess, **labels))


@given(sets())
def test_scores_where_present_leave_out_images_whose_truth_lacks_the_class(case):
    predicted, truth = case
    confusion_ICC = confusions(predicted, truth)
    found, over_images = image_scores(confusion_ICC, WITHOUT_MASKS), scores_over_all(confusion_ICC, WITHOUT_MASKS)
    for index in range(NUM_CLASSES):
        kept = []
        for image, (guess, true) in enumerate(zip(predicted, truth, strict=True)):
            both = ((guess == index) & (true == index)).sum()
            total = ((guess == index) & (true != 255)).sum() + (true == index).sum()
            if not (true == index).any():
                assert np.isnan(found["present_dice"][image, index]) and np.isnan(found["present_iou"][image, index])
                continue
            assert found["present_dice"][image, index] == pytest.approx(2 * both / total)
            assert found["present_iou"][image, index] == pytest.approx(both / (total - both))
            kept.append(2 * both / total)
        mean = over_images["present_dice"][index]
        assert mean == pytest.approx(np.mean(kept)) if kept else np.isnan(mean)


def neighbours(mask: np.ndarray) -> np.ndarray:
    """The boundary by the slow way: pixels with one of four neighbours outside the mask or the image."""
    found = np.zeros_like(mask)
    for row, column in zip(*np.nonzero(mask), strict=True):
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            y, x = row + down, column + right
            is_inside = 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]
            found[row, column] |= not (is_inside and mask[y, x])
    return found


def near(points: np.ndarray, others: np.ndarray, tolerance: float) -> tuple[int, int]:
    """How many points of a boundary are within the tolerance of another one, and how many there are."""
    there = np.argwhere(others)
    distances = [np.sqrt(((there - point) ** 2).sum(1)).min() for point in np.argwhere(points)]
    return sum(distance <= tolerance for distance in distances), len(distances)


def slow_boundaries(guess: np.ndarray, true: np.ndarray, tolerance: float) -> tuple[float, float]:
    """Boundary F and surface Dice of two masks that both have pixels."""
    one, two = neighbours(guess), neighbours(true)
    (near_one, num_one), (near_two, num_two) = near(one, two, tolerance), near(two, one, tolerance)
    precision, recall = near_one / num_one, near_two / num_two
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return f1, (near_one + near_two) / (num_one + num_two)


def slow_hausdorff_dice(guess: np.ndarray, true: np.ndarray, shape: tuple[int, int]) -> float:
    dice = 2 * (guess & true).sum() / (guess.sum() + true.sum())
    points = np.argwhere(guess), np.argwhere(true)
    distance = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0])
    return 0.4 * dice + 0.6 * (1 - distance / np.hypot(*shape))


def slow_hits(guesses: list[np.ndarray], trues: list[np.ndarray], threshold: float) -> int:
    """How many pairs of objects, a plane each, have an IoU above the threshold."""
    return sum((own & other).sum() / (own | other).sum() > threshold for own, other in product(guesses, trues))


def slow_object_scores(guesses: list[np.ndarray], trues: list[np.ndarray], options: ScoreOptions) -> dict[str, float]:
    """Both scores of objects by their definitions: from true, false and missed ones."""
    precisions, fbetas, square = [], [], options.beta**2
    for threshold in options.thresholds:
        hits = slow_hits(guesses, trues, threshold)
        false, missed = len(guesses) - hits, len(trues) - hits
        precisions.append(hits / (hits + false + missed))
        fbetas.append((1 + square) * hits / ((1 + square) * hits + square * missed + false))
    return {"object_ap": float(np.mean(precisions)), "object_fbeta": float(np.mean(fbetas))}


def pieces(plane: np.ndarray) -> list[np.ndarray]:
    """The connected components of a plane, a plane each."""
    numbers, count = label(plane, np.ones((3, 3)))
    return [numbers == number for number in range(1, count + 1)]


@given(sets(num_images=1))
def test_scores_that_need_the_masks_are_those_of_their_definitions(case):
    predicted, truth = case[0][0], case[1][0]
    found = score_masks(EVERY.of_masks, predicted, truth, NUM_CLASSES, OPTIONS)
    is_scored = truth != 255
    rows, columns = np.nonzero(is_scored)
    shape = (np.ptp(rows) + 1, np.ptp(columns) + 1) if len(rows) else (0, 0)
    for index in range(NUM_CLASSES):
        guess, true = (predicted == index) & is_scored, truth == index
        own = {name: values[index] for name, values in found.items()}
        if not (guess.any() and true.any()):
            assert set(own.values()) == {0.0 if guess.any() or true.any() else 1.0}
            continue
        f1, surface = slow_boundaries(guess, true, OPTIONS.tolerance)
        wanted = {"boundary_f": f1, "surface_dice": surface, "hausdorff_dice": slow_hausdorff_dice(guess, true, shape)}
        assert own == pytest.approx(wanted | slow_object_scores(pieces(guess), pieces(true), OPTIONS))


@given(sets(num_images=1))
def test_each_score_of_one_image_can_be_had_by_its_name(case):
    predicted, truth = case[0][0], case[1][0]
    counted = confusions(*case)[0]
    wanted = image_scores(counted, EVERY, score_masks(EVERY.of_masks, predicted, truth, NUM_CLASSES, OPTIONS))
    for name in EVERY.of_images:
        np.testing.assert_array_equal(image_score(name, counted, predicted, truth, OPTIONS), wanted[name], name)


@given(sets(num_images=1, num_classes=5))
def test_numbered_objects_are_scored_as_they_are_numbered_though_they_touch(case):
    guess, truth = (numbers[0].astype(np.int32) for numbers in case)
    is_ignored = truth == 255
    maps = [numbers * 256 + (numbers > 0) for numbers in (guess, np.where(is_ignored, 0, truth))]
    maps[1][is_ignored] = 255
    found = score_masks(("object_ap", "object_fbeta"), *maps, 2, OPTIONS)
    planes = [[numbers == number for number in range(1, 5)] for numbers in (np.where(is_ignored, 0, guess), truth)]
    guesses, trues = ([plane for plane in own if plane.any()] for own in planes)
    if guesses or trues:
        wanted = slow_object_scores(guesses, trues, OPTIONS)
    else:
        wanted = {"object_ap": 1.0, "object_fbeta": 1.0}
    assert {name: values[1] for name, values in found.items()} == pytest.approx(wanted)


def test_two_touching_objects_that_are_predicted_as_one_are_one_false_and_two_missed():
    mask = np.zeros((4, 9), np.uint8)
    mask[:, :4], mask[:, 4:8] = 1, 1
    truth = mask + 256 * (1 + (np.arange(9) > 3)) * mask.astype(np.int32)
    merged, right = mask + 256 * mask.astype(np.int32), truth.copy()
    options = ScoreOptions(beta=2.0)
    for predicted, wanted in ((mask, 0.0), (merged, 0.0), (right, 1.0)):  # IoU 0.5 with each is not above 0.5
        found = score_masks(("object_ap", "object_fbeta"), predicted, truth, 2, options)
        assert {values[1] for values in found.values()} == {wanted}
    half = np.where(np.arange(9) > 3, 0, truth).astype(np.int32)  # the left one alone: a hit and a miss
    found = score_masks(("object_ap", "object_fbeta"), half, truth, 2, options)
    assert found["object_ap"][1] == pytest.approx(1 / 2)
    assert found["object_fbeta"][1] == pytest.approx(5 / (5 + 4))


@pytest.mark.parametrize("seed", range(4))
def test_boundaries_of_larger_masks_agree_with_scipy(seed):
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:90, :120]
    circles = [
        np.hypot(y - generator.integers(20, 70), x - generator.integers(20, 100)) < generator.integers(5, 30)
        for _ in range(2)
    ]
    guess, true = (circle.astype(np.uint8) for circle in circles)
    edges = [mask.astype(bool) & ~binary_erosion(mask) for mask in (guess, true)]
    distances = [distance_transform_edt(~edge) for edge in edges]
    for tolerance in (0.0, 1.0, 3.0, 10.0, 40.0):
        nears = [(distances[1][edges[0]] <= tolerance).sum(), (distances[0][edges[1]] <= tolerance).sum()]
        found = score_masks(("surface_dice",), guess, true, 2, ScoreOptions(tolerance=tolerance))["surface_dice"][1]
        assert found == pytest.approx(sum(nears) / sum(edge.sum() for edge in edges))


@given(sets(num_images=1))
def test_right_masks_score_1_in_everything_and_no_score_leaves_its_range(case):
    predicted, truth = case[0][0], case[1][0]
    confusion_CC = SOFTMAX.count_masks(predicted, truth, NUM_CLASSES)
    right = np.where(truth == 255, 0, truth).astype(np.uint8)
    for name in EVERY.of_images:
        values = image_score(name, confusion_CC, predicted, truth, OPTIONS)
        assert ((values >= 0) & (values <= 1) | np.isnan(values)).all()
        best = image_score(name, SOFTMAX.count_masks(right, truth, NUM_CLASSES), right, truth, OPTIONS)
        assert (np.isnan(best) | (best == 1)).all(), name


def test_a_mask_passes_the_thresholds_below_its_iou_and_not_the_one_that_it_reaches():
    truth = np.zeros((1, 20), np.uint8)
    truth[0, :10] = 1
    predicted = np.zeros_like(truth)
    predicted[0, :8] = 1  # IoU 0.8: above 0.5 to 0.75, six of the ten thresholds
    confusion_CC = SOFTMAX.count_masks(predicted, truth, 2)
    for name in ("mask_ap", "object_ap"):  # a single object is the whole mask
        assert image_score(name, confusion_CC, predicted, truth, SCORE_DEFAULTS)[1] == pytest.approx(0.6)
    empty = np.zeros_like(truth)
    for guess, true, wanted in ((empty, empty, 1.0), (predicted, empty, 0.0), (empty, truth, 0.0)):
        found = image_score("mask_ap", SOFTMAX.count_masks(guess, true, 2), guess, true, SCORE_DEFAULTS)
        assert found[1] == wanted


def test_objects_are_counted_as_in_the_data_science_bowl():
    truth = np.zeros((12, 30), np.uint8)
    truth[1:5, 1:5], truth[1:5, 10:14], truth[7:11, 1:5] = 1, 1, 1
    predicted = np.zeros_like(truth)
    predicted[1:5, 1:5] = 1  # a hit at every threshold
    predicted[1:5, 10:13] = 1  # IoU 12 / 16 = 0.75: a hit at 0.5 to 0.7
    predicted[7:11, 20:24] = 1  # false; the third true one is missed
    found = score_masks(("object_ap",), predicted, truth, 2, SCORE_DEFAULTS)["object_ap"][1]
    assert found == pytest.approx((5 * 2 / (2 + 1 + 1) + 5 * 1 / (1 + 2 + 2)) / 10)


def test_a_shift_within_the_tolerance_costs_nothing_at_the_boundary():
    truth, predicted = np.zeros((2, 40, 40), np.uint8)
    truth[10:30, 10:30], predicted[10:30, 12:32] = 1, 1
    for name in ("boundary_f", "surface_dice"):
        near_enough, too_far = (
            score_masks((name,), predicted, truth, 2, ScoreOptions(tolerance=tolerance))[name][1]
            for tolerance in (2.0, 1.0)
        )
        assert near_enough == 1.0 and 0 < too_far < 1


def test_dice_and_hausdorff_weigh_overlap_and_the_worst_distance():
    truth, predicted = np.zeros((2, 30, 40), np.uint8)  # a diagonal of 50
    truth[10:20, 10:20], predicted[10:20, 15:25] = 1, 1
    found = score_masks(("hausdorff_dice",), predicted, truth, 2, SCORE_DEFAULTS)["hausdorff_dice"][1]
    assert found == pytest.approx(0.4 * 0.5 + 0.6 * (1 - 5 / 50))


def test_the_padding_of_a_frame_changes_no_score():
    generator = np.random.default_rng(3)
    predicted, truth = generator.integers(0, NUM_CLASSES, (2, 20, 30), dtype=np.uint8)
    padded = [np.pad(predicted, 6, constant_values=1), np.pad(truth, 6, constant_values=255)]
    plain, framed = (score_masks(EVERY.of_masks, *pair, NUM_CLASSES, OPTIONS) for pair in ((predicted, truth), padded))
    for name in EVERY.of_masks:
        assert np.array_equal(plain[name], framed[name]), name


def test_planes_are_scored_class_by_class_like_masks_without_the_padding_of_a_frame():
    generator = np.random.default_rng(4)
    predicted, truth = (from_bool(generator.random((20, 30, 2)) < 0.6) for _ in range(2))
    truth[3, 5:9, 0] = truth[10:14, 7, 1] = 255  # known of the other class
    of_planes = score_masks(EVERY.of_masks, predicted, truth, 2, OPTIONS)
    frame = ((4, 2), (8, 0), (0, 0))
    padded = np.pad(predicted, frame, constant_values=240), np.pad(truth, frame, constant_values=255)
    framed = score_masks(EVERY.of_masks, *padded, 2, OPTIONS)
    for index in range(2):
        masks = (predicted[..., index] // 240, np.where(truth[..., index] == 255, 255, truth[..., index] // 240))
        of_masks = score_masks(EVERY.of_masks, *masks, 2, OPTIONS)
        for name in EVERY.of_masks:
            assert of_planes[name][index] == framed[name][index] == of_masks[name][1], name


def test_a_weighted_mean_without_a_scored_pixel_has_no_value():
    assert np.isnan(mean_score("fwiou", np.full(2, np.nan), None, np.zeros(2)))
