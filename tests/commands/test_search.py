"""Studies that search: what Optuna proposes is trained, continued, pruned, and judged again with fresh seeds."""

from __future__ import annotations

import csv
import importlib.util
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from pipeline.__main__ import main
from pipeline.commands import search as search_module
from pipeline.commands.proposals import import_optuna
from pipeline.config.study import SEED, SPLIT
from pipeline.errors import UserError
from pipeline.paths import BEST, STUDIES, Folders
from pipeline.report import search as report
from pipeline.report.read import read_columns
from tests.tiny import overrides

pytestmark = pytest.mark.usefixtures("without_drawing")
needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="needs the optional package optuna; ./run.sh test installs it"
)
LR = "SOLVER.MAX_LR: {LOW: 1e-5, HIGH: 0.1, LOG: true}"
ALL_LR = f"  SPACE: {{{LR}}}"


def text_of(data: Path, *lines: str, changes: tuple[str, ...] = ()) -> str:
    """Returns a study that searches on the tests' small competition; `lines` are those of SEARCH."""
    words = overrides(data, "SOLVER.NUM_EPOCHS=1", "SWEEP.ENABLE=false", *changes)
    common = (f"  - '{word}'" for word in words if not word.startswith((f"{SPLIT}=", f"{SEED}=", "SOLVER.MAX_LR")))
    return "\n".join(["BASE: demo", "SET:", *common, "SEARCH:", *lines]) + "\n"


@pytest.fixture
def write_search(configs, workshop):
    """Writes a study that searches."""

    def write(*lines: str, changes: tuple[str, ...] = ()) -> None:
        (configs / "studies" / "mine.yaml").write_text(text_of(workshop.data, *lines, changes=changes))

    return write


@pytest.fixture
def trials_only(monkeypatch):
    """The winner and the reference are not trained again, which takes longer than what some tests are about."""
    monkeypatch.setattr(search_module, "run_many", lambda *arguments, **keywords: [])


def runs() -> Path:
    return Folders.from_environment().runs


def rows_of(pattern: str) -> list[dict[str, str]]:
    (path,) = (runs() / STUDIES).glob(pattern)
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def trials() -> list[dict[str, str]]:
    return rows_of("mine_*_trials.csv")


def trained_runs() -> set[str]:
    return {path.parent.name for path in runs().glob("demo*/best.ckpt")}


@needs_optuna
def test_the_best_of_a_search_and_the_reference_are_trained_again_with_seeds_that_the_search_has_not_seen(
    write_search, capsys
):
    write_search(ALL_LR, "  TRIALS: 3", "  FRESH_SEEDS: 2", "SEEDS: [0]")
    assert main(["study", "mine"]) == 0
    first = capsys.readouterr().out
    assert "trial 2, seed 0: train     done in" in first and "winner, seed 1001: train     done in" in first
    found = trials()
    assert [row["state"] for row in found] == ["done"] * 3
    best = max(found, key=lambda row: float(row["score"]))
    reference, winner = rows_of("mine.csv")
    assert (reference["setting"], reference["runs"], reference["in_search"]) == ("reference", "2", "")
    assert (winner["setting"], winner["runs"], winner["in_search"]) == ("winner", "2", best["score"])
    assert float(winner["flattered"]) == pytest.approx(float(best["score"]) - float(winner["score"]))
    assert float(winner["gain"]) == pytest.approx(float(winner["score"]) - float(reference["score"]))
    assert winner["verdict"] == "one sequence: nothing can be concluded"
    assert f"winner: trial {best['trial']}, with Dice {float(best['score']):.3f} the best of the search" in first
    assert len(trained_runs()) == 3 + 2 * 2
    assert main(["study", "mine"]) == 0
    again = capsys.readouterr().out
    assert "done in" not in again and again[again.index("\n3 of 3 trials") :] == first[first.index("\n3 of 3 trials") :]
    (command,) = (line for line in again.splitlines() if line.startswith("./run.sh demo "))
    assert best["settings"] in command
    assert main([*shlex.split(command)[1:], "evaluate"]) == 0
    assert "train     up to date" in capsys.readouterr().out and len(trained_runs()) == 3 + 2 * 2


