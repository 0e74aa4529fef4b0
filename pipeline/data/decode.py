"""Image files of any kind as arrays: ordinary images by OpenCV, arrays by NumPy, TIFF and DICOM by their own libraries.

In: the bytes of a file. Out: (H, W, C) of uint8, uint16 or float32, colours as RGB. Libraries are imported by the first
file that needs them.
"""

from __future__ import annotations

import importlib
import io
import logging
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pipeline.config.competition import ImageForm
from pipeline.data.images import BadFile
from pipeline.errors import UserError
from pipeline.optional import install_command

ARRAYS = (".npy", ".npz")
DICOM = (".dcm", ".dicom")
TIFF = (".tif", ".tiff")
GIF = (".gif",)
ORDINARY = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".jp2")
SUFFIXES = (*ORDINARY, *TIFF, *GIF, *ARRAYS, *DICOM)
# TIFF's numbers of none, LZW, JPEG, deflate (two of them) and PackBits; of others OpenCV returns black pixels.
OPENCV_COMPRESSIONS = (1, 5, 7, 8, 32773, 32946)
FORM = "image of another form"  # kind of problem: IMAGE says something else


def decode(data: bytes, suffix: str, form: ImageForm) -> np.ndarray:
    """Returns the pixels of a file, (H, W, C) of uint8, uint16 or float32; grey images have one channel.

    Raises:
        BadFile: it does not decode, or has no such frame or band.
        UserError: a library that it needs is not installed.
    """
    return plain(select(stored_pixels(data, suffix), form), form.nan)


def stored_pixels(data: bytes, suffix: str) -> np.ndarray:
    """Returns all that a file stores, of any number of axes and any number format; colours are the last axis.

    Raises:
        BadFile: it does not decode.
        UserError: a library that it needs is not installed.
    """
    suffix = suffix.lower()
    try:
        if suffix in ARRAYS:
            pixels = load_array(data)
        elif suffix in DICOM:
            pixels = _read_dicom(data)
        elif suffix in TIFF:
            pixels = _read_tiff(data)
        elif suffix in GIF:
            pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        else:
            pixels = _read_ordinary(data)
    except (UserError, BadFile):
        raise
    except Exception as error:  # of a damaged file each library raises what it likes, down to IndexError
        raise BadFile("file damaged", f"its pixels do not decode: {str(error)[:80]}") from None
    if pixels is None:
        raise BadFile("file damaged", "its pixels do not decode")
    return pixels


def load_array(data: bytes) -> np.ndarray:
    """Returns the array of an npy file, or the only one of an npz file, without axes of length 1.

    Raises:
        BadFile: there are several arrays.
        ValueError: it cannot be read.
    """
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded.squeeze()
    if len(loaded.files) != 1:
        raise BadFile(FORM, f"it has the arrays {', '.join(loaded.files)}, expected one")
    return loaded[loaded.files[0]].squeeze()


def _read_ordinary(data: bytes) -> np.ndarray | None:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is not None and pixels.ndim == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGB)
    return pixels


def _read_tiff(data: bytes) -> np.ndarray:
    """Returns the first series of a TIFF: by OpenCV, which knows the compressions, or where it fails by tifffile."""
    tifffile = library("tifffile", "TIFF files")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # of damages the caller says more
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        page, is_planar = opened.pages[0], opened.pages[0].planarconfig == 2
        is_usual = page.samplesperpixel in (1, 3) and page.bitspersample in (8, 16) and not is_planar
        is_usual = is_usual and page.compression in OPENCV_COMPRESSIONS
        pixels = _read_ordinary(data) if is_usual and len(opened.pages) == 1 else None
        if pixels is None:
            pixels = opened.asarray()
    while pixels.ndim > 3 and pixels.shape[0] == 1:  # axes of time and depth that some programs add
        pixels = pixels[0]
    return np.moveaxis(pixels, 0, -1) if is_planar and pixels.ndim == 3 else pixels


def _read_dicom(data: bytes) -> np.ndarray:
    """Returns the image of a DICOM file, with its window applied and MONOCHROME1 inverted, so that more is brighter.

    Source: DICOM PS3.3, C.7.6.3.1.2 (photometric interpretation) and C.11.2 (window).
    """
    pydicom = library("pydicom", "DICOM files")
    dataset = pydicom.dcmread(io.BytesIO(data))
    pixels = dataset.pixel_array
    pixel_functions = importlib.import_module("pydicom.pixels")
    if any(name in dataset for name in ("RescaleSlope", "ModalityLUTSequence")):
        pixels = pixel_functions.apply_modality_lut(pixels, dataset)
    if any(name in dataset for name in ("WindowWidth", "VOILUTSequence")):
        pixels = pixel_functions.apply_voi_lut(pixels, dataset)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        pixels = pixels.max() - pixels
    return pixels


def frame_axis(shape: tuple[int, ...]) -> int:
    """Returns the axis that counts the images of a file: the shortest, apart from colours behind three other axes.

    >>> frame_axis((128, 128, 8)), frame_axis((9, 48, 64, 3)), frame_axis((48, 64, 2, 3))
    (2, 0, 2)
    """
    has_colors = len(shape) == 4 and shape[3] in (3, 4)
    return int(np.argmin(shape[:3] if has_colors else shape))


def select(pixels: np.ndarray, form: ImageForm) -> np.ndarray:
    """Returns the wanted image and channels of pixels as (H, W, C); without BANDS a view.

    Raises:
        BadFile: there is no such frame or band, or no image of that many axes.
    """
    if pixels.ndim not in (2, 3, 4):
        raise BadFile(FORM, f"it has the shape {pixels.shape}, expected height, width and channels")
    if form.frame is not None and pixels.ndim > 2:
        axis = frame_axis(pixels.shape) if form.frame_axis is None else form.frame_axis
        if axis >= pixels.ndim:
            raise BadFile(FORM, f"it has the shape {pixels.shape}, no axis {axis} (IMAGE.FRAME_AXIS counts from 0)")
        if form.frame >= pixels.shape[axis]:
            raise BadFile(
                FORM, f"it has {pixels.shape[axis]} images, no number {form.frame} (IMAGE.FRAME counts from 0)"
            )
        pixels = pixels[(*(slice(None),) * axis, form.frame)]
    if pixels.ndim == 4:
        raise BadFile(FORM, f"it has the shape {pixels.shape}; IMAGE.FRAME says which image of it is meant")
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if form.bands is None:
        return pixels
    if max(form.bands) >= pixels.shape[2]:
        raise BadFile(
            FORM, f"it has {pixels.shape[2]} channels, no number {max(form.bands)} (IMAGE.BANDS counts from 0)"
        )
    return pixels[..., list(form.bands)]


def plain(pixels: np.ndarray, nan: float | None = None) -> np.ndarray:
    """Returns pixels as uint8, uint16 or float32, whatever number format they had; floats without a value as `nan`."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.newbyteorder("=") in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind not in "iuf":
        raise BadFile(FORM, f"its pixels are {pixels.dtype}, expected numbers")
    floats = np.ascontiguousarray(pixels, np.float32)
    if nan is not None and not (is_number := np.isfinite(floats)).all():
        floats = np.where(is_number, floats, np.float32(nan))
    return floats


def library(name: str, what: str) -> Any:
    """Returns a package that some files need.

    Raises:
        UserError: it is not installed; with what to type.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        how = install_command(name)
        raise UserError(f"{what} need the package {name}, which is not installed. Install it: {how}") from None
