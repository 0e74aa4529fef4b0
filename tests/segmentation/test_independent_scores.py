"""Each score held to torchmetrics, MONAI, scikit-learn or pycocotools, and where their definitions differ from ours."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from scipy.ndimage import label
from scipy.spatial.distance import directed_hausdorff
from sklearn.metrics import jaccard_score

from pipeline.config.competition import ScoreOptions
from pipeline.scores import KINDS, Chosen
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.mask_scores import score_masks
from pipeline.segmentation.scores import image_scores, scores_over_all, summarise
from pipeline.segmentation.volume_scores import Volumes, hausdorff

NUM_CLASSES, HEIGHT, WIDTH = 4, 37, 52
TOLERANCE, BETA = 1.5, 0.5
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
COUNTED = Chosen(
    tuple(name for name, kind in KINDS.items() if kind.needs == "counts"), ScoreOptions(BETA, TOLERANCE, THRESHOLDS)
)


def library(name: str) -> ModuleType:
    """A library that only tests need; its warnings on being imported are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            pytest.skip(f"needs {name.partition('.')[0]}, see the tests: lines of requirements.txt")


def blobs(rng: np.random.Generator, shape: tuple[int, ...] = (HEIGHT, WIDTH), most: int = 9) -> np.ndarray:
    """A mask of some balls, which may overlap and reach the edge: uint8 classes, class 0 around them."""
    mask, places = np.zeros(shape, np.uint8), np.indices(shape)
    for _ in range(rng.integers(0, 6)):
        centre = [rng.integers(0, side) for side in shape]
        distance = np.sqrt(sum((place - at) ** 2 for place, at in zip(places, centre, strict=True)))
        mask[distance < rng.integers(2, most)] = rng.integers(0, NUM_CLASSES)
    return mask


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Forty predictions and truths; a prediction is sometimes the truth, moved, and a class may be in neither."""
    rng = np.random.default_rng(5)
    truth = np.stack([blobs(rng) for _ in range(40)])
    moved = [np.roll(mask, rng.integers(-3, 4, 2), (0, 1)) if rng.random() < 0.6 else blobs(rng) for mask in truth]
    return np.stack(moved), truth


@pytest.fixture(scope="module")
def confusions(pairs) -> np.ndarray:
    return np.stack([SOFTMAX.count_masks(*pair, NUM_CLASSES) for pair in zip(*pairs, strict=True)])


def one_hot(masks: np.ndarray) -> torch.Tensor:
    """Returns masks as MONAI takes them, float32 (I, C, ...)."""
    return torch.nn.functional.one_hot(torch.from_numpy(masks).long(), NUM_CLASSES).movedim(-1, 1).float()


def known(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.asarray(values, np.float64), nan=-1.0)


def test_dice_and_iou_per_image_are_those_of_monai(pairs, confusions):
    """MONAI leaves a class undefined that neither mask has, or which the truth lacks; the rest is alike."""
    monai, own = library("monai.metrics"), image_scores(confusions, COUNTED)
    hot = [one_hot(masks) for masks in pairs]
    for name, compute in (("dice", monai.compute_dice), ("iou", monai.compute_iou)):
        undefined, with_empty = (compute(*hot, True, ignore_empty).numpy() for ignore_empty in (True, False))
        assert np.allclose(known(own[f"present_{name}"]), known(undefined), atol=1e-6)
        assert np.allclose(own[name], with_empty, atol=1e-6)  # 1 where both are empty, 0 where only the truth is
    assert np.isnan(own["present_dice"]).any() and (own["dice"] == 1).any()


def test_dice_and_miou_are_those_of_torchmetrics(pairs, confusions):
    metrics, torch_pairs = library("torchmetrics.functional.segmentation"), [torch.from_numpy(own) for own in pairs]
    arguments = {"num_classes": NUM_CLASSES, "input_format": "index"}
    found = metrics.dice_score(*(own.long() for own in torch_pairs), average="none", **arguments).numpy()
    own = image_scores(confusions, COUNTED)["present_dice"]
    is_there = ~np.isnan(own)
    assert np.allclose(own[is_there], found[is_there], atol=1e-6)


def test_scores_over_all_pixels_are_those_of_torchmetrics(pairs, confusions):
    metrics = library("torchmetrics.functional.classification")
    guess, true = (torch.from_numpy(masks).flatten().long() for masks in pairs)
    over_all, kinds = scores_over_all(confusions, COUNTED), {"num_classes": NUM_CLASSES, "average": "none"}
    wanted = {
        "miou": metrics.multiclass_jaccard_index(guess, true, **kinds),
        "global_iou": metrics.multiclass_jaccard_index(guess, true, **kinds),
        "global_dice": metrics.multiclass_f1_score(guess, true, **kinds),
        "fbeta": metrics.multiclass_fbeta_score(guess, true, beta=BETA, **kinds),
        "pixel_accuracy": metrics.multiclass_recall(guess, true, **kinds),
    }
    for name, values in wanted.items():
        assert np.allclose(over_all[name], values.numpy(), atol=1e-6), name
    means = summarise(confusions, ["a", "b", "c", "d"], None, "miou", COUNTED)["scores"]
    weighted = metrics.multiclass_jaccard_index(guess, true, num_classes=NUM_CLASSES, average="weighted")
    assert means["fwiou"]["mean"] == pytest.approx(weighted.item(), abs=1e-6)
    micro = metrics.multiclass_accuracy(guess, true, num_classes=NUM_CLASSES, average="micro")
    assert means["pixel_accuracy"]["mean"] == pytest.approx(micro.item(), abs=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore:.*is all 0:UserWarning")
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 1.5, 4.0])
def test_surface_dice_is_that_of_monai(pairs, tolerance):
    """MONAI has no value where both lack the class; ours is 1, as for Dice. Both count boundary pixels."""
    monai = library("monai.metrics")
    found = monai.compute_surface_dice(*(one_hot(masks) for masks in pairs), [tolerance] * NUM_CLASSES, True).numpy()
    options = ScoreOptions(tolerance=tolerance)
    own = np.stack(
        [
            score_masks(("surface_dice",), *pair, NUM_CLASSES, options)["surface_dice"]
            for pair in zip(*pairs, strict=True)
        ]
    )
    assert np.isnan(found).any() and np.allclose(own, np.nan_to_num(found, nan=1.0), atol=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore:.*is all 0:UserWarning")
def test_surface_dice_by_lengths_of_surfaces_differs_by_little():
    """Nikolov et al. weigh boundaries by their length; MONAI does so with `use_subvoxels`, ours counts pixels."""
    monai, (y, x) = library("monai.metrics"), np.mgrid[:100, :100]
    predicted, true = (((y - 50) ** 2 + (x - at) ** 2 < 30**2).astype(np.uint8) for at in (48, 52))
    hot = [torch.from_numpy(mask)[None, None].float() for mask in (predicted, true)]
    by_length = monai.compute_surface_dice(*hot, [2.0], True, use_subvoxels=True, spacing=(1, 1)).item()
    own = score_masks(("surface_dice",), predicted, true, 2, ScoreOptions(tolerance=2.0))["surface_dice"][1]
    assert own != pytest.approx(by_length, abs=1e-4) and own == pytest.approx(by_length, abs=0.05)


def boundary_of(mask: np.ndarray) -> np.ndarray:
    """MONAI's own boundary of a mask, bool (H, W)."""
    edges = library("monai.metrics.utils").get_mask_edges(mask, mask, crop=False)[0]
    return np.asarray(edges).astype(bool)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
