"""Which GPUs there are for processes that run one experiment each. Found without torch, which takes seconds.

In: CUDA_VISIBLE_DEVICES, `nvidia-smi`. Out: values of CUDA_VISIBLE_DEVICES, one for each process.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"
TIME_OUT_S = 20  # a driver that hangs is no reason to wait for ever


def visible_cards(environ: Mapping[str, str], listed: Callable[[], Sequence[str]] | None = None) -> list[str]:
    """Returns the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none without a driver.

    Args:
        listed: asked where CUDA_VISIBLE_DEVICES does not say; None: `nvidia-smi`.

    >>> visible_cards({"CUDA_VISIBLE_DEVICES": "1,0"}), visible_cards({"CUDA_VISIBLE_DEVICES": ""})
    (['1', '0'], [])
    >>> visible_cards({}, lambda: ["0", "1"])
    ['0', '1']
    """
    if VISIBLE not in environ:
        return list((listed or _listed)())
    named = [name.strip() for name in environ[VISIBLE].split(",")]
    # CUDA ignores what follows a name that it does not know, such as -1 (CUDA C++ Programming Guide).
    end = next((index for index, name in enumerate(named) if not name or name.startswith("-")), len(named))
    return named[:end]


def shares(cards: Sequence[str], workers: int, per_worker: int = 1) -> list[str]:
    """Returns for each worker the GPUs that it sees; workers share some where there are too few. Without GPUs: none.

    >>> shares(["0", "1"], 2), shares(["0", "1"], 3), shares([], 2)
    (['0', '1'], ['0', '1', '0'], [])
    >>> shares(["0", "1", "2", "3", "4"], 3, per_worker=2)
    ['0,1', '2,3', '0,1']
    """
    num_groups = max(1, len(cards) // per_worker)
    groups = [",".join(cards[index * per_worker : (index + 1) * per_worker]) for index in range(num_groups)]
    return [groups[index % num_groups] for index in range(workers)] if cards else []


def _listed() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        found = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=TIME_OUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return found.stdout.split()
