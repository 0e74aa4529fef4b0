"""The one reader of pictures and masks: everything that trains, predicts or draws reads files through this module.

In: a path of a file that `catalog.build_catalog` has found good. Out: uint8 arrays, pictures RGB, masks class indices.
Pixels come as they are stored: an EXIF rotation is never applied here and refused by the check, so picture and mask
cannot be turned apart. Measured on CamVid, one core: cv2 1.1 ms a picture, PIL 1.2 ms (480x360 JPEG).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.config.competition import IGNORE
from pipeline.errors import UserError

STORED_ORIENTATION = cv2.IMREAD_IGNORE_ORIENTATION
_REDUCED_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


def read_picture(path: Path | str) -> np.ndarray:
    """Returns a picture, uint8 HxWx3, RGB.

    Raises:
        UserError: the file is absent or does not decode.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR | STORED_ORIENTATION)
    if picture is None:
        raise _no_longer_good(path, "an 8-bit RGB picture")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def read_mask(path: Path | str, ignore_index: int | None = None) -> np.ndarray:
    """Returns a mask, uint8 HxW: class indices, and `IGNORE` where the file has `ignore_index`.

    Raises:
        UserError: the file is absent, does not decode, or is not a single channel of 8 bits.
    """
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | STORED_ORIENTATION)
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        raise _no_longer_good(path, "an 8-bit single-channel PNG")
    if ignore_index is not None and ignore_index != IGNORE:
        mask[mask == ignore_index] = IGNORE
    return mask


def read_grey(path: Path | str, reduction: int = 1) -> np.ndarray:
    """Returns a picture's brightness, uint8 HxW, with both sides divided by `reduction` (1, 2, 4 or 8) while decoding.

    For a JPEG the reduced sizes cost half of the full one, because most of its frequencies are left undecoded.

    Raises:
        UserError: the file is absent or does not decode.
    """
    grey = cv2.imread(str(path), _REDUCED_GREY[reduction] | STORED_ORIENTATION)
    if grey is None:
        raise _no_longer_good(path, "a picture")
    return grey


def _no_longer_good(path: Path | str, wanted: str) -> UserError:
    state = "does not decode to" if Path(path).is_file() else "is not there; wanted"
    return UserError(f"{path} {state} {wanted}.\nThe check of all files tells more: run the stage `prepare --force`.")
