"""Findings about the running Python, its packages and the machine: GPUs, cores, memory, disks, network.

In: metadata of distributions, requirements.txt, files of the system, `nvidia-smi`, sockets. Out: findings, each with
what to type if something is wrong. Standard library only: importing every package would take ten seconds; only cv2 is
imported, which is fast and breaks most often.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from pipeline.bootstrap.requirements import OLDEST_PYTHON, Requirement, output_of, running_interpreter, satisfies
from pipeline.files import existing_folder
from pipeline.paths import PROJECT, shown
from pipeline.wording import GIB

NATIVE_BF16_CAPABILITY = 8.0  # below it bfloat16 is emulated, although torch reports it as supported (T4)
# Version of CUDA -> oldest compute capability for which torch built with it has kernels (as of torch 2.9): Kaggle's
# image of 2026 has none for its P100 (6.0), builds for CUDA 13 have none for a V100 (7.0).
OLDEST_CAPABILITY = {(13, 0): 7.5, (12, 8): 7.0, (0, 0): 5.0}
LITTLE_MEMORY_GIB = 4  # torch alone takes half a GiB in each process
Result = TypeVar("Result")
REINSTALL = "rm -f .venv/ready && ./run.sh doctor"  # run.sh then checks all packages and installs missing ones
REBUILD = "rm -rf .venv && ./run.sh doctor"
# A Python that is not ours is not repaired; an existing .venv is filled and used in its place.
SEPARATE = "rm -rf .venv && python3 -m venv .venv && ./run.sh doctor"
OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
SITES = {"www.kaggle.com": "data and uploads", "huggingface.co": "encoder weights"}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    what: str
    found: str
    remark: str = ""
    state: Literal["ok", "note", "bad"] = "ok"  # bad: the demo cannot run; note: something else cannot, or may be slow
    fix: str = ""


def run_concurrently(checks: Mapping[str, Callable[[], Result]], limit_s: float) -> dict[str, Result]:
    """Returns the results of those checks that end within `limit_s`; all run at the same time."""
    results: dict[str, Result] = {}

    def run(name: str) -> None:
        results[name] = checks[name]()

    # Daemon threads: with an executor, a name server that does not answer would delay the exit for half a minute.
    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in checks]
    for thread in threads:
        thread.start()
    end = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(results)


def gpus(torch_cuda: str | None, run: Callable[[Sequence[str]], str | None] = output_of) -> list[Finding]:
    """Returns a finding per GPU: memory, compute capability, the precision of a run, and whether torch can use it.

    `torch_cuda` is the version of CUDA that torch was built with, "13.0"; None: a CPU build, or no torch.
    """
    listing = run(["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"])
    rows = [[cell.strip() for cell in row.split(",")] for row in (listing or "").splitlines()]
    devices = [row for row in rows if len(row) == 3 and re.fullmatch(r"\d+\.\d+", row[2])]
    if not devices:
        return [Finding("GPU", "none", "runs use the CPU: enough for the demo, small images and tests")]
    newest = re.search(r"CUDA Version:\s*(\d+\.\d+)", run(["nvidia-smi"]) or "")
    problem = _driver_problem(newest[1] if newest else None, torch_cuda)
    version = tuple(map(int, (torch_cuda or "0.0").split(".")[:2]))
    oldest = next(oldest for from_version, oldest in OLDEST_CAPABILITY.items() if version >= from_version)
    return [_gpu(name, memory_mib, float(capability), oldest, *problem) for name, memory_mib, capability in devices]


def _gpu(name: str, memory_mib: str, capability: float, oldest: float, problem: str, fix: str) -> Finding:
    memory = f"{float(memory_mib) / 1024:.0f} GiB" if memory_mib.replace(".", "").isdigit() else "memory unknown"
    found = f"{name}, {memory}, capability {capability}"
    if capability < oldest:
        fix = "choose another accelerator (on Kaggle: T4 x2); until then runs use the CPU"
        return Finding("GPU", found, "too old for this torch", "note", fix)
    if problem:
        return Finding("GPU", found, problem, "note", fix)
    return Finding("GPU", found, "bfloat16" if capability >= NATIVE_BF16_CAPABILITY else "float16 with a scaler")


def _driver_problem(driver_cuda: str | None, torch_cuda: str | None) -> tuple[str, str]:
    """Returns why torch cannot use the GPU, and the fix; a driver runs all builds for its major version of CUDA."""
    if torch_cuda is None:
        return "torch is not installed, or is a build without CUDA", "rm -rf .venv && ./run.sh doctor"
    if driver_cuda and int(driver_cuda.split(".")[0]) < int(torch_cuda.split(".")[0]):
        why = f"the driver supports CUDA {driver_cuda}, torch was built for {torch_cuda}"
        return why, "install a newer driver (https://www.nvidia.com/drivers), or an older torch in another environment"
    return "", ""


def cores_and_memory(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Returns the cores that this process may use, the settings of OpenMP, and the memory."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota(Path("/sys/fs/cgroup/cpu.max"))
    cores = f"{allowed}" + (f", limited to {quota:g} by the container" if quota and quota < allowed else "")
    threads = environ.get("OMP_NUM_THREADS", "one per core")
    policy = environ.get("OMP_WAIT_POLICY", "not set (run.sh sets PASSIVE)")
    findings = [Finding("CPU cores", cores, f"OpenMP threads: {threads}; wait policy: {policy}")]
    if "SC_PHYS_PAGES" in os.sysconf_names:
        total_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
        is_enough = total_gib > LITTLE_MEMORY_GIB
        remark = "" if is_enough else "a large run may be killed; a smaller BATCH_SIZE needs less"
        findings.append(Finding("memory", f"{total_gib:.0f} GiB", remark, "ok" if is_enough else "note"))
    return findings


def _cpu_quota(path: Path) -> float | None:
    """Returns the limit of a container's CPU time, in cores (cgroup v2), or None where there is no limit."""
    try:
        quota, period = path.read_text(encoding="utf-8").split()
        return int(quota) / int(period)
    except (OSError, ValueError):
        return None


