"""The report's section on averaged weights: the decision, both scores, and the networks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.config.load import load
from pipeline.report.averaging import averaging_section

GAIN = {"mean": 0.02, "low": 0.005, "high": 0.035, "num_groups": 8}
EPOCHS = [{"name": "epoch 8", "valid_loss": 0.25}, {"name": "epoch 9", "valid_loss": 0.125}]
RUNS = [{"name": "ExpA", "score": 0.7, "is_used": True}, {"name": "ExpB", "score": None, "is_used": False}]
COMMON = {"score": "dice", "images": 24, "best": 0.7, "averaged": 0.72, "words": "not averaged: no EXPERIMENT fits"}


def section(**facts) -> str:
    record = SimpleNamespace(average=COMMON | facts, loaded=load("ExpBAA"))
    return str(averaging_section(record))


def test_a_mean_of_epochs_is_shown_with_both_scores_and_the_interval():
    page = section(method="swa", gain=GAIN, networks=EPOCHS, weights="mean of epochs 8, 9")
    for text in (
        "The run predicts with: mean of epochs 8, 9.",
        "the last epochs",
        "24 validation images of 8 sequences",
    ):
        assert text in page
    for cell in ("0.7000", "0.7200", "+0.0200 (+0.0050 to +0.0350)", "epoch 8", "0.2500", "validation loss"):
        assert f">{cell}<" in page


def test_a_soup_shows_which_runs_are_in_it_and_how_flattering_the_choice_was():
    page = section(method="greedy", gain=GAIN, networks=RUNS, weights="greedy mean of ExpA", in_sample=0.05)
    assert "on the images that chose, it is +0.0500" in page
    assert ">ExpB</th><td>–</td><td>no<" in page and ">ExpA</th><td>0.7000</td><td>yes<" in page


@pytest.mark.parametrize(
    ("gain", "text"),
    [
        (None, "<p>Not averaged: no EXPERIMENT fits.</p>"),
        (GAIN | {"low": None, "high": None}, "(no interval)"),
    ],
)
def test_what_could_not_be_proven_is_said(gain, text):
    assert text in section(method="best", gain=gain, networks=EPOCHS, weights="epoch 8, the best one")


def test_before_the_stage_there_is_no_section():
    assert averaging_section(SimpleNamespace(average={})) is None
