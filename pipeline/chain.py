"""Runs the stages of one experiment in order, each only when it must, and says why.

Knows what a stage is, not which ones there are: see `stages.py` for the table.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config.load import Loaded, nested
from pipeline.dependence import file_of, inputs_of, inside, outputs_of, outside_or_as_before, reads_of, settings_of
from pipeline.errors import Stopped, UserError
from pipeline.files import TEMPORARY_MARK, sweep_temporaries, write_atomic
from pipeline.freshness import ABSENT, Fingerprints, Marker, key_of, read_marker, why_stale, write_marker
from pipeline.paths import RunPaths, shown
from pipeline.reuse import is_known, siblings, take_from
from pipeline.stopping import Stop
from pipeline.wording import duration

FORCED = "--force"


@dataclass(frozen=True)
class Run:
    """One experiment under way: what a stage function receives.

    Attributes:
        key: hash of everything that the stage at work depends on; a partial result with another key is not continued.
    """

    loaded: Loaded
    paths: RunPaths
    stop: Stop
    key: str = ""


@dataclass(frozen=True)
class Stage:
    """A step of the chain, as data.

    Attributes:
        does: one line for people.
        function: does the work; imports what it needs itself, so that a skipped stage costs nothing.
        settings: prefixes of the config keys that its result depends on.
        reads: files and folders below the run's folder, written by earlier stages.
        writes: files and folders below the run's folder.
        reads_outside: paths beyond the run's folder (competition, weights, an earlier run), by a name for messages.
            What of it is not here when the stage has run already is taken as it was then.
        writes_outside: likewise.
        lacks: whether a product outside the run's folder is gone; it is made again when a later stage needs it.
        check: refuses at once what the stage could not do later; asked before the first stage runs.
        version: to be raised when the same inputs would give another result.
        leaves: patterns of what else it leaves below the run's folder that nothing later needs; it may be gone.
        is_shared: whether its result is taken over from another run of the same config where that has it.
    """

    name: str
    does: str
    function: Callable[[Run], None]
    settings: tuple[str, ...]
    reads: Callable[[Loaded], tuple[str, ...]] | tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    reads_outside: Callable[[Run], dict[str, Path | list[Path]]] = field(default=lambda run: {})
    writes_outside: Callable[[Run], dict[str, Path]] = field(default=lambda run: {})
    lacks: Callable[[Run], bool] = field(default=lambda run: False)
    check: Callable[[Run], None] = field(default=lambda run: None)
    version: int = 1
    leaves: tuple[str, ...] = ()
    is_shared: bool = False


def run_chain(stages: Sequence[Stage], last: str, run: Run, force: Sequence[str], say: Callable[[str], None]) -> None:
    """Runs the stages up to `last`, skipping those whose result is still what they would write.

    Args:
        stages: the whole chain, in order.
        last: name of the last stage wanted.
        force: names of stages to do again from their beginning, even when fresh or half done.

    Raises:
        UserError: a mistake of the user's in any stage.
        Stopped: a stop was requested; a stage that can saved its state.
    """
    with locked(run.paths), without_trace(stages, run.paths):
        prepare_folder(run)
        fingerprints = Fingerprints(run.paths.markers / "fingerprints.json")
        lacking: list[Stage] = []
        wanted = stages[: [stage.name for stage in stages].index(last) + 1]
        taken = [stage for stage in wanted if _is_taken_over(stage, run, fingerprints, force, say)]
        is_checked = False
        for stage in wanted:
            if run.stop.requested:
                raise Stopped(f"{run.stop.reason}, before {stage.name}")
            reason = _reason(stage, run, fingerprints, force)
            if reason is None and stage.lacks(run) and stage.name == last:
                reason = "its large files are gone"
            if reason is not None and not is_checked:
                _check_ahead(wanted, run)
                is_checked = True
            if reason is None and stage.lacks(run):
                lacking.append(stage)
                say(f"{stage.name:<9} fresh (its large files are gone, made again when needed)")
            elif reason is None:
                if stage not in taken:
                    say(f"{stage.name:<9} fresh, skipped")
            else:
                needed = {file_of(name) for name in reads_of(stage, run.loaded)}
                for earlier in [other for other in lacking if needed & set(other.writes)]:
                    _execute(earlier, run, fingerprints, "its large files are gone", say)
                    lacking.remove(earlier)
                is_taken = _is_taken_over(stage, run, fingerprints, force, say)  # with what was made just now
                if is_taken and stage.lacks(run) and stage.name != last:
                    lacking.append(stage)
                elif not is_taken or stage.lacks(run):
                    _execute(stage, run, fingerprints, reason, say)
            fingerprints.save()


def take_over(stages: Sequence[Stage], last: str, run: Run, say: Callable[[str], None]) -> None:
    """Takes over what other runs of the same config have done up to `last`, where there are any; runs nothing."""
    if not siblings(run):
        return
    with locked(run.paths):
        is_new = _is_new(run.paths)
        prepare_folder(run)
        fingerprints = Fingerprints(run.paths.markers / "fingerprints.json")
        for stage in stages[: [stage.name for stage in stages].index(last) + 1]:
            _is_taken_over(stage, run, fingerprints, (), say)
        fingerprints.save()
        if is_new and not stage_states(stages, run.paths):
            shutil.rmtree(run.paths.folder, ignore_errors=True)


def _is_taken_over(
    stage: Stage, run: Run, fingerprints: Fingerprints, force: Sequence[str], say: Callable[[str], None]
) -> bool:
    """Returns whether the stage must run no more, since another run of the same config has done it."""
    others = siblings(run) if stage.is_shared and stage.name not in force else []
    try:
        sibling = take_from(others, stage, run, fingerprints)
    except UserError:  # no data, for instance: told when the stage is carried out
        return False
    if sibling is not None:
        say(f"{stage.name:<9} taken from {shown(sibling.folder)}, where it was done with the same settings")
    return sibling is not None


def _check_ahead(wanted: Sequence[Stage], run: Run) -> None:
    """Refuses what a later stage could not do, before minutes are spent on the earlier ones."""
    others = siblings(run)
    for stage in wanted:
        if not _marker_path(stage, run).is_file() and not is_known(others, stage, run):
            stage.check(run)


def why_run(stage: Stage, run: Run) -> str | None:
    """Returns why a stage would be run now, or None while it is fresh; nothing is run."""
    return _reason(stage, run, Fingerprints(run.paths.markers / "fingerprints.json"), ())


def stage_states(stages: Sequence[Stage], paths: RunPaths) -> dict[str, float]:
    """Returns the stages that have finished once, with their seconds; whether they are fresh is not asked."""
    markers = {stage.name: read_marker(paths.markers / f"{stage.name}.json") for stage in stages}
    return {name: marker.seconds for name, marker in markers.items() if marker is not None}


def prepare_folder(run: Run) -> None:
    """Makes the run's folder, removes what killed writers left, and writes the resolved config into it."""
    run.paths.markers.mkdir(parents=True, exist_ok=True)
    for folder in (run.paths.folder, run.paths.markers, run.paths.plots, run.paths.panels):
        sweep_temporaries(folder)
    # The folder of submissions belongs to all runs: only this run's are surely dead.
    submission = run.paths.submission
    for path in submission.parent.glob(f"{glob.escape(submission.stem)}{TEMPORARY_MARK}*"):
        path.unlink(missing_ok=True)
    lines = [f"# Resolved values of {run.loaded.name}."]
    if run.loaded.changed:
        lines.append(f"# Overridden on the command line: {', '.join(run.loaded.changed)}")
    # JSON is YAML too, and its scalars cannot be misread.
    lines.append(json.dumps(nested(run.loaded.values), indent=2))
    write_atomic(run.paths / "config.yaml", "\n".join(lines) + "\n")


