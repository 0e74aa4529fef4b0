"""A submission within a time limit: what does not fit is left out, said loudly, and a valid file is always there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.config import load as load_module
from pipeline.config.load import load
from pipeline.engine.chain import run_chain
from pipeline.errors import UserError
from pipeline.files import sha256_file
from pipeline.paths import ENSEMBLE
from tests.experiments import copy_configs, run_all, use_copy, write_ensemble, write_members
from tests.predicting_clock import Clock, moved_by_predictions
from tests.tiny import executed, run_of, run_paths, run_stages, write_competition, write_hidden

pytestmark = pytest.mark.slow

MEMBERS = {"TinyA": 0, "TinyB": 10, "TinyC": 5}
NUM_HIDDEN = 20  # in batches of two
FITTED = {"METHOD": "WEIGHTED", "WEIGHTS": "fitted"}
ENSEMBLES = {"TinyEns": {}, "TinyVote": {"METHOD": "MW"}, "TinyFit": FITTED}


def write_configs(folder: Path, competition: Path) -> None:
    """Three members, and ensembles of them by mean, votes and weights."""
    shared = {"DATASETS.DIRECTORY": str(competition), "DATASETS.SPLIT.BY": "slice", "SWEEP.ENABLE": False}
    shared |= {"SOLVER.PLAN": "constant", "DATALOADERS.TRAIN.BATCH_SIZE": 4}
    write_members(folder, shared, MEMBERS)
    datasets = {"COMPETITION": "demo", "DIRECTORY": str(competition)}
    for name, how in ENSEMBLES.items():
        write_ensemble(folder, name, MEMBERS, datasets, how)


@pytest.fixture(scope="module")
def trained(project, tmp_path_factory) -> Path:
    """A copy of the project's code whose configs and finished runs are the members' and the ensembles'."""
    folder = tmp_path_factory.mktemp("trained")
    write_configs(copy_configs(project, folder), write_competition(folder / "data"))
    run_all(folder, (*MEMBERS, *ENSEMBLES), "evaluate")
    return folder


@pytest.fixture(autouse=True)
def runs(trained, tmp_path, monkeypatch) -> None:
    """This test's own copy of the finished runs."""
    use_copy(monkeypatch, trained, tmp_path)


@pytest.fixture
def hidden(tmp_path) -> Path:
    return write_hidden(tmp_path / "hidden", [f"000009_{number:03d}" for number in range(NUM_HIDDEN)])


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return moved_by_predictions(monkeypatch)


def submitted(name: str, hidden: Path, clock: Clock, seconds: float, *overrides: str):
    """Runs `submit` with a limit of so many seconds; returns the rows by image, the origin and the lines of the log."""
    limit = f"SUBMIT.TIME_LIMIT_HOURS={seconds / 3600}"
    loaded, lines = load(name, (f"DATASETS.TEST_DIRECTORY={hidden}", limit, *overrides)), []
    run_chain(run_of(loaded, lines.append, clock), "submit")
    paths = run_paths(loaded.run)
    origin = json.loads(paths.submission(".json").read_text())
    return rows_of(paths.submission(".csv")), origin, lines


def rows_of(path: Path) -> dict[str, list[str]]:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    images = table["ImageID"].str.rpartition("_")[0]
    assert len(table) == NUM_HIDDEN * 12 and images.nunique() == NUM_HIDDEN
    return {image_id: rows["EncodedPixels"].tolist() for image_id, rows in table.groupby(images)}


def without_limit(name: str, hidden: Path, *overrides: str) -> dict[str, list[str]]:
    loaded = load(name, (f"DATASETS.TEST_DIRECTORY={hidden}", *overrides))
    run_stages(loaded, "submit")
    return rows_of(run_paths(loaded.run).submission(".csv"))


def order_of(name: str) -> list[str]:
    """The members, the best first, by what `evaluate` found."""
    found = json.loads((run_paths(name) / ENSEMBLE).read_text())
    scores = {member: own["score"]["mean"] for member, own in zip(MEMBERS, found["members"], strict=True)}
    return sorted(MEMBERS, key=lambda member: -scores[member])


def num_predicted(rows: dict[str, list[str]]) -> int:
    return sum(any(own) for own in rows.values())


@pytest.mark.parametrize("name", ["TinyA", "TinyEns", "TinyVote"])
def test_what_fits_is_the_submission_without_a_limit(hidden, name, clock):
    rows, origin, lines = submitted(name, hidden, clock, 3600)
    assert "shortened" not in origin and origin["time_limit"] == "1 h 0 min" and origin["local_score"] is not None
    assert "time limit: everything fits into 1 h 0 min" in lines
    assert rows == without_limit(name, hidden)
    assert not (run_paths(name).folder / "stream").exists()


