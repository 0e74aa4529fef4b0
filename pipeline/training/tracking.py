"""What a run tells TensorBoard, and the service that RUNTIME.TRACKER names, if any: epochs, settings, final scores.

In: the history, images that `scenes.py` has kept, `metrics.json`. Out: see `tensorboard.py` and `trackers.py`.

A tracker never changes or ends a training, and never waits within an epoch: it is called after the checkpoint of an
epoch is written. What it raises is reported in one line, and this process does not call it again. Each epoch is logged
once: from a resumed training, TensorBoard gets the newest epoch again, which replaces what it had of that, and a
service gets all epochs that it lacks by `tracker.json`.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from textwrap import shorten
from types import TracebackType
from typing import Any

from pipeline.config.logged import logged_values
from pipeline.engine.dependence import declared_keys
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.files import read_json, write_json
from pipeline.optional import install_command
from pipeline.paths import EVENTS, HPARAMS_EVENTS, TRACKED, TRACKER
from pipeline.training.history import scalars_of
from pipeline.training.inputs import seed_of
from pipeline.training.scenes import kept_images
from pipeline.training.tensorboard import open_tensorboard, write_hparams
from pipeline.training.trackers import OPENERS, Scalars, Tracked, Tracker

Rows = Sequence[Mapping[str, Any]]  # of the history

TENSORBOARD = "TensorBoard"


class Tracking:
    """All trackers of one training, opened with its first epoch: `with Tracking(run) as tracking`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._open: dict[str, _Events | _Service] | None = None

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for name, tracker in (self._open or {}).items():
            _attempt(self.run, name, partial(tracker.close, kind is None))

    def log_epochs(self, history: Rows) -> None:
        """Logs the newest row of the history, with the images of its epoch, and earlier rows that a service lacks."""
        if self._open is None:
            self._open = {}
            self._begin(TENSORBOARD, lambda: _Events(self.run, history[-1]["epoch"]))
            if service := self.run.loaded.config.runtime.tracker:
                self._begin(service, lambda: _Service(self.run, service, self.run.log))
        for name, tracker in tuple(self._open.items()):
            if not _attempt(self.run, name, partial(tracker.log_epochs, history)):
                del self._open[name]
                with contextlib.suppress(Exception):  # else W&B takes it for the next run of this process
                    tracker.close(False)

    def _begin(self, name: str, opener: Callable[[], _Events | _Service]) -> None:
        opened: list[_Events | _Service] = []
        if _attempt(self.run, name, lambda: opened.append(opener())):
            self._open[name] = opened[0]


class _Events:
    """TensorBoard's log of a run: what it gets from `first_epoch` on replaces what was there."""

    def __init__(self, run: Run, first_epoch: int) -> None:
        self.run = run
        self.tracker = open_tensorboard(run.paths / EVENTS, first_epoch)

    def log_epochs(self, history: Rows) -> None:
        _log(self.run, self.tracker, history[-1])

    def close(self, is_done: bool) -> None:
        self.tracker.close(is_done)


class _Service:
    """A service's log of a run, continued where there is one; `tracker.json` has what it knows already."""

    def __init__(self, run: Run, name: str, echo: Callable[[str], None]) -> None:
        self.run, self.name, folder = run, name, run.folders.runs / TRACKED
        self.known = _known(run).get(name, {"run_id": None, "epoch": -1, "scores": None})
        folder.mkdir(parents=True, exist_ok=True)
        competition, settings = run.loaded.competition.name, settings_of_run(run)
        tracked = Tracked(competition, run.name, settings, self.known["run_id"], uuid.uuid4().hex, folder, echo)
        self.tracker = OPENERS[name](tracked)
        self.logged = [(-math.inf, self.known["epoch"])]  # when, by the monotonic clock, and epoch
        self._remember(run_id=self.tracker.run_id)

    def log_epochs(self, history: Rows) -> None:
        for row in history:
            if row["epoch"] > self.logged[-1][1]:
                _log(self.run, self.tracker, row)
                self.logged.append((time.monotonic(), row["epoch"]))
                # What is younger may be lost with this process; then the next one logs it again.
                old = time.monotonic() - self.tracker.delay_s
                self._remember(epoch=max(epoch for at, epoch in self.logged if at <= old))

    def add_scores(self, scores: Scalars) -> None:
        self.tracker.add_scores(scores)
        self._remember(scores=dict(scores))

    def close(self, is_done: bool) -> None:
        self.tracker.close(is_done)
        self._remember(epoch=self.logged[-1][1])

    def _remember(self, **changes: Any) -> None:
        self.known |= changes
        write_json(self.run.paths / TRACKER, _known(self.run) | {self.name: self.known})


