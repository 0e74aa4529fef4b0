"""What the pixels themselves say about the convention that a run-length file was written in.

Runs fix one line of N pixels, whatever the convention; order and base only say how it is folded into an image.
Images are smooth across lines, so the right fold makes neighbouring lines alike. Both tests below ask for that.

**Order.** Let D(s) be the number of pixels that differ from the pixel s places on. Folded row by row, s = width is the
pixel below; folded column by column, s = height is the pixel to the right. The wrong fold has the larger D. The
ratio of both must hold twice: as it is, since for noise D(s) is the same for every s; and divided by s, since for an
image of level layers D(s) grows with s. The smaller of both ratios was at most 0.12 for right, at least 6.1 for
transposed files over each of the 468 CamVid and 56 Dubai masks, in both orders. Square images fold alike both ways
and give no evidence.

**Base.** A line's last pixel and the next line's first lie at opposite borders, so classes change far more often
between them than between any other neighbours (10 times and more over either data set). Written with the wrong base,
that peak sits one place early or late.

Shapes: N pixels in the competition's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.submission.rle import Order

ORDER_RATIO = 2.0  # between 0.12 (right) and 6.1 (transposed), see above; 1 is no evidence at all
ORDER_PIXELS = 100  # a handful of differing pixels can lie anywhere
PEAK_RATIO = 2  # the shifted peak over the place where it should be
PEAK_LINES = 20


class Evidence(NamedTuple):
    """Counts of one image, or their sum over many."""

    own: float  # D at the stride of the declared order
    other: float  # D at the stride of the other order
    own_per_pixel: float  # the same divided by their strides
    other_per_pixel: float
    early: float  # changes of class one place before the line ends, at the line's end, one place after
    at_end: float
    late: float


def weigh(pixels_N: np.ndarray, height: int, width: int, order: Order) -> Evidence:
    """Returns the evidence of one image; `pixels_N` are values in the declared order."""
    stride, other_stride = (width, height) if order == "row" else (height, width)
    own, other = _count_differing(pixels_N, stride), _count_differing(pixels_N, other_stride)
    places = (np.flatnonzero(pixels_N[1:] != pixels_N[:-1]) + 1) % stride
    changes = [np.count_nonzero(places == place % stride) for place in (-1, 0, 1)]
    return Evidence(own, other, own / stride, other / other_stride, *changes)


def total(evidences: Sequence[Evidence]) -> Evidence:
    """Returns the sums over images."""
    return Evidence(*(sum(counts) for counts in zip(*evidences, strict=True))) if evidences else Evidence(*[0.0] * 7)


def order_ratio(evidence: Evidence) -> float:
    """Returns how much worse the declared order folds than the other: above 1 speaks against it, 1 says nothing.

    >>> rows = np.repeat(np.arange(40), 60)  # 40 level layers, 60 wide: no evidence for either order
    >>> order_ratio(weigh(rows, 40, 60, "row"))
    1.0
    >>> tall = np.tile(np.repeat([0, 1], 30), 40)  # a left and a right half: right by rows, wrong by columns
    >>> order_ratio(weigh(tall, 40, 60, "row")), order_ratio(weigh(tall, 40, 60, "column"))
    (0.0, inf)
    """
    if not evidence.own:
        return 0.0 if evidence.other else 1.0
    if not evidence.other:
        return float("inf")
    return min(evidence.own / evidence.other, evidence.own_per_pixel / evidence.other_per_pixel)


def order_is_wrong(evidence: Evidence) -> bool:
    """Tells whether the pixels fold clearly better in the order that was not declared."""
    return evidence.own >= ORDER_PIXELS and order_ratio(evidence) >= ORDER_RATIO


def base_shift(evidence: Evidence) -> int:
    """Returns 1 or -1 where the runs lie that many pixels too far on in the line, else 0."""
    for shift, peak, opposite in ((1, evidence.late, evidence.early), (-1, evidence.early, evidence.late)):
        if peak >= PEAK_RATIO * max(evidence.at_end, opposite) + PEAK_LINES:
            return shift
    return 0


def _count_differing(pixels_N: np.ndarray, stride: int) -> int:
    return int(np.count_nonzero(pixels_N[stride:] != pixels_N[:-stride])) if stride < pixels_N.size else 0
