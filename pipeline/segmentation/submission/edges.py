"""The convention of run lengths found from the images that they belong to, where no mask is there to compare with.

Runs must fit their images, which excludes most conventions that are wrong. Among the others the right one draws its
outlines where the images have edges: read in the wrong direction a mask lies elsewhere (on a square image it is only
transposed, and looks as good as the right one), and counted from the wrong number it is one pixel off.

Letters: H height, W width, N examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from pipeline.config.competition import Convention
from pipeline.data.tiles import Box
from pipeline.segmentation.submission.rle import RleError, decode_classes, paint_window, parse_runs

AGREEMENT = 0.98  # share of the texts that must decode: published encoders have bugs at the first and last pixel
LEAST_DEVIATIONS = 3.0  # standard errors by which the best must beat the next, over the examples, to be sure
USUAL_BASE = 1  # of the ten competitions in `docs/conventions.md`, eight

NUM_SPOTS, SPOT = 12, 512  # windows of a large image that are compared, around runs; their side in pixels


class LargeGrey(NamedTuple):
    """The brightness of an image that is read by region: `read` returns that of a box, uint8 (H, W)."""

    shape: tuple[int, int]
    read: Callable[[Box], np.ndarray]


Example = tuple[str, np.ndarray | LargeGrey]  # run lengths of at least a pixel, and their image's brightness (H, W)


class Guess(NamedTuple):
    """A convention, and the fields in which another one is about as likely."""

    convention: Convention
    doubtful: tuple[str, ...]


def guess_convention(examples: Sequence[Example], known: Convention, given: Sequence[str] = ()) -> Guess | None:
    """Returns the order, base and kind of starts with which texts fit their images best; None: none fits.

    Args:
        known: has the values of the fields in `given`, which are not looked for.
    """
    strengths = {one: _strengths(examples, one) for one in _candidates(known, given)}
    fitting = {
        one: values for one, values in strengths.items() if np.isfinite(values).sum() >= AGREEMENT * len(examples)
    }
    if not fitting:
        return None
    best = max(fitting, key=lambda one: (np.nanmean(fitting[one]), one.base == USUAL_BASE))
    doubtful = [
        name
        for name in ("order", "base", "relative")
        if any(
            getattr(one, name) != getattr(best, name) and not _is_better(fitting[best], values)
            for one, values in fitting.items()
        )
    ]
    if doubtful == ["base"] and best.base != USUAL_BASE:
        best = next((one for one in fitting if one == _with_usual_base(best)), best)
    return Guess(best, tuple(doubtful))


def _candidates(known: Convention, given: Sequence[str]) -> list[Convention]:
    options = {"order": ("row", "column"), "base": (1, 0), "relative": (False, True)}
    names = [name for name in options if name not in given]
    chosen = product(*(options[name] for name in names))
    return [Convention(**(vars(known) | dict(zip(names, values, strict=True)))) for values in chosen]


def _with_usual_base(convention: Convention) -> Convention:
    return Convention(**(vars(convention) | {"base": USUAL_BASE}))


def _strengths(examples: Sequence[Example], convention: Convention) -> np.ndarray:
    """Returns how many times stronger the edges of each image are on the outline than elsewhere; NaN: unfit: (N,)."""
    return np.array([_strength(runs, image_HW, convention) for runs, image_HW in examples])


def _strength(runs: str, image_HW: np.ndarray | LargeGrey, convention: Convention) -> float:
    try:
        if isinstance(image_HW, LargeGrey):
            pairs = list(_spots(runs, image_HW, convention))
        else:
            pairs = [(image_HW, decode_classes([runs], *image_HW.shape, convention) == 0)]
    except RleError:
        return np.nan
    total, on_outline, num_outline = 0.0, 0.0, 0
    for part_HW, mask_HW in pairs:
        part_HW = part_HW.astype(np.float32)
        for axis in (0, 1):
            steps, is_outline = np.abs(np.diff(part_HW, axis=axis)), np.diff(mask_HW, axis=axis)
            total += float(steps.mean()) / 2 / len(pairs)
            on_outline += float(steps[is_outline].sum())
            num_outline += int(is_outline.sum())
    return on_outline / num_outline / total if num_outline and total else 1.0


def _spots(text: str, image: LargeGrey, convention: Convention) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields brightness and mask, bool, of windows of a large image around runs that are evenly spread.

    Raises:
        RleError: the text does not decode.
    """
    height, width = image.shape
    runs = parse_runs(text, height * width, convention)
    chosen = np.unique(np.linspace(0, runs.starts.size - 1, NUM_SPOTS).astype(int))
    for start in runs.starts[chosen].tolist():
        y, x = divmod(start, width) if convention.order == "row" else divmod(start, height)[::-1]
        left, top = (int(np.clip(at - SPOT // 2, 0, max(0, side - SPOT))) for at, side in ((x, width), (y, height)))
        box = Box(left, top, min(SPOT, width), min(SPOT, height))
        yield image.read(box), paint_window(runs, height, width, convention.order, box)


def _is_better(best: np.ndarray, other: np.ndarray) -> bool:
    """Returns whether one convention fits the examples surely better than another, compared image by image."""
    both = np.isfinite(best) & np.isfinite(other)
    gains = best[both] - other[both]
    if len(gains) < 2:
        return False
    return float(gains.mean()) > LEAST_DEVIATIONS * float(gains.std(ddof=1)) / len(gains) ** 0.5
