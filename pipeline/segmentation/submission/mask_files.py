"""The files of masks in a zip: 8-bit PNGs, 8-bit TIFFs, or arrays of NumPy.

In: stored values, uint8 (H, W) grey or (H, W, 3) BGR, or the bytes of a file. Out: its bytes, or stored values. An npz
is a zip, too: an npy file per array, named as the array.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from pipeline.config.mask_code import MaskCode
from pipeline.data.decode import load_array
from pipeline.data.images import BadFile, read_header
from pipeline.errors import UserError
from pipeline.files import DAMAGED_ARCHIVE
from pipeline.segmentation.labels import decode_stored

COMPRESSION = [cv2.IMWRITE_PNG_COMPRESSION, 6]  # of a CamVid mask: 5.7 KB in 1.8 ms; 1 is 7.6 KB in 0.6, 9 is 5.0 in 13
# Of the lossless ones, the one that tifffile reads without further packages, as do GDAL, Pillow and OpenCV.
DEFLATE = [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_ADOBE_DEFLATE]
_MAX_OVERHEAD = 2**20  # bytes of a file beyond its pixels; a zip that announces more is not unpacked


class MaskFileError(UserError):
    """A file in a zip that is not a mask of its image; the message says why."""


@dataclass(frozen=True)
class MaskFile:
    """A kind of mask file.

    Attributes:
        suffix: of a file in the zip.
        name: for messages.
        what: the submission, for messages.
        packing: how the zip packs its files.
        pixel_bytes: most bytes of an unpacked pixel.
        encode: stored values to bytes.
        read: (bytes, code, size (height, width)) to stored values; refuses other files.
    """

    suffix: str
    name: str
    what: str
    packing: int
    pixel_bytes: int
    encode: Callable[[np.ndarray], bytes]
    read: Callable[[bytes, MaskCode, tuple[int, int]], np.ndarray]

    def check_size(self, num_bytes: int, size: tuple[int, int]) -> None:
        """Refuses a file larger than a mask of that size can be.

        Raises:
            MaskFileError: with both sizes.
        """
        height, width = size
        if num_bytes > self.pixel_bytes * height * (width + 1) + _MAX_OVERHEAD:
            raise MaskFileError(f"{num_bytes:,} bytes, more than a {self.name} of {width}x{height} pixels takes")


def _image(name: str, suffix: str, options: list[int]) -> MaskFile:
    """Returns the kind of an image format that OpenCV writes."""

    def encode(stored: np.ndarray) -> bytes:
        return cv2.imencode(suffix, stored, options)[1].tobytes()

    def read(data: bytes, code: MaskCode, size: tuple[int, int]) -> np.ndarray:
        try:
            header = read_header(data)
        except BadFile as error:
            raise MaskFileError(f"{error.kind}: {error.found}") from error
        expected = f"8-bit RGB {name}" if code.colors else f"8-bit greyscale {name}"
        is_wrong = header.format != name or header.bits != 8 or header.num_frames > 1
        if is_wrong or (not code.colors and header.color != "greyscale"):
            raise MaskFileError(f"{header.bits}-bit {header.color} {header.format}; expected an {expected}")
        _require_size((header.height, header.width), size)
        stored = decode_stored(data, suffix, code)
        if stored is None:
            raise MaskFileError(f"its pixels cannot be decoded; expected an {expected}")
        return stored

    return MaskFile(suffix, name, f"{name} masks in a zip", zipfile.ZIP_STORED, 4, encode, read)


def _encode_array(stored: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, stored[..., ::-1] if stored.ndim == 3 else stored, allow_pickle=False)  # colours as RGB
    return buffer.getvalue()


def _read_array(data: bytes, code: MaskCode, size: tuple[int, int]) -> np.ndarray:
    try:
        array: Any = load_array(data)
    except (*DAMAGED_ARCHIVE, OSError) as error:
        raise MaskFileError(f"not a NumPy array: {error}") from error
    num_axes, expected = (3, "(height, width, 3) of RGB") if code.colors else (2, "(height, width)")
    array = array.reshape(size) if array.size == np.prod(size) and num_axes == 2 else array  # a side of 1 is squeezed
    if array.ndim != num_axes or array.dtype.kind not in "uib":
        raise MaskFileError(f"an array {array.shape} of {array.dtype}; expected integers {expected}")
    _require_size(array.shape[:2], size)
    if code.colors:
        return np.ascontiguousarray(array[..., ::-1])
    return array.view(np.uint8) if array.dtype == bool else array


def _require_size(found: tuple[int, int], size: tuple[int, int]) -> None:
    if tuple(found) != tuple(size):
        raise MaskFileError(f"{found[1]}x{found[0]} pixels, its image {size[1]}x{size[0]}")


# By SUBMISSION.FORMAT.
KINDS = {
    "png_masks": _image("PNG", ".png", COMPRESSION),
    "tiff_masks": _image("TIFF", ".tif", DEFLATE),
    "npz": MaskFile(".npy", "array", "an npz of arrays", zipfile.ZIP_DEFLATED, 8, _encode_array, _read_array),
}
