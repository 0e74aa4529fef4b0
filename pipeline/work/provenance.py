"""How a stage was carried out: versions of packages, commit, machine, peak memory, micro-batches.

For people: no result depends on it.

In: this process. Out: `provenance/<stage>.json` below the run's folder, which no stage counts among what it reads, so
that another machine makes nothing stale. The name of the machine and of its user are left out.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pipeline.data.images import num_cores
from pipeline.engine.run import Run
from pipeline.errors import Stopped
from pipeline.files import write_json
from pipeline.paths import LAST, MEMORY, PROJECT, provenance_file
from pipeline.report.read import read_json
from pipeline.training.device import choose_device, choose_precision, described
from pipeline.training.memory import micro_batches

PACKAGES = ("torch", "segmentation-models-pytorch", "timm", "albumentations", "numpy", "opencv-python-headless")
KIB = 1024
MAXRSS_UNIT = 1 if sys.platform == "darwin" else KIB  # getrusage(2)
GIT_SECONDS = 10  # a checkout on a slow disk; without an answer the commit is left out
RESET_PEAK = "5"  # what Linux is told to forget a process's peak, proc(5)
CODE = ("pipeline", "configs", "run.sh", "requirements.txt")  # what a result may depend on


@contextlib.contextmanager
def recorded(run: Run, stage: str) -> Iterator[None]:
    """Writes how a stage was carried out, once it is done or was stopped; the peak memory is that of the stage."""
    _reset_peaks()
    workers_before = _peak_of_workers()
    path = run.paths / provenance_file(stage)
    # A training that goes on may have needed more memory before. One that begins anew has no checkpoint yet.
    earlier = (read_json(path) or {}) if stage == "train" and (run.paths / LAST).exists() else {}
    try:
        yield
    except Stopped:
        _try_to_write(run, path, earlier, workers_before)
        raise
    _try_to_write(run, path, earlier, workers_before)


def _try_to_write(run: Run, path: Path, earlier: Mapping[str, Any], workers_before: int) -> None:
    """Writes it, or warns: no stage fails for what only people read."""
    try:
        _write(run, path, earlier, workers_before)
    except Exception as error:
        run.log(f"warning: {path.name} with versions and machine was not written: {type(error).__name__}: {error}")


def _write(run: Run, path: Path, earlier: Mapping[str, Any], workers_before: int) -> None:
    facts = {"versions": versions(), "commit": commit(PROJECT), "machine": machine(), "device": _device(run)}
    before, peaks = earlier.get("peak_bytes") or {}, peak_bytes()
    if peaks["worker"] == workers_before:  # the largest ended before this stage began
        peaks["worker"] = 0
    facts["peak_bytes"] = {name: max(value, before.get(name) or 0) for name, value in peaks.items()}
    others = [*(earlier.get("earlier") or ()), *([earlier["machine"]] if "machine" in earlier else ())]
    if path == run.paths / provenance_file("train") and (cut := _micro_batches(run)):
        facts["micro_batches"] = cut
    facts["earlier"] = [one for index, one in enumerate(others) if one not in (facts["machine"], *others[:index])]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, facts)


def versions() -> dict[str, str]:
    """Returns the versions of Python, of CUDA where torch has it, and of the packages that results depend on."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | ({"CUDA": torch.version.cuda} if torch.version.cuda else {})


def commit(folder: Path) -> dict[str, Any] | None:
    """Returns hash and `is_changed` of the git checkout that a folder is the top of; None where it is none.

    Changed is what differs in code and configs, new files among them.
    """
    if not (folder / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=GIT_SECONDS
        ).stdout.strip()

    try:
        known = [name for name in CODE if (folder / name).exists()] or ["."]
        return {"hash": git("rev-parse", "HEAD"), "is_changed": bool(git("status", "--porcelain", "--", *known))}
    except (OSError, subprocess.SubprocessError):  # no git, no commit yet, or a checkout that git does not trust
        return None


def machine() -> dict[str, Any]:
    """Returns processor, cores that this process may use, memory in bytes, and graphics card."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {"system": platform.system(), "cpu": _cpu_name(), "cores": num_cores(), "memory_bytes": memory}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found |= {"gpu": card.name, "gpu_memory_bytes": card.total_memory}
    return found


def peak_bytes() -> dict[str, int]:
    """Returns the largest memory of this process and of the card since `recorded` began, and of any worker so far."""
    found = {"process": _peak_of_process(), "worker": _peak_of_workers()}
    return found | ({"gpu": torch.cuda.max_memory_allocated()} if torch.cuda.is_available() else {})


def _device(run: Run) -> str:
    config = run.loaded.config
    device = choose_device(config.runtime.device)
    return described(device, choose_precision(config.solver.precision, device))


def _micro_batches(run: Run) -> dict[str, int] | None:
    """Returns into how many parts batches were cut as memory ran out; None where it did not."""
    config = run.loaded.config
    found = micro_batches(config, run.paths / MEMORY, choose_device(config.runtime.device), log=lambda line: None)
    if found.accumulate == config.solver.accumulate:
        return None
    return {"batch_size": found.batch_size, "parts": found.accumulate, "wanted": config.solver.accumulate}


def _reset_peaks() -> None:
    with contextlib.suppress(OSError):  # not Linux, or not allowed: the peak is then that of the whole process
        Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="utf-8")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_of_process() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT


def _peak_of_workers() -> int:
    """Returns the largest memory of a process that this one has started and that has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * MAXRSS_UNIT


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
