"""Scores below which boxes are left out: fitted and measured on other sequences, adopted only where they gain."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.config.competition import ScoreOptions
from pipeline.config.load import load
from pipeline.detection import fitting
from pipeline.detection.box_fbeta import best_threshold, box_fbeta, hits_by_image
from pipeline.detection.boxes import make_boxes, make_detections
from pipeline.detection.evaluation import image_ap
from pipeline.detection.fitting import above, decoder, fit_class, fit_decoding, origin_of
from pipeline.intervals import assign_folds
from tests.detection.box_sets import random_set

BY_F1 = {"score": "box_fbeta", "score_options": ScoreOptions(thresholds=(0.5,))}


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


@pytest.fixture
def fitted(monkeypatch):
    """(competition's changes, scores of false boxes) to the facts of a fit, what was logged, truth and detections."""

    def fit(changes: dict, false_scores: tuple[float, float], num_sequences: int = 8):
        rng, boxes, found, rows = np.random.default_rng(3), {}, {}, []
        for sequence, frame in np.ndindex(num_sequences, 2):
            name = f"{sequence}_{frame}"
            xyxy = np.array([[10, 10, 40, 40], [60, 60, 90, 90]], np.float32)
            boxes[name] = make_boxes(xyxy, [0, 1])
            others = xyxy + 100 + rng.uniform(0, 50, (2, 1)).astype(np.float32)
            scores = [*rng.uniform(0.6, 0.9, 2), *rng.uniform(*false_scores, 2)]
            found[name] = make_detections([*xyxy, *others], scores, [0, 1, 0, 1])
            rows.append((name, str(sequence)))
        monkeypatch.setattr(fitting, "boxes_of", lambda run, folder: Truth(boxes))
        lines: list[str] = []
        run = run_of(lines)
        run.loaded = replace(run.loaded, competition=replace(run.loaded.competition, **changes))
        held_out, table = {name: [0] for name in boxes}, pd.DataFrame(rows, columns=["id", "sequence"])

        def make_each(name, make):
            return lambda image_id: make(image_id, [found[image_id]])

        return fit_decoding(run, None, table, held_out, None, make_each), lines, boxes, found

    return fit


def test_thresholds_that_raise_the_fbeta_on_other_sequences_are_adopted(fitted):
    facts, lines, boxes, found = fitted(BY_F1, (0.1, 0.4))
    assert set(facts["gains"]) == set(facts["in_sample"]) == {"RBC", "WBC"}  # nothing is or was found of Platelets
    assert [rule["class"] for rule in facts["rules"]] == ["RBC", "WBC"]
    assert facts["score"]["before"] == pytest.approx(dict.fromkeys(("RBC", "WBC"), 2 / 3))
    assert 0.9 < facts["score"]["means"][1] < 1  # a fold whose least sure hit is below that of all others loses it
    assert all(0.4 < rule["least"] <= 0.9 for rule in facts["rules"])
    assert facts["gains"]["RBC"]["low"] > 0 and 0 < facts["survived"] <= 1
    assert facts["verdicts"] == {"RBC": "better", "WBC": "better"}
    parts = hits_by_image(boxes, found, 0, BY_F1["score_options"].thresholds)
    groups = np.array([int(name.partition("_")[0]) for name in boxes])
    assert facts["gains"]["RBC"] == vars(fit_class(parts, groups, BY_F1["score_options"], num_classes=2).gain)
    assert facts["gains"]["RBC"]["low"] < fit_class(parts, groups, BY_F1["score_options"]).gain.low
    (line,) = lines
    assert line.startswith(
        "Dropping boxes below a score threshold improves the F-beta of boxes on unseen sequences for"
    )
    assert "RBC, WBC: from 0.6667 to 0.9" in line
    kept = {name: decoder(run_of([]), None, facts)([one]) for name, one in found.items()}
    assert box_fbeta(boxes, kept, 3, BY_F1["score_options"])[:2].tolist() == [1, 1]


def test_thresholds_that_only_fit_chance_are_not_adopted(fitted):
    facts, lines, *_ = fitted(BY_F1, (0.6, 0.9))
    assert facts["rules"] == [] and facts["survived"] is None
    assert facts["score"]["after"] == facts["score"]["before"]
    assert max(facts["in_sample"].values()) > 0
    assert lines == [
        "Dropping boxes below a score threshold improves the F-beta of boxes on unseen sequences for no class"
    ]


def test_with_ap_no_threshold_is_fitted(fitted):
    facts, lines, *_ = fitted({}, (0.1, 0.4))
    assert facts["rules"] == [] and facts["gains"] == {}
    assert lines == [facts["words"]] == ["No score threshold was fitted: AP never gains from dropping boxes"]


def test_each_sequence_is_measured_with_the_threshold_of_the_others():
    truth, found = random_set(2, num_images=20, num_classes=1)
    groups, options = np.arange(20) // 2, ScoreOptions(beta=2.0, thresholds=(0.3, 0.6))
    own = fit_class(hits_by_image(truth, found, 0, options.thresholds), groups, options)
    folds, names, kept = assign_folds(groups, 5), list(truth), {}
    for name, fold in zip(names, folds, strict=True):
        others = [other for other, its in zip(names, folds, strict=True) if its != fold]
        parts = hits_by_image({other: truth[other] for other in others}, found, 0, options.thresholds)
        kept[name] = above(found[name], np.array([best_threshold(parts, options.beta)]))
    after, before = (float(box_fbeta(truth, of, 1, options)[0]) for of in (kept, found))
    assert (own.before, own.after) == pytest.approx((before, after))
    assert own.gain.mean == pytest.approx(after - before) and own.gain.num_groups == 10
    assert own.in_sample >= own.gain.mean


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
