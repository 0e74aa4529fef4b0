"""Run-length texts: an index mask to one text per class, and back.

A text is `start length start length ...`. The order of the pixels (row by row or column by column), the number of the
first pixel (0 or 1), relative starts and the text of an empty mask belong to the competition (`Convention`). A relative
start is the distance from the end of the run before it (SIIM Pneumothorax), so `base` enters the first start only.

Shapes: H height, W width, N = H * W pixels, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.config.competition import IGNORE, Convention
from pipeline.data.tiles import Box
from pipeline.errors import UserError

RUNS_AT_ONCE = 2**18  # of which the numbers are written, 20 bytes each
BLOCK = 2**24  # pixels at once, so that a mask of a gigapixel needs little beside itself
# A number is written as 4-byte cells: groups of four digits, then three digits and the space that ends the number.
# Leading zeros are NUL bytes, which one pass removes at the end; that is far faster than a Python text per number.
_LAST, _GROUP = 1000, 10_000
_LAST_CELLS = np.frombuffer(
    b"".join((b"%d " % number).rjust(4, b"\0") for number in range(_LAST))
    + b"".join(b"%03d " % number for number in range(_LAST)),
    dtype=np.uint32,
)
_GROUP_CELLS = np.frombuffer(
    b"\0\0\0\0"
    + b"".join((b"%d" % number).rjust(4, b"\0") for number in range(1, _GROUP))
    + b"".join(b"%04d" % number for number in range(_GROUP)),
    dtype=np.uint32,
)


class RleError(UserError):
    """A run-length text that cannot be read; the message says why."""


class Runs(NamedTuple):
    """Runs of equal pixels: where each starts (first pixel 0) and how many pixels it has; both of shape R."""

    starts: np.ndarray
    lengths: np.ndarray


def encode(mask_HW: np.ndarray, num_classes: int, convention: Convention) -> list[str]:
    """Returns the run-length text of each class of an index mask.

    All classes are found in one pass over the mask, and the numbers are written from a table.

    Args:
        mask_HW: uint8 or int32, class indices; a pixel of `IGNORE` or any value of at least `num_classes` is in none.
        num_classes: how many texts to return.
        convention: order, base, kind of starts, and the text of a class without pixels.

    Raises:
        ValueError: the mask is not such an array of two dimensions with less than 2**32 pixels.

    >>> encode(np.array([[0, 0, 1], [1, 1, 0]], np.uint8), 3, Convention("row", base=0))
    ['0 2 5 1', '2 3', '']
    """
    pixels_N = _in_order(mask_HW, convention.order)
    (starts, lengths), classes = _find_runs(pixels_N)
    by_class = np.argsort(classes, kind="stable")  # a radix sort for uint8; keeps the order of the starts in a class
    starts, lengths = starts[by_class], lengths[by_class]
    stops = np.cumsum(np.bincount(classes, minlength=num_classes)[:num_classes])
    firsts = np.concatenate([[0], stops])[:-1]
    numbers = np.stack([starts + np.uint32(convention.base), lengths], axis=1)
    if convention.relative:
        first_runs = firsts[firsts < stops]
        first_starts = numbers[first_runs, 0]
        numbers[1:, 0] = starts[1:] - starts[:-1] - lengths[:-1]
        numbers[first_runs, 0] = first_starts
    cells = _write_cells(numbers) if len(numbers) <= RUNS_AT_ONCE else None  # all classes at once are faster

    def text_of(first: int, stop: int) -> str:
        if stop == first:
            return convention.empty
        return _text(cells[first:stop]) if cells is not None else _long_text(numbers[first:stop])

    return [text_of(*ends) for ends in zip(firsts.tolist(), stops.tolist(), strict=True)]


def decode_classes(texts: Sequence[str], height: int, width: int, convention: Convention) -> np.ndarray:
    """Returns the index mask (uint8 of shape H, W) of one text per class; `IGNORE` where no class has the pixel.

    Raises:
        RleError: a text is malformed, its runs leave the image, overlap or go backwards, or two classes overlap.

    >>> decode_classes(["0 2", "2 3"], 2, 3, Convention("row", base=0)).tolist()
    [[0, 0, 1], [1, 1, 255]]
    >>> decode_classes(["2 1 4 2"], 2, 3, Convention("column", base=1)).tolist()
    [[255, 255, 0], [0, 0, 255]]
    """
    return _decode(texts, height, width, convention, np.arange(len(texts)), np.uint8(IGNORE), "classes")


def decode_objects(texts: Sequence[str], height: int, width: int, convention: Convention) -> np.ndarray:
    """Returns the number of each pixel's object, int32 of shape H, W: from 1 on, as the texts; 0 where there is none.

    Raises:
        RleError: as `decode_classes`.

    >>> decode_objects(["0 2", "2 3"], 2, 3, Convention("row", base=0)).tolist()
    [[1, 1, 2], [2, 2, 0]]
    """
    return _decode(texts, height, width, convention, np.arange(1, len(texts) + 1), np.int32(0), "objects")


def _decode(
    texts: Sequence[str], height: int, width: int, convention: Convention, values: np.ndarray, none: np.generic, of: str
) -> np.ndarray:
    """Returns the value of the text that has each pixel, in the type of `none`, which is that of the other pixels."""
    if not texts:
        return np.full((height, width), none)
    order = convention.order
    runs, owners = join_classes([parse_runs(text, height * width, convention) for text in texts])
    clashes = np.flatnonzero(runs.starts[1:] < (runs.starts + runs.lengths)[:-1])
    if clashes.size:
        clash = int(clashes[0])
        pixel = int(runs.starts[clash + 1])
        y, x = divmod(pixel, width) if order == "row" else divmod(pixel, height)[::-1]
        first, second = values[owners[clash : clash + 2]]
        raise RleError(f"{of} {first} and {second} both have the pixel x {x}, y {y}")
    return _painted(runs, values[owners], none, (height, width), order)


def decode_joined(all_runs: Sequence[Runs], height: int, width: int, order: str) -> np.ndarray:
    """Returns where any of some texts has a run, bool (H, W); the runs of different texts may overlap.

    >>> texts = [parse_runs(text, 6, Convention("row", base=0)) for text in ("4 1", "0 2", "1 2")]
    >>> decode_joined(texts, 2, 3, "row").tolist()
    [[True, True, True], [False, True, False]]
    """
    runs = Runs(*(np.concatenate(parts) for parts in zip(*all_runs, strict=True)))
    by_start = np.argsort(runs.starts, kind="stable")
    starts = runs.starts[by_start]
    stops = np.maximum.accumulate(starts + runs.lengths[by_start])
    is_first = np.concatenate([[True], starts[1:] > stops[:-1]])  # of runs that touch or overlap
    joined = Runs(starts[is_first], stops[np.roll(is_first, -1)] - starts[is_first])
    return _painted(joined, np.True_, np.False_, (height, width), order)


def paint_window(runs: Runs, height: int, width: int, order: str, box: Box) -> np.ndarray:
    """Returns where sorted runs have pixels in a part of an image (H, W): bool (box.height, box.width)."""
    if order == "row":
        lines = _paint_lines(runs, np.True_, np.False_, (box.y, box.y + box.height), width)
        return lines[:, box.x : box.x + box.width]
    lines = _paint_lines(runs, np.True_, np.False_, (box.x, box.x + box.width), height)
    return np.ascontiguousarray(lines[:, box.y : box.y + box.height].T)


def _painted(
    runs: Runs, values_R: np.ndarray | np.generic, none: np.generic, size: tuple[int, int], order: str
) -> np.ndarray:
    """Returns the value of each pixel's run, (H, W) in the type of `none`, which other pixels are; see `_paint_lines`.

    Of a large image some lines are painted at a time, so that little is needed beside the result.
    """
    mask_HW = np.empty(size, none.dtype)
    mask_LN = mask_HW if order == "row" else mask_HW.T  # lines of pixels in the order of the runs
    num_lines, length = mask_LN.shape
    step = max(1, BLOCK // max(1, length))
    for first in range(0, num_lines, step):
        last = min(first + step, num_lines)
        mask_LN[first:last] = _paint_lines(runs, values_R, none, (first, last), length)
    return mask_HW


def _paint_lines(
    runs: Runs, values_R: np.ndarray | np.generic, none: np.generic, lines: tuple[int, int], length: int
) -> np.ndarray:
    """Returns the lines from the first to that behind the last, (lines, length), of sorted runs that do not overlap."""
    start, stop = (line * length for line in lines)
    chosen = slice(np.searchsorted(runs.starts + runs.lengths, start, "right"), np.searchsorted(runs.starts, stop))
    edges = np.clip(np.stack([runs.starts[chosen], (runs.starts + runs.lengths)[chosen]], 1).ravel(), start, stop)
    values = np.full(edges.size + 1, none)
    values[1::2] = values_R[chosen] if values_R.ndim else values_R
    return np.repeat(values, np.diff(edges, prepend=start, append=stop)).reshape(lines[1] - lines[0], length)


def join_classes(all_runs: Sequence[Runs]) -> tuple[Runs, np.ndarray]:
    """Returns the runs of several classes sorted by start, and the class (position in `all_runs`) of each."""
    starts = np.concatenate([runs.starts for runs in all_runs])
    lengths = np.concatenate([runs.lengths for runs in all_runs])
    classes = np.repeat(np.arange(len(all_runs), dtype=np.int32), [runs.starts.size for runs in all_runs])
    by_start = np.argsort(starts, kind="stable")
    return Runs(starts[by_start], lengths[by_start]), classes[by_start]


def parse_runs(text: str, num_pixels: int, convention: Convention) -> Runs:
    """Returns the runs of one text as int64, the first pixel being 0; touching runs are accepted.

    Raises:
        RleError: the text is malformed, or its runs leave the image, overlap or go backwards.
    """
    base = convention.base
    if text == convention.empty:
        return Runs(np.empty(0, np.int64), np.empty(0, np.int64))
    numbers = _parse_numbers(text, convention.empty)
    if numbers.size % 2:
        raise RleError(f"found {numbers.size} numbers; expected pairs of start and length")
    if numbers.max() > num_pixels + base:  # also keeps the sums below from overflowing
        raise RleError(f"{numbers.max()} is outside the image of {num_pixels} pixels")
    starts, lengths = numbers[::2], numbers[1::2]
    if not lengths.all():
        raise RleError(f"run {int(np.argmin(lengths)) + 1} has length 0")
    if starts[0] < base:
        raise RleError("the first run starts at pixel 0, but pixels are numbered from 1")
    if convention.relative:
        ends = np.cumsum(starts + lengths)
        starts = ends - lengths
    starts = starts - base
    stops = starts + lengths
    backwards = np.flatnonzero(starts[1:] < stops[:-1])
    if backwards.size:
        run = int(backwards[0])
        before, start = starts[run : run + 2] + base
        relation = "overlaps" if start >= before else "starts before"
        raise RleError(f"run {run + 2} (start {start}) {relation} run {run + 1} (start {before})")
    if stops[-1] > num_pixels:
        last = stops[-1] - 1 + base
        raise RleError(f"run {starts.size} ends at pixel {last}; the last pixel is {num_pixels - 1 + base}")
    return Runs(starts, lengths)


def _in_order(mask_HW: np.ndarray, order: str) -> np.ndarray:
    if mask_HW.ndim != 2 or mask_HW.dtype not in (np.uint8, np.int32) or mask_HW.size >= 2**32:
        found = f"{mask_HW.dtype} of {mask_HW.shape}"
        raise ValueError(f"a mask is a uint8 or int32 array of shape (height, width), not {found}")
    if order == "column" and mask_HW.size:
        mask_HW = cv2.transpose(np.ascontiguousarray(mask_HW))  # ten times as fast as a copy of numpy's `.T`
    return np.ascontiguousarray(mask_HW).ravel()


def _find_runs(pixels_N: np.ndarray) -> tuple[Runs, np.ndarray]:
    """Returns the runs (uint32) of all values and the value of each run."""
    edges = np.concatenate([_changes(pixels_N[first : first + BLOCK + 1]) + first for first in _blocks(pixels_N)])
    starts = np.zeros(edges.size + min(pixels_N.size, 1), np.uint32)
    np.add(edges, 1, out=starts[1:], casting="unsafe")
    return Runs(starts, np.diff(starts, append=np.uint32(pixels_N.size))), pixels_N[starts]


def _blocks(pixels_N: np.ndarray) -> range:
    return range(0, max(1, pixels_N.size), BLOCK)


def _changes(pixels_N: np.ndarray) -> np.ndarray:
    """Returns the pixels whose next one is another value: int64."""
    return np.flatnonzero(pixels_N[1:] != pixels_N[:-1])


def _text(cells: np.ndarray) -> str:
    """Returns cells as text, with a space between two numbers."""
    return cells.tobytes().translate(None, b"\0")[:-1].decode("ascii")


def _long_text(numbers: np.ndarray) -> str:
    """Returns uint32 `numbers` as text, written some at a time."""
    parts = (numbers[first : first + RUNS_AT_ONCE] for first in range(0, len(numbers), RUNS_AT_ONCE))
    return " ".join(_text(_write_cells(part)) for part in parts)


def _write_cells(numbers: np.ndarray) -> np.ndarray:
    """Returns the decimal digits of uint32 `numbers` as 4-byte cells, NUL for leading zeros, a space at each end."""
    rest = numbers // _LAST
    cells = [_LAST_CELLS[numbers - rest * _LAST + (rest > 0) * np.uint32(_LAST)]]
    while len(cells) == 1 or rest.any():
        group = rest
        rest = group // _GROUP
        cells.append(_GROUP_CELLS[group - rest * _GROUP + (rest > 0) * np.uint32(_GROUP)])
    return np.stack(cells[::-1], axis=2)


def _parse_numbers(text: str, empty: str) -> np.ndarray:
    """Returns the numbers of a text of digits and single spaces as int64."""
    if not isinstance(text, str) or not text:
        raise RleError(f"found {text!r}; expected run lengths, or {empty!r} for an empty mask")
    between = text.encode("utf-8", "surrogatepass").translate(None, b"0123456789")
    if between.strip(b" "):
        word = next(word for word in text.split(" ") if word and not (word.isascii() and word.isdigit()))
        raise RleError(f"{word[:20]!r} is not a whole number; expected digits 0-9, with one space between numbers")
    if text[0] == " " or text[-1] == " " or "  " in text:
        raise RleError("found more than one space; expected exactly one between numbers, and none at the ends")
    return np.fromstring(text, np.int64, sep=" ")  # safe: every character was checked; too large a number saturates
