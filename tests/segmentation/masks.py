"""Predictions and masks of any class numbers for the tests."""

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor


@st.composite
def predictions_and_masks(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    num_classes = draw(st.sampled_from([2, 3, 12, 15, 16, 20]))
    shape = draw(npst.array_shapes(min_dims=3, max_dims=3, max_side=6))
    pred = draw(npst.arrays(np.uint8, shape, elements=st.integers(0, num_classes - 1)))
    mask = draw(npst.arrays(np.uint8, shape, elements=st.one_of(st.integers(0, num_classes - 1), st.just(255))))
    return torch.from_numpy(pred), torch.from_numpy(mask), num_classes


def crop(array: np.ndarray, offset: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Returns the view of an array (H, W, ...) that starts at (top, left) and has (height, width)."""
    (top, left), (height, width) = offset, size
    return array[top : top + height, left : left + width]
