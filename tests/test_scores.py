"""Scores by name: what they are per class, and one mean over the scored classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.scores import LABELS, PER_IMAGE, class_scores, mean_scored, per_image_score
from pipeline.segmentation.learning import dice_iou
from pipeline.segmentation.scores import dataset_iou


def test_scores_of_hits_and_areas_are_those_of_the_confusion_matrix():
    confusion_ICC = torch.from_numpy(np.random.default_rng(0).integers(0, 50, (20, 5, 5)))
    confusion_ICC[:, 2], confusion_ICC[:, :, 2] = 0, 0
    hits_IC, areas_IC = confusion_ICC.diagonal(dim1=1, dim2=2), confusion_ICC.sum(1) + confusion_ICC.sum(2)
    for score, wanted_IC in zip(PER_IMAGE, dice_iou(confusion_ICC), strict=True):
        assert np.array_equal(class_scores(score, hits_IC.numpy(), areas_IC.numpy()), wanted_IC.numpy())


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


def test_every_score_has_a_label_and_one_that_ranks_images():
    assert all(per_image_score(score) in PER_IMAGE for score in LABELS)
