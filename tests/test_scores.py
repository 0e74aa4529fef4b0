"""Scores by name: what they are per class, and one mean over the scored classes."""

from __future__ import annotations

from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.config.competition import OF_BOXES, OF_VOLUMES, OPTION_OF, ScoreName
from pipeline.scores import (
    KINDS,
    PER_IMAGE,
    Kind,
    class_scores,
    counted_score,
    image_parts,
    mean_scored,
    per_image_score,
)
from pipeline.segmentation import volume_scores
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.learning import dice_iou
from pipeline.segmentation.mask_scores import OBJECT_SCORES, SCORES
from pipeline.segmentation.scores import counts_of, dataset_iou


def test_scores_of_hits_and_areas_are_those_of_the_confusion_matrix():
    confusion_ICC = torch.from_numpy(np.random.default_rng(0).integers(0, 50, (20, 5, 5)))
    confusion_ICC[:, 2], confusion_ICC[:, :, 2] = 0, 0
    counts = counts_of(confusion_ICC.numpy())
    for score, wanted_IC in zip(PER_IMAGE, dice_iou(*SOFTMAX.split_counts(confusion_ICC)), strict=True):
        assert np.array_equal(class_scores(score, *counts), wanted_IC.numpy())


def test_the_mean_is_over_the_scored_classes_that_have_pixels():
    values_IC = np.array([[0.5, 1.0, 0.0], [0.25, np.nan, 0.5], [np.nan, np.nan, 0.5]])
    assert mean_scored(values_IC).tolist()[:2] == [0.5, 0.375]
    assert mean_scored(values_IC, (0, 1)).tolist()[:2] == [0.75, 0.25]
    assert np.isnan(mean_scored(values_IC, (0, 1))[2])
    assert float(mean_scored(dataset_iou(np.array([[2, 1, 0], [1, 0, 0], [0, 0, 0]])), (0, 2))) == 0.5


@pytest.mark.parametrize("num_classes", [1, 5, 12, 40])
def test_the_mean_has_the_same_bits_for_one_image_as_for_many(num_classes):
    values_IC = np.random.default_rng(num_classes).random((30, num_classes))
    means_I = mean_scored(values_IC)
    for values_C, mean in zip(values_IC, means_I, strict=True):
        assert float(mean_scored(values_C)) == mean == sum(values_C.tolist()) / num_classes


@given(
    npst.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(0, 1) | st.just(np.nan))
)
def test_the_mean_of_what_images_add_is_the_score_over_images_then_classes(values_IC):
    means_C = [own[~np.isnan(own)].mean() for own in values_IC.T if not np.isnan(own).all()]
    parts_I = image_parts(values_IC)
    assert parts_I.mean() == pytest.approx(np.mean(means_C) if means_C else np.nan, nan_ok=True)
    if not np.isnan(values_IC).any():
        assert np.array_equal(parts_I, mean_scored(values_IC))


# What people read: the labels also head the columns of files, so they stay.
WORDS = {
    "dice": ("Dice", "per image and class, 1 where neither prediction nor label has the class"),
    "iou": ("IoU", "per image and class, 1 where neither prediction nor label has the class"),
    "miou": ("mIoU", "over the data set at once"),
    "present_dice": ("Dice where present", "per image and class, of images whose label has the class"),
    "present_iou": ("IoU where present", "per image and class, of images whose label has the class"),
    "global_dice": ("global Dice", "over the data set at once"),
    "global_iou": ("global IoU", "over the data set at once"),
    "fbeta": ("F-beta", "over the data set at once"),
    "fwiou": ("fwIoU", "over the data set at once, all classes weighted with their pixels"),
    "pixel_accuracy": ("pixel accuracy", "over the data set at once, of all classes"),
    "boundary_f": ("boundary F", "per image and class, 1 where neither prediction nor label has the class"),
    "surface_dice": ("surface Dice", "per image and class, 1 where neither prediction nor label has the class"),
    "hausdorff_dice": ("Dice and Hausdorff", "per image and class, 1 where neither prediction nor label has the class"),
    "uw_madison": ("Dice and 3D Hausdorff", "over slices and volumes with the class"),
    "mask_ap": ("mask AP", "per image and class, 1 where neither prediction nor label has the class"),
    "object_ap": ("object AP", "per image and class, 1 where neither prediction nor label has the class"),
    "object_fbeta": ("object F-beta", "per image and class, 1 where neither prediction nor label has the class"),
    "ap": ("AP", "over the data set at once, mean over IoU thresholds from 0.5 to 0.95"),
    "ap50": ("AP50", "over the data set at once, at an IoU of 0.5"),
    "ap75": ("AP75", "over the data set at once, at an IoU of 0.75"),
    "image_ap": ("AP of single images", "per image and class, mean over IoU thresholds"),
    "box_fbeta": ("F-beta of boxes", "over the data set at once, mean over IoU thresholds"),
}


def test_what_people_read_of_a_score_stays():
    assert {name: (kind.label, kind.meaning) for name, kind in KINDS.items()} == WORDS
    assert all(KINDS[name].per == "image" for name in PER_IMAGE) and len(PER_IMAGE) == 2


def test_every_score_of_the_config_is_one_and_has_others_for_images_and_for_counts():
    assert tuple(KINDS) == get_args(ScoreName)
    allowed = {name: get_args(hint) for name, hint in get_type_hints(Kind).items() if get_origin(hint) is Literal}
    assert all(getattr(kind, name) in values for name, values in allowed.items() for kind in KINDS.values())
    assert {score for score, kind in KINDS.items() if kind.needs == "boxes"} == set(OF_BOXES)
    assert all(KINDS[per_image_score(score)].per == "image" for score in KINDS)
    for score in set(KINDS) - set(OF_BOXES):
        counted = KINDS[counted_score(score)]
        assert (counted.per, counted.needs) == ("image", "counts")
    of_masks = {score: kind.per for score, kind in KINDS.items() if kind.needs == "masks"}
    assert {*SCORES, *OBJECT_SCORES} == {score for score, per in of_masks.items() if per == "image"}
    assert set(volume_scores.SCORES) == set(OF_VOLUMES) == {score for score, per in of_masks.items() if per == "volume"}
    assert {score for owners in OPTION_OF.values() for score in owners} < set(KINDS)


def test_no_score_reads_as_another_ones_class():
    """History.csv has `valid_dice` and `valid_dice_Road`, so no score may be called `dice_...`."""
    assert not [(one, two) for one in KINDS for two in KINDS if two.startswith(f"{one}_")]