@contextmanager
def locked(paths: RunPaths) -> Iterator[None]:
    """Keeps a second process out of the run's folder; the lock goes with the process, however it dies.

    Raises:
        UserError: another process holds it, or the folder cannot be written.
    """
    path = paths.markers / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 - held open as long as the lock
    except OSError as error:
        raise _cannot_write(paths, error) from None
    with file:
        try:
            # Unlike flock's, this lock is not handed on to loader workers, which may outlive a killed process a while.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                holder = file.read().decode() or "?"
                what = f"{paths.name} is being run by process {holder} already"
                raise UserError(f"{what}; wait for it or stop it") from None
            # A network file system without locks: better to work without than not at all.
        try:
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        except OSError as error:
            raise _cannot_write(paths, error) from None
        yield


@contextmanager
def without_trace(stages: Sequence[Stage], paths: RunPaths) -> Iterator[None]:
    """Removes the run's folder again where a mistake is told before any of its stages was done: a typo is no run.

    To be entered by whoever holds the folder's lock.
    """
    is_new = _is_new(paths)
    try:
        yield
    except UserError:
        if is_new and not stage_states(stages, paths):
            shutil.rmtree(paths.folder, ignore_errors=True)
        raise


def _is_new(paths: RunPaths) -> bool:
    return not (paths / "config.yaml").exists()