def test_boundary_f_is_f1_of_distances_between_the_boundaries_of_monai(pairs):
    options, num_compared = ScoreOptions(tolerance=TOLERANCE), 0
    for predicted, truth in zip(*pairs, strict=True):
        own = score_masks(("boundary_f",), predicted, truth, NUM_CLASSES, options)["boundary_f"]
        for index in range(NUM_CLASSES):
            one, other = (predicted == index), (truth == index)
            if not (one.any() and other.any()):
                assert own[index] == float(one.any() == other.any())
                continue
            points = [torch.from_numpy(np.argwhere(boundary_of(mask))).double() for mask in (one, other)]
            distances = torch.cdist(*points)
            precision, recall = ((distances.amin(axis) <= TOLERANCE).double().mean().item() for axis in (1, 0))
            f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
            assert own[index] == pytest.approx(f1)
            num_compared += 1
    assert num_compared > 50


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
def test_the_hausdorff_distance_is_that_of_monai_where_no_mask_has_a_hole():
    monai, rng, num_compared = library("monai.metrics"), np.random.default_rng(11), 0
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    diagonal = np.hypot(HEIGHT, WIDTH)
    for _ in range(60):
        predicted, true = (
            ((y - rng.integers(5, 30)) ** 2 + (x - rng.integers(5, 45)) ** 2 < rng.integers(2, 10) ** 2).astype(
                np.uint8
            )
            for _ in range(2)
        )
        hot = [torch.from_numpy(mask)[None, None].float() for mask in (predicted, true)]
        distance = monai.compute_hausdorff_distance(*hot, include_background=True).item()
        dice = monai.compute_dice(*hot, include_background=True).item()
        own = score_masks(("hausdorff_dice",), predicted, true, 2, ScoreOptions())["hausdorff_dice"][1]
        assert own == pytest.approx(0.4 * dice + 0.6 * (1 - distance / diagonal), abs=1e-5)
        num_compared += 1
    assert num_compared == 60


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
def test_a_hole_that_the_other_mask_fills_is_nearer_in_pixels_than_in_outlines():
    """SciPy measures between all pixels, as we do; MONAI between outlines, from the hole's edge outwards."""
    monai, (y, x) = library("monai.metrics"), np.mgrid[:61, :61]
    radius = np.hypot(y - 30, x - 30)
    disc, ring = (radius < 28).astype(np.uint8), ((radius < 28) & (radius >= 6)).astype(np.uint8)
    hot = [torch.from_numpy(mask)[None, None].float() for mask in (disc, ring)]
    outlines = monai.compute_hausdorff_distance(*hot, include_background=True).item()
    points = [np.argwhere(mask) for mask in (disc, ring)]
    pixels = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0])
    own = score_masks(("hausdorff_dice",), disc, ring, 2, ScoreOptions())["hausdorff_dice"][1]
    dice = 2 * (disc & ring).sum() / (disc.sum() + ring.sum())
    assert (own - 0.4 * dice) / 0.6 == pytest.approx(1 - pixels / np.hypot(61, 61), abs=1e-6)
    assert pixels == 6 and outlines > 20


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
def test_the_hausdorff_distance_in_a_volume_is_that_of_monai_with_sides_of_1():
    monai, places = library("monai.metrics"), np.indices((8, 24, 30))
    rng = np.random.default_rng(2)
    for _ in range(12):
        balls = []
        for _ in range(2):
            centre, radius = [rng.integers(2, side - 2) for side in places.shape[1:]], rng.integers(2, 8)
            squares = ((place - at) ** 2 for place, at in zip(places, centre, strict=True))
            balls.append(sum(squares) < radius**2)
        hot = [torch.from_numpy(ball)[None, None].float() for ball in balls]
        sides = [1 / side for side in places.shape[1:]]
        found = monai.compute_hausdorff_distance(*hot, include_background=True, spacing=sides).item()
        assert hausdorff(*balls) == pytest.approx(found / np.sqrt(3), abs=1e-6)


