"""Runs as tasks of a Ray cluster (Moritz et al. 2018, "Ray: A Distributed Framework for Emerging AI Applications")."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from pipeline.engine.stopping import SIGNALS
from pipeline.errors import UserError
from pipeline.paths import PROJECT, Folders
from pipeline.wording import did_you_mean

RAY_RETRIES = 20  # of a run whose node or process died; a fault of the run itself is no reason to try again
STORE_BYTES = 100_000_000  # of a local Ray cluster: runs exchange files, not objects
RAY_PORT = 6379
NAMED_ADDRESSES = ("auto", "local")
CONNECT_TIMEOUT_S = 10.0
LOOK_TIME_OUT_S = 120  # for a node to say what it sees; a first Python process there takes seconds


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

        check_answers(self.address)
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        local = {} if self.address else {"include_dashboard": False, "object_store_memory": STORE_BYTES}
        # Tasks without a GPU keep CUDA_VISIBLE_DEVICES as it is.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            ray.init(address=self.address or None, logging_level="warning", **local)
        except (ConnectionError, ValueError) as error:  # ValueError: RAY_ADDRESS has no valid address
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
        """Refuses a cluster with a machine that does not see project and runs, or the locks of this one.

        Raises:
            UserError: names the machines, and what they do not see.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = _looker(str(PROJECT / "pipeline"), str(self.folders.runs))
        with tempfile.NamedTemporaryFile(dir=self.folders.runs, prefix=".seen") as token:
            fcntl.lockf(token, fcntl.LOCK_EX)
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
                "all machines of the cluster share, at the same path, with file locks that all of them see"
            )


def check_address(address: str) -> None:
    """Refuses text that cannot be the address of a Ray cluster.

    Ray takes HOST:PORT, `auto` and `local`; an address with `://` is not checked here, but by Ray.

    >>> check_address("10.0.0.1:6379"), check_address("[::1]:6379"), check_address("")
    (None, None, None)

    Raises:
        UserError: names what is wrong.
    """
    if address in ("", *NAMED_ADDRESSES) or "://" in address:
        return
    near = did_you_mean(address, NAMED_ADDRESSES, "")
    host, colon, port = address.rpartition(":")
    if not (host and colon):
        raise UserError(f"expected ray:HOST:PORT, for example ray:10.0.0.1:{RAY_PORT}{f'; {near}' if near else ''}")
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"found port {port!r}, expected a number from 1 to 65535; the usual one is {RAY_PORT}")


def check_answers(address: str) -> None:
    """Refuses an address HOST:PORT at which nothing answers; Ray itself would try for minutes.

    Raises:
        UserError: names the address and why.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "://" in address:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:  # the last of a name that no host can have
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"no Ray cluster answers at {address}: {reason}. Start one: .venv/bin/ray start --head --port={RAY_PORT}, "
            "or give the address that it printed"
        ) from None


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

        os.environ.pop("OMP_NUM_THREADS", None)  # Ray's own setting
        os.environ.update(environment)
        if project not in sys.path:
            sys.path.insert(0, project)
        module, _, function = name.partition(":")
        return getattr(importlib.import_module(module), function)(*arguments)

    return call


def _looker(package: str, runs: str) -> Callable:
    """Returns a function that says what is wrong with a machine, given a file that another process has locked."""

    def look(token: str) -> str:
        import fcntl
        import importlib.util
        import os
        from contextlib import suppress

        if not os.path.isdir(package):
            return f"does not see the project, {package}"
        if not os.path.exists(token):
            return f"does not see RUNS_DIR, {runs}"
        if importlib.util.find_spec("torch") is None:
            return "has no torch"
        with suppress(OSError), open(token, "rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return f"does not see locks of other machines in RUNS_DIR, {runs}, so that two could write the same run"
        return ""

    return look


def _number(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"