def test_members_that_do_not_fit_are_left_out_the_best_one_first(hidden, clock):
    # A member takes 30 + 20 x 10 = 230 s, so that two fit into 600 s, and the third is not even half done by then.
    rows, origin, lines = submitted("TinyEns", hidden, clock, 600)
    best, second, last = order_of("TinyEns")
    assert origin["members"].split(", ") == sorted([best, second])
    assert origin["local_score"] is None and origin["local_scores"] == {}
    wanted = f"time limit of 10 min 0 s: 2 of 3 members are used; left out: {last} ("
    assert origin["shortened"].startswith(wanted)
    assert any(line.startswith(f"warning: {wanted}") for line in lines)
    assert clock.time_s < 600
    both = load_module.CONFIGS / "TinyBoth.yaml"
    try:
        kept = f"ENSEMBLE: {{MEMBERS: [{', '.join(sorted([best, second]))}]}}"
        data = yaml.safe_load((load_module.CONFIGS / "TinyEns.yaml").read_text())["DATASETS"]["DIRECTORY"]
        both.write_text(f"# Two. ./run.sh TinyBoth\nDATASETS: {{COMPETITION: demo, DIRECTORY: {data}}}\n{kept}\n")
        assert rows == without_limit("TinyBoth", hidden)
    finally:
        both.unlink()


def test_an_ensemble_with_time_for_one_member_submits_the_best_one(hidden, clock):
    rows, origin, _ = submitted("TinyVote", hidden, clock, 300)
    best = order_of("TinyVote")[0]
    assert origin["members"] == best
    assert rows == without_limit(best, hidden)


def test_weights_of_the_whole_ensemble_are_normalised_over_fewer_members(hidden, clock):
    found = json.loads((run_paths("TinyFit") / ENSEMBLE).read_text())
    assert found["fit"]["kind"] == "equal" and found["fewer"] == []  # four sequences would be needed to fit
    rows, origin, _ = submitted("TinyFit", hidden, clock, 600)
    assert "The weights are those of the whole ensemble, normalised over the members used" in origin["shortened"]
    assert num_predicted(rows) == NUM_HIDDEN


def test_weights_that_were_fitted_for_fewer_members_are_used_for_them(hidden, clock):
    path = run_paths("TinyFit") / ENSEMBLE
    found = json.loads(path.read_text())
    found["weights"] = [[0.5], [0.2], [0.3]]
    found["fewer"] = [{"members": [0, 2], "weights": [[1.0], [0.0]], "kind": "greedy"}]
    path.write_text(json.dumps(found))
    marker = run_paths("TinyFit").marker("evaluate")
    content = json.loads(marker.read_text())
    content["outputs"][ENSEMBLE] = sha256_file(path)
    marker.write_text(json.dumps(content))
    rows, origin, _ = submitted("TinyFit", hidden, clock, 600)
    assert origin["members"] == "TinyA, TinyC"
    assert "The weights were fitted for just the members used, on out-of-fold images (greedy)" in origin["shortened"]
    assert rows == without_limit("TinyA", hidden)  # whose weight is 1


def test_test_time_augmentation_is_dropped_first(hidden, clock):
    # Eight views of 20 images take 1,600 s. Without them, after some images with, 600 s are enough for all.
    rows, origin, _ = submitted("TinyA", hidden, clock, 600, "PREDICT.TTA=d4")
    assert num_predicted(rows) == NUM_HIDDEN and clock.time_s < 600
    assert "some images were predicted without test-time augmentation" in origin["shortened"]
    plain, turned = (without_limit("TinyA", hidden, f"PREDICT.TTA={tta}") for tta in ("none", "d4"))
    from_turned = [image_id for image_id, own in rows.items() if own == turned[image_id]]
    assert {image_id for image_id, own in rows.items() if own == plain[image_id]} | set(from_turned) == set(rows)
    assert from_turned and len(from_turned) < NUM_HIDDEN


def test_images_for_which_there_is_no_time_have_empty_rows(hidden, clock):
    # The start and two images take 50 s, the next ones 20 s a pair: eight until 110 s, and the next pair may be slower.
    rows, origin, lines = submitted("TinyA", hidden, clock, 130)
    assert num_predicted(rows) == 8 and clock.time_s == 110
    assert "12 of 20 images were not predicted and are empty" in origin["shortened"]
    assert any("12 of 20 images were not predicted" in line for line in lines if line.startswith("warning: "))


