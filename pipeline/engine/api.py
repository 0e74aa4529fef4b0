"""The one way to run experiments: for the command line, tests, notebooks and clusters.

    from pipeline.engine.api import run
    finished = run("ExpAAB", ["SOLVER.MAX_LR=5e-4"], last_stage="evaluate")
    print(finished.paths.folder)

Nothing here is kept between calls: two calls in one process may have different folders.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pipeline.config.drawn_seed import with_drawn_seed
from pipeline.config.load import load
from pipeline.engine.chain import run_chain
from pipeline.engine.pools import LocalPool, Pool
from pipeline.engine.process import keep_output_going
from pipeline.engine.run import Run
from pipeline.engine.session import budget_seconds
from pipeline.engine.stopping import Floors, Stop, reason_of, take_signals
from pipeline.errors import Stopped, UserError
from pipeline.paths import Folders
from pipeline.terminal import printable

Log = Callable[[str], None]
SAME_WITHIN_S = 10  # Ctrl-C reaches each process of `run_many` from the terminal, and from the one that waits for them
NOT_BEGUN = "before it began"
DESCRIBED_S = 30.0  # between two looks at the machines of a cluster


@dataclass(frozen=True)
class Request:
    """One run of many: a config and its overrides, `KEY=VALUE` each; its lines begin with `label`, or the name.

    A training that misses the `floors` ends early, as `pruned`.
    """

    name: str
    overrides: tuple[str, ...] = ()
    label: str = ""
    floors: Floors | None = None


@dataclass(frozen=True)
class Outcome:
    """How one run of many ended.

    Attributes:
        run: the name of the run's folder; the config's name where the config itself was refused.
        state: `done`; `refused`, a mistake in config or data; `stopped`, resumable; `pruned`, likewise, but not to be
            continued; `failed`, a fault of the program.
        message: why it is not done, else "".
    """

    request: Request
    run: str
    state: Literal["done", "refused", "stopped", "pruned", "failed"]
    message: str = ""


def open_run(
    name: str,
    overrides: Sequence[str] = (),
    folders: Folders | None = None,
    log: Log | None = None,
    stop: Stop | None = None,
    trust_code: bool = False,
) -> Run:
    """Returns a run without running anything: its settings, stages and files.

    Args:
        name: a config, `ExpAAB`.
        overrides: other values, `KEY=VALUE` each.
        folders: where runs, data and weights are; None: as the environment says (RUNS_DIR, DATA_DIR, ...).
        log: takes the lines for the user; None: prints them.
        stop: asked between stages and steps whether to end early; None: RUNTIME.TIME_BUDGET_HOURS alone decides.
        trust_code: whether a network of the user's own (MODEL.NAME: FILE.py:FUNCTION) may be run.

    Raises:
        UserError: no such config, an unknown key, an impossible value.
    """
    from pipeline.stages import stages_of, task_of  # the tables name all folders; nothing else here imports upward

    folders, stop = folders or Folders.from_environment(), Stop() if stop is None else stop
    loaded = load(name, tuple(overrides), trust_code)
    loaded = with_drawn_seed(loaded, folders.run(loaded.run).folder)
    budget_s = budget_seconds(loaded.config.runtime.time_budget_hours, folders.runs)
    if budget_s is not None and stop.deadline is None:  # of many runs, the budget is for all together
        stop.set_budget(budget_s)
    return Run(loaded, folders, log or print_line, stop, stages_of, task_of, began_s=stop.now_s())


def run(
    name: str,
    overrides: Sequence[str] = (),
    last_stage: str | None = None,
    folders: Folders | None = None,
    log: Log | None = None,
    stop: Stop | None = None,
    force: Sequence[str] = (),
    trust_code: bool = False,
) -> Run:
    """Runs a config's stages up to `last_stage`, skipping what is up to date; returns the run with its paths.

    Args:
        last_stage: None: all stages.
        force: stages to run from their beginning even when they are up to date.
        name, overrides, folders, log, stop, trust_code: see `open_run`.

    Raises:
        UserError: a mistake in config, data or arguments; the message says what to type.
        Stopped: it was asked to stop and has saved its state; the same call continues.
    """
    return run_stages(open_run(name, overrides, folders, log, stop, trust_code), last_stage, force)


def run_stages(opened: Run, last_stage: str | None = None, force: Sequence[str] = ()) -> Run:
    """Runs the stages of an open run, as `run` does."""
    known = [stage.name for stage in opened.stages]
    for stage in (*force, *([last_stage] if last_stage else [])):
        if stage not in known:
            raise UserError(f"{opened.loaded.name} has no stage {stage}; it has {' '.join(known)}")
    run_chain(opened, last_stage or known[-1], force)
    return opened


def run_many(
    requests: Sequence[Request | str],
    last_stage: str | None = None,
    folders: Folders | None = None,
    workers: int = 1,
    log: Log | None = None,
    trust_code: bool = False,
    stop: Stop | None = None,
    cards: Sequence[str] = (),
) -> list[Outcome]:
    """Runs many configs; one that fails does not keep the others from running.

    Args:
        requests: configs, with overrides where a `Request` gives some.
        last_stage: of each; None: all stages.
        folders: as for `run`, the same for all.
        workers: how many run at once, each in a process of its own; 1: one after the other in this process.
        log: takes the lines for the user, each preceded by the request's label; with several workers they are printed.
        trust_code: see `open_run`.
        stop: asked by every run whether to end early, which leaves the rest as `stopped`; None: each run has its own.
            Several workers take over the signals themselves, and end by its deadline.
        cards: the GPUs that each of several workers sees, as from `cards.shares`; none: all see all.

    Returns:
        One outcome per request, in their order.
    """
    wanted = [Request(request) if isinstance(request, str) else request for request in requests]
    folders = folders or Folders.from_environment()
    if workers <= 1:
        return [_attempt(request, last_stage, folders, log or print_line, trust_code, stop) for request in wanted]
    with LocalPool(workers, cards, _begin_worker) as pool:
        tasks = [(request, last_stage, folders, trust_code, _end_of(stop)) for request in wanted]
        futures = [pool.submit(_attempt_alone, *task) for task in tasks]
        try:
            wait(futures)
        except KeyboardInterrupt:  # each process saves its state; what waits is not begun
            pool.interrupt()
        return [_outcome_of(*pair) for pair in zip(wanted, futures, strict=True)]


def run_each(
    propose: Callable[[], Request | None],
    note: Callable[[Outcome], None],
    last_stage: str | None,
    folders: Folders,
    workers: int = 1,
    stop: Stop | None = None,
    cards: Sequence[str] = (),
    cluster: Pool | None = None,
) -> None:
    """Runs what is proposed one after the other, where the next proposal depends on how earlier runs ended.

    Args:
        propose: the next run; None: nothing more for now. Asked again after the next run has ended.
        note: takes how a run ended, before the next proposal.
        last_stage, folders, workers, stop, cards: as for `run_many`. A stop ends the proposals, too.
        cluster: carries out the runs, `workers` of them at a time, in place of processes of this machine.
    """
    if workers <= 1 and cluster is None:
        while (stop is None or not stop.requested) and (request := propose()) is not None:
            note(_attempt(request, last_stage, folders, print_line, stop=stop))
            if stop is not None:
                stop.begin_run()
        return
    with cluster or LocalPool(workers, cards, _begin_worker) as pool:
        running: dict[Future[Outcome], Request] = {}
        described = None
        try:
            while True:
                while len(running) < workers and (request := propose()) is not None:
                    task = (request, last_stage, folders, False, _end_of(stop, cluster is None))
                    running[pool.submit(_attempt_alone, *task, **_needs(request))] = request
                if (now := pool.describe()) != described and now is not None:
                    described = now
                    print_line(now)
                if not running:
                    return
                for future in wait(running, DESCRIBED_S, FIRST_COMPLETED).done:
                    note(_outcome_of(running.pop(future), future))
        except BrokenProcessPool:  # a process died: out of memory, or killed. Another one would probably die, too
            pass
        except KeyboardInterrupt:  # each process saves its state; nothing more is proposed
            pool.interrupt()
        for future, request in running.items():
            note(_outcome_of(request, future))


def print_line(line: str) -> None:
    """Prints a line at once, above any progress bar."""
    from tqdm import tqdm  # keeps `show` and `list` quick

    tqdm.write(printable(line))
    sys.stdout.flush()  # a pipe would hold it back


def _attempt(
    request: Request,
    last_stage: str | None,
    folders: Folders,
    log: Log | None = None,
    trust_code: bool = False,
    stop: Stop | None = None,
) -> Outcome:
    write = log or print_line

    def log_named(line: str) -> None:
        write(f"{request.label or request.name}: {line}")

    name = request.name
    if stop is not None and stop.requested:
        return Outcome(request, name, "stopped", NOT_BEGUN)
    if stop is None and request.floors is not None:
        stop = Stop()
    if stop is not None:
        stop.begin_run(request.floors)
    try:
        name = load(request.name, request.overrides).run
        run(request.name, request.overrides, last_stage, folders, log_named, stop, trust_code=trust_code)
    except UserError as error:
        return Outcome(request, name, "refused", str(error))
    except (Stopped, KeyboardInterrupt) as stopped:
        return Outcome(request, name, "pruned" if stop is not None and stop.is_pruned else "stopped", str(stopped))
    except Exception:
        return Outcome(request, name, "failed", traceback.format_exc())
    return Outcome(request, name, "done")


def _outcome_of(request: Request, future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except CancelledError:
        return Outcome(request, request.name, "stopped", NOT_BEGUN)
    except UserError as error:  # of the machine that should have run it
        return Outcome(request, request.name, "refused", str(error))
    except Exception as error:  # the process died: out of memory, or killed
        return Outcome(request, request.name, "failed", f"{type(error).__name__}: {error}")


_own_cards: list[str] = []  # of a process of `run_many` that has GPUs of its own
_asked_to_end: list[str] = []  # by which signals, of a process of `run_many`: what was queued for it is not begun


def _begin_worker(cards: str | None) -> None:
    """Prepares a process of `run_many`."""
    keep_output_going()
    _note_signals()
    if cards is not None:
        _own_cards.append(cards)


def _needs(request: Request) -> dict[str, int]:
    """Returns how many CPUs and GPUs a run needs on a cluster: its loader workers and one more, a GPU for each rank."""
    try:
        config = load(request.name, request.overrides).config
    except UserError:  # which the run reports
        return {}
    ranks = config.runtime.ranks
    return {"cpus": 1 + config.dataloaders.train.num_workers, "gpus": ranks if isinstance(ranks, int) else 1}


class _End(NamedTuple):
    """When a session's time is over, by a clock that the receiving process can read, too."""

    clock: Callable[[], float]
    at: float


def _end_of(stop: Stop | None, is_here: bool = True) -> _End | None:
    """Returns when a stop's time is over: on this machine by the monotonic clock, on others by the time of day."""
    if stop is None or stop.deadline is None:
        return None
    clock = time.monotonic if is_here else time.time
    return _End(clock, clock() + stop.deadline - time.monotonic())


def _note_signals() -> None:
    """Makes a process that waits for its next run note a signal. An exception there would end the whole pool."""
    take_signals(lambda number, frame: _asked_to_end.append(reason_of(number)))


def _attempt_alone(
    request: Request, last_stage: str | None, folders: Folders, trust_code: bool, end: _End | None
) -> Outcome:
    """Runs in a process of its own, which gets the signals of its terminal, too."""
    if _asked_to_end:
        return Outcome(request, request.name, "stopped", _asked_to_end[0])
    stop = Stop(None if end is None else end.at - end.clock(), SAME_WITHIN_S)
    if _own_cards:
        print_line(f"{request.label or request.name}: on GPU {_own_cards[0]}")
    stop.listen()
    outcome = _attempt(request, last_stage, folders, None, trust_code, stop)
    if stop.has_signal:
        _asked_to_end.append(outcome.message)
    _note_signals()
    return outcome
