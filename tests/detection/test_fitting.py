"""Scores below which boxes are left out: fitted and measured on other sequences, adopted only where they gain."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.config.load import load
from pipeline.detection import fitting
from pipeline.detection.boxes import make_boxes, make_detections
from pipeline.detection.evaluation import image_ap
from pipeline.detection.fitting import above, decoder, fit_decoding, origin_of

CLASSES = ("RBC", "WBC", "Platelets")


def run_of(lines: list[str]) -> SimpleNamespace:
    return SimpleNamespace(loaded=load("BccdR"), log=lines.append)


def test_boxes_below_the_least_score_of_their_class_are_left_out():
    found = make_detections([[0, 0, 1, 1]] * 4, [0.9, 0.5, 0.5, 0.2], [0, 0, 1, 1])
    assert above(found, np.array([0.6, 0.5, 0.0])).scores.tolist() == pytest.approx([0.9, 0.5])
    assert len(above(found, np.zeros(3)).scores) == 4


def test_the_decoder_leaves_out_what_the_rules_say_of_one_run_and_of_an_ensemble():
    found = make_detections([[0, 0, 10, 10], [0, 0, 20, 20]], [0.9, 0.3], [0, 1])
    rules = {"rules": [{"class": "WBC", "measure": "score", "least": 0.5}]}
    run = run_of([])
    assert decoder(run, None, {})([found]).classes.tolist() == [0, 1]
    assert decoder(run, None, rules)([found]).classes.tolist() == [0]
    both = decoder(run, {"method": "WBF", "overlap": 0.5, "weights": None}, rules)([found, found])
    assert both.classes.tolist() == [0] and both.scores.tolist() == pytest.approx([0.9])
    assert decoder(run, None, rules)([make_detections([], [], [])]).xyxy.shape == (0, 4)


def test_the_origin_of_a_submission_says_what_is_left_out():
    assert origin_of({}) == {}
    assert origin_of({"rules": []}) == {"decoding": "no box was dropped: no threshold improved the score"}
    rules = [{"class": "WBC", "measure": "score", "least": 0.5}]
    assert origin_of({"rules": rules}) == {"decoding": "dropped: WBC below 0.50"}


class Truth:
    def __init__(self, boxes) -> None:
        self.boxes = boxes

    def read(self, row):
        return self.boxes[row.id]


def test_the_facts_of_a_fit_are_of_each_class_and_a_rule_is_one_whose_gain_is_sure(monkeypatch):
    rng, boxes, found, rows = np.random.default_rng(3), {}, {}, []
    for sequence, frame in np.ndindex(8, 2):
        name = f"{sequence}_{frame}"
        xyxy = np.array([[10, 10, 40, 40], [60, 60, 90, 90]], np.float32)
        boxes[name] = make_boxes(xyxy, [0, 1])
        others = xyxy + 100 + rng.uniform(0, 50, (2, 1)).astype(np.float32)
        found[name] = make_detections([*xyxy, *others], [0.8, 0.7, 0.3, 0.2], [0, 1, 0, 1])
        rows.append((name, str(sequence)))
    monkeypatch.setattr(fitting, "boxes_of", lambda run, folder: Truth(boxes))
    lines: list[str] = []
    table = pd.DataFrame(rows, columns=["id", "sequence"])
    held_out = {name: [0] for name in boxes}
    facts = fit_decoding(
        run_of(lines),
        None,
        table,
        held_out,
        None,
        lambda name, make: lambda image_id: make(image_id, [found[image_id]]),
    )
    assert set(facts["gains"]) == set(facts["in_sample"]) == {"RBC", "WBC"}
    assert facts["rules"] == [] and facts["survived"] is None  # what is less sure than all hits costs no AP
    assert lines == [
        "Dropping boxes below a score threshold improves the AP of single images on unseen sequences for no class"
    ]


def squares(rng: np.random.Generator, number: int) -> np.ndarray:
    """Returns boxes, many of which overlap."""
    corners = rng.uniform(0, 25, (number, 2))
    return np.concatenate([corners, corners + 30], 1)


def test_leaving_out_boxes_never_raises_the_ap_of_a_class_that_an_image_has():
    rng = np.random.default_rng(6)
    for _ in range(50):
        truth = make_boxes(squares(rng, 3), rng.integers(0, 2, 3))
        found = make_detections(squares(rng, 9), rng.random(9), rng.integers(0, 2, 9))
        for least in (0.2, 0.5, 0.8):
            change = image_ap(truth, above(found, np.full(3, least)), 3) - image_ap(truth, found, 3)
            assert (np.nan_to_num(change) <= 1e-12).all()