def log_scores(run: Run, metrics: Mapping[str, Any]) -> None:
    """Adds the final scores of a run, with its settings, to TensorBoard's table and to the service's run.

    Args:
        metrics: the content of metrics.json.
    """
    scores, epoch = final_scores(metrics), metrics["checkpoint"]["epoch"] or 0
    _attempt(run, TENSORBOARD, lambda: write_hparams(run.paths / HPARAMS_EVENTS, settings_of_run(run), scores, epoch))
    service = run.loaded.config.runtime.tracker
    if service and _known(run).get(service, {}).get("scores") != scores:
        _attempt(run, service, lambda: _add_scores(_Service(run, service, lambda line: None), scores))


def final_scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the mean of each score, and epoch and validation loss of the checkpoint, as far as they are known.

    >>> scores = {"iou": {"mean": 0.75}, "miou": {"mean": None}}
    >>> final_scores({"scores": scores, "checkpoint": {"epoch": 7, "valid_loss": None, "sha256": "0"}})
    {'final/iou': 0.75, 'final/epoch': 7}
    """
    values = {name: family["mean"] for name, family in metrics["scores"].items()}
    values |= {name: metrics["checkpoint"][name] for name in ("valid_loss", "epoch")}
    return {f"final/{name}": value for name, value in values.items() if value is not None}


def settings_of_run(run: Run) -> dict[str, str | float | bool]:
    """Returns the settings to log: of those that the scores depend on, what is not the default, and a few always.

    So they are right for a run that reuses a sibling's evaluation with this log, too.
    """
    names = [stage.name for stage in run.stages]
    last = names.index("evaluate" if "evaluate" in names else "train")  # on all images nothing is evaluated
    keys = {key for stage in run.stages[: last + 1] for key in declared_keys(stage, run)}
    settings = logged_values(run.loaded, keys)
    return settings if run.loaded.is_ensemble else settings | {"EXPERIMENT.SEED": seed_of(run.loaded)}


def check_installed(run: Run) -> None:
    """Refuses a tracker whose package is not there.

    Raises:
        UserError: with the command that installs it.
    """
    name = run.loaded.config.runtime.tracker
    if name and find_spec(name) is None:
        raise UserError(
            f"RUNTIME.TRACKER is {name}, but the package {name} is not installed (it is optional). Install it: "
            f"{install_command(name)}\nOr log to TensorBoard only: RUNTIME.TRACKER=null"
        )


def _log(run: Run, tracker: Tracker, row: Mapping[str, Any]) -> None:
    tracker.log(row["epoch"], scalars_of(row), kept_images(run.paths, row["epoch"]))


def _add_scores(service: _Service, scores: Scalars) -> None:
    service.add_scores(scores)
    service.close(True)


def _known(run: Run) -> dict[str, Any]:
    """Returns the content of `tracker.json`; empty where there is none."""
    return read_json(run.paths / TRACKER, {str: {"run_id": (str, None), "epoch": int, "scores": object}}) or {}


def _attempt(run: Run, name: str, action: Callable[[], object]) -> bool:
    """Returns whether an action of a tracker has worked; a fault is one line of the log."""
    try:
        action()
    except Exception as error:  # whatever a package raises: no network, a full disk, a change of its interface
        first = next(iter(str(error).splitlines()), "")
        what = shorten(f"{type(error).__name__}: {first}", 200, placeholder="...")
        run.log(f"warning: {name} failed ({what}); this command goes on without it, its results are the same")
        return False
    return True
