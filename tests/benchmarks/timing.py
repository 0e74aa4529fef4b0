"""Times several ways of the same work in alternation, so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable

Seconds = tuple[float, float]  # of the wall clock, and of processor time, which other processes disturb less


def alternate(ways: dict[str, Callable[[], object]], num_rounds: int) -> dict[str, list[Seconds]]:
    """Seconds of every way in every round; a first round is not counted."""
    seconds: dict[str, list[Seconds]] = {name: [] for name in ways}
    for round_index in range(num_rounds + 1):
        for name, way in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            way()
            if round_index:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return seconds


def show(title: str, seconds: dict[str, list[Seconds]], bar: str) -> None:
    """Prints medians, and how many times faster each way is than the first one, which is the naive one."""
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in seconds.items()
    }
    naive = next(iter(medians.values()))
    print(f"\n{title}\nbar: {bar}\n  {'':44s} {'wall':>9s} {'':11s} {'processor':>12s}")
    for name, (wall, processor) in medians.items():
        ratios = naive[0] / wall, naive[1] / processor
        print(f"  {name:44s} {1e3 * wall:9.2f} ms x{ratios[0]:7.2f} {1e3 * processor:9.2f} ms x{ratios[1]:7.2f}")
