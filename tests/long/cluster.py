"""A study on several machines: a Ray cluster whose nodes die, and jobs as Slurm's, against the same study here.

    python -m tests.long.cluster [--kills 2]

Four trainings of the tests' small competition. On Ray they run on two nodes with a CPU each, processes of this machine;
every so often the node of a training is killed and another one is added. Printed is what the study prints, then whether
weights and scores are, bit for bit, those of the study without a cluster.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.tiny import write_competition, write_tiny_study

PROJECT = Path(__file__).resolve().parent.parent.parent
NAME = "mine"
FILES = ("metrics.json", "per_image.csv", "confusion.csv")


def copied(folder: Path) -> Path:
    """Returns a copy of code and configs with a study of four trainings."""
    for name in ("pipeline", "configs"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    changes = ("SOLVER.NUM_EPOCHS=60", "SOLVER.SAVE_MINUTES=0.02", "SWEEP.ENABLE=false")
    data = write_competition(folder / "data")
    write_tiny_study(folder, data, "{a: [], b: [SOLVER.POWER=2]}", *changes, seeds="0, 1")
    return folder


def study(project: Path, runs: Path, *words: str) -> subprocess.Popen:
    """Starts the study; its lines come one by one."""
    folders = {"RUNS_DIR": str(runs), "SCRATCH_DIR": str(runs / "shared"), "SUBMISSIONS_DIR": str(runs / "out")}
    environment = os.environ | folders | {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-u", "-m", "pipeline", "study", NAME, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=project, env=environment, **pipes)


def on_ray(project: Path, runs: Path, num_kills: int) -> int:
    """Runs the study on a cluster of which nodes are killed; returns how many were."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from ray.cluster_utils import Cluster

    cluster, killed = Cluster(initialize_head=True, head_node_args={"num_cpus": 0}), 0
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=100_000_000) for _ in range(2)]
    try:
        with study(project, runs, "--on", f"ray:{cluster.address}") as process:
            seen = 0
            for line in process.stdout:
                print(line, end="", flush=True)
                seen += "epoch " in line
                if killed < num_kills and seen >= 12:  # both nodes have trained for some epochs
                    cluster.remove_node(nodes.pop(0), allow_graceful=False)
                    nodes.append(cluster.add_node(num_cpus=1, object_store_memory=100_000_000))
                    killed, seen = killed + 1, 0
                    print(f"*** a node is killed, another one is added ({killed} of {num_kills})", flush=True)
        assert process.returncode == 0, process.returncode
    finally:
        cluster.shutdown()
    return killed


def digests(runs: Path) -> dict[str, str]:
    """Returns for each run one hash of its best weights and its scores."""
    found = {}
    for path in sorted(runs.glob("*/best.ckpt")):
        digest = hashlib.sha256()
        for name, tensor in sorted(torch.load(path, weights_only=True)["network"].items()):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        for name in FILES:
            digest.update((path.parent / name).read_bytes())
        found[path.parent.name] = digest.hexdigest()[:16]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--only", choices=("ray", "slurm"))
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as name:
        project, found = copied(Path(name) / "project"), {}
        for kind in ("here", "ray", "slurm"):
            if kind != "here" and options.only not in (None, kind):
                continue
            start, runs, killed = time.perf_counter(), Path(name) / kind, 0
            if kind == "ray":
                killed = on_ray(project, runs, options.kills)
            else:
                words = () if kind == "here" else ("--on", "slurm:local")
                with study(project, runs, *words) as process:
                    lines = process.stdout.read()
                assert process.returncode == 0, lines
            found[kind] = digests(runs)
            same = "" if kind == "here" else f", {'the same' if found[kind] == found['here'] else 'DIFFERENT'} as here"
            took = time.perf_counter() - start
            print(f"=== {kind}: {len(found[kind])} trainings, {killed} nodes killed, {took:.0f} s{same}", flush=True)
    sys.exit(any(one != found["here"] for one in found.values()))


if __name__ == "__main__":
    main()
