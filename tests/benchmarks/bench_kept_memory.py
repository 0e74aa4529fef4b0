"""Training steps on a CPU where freed memory is kept, as run.sh asks of glibc, against steps where it is given back.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.benchmarks.bench_kept_memory

By default glibc returns every large block to the system as soon as it is freed, and the system clears the pages of the
next one again. Each way runs in a process of its own, in turn. Bar: x1.05 of processor time, at most x1.1 of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import cv2
import torch

from tests.benchmarks.bench_step import bare_steps

ROOT = Path(__file__).resolve().parents[2]
ROUNDS, STEPS = 3, 3
SETTING = re.compile(r'^export (MALLOC_\w+)="\$\{\w+:-(\d+)\}"', re.MULTILINE)


def child() -> None:
    """Prints user and system seconds of the steps, and the largest memory in MB."""
    cv2.setNumThreads(0)
    chosen = argparse.Namespace(encoder="mobilenet_v2", batch=2, steps=1)
    steps = bare_steps(chosen, "float32", torch.channels_last)
    steps()
    before = os.times()
    for _ in range(STEPS):
        steps()
    after = os.times()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([after.user - before.user, after.system - before.system, memory]))


def measured(settings: dict[str, str]) -> list[float]:
    """Returns what a child process prints that runs with these settings of glibc."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-m", "tests.benchmarks.bench_kept_memory", "--child"]
    done = subprocess.run(command, cwd=ROOT, env={**others, **settings}, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints both ways and their ratios."""
    kept = dict(SETTING.findall((ROOT / "run.sh").read_text()))
    if len(kept) != 2:
        raise SystemExit("run.sh does not set the two MALLOC_ variables")
    rounds = [(measured({}), measured(kept)) for _ in range(ROUNDS)]
    for name, rows in zip(("given back", "kept"), zip(*rounds, strict=True), strict=True):
        user, system, memory = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"  {name:<12}{user / STEPS * 1e3:8.1f} ms user {system / STEPS * 1e3:8.1f} ms system {memory:8.0f} MB")
    time = statistics.median(sum(one[:2]) / sum(other[:2]) for one, other in rounds)
    memory = statistics.median(other[2] / one[2] for one, other in rounds)
    print(f"  bar: x1.05 of processor time (reached x{time:.2f}), at most x1.1 of memory (x{memory:.2f})")


if __name__ == "__main__":
    child() if sys.argv[1:] == ["--child"] else main()
