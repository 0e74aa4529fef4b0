"""Ends a process when the one that started it has ended, also while it loads torch, which may take a minute."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of linux/prctl.h
POLL_S = 0.5


def end_with(starter: int, is_joined: bool) -> None:
    """Ends this process soon after the one that started it; call it before packages are loaded.

    Args:
        starter: its process id.
        is_joined: whether the thread that started this process waits for its end. If so, Linux kills this process when
            that thread ends, even while the import of a package blocks all other threads here.
    """
    if is_joined and sys.platform == "linux":
        ctypes.CDLL(None).prctl(END_WITH_PARENT, int(signal.SIGKILL), 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(starter,), daemon=True).start()
    if os.getppid() != starter:  # it has ended before
        os._exit(1)


def _watch(starter: int) -> None:
    while os.getppid() == starter:
        time.sleep(POLL_S)
    os._exit(1)
