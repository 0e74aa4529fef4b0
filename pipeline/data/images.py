"""The one reader of images and masks: everything that trains, predicts or draws reads files through this module.

In: a path of a file that `catalog.build_catalog` has found good. Out: uint8 arrays, images RGB, masks class indices.
Pixels come as they are stored: an EXIF rotation is never applied here and refused by the check, so image and mask
cannot be turned apart. Measured on CamVid, one core: cv2 1.1 ms an image, PIL 1.2 ms (480x360 JPEG).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.config.competition import IGNORE, MaskCode
from pipeline.errors import UserError

STORED_ORIENTATION = cv2.IMREAD_IGNORE_ORIENTATION
UNKNOWN = 254  # in a decoded mask: of no class; there are 254 at most, so that their indices end below it
INDICES = MaskCode()
_REDUCED_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


def read_image(path: Path | str) -> np.ndarray:
    """Returns an image, uint8 HxWx3, RGB.

    Raises:
        UserError: the file is absent or does not decode.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | STORED_ORIENTATION)
    if image is None:
        raise _no_longer_good(path, "an 8-bit RGB image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_mask(path: Path | str, code: MaskCode = INDICES) -> np.ndarray:
    """Returns a mask, uint8 HxW: class indices, and `IGNORE` where the file has what counts nowhere.

    Raises:
        UserError: the file is absent, does not decode, is not of the kind that `code` reads, or has unknown values.
    """
    stored = cv2.imread(str(path), mask_flags(code))
    if stored is None or stored.ndim != (3 if code.colors else 2) or stored.dtype != np.uint8:
        raise _no_longer_good(path, "an 8-bit RGB mask" if code.colors else "an 8-bit single-channel PNG")
    mask = class_indices(stored, code)
    if (code.values or code.colors) and (mask == UNKNOWN).any():
        raise _no_longer_good(path, "the colours of COLORS alone" if code.colors else "values of MASK_VALUES alone")
    return mask


def mask_flags(code: MaskCode) -> int:
    """Returns how OpenCV is to decode a mask file: as it is stored, or palettes and greys as colours too."""
    return (cv2.IMREAD_COLOR if code.colors else cv2.IMREAD_UNCHANGED) | STORED_ORIENTATION


def class_indices(stored: np.ndarray, code: MaskCode) -> np.ndarray:
    """Returns class indices, uint8 HxW, of decoded mask pixels: uint8, HxW grey or HxWx3 BGR; may be `stored` itself.

    `IGNORE` is what counts nowhere. Where values or colours are given, any other one becomes `UNKNOWN`.

    >>> class_indices(np.array([[0, 255, 7]], np.uint8), MaskCode(values=(0, 255))).tolist()
    [[0, 1, 254]]
    """
    ignore = code.ignore_index
    if code.colors:
        mask = np.full(stored.shape[:2], UNKNOWN, np.uint8)
        for index, (red, green, blue) in enumerate(code.colors):
            color = (blue, green, red)
            mask[cv2.inRange(stored, color, color) > 0] = IGNORE if index == ignore else index
        return mask
    if code.values:
        table = np.full(256, UNKNOWN, np.uint8)
        table[list(code.values)] = np.arange(len(code.values))
        if ignore is not None:
            table[code.values[ignore] if ignore < len(code.values) else ignore] = IGNORE
        return cv2.LUT(stored, table)
    if ignore is not None and ignore != IGNORE:
        stored[stored == ignore] = IGNORE
    return stored


def read_grey(path: Path | str, reduction: int = 1) -> np.ndarray:
    """Returns an image's brightness, uint8 HxW, with both sides divided by `reduction` (1, 2, 4 or 8) while decoding.

    For a JPEG the reduced sizes cost half of the full one, because most of its frequencies are left undecoded.

    Raises:
        UserError: the file is absent or does not decode.
    """
    grey = cv2.imread(str(path), _REDUCED_GREY[reduction] | STORED_ORIENTATION)
    if grey is None:
        raise _no_longer_good(path, "an image")
    return grey


def _no_longer_good(path: Path | str, wanted: str) -> UserError:
    state = "does not decode to" if Path(path).is_file() else "is not there; wanted"
    return UserError(f"{path} {state} {wanted}.\nThe check of all files tells more: run the stage `prepare --force`.")
