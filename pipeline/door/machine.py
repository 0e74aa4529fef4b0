"""Facts of the machine: graphics cards, cores, memory, disks, network. Standard library only, no torch.

Comes in: what the system says (files, `nvidia-smi`, sockets). Goes out: findings, each with what to type where it is
amiss.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

GIB = 1024**3
NATIVE_BF16_CAPABILITY = 8.0  # below it bf16 is emulated, though torch calls it supported (T4)
# From which CUDA on torch is built without kernels for cards older than this (as of torch 2.9): Kaggle's image of 2026
# has none for its P100 (6.0), builds for CUDA 13 have none for a V100 (7.0).
OLDEST_CAPABILITY = {(13, 0): 7.5, (12, 8): 7.0, (0, 0): 5.0}
LITTLE_MEMORY_GIB = 4  # torch alone takes half a GiB in each process
SITES = {"www.kaggle.com": "data, uploads", "huggingface.co": "encoder weights"}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    what: str
    found: str
    remark: str = ""
    state: Literal["ok", "note", "bad"] = "ok"  # bad: the demo cannot run; note: something else cannot, or be aware
    fix: str = ""


def answer_of(command: Sequence[str], limit_s: float = 3.0) -> str | None:
    """Returns what a program prints, or nothing where there is none, it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def graphics_cards(torch_cuda: str | None, ask: Callable[[Sequence[str]], str | None] = answer_of) -> list[Finding]:
    """Returns a finding per card: memory, compute capability, the precision of a run, and whether torch can use it.

    Args:
        torch_cuda: version of CUDA that torch was built with, as in "13.0"; None: a CPU build, or no torch.
        ask: runs `nvidia-smi`.
    """
    listing = ask(["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"])
    rows = [[cell.strip() for cell in row.split(",")] for row in (listing or "").splitlines()]
    cards = [row for row in rows if len(row) == 3 and re.fullmatch(r"\d+\.\d+", row[2])]
    if not cards:
        return [Finding("GPU", "none", "runs on the CPU: fine for the demo, small images and tests")]
    newest = re.search(r"CUDA Version:\s*(\d+\.\d+)", ask(["nvidia-smi"]) or "")
    trouble = _driver_trouble(newest[1] if newest else None, torch_cuda)
    version = tuple(map(int, (torch_cuda or "0.0").split(".")[:2]))
    oldest = next(oldest for since, oldest in OLDEST_CAPABILITY.items() if version >= since)
    return [_card(name, memory_mib, float(capability), oldest, *trouble) for name, memory_mib, capability in cards]


def _card(name: str, memory_mib: str, capability: float, oldest: float, trouble: str, fix: str) -> Finding:
    memory = f"{float(memory_mib) / 1024:.0f} GiB" if memory_mib.replace(".", "").isdigit() else "memory unknown"
    found = f"{name}, {memory}, capability {capability}"
    if capability < oldest:
        fix = "choose another accelerator (on Kaggle: T4 x2); until then runs are on the CPU"
        return Finding("GPU", found, "too old for this torch", "note", fix)
    if trouble:
        return Finding("GPU", found, trouble, "note", fix)
    return Finding("GPU", found, "bfloat16" if capability >= NATIVE_BF16_CAPABILITY else "float16 with a scaler")


def _driver_trouble(driver_cuda: str | None, torch_cuda: str | None) -> tuple[str, str]:
    """Returns why torch cannot use the card, and the fix; within a major version of CUDA any driver runs any build."""
    if torch_cuda is None:
        return "this torch is a build without CUDA, or there is none yet", "rm -rf .venv && ./run.sh doctor"
    if driver_cuda and int(driver_cuda.split(".")[0]) < int(torch_cuda.split(".")[0]):
        why = f"the driver knows CUDA {driver_cuda}, torch was built for {torch_cuda}"
        return why, "a newer driver (https://www.nvidia.com/drivers), or an older torch in an environment of yours"
    return "", ""


def cores_and_memory(environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Returns the cores that this process may use, how OpenMP uses them, and the memory."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota(Path("/sys/fs/cgroup/cpu.max"))
    cores = f"{allowed}" + (f", limited to the time of {quota:g}" if quota and quota < allowed else "")
    threads = environ.get("OMP_NUM_THREADS", "one per core")
    policy = environ.get("OMP_WAIT_POLICY", "not set (run.sh sets PASSIVE)")
    findings = [Finding("CPU cores", cores, f"OpenMP threads: {threads}; wait policy: {policy}")]
    if "SC_PHYS_PAGES" in os.sysconf_names:
        total_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
        enough = total_gib > LITTLE_MEMORY_GIB
        remark = "" if enough else "a large run may be killed; a smaller BATCH_SIZE needs less"
        findings.append(Finding("memory", f"{total_gib:.0f} GiB", remark, "ok" if enough else "note"))
    return findings


def _cpu_quota(path: Path) -> float | None:
    """Returns how many cores' worth of time a container may use (cgroup v2), or nothing where it is not limited."""
    try:
        quota, period = path.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):
        return None


def shared_memory(folder: Path = Path("/dev/shm")) -> list[Finding]:
    """Returns the size of the memory through which loader processes hand over batches; macOS has no such folder."""
    if not folder.is_dir():
        return []
    usage = shutil.disk_usage(folder)
    found = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free"
    if usage.free < GIB:
        fix = "docker run --shm-size=4g ..., or DATALOADERS.TRAIN.NUM_WORKERS=0"
        return [Finding(str(folder), found, "loaders with workers may die (bus error)", "note", fix)]
    return [Finding(str(folder), found, "for the loaders' batches")]


def disk(what: str, folder: Path, needed_gib: float) -> Finding:
    """Returns what is free where `folder` is or will be, and whether one may write there."""
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free_gib = shutil.disk_usage(existing).free / GIB
    found = f"{free_gib:.1f} GiB free"
    if not os.access(existing, os.W_OK):
        return Finding(what, found, f"{folder} cannot be written", "bad", "RUNS_DIR=/a/folder/of/yours ./run.sh ...")
    if free_gib < needed_gib:
        fix = "free some, or RUNS_DIR=, SCRATCH_DIR= on a larger disk"
        return Finding(what, found, f"{folder}: the demo needs {needed_gib:g} GiB", "bad", fix)
    return Finding(what, found, str(folder))


def internet(sites: Mapping[str, str] = SITES, limit_s: float = 1.5) -> list[Finding]:
    """Returns which sites answer, all asked at once and none waited for longer than `limit_s`."""
    proxy = getproxies().get("https")
    address = urlsplit(proxy if proxy and "//" in proxy else f"//{proxy}")
    reached: dict[str, bool] = {}

    def knock(site: str) -> None:
        target = (address.hostname or "", address.port or 80) if proxy else (site, 443)
        try:
            with socket.create_connection(target, timeout=limit_s):
                reached[site] = True
        except OSError:
            pass

    # Daemons: a name server that does not answer would keep a pool's threads, and so us, for half a minute.
    knocking = [threading.Thread(target=knock, args=(site,), daemon=True) for site in sites]
    for thread in knocking:
        thread.start()
    for thread in knocking:
        thread.join(limit_s)
    via = f" through the proxy {address.hostname}" if proxy else ""
    return [
        Finding(site, f"answers{via}", what)
        if reached.get(site)
        else Finding(site, "no answer" + via, f"{what}: not from here; the demo needs no network", "note")
        for site, what in sites.items()
    ]
