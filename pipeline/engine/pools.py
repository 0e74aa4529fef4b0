"""Where many runs are carried out: processes of this machine, a Ray cluster, or Slurm. One interface for `run_each`.

A pool takes a function and its arguments, as `concurrent.futures.Executor` does, and returns a future. On a cluster,
project, data and RUNS_DIR are on a disk that all machines share; each run has its own folder there, so that it goes on
from its last checkpoint wherever it is started again.

Ray: Moritz et al. 2018, "Ray: A Distributed Framework for Emerging AI Applications". Slurm: through Meta's submitit.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, Protocol

from pipeline.engine.cards import VISIBLE
from pipeline.errors import UserError
from pipeline.paths import PROJECT, Folders, shown

RAY, SLURM = "ray", "slurm"
RAY_RETRIES = 20  # of a run whose node or process died; a fault of the run itself is no reason to try again
STORE_BYTES = 100_000_000  # of a local Ray cluster: runs exchange files, not objects
LOOK_TIME_OUT_S = 120  # for a node to say what it sees; a first Python process there takes seconds
POLL_S = 1.0  # between two looks at the jobs of Slurm
SLURM_MINUTES = 720  # of a job; it is queued again, and goes on, where its run takes longer
LOCAL_SLURM = "local"


class Pool(Protocol):
    """Carries out functions elsewhere; a context manager."""

    def submit(self, function: Callable, *arguments: Any, cpus: int = 1, gpus: int = 0) -> Future: ...

    def interrupt(self) -> None:
        """Asks what is running to save its state and end, and begins nothing more."""

    def describe(self) -> str | None:
        """Returns what there is to say of the machines, where that can change; else None."""

    def __enter__(self) -> Pool: ...

    def __exit__(self, *error: object) -> None: ...


class LocalPool:
    """Processes of this machine, one run each at a time.

    Args:
        cards: the GPUs that each process sees, as from `cards.shares`; none: all see all.
        begin: called in each new process with its GPUs, or None, before anything else is imported.
    """

    def __init__(self, workers: int, cards: Sequence[str], begin: Callable[[str | None], None]) -> None:
        # Not forked: torch's threads and a GPU do not survive a fork.
        context = multiprocessing.get_context("spawn")
        queue = context.SimpleQueue()
        for number in range(workers):
            queue.put(cards[number] if cards else None)
        self.executor = ProcessPoolExecutor(workers, context, _begin_process, (queue, begin))
        self.futures: list[Future] = []

    def submit(self, function: Callable, *arguments: Any, cpus: int = 1, gpus: int = 0) -> Future:
        self.futures.append(self.executor.submit(function, *arguments))
        return self.futures[-1]

    def interrupt(self) -> None:
        for future in self.futures:
            future.cancel()
        for process in multiprocessing.active_children():
            process.terminate()

    def describe(self) -> str | None:
        return None

    def __enter__(self) -> LocalPool:
        self.executor.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.executor.__exit__(*error)


def _begin_process(cards: SimpleQueue, begin: Callable[[str | None], None]) -> None:
    own = cards.get()
    if own is not None:
        os.environ[VISIBLE] = own
    begin(own)


@dataclass(frozen=True)
class Where:
    """What `--on` says: `ray`, `ray:HOST:PORT`, `slurm`, `slurm:partition=gpu,...`, or `slurm:local`, for a trial."""

    kind: str
    detail: str = ""


def parse_where(text: str) -> Where:
    """Returns what `--on` says.

    >>> parse_where("ray"), parse_where("ray:10.0.0.1:6379").detail
    (Where(kind='ray', detail=''), '10.0.0.1:6379')

    Raises:
        UserError: something else, or the package for it is not installed.
    """
    kind, _, detail = text.partition(":")
    packages = {RAY: "ray", SLURM: "submitit"}
    if kind not in packages or (kind == SLURM and detail not in ("", LOCAL_SLURM) and slurm_settings(detail) is None):
        raise UserError(f"--on {text}: expected ray, ray:HOST:PORT, slurm or slurm:KEY=VALUE,KEY=VALUE")
    if find_spec(packages[kind]) is None:
        python = shown(Path(sys.executable))
        raise UserError(
            f"--on {text} needs the package {packages[kind]}, which is not installed (it is optional). Install it: "
            f"{python} -m pip install {packages[kind]}"
        )
    return Where(kind, detail)


def open_pool(where: Where, folders: Folders) -> Pool:
    """Returns the pool of a cluster, to be entered.

    Raises:
        UserError: the disk of RUNS_DIR has no file locks, which keep two machines from writing one run.
    """
    check_locks(folders.runs)
    return RayPool(where.detail, folders) if where.kind == RAY else SlurmPool(where.detail, folders)


def check_locks(folder: Path) -> None:
    """Refuses a folder whose disk has no file locks.

    Raises:
        UserError: it has none; with what to do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".lock") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"the disk of {shown(folder)} has no file locks ({error.strerror}), without which two machines could "
                "write the same run. Set RUNS_DIR to a disk that has them, such as NFS version 4, or leave out --on"
            ) from None


