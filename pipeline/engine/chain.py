"""Runs the stages of one run in order, each only when it must, and logs why. Which stages there are: `stages.py`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from pipeline.engine.dependence import inputs_of, outputs_of, outside_or_as_before, reads_of, settings_of, why_run
from pipeline.engine.folder import is_new, locked, prepare_folder, removed_when_refused
from pipeline.engine.freshness import ABSENT, Fingerprints, Marker, key_of, newest, read_marker, write_marker
from pipeline.engine.reuse import known_at, reuse, sibling_runs
from pipeline.engine.run import Run, Stage
from pipeline.errors import Stopped, UserError
from pipeline.files import read_json, write_json
from pipeline.paths import CONFIGS, REFUSAL, RunPaths, shown
from pipeline.wording import duration

LOOK_EVERY_S = 20.0  # how often the first stages' files are looked at again while later ones run
FORCED = "--force"
FILES_GONE = "its large files are gone"


def run_chain(run: Run, last: str, force: Sequence[str] = (), stages: Sequence[Stage] | None = None) -> None:
    """Runs the stages up to `last`, skipping those whose result is still valid.

    Args:
        last: name of the last stage wanted.
        force: names of stages to run from their beginning, even when fresh or half done.
        stages: some of the run's stages, in order; None: all.

    Raises:
        UserError: a mistake of the user's in any stage. Stages that run `despite` it have been run.
        Stopped: a stop was requested; a stage that can saved its state.
    """
    stages = run.stages if stages is None else stages
    with locked(run.paths), removed_when_refused(stages, run.paths):
        prepare_folder(run)
        _Chain(run, stages, last, force).run()


class _Chain:
    """One pass over the stages, with what it has found out so far."""

    def __init__(self, run: Run, stages: Sequence[Stage], last: str, force: Sequence[str] = ()) -> None:
        self.base, self.last, self.force = run, last, force
        self.wanted = stages[: [stage.name for stage in stages].index(last) + 1]
        self.fingerprints = Fingerprints.of_run(run.paths)
        self.lacking: list[Stage] = []
        self.is_checked = False
        self.looked, self.noted = time.monotonic(), set()

    def run(self) -> None:
        """Runs what must be run; a refusal ends the chain, except for stages that run despite it."""
        reused = [stage for stage in self.wanted if self.is_reused(stage)]
        refused: dict[str, UserError] = {}
        for stage in self.wanted:
            if self.base.stop.requested:
                raise Stopped(f"{self.base.stop.reason}, before {stage.name}")
            if refused and not refused.keys() <= set(stage.despite):
                continue
            try:
                self._run_stage(stage, is_reused=stage in reused)
            except UserError as error:
                _write_refusal(self.base.paths, stage.name, str(error))
                if not any(stage.name in later.despite for later in self.wanted):
                    raise
                refused[stage.name] = error
            if self.is_checked and (stage is self.wanted[-1] or time.monotonic() - self.looked > LOOK_EVERY_S):
                self._look_for_changes()
            self.fingerprints.save()
        # The traceback of an error has this frame and those that hold data-loading workers. If this frame referred to
        # the error, too, the workers would outlive it.
        if refused:
            raise refused.pop(next(iter(refused)))

    def _run_stage(self, stage: Stage, is_reused: bool) -> None:
        run, is_last = self.base, stage.name == self.last
        reason = FORCED if stage.name in self.force else why_run(stage, run, self.fingerprints)
        lacks = reason is None and stage.lacks(run)
        if lacks and is_last:
            reason = FILES_GONE
        if reason is None:
            if lacks:
                self.lacking.append(stage)
                run.log(f"{stage.name:<9} up to date ({FILES_GONE}; they are made again when needed)")
            elif not is_reused:
                run.log(f"{stage.name:<9} up to date")
            stage.tidy(run)
            return
        if not self.is_checked:
            self._check_ahead()
            self.is_checked = True
        needed = set(reads_of(stage, run))
        for earlier in [other for other in self.lacking if needed & set(other.writes)]:
            self._execute(earlier, FILES_GONE)
            self.lacking.remove(earlier)
        is_reused = self.is_reused(stage)  # its inputs may exist only now
        if is_reused and stage.lacks(run) and not is_last:
            self.lacking.append(stage)
        elif not is_reused or stage.lacks(run):
            self._execute(stage, reason)

    def is_reused(self, stage: Stage) -> bool:
        """Returns whether the stage need not run, since a sibling run has finished it."""
        run = self.base
        siblings = sibling_runs(run) if stage.is_shared and stage.name not in self.force else []
        try:
            sibling = reuse(siblings, stage, run, self.fingerprints)
        except UserError:  # no data, for instance: reported when the stage is run
            return False
        if sibling is not None:
            run.log(f"{stage.name:<9} reused from {shown(sibling.folder)} (same settings)")
        return sibling is not None

    def _check_ahead(self) -> None:
        """Refuses what a later stage could not do, before minutes are spent on the earlier ones."""
        siblings = sibling_runs(self.base)
        for stage in self.wanted:
            if not self.base.paths.marker(stage.name).is_file() and not known_at(siblings, stage, self.base):
                stage.check(replace(self.base, is_forced=stage.name in self.force))

    def _look_for_changes(self) -> None:
        """Looks again at the files outside that the first stages have seen.

        Each stage is right about what it reads when it starts. Of a file that changes while they run, one stage would
        have seen the old content and the next one the new.

        Raises:
            UserError: a file has other content. Of files that are there or gone since then it only warns, once: no
                stage needs to have read them.
        """
        self.looked, known = time.monotonic(), set(self.fingerprints.known)
        for stage in self.wanted:
            marker_path = self.base.paths.marker(stage.name)
            marker = None if reads_of(stage, self.base) else read_marker(marker_path)
            if marker is None:
                continue
            found = outside_or_as_before(stage, self.base, self.fingerprints, marker)
            for name in (name for name, old in marker.inputs.items() if found.get(name, old) != old):
                paths = stage.reads_outside(self.base).get(name)
                paths = [path for path in (paths if isinstance(paths, list) else [paths]) if str(path) in known]
                newer = newest(paths, marker_path.stat().st_mtime - marker.seconds)
                again = "type the same command again: what depends on them is done anew"
                if newer is not None and CONFIGS in newer.parents:
                    continue  # settings are read once, at the start
                if newer is not None:
                    why = f"{name} changed while the stages ran (first {shown(newer)})"
                    raise UserError(f"{why}, and some stages have used the old content; {again}")
                if name not in self.noted:
                    self.noted.add(name)
                    self.base.log(f"warning: some of {name} were added or removed while the stages ran; {again}")

    def _execute(self, stage: Stage, reason: str) -> None:
        run, fingerprints = self.base, self.fingerprints
        marker_path, started_path = run.paths.marker(stage.name), run.paths.started(stage.name)
        settings = settings_of(stage, run)
        before = None if reason == FORCED else read_marker(marker_path) or read_marker(started_path)
        inputs = inputs_of(stage, run, fingerprints, settings, before)
        run.log(f"{stage.name:<9} {stage.does} ({reason})")
        begun = Marker(stage.version, settings, inputs, {}, 0.0)
        write_marker(started_path, begun)
        marker_path.unlink(missing_ok=True)
        if reason == FORCED:
            _remove_outputs(stage, run)
        start = time.monotonic()
        stage.function(replace(run, key=key_of(stage.version, settings, inputs), begun=begun))
        outputs = outputs_of(stage, run, fingerprints)
        missing = [name for name, content_hash in outputs.items() if content_hash == ABSENT]
        if missing:
            raise RuntimeError(f"stage {stage.name} ended without writing {', '.join(missing)}")
        seconds = round(time.monotonic() - start, 2)
        write_marker(marker_path, Marker(stage.version, settings, inputs, outputs, seconds))
        started_path.unlink(missing_ok=True)
        stage.tidy(run)
        _remove_refusal(run.paths, stage.name)
        run.log(f"{stage.name:<9} done in {duration(seconds)}")


def reuse_finished(run: Run, last: str) -> None:
    """Reuses what sibling runs have finished up to `last`, where there are any; runs nothing."""
    if not sibling_runs(run):
        return
    with locked(run.paths):
        was_new = is_new(run.paths)
        prepare_folder(run)
        chain = _Chain(run, run.stages, last)
        for stage in chain.wanted:
            chain.is_reused(stage)
        chain.fingerprints.save()
        if was_new and not stage_seconds(run.stages, run.paths):
            shutil.rmtree(run.paths.folder, ignore_errors=True)


def stage_seconds(stages: Sequence[Stage], paths: RunPaths) -> dict[str, float]:
    """Returns the stages that have finished once, with their seconds; they may be stale by now."""
    markers = {stage.name: read_marker(paths.marker(stage.name)) for stage in stages}
    return {name: marker.seconds for name, marker in markers.items() if marker is not None}


def _write_refusal(paths: RunPaths, stage: str, message: str) -> None:
    """Leaves a refusal for the report, in a run that exists already, if its folder can be written."""
    if paths.markers.is_dir():
        with suppress(UserError):  # the disk may be full, which is what the message is about
            write_json(paths / REFUSAL, {"stage": stage, "message": message})


def _remove_refusal(paths: RunPaths, stage: str) -> None:
    """Removes the refusal of a stage that has succeeded now."""
    refusal = read_json(paths / REFUSAL, dict)
    if refusal and refusal.get("stage") == stage:
        (paths / REFUSAL).unlink()


def _remove_outputs(stage: Stage, run: Run) -> None:
    """Removes what the stage wrote into the run's folder, half-done work included, so that nothing is continued."""
    left = [path for pattern in stage.leaves for path in run.paths.folder.glob(pattern)]
    for path in [*(run.paths / name for name in stage.writes), *left]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
