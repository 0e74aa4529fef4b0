"""The services that RUNTIME.TRACKER names, each as the same few functions: W&B, MLflow, trackio.

In: scalars and images of epochs, settings, final scores. Out: a run of the service, which a later process continues
by its id. What a service keeps on this machine is in `tracked/` in the folder of all runs. It is told nothing of the
machine: no path, no command, no version control, no load of the processor.

Each package is optional, and imported when its service is opened. All of these functions may raise whatever the
package raises; `tracking.py` reports that once and goes on without the service.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.paths import shown

if TYPE_CHECKING:
    import numpy as np

Scalars = Mapping[str, float]
Images = Mapping[str, "np.ndarray"]  # uint8 RGB (H, W, 3)

WAIT_S = 10  # for an answer of a server, before training goes on without it
FLUSH_S = 1.0  # W&B's process writes what it is told to the disk so often; 15 by default, which a kill would lose


@dataclass(frozen=True)
class Tracker:
    """An open log of one run.

    Attributes:
        log: takes an epoch with its scalars and images, by name.
        close: takes whether the stage came to its end; waits until all is written.
        add_scores: takes the final scores, by name.
        run_id: by which a later process continues it.
        delay_s: an epoch that was logged so long ago outlives a kill of this process.
    """

    log: Callable[[int, Scalars, Images], None]
    close: Callable[[bool], None]
    add_scores: Callable[[Scalars], None] = lambda scores: None
    run_id: str = ""
    delay_s: float = 0.0


@dataclass(frozen=True)
class Tracked:
    """The run that is logged.

    Attributes:
        project: name of the competition, under which a service keeps all its runs.
        name: of the run folder.
        settings: by key.
        run_id: where an earlier process has begun it.
        new_id: what it gets otherwise, if the service does not choose.
        folder: for what the service keeps on this machine.
        echo: takes a line for the user.
    """

    project: str
    name: str
    settings: Mapping[str, Any]
    run_id: str | None
    new_id: str
    folder: Path
    echo: Callable[[str], None]


def open_wandb(tracked: Tracked) -> Tracker:
    """Returns the run's log at Weights & Biases; without login or network it is kept for an upload later.

    Nobody is asked for a login: a training that waits for an answer would wait all night.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # no reports of errors to a third party
    import wandb

    run_id = tracked.run_id or tracked.new_id
    settings = wandb.setup(settings=wandb.Settings(silent=True)).settings
    mode, first = settings.mode, ""
    if mode == "online":
        has_login = wandb.login(prompt=False, verify=False)
        mode = "online" if has_login and _can_reach(settings.base_url) else "offline"
        first = "" if has_login else f"{shown(Path(sys.executable))} -m wandb login, then "
    if mode == "offline":
        upload = f"{shown(Path(sys.executable))} -m wandb sync {shown(tracked.folder / 'wandb')}/*-{run_id}*"
        tracked.echo(f"wandb: kept on this machine; to upload it: {first}{upload}")
    quiet = {"console": "off", "silent": True, "init_timeout": WAIT_S, "finish_timeout": WAIT_S}
    quiet |= {"x_graphql_timeout_seconds": WAIT_S, "x_graphql_retry_max": 1}
    quiet |= {"x_transaction_log_flush_interval": FLUSH_S}
    nothing_of_the_machine = {
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_save_requirements": False,
        "host": "-",
    }
    no_code = {"disable_code": True, "disable_git": True, "save_code": False}
    run = wandb.init(
        project=tracked.project,
        name=tracked.name,
        id=run_id,
        resume="allow",
        config=dict(tracked.settings),
        allow_val_change=True,  # a plan may change on the way
        dir=str(tracked.folder),
        mode=mode,
        settings=wandb.Settings(**quiet, **nothing_of_the_machine, **no_code),
    )

    def log(epoch: int, scalars: Scalars, images: Images) -> None:
        shown_images = {name: wandb.Image(image) for name, image in images.items()}
        run.log({"epoch": epoch, **scalars, **shown_images}, step=epoch, commit=True)

    return Tracker(log, lambda is_done: run.finish(exit_code=int(not is_done)), run.summary.update, run_id, 3 * FLUSH_S)


