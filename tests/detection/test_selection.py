"""From the answers of a network to few detections inside the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.schema import Detections as Settings
from pipeline.detection.boxes import ious, make_detections
from pipeline.detection.selection import MOST_CANDIDATES, candidates, select, suppress

SIZE = (40, 60)


def answers(seed: int, number: int = 60, num_classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns boxes (A, 4), some of them beyond the image or inside out, and probabilities (A, C)."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(number, 2, generator=generator) * 90 - 20
    boxes = torch.cat([corner, corner + torch.rand(number, 2, generator=generator) * 40 - 4], 1)
    return boxes, torch.rand(number, num_classes, generator=generator)


rules = st.builds(
    Settings,
    suppress=st.sampled_from(["nms", "soft_nms"]),
    overlap=st.sampled_from([0.3, 0.5, 0.8]),
    score=st.sampled_from([0.0, 0.05, 0.6]),
    most=st.sampled_from([1, 7, 100]),
)


@settings(max_examples=80)
@given(st.integers(0, 10**6), rules, st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_detections_are_inside_the_image_above_the_score_the_surest_first_and_at_most_so_many(seed, chosen, offset):
    found = select(*answers(seed), chosen, offset, SIZE)
    assert len(found.classes) <= chosen.most
    assert (found.xyxy >= 0).all() and (found.xyxy <= [SIZE[1], SIZE[0]] * 2).all()
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()
    assert (found.scores > chosen.score).all() and (np.diff(found.scores) <= 0).all()
    assert [one.dtype for one in found] == [np.float32, np.float32, np.int64]
    if chosen.suppress == "nms":
        for index in range(3):
            own = found.keep(found.classes == index).xyxy
            assert (np.triu(ious(own, own), 1) <= chosen.overlap + 1e-6).all()


def test_a_frame_of_the_image_is_taken_off():
    found = select(torch.tensor([[5.0, 4.0, 15.0, 24.0]]), torch.tensor([[0.9]]), Settings(), (4, 5), (40, 60))
    assert found.xyxy.tolist() == [[0, 0, 10, 20]]


def test_an_image_without_sure_answers_has_no_detections():
    boxes, probs = answers(1)
    found = select(boxes, probs * 0.01, Settings(), (0, 0), SIZE)
    assert found.xyxy.shape == (0, 4) and len(found.scores) == len(found.classes) == 0


def test_answers_that_are_no_numbers_are_no_detections():
    boxes, probs = answers(1)
    assert not len(select(boxes, torch.full_like(probs, torch.nan), Settings(), (0, 0), SIZE).scores)


def test_of_very_many_answers_the_surest_are_candidates():
    boxes, probs = answers(2, MOST_CANDIDATES, 2)
    _, scores, classes = candidates(boxes, probs, 0.0)
    assert len(scores) == MOST_CANDIDATES
    expected = probs.flatten().sort(descending=True).values[:MOST_CANDIDATES]
    torch.testing.assert_close(scores.sort(descending=True).values, expected)
    assert set(classes.tolist()) == {0, 1}


def test_a_position_may_find_two_classes():
    _, scores, classes = candidates(torch.zeros(1, 4), torch.tensor([[0.9, 0.1, 0.6]]), 0.5)
    assert classes.tolist() == [0, 2]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.6]))


def test_soft_suppression_lowers_the_score_of_what_overlaps_and_the_hard_one_drops_it():
    found = make_detections([[0, 0, 10, 10], [0, 0, 10, 8]], [0.9, 0.8], [0, 0])
    assert suppress(found, Settings()).scores.round(2).tolist() == [np.float32(0.9)]
    soft = suppress(found, replace(Settings(), suppress="soft_nms"))
    assert len(soft.scores) == 2 and 0.05 < soft.scores[1] < 0.8