@needs_optuna
def test_a_stopped_search_continues_with_the_proposals_and_scores_of_one_that_was_not(
    write_search, trials_only, monkeypatch, tmp_path
):
    lines = (ALL_LR, "  TRIALS: 4")
    write_search(*lines)
    assert main(["study", "mine"]) == 0
    whole = trials()
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "other"))
    run_each = search_module.run_each

    def stopped_in_the_third(propose, note, last_stage, folders, workers, stop, cards):
        def propose_three():
            request = propose()
            if request is not None and request.label == "trial 2":
                stop.set_budget(0)
            return request

        run_each(propose_three, note, last_stage, folders, workers, stop, cards)

    monkeypatch.setattr(search_module, "run_each", stopped_in_the_third)
    assert main(["study", "mine"]) == 3
    assert [row["state"] for row in trials()] == ["done", "done", "running"]
    monkeypatch.setattr(search_module, "run_each", run_each)
    assert main(["study", "mine"]) == 0
    assert trials() == whole


@needs_optuna
@pytest.mark.slow
def test_a_search_whose_process_is_killed_goes_on_with_the_trial_that_it_was_in(project_copy, workshop):
    text = text_of(workshop.data, ALL_LR, "  TRIALS: 2", "  FRESH_SEEDS: 2", changes=("SOLVER.NUM_EPOCHS=5",))
    (project_copy / "configs" / "studies" / "mine.yaml").write_text(text)
    command = [sys.executable, "-u", "-m", "pipeline", "study", "mine"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": project_copy}
    with subprocess.Popen(command, **pipes) as process:
        for line in process.stdout:
            if "trial 1: epoch   2/" in line:
                process.send_signal(signal.SIGKILL)
                break
    (journal,) = (runs() / STUDIES).glob("*.journal")
    journal.write_bytes(journal.read_bytes() + b'{"op_code":6,"wor')  # as where the kill falls into writing
    before = trials()
    assert [row["state"] for row in before] == ["done", "running"]
    result = subprocess.run(command, **pipes, check=False)
    assert result.returncode == 0, result.stdout
    assert "trial 1: epoch   3/" in result.stdout and "trial 0: epoch" not in result.stdout
    assert [row["settings"] for row in trials()] == [row["settings"] for row in before]
    assert [row["state"] for row in trials()] == ["done", "done"]


@needs_optuna
def test_a_setting_that_is_proposed_again_is_not_trained_again(write_search, trials_only):
    write_search("  SPACE: {SOLVER.MAX_LR: [0.001, 0.003, 0.01, 0.03, 0.1]}", "  TRIALS: 4", "  FRESH_SEEDS: 2")
    assert main(["study", "mine"]) == 0
    found = trials()
    assert len({row["settings"] for row in found}) == 4
    assert int(found[-1]["trial"]) > 3  # in between, an earlier one was proposed
    assert len(trained_runs()) == 4


@needs_optuna
def test_a_pruned_trial_ends_early_and_its_command_trains_it_to_the_end(write_search, trials_only, capsys, monkeypatch):
    monkeypatch.setattr(report, "LEAST_TRIALS", 1)
    changes = ("SOLVER.NUM_EPOCHS=3", "SOLVER.ANN_EPOCHS=1")
    write_search(
        "  SPACE: {SOLVER.MAX_LR: {LOW: 1e-7, HIGH: 0.1, LOG: true}}",
        *("  TRIALS: 4", "  FRESH_SEEDS: 2", "  PRUNE: true"),
        changes=changes,
    )
    assert main(["study", "mine"]) == 0
    out = capsys.readouterr().out
    found = trials()
    pruned = [row for row in found if row["state"] == "pruned"]
    assert pruned and all(row["score"] == "" for row in pruned) and found[0]["state"] == "done"
    line = next(line for line in out.splitlines() if line.startswith(f"trial {pruned[0]['trial']}: pruned: Dice"))
    assert re.search(r"below 0\.\d{4}, the median of \d trials; saved at epoch [123], step 0", line)
    arguments = shlex.split(line.partition("type: ")[2])[1:]
    assert main([*arguments, "evaluate"]) == 0
    assert "epoch   4/4" in capsys.readouterr().out
    assert main(["study", "mine"]) == 0
    assert trials() == found and "done in" not in capsys.readouterr().out


@needs_optuna
def test_a_trial_that_ended_in_an_error_is_named_and_tried_again(write_search, trials_only, tmp_path, capsys):
    weights = tmp_path / "mine.safetensors"
    write_search(f"  SPACE: {{MODEL.ENCODER.WEIGHTS: ['null', '{weights}'], {LR}}}", "  TRIALS: 4", "  FRESH_SEEDS: 2")
    assert main(["study", "mine"]) == 2
    out = capsys.readouterr().out
    before = {row["settings"]: row["state"] for row in trials()}
    assert {state == "failed" for words, state in before.items() if str(weights) in words} == {True}
    assert {"done", "failed"} == set(before.values())
    assert "runs ended in an error" in out and "refused: " in out and str(weights) in out.rpartition("refused: ")[2]
    (model, *_) = (runs() / name / BEST for name in sorted(trained_runs()))
    network = torch.load(model, weights_only=True)["network"]
    encoder = {name[8:]: tensor.contiguous() for name, tensor in network.items() if name.startswith("encoder.")}
    save_file(encoder, weights)
    assert main(["study", "mine"]) == 0
    assert {row["settings"]: row["state"] for row in trials()} == dict.fromkeys(before, "done")
    assert main(["study", "mine"]) == 0
    assert "done in" not in capsys.readouterr().out.rpartition("of 4 trials")[2]


@needs_optuna
def test_a_search_of_which_the_first_trials_all_fail_ends(write_search, capsys):
    write_search(ALL_LR, "  TRIALS: 9", changes=("MODEL.ENCODER.WEIGHTS=/nowhere.safetensors",))
    assert main(["study", "mine"]) == 2
    out = capsys.readouterr().out
    assert "the first 3 trials ended in errors, so the search ends here" in out
    assert [row["state"] for row in trials()] == ["failed"] * 3
    assert "3 of 9 trials: 3 ended in an error" in out and out.count("refused: ") == 1


@needs_optuna
def test_another_space_is_another_search_and_more_trials_are_not(write_search, trials_only):
    write_search(ALL_LR, "  TRIALS: 1", "  FRESH_SEEDS: 2")
    assert main(["study", "mine"]) == 0
    (first,) = trials()
    write_search(ALL_LR, "  TRIALS: 2", "  FRESH_SEEDS: 2")
    assert main(["study", "mine"]) == 0
    assert trials()[0] == first and len(trials()) == 2
    write_search(ALL_LR.replace("0.1", "0.2"), "  TRIALS: 1", "  FRESH_SEEDS: 2")
    assert main(["study", "mine"]) == 0
    assert len(list((runs() / STUDIES).glob("mine_*_trials.csv"))) == 2


@needs_optuna
@pytest.mark.slow
def test_two_workers_train_two_trials_at_a_time(project_copy, workshop):
    text = text_of(workshop.data, ALL_LR, "  TRIALS: 3", "  FRESH_SEEDS: 2", "SPLITS: [0, 1]")
    (project_copy / "configs" / "studies" / "mine.yaml").write_text(text)
    command = [sys.executable, "-u", "-m", "pipeline", "study", "mine", "--workers", "2"]
    result = subprocess.run(command, cwd=project_copy, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [row["state"] for row in trials()] == ["done"] * 3
    assert [row["runs"] for row in rows_of("mine.csv")] == ["4", "4"]
    assert len(trained_runs()) == 3 * 2 + 2 * 4


def test_without_optuna_a_search_says_what_to_type_and_its_table_can_be_read(write_search, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    write_search(ALL_LR, "  TRIALS: 3")
    assert main(["study", "mine"]) == 2
    message = "a study with SEARCH needs the package optuna, which is not installed; type: "
    err = capsys.readouterr().err
    assert message in err and "-m pip install 'optuna>=5,<6'" in err
    assert main(["study", "mine", "--table"]) == 0
    assert "0 of 3 trials: none begun" in capsys.readouterr().out


def test_what_to_type_to_install_optuna_is_asked_for_only_where_it_is_missing(monkeypatch):
    there = SimpleNamespace(__version__="5.0.0", logging=SimpleNamespace(set_verbosity=lambda level: None, WARNING=30))
    monkeypatch.setitem(sys.modules, "optuna", there)
    monkeypatch.setattr("pipeline.commands.proposals.install_command", lambda *packages: pytest.fail("asked for"))
    assert import_optuna() is there


@needs_optuna
def test_the_table_of_a_search_needs_no_optuna(write_search, monkeypatch, capsys):
    write_search(ALL_LR, "  TRIALS: 2", "  FRESH_SEEDS: 2")
    assert main(["study", "mine"]) == 0
    trained = capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["study", "mine", "--table"]) == 0
    out = capsys.readouterr().out
    assert out[out.index("\n2 of 2") :] == trained[trained.index("\n2 of 2") :]


def test_only_is_refused_for_a_search(write_search, capsys):
    write_search(ALL_LR, "  TRIALS: 3")
    assert main(["study", "mine", "--only", "a"]) == 2
    assert "--only a: it does not apply to a search; leave it out" in capsys.readouterr().err


def columns(*scores: float) -> dict[str, list[str]]:
    """Returns a history with these scores after each epoch, and a score before training that counts nowhere."""
    return {
        "epoch": [str(epoch) for epoch in range(len(scores) + 1)],
        "valid_dice": ["0.99", *map(str, scores)],
    }


def test_a_floor_is_the_median_of_the_best_epochs_so_far():
    histories = [columns(0.1, 0.3, 0.2, 0.5), columns(0.2, 0.2, 0.2, 0.2), columns(0.4, 0.1)]
    histories += [columns(0.0, 0.0, 0.6, 0.6), columns(0.05, 0.5, 0.5, 0.5)]
    floors = report.floors_of(histories, "dice", num_epochs=4)
    assert floors.by_epoch == {1: 0.1, 2: 0.3, 3: 0.4}  # none at the end: nothing would be saved
    assert list(report.floors_of(histories, "dice", num_epochs=20).by_epoch) == list(range(5, 20))
    assert report.floors_of(histories[:4], "dice", num_epochs=4) is None


def test_pruning_without_a_score_per_epoch_is_refused():
    with pytest.raises(UserError, match="the trainings do not compute boundary F per epoch; set PRUNE: false"):
        report.floors_of([columns(0.1)] * 5, "boundary_f", num_epochs=4)


def test_trials_survive_their_file(tmp_path):
    found = [
        report.Trial(0, "done", 0.1 + 0.2, ("LOSS_FN.MIX=0.5 ce + 0.5 dice", "SOLVER.POWER=2")),
        report.Trial(3, "pruned", None, ("LOSS_FN.MIX=1 ce", "SOLVER.POWER=3")),
    ]
    (tmp_path / "trials.csv").write_text(report.write_trials(found))
    assert report.read_trials(tmp_path / "trials.csv") == found
    assert report.best_trial(found) == found[0] and read_columns(tmp_path / "absent.csv") is None