@pytest.mark.parametrize("name", ["TinyA", "TinyEns"])
def test_a_limit_that_is_over_at_once_leaves_a_valid_file_without_predictions(hidden, name, clock):
    clock.time_s = 100.0
    rows, origin, _ = submitted(name, hidden, clock, 50)
    assert num_predicted(rows) == 0 and "20 of 20 images were not predicted" in origin["shortened"]


def test_the_report_says_that_the_submission_is_not_of_the_whole_run(hidden, clock):
    loaded = load("TinyEns", (f"DATASETS.TEST_DIRECTORY={hidden}", "SUBMIT.TIME_LIMIT_HOURS=0.1"))
    run_chain(run_of(loaded, lambda line: None, clock), "report")
    page = (run_paths(loaded.run) / "report.html").read_text()
    assert "was shortened: time limit of 6 min 0 s: 1 of 3 members are used" in page


def test_the_same_limit_again_changes_nothing_and_none_predicts_all(hidden, clock):
    submitted("TinyEns", hidden, clock, 600)
    assert executed(submitted("TinyEns", hidden, clock, 600)[2]) == []
    rows, origin, lines = submitted("TinyEns", hidden, clock, 86400)
    assert executed(lines) == ["predict", "submit"] and "shortened" not in origin and num_predicted(rows) == NUM_HIDDEN


def test_the_submission_gets_the_name_that_the_competition_wants(hidden, clock, tmp_path):
    wanted = tmp_path / "working" / "submission.csv"
    rows, _, lines = submitted("TinyA", hidden, clock, 3600, f"SUBMIT.FILE={wanted}")
    assert rows_of(wanted) == rows
    assert any(line.startswith("checked: ") and "submission.csv, 20 images" in line for line in lines)
    wanted.unlink()
    assert executed(submitted("TinyA", hidden, clock, 3600, f"SUBMIT.FILE={wanted}")[2]) == ["submit"]
    assert wanted.is_file()
    with pytest.raises(UserError, match=r"SUBMIT.FILE: found .*submission.zip, expected the path of a .csv file"):
        submitted("TinyA", hidden, clock, 3600, f"SUBMIT.FILE={wanted.with_suffix('.zip')}")


def test_a_stage_that_the_limit_leaves_out_is_explained(hidden):
    from pipeline.commands.absent import why_absent

    loaded = load("TinyA", (f"DATASETS.TEST_DIRECTORY={hidden}", "SUBMIT.TIME_LIMIT_HOURS=1"))
    assert why_absent("predict", loaded) == "with a time limit, the stage submit makes the predictions"
    with pytest.raises(UserError, match=r"ENSEMBLE\.STREAM: true predicts image by image"):
        load("TinyEns", ("ENSEMBLE.STREAM=true", "SUBMIT.TIME_LIMIT_HOURS=1"))


def command(trained: Path, *arguments: str) -> list[str]:
    """The command line with the configs of this test, in a process of its own."""
    code = (
        "import sys; from pathlib import Path; from pipeline.config import load; from pipeline.__main__ import main; "
        f"load.CONFIGS = Path({str(trained / 'configs')!r}); sys.exit(main(sys.argv[1:]))"
    )
    return [sys.executable, "-c", code, *arguments]


def test_the_command_ends_with_a_valid_file_whatever_the_limit_is(trained, project, hidden, tmp_path):
    file = tmp_path / "submission.csv"
    options = ("TinyEns", "submit", "--test-dir", str(hidden), "--time-limit", "2s", f"SUBMIT.FILE={file}")
    ended = subprocess.run(command(trained, *options), cwd=project, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "warning: time limit of 2.0 s: 20 of 20 images were not predicted" in ended.stdout
    assert num_predicted(rows_of(file)) == 0
    wrong = subprocess.run(
        command(trained, "TinyA", "--time-limit", "8.5"), cwd=project, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert wrong.stderr == "--time-limit 8.5: expected a number and h, min or s, for example 8.5h\n"


def test_a_session_that_dies_while_it_predicts_has_a_submission(trained, project, hidden, tmp_path):
    file = tmp_path / "submission.csv"
    options = ("TinyEns", "submit", "--test-dir", str(hidden), "--time-limit", "8.5h", f"SUBMIT.FILE={file}")
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command(trained, *options), cwd=project, env=environment, text=True, stdout=subprocess.PIPE
    )
    until = time.monotonic() + 120
    while not file.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(rows_of(file)) == NUM_HIDDEN
    ended = subprocess.run(command(trained, *options), cwd=project, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "time limit: everything fits into 8 h 30 min" in ended.stdout
    assert num_predicted(rows_of(file)) == NUM_HIDDEN
