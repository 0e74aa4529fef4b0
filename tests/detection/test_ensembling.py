"""Members that find boxes, combined; weights that are fitted only where they prove themselves."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.load import load, load_competition
from pipeline.detection import ensembling
from pipeline.detection.box_fusion import FusionFit, fuse, nms_members
from pipeline.detection.boxes import Detections, make_boxes, make_detections
from pipeline.detection.ensembling import Recipe, check_members, combine, evaluate_ensemble, for_members, found_recipe
from pipeline.detection.set_scores import own_score
from pipeline.errors import UserError
from pipeline.prediction.fewer_members import reduced
from tests.detection.box_sets import SIZE, random_image

NUM_SEQUENCES, FRAMES = 10, 3


def alike(one: Detections, other: Detections) -> bool:
    return all(a.shape == b.shape and (a == b).all() for a, b in zip(one, other, strict=True))


def test_members_are_fused_or_suppressed_and_one_alone_stays_as_it_is():
    rng = np.random.default_rng(1)
    members = [random_image(rng, 3, 6, 4)[1] for _ in range(3)]
    assert alike(combine(members, Recipe("WBF", 0.6, (0.5, 0.3, 0.2)), 1000), fuse(members, (0.5, 0.3, 0.2), 0.6))
    assert alike(combine(members, Recipe("NMS", 0.6), 1000), nms_members(members, (1, 1, 1), 0.6))
    assert len(combine(members, Recipe("WBF", 0.6), 5).scores) == 5
    assert alike(combine(members[:1], Recipe("WBF", 0.6), 1000), members[0])
    assert len(combine(members[:1], Recipe("WBF", 0.6), 2).scores) == 2


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.sets(st.integers(0, 2), min_size=1))
def test_the_weights_of_some_members_have_a_sum_of_one(weights, numbers):
    own = for_members(Recipe("WBF", 0.5, tuple(weights)), sorted(numbers)).weights
    assert sum(own) == pytest.approx(1) and len(own) == len(numbers)
    assert for_members(Recipe("WBF", 0.5), sorted(numbers)).weights is None


def test_an_ensemble_with_fewer_members_is_combined_with_their_weights():
    found = {"method": "WBF", "overlap": 0.6, "weights": [[0.5], [0.25], [0.25]], "members": ["a", "b", "c"]}
    assert found_recipe(None, reduced(found, [0, 2])[0]) == Recipe("WBF", 0.6, (2 / 3, 1 / 3))
    assert found_recipe(None, found | {"weights": None}) == Recipe("WBF", 0.6, None)


def test_members_of_other_classes_are_refused():
    check_members({"A": {"classes": ["x"]}, "B": {"classes": ["x"]}})
    with pytest.raises(UserError, match="members A and C have different classes; combine members"):
        check_members({"A": {"classes": ["x"]}, "B": {"classes": ["x"]}, "C": {"classes": ["y"]}})


class Truth:
    def __init__(self, boxes) -> None:
        self.boxes = boxes

    def read(self, row):
        return self.boxes[row.id]


def noisy(rng: np.random.Generator, boxes, share: float) -> Detections:
    """Returns detections whose sides are off by a share of the box, and some of nothing, as sure as the others."""
    sides = np.tile(boxes.xyxy[:, 2:] - boxes.xyxy[:, :2], 2)
    xyxy = boxes.xyxy + rng.normal(0, share, sides.shape) * sides
    return make_detections(np.clip(xyxy, 0, SIZE[1]), rng.uniform(0.5, 1, len(xyxy)), boxes.classes)


@pytest.fixture
def ensemble(configs, monkeypatch):
    """(method, noises of two members) to the evaluation, the content of ensemble.json, and what was logged."""

    def evaluate(how: str, noises, has_both: bool = True, score: str = "ap", suppress="none", num_scored=None):
        """Only the last class is scored, and in the first `num_scored` sequences only, where such a number is given."""
        text = f"BASE: base\nDATASETS: {{COMPETITION: bccd}}\nDECODE: {{SUPPRESS: {suppress}}}\n"
        text += "ENSEMBLE: {MEMBERS: [BccdR, BccdY], "
        (configs / "Both.yaml").write_text(f"{text}{how}}}\n")
        rng, boxes, members, rows = np.random.default_rng(4), {}, {}, []
        for sequence, frame in np.ndindex(NUM_SEQUENCES, FRAMES):
            name = f"{sequence}_{frame}"
            boxes[name] = random_image(rng, 3, 5, 0)[0]
            if num_scored is not None:
                boxes[name].classes[:] = 2 if sequence < num_scored else 0
            rows.append((name, str(sequence)))
            members[name] = [noisy(rng, boxes[name], share) for share in noises]
        held_out = {name: [0, 1] if has_both or index % 2 else [1] for index, name in enumerate(members)}
        monkeypatch.setattr(ensembling, "boxes_of", lambda run, folder: Truth(boxes))
        lines: list[str] = []
        loaded = load("Both", ())
        submitted = None if num_scored is None else loaded.competition.class_names[2:]
        loaded = replace(loaded, competition=replace(loaded.competition, score=score, submitted=submitted))
        run = SimpleNamespace(loaded=loaded, log=lines.append)

        def make_each(name, make):
            return lambda image_id: make(image_id, [members[image_id][number] for number in held_out[image_id]])

        table = pd.DataFrame(rows, columns=["id", "sequence"])
        return *evaluate_ensemble(run, None, table, held_out, make_each), lines

    return evaluate


@pytest.mark.parametrize("method", ["WBF", "NMS"])
def test_both_methods_are_measured_and_the_chosen_one_is_evaluated(ensemble, method):
    evaluation, content, lines = ensemble(f"METHOD: {method}", (0.06, 0.06))
    assert set(content["methods"]) == {"WBF", "NMS"} and content["method"] == method
    assert content["weights"] is None and "fit" not in content
    assert content["methods"]["WBF"]["gain"]["mean"] > 0  # errors of two members are averaged
    of_set, of_images = evaluation.metrics["scores"]["image_ap"]["mean"], evaluation.per_image["image_ap"].mean()
    assert content["methods"][method]["score"]["mean"] == pytest.approx(of_set, abs=1e-12)
    assert abs(of_images - of_set) > 1e-6  # images lack classes, so the mean over images first is another number
    assert "gain over one member" in lines[0]


def test_fitted_weights_are_adopted_where_one_member_is_far_better(ensemble):
    _, content, lines = ensemble("METHOD: WBF, WEIGHTS: fitted", (0.02, 0.2))
    assert content["fit"]["kind"] == "member" and "adopted" in lines[0]
    (first,), (second,) = content["weights"]
    assert first > 2 * second and first + second == pytest.approx(1)
    assert content["fit"]["gains"]["member"]["low"] > 0


def test_fitted_weights_are_not_adopted_where_members_are_alike(ensemble):
    _, content, lines = ensemble("METHOD: WBF, WEIGHTS: fitted", (0.08, 0.08))
    assert content["fit"]["kind"] == "equal" or content["fit"]["gains"]["member"]["low"] > 0
    assert ("; members are weighted equally" in lines[0]) == (content["weights"] is None)


@pytest.mark.parametrize(("score", "suppress"), [("ap50", "none"), ("box_fbeta", "none"), ("box_fbeta", "fitted")])
def test_weights_are_fitted_for_the_competitions_score(ensemble, monkeypatch, score, suppress):
    measured = []

    def fit(members, measure):
        measured.append(measure({}))
        return FusionFit((1.0, 1.0), 0.55, 1.0, 1.0, 1)

    def measure_own(truth, found, competition, has_thresholds):
        return competition.score, has_thresholds, len(truth)

    monkeypatch.setattr(ensembling, "fit_fusion_weights", fit)
    monkeypatch.setattr(ensembling, "own_score", measure_own)
    *_, lines = ensemble("METHOD: WBF, WEIGHTS: fitted", (0.05, 0.05), score=score, suppress=suppress)
    assert len(measured) > 1 and {own[:2] for own in measured} == {(score, suppress == "fitted")}
    assert "AP of single images" in lines[0]  # by which they are adopted or not


def test_weights_are_equal_for_a_fold_if_the_others_have_no_box_of_a_scored_class(ensemble):
    _, content, _ = ensemble("METHOD: WBF, WEIGHTS: fitted", (0.02, 0.2), num_scored=1)
    assert content["weights"] is None and content["fit"]["kind"] == "equal"


def test_the_competitions_own_score_is_a_mean_over_the_scored_classes():
    truth = {"a": make_boxes([[0, 0, 10, 10], [50, 0, 60, 10]], [0, 1])}
    found = {"a": make_detections([[0, 0, 10, 6.2], [50, 0, 60, 10], [80, 0, 90, 9]], [0.9, 0.8, 0.1], [0, 1, 1])}
    bccd = load_competition("bccd")
    own = {name: own_score(truth, found, replace(bccd, score=name)) for name in ("ap", "ap50", "ap75", "box_fbeta")}
    assert own == pytest.approx({"ap": (0.3 + 1) / 2, "ap50": 1, "ap75": 0.5, "box_fbeta": (0.3 + 2 / 3) / 2}, abs=1e-6)
    best = own_score(truth, found, replace(bccd, score="box_fbeta"), has_thresholds=True)
    assert best == pytest.approx((0.3 + 1) / 2)


def test_images_that_one_member_was_trained_on_are_combined_without_it(ensemble):
    _, content, _ = ensemble("METHOD: WBF, WEIGHTS: [1, 3]", (0.05, 0.05), has_both=False)
    assert content["held_out"] == {"least": 1, "mean": 1.5, "most": 2}
    assert content["weights"] == [[0.25], [0.75]]
