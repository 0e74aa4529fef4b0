"""The page of an ensemble shows its members and methods and asks for no training."""

from __future__ import annotations

import json

import pytest

from pipeline.config.load import load
from pipeline.report.page import write_page
from tests.report.small_run import start_run, write_evaluated, write_prepared
from tests.tiny import run_of

INTERVAL = {"mean": 0.71, "low": 0.65, "high": 0.77, "num_groups": 9}
NOT_HELD_OUT = {"score": None, "images": 0}
GAIN = {"mean": 0.031, "low": -0.002, "high": 0.06, "num_groups": 9}


@pytest.fixture
def ensemble():
    loaded = load("DemoEns")
    folder = start_run(loaded)
    write_prepared(folder)
    write_evaluated(folder)
    members = [
        {
            "name": name,
            "run_name": f"{name}-FPN",
            "split": {"by": "slice", "index": index},
            "scores": {"dice": 0.6, "iou": 0.5},
        }
        for index, name in enumerate(loaded.config.ensemble.members)
    ]
    (folder / "members.json").write_text(json.dumps(members))
    found = {
        "score": "dice",
        "images": 24,
        "sequences": 16,
        "held_out": {"least": 1, "mean": 2.0, "most": 3},
        "single": INTERVAL,
        "combined_images": 20,
        "methods": {
            "AP": {"score": INTERVAL, "gain": GAIN, "verdict": "inconclusive (detectable: 0.05)"},
            "MW": {"score": INTERVAL, "gain": GAIN, "verdict": "inconclusive (detectable: 0.05)"},
        },
        "method": "AP",
        "weights": [[0.5], [0.25], [0.25], [0.0], [0.0]],
        "members": [*({"score": INTERVAL, "images": 7} for _ in range(4)), NOT_HELD_OUT],
        "fit": {
            "kind": "soft",
            "gains": {"soft": GAIN},
            "verdicts": {"soft": "inconclusive (detectable: 0.04)"},
            "in_sample": {"soft": 0.062},
            "words": "weights fitted by soft",
        },
    }
    stores = [
        {"bytes": 4_000_000, "images": 40, "float32_bytes": 120_000_000, "agreement": 0.99999, "compared": 2}
        for _ in members
    ]
    (folder / "stores.json").write_text(json.dumps(stores))
    (folder / "ensemble.json").write_text(json.dumps(found))
    return loaded, folder


def test_members_methods_and_weights_are_shown(ensemble):
    loaded, _ = ensemble
    text = write_page(run_of(loaded)).read_text()
    for words in ("DemoAAB-FPN", "slice 2", "mean probability", "majority vote", "-0.002 to +0.060", "0.25"):
        assert words in text
    assert "24 images in 16 sequences" in text
    assert text.count("<td>inconclusive (detectable: 0.05)</td>") == 2
    assert "Gains are measured on the 20 images that several such members predict." in text
    assert "Better and worse are corrected for 2 methods (Holm)." in text
    assert text.count("<td>inconclusive (detectable: 0.04)</td>") == 1


def test_an_ensemble_that_was_evaluated_before_there_were_verdicts_is_shown_without(ensemble):
    loaded, folder = ensemble
    found = json.loads((folder / "ensemble.json").read_text())
    del found["combined_images"], found["fit"]["verdicts"]
    for own in found["methods"].values():
        del own["verdict"]
    (folder / "ensemble.json").write_text(json.dumps(found))
    text = write_page(run_of(loaded)).read_text()
    assert "-0.002 to +0.060" in text and "inconclusive" not in text


def test_nothing_of_a_training_is_missed(ensemble):
    loaded, _ = ensemble
    text = write_page(run_of(loaded)).read_text()
    for words in ("learning curves", "LR sweep", "Training is not finished", "best epoch", "tile grid", "The plan "):
        assert words not in text


def test_leaking_frames_are_a_matter_of_its_members_splits(ensemble):
    loaded, _ = ensemble
    text = write_page(run_of(loaded)).read_text()
    assert "near-duplicate pairs" in text
    assert "To measure by how much, train the members with <code>DATASETS.SPLIT.BY=sequence</code>." in text
    assert "./run.sh DemoEns DATASETS.SPLIT.BY" not in text


def test_before_its_members_have_predicted_the_page_says_what_to_type(ensemble):
    loaded, folder = ensemble
    (folder / "members.json").unlink()
    assert "./run.sh DemoEns predict" in write_page(run_of(loaded)).read_text()


def test_with_one_held_out_member_per_image_the_gain_is_said_to_be_unknown(ensemble):
    loaded, folder = ensemble
    found = json.loads((folder / "ensemble.json").read_text()) | {"held_out": {"least": 1, "mean": 1.0, "most": 1}}
    (folder / "ensemble.json").write_text(json.dumps(found))
    assert "the gain of combining members cannot be measured" in write_page(run_of(loaded)).read_text()


def test_a_fit_is_shown_with_its_gain_on_unseen_sequences(ensemble):
    loaded, folder = ensemble
    text = write_page(run_of(loaded)).read_text()
    for words in ("weights fitted by soft", "+0.0310", "+0.0620", "50 %", "convex, one weight per member"):
        assert words in text
    rule = {"class": "Car", "measure": "area", "least": 0.001}
    decoded = {"rules": [rule], "gains": {"Car": GAIN}, "in_sample": {"Car": 0.05}, "survived": 0.62, "words": ""}
    (folder / "decode.json").write_text(json.dumps(decoded))
    decoded["offsets"] = {"factors": {"Sky": 2.0}, "gains": {"Sky": GAIN}, "in_sample": {"Sky": 0.04}, "words": ""}
    decoded["offsets"]["survived"] = -0.37
    told = {"gains": {"objects": GAIN}, "in_sample": {"objects": 0.1}, "survived": 0.3, "words": ""}
    decoded["objects"] = told | {"seed": 0.6, "min_size": 40}
    (folder / "decode.json").write_text(json.dumps(decoded))
    text = write_page(run_of(loaded)).read_text()
    for words in ("Thresholds moved", "times 2", "Nothing of the gain in sample survives", "SEED 0.6, MIN_SIZE 40"):
        assert words in text
    assert "area below 0.001" in text
    assert "62 % of the gain in sample survives" in text


def test_stores_are_shown_with_their_size_and_agreement_and_streamed_members_have_none(ensemble):
    loaded, folder = ensemble
    text = write_page(run_of(loaded)).read_text()
    for words in ("3.8 MiB", "97.7 KiB", "30 times", "99.9990 % on 2 images"):
        assert words in text
    (folder / "stores.json").write_text("[]")
    assert "Probability stores" not in write_page(run_of(loaded)).read_text()


def test_one_sequence_gives_no_interval(ensemble):
    loaded, folder = ensemble
    found = json.loads((folder / "ensemble.json").read_text())
    found["single"] |= {"low": float("-inf"), "high": float("inf")}
    (folder / "ensemble.json").write_text(json.dumps(found))
    assert "unknown" in write_page(run_of(loaded)).read_text()