def by_rules(slices: list[tuple[str, np.ndarray, np.ndarray]], index: int) -> float:
    """UW-Madison's score of a class by its rules, with SciPy: places divided by the image's size, slices 1 apart."""
    dices, distances, days = [], [], {}
    for day, predicted, truth in slices:
        one, other = predicted == index, truth == index
        if one.any() or other.any():
            dices.append(2 * (one & other).sum() / (one.sum() + other.sum()))
        days.setdefault(day, []).append((one, other))
    for pairs in days.values():
        volumes = [np.stack([pair[side] for pair in pairs]) for side in (0, 1)]
        points = [np.argwhere(volume) / np.array(volume.shape) for volume in volumes]
        if all(map(len, points)):
            far = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0])
            distances.append(far / np.sqrt(3))
        elif any(map(len, points)):
            distances.append(1.0)
    return 0.4 * np.mean(dices) + 0.6 * (1 - np.mean(distances)) if dices else np.nan


def test_the_score_of_uw_madison_is_that_of_its_rules():
    rng, slices = np.random.default_rng(4), []
    volumes = Volumes(("uw_madison",), NUM_CLASSES, range(NUM_CLASSES))
    for day in ("case1_day0", "case1_day2", "case9_day0"):
        truth = blobs(rng, (6, 20, 26))
        truth[truth == 3] = 0  # no volume has this class
        predicted = np.roll(truth, (1, 2, 3), (0, 1, 2)) if day != "case9_day0" else np.zeros_like(truth)
        pairs = zip(predicted, truth, strict=True)
        slices += [(day, *pair, f"{day}_slice_{number:04d}") for number, pair in enumerate(pairs)]
    for number in rng.permutation(len(slices)):  # in whatever order they come
        day, predicted, truth, image_id = slices[number]
        volumes.add(day, image_id, predicted, truth)
    found = volumes.scores()["uw_madison"]
    wanted = [by_rules([own[:3] for own in slices], index) for index in range(NUM_CLASSES)]
    assert np.allclose(found[:3], wanted[:3]) and np.isnan(found[3]) and np.isnan(wanted[3])


