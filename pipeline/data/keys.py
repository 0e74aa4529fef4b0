"""What names a training sample, and the random streams that it draws from."""

from __future__ import annotations

from typing import NamedTuple

# Separate random streams, so that switching one step off leaves the others as they were.
GEOMETRY, PASTING, COLOR, ORDER = range(4)



class SampleKey(NamedTuple):
    """What a training sample is made from: `epoch` from 1, `index` of image and tile, and how often it was drawn."""

    epoch: int
    index: int
    augment: bool = True
    repeat: int = 0
