"""A checkpoint that an earlier version of the program wrote is gone on from; one of another format is refused."""

from __future__ import annotations

import hashlib
import shutil

import pytest
import torch

from pipeline.errors import UserError
from pipeline.paths import BEST, LAST
from pipeline.training.checkpoint import FORMAT, MARK, load_checkpoint
from pipeline.training.trainer import train
from tests.tiny import run_paths
from tests.training.old_checkpoint import FOLDER, SETTINGS
from tests.training.toy import history, make, run

OLD = sorted(FOLDER.glob("*.ckpt"))


def test_there_is_one_of_todays_format():
    assert f"format_{FORMAT.decode()}.ckpt" in [path.name for path in OLD]


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_a_training_goes_on_from_an_old_checkpoint(path):
    folder = run_paths("toy").folder
    folder.mkdir(parents=True)
    for name in (LAST, BEST):
        shutil.copyfile(path, folder / name)
    before = load_checkpoint(path)
    training = make(changes=SETTINGS)
    assert (training.state.epoch, training.state.step) == (before["state"]["epoch"], before["state"]["step"])
    assert training.state.epoch == training.state.best_epoch == 2
    weights = training.learner.network.state_dict()
    assert all(torch.equal(weights[name], own) for name, own in before["network"].items())
    assert training.learner.optimizer.state_dict()["state"] and training.learner.ema is not None
    train(training)
    whole = history(run("whole", changes=SETTINGS))
    assert [row["epoch"] for row in history(run_paths("toy"))] == [row["epoch"] for row in whole]
    for mine, other in zip(history(run_paths("toy")), whole, strict=True):  # other processors round differently
        assert float(mine["valid_loss"]) == pytest.approx(float(other["valid_loss"]), rel=1e-3)


def test_a_checkpoint_of_another_format_is_refused_and_stays():
    folder = run_paths("toy").folder
    folder.mkdir(parents=True)
    archive = OLD[0].read_bytes()[: -len(MARK) - hashlib.sha256().digest_size]
    content = archive + MARK[:-1] + b"2" + hashlib.sha256(archive).digest()
    (folder / LAST).write_bytes(content)
    with pytest.raises(
        UserError, match=r"last.ckpt has checkpoint format 2, this program reads format 1; use the version"
    ):
        make(changes=SETTINGS)
    assert (folder / LAST).read_bytes() == content
