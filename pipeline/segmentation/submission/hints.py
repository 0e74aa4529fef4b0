"""What suggests, without proving it, that a file of run lengths was written in another way than it is read.

In: a file of another program, read by CONVENTION. Out: hints. Any mask is possible, so a hint takes many images that
agree and refuses nothing. Our own files need none: `write.py` compares them with their masks.

Runs describe one line of N pixels; order and base only determine how it is folded into an image.

**Order.** Images are smooth across lines. Let D(s) be the number of pixels that differ from the pixel s positions on.
Read row by row, s = width is the pixel below; read column by column, s = height is the pixel to the right. The wrong
order has the larger D. The ratio of both is taken as it is, since for noise D(s) is the same for every s, and divided
by s, since for an image of level layers D(s) grows with s. The smaller of the two was at most 0.12 for right and at
least 6.1 for transposed files over the 468 CamVid and 56 Dubai masks, in both orders. Square images show nothing.

**Base.** The last pixel of a line and the first of the next lie at opposite borders, so classes change far more often
between them than between other neighbours. Written with the other base, that peak lies one pixel early or late: in 99 %
of these masks, while none shows a shift as it is. But a network that predicts another class along a border moves the
peak in the same way.

Shapes: H height, W width, N = H * W pixels in the convention's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from pipeline.config.competition import IGNORE, Competition, Convention
from pipeline.segmentation.objects import class_of
from pipeline.segmentation.planes import as_index

MIN_IMAGES = 10  # that must agree
AGREEMENT = 0.9  # share of the images with evidence that must agree
RATIO = 2.0  # between 0.12 (right) and 6.1 (transposed), see above; 1 is no evidence at all
ORDER_PIXELS = 100  # fewer differing pixels can lie anywhere
PEAK_LINES = 5  # likewise changes of class at the end of lines
ALMOST_ALL = 0.9  # share of covered pixels from which on a file seems to mean to cover all


class Votes(NamedTuple):
    """What one image shows. None: nothing.

    Attributes:
        is_transposed: whether it is clearly smoother read in the other order.
        shift: where classes change most often: 0 at the end of lines, -1 one pixel before, 1 one pixel after.
        num_pixels: of the image.
        covered_px: of these, those of any class.
        is_dense_start: whether several classes cover the first pixels without a gap, and none the rest.
    """

    is_transposed: bool | None
    shift: Literal[-1, 0, 1] | None
    num_pixels: int
    covered_px: int
    is_dense_start: bool


def hints(masks: Iterable[tuple[str, np.ndarray]], competition: Competition) -> list[str]:
    """Returns what suggests that a csv was written in another order or base, or for images of another size.

    Args:
        masks: id and index mask, object map (H, W) or planes of each image, as read from the csv.
        competition: classes and convention.
    """
    convention = competition.convention
    indexed = ((image_id, as_index(mask) if mask.ndim == 3 else class_of(mask)) for image_id, mask in masks)
    votes = {image_id: votes_of(mask_HW, convention.order) for image_id, mask_HW in indexed}
    found = [_order_hint(list(votes.values()), convention), _base_hint(list(votes.values()), convention)]
    found.append(_size_hint(votes) or (_coverage_hint(votes) if competition.ignore_index is None else None))
    return [hint for hint in found if hint]


def votes_of(mask_HW: np.ndarray, order: Literal["row", "column"]) -> Votes:
    """Returns what one image (uint8, H, W) shows.

    >>> halves = np.tile(np.repeat(np.uint8([0, 1]), 30), (40, 1))  # left and right; 40 high, 60 wide
    >>> votes_of(halves, "row")[:2]
    (False, 0)
    >>> votes_of(halves.ravel().reshape(60, 40).T, "column")[:2]
    (True, 0)
    """
    pixels_N = (mask_HW if order == "row" else mask_HW.T).ravel()
    height, width = mask_HW.shape
    stride, other_stride = (width, height) if order == "row" else (height, width)
    is_covered_N = pixels_N != IGNORE
    covered_px = int(np.count_nonzero(is_covered_N))
    is_dense = 0 < covered_px < pixels_N.size and bool(is_covered_N[:covered_px].all())
    is_dense_start = is_dense and bool((pixels_N[:covered_px] != pixels_N[0]).any())
    is_transposed = _is_transposed(pixels_N, stride, other_stride)
    return Votes(is_transposed, _shift(pixels_N, stride), pixels_N.size, covered_px, is_dense_start)


def _is_transposed(pixels_N: np.ndarray, stride: int, other_stride: int) -> bool | None:
    own, other = _count_differing(pixels_N, stride), _count_differing(pixels_N, other_stride)
    for more, less, more_stride, less_stride, is_transposed in (
        (own, other, stride, other_stride, True),
        (other, own, other_stride, stride, False),
    ):
        if more >= ORDER_PIXELS and more >= RATIO * less and more / more_stride >= RATIO * less / less_stride:
            return is_transposed
    return None


def _shift(pixels_N: np.ndarray, stride: int) -> Literal[-1, 0, 1] | None:
    positions = (np.flatnonzero(pixels_N[1:] != pixels_N[:-1]) + 1) % stride
    changes = {shift: np.count_nonzero(positions == shift % stride) for shift in (-1, 0, 1)}
    for shift, count in changes.items():
        if count >= RATIO * max(changes[other] for other in changes if other != shift) + PEAK_LINES:
            return shift
    return None


def _count_differing(pixels_N: np.ndarray, stride: int) -> int:
    return int(np.count_nonzero(pixels_N[stride:] != pixels_N[:-stride])) if stride < pixels_N.size else 0


def _agree(num: int, num_voting: int) -> bool:
    return num >= MIN_IMAGES and num >= AGREEMENT * num_voting


def _order_hint(votes: Sequence[Votes], convention: Convention) -> str | None:
    cast = [vote.is_transposed for vote in votes if vote.is_transposed is not None]
    if not _agree(sum(cast), len(cast)):
        return None
    other = "column" if convention.order == "row" else "row"
    return (
        f"{sum(cast)} of {len(votes)} images are clearly smoother read {other} by {other} than {convention.order} by "
        f"{convention.order}: the file may be written with ORDER: {other}, or for transposed images"
    )


def _base_hint(votes: Sequence[Votes], convention: Convention) -> str | None:
    cast = [vote.shift for vote in votes if vote.shift is not None]
    for shift, where in ((1, "after"), (-1, "before")):
        if _agree(cast.count(shift), len(cast)):
            return (
                f"in {cast.count(shift)} of {len(votes)} images classes change most often one pixel {where} the end of "
                f"the lines, not at it: the file may count pixels from {1 - convention.base} instead of "
                f"{convention.base}, or its masks have another class along a border"
            )
    return None


def _size_hint(votes: dict[str, Votes]) -> str | None:
    dense = {image_id: vote for image_id, vote in votes.items() if vote.is_dense_start}
    if not _agree(len(dense), sum(vote.covered_px > 0 for vote in votes.values())):
        return None
    image_id, vote = next(iter(dense.items()))
    return (
        f"{len(dense)} of {len(votes)} images are covered without a gap up to a pixel and not after it, such as "
        f"{image_id} ({vote.covered_px:,} of {vote.num_pixels:,} pixels): the masks may be of another size"
    )


def _coverage_hint(votes: dict[str, Votes]) -> str | None:
    """Returns a hint where a file seems to give every pixel a class, but for some."""
    partial = [image_id for image_id, vote in votes.items() if vote.covered_px < vote.num_pixels]
    num_pixels = sum(vote.num_pixels for vote in votes.values())
    covered_px = sum(vote.covered_px for vote in votes.values())
    seems_whole = 2 * len(partial) <= len(votes) or covered_px >= ALMOST_ALL * num_pixels
    if len(votes) < MIN_IMAGES or not partial or not seems_whole:
        return None
    return (
        f"{1 - covered_px / num_pixels:.4%} of all pixels are in no class, in {len(partial)} of {len(votes)} images, "
        f"such as {partial[0]}"
    )
