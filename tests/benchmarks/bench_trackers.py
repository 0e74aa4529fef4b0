"""What TensorBoard, and each service of RUNTIME.TRACKER that is installed, adds to an epoch of the tiny competition.

    python -m tests.benchmarks.bench_trackers

Processor time of this process: of an epoch's call without images and with the nine or three images of a chosen epoch,
of opening and closing, and of an epoch of the training itself, which at 64 x 64 pixels takes a second; a real one takes
minutes. W&B's own process comes on top, and is not counted.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from pipeline.engine.run import Run
from pipeline.paths import HISTORY, LAST, METRICS, SCENES, TRACKER
from pipeline.report.read import read_json
from pipeline.training import tracking
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.trackers import OPENERS
from tests.tiny import run_of, run_stages, tiny, write_competition

EPOCHS = 6


def seconds(action) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def with_tracker(run: Run, name: str | None) -> Run:
    config = run.loaded.config
    config = dataclasses.replace(config, runtime=dataclasses.replace(config.runtime, tracker=name))
    return dataclasses.replace(run, loaded=dataclasses.replace(run.loaded, config=config))


def measure(run: Run, history: list[dict]) -> tuple[float, float, float]:
    """Returns seconds of opening with the first epoch and closing, and the median of a later epoch."""
    (run.paths / TRACKER).unlink(missing_ok=True)
    with tracking.Tracking(run) as all_trackers:
        opening = seconds(lambda: all_trackers.log_epochs(history[:1]))
        epochs = [seconds(lambda last=last: all_trackers.log_epochs(history[:last])) for last in range(2, EPOCHS + 1)]
        closing = time.process_time()
    return opening, statistics.median(epochs), time.process_time() - closing


def main() -> None:
    names = [None, *(name for name in OPENERS if find_spec(name))]
    with tempfile.TemporaryDirectory() as folder:
        places = {"RUNS_DIR": "runs", "SCRATCH_DIR": "scratch", "SUBMISSIONS_DIR": "submissions", "HOME": "home"}
        os.environ.update({name: f"{folder}/{place}" for name, place in places.items()})
        changes = ("SWEEP.ENABLE=false", f"SOLVER.NUM_EPOCHS={EPOCHS - 1}", f"REPORT.EPOCHS={[*range(1, EPOCHS + 1)]}")
        loaded = tiny(write_competition(Path(folder) / "data"), *changes)
        run_stages(loaded, "tile")
        run = run_of(loaded, print)
        trained = seconds(lambda: run_stages(loaded, "train")) / EPOCHS
        run_stages(loaded, "evaluate")
        history, metrics = load_checkpoint(run.paths / LAST)["state"]["history"][1:], read_json(run.paths / METRICS)
        assert len(history) == EPOCHS and (run.paths / HISTORY).is_file()
        print(f"\nan epoch of training, with validation and start: {1e3 * trained:.0f} ms")
        tables = [seconds(lambda: tracking.log_scores(run, metrics)) for _ in range(5)]
        print(f"a line in TensorBoard's table of settings: {1e3 * statistics.median(tables):.1f} ms")
        rows = {name: [measure(with_tracker(run, name), history)] for name in names}
        (run.paths / SCENES).rename(run.paths / "away")
        for name in names:
            rows[name].append(measure(with_tracker(run, name), history))
        titles = ("opening", "epoch", "share", "with images", "closing")
        print(f"{'beside TensorBoard':20s}" + "".join(f"{title:>13s}" for title in titles))
        for name, (shown, plain) in rows.items():
            share = f"{100 * plain[1] / trained:.1f} %"
            times = [f"{1e3 * value:.1f} ms" for value in (shown[0], plain[1], shown[1], shown[2])]
            print(f"{name or 'nothing':20s}" + "".join(f"{cell:>13s}" for cell in (*times[:2], share, *times[2:])))


if __name__ == "__main__":
    main()
