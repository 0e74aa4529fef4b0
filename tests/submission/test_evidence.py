"""What pixels say about order and base, on real masks when they are there."""

import numpy as np
import pytest

from pipeline.data.images import read_mask
from pipeline.submission.evidence import base_shift, order_is_wrong, order_ratio, total, weigh


def folded(mask_HW, order):
    return (mask_HW if order == "row" else mask_HW.T).ravel()


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("name", ["camvid", "dubai_aerial"])
def test_real_masks_leave_a_wide_gap_between_right_and_transposed(shared_data, name, order):
    other = "column" if order == "row" else "row"
    right, turned = [], []
    for path in sorted((shared_data(name) / "masks" / "masks").glob("*.png"))[::4]:
        mask_HW = read_mask(path)
        right.append(weigh(folded(mask_HW, order), *mask_HW.shape, order))
        turned.append(weigh(folded(mask_HW, other), *mask_HW.shape, order))
    assert max(order_ratio(evidence) for evidence in right) < 0.15
    assert min(order_ratio(evidence) for evidence in turned) > 5
    assert not any(order_is_wrong(evidence) for evidence in [*right, total(right)])
    assert all(order_is_wrong(evidence) for evidence in [*turned, total(turned)])


@pytest.mark.parametrize("shift", [-1, 0, 1])
@pytest.mark.parametrize("name", ["camvid", "dubai_aerial"])
def test_real_masks_show_where_their_lines_end(shared_data, name, shift):
    evidences = []
    for path in sorted((shared_data(name) / "masks" / "masks").glob("*.png"))[::8]:
        mask_HW = read_mask(path)
        evidences.append(weigh(np.roll(mask_HW.ravel(), shift), *mask_HW.shape, "row"))
    assert base_shift(total(evidences)) == shift


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_the_smallest_images_give_no_alarm(shape):
    for value in (0, 255):
        evidence = weigh(np.full(shape[0] * shape[1], value, np.uint8), *shape, "row")
        assert not order_is_wrong(evidence)
        assert base_shift(evidence) == 0


def test_square_images_give_no_evidence_of_order():
    mask_HW = np.tril(np.ones((50, 50), np.uint8))
    assert order_ratio(weigh(mask_HW.ravel(), 50, 50, "row")) == 1


def test_no_images_are_no_evidence():
    assert not order_is_wrong(total([]))
    assert base_shift(total([])) == 0
