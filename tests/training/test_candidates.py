"""The weights of epochs that may be averaged: which are kept, that they were validated, and that kills cost none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.load import load
from pipeline.config.schema import Config
from pipeline.errors import Stopped, UserError
from pipeline.paths import BEST, CANDIDATES, LAST, RunPaths
from pipeline.training import candidates as candidates_module
from pipeline.training.candidates import candidate_path, load_candidates, wanted_epochs
from pipeline.training.checkpoint import load_checkpoint, previous_of
from pipeline.training.learner import validated_weights
from pipeline.training.trainer import train
from tests.training.test_resume import train_until
from tests.training.toy import StopAt, history, make, results, run, script

SWA = ("AVERAGE.METHOD=swa", "AVERAGE.COUNT=2")
BEST_TWO = ("AVERAGE.METHOD=best", "AVERAGE.COUNT=2")
LOSSES = [9, 7, 8, 6.5, 6.5, 6.8]  # before training, then epochs 1 to 5; patience is not used up


def kept(paths: RunPaths) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((paths / CANDIDATES).iterdir())}


def epochs(paths: RunPaths) -> list[int]:
    return [int(name[6:10]) for name in kept(paths)]


def config(*changes: str) -> Config:
    return load("demo", changes).config


@given(values=st.lists(st.none() | st.integers(0, 6).map(float), min_size=1, max_size=9), count=st.integers(2, 4))
def test_the_best_epochs_are_no_worse_than_any_other_and_the_best_is_among_them(values, count):
    for monitor, sign in (("valid_loss", 1), ("valid_dice", -1)):
        settings = config("AVERAGE.METHOD=best", f"AVERAGE.COUNT={count}", f"SOLVER.MONITOR={monitor}")
        rows = [{monitor: value} for value in [0.0, *values]]
        found = wanted_epochs(settings, rows)
        ranks = {epoch: sign * (rows[epoch][monitor] or 0.0) for epoch in range(1, len(rows))}
        assert len(found) == min(count, len(ranks)) and list(found) == sorted(found)
        assert max(ranks[epoch] for epoch in found) <= min(
            (rank for epoch, rank in ranks.items() if epoch not in found), default=float("inf")
        )
        assert min(ranks, key=ranks.get) in found


def test_the_last_epochs_are_those_of_swa_and_a_network_before_training_counts_only_where_it_was_trained():
    rows = [{"valid_loss": value} for value in (0.1, 5.0, 4.0, 3.0)]
    assert wanted_epochs(config(*SWA), rows) == (2, 3)
    assert wanted_epochs(config(*SWA), rows[:2]) == (1,) and wanted_epochs(config(*SWA), rows[:1]) == ()
    assert wanted_epochs(config(*BEST_TWO), rows) == (2, 3)
    assert wanted_epochs(config(*BEST_TWO, "EXPERIMENT.LOAD_PREV=ExpBAA"), rows) == (0, 3)
    assert wanted_epochs(config(*SWA, "EXPERIMENT.LOAD_PREV=ExpBAA"), rows[:2]) == (1,)
    assert wanted_epochs(config(), rows) == ()


@pytest.mark.parametrize("changes", [SWA, (*SWA, "SOLVER.EMA_DECAY=0.9"), (*SWA, "SOLVER.OPTIMIZER.NAME=AdamW")])
def test_what_is_kept_is_what_was_validated(monkeypatch, changes):
    script(monkeypatch, [9, 8, 7, 6, 5, 4])  # each epoch is the best, so that best.ckpt is the last
    paths = run(changes=changes)
    assert epochs(paths) == [3, 4, 5], "the last two, and the one that epoch 4 wanted"
    best = load_checkpoint(paths / BEST)
    (last,) = load_candidates(paths, [5], best["state"]["key"])
    wanted = validated_weights(best)
    assert last.keys() == wanted.keys() and all(torch.equal(last[name], wanted[name]) for name in wanted)
    assert ("SOLVER.EMA_DECAY=0.9" in changes) != all(torch.equal(last[name], best["network"][name]) for name in last)


def test_the_best_epochs_stay_when_later_ones_are_worse(monkeypatch):
    script(monkeypatch, LOSSES)
    plan = make().plan[:1]
    long = [type(plan[0])(**{**vars(plan[0]), "epochs": 5, "patience": None})]
    paths = run(changes=BEST_TWO, plan=long)
    assert epochs(paths) == [3, 4]
    assert [float(row["valid_loss"]) for row in history(paths)][3:5] == [6.5, 6.5]


def test_without_averaging_nothing_is_kept():
    assert not (run() / CANDIDATES).exists()


@pytest.mark.parametrize("changes", [SWA, (*BEST_TWO, "SOLVER.EMA_DECAY=0.9")])
def test_a_training_that_is_stopped_everywhere_keeps_the_same_files(changes):
    paths = run("whole", changes=changes)
    for _ in range(100):
        try:
            stopped = run("stopped", stop=StopAt(2), changes=changes)
            break
        except Stopped:
            continue
    assert kept(stopped) == kept(paths) and results(stopped) == results(paths)


@pytest.mark.parametrize("epoch", [2, 4])
def test_a_kill_between_the_checkpoint_and_the_kept_weights_loses_nothing(monkeypatch, epoch):
    """Both before the file is written, and before another one is removed."""
    paths = run("whole", changes=SWA)
    save, unlink = candidates_module.save_checkpoint, Path.unlink

    def killed_before(path: Path, content: dict) -> None:
        if path.name == candidate_path(Path(), epoch).name:
            raise KeyboardInterrupt
        save(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(candidates_module, "save_checkpoint", killed_before)
        with pytest.raises(KeyboardInterrupt):
            run("killed", changes=SWA)

    def killed_after(path: Path, *arguments, **options) -> None:
        if path.parent.name == CANDIDATES and path.suffix == ".ckpt":
            raise KeyboardInterrupt
        unlink(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed_after)
        with pytest.raises(KeyboardInterrupt):
            run("killed", changes=SWA)
    killed = run("killed", changes=SWA)
    assert kept(killed) == kept(paths) and results(killed) == results(paths)


def test_a_training_that_goes_back_to_the_checkpoint_before_keeps_the_same_files():
    paths = run("whole", changes=SWA)
    lines = []
    again = run("damaged", changes=SWA)
    (again / LAST).write_bytes(b"damaged")
    assert previous_of(again / LAST).is_file()
    run("damaged", changes=SWA, log=lines.append)
    assert any("going back to" in line for line in lines)
    assert kept(again) == kept(paths) and results(again) == results(paths)


def test_weights_that_are_gone_let_a_training_begin_anew_as_a_lost_best_checkpoint_does():
    paths, lines = run(changes=SWA), []
    wanted = kept(paths)
    candidate_path(paths / CANDIDATES, 4).unlink()
    training = make(changes=SWA, log=lines.append)
    assert training.state.epoch == 0
    assert lines == ["the weights of epoch 4, which AVERAGE needs, are gone; training begins anew"]
    train(training)
    assert kept(paths).items() >= {name: wanted[name] for name in list(wanted)[1:]}.items()


def test_another_monitor_is_refused_where_the_epochs_that_it_calls_best_are_not_kept(monkeypatch):
    script(monkeypatch, [9, 8, 7, 6, 5, 4], dice=[0.1, 0.9, 0.5, 0.4, 0.3, 0.95])
    train_until("toy", 4, 2, changes=BEST_TWO)
    with pytest.raises(UserError) as refusal:
        make(changes=(*BEST_TWO, "SOLVER.MONITOR=valid_dice"))
    assert "SOLVER.MONITOR" in str(refusal.value) and "put the old value back" in str(refusal.value)


def test_weights_of_another_training_are_refused(tmp_path):
    paths = run(changes=SWA)
    with pytest.raises(UserError, match=r"epoch_0005\.ckpt is of another training than the best checkpoint"):
        list(load_candidates(paths, [5], "another key"))
    path = candidate_path(paths / CANDIDATES, 5)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match=r"is damaged.*train anew with `train --force`, or set AVERAGE.METHOD: none"):
        list(load_candidates(paths, [5], "key"))
