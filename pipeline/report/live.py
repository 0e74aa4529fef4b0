"""What a run is doing now: stage, epoch, score, and how long it will take; read from its files and its lock.

In: `runs/NAME`. Out: `Live`. No pandas, no NumPy. Nothing is written, and a run that is read goes on undisturbed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.engine.folder import lock_holder
from pipeline.engine.run import Stage
from pipeline.errors import UserError
from pipeline.files import fits
from pipeline.paths import CONFIG, HISTORY, MARKERS, METRICS, REFUSAL, TIMINGS, RunPaths
from pipeline.report.read import Columns, damage_of, numbers, read_columns, read_json
from pipeline.report.table import read_state
from pipeline.wording import duration

RECENT_EPOCHS = 5  # whose mean time is taken for an epoch that is to come
SILENT_EPOCHS = 3.0  # times of an epoch without a new one, after which a training is called silent
LEAST_SILENT_S = 120.0  # the first epochs of a small run vary


@dataclass(frozen=True)
class Live:
    """A run at one moment.

    Attributes:
        is_running: whether a process holds its lock.
        stage: the one that runs; of a run that is not running, how far it has come.
        epoch, num_epochs: the last epoch that is trained, and how many the plan has at most; None where not known.
        score, best: the last validation score and the highest so far; `label`: what score that is.
        stage_s: for how long the stage has been running; of one that was left half done, None.
        left_s: until the plan of a running training ends, if no patience runs out before.
        silent_s: since the last epoch, where that is unusually long ago.
        damage: which of its files cannot be read, as text.
        changed_at: when one of its files changed last, in seconds since 1970.
    """

    name: str
    is_running: bool = False
    stage: str = ""
    epoch: int | None = None
    num_epochs: int | None = None
    score: float | None = None
    best: float | None = None
    label: str = ""
    stage_s: float | None = None
    left_s: float | None = None
    silent_s: float | None = None
    changed_at: float = 0.0
    damage: str = ""

    @property
    def epochs(self) -> str:
        """The epoch of how many, as text."""
        if self.epoch is None:
            return ""
        return f"{self.epoch}/{self.num_epochs}" if self.num_epochs else str(self.epoch)

    @property
    def note(self) -> str:
        """What to know beside the numbers, as text."""
        silence = f"no new epoch for {duration(self.silent_s)}" if self.silent_s is not None else ""
        return ", ".join(filter(None, (silence, self.damage)))


def read_live(paths: RunPaths, stages: Sequence[Stage], now: float, score: str) -> Live:
    """Returns what a run is doing; files that are damaged, or half written, are left out.

    Args:
        stages: in order.
        now: seconds since 1970.
        score: the name of the competition's own score.
    """
    changed_at = last_change(paths.folder)
    try:
        return _read(paths, stages, now, score, changed_at)
    except OSError as error:  # a file was removed just now
        return Live(paths.name, stage=f"cannot be read: {error}", changed_at=changed_at)


def _read(paths: RunPaths, stages: Sequence[Stage], now: float, score_name: str, changed_at: float) -> Live:
    is_running, stage = lock_holder(paths) is not None, _begun(paths, stages)
    history = read_columns(paths / HISTORY) or {}
    score, best, label = _scores(history, score_name)
    epochs = [number for number in numbers(history.get("epoch", ())) if not math.isnan(number)]
    settings = (read_json(paths.started("train")) or read_json(paths.marker("train")) or {}).get("settings")
    num_epochs = _planned(settings or {})
    is_training = is_running and stage == "train"
    left_s, silent_s = _time_left(paths, epochs, num_epochs, now) if is_training else (None, None)
    begun = paths.started(stage) if stage else None
    return Live(
        name=paths.name,
        is_running=is_running,
        stage=_words(paths, stages, stage, is_running),
        epoch=int(epochs[-1]) if epochs else None,
        num_epochs=num_epochs,
        score=score,
        best=best,
        label=label,
        stage_s=max(0.0, now - begun.stat().st_mtime) if begun and is_running else None,
        left_s=left_s,
        silent_s=silent_s,
        changed_at=changed_at,
        damage=damage_of(paths.folder, (CONFIG, HISTORY, TIMINGS, METRICS)),
    )


def last_change(folder: Path) -> float:
    """Returns when the newest of the files that a stage writes as it goes was changed; 0 where there is none."""
    files = [*(folder / name for name in (CONFIG, HISTORY, TIMINGS, METRICS)), *(folder / MARKERS).glob("*.json")]
    times = [0.0]
    for path in files:
        try:
            times.append(path.stat().st_mtime)
        except OSError:  # not there, or removed just now
            continue
    return max(times)


def _begun(paths: RunPaths, stages: Sequence[Stage]) -> str:
    """Returns the stage that was started last and is not finished, "" where there is none."""
    begun = [stage.name for stage in stages if paths.started(stage.name).is_file()]
    return max(begun, key=lambda name: paths.started(name).stat().st_mtime, default="")


def _words(paths: RunPaths, stages: Sequence[Stage], begun: str, is_running: bool) -> str:
    if is_running:
        return begun or "checking"
    refusal = read_json(paths / REFUSAL)
    if refusal:
        return f"refused in {refusal['stage']}"
    if begun:
        return f"stopped in {begun}"
    return read_state(paths.folder, stages) or "not started"


def _planned(settings: Mapping[str, Any]) -> int | None:
    """Returns the epochs of the plan that a training was started with.

    >>> _planned({"SOLVER.PLAN": [{"epochs": 3}, {"epochs": 2}]}), _planned({})
    (5, None)
    """
    plan = settings.get("SOLVER.PLAN")
    return sum(phase["epochs"] for phase in plan) if plan and fits(plan, [{"epochs": int}]) else None


def declared_score(competition: str) -> str:
    """Returns the name of a competition's own score, Dice where its description was renamed or removed."""
    from pipeline.config.load import load_competition

    try:
        return load_competition(competition).score
    except UserError:
        return "dice"


def _scores(history: Columns, score: str) -> tuple[float | None, float | None, str]:
    """Returns the last and the highest value of a score, or of the one that every run has; its label."""
    from pipeline.scores import OF_EVERY_RUN, label_of

    name = next((one for one in (score, *OF_EVERY_RUN) if f"valid_{one}" in history), None)
    known = [] if name is None else [value for value in numbers(history[f"valid_{name}"]) if not math.isnan(value)]
    return (known[-1], max(known), label_of(name)) if known else (None, None, label_of(name or score))


def _time_left(
    paths: RunPaths, epochs: Sequence[float], num_epochs: int | None, now: float
) -> tuple[float | None, float | None]:
    """Returns the seconds that are left of a training, and the seconds since its last epoch where these are many."""
    path = paths / TIMINGS
    seconds = numbers((read_columns(path) or {}).get("seconds", ()))[-RECENT_EPOCHS:]
    if not seconds:
        return None, None
    usual, since = sum(seconds) / len(seconds), max(0.0, now - path.stat().st_mtime)
    left = None
    if num_epochs is not None and epochs:
        left = max(0.0, (num_epochs - epochs[-1]) * usual - min(since, usual))
    return left, since if since > max(SILENT_EPOCHS * usual, LEAST_SILENT_S) else None
