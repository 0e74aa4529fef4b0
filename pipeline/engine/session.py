"""How long this session may still run: RUNTIME.TIME_BUDGET_HOURS, or what is left of a Kaggle session.

Kaggle ends a notebook with CPU or GPU after 12 hours (kaggle.com/docs/notebooks, "Technical Specifications"), whatever
it is doing. A code competition may allow less, often 9 hours, which nothing in the notebook tells: give that as
RUNTIME.TIME_BUDGET_HOURS or, for a hidden test set, as SUBMIT.TIME_LIMIT_HOURS.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.paths import is_on_kaggle

KAGGLE_S = 12 * 3600.0
KAGGLE_RESERVE_S = 0.5 * 3600.0  # to end a step, save, and let Kaggle keep the output
PROCESSES = Path("/proc")


def budget_seconds(hours: float | str | None, runs: Path) -> float | None:
    """Returns how many seconds from now on this session may run; None: as long as it likes.

    Args:
        hours: RUNTIME.TIME_BUDGET_HOURS.
        runs: the folder of all runs, which on Kaggle is below /kaggle/working.
    """
    if isinstance(hours, str):
        return max(1.0, KAGGLE_S - KAGGLE_RESERVE_S - session_age_s()) if is_on_kaggle(runs) else None
    return None if hours is None else hours * 3600


def session_age_s(processes: Path = PROCESSES) -> float:
    """Returns the seconds since a container's first process began, which on Kaggle is when the session began.

    0 where that is unknown, or longer ago than a session lasts: then it is not a session's process.
    """
    try:
        up_s = float((processes / "uptime").read_text(encoding="utf-8").split()[0])
        # The name, in brackets, may hold blanks; the start is field 22 of `man 5 proc_pid_stat`.
        fields = (processes / "1" / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        age_s = up_s - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
    return age_s if 0 <= age_s < KAGGLE_S else 0.0
