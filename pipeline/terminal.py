"""Escapes characters in printed text that would move the cursor, change colours or reverse the direction.

Comments of configs, names of files, notes of uploads and answers of servers reach the terminal as they are. So what a
command prints is cleaned where it leaves the process, not where it is put together. Standard library only.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

# Characters that act instead of being shown: controls except line feed and tab, lone surrogates (names that are not
# UTF-8), separators of lines and paragraphs, and what changes the direction of writing.
ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
MOVES = re.compile(r"(?:[\r\n]|\x1b\[A)*")  # by which progress bars are drawn again, in writes of their own


def printable(text: str) -> str:
    r"""Returns a text with its acting characters as escape sequences, as Python writes them.

    >>> printable("Larger \x1b[31mtiles\r\n"), printable("a\tb é 猫")
    ('Larger \\x1b[31mtiles\\r\n', 'a\tb é 猫')
    """
    return ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class PrintableStream:
    """A stream that writes printable text to another one, and otherwise behaves like it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Writes a text; the carriage returns at its ends and the moves of progress bars stay as they are."""
        if MOVES.fullmatch(text):
            return self.stream.write(text)
        inner = text.strip("\r")
        start = len(text) - len(text.lstrip("\r"))
        self.stream.write(text[:start] + printable(inner) + text[start + len(inner) :])
        return len(text)


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Within the block, whatever is printed to stdout and stderr is printable."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (PrintableStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def move(codes: str) -> None:
    """Writes control sequences of the program's own to stdout."""
    stream = sys.stdout
    (stream.stream if isinstance(stream, PrintableStream) else stream).write(codes)
