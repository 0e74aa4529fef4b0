"""Runs side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.paths import Folders
from pipeline.report.compare import (
    Comparison,
    compare_runs,
    comparison_text,
    draw_comparison,
    draw_run_curves,
    paired_gain,
    run_folder,
)
from tests.report.small_run import make_history, mark_stages, write_csv, write_judged


def compared(names: Sequence[str]) -> Comparison:
    return compare_runs(names, Folders.from_environment().runs)


@pytest.fixture
def two_runs(new_run):
    first, first_folder = new_run("ExpAAB")
    second, second_folder = new_run("ExpAAB", "SOLVER.POWER=2", "RUNTIME.DEVICE=cpu")
    write_judged(first_folder)
    write_judged(second_folder, dice=(0.95, 0.6, 0.95, 0.9))
    for folder in (first_folder, second_folder):
        write_csv(folder / "history.csv", *make_history())
    mark_stages(first_folder, train=90, evaluate=30)
    return first.run, second.run


def test_only_settings_that_differ_and_matter_are_shown(two_runs):
    assert compared(two_runs).settings == {"SOLVER.POWER": ("0.9", "2.0")}


def test_scores_stand_in_the_order_of_the_runs(two_runs):
    comparison = compared(two_runs)
    assert comparison.scores["Dice"] == (pytest.approx(0.7625), pytest.approx(0.85))
    assert comparison.class_dice["Person"] == (0.4, 0.6)
    assert comparison.scores["minutes"] == (2.0, None)


def test_a_gain_comes_with_its_interval(two_runs):
    gain = compared(two_runs).gains[1]
    assert gain.mean == pytest.approx(0.0875)
    assert gain.low <= gain.mean <= gain.high
    assert gain.num_groups == 6


def test_a_steady_gain_is_sure_and_a_noisy_one_is_not():
    first = {f"p{index}": (f"s{index // 2}", 0.5) for index in range(40)}
    steady = {key: (sequence, dice + 0.01) for key, (sequence, dice) in first.items()}
    noisy = {
        key: (sequence, dice + (0.2 if int(sequence[1:]) % 2 else -0.19)) for key, (sequence, dice) in first.items()
    }
    assert paired_gain(first, steady).low > 0
    assert paired_gain(first, noisy).low < 0 < paired_gain(first, noisy).high


def test_frames_of_one_sequence_have_a_gain_without_interval():
    first = {f"p{index}": ("only", 0.5) for index in range(20)}
    better = dict.fromkeys(first, ("only", 0.6))
    assert str(paired_gain(first, better)) == "+0.1000 (no interval: one sequence)"


def test_images_without_a_sequence_are_drawn_one_by_one():
    first = {f"p{index}": ("", 0.5) for index in range(20)}
    assert paired_gain(first, first).num_groups == 20


def test_runs_without_common_images_have_no_gain():
    first = {f"p{index}": ("s", 0.5) for index in range(20)}
    assert paired_gain(first, {f"q{index}": ("s", 0.5) for index in range(20)}) is None


def test_the_text_names_runs_settings_and_scores(two_runs):
    text = comparison_text(compared(two_runs))
    assert text == str(compared(two_runs))
    for word in (*two_runs, "SOLVER.POWER", "0.762", "0.850", "+0.08", "Dice Person"):
        assert word in text


def test_runs_that_were_only_started_are_compared_too(new_run):
    runs = [new_run("ExpAAB")[0].run, new_run("ExpAAC")[0].run]
    comparison = compared(runs)
    assert comparison.scores["Dice"] == (None, None)
    assert "DATASETS.AUGMENTATION.HORIZONTAL_FLIP.ENABLE" in comparison_text(comparison)
    for png in (draw_comparison(comparison), draw_run_curves(runs, Folders.from_environment().runs)):
        Image.open(io.BytesIO(png)).verify()


def test_an_unknown_run_is_refused_with_the_nearest(two_runs):
    with pytest.raises(UserError, match=r"there is no run 'ExpAAAB'.*did you mean ExpAAB"):
        compared(["ExpAAAB", "ExpAAB"])


def test_runs_are_drawn(two_runs):
    comparison = compared(two_runs)
    for png in (draw_comparison(comparison), draw_run_curves(two_runs, Folders.from_environment().runs)):
        with Image.open(io.BytesIO(png)) as image:
            assert len(image.convert("RGB").getcolors(1 << 20)) > 20


def test_runs_that_were_never_evaluated_are_named_with_the_command_and_leave_no_empty_lines(new_run):
    first, _ = new_run("ExpAAB")
    second, folder = new_run("ExpAAB", "SOLVER.POWER=2")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(
        f"# Resolved values of ExpAAB.\n# Overridden on the command line: SOLVER.POWER\n{text}"
    )
    text = comparison_text(compared((first.run, second.run)))
    assert text.endswith("was not evaluated yet; type: ./run.sh ExpAAB SOLVER.POWER=2.0 evaluate")
    assert text.count("was not evaluated yet") == 2
    assert not [line for line in text.splitlines() if line.strip() in ("Dice", "IoU", "epoch kept")]


@pytest.mark.parametrize("content", ["", "{", "[1]", "nonsense", None])
def test_a_folder_without_a_readable_config_is_named(new_run, content):
    first, _ = new_run("ExpAAB")
    second, folder = new_run("ExpAAB", "SOLVER.POWER=2")
    path = folder / "config.yaml"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=r"config.yaml.* with its settings (writes it anew|makes one)"):
        compared((first.run, second.run))


@pytest.mark.parametrize("content", [b'garbage,,,\n"', b"id,sequence,dice\na,s,zz\n", b"\xff\xfe\x00"])
def test_damaged_scores_of_images_are_named_with_the_command(two_runs, content):
    path = run_folder(two_runs[1], Folders.from_environment().runs) / "per_image.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"per_image.csv is damaged; type: ./run.sh .* evaluate --force"):
        compared(two_runs)


@pytest.mark.parametrize("content", ["", "[]", '{"dice": 3}', '{"dice": {"mean": "x", "classes": []}}'])
def test_damaged_metrics_are_as_good_as_none(two_runs, content):
    (run_folder(two_runs[1], Folders.from_environment().runs) / "metrics.json").write_text(content)
    comparison = compared(two_runs)
    assert comparison.scores["Dice"][1] is None
    assert "was not evaluated yet" in comparison_text(comparison)
