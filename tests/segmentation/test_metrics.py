"""Dice and IoU, held against sets of pixels and worked numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor

from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.decision import count
from pipeline.segmentation.learning import dice_iou
from pipeline.segmentation.scores import dataset_iou
from tests.segmentation.masks import predictions_and_masks


@given(predictions_and_masks())
def test_dice_and_iou_agree_with_sets_of_pixels(case: tuple[Tensor, Tensor, int]) -> None:
    pred_BHW, mask_BHW, num_classes = case
    dice_BC, iou_BC = dice_iou(*SOFTMAX.split_counts(count(pred_BHW, mask_BHW, num_classes)))
    for image_index in range(len(pred_BHW)):
        counts = mask_BHW[image_index] != 255
        for class_index in range(num_classes):
            predicted = (pred_BHW[image_index] == class_index) & counts
            true = (mask_BHW[image_index] == class_index) & counts
            both, either = int((predicted & true).sum()), int((predicted | true).sum())
            assert iou_BC[image_index, class_index] == pytest.approx(both / either if either else 1.0)
            assert dice_BC[image_index, class_index] == pytest.approx(2 * both / (both + either) if either else 1.0)


def test_dice_of_a_worked_image() -> None:
    # class 0: 2 hits, 1 missed, 1 false; class 1: 1 hit, 1 missed, 1 false; class 2 in neither; class 3 only predicted
    mask = torch.tensor([[[0, 0, 0, 1, 1, 255]]], dtype=torch.uint8)
    pred = torch.tensor([[[0, 0, 1, 1, 3, 0]]], dtype=torch.uint8)
    dice_BC, iou_BC = dice_iou(*SOFTMAX.split_counts(count(pred, mask, num_classes=4)))
    assert dice_BC.tolist() == [[4 / 5, 2 / 4, 1.0, 0.0]]
    assert iou_BC.tolist() == [[2 / 3, 1 / 3, 1.0, 0.0]]
    assert dice_BC.dtype == iou_BC.dtype == torch.float64


def test_a_image_ignored_as_a_whole_lacks_every_class() -> None:
    confusion_BCC = count(torch.zeros(1, 2, 2).byte(), torch.full((1, 2, 2), 255).byte(), num_classes=3)
    assert dice_iou(*SOFTMAX.split_counts(confusion_BCC))[0].tolist() == [[1.0, 1.0, 1.0]]


def test_dataset_iou_sums_before_it_divides_and_leaves_unseen_classes_out() -> None:
    mask = torch.tensor([[[0, 0, 0, 0]], [[0, 1, 1, 1]]], dtype=torch.uint8)
    pred = torch.tensor([[[0, 0, 0, 1]], [[1, 1, 1, 0]]], dtype=torch.uint8)
    iou_C = dataset_iou(count(pred, mask, num_classes=3).sum(0).numpy())
    assert iou_C.tolist()[:2] == [3 / 6, 2 / 5]
    assert np.isnan(iou_C[2])
    assert np.nanmean(iou_C) == pytest.approx(0.45)
