"""The losses of YOLOX and their gradients are the reference's; its code of boxes is undone by its inverse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detection.dense import Dense
from pipeline.detection.yolox import YOLOX
from pipeline.detection.yolox_boxes import (
    centred_ious,
    decode_boxes,
    encode_boxes,
    positions_of,
    to_centres,
    to_corners,
)
from pipeline.detection.yolox_losses import TERMS, assign_batch, losses
from tests.detection.reference_yolox import (
    decoded_by_reference,
    dense_of,
    random_levels,
    random_targets,
    reference,
    reference_losses,
    yolox_model,
)

SIZE, NUM_CLASSES = (96, 160), 4
ALL = {name: {} for name in TERMS}
SMALL, LARGE, ANY = (1.0, 6.0), (60.0, 160.0), (4.0, 120.0)
COUNTS = [(3, 0, 1), (1,), (0, 0), (40, 5), (0, 12, 60, 2)]


def losses_of(outputs, targets, terms=ALL):
    return losses(yolox_model(), NUM_CLASSES, outputs, targets, terms).values


@pytest.mark.parametrize("sides", [SMALL, LARGE, ANY])
@pytest.mark.parametrize(("seed", "counts"), list(enumerate(COUNTS)))
def test_losses_and_gradients_are_those_of_the_reference(seed, counts, sides):
    targets = random_targets(seed, counts, sides, SIZE, NUM_CLASSES)
    theirs = [level.requires_grad_() for level in random_levels(seed, len(counts), SIZE, NUM_CLASSES)]
    ours = [level.detach().clone().requires_grad_() for level in theirs]
    wanted = reference_losses(reference().head(NUM_CLASSES), theirs, targets)
    found = losses_of(dense_of(ours), targets)
    for name in TERMS:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-6)
        gradients = [
            torch.autograd.grad(part[name], levels, retain_graph=True)
            for part, levels in ((found, ours), (wanted, theirs))
        ]
        for one, other in zip(*gradients, strict=True):
            assert one.isfinite().all()
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_decoded_boxes_are_those_of_the_reference():
    levels = random_levels(3, 2, SIZE, NUM_CLASSES)
    wanted, _, _ = decoded_by_reference(reference().head(NUM_CLASSES), levels)
    assert torch.equal(decode_boxes(dense_of(levels).boxes, positions_of(SIZE)), wanted[..., :4])
    boxes, probs = YOLOX.decode(yolox_model(), dense_of(levels), SIZE)
    assert torch.equal(boxes, to_corners(wanted[..., :4]))
    assert torch.equal(probs, wanted[..., 4:5].sigmoid() * wanted[..., 5:].sigmoid())


def test_a_batch_without_boxes_has_the_loss_of_objectness_only():
    outputs = dense_of([level.requires_grad_() for level in random_levels(0, 2, SIZE, NUM_CLASSES)])
    found = losses_of(outputs, random_targets(0, (0, 0), ANY, SIZE, NUM_CLASSES))
    assert [found[name].item() for name in ("iou", "cls", "l1")] == [0.0, 0.0, 0.0]
    wanted = torch.nn.functional.softplus(outputs.objectness).sum()  # divided by 1, not by 0
    torch.testing.assert_close(found["conf"], wanted)
    sum(found.values()).backward()


def test_a_cell_that_is_half_in_a_crowd_is_no_background_unless_it_has_an_object():
    levels = [level.requires_grad_() for level in random_levels(4, 2, SIZE, NUM_CLASSES)]
    plain = random_targets(4, (3, 3), ANY, SIZE, NUM_CLASSES)
    whole = torch.tensor([[0.0, 0, *SIZE[::-1]]])
    crowd = torch.tensor([[4.0, 0, 160, 40]])  # half of the first column of the finest level, whose stride is 8
    outputs = dense_of(levels)
    positions = positions_of(SIZE)
    is_taken = assign_batch(outputs, decode_boxes(outputs.boxes, positions), positions, plain).is_taken
    (grad,) = torch.autograd.grad(
        losses_of(outputs, plain._replace(crowds=[whole, crowd]))["conf"], outputs.objectness, retain_graph=True
    )
    assert torch.equal(grad[0, :, 0] != 0, is_taken[0])
    is_free = grad[1, :, 0] == 0
    finest = is_free[: 12 * 20].view(12, 20) | is_taken[1, : 12 * 20].view(12, 20)
    assert finest[:5].all() and not is_free[: 12 * 20].view(12, 20)[5:].any()
    coarsest = is_free[-15:].view(3, 5) | is_taken[1, -15:].view(3, 5)  # the second row of 32 pixels is a quarter in it
    assert coarsest[0].all() and not is_free[-15:].view(3, 5)[1:].any()
    found, wanted = losses_of(outputs, plain._replace(crowds=[whole[:0]] * 2)), losses_of(outputs, plain)
    assert all(torch.equal(found[name], wanted[name]) for name in TERMS)


def test_losses_of_one_answer_are_those_on_paper():
    """One frame of 32x32, one box that the position in the middle of stride 32 finds with an IoU of 1/2."""
    outputs = Dense(torch.zeros(1, 21, 2), torch.zeros(1, 21, 4), torch.full((1, 21, 1), -20.0))
    outputs.boxes[0, :20, 2:] = -9.0  # all other boxes are too small to compete
    outputs.boxes[0, 20] = torch.tensor([0.5, 0.5, 0.0, math.log(0.5)])  # 32 wide and 16 high, at the frame's centre
    outputs.objectness[0, 20] = 0.0
    targets = random_targets(0, (1,), ANY, (32, 32), 2)._replace(
        boxes=[torch.tensor([[0.0, 0, 32, 32]])], classes=[torch.tensor([1])]
    )
    found = losses(yolox_model(), 2, outputs, targets, ALL).values
    assert found["iou"].item() == pytest.approx(1 - 0.5**2)
    assert found["conf"].item() == pytest.approx(math.log(2), abs=1e-6)
    assert found["cls"].item() == pytest.approx(2 * math.log(2))
    assert found["l1"].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("terms", [(), ("conf",), ("cls", "iou"), ("l1",)])
def test_only_the_terms_that_are_asked_for_are_returned(terms):
    outputs = dense_of(random_levels(0, 1, SIZE, NUM_CLASSES))
    targets = random_targets(0, (5,), ANY, SIZE, NUM_CLASSES)
    everything = losses_of(outputs, targets)
    assert losses_of(outputs, targets, {name: {} for name in terms}) == {name: everything[name] for name in terms}


def test_bfloat16_outputs_are_counted_in_float32():
    outputs = Dense(*(tensor.bfloat16() for tensor in dense_of(random_levels(0, 2, SIZE, NUM_CLASSES))))
    targets = random_targets(0, (5, 1), ANY, SIZE, NUM_CLASSES)
    found = losses_of(outputs, targets)
    assert found == losses_of(Dense(*(tensor.float() for tensor in outputs)), targets)
    assert {loss.dtype for loss in found.values()} == {torch.float32}


def test_the_losses_of_a_batch_are_the_same_bits_each_time():
    outputs = dense_of(random_levels(0, 3, SIZE, NUM_CLASSES))
    targets = random_targets(0, (50, 0, 9), ANY, SIZE, NUM_CLASSES)
    assert losses_of(outputs, targets) == losses_of(outputs, targets)


def boxes_strategy():
    """Boxes in a frame of 96x160, one of them per position."""
    return st.builds(
        lambda seed: (
            torch.rand(315, 4, generator=torch.Generator().manual_seed(seed)) * torch.tensor([160.0, 96, 150, 90])
            + torch.tensor([0.0, 0, 1, 1])
        ),
        st.integers(0, 2**32 - 1),
    )


@given(boxes_strategy())
def test_decoding_undoes_encoding(boxes):
    positions = positions_of(SIZE)
    assert len(positions.strides) == len(boxes)
    decoded = decode_boxes(encode_boxes(boxes, positions)[None], positions)[0]
    torch.testing.assert_close(decoded, boxes, rtol=1e-5, atol=1e-4)


@given(boxes_strategy())
def test_centres_and_corners_undo_each_other(boxes):
    torch.testing.assert_close(to_centres(to_corners(boxes)), boxes, rtol=1e-5, atol=1e-4)


@given(boxes_strategy(), boxes_strategy())
def test_ious_are_symmetric_and_at_most_one(boxes, others):
    found = centred_ious(boxes, others)
    assert torch.equal(found, centred_ious(others, boxes))
    assert found.min() >= 0 and found.max() <= 1 + 1e-4  # a box of a pixel, 160 from the origin
    torch.testing.assert_close(centred_ious(boxes, boxes), torch.ones(len(boxes)), rtol=1e-4, atol=1e-5)
