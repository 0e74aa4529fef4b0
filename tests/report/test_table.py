"""The table of `./run.sh list`."""

from __future__ import annotations

import json

import pytest

from pipeline.config.load import names
from pipeline.paths import Folders
from pipeline.report.read import read_header
from pipeline.report.table import experiment_rows, experiment_table, read_state
from pipeline.stages import STAGES
from tests.report.small_run import mark_stages, metrics_of


@pytest.fixture
def configs(tmp_path):
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "base.yaml").write_text("# Every key.\n")
    (folder / "ExpA.yaml").write_text(
        "# Does it help?\n# ./run.sh ExpA\n# Published: validation Dice 0.843 (weakest).\nBASE: x\n"
    )
    (folder / "ExpB.yaml").write_text(
        "# Is a longer question, one that no terminal of eighty columns shows, cut?\nA: 1\n"
    )
    return folder


def test_every_config_of_the_project_has_a_line():
    lines = experiment_table(Folders.from_environment().runs, STAGES, width=120).splitlines()
    shown = [line.split()[0] for line in lines]
    assert set(names()) <= set(shown)


def test_questions_scores_and_states_are_shown(configs, tmp_path):
    folder = tmp_path / "runs" / "ExpA"
    (folder / ".stages").mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(metrics_of()))
    mark_stages(folder, prepare=1, train=2, evaluate=3)
    lines = experiment_table(width=100, configs=configs, runs=tmp_path / "runs", stages=STAGES).splitlines()
    assert lines[2].split() == ["ExpA", "0.762", "0.843", "evaluated", "Does", "it", "help?"]
    assert [line.split() for line in lines[-3:]] == [
        [word, "0.762", "0.843"] for word in ("minimum", "average", "maximum")
    ]


def test_columns_stand_below_each_other_and_lines_fit(configs, tmp_path):
    lines = experiment_table(width=80, configs=configs, runs=tmp_path, stages=STAGES).splitlines()
    assert max(map(len, lines)) <= 80
    start = lines[0].index("question")
    assert lines[2][start:].startswith("Does")
    assert lines[3].endswith("…")


def test_words_choose_lines(configs, tmp_path):
    table = experiment_table(tmp_path, STAGES, ["LONGER", "question"], width=80, configs=configs)
    assert "ExpB" in table
    assert "ExpA" not in table
    assert experiment_table(tmp_path, STAGES, ["zebra"], configs=configs) == "No experiment matches zebra."


def test_a_run_with_overrides_stands_below_its_config(new_run):
    loaded, folder = new_run("ExpAAB", "SOLVER.POWER=2")
    (folder / "metrics.json").write_text(json.dumps(metrics_of()))
    # Among all configs some have a published mIoU, so that each cell names its score.
    for words, score in (([], ["0.762", "Dice"]), (["ExpAAB"], ["0.762"])):
        lines = experiment_table(Folders.from_environment().runs, STAGES, words, width=100).splitlines()
        below = lines[[line.split()[0] for line in lines].index("ExpAAB") + 1]
        assert below.split() == [loaded.run.removeprefix("ExpAAB"), *score, "started", "SOLVER.POWER=2.0"]


def test_scores_of_two_competitions_have_no_mean(new_run):
    def average(*words: str) -> list[str]:
        lines = experiment_table(Folders.from_environment().runs, STAGES, words).splitlines()
        return next(line.split()[1:] for line in lines if line.startswith("average"))

    for name in ("DemoAAA", "DemoAAB", "CamVidAAA"):
        _, folder = new_run(name)
        (folder / "metrics.json").write_text(json.dumps(metrics_of()))
    assert average("demoaa") == ["0.762"]
    published = average("expaaa")
    assert average("aaa") != ["0.762", *published] and len(average("aaa")) == 1


def test_published_values_of_two_scores_have_no_mean(configs, tmp_path):
    (configs / "ExpC.yaml").write_text("# Does it help streets?\n# ./run.sh ExpC\n# Published: mIoU 0.505.\nBASE: x\n")
    table = experiment_table(configs=configs, runs=tmp_path, stages=STAGES)
    assert "0.843 Dice" in table and "0.505 mIoU" in table and "average" not in table
    table = experiment_table(tmp_path, STAGES, ["streets"], configs=configs)
    assert ["average", "0.505"] in [line.split() for line in table.splitlines()]


def test_a_training_under_way_shows_its_epoch(tmp_path):
    assert read_state(tmp_path, STAGES) == ""
    (tmp_path / ".stages").mkdir()
    mark_stages(tmp_path, prepare=1)
    assert read_state(tmp_path, STAGES) == "prepared"
    (tmp_path / "history.csv").write_text("epoch,phase,lr\n0,,\n1,flat,0.1\n2,flat,0.1\n")
    assert read_state(tmp_path, STAGES) == "epoch 2"
    mark_stages(tmp_path, train=1)
    assert read_state(tmp_path, STAGES) == "trained"


def test_broken_metrics_do_not_break_the_table(configs, tmp_path):
    (tmp_path / "runs" / "ExpA").mkdir(parents=True)
    (tmp_path / "runs" / "ExpA" / "metrics.json").write_text('{"dice":')
    assert experiment_rows(configs, tmp_path / "runs", STAGES)[0].scores[0] == (None, "")


def test_headers_are_read_from_comments_only(configs):
    assert read_header(configs / "ExpA.yaml").published == 0.843
    assert read_header(configs / "ExpB.yaml").published is None
    assert read_header(configs / "base.yaml").question == "Every key."


def test_without_any_score_there_is_no_summary(configs, tmp_path):
    assert experiment_table(tmp_path, STAGES, ["ExpB"], width=80, configs=configs).splitlines()[-1].startswith("ExpB")


def test_a_config_in_any_encoding_leaves_the_list_whole(configs, tmp_path):
    (configs / "ExpB.yaml").write_bytes("# Grün?\r\nA: 1\r\n".encode("latin-1"))
    (configs / "ExpC.yaml").write_bytes("# From Windows?\r\nA: 1\r\n".encode("utf-8-sig"))
    rows = {row.name: row.question for row in experiment_rows(configs, tmp_path, STAGES)}
    assert rows == {"ExpA": "Does it help?", "ExpB": "Gr\ufffdn?", "ExpC": "From Windows?"}


def test_the_list_needs_no_heavy_package(python_modules):
    loaded = python_modules("import pipeline.report.table")
    assert not loaded & {"torch", "numpy", "pandas", "matplotlib", "cv2", "yaml", "PIL"}


def test_the_report_never_imports_torch(python_modules):
    code = "import pipeline.report.page, pipeline.report.compare, pipeline.report.canvas"
    assert not python_modules(code) & {"torch", "pandas", "matplotlib"}
