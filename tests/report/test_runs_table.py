"""The table of `./run.sh table`: one per competition, every number from the files of its run, nothing guessed."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config.load import load_competition
from pipeline.paths import Folders
from pipeline.report.runs_table import Column, RunsTable, runs_tables
from pipeline.report.runs_text import SUMMARIES, csv_text, markdown_text, terminal_text
from pipeline.stages import STAGES
from pipeline.submission.log import LOG_COLUMNS
from tests.report.small_run import CLASSES, mark_stages, metrics_of

DICE = (0.9, 0.4, 0.95, 0.8)  # mean 0.7625
BETTER = (0.9, 0.6, 0.95, 0.9)  # mean 0.8375


def evaluate(folder: Path, dice=DICE, split_by="slice", score="dice", index=0, **checkpoint) -> None:
    """Gives a run its scores."""
    metrics = metrics_of(split_by, dice, score)
    metrics["split"]["index"] = index
    metrics["checkpoint"] |= checkpoint
    (folder / "metrics.json").write_text(json.dumps(metrics))


def tables(names=None, competition=None) -> list[RunsTable]:
    return runs_tables(Folders.from_environment(), STAGES, names, competition)


def column(table: RunsTable, heading: str) -> tuple[float | None, ...]:
    """The values of a column, in the order of the names of the runs."""
    values = next(one.values for one in table.columns if one.heading == heading)
    return tuple(value for _, value in sorted(zip(table.runs, values, strict=True), key=lambda pair: pair[0]))


def headings(table: RunsTable) -> list[str]:
    return [one.heading for one in table.columns]


@pytest.fixture
def two_runs(new_run) -> list[str]:
    """A run of ExpAAB as it stands, and one with another decay."""
    runs = [new_run("ExpAAB"), new_run("ExpAAB", "SOLVER.POWER=2")]
    for (_, folder), dice in zip(runs, (DICE, BETTER), strict=True):
        evaluate(folder, dice, parameters=13_000_000)
        mark_stages(folder, train=5400)
    return [loaded.run for loaded, _ in runs]


def test_every_run_is_a_row_with_minimum_average_and_maximum_below(two_runs):
    (table,) = tables()
    lines = [line.split() for line in terminal_text(table, 100).splitlines()]
    assert lines[0][0] == "aeroscapes:"
    assert lines[1] == [
        *("experiment", "Dice", "mIoU", "published", "Dice", "hours", "params", "M", "split"),
        *("question", "or", "settings"),
    ]
    changed, plain = lines[3:5]  # the best first
    assert plain[:7] == ["ExpAAB", "0.762", "0.562", "0.843", "1.50", "13.00", "slice"]
    assert changed[1:7] == ["0.838", "0.637", "1.50", "13.00", "slice", "0"] and changed[7] == "SOLVER.POWER=2.0"
    assert lines[6:9] == [
        ["minimum", "0.762", "0.562", "0.843", "1.50", "13.00"],
        ["average", "0.800", "0.600", "0.843", "1.50", "13.00"],
        ["maximum", "0.838", "0.637", "0.843", "1.50", "13.00"],
    ]


def test_the_score_of_each_class_is_shown_when_asked_for(two_runs):
    (table,) = tables()
    assert "Person" not in terminal_text(table, 100)
    lines = [line.split() for line in terminal_text(table, 100, with_classes=True).splitlines()]
    start = lines.index(["experiment", *CLASSES])
    assert lines[start + 3] == ["ExpAAB", "0.900", "0.400", "0.950", "0.800"]
    assert lines[start + 6] == ["average", "0.900", "0.500", "0.950", "0.850"]


def test_runs_of_two_competitions_are_never_in_one_table(two_runs, new_run):
    _, folder = new_run("CamVidAAA")
    evaluate(folder, (0.1, 0.1, 0.1, 0.1))
    aeroscapes, camvid = tables()
    assert (aeroscapes.competition, aeroscapes.runs) == ("aeroscapes", tuple(two_runs[::-1]))
    assert (camvid.competition, camvid.runs) == ("camvid", ("CamVidAAA",))
    assert camvid.columns[0].summary() == dict.fromkeys(SUMMARIES, pytest.approx(0.1))
    assert [table.competition for table in tables(competition="camvid")] == ["camvid"]
    assert [table.runs for table in tables(names=[two_runs[1]])] == [(two_runs[1],)]


def test_the_score_of_the_competition_comes_first_with_its_classes(new_run):
    _, folder = new_run("ExpC01")
    evaluate(folder, score="miou")
    (table,) = tables()
    assert load_competition(table.competition).score == "miou"
    assert headings(table)[:2] == ["mIoU", "Dice"] and table.label == "mIoU"
    assert [one.values[0] for one in table.classes] == [value - 0.2 for value in DICE]


def test_the_other_split_of_the_same_settings_stands_beside_each_run(new_run):
    runs = {}
    for overrides, by, index, dice in (
        ((), "slice", 0, DICE),
        (("DATASETS.SPLIT.BY=sequence",), "sequence", 0, (0.5, 0.5, 0.5, 0.5)),
        (("DATASETS.SPLIT.BY=sequence", "DATASETS.SPLIT_INDEX=3"), "sequence", 3, (0.4, 0.4, 0.4, 0.4)),
        (("SOLVER.POWER=2",), "slice", 0, BETTER),
    ):
        loaded, folder = new_run("ExpAAB", *overrides)
        evaluate(folder, dice, by, index=index)
        runs[overrides] = loaded.run
    (table,) = tables()
    scores = next(one.values for one in table.columns if one.heading == "other split")
    others = dict(zip(table.runs, zip(scores, table.texts["other split"], strict=True), strict=True))
    plain, by_sequence, third, other_settings = runs.values()
    assert others[plain] == (pytest.approx(0.5), "sequence 0")
    assert others[by_sequence] == others[third] == (pytest.approx(0.7625), "slice 0")
    assert others[other_settings] == (None, "")
    assert any("different splits (sequence, slice)" in note for note in table.notes)


def write_log(*rows: dict[str, str]) -> None:
    path = Folders.from_environment().submissions / "log.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS)
        writer.writeheader()
        writer.writerows(dict.fromkeys(LOG_COLUMNS, "") | row for row in rows)


def upload(public: str, sha256: str = "a" * 12, **changes: str) -> dict[str, str]:
    slug = load_competition("aeroscapes").kaggle_slug
    return {"competition": slug, "file": "ExpAAB.csv", "sha256": sha256, "public": public, "private": "", **changes}


def test_board_scores_are_those_of_the_submission_that_is_there_now(two_runs):
    origin = Folders.from_environment().submissions / "ExpAAB.json"
    write_log(upload("0.81", "b" * 12), upload("0.82", private="0.79"), upload("0.83", "c" * 12))
    assert column(tables()[0], "public") == (0.83, None), "without the submission, the last upload"
    origin.write_text(json.dumps({"sha256": "a" * 64}))
    assert (column(tables()[0], "public"), column(tables()[0], "private")) == ((0.82, None), (0.79, None))
    origin.write_text(json.dumps({"sha256": "d" * 64}))
    assert "public" not in headings(tables()[0]), "what was uploaded is of an earlier state of the run"
    origin.unlink()
    write_log(upload("0.81", competition="another-competition"), upload(""))
    assert "public" not in headings(tables()[0])


def test_an_ensemble_costs_what_its_members_cost_together(new_run):
    folders = {name: new_run(name)[1] for name in ("ExpBAA", "ExpBAB", "EnsAAA")}
    for name, hours in (("ExpBAA", 1), ("ExpBAB", 2)):
        evaluate(folders[name], sha256=name, parameters=12_000_000)
        mark_stages(folders[name], train=3600 * hours)
    evaluate(folders["EnsAAA"], BETTER, index=None)
    members = [{"name": name, "checkpoint_sha256": name} for name in ("ExpBAA", "ExpBAB")]
    (folders["EnsAAA"] / "members.json").write_text(json.dumps(members))
    (table,) = tables(["EnsAAA"])
    assert (column(table, "hours"), column(table, "params M")) == ((3.0,), (24.0,))
    assert table.texts["split"] == ("slice",)
    (folders["EnsAAA"] / "members.json").write_text(json.dumps([*members, {"checkpoint_sha256": "elsewhere"}]))
    assert not {"hours", "params M"} & set(headings(tables(["EnsAAA"])[0])), "a part of the sum is no sum"


def test_the_hours_of_a_training_that_was_interrupted_are_those_of_all_epochs(two_runs):
    folder = Folders.from_environment().run(two_runs[0]).folder
    rows = "".join(f"{epoch},1800.0,3.0\n" for epoch in range(1, 9))
    (folder / "timings.csv").write_text(f"epoch,seconds,samples_per_s\n{rows}")
    assert column(tables()[0], "hours") == (4.0, 1.5)


def test_the_losses_are_those_of_the_epoch_that_is_scored(two_runs):
    folder = Folders.from_environment().run(two_runs[0]).folder
    head = "epoch,phase,lr,train_loss,valid_loss,valid_loss_dice,is_best,epochs_since_best\n"
    rows = "6,flat,0.1,0.5,0.6,0.25,1,0\n7,flat,0.1,0.41,0.33,,1,0\n8,flat,0.1,0.3,0.9,0.5,0,1\n"
    (folder / "history.csv").write_text(head + rows)  # epoch 7 is scored
    (table,) = tables()
    assert column(table, "train loss") == (0.41, None) and column(table, "valid loss") == (0.33, None)
    assert "valid loss dice" not in headings(table), "no run has a value at that epoch"
    assert "valid loss" in terminal_text(table, 200) and "train loss" not in terminal_text(table, 200)


def test_the_csv_has_every_digit_and_a_line_per_run_alone(two_runs):
    (table,) = tables()
    head, *rows = csv.reader(csv_text(table).splitlines())
    assert [row[0] for row in rows] == two_runs[::-1]
    by_key = dict(zip(head, rows[0], strict=True))
    assert float(by_key["dice"]) == table.columns[0].values[0] and float(by_key["dice_Person"]) == 0.6
    assert float(by_key["iou"]) == pytest.approx(0.7375)
    assert (by_key["published_dice"], by_key["settings"], by_key["split"]) == ("", "SOLVER.POWER=2.0", "slice 0")


def test_settings_that_all_overridden_runs_of_a_config_share_are_left_out_for_people_only(new_run):
    for power in (2, 3):
        evaluate(new_run("ExpAAB", "SOLVER.MAX_LR=0.01", f"SOLVER.POWER={power}", "RUNTIME.DEVICE=cpu")[1])
    (table,) = tables()
    assert set(table.differing) == {"SOLVER.POWER=2.0", "SOLVER.POWER=3.0"}
    assert any(note.startswith("settings that all overridden runs") for note in table.notes)
    assert "SOLVER.MAX_LR=0.01 SOLVER.POWER=2.0" in csv_text(table) and "RUNTIME" not in csv_text(table)
    assert "MAX_LR" not in markdown_text(table)


def test_runs_without_a_score_are_named_with_their_state(new_run, two_runs):
    mark_stages(new_run("ExpAAC")[1], prepare=1)
    (new_run("ExpAAD")[1] / "metrics.json").write_text('{"dice":')
    new_run("ExpAAA", "DATASETS.SPLIT.BY=none", "SOLVER.FROM=ExpAAB")
    (new_run("CamVidAAA")[1] / "config.yaml").write_text("{")
    unknown, table = tables()
    (note,) = table.notes
    assert "ExpAAC (prepared)" in note and "ExpAAD (its metrics.json is damaged)" in note
    assert "(trained on all images)" in note and table.runs == tuple(two_runs[::-1])
    assert unknown.notes == ("without a score: CamVidAAA (its config.yaml is damaged)",)
    assert terminal_text(unknown, 80).startswith("unknown competition\nwithout a score")


def test_a_log_that_cannot_be_read_costs_the_board_scores_alone(two_runs):
    path = Folders.from_environment().submissions / "log.csv"
    path.parent.mkdir()
    path.write_text("my notes\n")
    (table,) = tables()
    assert table.runs == tuple(two_runs[::-1])
    assert "move it away to begin a new log" in table.notes[-1]


def test_quick_runs_are_named(new_run):
    evaluate(new_run("ExpAAB", "DATASETS.SPLIT_INDEX=-10")[1], index=-10)
    (table,) = tables()
    assert any(note.startswith("quick runs on a share of the images") for note in table.notes)


NUMBERS = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=3, max_size=3).map(tuple)


def made(values: list[tuple[float | None, ...]]) -> RunsTable:
    columns = tuple(Column(f"key_{number}", f"heading {number}", own) for number, own in enumerate(values))
    texts = {"split": ("slice 0",) * 3, "other split": ("",) * 3, "settings": ("a|b", "", "What is asked here?")}
    return RunsTable("camvid", "", "Dice", ("A", "B", "C"), texts, texts["settings"], columns, columns, ())


@given(st.lists(NUMBERS, min_size=1, max_size=9), st.integers(30, 200))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_fit_every_width_and_no_number_is_lost(values, width):
    text = terminal_text(made(values), width, with_classes=True)
    assert max(map(len, text.splitlines())) <= width
    for number in range(len(values)):
        assert text.count(f"heading {number}") == 2
    first = [line.split()[1:] for line in text.splitlines() if line.startswith("A ")]
    shown = [cell for line in first for cell in line if cell[0] in "01" and "." in cell]
    assert shown == 2 * [f"{own[0]:.3f}" for own in values if own[0] is not None]


@given(st.lists(NUMBERS, min_size=1, max_size=4))
def test_the_average_lies_between_minimum_and_maximum(values):
    for one in made(values).columns:
        low, mean, high = one.summary().values()
        if one.known:
            assert low <= mean + 1e-12 and mean <= high + 1e-12
            assert math.isclose(mean * len(one.known), math.fsum(one.known), abs_tol=1e-9)
        else:
            assert (low, mean, high) == (None, None, None)


def test_a_bar_in_a_cell_does_not_break_the_markdown():
    lines = [line for line in markdown_text(made([(0.5, None, 1.0)])).splitlines() if line.startswith("| A")]
    assert lines[0] == "| A | 0.500 | slice 0 | a\\|b |"


def test_the_table_needs_no_heavy_package(two_runs, python_modules):
    loaded = python_modules("import pipeline.__main__ as main; main.main(['table'])")
    assert not loaded & {"torch", "numpy", "pandas", "matplotlib", "cv2", "PIL"}
    files = {path.name for path in (Folders.from_environment().runs / "tables").iterdir()}
    assert files == {"aeroscapes.csv", "aeroscapes.md", "aeroscapes.html"}
