"""Joins the cores of a large image's windows, one row of windows after the other.

In: codes of windows, in the order of `WholeImages`. Out: the compressed codes of the whole image; uncompressed,
no more than one row of windows is in memory.

Letters: C classes, H rows, W columns, R rows of a row of cores.
"""

from __future__ import annotations

import numpy as np

from pipeline.segmentation.compact import Bands, Compressor
from pipeline.task import Part


class JoinedWindows:
    """The codes of one image, added window by window.

    Args:
        shape: (C, H, W) of the image's codes.
    """

    def __init__(self, shape: tuple[int, int, int]):
        self.shape, self.compressor = shape, Compressor(shape)
        self.row_CRW: np.ndarray | None = None

    def add(self, codes_CHW: np.ndarray, offset: tuple[int, int], part: Part) -> None:
        """Adds a window.

        Args:
            codes_CHW: uint8, of the padded window.
            offset: (top, left) of the window in it.
        """
        _, left, height, width = part.core
        if self.row_CRW is None:
            self.row_CRW = np.empty((self.shape[0], height, self.shape[2]), np.uint8)
        (top, left_padding), (_, _, window_height, window_width) = offset, part.window
        inside = codes_CHW[:, top : top + window_height, left_padding : left_padding + window_width]
        self.row_CRW[:, :, left : left + width] = core_of(inside, part)
        if left + width == self.shape[2]:  # the last window of its row
            self.compressor.add(self.row_CRW)
            self.row_CRW = None

    @property
    def is_whole(self) -> bool:
        """Whether all windows were added."""
        return self.compressor.num_rows == self.shape[1]

    def finish(self) -> Bands:
        """Returns the codes of the image."""
        return self.compressor.finish()


def core_of(window: np.ndarray, part: Part) -> np.ndarray:
    """Returns the core of an array (..., H, W) of a window without padding."""
    return window[(..., *core_slices(part))]


def core_slices(part: Part) -> tuple[slice, slice]:
    """Returns the rows and columns of the core in its window without padding."""
    top, left = part.core[0] - part.window[0], part.core[1] - part.window[1]
    return slice(top, top + part.core[2]), slice(left, left + part.core[3])


def image_slices(part: Part) -> tuple[slice, slice]:
    """Returns the rows and columns of the core in the image."""
    top, left, height, width = part.core
    return slice(top, top + height), slice(left, left + width)
