"""SimOTA assigns positions as the reference does, and as a loop written from the paper does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy, one_hot

from pipeline.detection.sim_ota import assign, class_costs, near_centres, owners
from pipeline.detection.yolox_boxes import decode_boxes, positions_of, to_centres
from tests.detection.reference_yolox import (
    decoded_by_reference,
    dense_of,
    random_levels,
    random_targets,
    reference,
    reference_labels,
)

SIZE, NUM_CLASSES = (160, 224), 5
SMALL, LARGE, ANY = (1.0, 6.0), (100.0, 220.0), (4.0, 120.0)


def reference_assignment(levels, targets, radius):
    """Returns the reference's assignment of one image: mask of positions, boxes, IoUs.

    Its radius is fixed at 1.5 strides. Another one comes from strides that are longer by as much, with cells that have
    the same centres.
    """
    head = reference().head(NUM_CLASSES)
    outputs, grids, strides = decoded_by_reference(head, levels)
    grid, stride, factor = torch.cat(grids, 1), torch.cat(strides, 1), radius / 1.5
    labels, count = reference_labels(targets), len(targets.boxes[0])
    columns, rows = ((grid[..., axis] + 0.5) / factor - 0.5 for axis in (0, 1))
    found = head.get_assignments(
        *(0, count, labels[0, :count, 1:], labels[0, :count, 0], outputs[0, :, :4]),
        *(stride * factor, columns, rows, outputs[..., 5:], outputs[..., 4:5]),
    )
    _, is_taken, ious, boxes, _ = found
    return is_taken, boxes, ious


def assignment_of(levels, targets, **settings):
    outputs, positions = dense_of(levels), positions_of(SIZE)
    predicted = decode_boxes(outputs.boxes, positions)[0]
    return assign(
        *(predicted, outputs.classes[0], outputs.objectness[0, :, 0]),
        *(positions, to_centres(targets.boxes[0]), targets.classes[0]),
        **settings,
    )


@pytest.mark.parametrize("radius", [1.5, 2.5])
@pytest.mark.parametrize("sides", [SMALL, LARGE, ANY])
@pytest.mark.parametrize(("seed", "count"), [(0, 1), (1, 2), (2, 7), (3, 30), (4, 120)])
def test_assignments_are_those_of_the_reference(seed, count, sides, radius):
    targets = random_targets(seed, (count,), sides, SIZE, NUM_CLASSES)
    levels = random_levels(seed, 1, SIZE, NUM_CLASSES)
    is_taken, boxes, ious = reference_assignment(levels, targets, radius)
    found = assignment_of(levels, targets, radius=radius)
    assert torch.equal(found.is_taken, is_taken)
    assert torch.equal(found.boxes, boxes)
    torch.testing.assert_close(found.ious, ious, rtol=1e-5, atol=1e-6)
    assert found.is_taken.sum() == len(found.boxes) > 0


def test_the_radius_is_that_of_the_reference():
    targets = random_targets(5, (9,), ANY, SIZE, NUM_CLASSES)
    levels = random_levels(5, 1, SIZE, NUM_CLASSES)
    assert torch.equal(assignment_of(levels, targets).is_taken, reference_assignment(levels, targets, 1.5)[0])


@pytest.mark.parametrize("seed", range(6))
def test_boxes_at_the_border_that_need_positions_outside_their_radius_are_assigned_as_in_the_reference(seed):
    targets = random_targets(seed, (8,), ANY, SIZE, NUM_CLASSES)
    shift = torch.tensor([SIZE[1] - 20.0, 0.0, SIZE[1] - 20.0, 0.0])
    targets = targets._replace(boxes=[targets.boxes[0] + shift])  # most centres are beyond the right border
    assert (to_centres(targets.boxes[0])[:, 0] < SIZE[1]).sum() < 8
    targets.boxes[0][0] = torch.tensor([10.0, 10, 60, 70])  # gives the others some candidates
    # In float64: the reference's own float32 rounds the costs of positions outside to sixteenths, so that many tie.
    levels = [level.double() for level in random_levels(seed, 1, SIZE, NUM_CLASSES)]
    is_taken, boxes, _ = reference_assignment(levels, targets, 1.5)
    found = assignment_of(levels, targets)
    assert torch.equal(found.is_taken, is_taken)
    assert torch.equal(found.boxes, boxes)


@pytest.mark.parametrize("boxes", [[], [[-90.0, -90, -50, -60]]])
def test_without_a_box_in_the_frame_no_position_is_taken(boxes):
    targets = random_targets(0, (len(boxes),), ANY, SIZE, NUM_CLASSES)
    targets = targets._replace(boxes=[torch.tensor(boxes).reshape(-1, 4)])
    found = assignment_of(random_levels(0, 1, SIZE, NUM_CLASSES), targets)
    assert not found.is_taken.any() and len(found.boxes) == len(found.ious) == 0
    assert found.is_taken.shape == (28 * 20 + 14 * 10 + 7 * 5,)


def test_a_box_of_three_pixels_has_nine_candidates_in_each_level_that_is_near():
    box = to_centres(torch.tensor([[98.0, 98, 101, 101]]))
    is_near = near_centres(positions_of(SIZE), box)[0]
    assert [int(part.sum()) for part in is_near.split([28 * 20, 14 * 10, 7 * 5])] == [9, 9, 9]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 40))
def test_owners_are_those_of_a_plain_loop(seed, num_boxes, num_candidates):
    generator = torch.Generator().manual_seed(seed)
    # All different, so that no tie is left to chance.
    cost = torch.randperm(num_boxes * num_candidates, generator=generator).reshape(num_boxes, -1).float()
    ious = torch.rand(num_boxes, num_candidates, generator=generator)
    takers = [[] for _ in range(num_candidates)]
    for box in range(num_boxes):
        number = max(1, int(sum(sorted(ious[box].tolist(), reverse=True)[:10])))
        for position in sorted(range(num_candidates), key=cost[box].__getitem__)[:number]:
            takers[position].append(box)
    wanted = [
        -1 if not boxes else boxes[0] if len(boxes) == 1 else int(cost[:, position].argmin())
        for position, boxes in enumerate(takers)
    ]
    assert owners(cost, ious).tolist() == wanted


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 40))
def test_class_costs_are_the_cross_entropy_over_all_classes(seed, spread):
    generator = torch.Generator().manual_seed(seed)
    logits, objectness = (torch.randn(shape, generator=generator) * spread for shape in ((6, 4), (6,)))
    classes = torch.randint(4, (3,), generator=generator)
    probs = (logits.sigmoid() * objectness.sigmoid()[:, None]).sqrt().expand(3, 6, 4)
    target = one_hot(classes, 4)[:, None].expand(3, 6, 4).float()
    wanted = binary_cross_entropy(probs, target, reduction="none").sum(-1)
    torch.testing.assert_close(class_costs(logits, objectness, classes), wanted, rtol=1e-4, atol=1e-4)
