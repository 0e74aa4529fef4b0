"""Some of an ensemble's members: their order, and their weights."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.config.load import load
from pipeline.prediction.fewer_members import member_order, reduced
from pipeline.segmentation.ensemble_weights import MemberSample, fit_greedy, of_members
from pipeline.segmentation.ensembling import weights_of_fewer
from tests.tiny import run_of

SCORES = [0.5, 0.7, None, 0.6]


def found(weights: list | None = None, **more: object) -> dict:
    members = [{"images": 3, "score": score if score is None else {"mean": score}} for score in SCORES]
    return {"method": "AP" if weights is None else "WEIGHTED", "weights": weights, "members": members} | more


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        (None, [1, 3, 0, 2]),  # by score; the one without a score last
        ([[0.25], [0.25], [0.25], [0.25]], [1, 3, 0, 2]),
        ([[0.1], [0.2], [0.4], [0.3]], [2, 3, 1, 0]),
        ([[0.0, 0.9], [0.0, 0.1], [0.5, 0.0], [0.5, 0.0]], [0, 1, 3, 2]),  # class 1 alone is scored
    ],
)
def test_the_best_member_is_the_one_of_the_highest_weight_then_score(weights, wanted):
    run = run_of(load("CamVidAAA", ("DATASETS.COMPETITION=hubmap_kidney", "LOSS_FN.MIX=1 ce")))
    assert run.loaded.competition.scored_indices == (1,)
    assert member_order(run, found(weights)) == wanted


def test_all_members_are_combined_as_before():
    whole = found([[0.1], [0.2], [0.4], [0.3]])
    assert reduced(whole, [0, 1, 2, 3]) == (whole, "")


def test_weights_that_were_not_fitted_for_the_members_left_are_normalised_and_that_is_said():
    left, words = reduced(found([[0.1], [0.2], [0.4], [0.3]]), [1, 3])
    assert np.allclose(left["weights"], [[0.4], [0.6]]) and "normalised" in words
    assert [own["score"]["mean"] for own in left["members"]] == [0.7, 0.6]


def test_weights_that_were_fitted_for_the_members_left_are_taken():
    fewer = [{"members": [1, 3], "weights": [[0.9], [0.1]], "kind": "greedy"}]
    left, words = reduced(found([[0.1], [0.2], [0.4], [0.3]], fewer=fewer), [1, 3])
    assert left["weights"] == [[0.9], [0.1]] and "members used, on out-of-fold images (greedy)" in words


def test_a_single_member_needs_no_weight():
    assert reduced(found([[0.1], [0.2], [0.4], [0.3]]), [2])[0]["weights"] == [[1.0]]
    assert reduced(found(), [2])[0]["weights"] is None


def test_weights_are_fitted_on_what_the_members_left_predict_alone():
    """Member 0 is always wrong, 1 always right, 2 right by a little: of 0 and 2, only 2 helps."""
    probs = np.array([[[0.9] * 4, [0.1] * 4], [[0.0] * 4, [1.0] * 4], [[0.3] * 4, [0.7] * 4]], np.float16)
    sample = MemberSample(
        *("a", "s", probs, np.ones(4, np.uint8), np.float64(1), np.zeros((2, 2), np.int64), np.array([0.0, 4.0])),
        *(np.array([0, 1, 2]), np.zeros((3, 2)), np.zeros((3, 2))),
    )
    left = of_members(sample, [0, 2])
    assert left.members.tolist() == [0, 1] and left.probs.shape == (2, 2, 4)
    weights = fit_greedy([left], 2)
    assert weights[1, 0] > weights[0, 0]
    assert of_members(sample, [3]) is None


def test_fewer_members_are_fitted_in_the_way_that_was_adopted_for_all():
    run = run_of(load("CamVidAAA", ("DATASETS.COMPETITION=hubmap_kidney", "LOSS_FN.MIX=1 ce")))
    probs = np.array([[[0.9] * 4, [0.1] * 4], [[0.4] * 4, [0.6] * 4], [[0.3] * 4, [0.7] * 4]], np.float16)
    sample = MemberSample(
        *("a", "s", probs, np.ones(4, np.uint8), np.float64(1), np.zeros((2, 2), np.int64), np.array([0.0, 4.0])),
        *(np.array([0, 1, 2]), np.zeros((3, 2)), np.zeros((3, 2))),
    )
    members = [{"score": {"mean": score}} for score in (0.6, 0.7, 0.5)]
    whole = {"weights": [[0.4], [0.5], [0.1]], "members": members, "fit": {"kind": "greedy"}}
    (fewer,) = weights_of_fewer(run, whole, [sample])
    assert fewer["members"] == [0, 1] and fewer["kind"] == "greedy"
    assert fewer["weights"][1] > fewer["weights"][0]
    assert weights_of_fewer(run, whole | {"fit": {"kind": "equal"}}, [sample]) == []
