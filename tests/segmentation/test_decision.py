"""Classes chosen and counted, held against plain loops and torch's own functions."""

import re
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

from pipeline.segmentation.decision import choose, choose_pixels, count, log_probs, logits_gradient, probs, vote
from tests.segmentation.masks import predictions_and_masks


def count_one_by_one(pred_BHW: Tensor, mask_BHW: Tensor, num_classes: int) -> Tensor:
    confusion = torch.zeros((len(pred_BHW), num_classes, num_classes), dtype=torch.int64)
    for image_index, images in enumerate(zip(pred_BHW, mask_BHW, strict=True)):
        for predicted, true in zip(*(image.flatten().tolist() for image in images), strict=True):
            if true != 255:
                confusion[image_index, true, predicted] += 1
    return confusion


@given(predictions_and_masks())
def test_confusion_counts_every_pixel_that_is_not_ignored(case: tuple[Tensor, Tensor, int]) -> None:
    pred_BHW, mask_BHW, num_classes = case
    wanted = count_one_by_one(pred_BHW, mask_BHW, num_classes)
    for dtype in (torch.uint8, torch.int64):
        assert torch.equal(count(pred_BHW.to(dtype), mask_BHW.to(dtype), num_classes), wanted)


@given(predictions_and_masks())
def test_a_prediction_under_ignored_pixels_changes_nothing(case: tuple[Tensor, Tensor, int]) -> None:
    pred_BHW, mask_BHW, num_classes = case
    other_BHW = torch.where(mask_BHW == 255, num_classes - 1 - pred_BHW, pred_BHW)
    expected = count(pred_BHW, mask_BHW, num_classes)
    assert torch.equal(count(other_BHW, mask_BHW, num_classes), expected)


@pytest.mark.parametrize("what", ["prediction", "mask"])
@pytest.mark.parametrize("num_classes", [12, 16])
def test_a_class_outside_the_network_is_refused(what: str, num_classes: int) -> None:
    masks = {"prediction": torch.zeros(1, 2, 2).byte(), "mask": torch.full((1, 2, 2), 255).byte()}
    masks[what][0, 1, 1] = num_classes
    with pytest.raises(ValueError, match=f"class {num_classes} in a {what}, expected 0 to {num_classes - 1}"):
        count(masks["prediction"], masks["mask"], num_classes)


def test_two_real_masks_agree_with_a_histogram_of_pairs(shared_data: Callable[[str], Path]) -> None:
    paths = sorted((shared_data("camvid") / "masks" / "masks").glob("*.png"))[:2]
    pred, mask = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths)
    is_void = mask == 11
    expected = np.histogram2d(mask[~is_void], pred[~is_void], bins=12, range=[[0, 12], [0, 12]])[0].astype(int)
    mask[is_void] = 255
    confusion_BCC = count(torch.from_numpy(pred)[None], torch.from_numpy(mask)[None], num_classes=12)
    assert np.array_equal(confusion_BCC[0].numpy(), expected)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        count(torch.zeros(1, 2, 3).byte(), torch.zeros(1, 3, 2).byte(), num_classes=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@settings(max_examples=25)
@given(shape=npst.array_shapes(min_dims=4, max_dims=4, max_side=9), seed=st.integers(0, 99))
def test_predicted_class_is_the_first_of_the_highest(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> None:
    few_values = torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)  # many ties
    expected = few_values.argmax(1).to(torch.uint8)
    assert torch.equal(choose(few_values), expected)
    assert torch.equal(choose(few_values.contiguous(memory_format=torch.channels_last)), expected)


def test_predicted_classes_of_a_big_image_and_of_some_of_the_outputs() -> None:
    logits_BCHW = torch.randn((2, 13, 300, 1280), generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.equal(choose(logits_BCHW), logits_BCHW.argmax(1).to(torch.uint8))
    assert torch.equal(choose(logits_BCHW[:, :12]), logits_BCHW[:, :12].argmax(1).to(torch.uint8))


def draw_ties(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).float()


@given(npst.array_shapes(min_dims=3, max_dims=3, max_side=9), st.integers(0, 99))
def test_a_vote_goes_to_the_chosen_class_alone(shape: tuple[int, ...], seed: int) -> None:
    scores_CHW = draw_ties(shape, seed)
    votes_CHW = vote(scores_CHW)
    assert bool((votes_CHW.sum(0) == 1).all())
    assert torch.equal(votes_CHW.argmax(0).to(torch.uint8), choose(scores_CHW[None])[0])


def test_pixels_in_numpy_get_the_same_classes() -> None:
    scores_CP = draw_ties((5, 40))
    assert np.array_equal(choose_pixels(scores_CP.numpy()), choose(scores_CP[None, ..., None])[0, :, 0].numpy())


def test_no_pixel_at_all_is_counted_as_none() -> None:
    nothing = torch.zeros((2, 0, 4), dtype=torch.uint8)
    assert count(nothing, nothing, num_classes=3).tolist() == [[[0] * 3] * 3] * 2


def test_the_gradient_of_probabilities_is_what_autograd_finds() -> None:
    logits = torch.randn((2, 5, 4, 3), generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.randn((2, 5, 4, 3), generator=torch.Generator().manual_seed(1))
    found = probs(logits)
    (found * weights).sum().backward()
    assert torch.equal(logits_gradient(weights.clone(), found.detach()), logits.grad)
    assert torch.allclose(log_probs(logits).exp(), found)
    assert bool(log_probs(torch.tensor([0.0, 1e4]).view(1, 2, 1, 1)).isfinite().all())


def test_no_other_file_turns_logits_into_probabilities(project: Path) -> None:
    activations = re.compile(r"softmax\(|(?<!is_)sigmoid\(|F\.cross_entropy|_backward_data")
    found = {
        path.name
        for path in (project / "pipeline" / "segmentation").rglob("*.py")
        if activations.search(path.read_text())
    }
    assert found == {"decision.py", "sigmoid.py"}
