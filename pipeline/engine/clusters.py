"""Pools of many machines: Ray and Slurm, as `--on` names them.

Project, data and RUNS_DIR are on a disk that all machines share. Each run has its own folder there, so it continues
from its last checkpoint on whichever machine it is started again.
"""

from __future__ import annotations

import fcntl
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline.engine.pools import Pool
from pipeline.engine.ray_pool import RayPool, check_address
from pipeline.engine.slurm_options import options_here, slurm_settings
from pipeline.engine.slurm_pool import LOCAL_SLURM, SlurmPool
from pipeline.errors import UserError
from pipeline.optional import install_command
from pipeline.paths import Folders, shown
from pipeline.wording import did_you_mean

RAY, SLURM = "ray", "slurm"


@dataclass(frozen=True)
class Where:
    """What `--on` says: `ray`, `ray:HOST:PORT`, `slurm`, `slurm:partition=gpu,...`, or `slurm:local`, for a trial."""

    kind: str
    detail: str = ""


def parse_where(text: str) -> Where:
    """Returns what `--on` says.

    Raises:
        UserError: it is neither Ray nor Slurm, an option is misspelt, or the package for it is not installed.
    """
    kind, _, detail = text.partition(":")
    packages = {RAY: "ray", SLURM: "submitit"}
    if kind not in packages:
        near = did_you_mean(kind, packages, "")
        expected = "expected ray, ray:HOST:PORT, slurm or slurm:KEY=VALUE,KEY=VALUE"
        raise UserError(f"--on {text}: {expected}{f'; {near}' if near else ''}")
    try:
        if kind == RAY:
            check_address(detail)
        elif detail != LOCAL_SLURM:
            slurm_settings(detail, options_here())
    except UserError as error:
        raise UserError(f"--on {text}: {error}") from None
    if find_spec(packages[kind]) is None:
        raise UserError(
            f"--on {text} needs the package {packages[kind]}, which is not installed (it is optional). Install it: "
            f"{install_command(packages[kind])}"
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
