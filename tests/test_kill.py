"""Runs that are killed, stopped or cut short end, after the same command again, with the same bits.

The long form: `python -m tests.long.kill --points 200`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.engine.chain import run_chain
from pipeline.engine.stopping import Stop
from pipeline.errors import Stopped
from pipeline.paths import PROJECT, Folders, RunPaths
from pipeline.task import Loss
from pipeline.training import trainer
from pipeline.training.checkpoint import load_checkpoint
from tests.tiny import draw_nothing, overrides, run_of, run_paths, run_stages, tiny, write_competition

pytestmark = pytest.mark.slow
RESULTS = ("best.ckpt", "last.ckpt", "history.csv", "steps.csv", "lr_sweep.csv", "metrics.json", "per_image.csv")
CHANGES = (
    *("SOLVER.OPTIMIZER.NAME=AdamW", "SOLVER.MAX_LR=0.03", "SOLVER.NUM_EPOCHS=12", "SOLVER.PATIENCE=12"),
    "RUNTIME.LOG_STEPS=1",
)


def long_form(*arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", "tests.long.kill", *arguments]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_runs_killed_at_random_times_in_every_stage_end_with_the_same_bits():
    output = long_form("--points", "16", "--seed", str(os.getpid()))
    assert re.search(r"^interrupted +16$", output, re.MULTILINE)
    assert re.search(r"^runs identical +[1-3]$", output, re.MULTILINE) and "0 failures" in output


def test_runs_of_boxes_killed_in_every_stage_end_with_the_same_bits():
    output = long_form("--task", "boxes", "--points", "8", "--seed", str(os.getpid()))
    assert re.search(r"^runs identical +[12]$", output, re.MULTILINE) and "0 failures" in output


def test_runs_asked_to_stop_end_in_order_and_with_the_same_bits():
    arguments = ("--points", "2", "--way", "stop", "--stage", "train", "--seed", str(os.getpid()))
    assert re.search(r"^runs identical +[12]$", long_form(*arguments), re.MULTILINE)


def test_runs_killed_before_file_operations_end_with_the_same_bits():
    output = long_form("--way", "disk", "--stride", "900", "--seed", str(os.getpid()))
    assert re.search(r"^interrupted +([3-9]|10)$", output, re.MULTILINE)


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "asked to end (SIGTERM)")])
def test_a_process_that_is_asked_to_stop_says_so_and_the_same_command_goes_on(
    tmp_path, number, reason, capsys, without_drawing
):
    data = write_competition(tmp_path / "data")
    command = [sys.executable, "-m", "pipeline", "demo", "train", *overrides(data, *CHANGES)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("epoch   2"):
                process.send_signal(number)
                break
        _, error = process.communicate(timeout=60)
    assert process.returncode == 3 and "Traceback" not in error
    assert f"stopped: {reason}; saved at epoch" in error
    assert main(command[3:]) == 0 and "resuming at epoch" in capsys.readouterr().out
    loaded = tiny(data, *CHANGES)
    interrupted = files(run_paths(loaded.run))
    paths, _ = run_stages(loaded, "train", force=("train",))
    assert files(paths) == interrupted


def test_a_run_whose_terminal_is_closed_saves_its_state(tmp_path):
    data = write_competition(tmp_path / "data")
    changes = (*CHANGES, "SWEEP.ENABLE=false", "DATALOADERS.TRAIN.NUM_WORKERS=1")
    process, terminal = os.forkpty()
    if process == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where `nohup` has started the tests
        os.chdir(PROJECT)
        os.execv(sys.executable, [sys.executable, "-m", "pipeline", "demo", "train", *overrides(data, *changes)])
    shown = b""
    while b"epoch   2" not in shown:
        shown += os.read(terminal, 1 << 12)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 3
    assert load_checkpoint(run_paths(tiny(data, *changes).run) / "last.ckpt")["state"]["epoch"] >= 2


def test_a_time_budget_that_is_used_up_in_training_saves_at_once_and_the_run_goes_on(tmp_path, monkeypatch):
    draw_nothing(monkeypatch)
    loaded = tiny(write_competition(tmp_path / "data"), *CHANGES, "SOLVER.NUM_EPOCHS=2", "SWEEP.ENABLE=false")
    paths, stop = run_paths(loaded.run), Stop(budget_s=3600.0)

    plain_step = trainer.train_step

    def last_step(*arguments) -> Loss:
        loss = plain_step(*arguments)
        if (epoch_and_step := arguments[-1][:2]) == (1, 1):
            stop.deadline = time.monotonic()
        assert epoch_and_step <= (1, 1)
        return loss

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "train_step", last_step)
        with pytest.raises(Stopped, match="the time budget is used up; saved at epoch 1, step 2"):
            run_chain(run_of(loaded, lambda line: None, stop), "train")
    assert time.monotonic() - stop.deadline < 30
    state = load_checkpoint(paths / "last.ckpt")["state"]
    assert (state["epoch"], state["step"]) == (1, 2)
    run_stages(loaded, "train")
    assert load_checkpoint(paths / "last.ckpt")["state"]["epoch"] == 3


def test_a_worker_that_is_killed_ends_the_process_with_a_clear_message_and_a_whole_checkpoint(tmp_path):
    data = write_competition(tmp_path / "data")
    changes = ("SOLVER.NUM_EPOCHS=3", "SWEEP.ENABLE=false", "DATALOADERS.TRAIN.NUM_WORKERS=1")
    command = [sys.executable, "-m", "pipeline", "demo", "train", *overrides(data, *CHANGES, *changes)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("epoch   1"):
                break
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 2 and "Traceback" not in error
    assert "A data-loading worker died" in error and "DATALOADERS.TRAIN.NUM_WORKERS=0" in error
    assert load_checkpoint(run_paths(tiny(data, *CHANGES, *changes).run) / "last.ckpt")["state"]["epoch"] >= 1


def files(paths: RunPaths) -> dict[str, bytes]:
    return {name: (paths / name).read_bytes() for name in RESULTS if (paths / name).exists()}


def test_a_process_that_another_one_holds_up_is_refused(tmp_path):
    data = write_competition(tmp_path / "data")
    command = [sys.executable, "-m", "pipeline", "demo", "train", *overrides(data, *CHANGES)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline()
        second = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        first.kill()
    assert second.returncode == 2 and f"is already being run by process {first.pid}" in second.stderr


def test_the_whole_chain_ends_in_a_checked_submission_and_a_page_and_is_skipped_at_once_the_second_time(
    tmp_path, python_modules
):
    data = write_competition(tmp_path / "data")
    arguments = ["demo", *overrides(data, "SOLVER.MAX_LR=auto")]
    command = [sys.executable, "-m", "pipeline", *arguments]
    first = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    paths = run_paths(tiny(data, "SOLVER.MAX_LR=auto").run)
    rows = (Folders.from_environment().submissions / f"{paths.name}.csv").read_text().splitlines()
    assert rows[0] == "ImageID,EncodedPixels" and len(rows) == 1 + 4 * 12
    page = (paths / "report.html").read_text()
    assert page.count("data:image/png") >= 5 and "Vegetation" in page
    wanted = ("lr_sweep.png", "panels", "plots/samples.png", "events", "probs/test/index.json")
    assert all((paths / name).exists() for name in wanted)
    assert not [path for path in Path(paths.folder).rglob("*") if ".tmp-" in path.name]
    loaded = python_modules(f"from pipeline.__main__ import main; assert main({arguments!r}) == 0")
    assert not loaded & {"torch", "timm", "segmentation_models_pytorch", "matplotlib", "sklearn"}
