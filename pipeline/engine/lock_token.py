"""A locked file by which other machines find out whether they see the locks of this one.

The process that starts jobs locks the file, and writes a growing count into it. If another machine can lock the file
while the count grows, that machine does not see the lock, so two machines could write the same run. If the count stands
still, the starting process has died and its lock is gone, which says nothing about the disk.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from pipeline.paths import shown

WATCHED_S = 20.0  # how long to wait for the count to grow, which it does about every second
LOOK_S = 0.5


class LockToken:
    """A file in `folder` that this process keeps locked; a context manager.

    Only this object may open the file in this process: closing another descriptor of it would give up the lock.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = tempfile.NamedTemporaryFile(dir=folder, prefix=".locked-")  # noqa: SIM115
        self.path, self.count = Path(self.file.name), 0

    def __enter__(self) -> LockToken:
        fcntl.lockf(self.file, fcntl.LOCK_EX)
        self.beat()
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def beat(self) -> None:
        """Raises the count, so that other machines see that this process is alive."""
        self.count += 1
        with suppress(OSError):  # a disk that is full or gone; the runs say so
            os.pwrite(self.file.fileno(), f"{self.count:020d}".encode(), 0)
            os.fsync(self.file.fileno())


def unseen_lock(token: Path, watched_s: float = WATCHED_S) -> str:
    """Returns what is wrong if this machine does not see the lock of a `LockToken`; "" if it does, or cannot tell."""
    try:
        with open(token, "rb") as file:
            # Shared: other jobs that look at the same moment are not taken for the process that holds the lock.
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return ""  # it is locked, as it should be, or the process that held it has ended and removed it
    count, until = _count_in(token), time.monotonic() + watched_s
    while _count_in(token) in (count, b""):
        if time.monotonic() > until:
            return ""  # the count stands still: the process has died
        time.sleep(LOOK_S)
    return (
        f"{socket.gethostname()} does not see locks of other machines in RUNS_DIR, {shown(token.parent.parent)}, so "
        "two machines could write the same run. Set RUNS_DIR to a disk whose file locks all machines see, such as NFS "
        "version 4"
    )


def _count_in(token: Path) -> bytes:
    try:
        return token.read_bytes()
    except OSError:
        return b""
