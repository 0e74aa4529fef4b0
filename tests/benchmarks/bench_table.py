"""The time of `./run.sh list` and `./run.sh table` with 300 runs, beside reading the same files naively with pandas.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.benchmarks.bench_table [NUM_RUNS]

Each way is a process of its own, started in alternation: what a user waits for includes the imports. The naive way is
what a notebook does: json_normalize of every metrics.json and config, read_csv of every timings.csv, one DataFrame with
minimum, mean and maximum, written as CSV and HTML. Bar: each command in less than 2 s.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from pipeline.config.load import load, names
from pipeline.paths import PROJECT, Folders
from tests.report.small_run import make_history, mark_stages, metrics_of, start_run, write_csv

NUM_ROUNDS, MOST_S = 5, 2.0
NAIVE = """
import json, sys
from pathlib import Path
import pandas as pd
rows = []
for folder in sorted(path.parent for path in Path(sys.argv[1]).glob("*/metrics.json")):
    row = pd.json_normalize(json.loads((folder / "metrics.json").read_text())).iloc[0]
    text = "".join(line for line in open(folder / "config.yaml") if not line.startswith("#"))
    row = pd.concat([row, pd.json_normalize(json.loads(text)).iloc[0]])
    row["hours"] = pd.read_csv(folder / "timings.csv")["seconds"].sum() / 3600
    row["name"] = folder.name
    rows.append(row)
table = pd.DataFrame(rows).set_index("name")
chosen = [name for name in table if name.startswith("scores.")] + ["hours"]
numbers = table[chosen].apply(pd.to_numeric, errors="coerce")
summary = numbers.agg(["min", "mean", "max"])
numbers.to_csv(Path(sys.argv[1]) / "naive.csv")
(Path(sys.argv[1]) / "naive.html").write_text(pd.concat([numbers, summary]).to_html())
print(numbers.iloc[:, :3], summary.iloc[:, :3])
"""


def make_runs(num_runs: int) -> None:
    """Writes runs of all experiments in turn, each with the small files of a finished one and a setting of its own."""
    experiments = [name for name in names() if name.startswith("Exp")]
    for number in range(num_runs):
        folder = start_run(load(experiments[number % len(experiments)], (f"SOLVER.POWER={1 + number / 1000}",)))
        dice = (0.9, 0.4, 0.95, 0.5 + number / 1000)
        (folder / "metrics.json").write_text(json.dumps(metrics_of(dice=dice)))
        write_csv(folder / "history.csv", *make_history())
        rows = [[epoch, 30.0, 20.0] for epoch in range(1, 9)]
        write_csv(folder / "timings.csv", ["epoch", "seconds", "samples_per_s"], rows)
        mark_stages(folder, prepare=1.5, tile=2.0, sweep=3.0, train=100.0, evaluate=4.0, predict=5.0, submit=0.5)


def seconds_of(command: list[str]) -> float:
    """Returns how long a process takes, from its start to its end."""
    began = time.perf_counter()
    subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
    return time.perf_counter() - began


def main(num_runs: int) -> None:
    """Prints the median time of each way, and the ratio of the naive one to it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"RUNS_DIR": f"{folder}/runs", "SUBMISSIONS_DIR": f"{folder}/submissions"}
        make_runs(num_runs)
        python = [sys.executable, "-m", "pipeline"]
        naive = [sys.executable, "-c", NAIVE, str(Folders.from_environment().runs)]
        ways = {"pandas, naively": naive, "./run.sh list": [*python, "list"], "./run.sh table": [*python, "table"]}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(NUM_ROUNDS):
            for name, command in ways.items():
                seconds[name].append(seconds_of(command))
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    print(f"{num_runs} runs, median of {NUM_ROUNDS}; bar: {MOST_S:g} s")
    for name, own in medians.items():
        print(f"  {name:<16} {own:6.2f} s  x{medians['pandas, naively'] / own:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