def _cannot_write(paths: RunPaths, error: OSError) -> UserError:
    cure = "free space there, or set RUNS_DIR to a folder of yours"
    return UserError(f"cannot write below {shown(paths.folder)}: {error.strerror}; {cure}")


def _reason(stage: Stage, run: Run, fingerprints: Fingerprints, force: Sequence[str]) -> str | None:
    """Returns why the stage must run, or None while it is fresh."""
    if stage.name in force:
        return FORCED
    marker = read_marker(_marker_path(stage, run))
    before = marker or read_marker(_begun_path(stage, run))
    if before is None:
        return why_stale(None, stage.version, {}, {})
    inputs = inside(stage, run, fingerprints) | outside_or_as_before(stage, run, fingerprints, before)
    reason = why_stale(before, stage.version, settings_of(stage, run.loaded), inputs)
    if reason is not None or marker is None:
        return reason or "not finished"
    outputs = outputs_of(stage, run, fingerprints)
    changed = next((name for name, found in outputs.items() if found != marker.outputs.get(name)), None)
    return None if changed is None else f"{changed} is gone or was changed"


def _marker_path(stage: Stage, run: Run) -> Path:
    return run.paths.markers / f"{stage.name}.json"


def _begun_path(stage: Stage, run: Run) -> Path:
    """Returns where is kept what a stage was begun with, until it is done."""
    return run.paths.markers / f"{stage.name}.begun.json"


def _execute(stage: Stage, run: Run, fingerprints: Fingerprints, reason: str, say: Callable[[str], None]) -> None:
    marker_path, begun_path = _marker_path(stage, run), _begun_path(stage, run)
    settings = settings_of(stage, run.loaded)
    before = None if reason == FORCED else read_marker(marker_path) or read_marker(begun_path)
    inputs = inputs_of(stage, run, fingerprints, settings, before)
    say(f"{stage.name:<9} {stage.does} ({reason})")
    write_marker(begun_path, Marker(stage.version, settings, inputs, {}, 0.0))
    marker_path.unlink(missing_ok=True)
    if reason == FORCED:
        _remove_outputs(stage, run)
    start = time.monotonic()
    stage.function(Run(run.loaded, run.paths, run.stop, key_of(stage.version, settings, inputs)))
    outputs = outputs_of(stage, run, fingerprints)
    missing = [name for name, content_hash in outputs.items() if content_hash == ABSENT]
    if missing:
        raise RuntimeError(f"stage {stage.name} ended without writing {', '.join(missing)}")
    seconds = round(time.monotonic() - start, 2)
    write_marker(marker_path, Marker(stage.version, settings, inputs, outputs, seconds))
    begun_path.unlink(missing_ok=True)
    say(f"{stage.name:<9} done in {duration(seconds)}")


def _remove_outputs(stage: Stage, run: Run) -> None:
    """Removes what the stage wrote into the run's folder, half-done work included, so that nothing is continued."""
    left = [path for pattern in stage.leaves for path in run.paths.folder.glob(pattern)]
    for path in [*(run.paths / name for name in stage.writes), *left]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