def open_mlflow(tracked: Tracked) -> Tracker:
    """Returns the run's log at the server of MLFLOW_TRACKING_URI, or in a store on this machine."""
    answers = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(WAIT_S), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    for name, value in (answers | {"MLFLOW_DISABLE_TELEMETRY": "true"}).items():
        os.environ.setdefault(name, value)
    import mlflow
    from mlflow.entities import Metric, Param

    is_given = mlflow.is_tracking_uri_set()
    place, files = (mlflow.get_tracking_uri(), None) if is_given else _mlflow_store(tracked.folder)
    if is_given and place.startswith("http") and not _can_reach(place):
        raise ConnectionError(f"MLFLOW_TRACKING_URI {place} cannot be reached")
    with _alone(tracked.folder / "mlflow.lock"):  # two processes would create the same store, or experiment, twice
        client = mlflow.MlflowClient(tracking_uri=place)
        found = client.get_experiment_by_name(tracked.project)
        experiment = found.experiment_id if found else client.create_experiment(tracked.project, files)
    if tracked.run_id is None:
        run_id = client.create_run(experiment, run_name=tracked.name).info.run_id
        params = [Param(_mlflow_name(key), str(value)) for key, value in tracked.settings.items()]
        client.log_batch(run_id, params=params)  # once: MLflow lets nobody change a parameter
    else:
        run_id = tracked.run_id
        client.update_run(run_id, status="RUNNING")
    if not is_given:
        allowed = "MLFLOW_ALLOW_FILE_STORE=true " if place.startswith("file:") else ""
        tracked.echo(f"mlflow: kept on this machine; to see it: {allowed}mlflow ui --backend-store-uri {place}")

    def metrics(scalars: Scalars, epoch: int) -> list[Metric]:
        now = int(time.time() * 1000)
        return [Metric(_mlflow_name(name), value, now, epoch) for name, value in scalars.items()]

    def log(epoch: int, scalars: Scalars, images: Images) -> None:
        client.log_batch(run_id, metrics=metrics(scalars, epoch))
        for name, image in images.items():
            client.log_image(run_id, image, key=name, step=epoch, synchronous=True)

    def add_scores(scores: Scalars) -> None:
        client.log_batch(run_id, metrics=metrics(scores, 0))

    def close(is_done: bool) -> None:
        client.set_terminated(run_id, "FINISHED" if is_done else "KILLED")

    return Tracker(log, close, add_scores, run_id)


def _mlflow_store(folder: Path) -> tuple[str, str]:
    """Returns the addresses of MLflow's database on this machine and of its files.

    The small package mlflow-skinny has no database; its store is text files, which MLflow wants to be told to keep.
    """
    files = (folder / "mlflow_files").absolute().as_uri()
    if find_spec("sqlalchemy"):
        return f"sqlite:///{(folder / 'mlflow.db').absolute()}", files
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return (folder / "mlflow").absolute().as_uri(), files


def _mlflow_name(name: str) -> str:
    """Returns a name with the characters that MLflow knows.

    >>> _mlflow_name("iou/Road (wet)/valid")
    'iou/Road _wet_/valid'
    """
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)


def open_trackio(tracked: Tracked) -> Tracker:
    """Returns the run's log in trackio's database on this machine, or at TRACKIO_SERVER_URL or TRACKIO_SPACE_ID."""
    os.environ.setdefault("TRACKIO_DIR", str(tracked.folder / "trackio"))  # read when it is imported
    import trackio

    with _silently():
        run = trackio.init(
            project=tracked.project,
            name=tracked.name,
            config=dict(tracked.settings),
            resume="never" if tracked.run_id is None else "allow",  # the newest run of this name
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
    tracked.echo(f"trackio: to see it: TRACKIO_DIR={shown(Path(os.environ['TRACKIO_DIR']))} trackio show")

    def log(epoch: int, scalars: Scalars, images: Images) -> None:
        run.log({**scalars, **{name: trackio.Image(image) for name, image in images.items()}}, step=epoch)

    def add_scores(scores: Scalars) -> None:
        run.log(dict(scores))

    def close(is_done: bool) -> None:
        with _silently():
            trackio.finish()

    return Tracker(log, close, add_scores, run.id, delay_s=3.0)  # it writes twice a second


def _can_reach(url: str) -> bool:
    """Returns whether a server accepts a connection; the packages try that for minutes. Behind a proxy: True."""
    if urllib.request.getproxies():
        return True
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname, port), timeout=WAIT_S):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits until no other process is in a block with this file; not longer than for a server.

    Raises:
        TimeoutError: another process stays in it.
    """
    with open(path, "ab") as file:
        until = time.monotonic() + WAIT_S
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                if time.monotonic() > until:
                    raise TimeoutError(f"another process holds {path.name}") from None
                time.sleep(0.1)
                continue
            except OSError:  # a file system without locks
                pass
            break
        yield


def _silently() -> contextlib.redirect_stdout:
    """Returns a context in which a package prints nothing: the log of a run is its own."""
    return contextlib.redirect_stdout(io.StringIO())


OPENERS: Mapping[str, Callable[[Tracked], Tracker]] = {
    "wandb": open_wandb,
    "mlflow": open_mlflow,
    "trackio": open_trackio,
}
