"""Damages the files of a real run: cut short, a bit flipped, a page of zeros; all must be refused by name.

    python -m tests.long.damage --times 300

Of a tiny run, `last.ckpt` (the one before must be used, and a line logged), `best.ckpt` and the shards of both
probability stores (must be refused). Each kind of damage so many times per file. Exit code 1 when any passes.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.paths import BEST, LAST, PROBS, RunPaths
from pipeline.prediction.store import PredictionStore
from pipeline.segmentation.predict import unpack
from pipeline.training.checkpoint import load_newest, load_or_refuse, previous_of
from tests.damages import cut, flip, zero_page
from tests.tiny import draw_nothing, run_stages, tiny, write_competition


def last_is_replaced(paths: RunPaths) -> bool:
    """Returns whether training would go on from the checkpoint before, and logs it."""
    lines: list[str] = []
    found = load_newest(paths / LAST, lines.append)
    is_logged = "last.ckpt is damaged" in lines[0] and lines[-1].endswith("previous-last.ckpt") if lines else False
    return found is not None and found[1] == previous_of(paths / LAST) and is_logged


def best_is_refused(paths: RunPaths) -> bool:
    """Returns whether prediction would refuse it by name."""
    try:
        load_or_refuse(paths / BEST, "train anew")
    except UserError as error:
        return "best.ckpt is damaged" in str(error)
    return False


def store_is_refused(paths: RunPaths, subset: str) -> bool:
    """Returns whether a store is refused when all of it is read."""
    try:
        store = PredictionStore(paths / PROBS[subset], unpack)
        _ = [store[image_id] for image_id in store]
    except UserError as error:
        return "is damaged" in str(error) or "no whole probability store" in str(error)
    return False


def main(arguments: list[str] | None = None) -> int:
    """Makes the run, tries everything, prints and returns what passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=300)
    chosen = parser.parse_args(arguments)
    counts: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("RUNS_DIR", "SUBMISSIONS_DIR", "SCRATCH_DIR"):
            monkeypatch.setitem(os.environ, name, str(Path(folder) / name))
        draw_nothing(monkeypatch)
        loaded = tiny(write_competition(Path(folder) / "data"), "SWEEP.ENABLE=false")
        paths, _ = run_stages(loaded, "predict")
        checks: dict[Path, Callable[[], bool]] = {
            paths / LAST: lambda: last_is_replaced(paths),
            paths / BEST: lambda: best_is_refused(paths),
        }
        for subset in ("valid", "test"):
            shards = sorted(path for path in (paths / PROBS[subset]).iterdir() if path.name.startswith("shard-"))
            checks |= {path: lambda subset=subset: store_is_refused(paths, subset) for path in shards}
        for path, is_refused in checks.items():
            # `last.ckpt` and `best.ckpt` may be two names of one file: each is damaged as a file of its own.
            whole, rng = path.read_bytes(), random.Random(path.name)
            path.unlink()
            for damage in (cut, flip, zero_page):
                for _ in range(chosen.times):
                    damaged = damage(whole, rng)
                    if damaged == whole:  # the page was of zeros before
                        counts["unchanged"] += 1
                        continue
                    path.write_bytes(damaged)
                    counts["refused" if is_refused() else "PASSED"] += 1
            path.write_bytes(whole)
            print(f"{path.parent.name}/{path.name}: {dict(counts)} so far", flush=True)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return 1 if counts["PASSED"] else 0


if __name__ == "__main__":
    sys.exit(main())