def shared_memory(folder: Path = Path("/dev/shm")) -> list[Finding]:
    """Returns the size of the shared memory that loader processes pass batches through; macOS has no such folder."""
    if not folder.is_dir():
        return []
    usage = shutil.disk_usage(folder)
    found = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"
    if usage.free < GIB:
        fix = "docker run --shm-size=4g ..., or DATALOADERS.TRAIN.NUM_WORKERS=0"
        return [Finding(str(folder), found, "loader processes may be killed (bus error)", "note", fix)]
    return [Finding(str(folder), found, "for the loaders' batches")]


def disk(what: str, folder: Path, needed_gib: float) -> Finding:
    """Returns the free space of the disk that `folder` is on, and whether the folder can be written."""
    existing = existing_folder(folder)
    free_gib = shutil.disk_usage(existing).free / GIB
    found = f"{free_gib:.1f} GiB free"
    if not os.access(existing, os.W_OK):
        return Finding(what, found, f"{folder} cannot be written", "bad", "RUNS_DIR=/another/folder ./run.sh ...")
    if free_gib < needed_gib:
        fix = "free space, or set RUNS_DIR and SCRATCH_DIR to a larger disk"
        return Finding(what, found, f"{folder}: the demo needs {needed_gib:g} GiB", "bad", fix)
    return Finding(what, found, str(folder))


def internet(sites: Mapping[str, str] = SITES, limit_s: float = 1.5) -> list[Finding]:
    """Returns which sites answer within `limit_s`; all are tried at the same time."""
    proxy = getproxies().get("https")
    address = urlsplit(proxy if proxy and "//" in proxy else f"//{proxy}")

    def answers(site: str) -> bool:
        target = (address.hostname or "", address.port or 80) if proxy else (site, 443)
        try:
            with socket.create_connection(target, timeout=limit_s):
                return True
        except OSError:
            return False

    reached = run_concurrently({site: partial(answers, site) for site in sites}, limit_s)
    via = f" through the proxy {address.hostname}" if proxy else ""
    return [
        Finding(site, f"answers{via}", what)
        if reached.get(site)
        else Finding(site, "no answer" + via, f"{what} are not available; the demo needs no network", "note")
        for site, what in sites.items()
    ]


