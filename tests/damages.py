"""What a disk does to files: cut off, a bit flipped, a page of zeros; from the bytes of a file and a generator."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

PAGE = 4096


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flip(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def zero_page(data: bytes, rng: random.Random) -> bytes:
    """Zeros a page, or a sixteenth of a smaller file."""
    size = min(PAGE, max(1, len(data) // 16))
    start = rng.randrange(0, len(data), size)
    return data[:start] + bytes(len(data[start : start + size])) + data[start + size :]


def damaged(data: bytes, number: int) -> Iterator[bytes]:
    """Yields a file with one damage each, the same ones each time; DAMAGES=2400 in the environment: so many."""
    rng = random.Random(len(data))
    for index in range(int(os.environ.get("DAMAGES", number))):
        yield (cut, flip, zero_page)[index % 3](data, rng)
