"""Runs side by side."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.paths import Folders
from pipeline.report.compare import Comparison, compare_runs, paired_contrast
from pipeline.report.folders import run_folder
from pipeline.report.plots import draw_comparison, draw_run_curves
from tests.report.small_run import make_history, mark_stages, write_csv, write_evaluated


def compare(names: Sequence[str]) -> Comparison:
    return compare_runs(names, Folders.from_environment().runs)


def folder_of(name: str) -> Path:
    return run_folder(name, Folders.from_environment().runs)


@pytest.fixture
def two_runs(new_run):
    first, first_folder = new_run("ExpAAB")
    second, second_folder = new_run("ExpAAB", "SOLVER.POWER=2", "RUNTIME.DEVICE=cpu")
    write_evaluated(first_folder)
    write_evaluated(second_folder, dice=(0.95, 0.6, 0.95, 0.9))
    for folder in (first_folder, second_folder):
        write_csv(folder / "history.csv", *make_history())
    mark_stages(first_folder, train=90, evaluate=30)
    return first.run, second.run


def test_only_settings_that_differ_and_matter_are_shown(two_runs):
    assert compare(two_runs).settings == {"SOLVER.POWER": ("0.9", "2.0")}


def test_scores_stand_in_the_order_of_the_runs(two_runs):
    comparison = compare(two_runs)
    assert comparison.scores["Dice"] == (pytest.approx(0.7625), pytest.approx(0.85))
    assert comparison.class_scores["Person"] == (0.4, 0.6)
    assert comparison.scores["minutes"] == (2.0, None)


def test_a_gain_comes_with_its_interval(two_runs):
    gain = compare(two_runs).gains[1]
    assert gain.mean == pytest.approx(0.0875)
    assert gain.low <= gain.mean <= gain.high
    assert gain.num_groups == 6


def test_each_gain_has_a_verdict_that_is_corrected_for_the_number_of_runs(new_run):
    names = []
    for number, power in enumerate((1, 2, 3)):
        loaded, folder = new_run("ExpAAB", f"SOLVER.POWER={power}")
        write_evaluated(folder, dice=[0.5 + 0.1 * number] * 4)
        names.append(loaded.run)
    comparison = compare(names)
    assert comparison.verdicts == ("", "better with this seed", "better with this seed")
    assert "verdict" in str(comparison) and "A study with three or more seeds" in str(comparison)
    assert "Better and worse are corrected for 2 comparisons (Holm)." in str(comparison).splitlines()


def test_an_ensemble_has_the_settings_of_combining_alone(two_runs, new_run):
    members = ["ExpAAB", "ExpAAB SOLVER.POWER=2 EXPERIMENT.SEED=1 DATASETS.AUGMENTATION.TILE.ENABLE=false"]
    loaded, folder = new_run("EnsAAA", f"ENSEMBLE.MEMBERS={json.dumps(members)}")
    write_evaluated(folder)
    comparison = compare([*two_runs, loaded.run])
    assert set(comparison.settings) == {"SOLVER.POWER", "ENSEMBLE.MEMBERS"}
    assert comparison.settings["SOLVER.POWER"] == ("0.9", "2.0", "(members')")
    assert max(map(len, str(comparison).splitlines())) < 200


def test_the_own_score_of_the_competition_is_compared(two_runs):
    for name, dice in zip(two_runs, (0.5, 0.6), strict=True):
        write_evaluated(folder_of(name), dice=[dice] * 4, score="miou")
    comparison = compare(two_runs)
    assert (comparison.score, comparison.label, comparison.gain_label) == ("miou", "mIoU", "IoU")
    assert next(iter(comparison.scores.items())) == ("mIoU", (pytest.approx(0.3), pytest.approx(0.4)))
    assert comparison.scores["mIoU of the majority class"] == (0.05, 0.05)
    text = str(comparison)
    for words in ("gain in IoU, 95 %", "mIoU Person", "mIoU has no value per image; the gains are in IoU."):
        assert words in text


def test_runs_of_competitions_with_different_scores_are_compared_by_that_of_the_first(two_runs):
    write_evaluated(folder_of(two_runs[1]), score="miou")
    comparison = compare(two_runs)
    assert comparison.scores["Dice"] == (pytest.approx(0.7625), pytest.approx(0.7625))
    assert f"the competition of {two_runs[1]} is scored by mIoU; compared here: Dice" in comparison.notes


def test_a_steady_gain_is_sure_and_a_noisy_one_is_not():
    first = {f"p{index}": (f"s{index // 2}", 0.5) for index in range(40)}
    steady = {key: (sequence, dice + 0.01) for key, (sequence, dice) in first.items()}
    noisy = {
        key: (sequence, dice + (0.2 if int(sequence[1:]) % 2 else -0.19)) for key, (sequence, dice) in first.items()
    }
    assert paired_contrast(first, steady).interval.low > 0
    assert paired_contrast(first, noisy).interval.low < 0 < paired_contrast(first, noisy).interval.high


def test_frames_of_one_sequence_have_a_gain_without_interval():
    first = {f"p{index}": ("only", 0.5) for index in range(20)}
    better = dict.fromkeys(first, ("only", 0.6))
    assert str(paired_contrast(first, better).interval) == "+0.1000 (no interval)"


def test_images_without_a_sequence_are_drawn_one_by_one():
    first = {f"p{index}": ("", 0.5) for index in range(20)}
    assert paired_contrast(first, first).interval.num_groups == 20


def test_runs_without_common_images_have_no_gain():
    first = {f"p{index}": ("s", 0.5) for index in range(20)}
    assert paired_contrast(first, {f"q{index}": ("s", 0.5) for index in range(20)}) is None


def test_the_text_names_runs_settings_and_scores(two_runs):
    text = str(compare(two_runs))
    for word in (*two_runs, "SOLVER.POWER", "0.762", "0.850", "+0.08", "Dice Person"):
        assert word in text


def test_runs_that_were_only_started_are_compared_too(new_run):
    runs = [new_run("ExpAAB")[0].run, new_run("ExpAAC")[0].run]
    comparison = compare(runs)
    assert comparison.score is None
    assert "DATASETS.AUGMENTATION.HORIZONTAL_FLIP.ENABLE" in str(comparison)
    for png in (draw_comparison(comparison), draw_run_curves(comparison, Folders.from_environment().runs)):
        Image.open(io.BytesIO(png)).verify()


def test_an_unknown_run_is_refused_with_the_nearest(two_runs):
    with pytest.raises(UserError, match=r"there is no run 'ExpAAAB'.*did you mean ExpAAB"):
        compare(["ExpAAAB", "ExpAAB"])


def test_runs_are_drawn(two_runs):
    comparison = compare(two_runs)
    for png in (draw_comparison(comparison), draw_run_curves(comparison, Folders.from_environment().runs)):
        with Image.open(io.BytesIO(png)) as image:
            assert len(image.convert("RGB").getcolors(1 << 20)) > 20


def test_runs_that_were_never_evaluated_are_named_with_the_command_and_leave_no_empty_lines(new_run):
    first, _ = new_run("ExpAAB")
    second, folder = new_run("ExpAAB", "SOLVER.POWER=2")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(
        f"# Resolved values of ExpAAB.\n# Overridden on the command line: SOLVER.POWER\n{text}"
    )
    text = str(compare((first.run, second.run)))
    assert text.endswith("has no scores yet; type: ./run.sh ExpAAB SOLVER.POWER=2.0 evaluate")
    assert text.count("has no scores yet") == 2
    assert not [line for line in text.splitlines() if line.strip() in ("Dice", "IoU", "epoch kept")]


@pytest.mark.parametrize("content", ["", "{", "[1]", "nonsense", None])
def test_a_folder_without_a_readable_config_is_named(new_run, content):
    first, _ = new_run("ExpAAB")
    second, folder = new_run("ExpAAB", "SOLVER.POWER=2")
    path = folder / "config.yaml"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=r"config.yaml is (damaged|missing); .* with its settings writes it again"):
        compare((first.run, second.run))


@pytest.mark.parametrize("content", [b'garbage,,,\n"', b"id,sequence,dice\na,s,zz\n", b"\xff\xfe\x00"])
def test_damaged_scores_of_images_are_named_with_the_command(two_runs, content):
    path = folder_of(two_runs[1]) / "per_image.csv"
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"per_image.csv is damaged or older than this program; type: ./run.sh .* evaluate --force"
    ):
        compare(two_runs)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"dice": {"mean": 0.5, "classes": {}}}', '{"score": "dice", "scores": {"dice": {"mean": "x"}}}'],
)
def test_damaged_metrics_are_named_and_as_good_as_none(two_runs, content):
    (folder_of(two_runs[1]) / "metrics.json").write_text(content)
    comparison = compare(two_runs)
    assert comparison.scores["Dice"][1] is None
    assert f"{two_runs[1]} has damaged metrics.json; to write it again, type: " in str(comparison)