def interpreter() -> Finding:
    """Returns the version of the running Python and the kind of its environment."""
    python = running_interpreter()
    kind = "the project's .venv" if _is_ours() else "another environment" if python.in_venv else "no environment"
    layer = ", with the packages of the Python it was created with" if python.is_layered else ""
    found = ".".join(map(str, python.version))
    if python.version < OLDEST_PYTHON:
        return Finding("Python", found, "needs 3.10 or newer", "bad", "PYTHON=/path/to/python3.12 ./run.sh doctor")
    return Finding("Python", found, f"{shown(Path(python.executable))} ({kind}{layer})")


def packages(requirements: Sequence[Requirement], distributions: Mapping[str, str]) -> list[Finding]:
    """Returns a finding per line of requirements.txt."""
    findings = []
    for line in requirements:
        version, expected = distributions.get(line.name), str(line).removeprefix(line.name) or "any"
        state, purpose = ("note", " (only for ./run.sh test)") if line.is_for_tests else ("bad", "")
        fault = Finding(line.name, version or "-", f"needs {expected}{purpose}", state, REINSTALL)
        findings.append(Finding(line.name, version or "", expected) if satisfies(version, line.bounds) else fault)
    return findings


def opencv(distributions: Mapping[str, str], folders: Mapping[str, Path]) -> list[Finding]:
    """Returns whether cv2 imports, and whether two builds of OpenCV are installed in one of the folders `cv2/`."""
    findings = []
    for folder in sorted(set(folders.values())):
        builds = [f"{name} {distributions.get(name, '')}" for name in sorted(folders) if folders[name] == folder]
        if len(builds) > 1:
            why = f"{', '.join(builds)} share {shown(folder)}: removing one breaks the others"
            findings.append(Finding("OpenCV", f"{len(builds)} in one folder", why, "note", _rebuild()))
    if folders:
        command = [sys.executable, "-c", "import cv2"]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if result.returncode:
            last_line = (result.stderr.strip().splitlines() or ["no message"])[-1]
            findings.append(Finding("import cv2", "fails", last_line[-100:], "bad", _rebuild()))
    return findings


def torch_pair(distributions: Mapping[str, str]) -> list[Finding]:
    """Returns why the installed torch and torchvision do not fit each other; no finding where they do."""
    if not {"torch", "torchvision"} <= set(distributions):
        return []
    needed = [line for line in metadata.requires("torchvision") or [] if re.match(r"torch\b(?!-)", line)]
    bounds = re.findall(r"(==|!=|>=|<=|<|>)\s*(\d+(?:\.\d+)*)", " ".join(needed))
    builds = {name: built_for(name)[0] for name in ("torch", "torchvision")}
    found = f"torch {distributions['torch']}, torchvision {distributions['torchvision']}"
    if not satisfies(distributions["torch"], bounds):
        return [Finding("torch pair", found, f"this torchvision needs {needed[0]}", "bad", _rebuild())]
    if "cpu" in builds.values() and len(set(builds.values())) > 1:
        why = "a CPU build and a CUDA build do not work together"
        return [Finding("torch pair", f"{builds}", why, "bad", _rebuild())]
    return []


def built_for(package: str) -> tuple[str, str | None]:
    """Returns the build tag ("cu132", "cpu", "") and the CUDA version of torch or torchvision, without importing it."""
    spec = util.find_spec(package)
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    text = file.read_text(encoding="utf-8") if file and file.is_file() else ""
    version = re.search(r"__version__ = '([^']*)'", text)
    cuda = re.search(r"^cuda[^=]*= '([\d.]+)'", text, re.M)
    return version[1].partition("+")[2] if version else "", cuda[1] if cuda else None


def cv2_folders() -> dict[str, Path]:
    """Returns the folder `cv2/` of each installed distribution of OpenCV."""
    folders = {}
    for name in OPENCVS:
        with suppress(metadata.PackageNotFoundError):
            folders[name] = Path(str(metadata.distribution(name).locate_file("cv2"))).resolve()
    return folders


def _is_ours() -> bool:
    return Path(sys.prefix).resolve() == (PROJECT / ".venv").resolve()


def _rebuild() -> str:
    return REBUILD if _is_ours() else SEPARATE
