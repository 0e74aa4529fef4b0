"""Runs as jobs of Slurm, through Meta's submitit."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

from pipeline.engine.lock_token import LockToken, unseen_lock
from pipeline.engine.slurm_options import job_parameters, options_here, slurm_settings, unknown_options
from pipeline.errors import UserError
from pipeline.paths import PROJECT, Folders

POLL_S = 1.0  # between two looks at the jobs of Slurm
SLURM_MINUTES = 720  # of a job; it is queued again, and goes on, where its run takes longer
LOCAL_SLURM = "local"


class SlurmPool:
    """Jobs of Slurm, one for each run, with submitit.

    A job that is preempted, or reaches its time limit, is queued again and goes on from the last checkpoint. Before it
    trains, each job checks that its machine sees the lock that this process holds, see `lock_token.py`.
    """

    def __init__(self, detail: str, folders: Folders) -> None:
        self.is_local, self.folder = detail == LOCAL_SLURM, folders.runs / "slurm"
        self.settings = {} if self.is_local else slurm_settings(detail, options_here())
        self.jobs: dict[Future, Any] = {}
        self._is_over = threading.Event()

    def __enter__(self) -> SlurmPool:
        import submitit

        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))
        if not self.is_local and shutil.which("srun") is None:
            raise UserError("--on slurm: srun was not found; start the study on a machine that can submit Slurm jobs")
        for option in unknown_options(self.settings, options_here()):
            print(f"warning: --on slurm: {option} is no known option of sbatch; it is passed on to sbatch", flush=True)
        self.executor = submitit.AutoExecutor(
            folder=self.folder / "%j", cluster=LOCAL_SLURM if self.is_local else "slurm"
        )
        self.token = LockToken(self.folder).__enter__()
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self.watcher.join()
        self.token.__exit__()

    def submit(self, function: Callable, *arguments: Any, cpus: int = 1, gpus: int = 0) -> Future:
        import submitit

        self.executor.update_parameters(**job_parameters(self.settings, cpus, gpus, SLURM_MINUTES))
        future: Future = Future()
        future.set_running_or_notify_cancel()
        try:
            self.jobs[future] = self.executor.submit(Resumed(function, self.token.path), *arguments)
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            refused = UserError(f"sbatch did not accept the job: {error}")
            if not self.jobs:
                raise refused from None
            future.set_exception(refused)  # such as a limit to the number of jobs; the others go on
        return future

    def interrupt(self) -> None:
        for future, job in self.jobs.items():
            if not future.done():
                job.cancel()

    def describe(self) -> str | None:
        states = [job.state for future, job in self.jobs.items() if not future.done()]
        counts = ", ".join(f"{states.count(state)} {state.lower()}" for state in dict.fromkeys(states))
        return f"slurm: {counts}" if counts else None

    def _watch(self) -> None:
        while not self._is_over.wait(POLL_S):
            self.token.beat()
            # A copy, made in one step, as `submit` adds jobs meanwhile.
            for future, job in list(self.jobs.items()):
                if future.done() or not job.done():
                    continue
                try:
                    result = job.result()
                    future.set_exception(result) if isinstance(result, UserError) else future.set_result(result)
                except Exception as error:  # of submitit: the job failed, was canceled or its node died
                    is_canceled = "CANCEL" in str(job.state)
                    future.set_exception(CancelledError() if is_canceled else error)


class Resumed:
    """A function that submitit calls again with the same arguments after its job was interrupted.

    A machine that does not see the lock of the token gets a `UserError` as the result: submitit would return an
    exception as text.
    """

    def __init__(self, function: Callable, token: Path) -> None:
        self.function, self.token = function, token

    def __call__(self, *arguments: Any) -> Any:
        problem = unseen_lock(self.token)
        return UserError(problem) if problem else self.function(*arguments)

    def checkpoint(self, *arguments: Any) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self, *arguments)