def test_ignored_pixels_of_a_volume_are_of_no_class():
    truth, predicted = np.zeros((2, 10, 10), np.uint8)
    truth[2:4, 2:4], predicted[2:4, 2:4], predicted[8, 8] = 1, 1, 1
    volumes = Volumes(("uw_madison",), 2, (0, 1))
    truth[8, 8] = 255
    volumes.add("a", "a_1", predicted, truth)
    assert volumes.scores()["uw_madison"].tolist() == [1.0, 1.0]


def components(mask: np.ndarray) -> list[dict]:
    """The objects of a mask as COCO's run lengths."""
    objects, num = label(mask, np.ones((3, 3)))
    return [coco_mask.encode(np.asfortranarray((objects == number).astype(np.uint8))) for number in range(1, num + 1)]


def test_hits_of_objects_are_those_by_the_ious_of_pycocotools():
    rng, num_objects = np.random.default_rng(8), 0
    for _ in range(30):
        truth = (blobs(rng, (60, 70), 12) > 0).astype(np.uint8)
        predicted = np.roll(truth, rng.integers(-2, 3, 2), (0, 1)) | (blobs(rng, (60, 70), 4) == 1).astype(np.uint8)
        own = score_masks(("object_ap",), predicted, truth, 2, ScoreOptions())["object_ap"][1]
        found, true = components(predicted), components(truth)
        if not (found and true):
            assert own == float(not found and not true)
            continue
        ious = np.array(coco_mask.iou(found, true, [0] * len(true)))
        precisions = []
        for threshold in THRESHOLDS:  # as in the Data Science Bowl: no object is matched twice above 0.5
            hits = (ious > threshold).sum()
            assert hits == (ious > threshold).any(1).sum() == (ious > threshold).any(0).sum()
            precisions.append(hits / (len(found) + len(true) - hits))
        assert own == pytest.approx(np.mean(precisions))
        num_objects += len(true)
    assert num_objects > 40


def test_the_precision_of_whole_masks_is_the_share_of_thresholds_below_the_iou_of_scikit_learn(pairs, confusions):
    own = image_scores(confusions, COUNTED)["mask_ap"]
    for values, predicted, truth in zip(own, *pairs, strict=True):
        labels = range(NUM_CLASSES)
        ious = jaccard_score(truth.ravel(), predicted.ravel(), labels=labels, average=None, zero_division=1)
        assert np.allclose(values, [np.mean([iou > threshold for threshold in THRESHOLDS]) for iou in ious])
