"""What a process of the command line sets up first: text in UTF-8, and output that never ends a run.

Python raises an exception when a line cannot be printed: the reader has ended (`| head`), the disk of a log is full, or
the terminal was closed. One such line would end hours of training. Here the line is lost and the work continues; a
command whose result is its output asks `lost_output` at the end.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys

UTF8_MODE = "PYTHONUTF8"


def use_utf8() -> None:
    """Starts this program again if the locale is not UTF-8, such as LC_ALL=C, which would change names of files."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get(UTF8_MODE) != "1":
        os.environ[UTF8_MODE] = "1"  # for processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


class Output(io.FileIO):
    """A file descriptor whose writes never raise: what cannot be written is lost.

    Attributes:
        error: of the first write that failed; None: all was written.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Writes what can be written; returns how many bytes of `data` are written or lost."""
        try:
            while (written := super().write(data)) is None:  # a pipe that another program has set to non-blocking
                select.select([], [self], [])
        except OSError as error:
            self.error = self.error or error
            return len(data)
        return written


def keep_output_going() -> None:
    """Makes standard output and error ignore errors, and opens standard files that are closed.

    The next file that is opened would get the number of a closed descriptor, and messages of libraries would be written
    into it. Characters that the encoding of a stream does not have are written as escapes.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - as long as the process
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        options = {"line_buffering": descriptor == 2}
        if before is not None:
            before.flush()
            # With PYTHONUNBUFFERED each line is to be seen at once; `write_through` alone ends at the buffer below.
            options["line_buffering"] = before.line_buffering or before.write_through
        encoding = "utf-8" if before is None else before.encoding
        raw = io.BufferedWriter(Output(descriptor))
        setattr(sys, name, io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", newline="\n", **options))


def lost_output() -> OSError | None:
    """Returns why a part of standard output was lost, or would be lost now because nobody reads it; else None."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, Output):
        return None
    poll = select.poll()
    poll.register(raw, 0)
    if raw.error is None and any(event & select.POLLERR for _, event in poll.poll(0)):
        raw.error = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    return raw.error


def is_reader_gone(error: OSError) -> bool:
    """Returns whether the output was lost because its reader has ended, which is no fault: `./run.sh list | head`."""
    return error.errno == errno.EPIPE
