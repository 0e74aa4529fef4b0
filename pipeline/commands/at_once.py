"""How many runs of a study are trained at a time without `--workers`: as many as cores or GPUs, and memory, allow.

In: the cores and GPUs of this machine, its free memory, the memory that finished runs of the study took. Out: `AtOnce`,
which proposes the next run only if there is memory for one more.

A run uses as many threads as if it were alone: with another number of threads, its weights would have other bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.commands.packing import Packer
from pipeline.config.load import load
from pipeline.config.study import Training
from pipeline.engine.api import Outcome, Request
from pipeline.files import read_json
from pipeline.paths import METRICS, PROVENANCE
from pipeline.wording import size

MARGIN = 1.25  # on the largest peak of finished runs: other settings may take more
KIB = 1024
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
# Of a container, by version of its control group: limit, what is used of it, and the name of the part that is a cache.
LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def runs_for_cores(cores: int) -> int:
    """Returns how many runs at a time keep cores busy: on two cores, one run leaves a third of them idle.

    >>> [runs_for_cores(cores) for cores in (1, 2, 3, 4, 16)]
    [1, 2, 2, 2, 8]
    """
    return max(cores // 2, min(cores, 2))


def free_bytes(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """Returns the free memory of the machine or of the container, whichever is less; None: not known.

    What Linux keeps of files that were read counts as used by a container, but is given up for programs.
    """
    known = []
    with suppress(OSError, ValueError, StopIteration):
        known.append(KIB * _number_in(meminfo, "MemAvailable:"))
    for limit, used, cache in LIMITS:
        with suppress(OSError, ValueError):  # no container, or "max": no limit
            most, taken = (int((cgroup / name).read_text(encoding="utf-8")) for name in (limit, used))
            known.append(most - taken)
            with suppress(StopIteration):
                known[-1] += _number_in((cgroup / used).with_name("memory.stat"), cache)
    return max(0, min(known)) if known else None


def _number_in(path: Path, name: str) -> int:
    """Returns the number behind a name that begins a line."""
    words = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return int(next(own for own in words if own[:1] == [name])[1])


def peak_bytes(training: Training, runs: Path) -> int | None:
    """Returns the most memory that a stage of a run has taken, with its data-loading processes; None: not known."""
    num_loaders = load(training.config, training.overrides).config.dataloaders.train.num_workers
    peaks = []
    for path in (runs / training.run / PROVENANCE).glob("*.json"):
        own = (read_json(path, dict) or {}).get("peak_bytes")
        if isinstance(own, dict) and isinstance(own.get("process"), int):
            peaks.append(own["process"] + num_loaders * int(own.get("worker") or 0))
    return max(peaks, default=None)


class AtOnce:
    """Proposes the runs of a packer while there is memory for them; see `run_each`.

    Until a run of the study has finished, one run is trained alone, to measure its memory. With GPUs, as many runs as
    there are GPUs start at once, so that none is idle.

    Args:
        most: the largest number at a time, by cores or GPUs.
        log: takes the line that says how many, and why.
    """

    def __init__(
        self,
        packer: Packer,
        trainings: Sequence[Training],
        runs: Path,
        most: int,
        has_cards: bool,
        log: Callable[[str], None],
        free: int | None,
    ) -> None:
        self.packer, self.trainings, self.runs, self.log = packer, trainings, runs, log
        self.most, self.has_cards, self.free = most, has_cards, free
        self.running, self.described, self.peaks = 0, 0, {}

    def propose(self) -> Request | None:
        """Returns the next run; None where none is left, or no memory for it now."""
        if self.running >= self._number():
            return None
        request = self.packer.propose()
        self.running += request is not None
        return request

    def note(self, outcome: Outcome) -> None:
        """Takes how a run ended."""
        self.running -= 1
        self.packer.note(outcome)

    def _number(self) -> int:
        """Returns how many runs may be trained at a time now; logs the number when it has changed."""
        by = "one per GPU" if self.has_cards else "for the cores"
        for one in self.trainings:
            if one.run not in self.peaks and (self.runs / one.run / METRICS).is_file():
                self.peaks[one.run] = peak_bytes(one, self.runs) or 0
        peak = max(self.peaks.values(), default=0) or None
        if peak is None or self.free is None:
            number = self.most if self.has_cards else 1  # where memory is not known, one
            words = by if number == self.most else "alone, as the memory of a run or of this machine is not known"
        else:
            fitting = int(self.free / (MARGIN * peak))
            number = max(1, min(self.most, fitting))
            words = f"{self.most} {by}, memory for {fitting}: {size(self.free)} free, a run took {size(peak)}"
        if number != self.described and self.most > 1:
            self.log(f"{number} run{'' if number == 1 else 's'} at a time ({words}); --workers N sets another number")
        self.described = number
        return number
