"""Dice, IoU and confusion matrices, held against plain loops and worked numbers."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor

from pipeline.model.metrics import dataset_iou, dice_iou, image_confusion, predict_classes


def counted_one_by_one(pred_BHW: Tensor, mask_BHW: Tensor, num_classes: int) -> Tensor:
    confusion = torch.zeros((len(pred_BHW), num_classes, num_classes), dtype=torch.int64)
    for image_index, images in enumerate(zip(pred_BHW, mask_BHW, strict=True)):
        for predicted, true in zip(*(image.flatten().tolist() for image in images), strict=True):
            if true != 255:
                confusion[image_index, true, predicted] += 1
    return confusion


@st.composite
def predictions_and_masks(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    num_classes = draw(st.sampled_from([2, 3, 12, 15, 16, 20]))
    shape = draw(npst.array_shapes(min_dims=3, max_dims=3, max_side=6))
    pred = draw(npst.arrays(np.uint8, shape, elements=st.integers(0, num_classes - 1)))
    mask = draw(npst.arrays(np.uint8, shape, elements=st.one_of(st.integers(0, num_classes - 1), st.just(255))))
    return torch.from_numpy(pred), torch.from_numpy(mask), num_classes


@given(predictions_and_masks())
def test_confusion_counts_every_pixel_that_is_not_ignored(case: tuple[Tensor, Tensor, int]) -> None:
    pred_BHW, mask_BHW, num_classes = case
    wanted = counted_one_by_one(pred_BHW, mask_BHW, num_classes)
    for dtype in (torch.uint8, torch.int64):
        assert torch.equal(image_confusion(pred_BHW.to(dtype), mask_BHW.to(dtype), num_classes), wanted)


@given(predictions_and_masks())
def test_a_prediction_under_ignored_pixels_changes_nothing(case: tuple[Tensor, Tensor, int]) -> None:
    pred_BHW, mask_BHW, num_classes = case
    other_BHW = torch.where(mask_BHW == 255, num_classes - 1 - pred_BHW, pred_BHW)
    expected = image_confusion(pred_BHW, mask_BHW, num_classes)
    assert torch.equal(image_confusion(other_BHW, mask_BHW, num_classes), expected)


@given(predictions_and_masks())
def test_dice_and_iou_agree_with_sets_of_pixels(case: tuple[Tensor, Tensor, int]) -> None:
    pred_BHW, mask_BHW, num_classes = case
    dice_BC, iou_BC = dice_iou(image_confusion(pred_BHW, mask_BHW, num_classes))
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
    dice_BC, iou_BC = dice_iou(image_confusion(pred, mask, num_classes=4))
    assert dice_BC.tolist() == [[4 / 5, 2 / 4, 1.0, 0.0]]
    assert iou_BC.tolist() == [[2 / 3, 1 / 3, 1.0, 0.0]]
    assert dice_BC.dtype == iou_BC.dtype == torch.float64


def test_a_image_ignored_as_a_whole_lacks_every_class() -> None:
    confusion_BCC = image_confusion(torch.zeros(1, 2, 2).byte(), torch.full((1, 2, 2), 255).byte(), num_classes=3)
    assert dice_iou(confusion_BCC)[0].tolist() == [[1.0, 1.0, 1.0]]


def test_dataset_iou_sums_before_it_divides_and_leaves_unseen_classes_out() -> None:
    mask = torch.tensor([[[0, 0, 0, 0]], [[0, 1, 1, 1]]], dtype=torch.uint8)
    pred = torch.tensor([[[0, 0, 0, 1]], [[1, 1, 1, 0]]], dtype=torch.uint8)
    iou_C = dataset_iou(image_confusion(pred, mask, num_classes=3).sum(0))
    assert iou_C.tolist()[:2] == [3 / 6, 2 / 5]
    assert iou_C[2].isnan()
    assert float(iou_C.nanmean()) == pytest.approx(0.45)


@pytest.mark.parametrize("what", ["prediction", "mask"])
@pytest.mark.parametrize("num_classes", [12, 16])
def test_a_class_outside_the_network_is_refused(what: str, num_classes: int) -> None:
    masks = {"prediction": torch.zeros(1, 2, 2).byte(), "mask": torch.full((1, 2, 2), 255).byte()}
    masks[what][0, 1, 1] = num_classes
    with pytest.raises(ValueError, match=f"class {num_classes} in a {what}, wanted 0 to {num_classes - 1}"):
        image_confusion(masks["prediction"], masks["mask"], num_classes)


def test_two_real_masks_agree_with_a_histogram_of_pairs(shared_data: Callable[[str], Path]) -> None:
    paths = sorted((shared_data("camvid") / "masks" / "masks").glob("*.png"))[:2]
    pred, mask = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths)
    is_void = mask == 11
    expected = np.histogram2d(mask[~is_void], pred[~is_void], bins=12, range=[[0, 12], [0, 12]])[0].astype(int)
    mask[is_void] = 255
    confusion_BCC = image_confusion(torch.from_numpy(pred)[None], torch.from_numpy(mask)[None], num_classes=12)
    assert np.array_equal(confusion_BCC[0].numpy(), expected)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        image_confusion(torch.zeros(1, 2, 3).byte(), torch.zeros(1, 3, 2).byte(), num_classes=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@settings(max_examples=25)
@given(shape=npst.array_shapes(min_dims=4, max_dims=4, max_side=9), seed=st.integers(0, 99))
def test_predicted_class_is_the_first_of_the_highest(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> None:
    few_values = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)  # many ties
    expected = few_values.argmax(1).to(torch.uint8)
    assert torch.equal(predict_classes(few_values), expected)
    assert torch.equal(predict_classes(few_values.contiguous(memory_format=torch.channels_last)), expected)


def test_predicted_classes_of_a_big_image_and_of_some_of_the_outputs() -> None:
    logits_BCHW = torch.randn((2, 13, 300, 1280), generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.equal(predict_classes(logits_BCHW), logits_BCHW.argmax(1).to(torch.uint8))
    assert torch.equal(predict_classes(logits_BCHW[:, :12]), logits_BCHW[:, :12].argmax(1).to(torch.uint8))
