"""How long predicting and writing will still take, estimated from the time taken so far.

Work is counted in pixels, so that images may have any sizes. Nothing is assumed: before the first measurement there is
no estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

MARGIN = 1.2  # on every estimate: from batch to batch speeds differ by a tenth, and a hot machine gets slower


@dataclass
class Pace:
    """The speed of one network on the images that it predicts.

    The first batch includes the start (weights, first images, a GPU's kernels), so it tells little about the others.

    Attributes:
        total: pixels of all the images.
        began_s: when loading the network began.
        done: pixels predicted so far.

    >>> pace = Pace(total=400, began_s=0.0)
    >>> pace.add(100, 30.0), pace.add(100, 32.0)
    (None, None)
    >>> pace.start_s, pace.left_s == 2 * 2.0 * MARGIN
    (30.0, True)
    """

    total: int
    began_s: float
    done: int = 0
    start_s: float | None = None
    _marks: list[tuple[int, float]] = field(default_factory=list)

    def add(self, pixels: int, now_s: float) -> None:
        """Adds a batch that is predicted now."""
        self.done += pixels
        self._marks.append((self.done, now_s))
        if self.start_s is None:
            self.start_s = now_s - self.began_s

    @property
    def left_s(self) -> float | None:
        """How long the images that are left take; None until the second batch."""
        if self.done >= self.total:
            return 0.0
        if len(self._marks) < 2:
            return None
        (first, first_s), (last, last_s) = self._marks[0], self._marks[-1]
        if first == last:
            return None
        return MARGIN * (last_s - first_s) / (last - first) * (self.total - self.done)

    @property
    def next_s(self) -> float:
        """How long one more batch takes: as long as the longest so far, not counting the first if there are others."""
        times = [self.began_s, *(mark_s for _, mark_s in self._marks)]
        spans = [after - before for before, after in pairwise(times)]
        return MARGIN * max(spans[1:] or spans, default=0.0)


@dataclass
class WriteTime:
    """How long a submission takes to be decoded, encoded, written, read back and checked.

    Attributes:
        fixed_s: for a submission without any prediction.
        per_pixel_s: on top of that, for each pixel of each prediction.

    >>> time = WriteTime()
    >>> time.add(0, 2.0), time.add(1_000, 3.0)
    (None, None)
    >>> time.expected_s(4_000) == MARGIN * (2.0 + 4.0)
    True
    """

    fixed_s: float = 0.0
    per_pixel_s: float = 0.0

    def add(self, pixels: int, seconds: float) -> None:
        """Adds a submission that was written from predictions of so many pixels."""
        if pixels:
            self.per_pixel_s = max(0.0, seconds - self.fixed_s) / pixels
        else:
            self.fixed_s = seconds

    def expected_s(self, pixels: int) -> float:
        """Returns how long a submission from predictions of so many pixels takes."""
        return MARGIN * (self.fixed_s + self.per_pixel_s * pixels)
