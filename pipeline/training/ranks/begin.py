"""The first function of a rank's process: from then on it ends with its starter, though torch is not loaded yet.

Loading torch takes seconds, on a busy machine a minute, in which nothing else of the process runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of linux/prctl.h
POLL_S = 0.5


def begin(connection: Connection, starter: int) -> None:
    """Is a rank, of which the connection first has the `Task`; receiving that loads the packages.

    Args:
        starter: the process that waits for the rank.
    """
    end_with(starter)
    task = connection.recv()
    from pipeline.training.ranks.member import be_rank

    be_rank(connection, task)


def end_with(starter: int) -> None:
    """Ends this process when the one that has started it ends, at once on Linux and soon elsewhere.

    Call it in a process whose starter waits for it in the thread that started it: Linux goes by that thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(END_WITH_PARENT, int(signal.SIGKILL), 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(starter,), daemon=True).start()
    if os.getppid() != starter:  # it has ended before
        os._exit(1)


def _watch(starter: int) -> None:
    while os.getppid() == starter:
        time.sleep(POLL_S)
    os._exit(1)