class RayPool:
    """A Ray cluster: the one at an address, or that RAY_ADDRESS names, or else one that this machine forms alone.

    A run whose machine dies is started again on another one, where it goes on from its last checkpoint.
    """

    def __init__(self, address: str, folders: Folders) -> None:
        self.address, self.folders = address or os.environ.get("RAY_ADDRESS", ""), folders
        self.references: dict[Future, Any] = {}
        self.known_nodes = 0

    def __enter__(self) -> RayPool:
        import ray

        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        local = {} if self.address else {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        os.environ.setdefault(
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
        )  # tasks without a GPU keep CUDA_VISIBLE_DEVICES
        try:
            ray.init(address=self.address or None, logging_level="warning", **local)
        except ConnectionError as error:
            raise UserError(
                f"no Ray cluster answers at {self.address}: {error}. Start one: .venv/bin/ray start --head"
            ) from None
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray's would end this process at once
        self._check_nodes()
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        ray.shutdown()

    def submit(self, function: Callable, *arguments: Any, cpus: int = 1, gpus: int = 0) -> Future:
        import ray

        nodes = self._nodes()
        most = {name: max((node["Resources"].get(name, 0) for node in nodes), default=0) for name in ("CPU", "GPU")}
        options = {
            "num_cpus": max(1, min(cpus, most["CPU"])),
            "num_gpus": min(max(gpus, 1), most["GPU"]),  # a run on a machine with GPUs has one of its own
            "max_retries": RAY_RETRIES,
            "retry_exceptions": False,
        }
        call = _call_in(str(PROJECT), _thread_settings())
        name = f"{function.__module__}:{function.__qualname__}"
        reference = ray.remote(**options)(call).remote(name, *arguments)
        future: Future = Future()
        future.set_running_or_notify_cancel()
        self.references[future] = reference
        reference.future().add_done_callback(lambda done: _hand_over(done, future))
        return future

    def interrupt(self) -> None:
        import ray

        for future, reference in self.references.items():
            if not future.done():
                ray.cancel(reference, force=False)  # a signal SIGINT for what runs

    def describe(self) -> str | None:
        nodes = self._nodes()
        lost, self.known_nodes = self.known_nodes - len(nodes), len(nodes)
        if lost > 0:
            return f"ray: {lost} of {lost + len(nodes)} machines lost; their runs continue on other machines"
        cpus, gpus = (int(sum(node["Resources"].get(name, 0) for node in nodes)) for name in ("CPU", "GPU"))
        return f"ray: {_number(len(nodes), 'machine')}, {_number(cpus, 'CPU')}, {_number(gpus, 'GPU')}"

    def _nodes(self) -> list[dict]:
        import ray

        return [node for node in ray.nodes() if node["Alive"]]

    def _check_nodes(self) -> None:
        """Refuses a cluster with a machine that does not see project and runs.

        Raises:
            UserError: names the machines, and what they do not see.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = _looker(str(PROJECT / "pipeline"), str(self.folders.runs))
        with tempfile.NamedTemporaryFile(dir=self.folders.runs, prefix=".seen") as token:
            asked = {}
            for node in self._nodes():
                pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                remote = ray.remote(num_cpus=0, scheduling_strategy=pinned)(look)
                asked[remote.remote(token.name)] = node["NodeManagerAddress"]
            ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=LOOK_TIME_OUT_S)
            problems = [f"{asked[one]} did not answer within {LOOK_TIME_OUT_S} s" for one in late]
            problems += [f"{asked[one]} {found}" for one in ready if (found := ray.get(one))]
        if problems:
            raise UserError(
                "\n".join(problems) + "\nProject, RUNS_DIR and the packages of requirements.txt must be on a disk that "
                "all machines of the cluster share, at the same path"
            )


def _hand_over(done: Future, future: Future) -> None:
    """Passes on how a task of Ray ended; one that was canceled before it began is a canceled future's."""
    import ray

    error = done.exception()
    if isinstance(error, ray.exceptions.TaskCancelledError):
        future.set_exception(CancelledError())
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(done.result())


def _thread_settings() -> dict[str, str]:
    """Returns the numbers of threads of this process, so that sums have the same order, and results the same bits."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
    return {name: os.environ[name] for name in names if name in os.environ}


def _call_in(project: str, environment: dict[str, str]) -> Callable:
    """Returns a function for other machines, which is sent whole: they find the project's modules only after it."""

    def call(name: str, *arguments: Any) -> Any:
        import importlib
        import os
        import sys

        for variable in ("OMP_NUM_THREADS",):  # Ray's own setting
            os.environ.pop(variable, None)
        os.environ.update(environment)
        if project not in sys.path:
            sys.path.insert(0, project)
        module, _, function = name.partition(":")
        return getattr(importlib.import_module(module), function)(*arguments)

    return call


def _looker(package: str, runs: str) -> Callable:
    def look(token: str) -> str:
        import importlib.util
        import os

        if not os.path.isdir(package):
            return f"does not see the project, {package}"
        if not os.path.exists(token):
            return f"does not see RUNS_DIR, {runs}"
        if importlib.util.find_spec("torch") is None:
            return "has no torch"
        return ""

    return look


class SlurmPool:
    """Jobs of Slurm, one for each run, with submitit.

    A job that is preempted, or reaches its time limit, is queued again and goes on from the last checkpoint.
    """

    def __init__(self, detail: str, folders: Folders) -> None:
        self.detail, self.folder = detail, folders.runs / "slurm"
        self.jobs: dict[Future, Any] = {}
        self._is_over = threading.Event()

    def __enter__(self) -> SlurmPool:
        import submitit

        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))
        cluster = LOCAL_SLURM if self.detail == LOCAL_SLURM else SLURM
        if cluster == SLURM and shutil.which("srun") is None:
            raise UserError("--on slurm: srun was not found; start the study on a machine that can submit Slurm jobs")
        self.executor = submitit.AutoExecutor(folder=self.folder / "%j", cluster=cluster)
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self.watcher.join()

    def submit(self, function: Callable, *arguments: Any, cpus: int = 1, gpus: int = 0) -> Future:
        usual = {"name": "study", "cpus_per_task": cpus, "gpus_per_node": gpus, "timeout_min": SLURM_MINUTES}
        self.executor.update_parameters(**usual | (slurm_settings(self.detail) or {}))
        future: Future = Future()
        future.set_running_or_notify_cancel()
        self.jobs[future] = self.executor.submit(Resumed(function), *arguments)
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
            for future, job in [pair for pair in self.jobs.items() if not pair[0].done()]:
                if not job.done():
                    continue
                try:
                    future.set_result(job.result())
                except Exception as error:  # of submitit: the job failed, was canceled or its node died
                    is_canceled = "CANCEL" in str(job.state)
                    future.set_exception(CancelledError() if is_canceled else error)


class Resumed:
    """A function that is called again with the same arguments where its job was interrupted, as submitit asks for."""

    def __init__(self, function: Callable) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def checkpoint(self, *arguments: Any) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self, *arguments)


def slurm_settings(detail: str) -> dict[str, Any] | None:
    """Returns the parameters of jobs that `--on slurm:...` gives; None where it is no list of KEY=VALUE.

    `minutes` is the time limit of a job; the others are options of sbatch.

    >>> slurm_settings("partition=gpu,account=abc,minutes=240")
    {'slurm_partition': 'gpu', 'slurm_account': 'abc', 'timeout_min': 240}
    >>> slurm_settings("gpu") is None
    True
    """
    settings: dict[str, Any] = {}
    for part in filter(None, detail.split(",")):
        key, equals, value = part.partition("=")
        if not (key and equals and value) or (key == "minutes" and not value.isdigit()):
            return None
        settings |= {"timeout_min": int(value)} if key == "minutes" else {f"slurm_{key}": value}
    return settings


def _number(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"
