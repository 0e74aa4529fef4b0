"""The table with a row per setting: runs that differ in split and seed alone are one row, named as in their study."""

from __future__ import annotations

import csv
import json
import statistics

import pytest

from pipeline.__main__ import main
from pipeline.files import write_atomic
from pipeline.paths import STUDIES, Folders
from pipeline.report.runs_columns import RunsTable
from pipeline.report.runs_page import table_page
from pipeline.report.runs_table import runs_tables
from pipeline.report.runs_text import csv_text, markdown_text, terminal_text
from pipeline.stages import STAGES
from tests.report.small_run import metrics_of
from tests.report.test_page import Reader

MEANS = {(0, 0): 0.5, (0, 1): 0.6, (0, 2): 0.7, (1, 0): 0.9}  # by split and seed; split 1 has one run


def evaluated(new_run, *overrides: str, mean: float = 0.5, by: str = "slice", index: int = 0) -> str:
    loaded, folder = new_run("ExpAAB", *overrides)
    content = metrics_of(by, (mean,) * 4)
    content["split"]["index"] = index
    (folder / "metrics.json").write_text(json.dumps(content))
    return loaded.run


@pytest.fixture
def studied(new_run) -> dict[str, list[str]]:
    """The runs of two settings by name; the study's table calls the first "large steps"."""
    found: dict[str, list[str]] = {"large steps": [], "other": []}
    for (split, seed), mean in MEANS.items():
        own = (f"DATASETS.SPLIT_INDEX={split}", f"EXPERIMENT.SEED={seed}")
        found["large steps"].append(evaluated(new_run, "SOLVER.MAX_LR=0.01", *own, mean=mean, index=split))
        found["other"].append(evaluated(new_run, "SOLVER.POWER=2", *own, mean=0.55, index=split))
    head = "setting,runs,planned,score,gain,low,high,verdict,names"
    line = f"large steps,4,4,0.75,,,,,{' '.join(found['large steps'])}"
    write_atomic(Folders.from_environment().runs / STUDIES / "mine.csv", f"{head}\n{line}\n")
    return found


def table(**options) -> RunsTable:
    (found,) = runs_tables(Folders.from_environment(), STAGES, **options)
    return found


def column(own: RunsTable, key: str) -> tuple[float | None, ...]:
    return next(one.values for one in own.columns if one.key == key)


def test_a_setting_is_a_row_with_the_mean_over_splits_of_the_mean_over_seeds(studied):
    own = table().by_setting
    assert own.runs == ("large steps (mine)", "ExpAAB SOLVER.POWER=2.0")
    assert column(own, "dice") == pytest.approx(((0.6 + 0.9) / 2, 0.55))  # each split counts as much as the other
    assert column(own, "spread") == pytest.approx((statistics.stdev(MEANS.values()), 0), abs=1e-9)
    assert column(own, "runs") == (4, 4)
    assert own.texts["split"] == ("slice 0, 1",) * 2
    assert own.differing == ("SOLVER.MAX_LR=0.01", "SOLVER.POWER=2.0")
    assert own.classes[0].values == pytest.approx((0.75, 0.55))


def test_runs_are_named_by_setting_split_and_seed_and_sorted_by_score(studied):
    own = table()
    assert column(own, "dice") == tuple(sorted(column(own, "dice"), reverse=True))
    assert own.runs[0] == studied["large steps"][3]
    assert own.differing[0] == "large steps (mine), split 1, seed 0"
    rows = list(csv.DictReader(csv_text(own).splitlines()))
    assert [row["experiment"] for row in rows] == list(own.runs)
    assert {row["setting"] for row in rows} == {"large steps (mine)", ""}
    assert "SOLVER.MAX_LR=0.01" in rows[0]["settings"]  # for programs, the overrides stay


def test_runs_without_repeats_have_one_table(new_run):
    for power in (2, 3):
        evaluated(new_run, f"SOLVER.POWER={power}")
    assert table().by_setting is None


def test_another_kind_of_split_and_quick_runs_are_rows_of_their_own(new_run):
    evaluated(new_run, "EXPERIMENT.SEED=0")
    evaluated(new_run, "EXPERIMENT.SEED=1")
    evaluated(new_run, "DATASETS.SPLIT.BY=sequence", mean=0.4, by="sequence")
    quick = evaluated(new_run, "DATASETS.SPLIT_INDEX=-10", mean=0.9, index=-10)
    own = table().by_setting
    assert column(own, "runs") == (1, 2, 1) and own.runs[:2] == (quick, "ExpAAB")
    assert own.texts["split"] == ("slice -10", "slice 0", "sequence 0")
    assert "settings with different splits cannot be compared" in own.notes[0]


def test_two_settings_with_long_overrides_have_two_names(new_run):
    for decay in (0.01, 0.02):
        own = ("SOLVER.POWER=2", "SOLVER.OPTIMIZER.NAME=AdamW", f"SOLVER.OPTIMIZER.WEIGHT_DECAY={decay}")
        for seed in (0, 1):
            evaluated(new_run, *own, f"EXPERIMENT.SEED={seed}", mean=10 * decay)
    names = tuple(f"ExpAAB SOLVER.OPTIMIZER.WEIGHT_DECAY={decay}" for decay in (0.02, 0.01))
    assert table().by_setting.runs == names  # without what both have


def test_the_command_prints_settings_and_every_run_when_asked(studied, capsys):
    assert main(["table"]) == 0
    out = capsys.readouterr().out
    assert "large steps (mine)" in out and "mean over the runs of each setting (8 runs in all)" in out
    assert not any(run in out for runs in studied.values() for run in runs)
    assert main(["table", "--runs"]) == 0
    out = capsys.readouterr().out
    assert all(run in out for runs in studied.values() for run in runs) and "by setting" not in out


def test_page_and_markdown_have_settings_and_runs(studied):
    page, text = table_page(table()), markdown_text(table())
    reader = Reader()
    reader.feed(page)
    assert reader.faults == [] and reader.open_tags == []
    assert page.index("large steps (mine)") < page.index(studied["other"][0])
    assert (
        page.count('<table class="sorted settings">') == page.count('<table class="sorted">') == 1
        and "A study compares settings" in page
    )
    assert text.index("## Settings") < text.index("| large steps (mine) | 0.750 |") < text.index("## Runs")


@pytest.mark.parametrize("width", [50, 80, 200])
def test_long_names_of_settings_are_cut_rather_than_lines(studied, width):
    path = Folders.from_environment().runs / STUDIES / "mine.csv"
    path.write_text(path.read_text().replace("large steps", "a setting of which the name is far too long for a line"))
    assert max(map(len, terminal_text(table().by_setting, width).splitlines()[1:])) <= width
