"""Times several ways of the same work in alternation, so that a busy machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable


def alternate(ways: dict[str, Callable[[], object]], num_rounds: int) -> dict[str, list[float]]:
    """Seconds of every way in every round; one round before the first is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_index in range(num_rounds + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            if round_index:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def show(title: str, seconds: dict[str, list[float]], bar: str) -> None:
    """Prints medians, and ratios of medians and of the least times to the first way, which is the naive one."""
    naive = next(iter(seconds.values()))
    print(f"\n{title}\nbar: {bar}")
    for name, times in seconds.items():
        ratio = statistics.median(naive) / statistics.median(times)
        least_ratio = min(naive) / min(times)
        print(
            f"  {name:44s} {1e3 * statistics.median(times):9.2f} ms   x{ratio:6.2f}   (least times x{least_ratio:6.2f})"
        )
