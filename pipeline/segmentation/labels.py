"""Masks: read from files as class indices, counted, and described in the catalog.

In: PNG, GIF, TIFF, BMP, WebP, npy or npz files that store grey values of 1 to 16 bits, palettes or colours. Out: uint8
arrays (height, width) of class indices, `IGNORE` where a pixel is ignored.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from pipeline.config.competition import IGNORE, Competition
from pipeline.config.mask_code import MaskCode, submission_code
from pipeline.data.decode import ARRAYS, load_array
from pipeline.data.images import STORED_ORIENTATION, Inspection, changed_file
from pipeline.errors import UserError
from pipeline.segmentation.planes import is_present

UNKNOWN = 254  # in a decoded mask: of no class; there are 254 at most, so that their indices end below it
ONE_CLASS = MaskCode({0: 0}, others=1)  # of a file that is of one class: its pixels have any value but 0
INDICES = MaskCode({value: value for value in (*range(UNKNOWN), IGNORE)})
_EXACT_FLOAT = 2**24  # cv2.calcHist counts into float32, which is exact up to here
_PNG, _GIF, _TIFF = b"\x89PNG", b"GIF8", (b"II*\0", b"MM\0*")
_PALETTE = 3  # colour type of a PNG, in byte 25


def read_mask(path: Path | str, code: MaskCode = INDICES) -> np.ndarray:
    """Returns a mask, uint8 HxW: class indices, and `IGNORE` for ignored pixels.

    Raises:
        UserError: the file is absent, does not decode, is not of the kind that `code` reads, or has unknown values.
    """
    return read_stored_mask(path, code)[1]


def read_stored_mask(path: Path | str, code: MaskCode) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels of a mask file as `decode_stored` does, and its class indices as `read_mask` does."""
    path = Path(path)
    try:
        stored = decode_stored(path.read_bytes(), path.suffix, code) if path.is_file() else None
    except (OSError, ValueError, cv2.error):
        stored = None
    if stored is None:
        raise changed_file(path, "a mask in colours" if code.colors else "a mask of one value per pixel")
    mask = class_indices(stored, code)
    if has_unknown(mask):
        raise changed_file(path, "the colours of COLORS alone" if code.colors else "values of the classes alone")
    return stored, mask


def decode_stored(data: bytes, suffix: str, code: MaskCode) -> np.ndarray | None:
    """Returns the pixels of a mask file: HxW of integers, or uint8 HxWx3 BGR for colours; None: they are not such.

    Of a palette the numbers are returned, not the colours, unless `code` reads colours.

    Raises:
        ValueError: an array that numpy cannot read.
    """
    stored = _decoded(data, suffix, code)
    if stored is None or stored.ndim != (3 if code.colors else 2):
        return None
    if stored.dtype.kind == "f" and fraction_in(stored) is None:
        return stored.astype(np.int64)
    if stored.dtype == bool:
        return stored.view(np.uint8)
    return stored if stored.dtype.kind in "ui" else None


def fraction_of(data: bytes, suffix: str, code: MaskCode) -> str | None:
    """Returns the number format of a mask file and a value of it that is no whole number; None: it has none."""
    stored = _decoded(data, suffix, code)
    found = None if stored is None else fraction_in(stored)
    return None if found is None else f"{stored.dtype} with the value {found:g}"


def fraction_in(stored: np.ndarray) -> float | None:
    """Returns a value that is no whole number, None where all are.

    >>> fraction_in(np.array([1.0, 0.25])), fraction_in(np.array([1.0, 2.0]))
    (0.25, None)
    """
    has_fraction = stored != np.rint(stored) if stored.dtype.kind == "f" else np.zeros(1, bool)
    return float(stored[has_fraction].flat[0]) if has_fraction.any() else None


def _decoded(data: bytes, suffix: str, code: MaskCode) -> np.ndarray | None:
    if suffix.lower() in ARRAYS:
        return load_array(data)
    if data.startswith(_GIF) or (has_palette(data) and not code.colors):
        return _read_with_pil(data, bool(code.colors))
    flags = cv2.IMREAD_COLOR if code.colors else cv2.IMREAD_UNCHANGED
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags | STORED_ORIENTATION)


def class_indices(stored: np.ndarray, code: MaskCode) -> np.ndarray:
    """Returns class indices, uint8 HxW, of the pixels of a mask file, as `decode_stored` returns them.

    `IGNORE` marks ignored pixels, `UNKNOWN` values and colours that mean nothing.

    >>> class_indices(np.array([[0, 65535, 7]], np.uint16), MaskCode({0: 0, 65535: 1})).tolist()
    [[0, 1, 254]]
    """
    if code.colors:
        mask = np.full(stored.shape[:2], UNKNOWN, np.uint8)
        for index, (red, green, blue) in enumerate(code.colors):
            color = (blue, green, red)
            mask[cv2.inRange(stored, color, color) > 0] = IGNORE if index == code.ignored_color else index
        return mask
    others = UNKNOWN if code.others is None else code.others
    if stored.dtype == np.uint8:
        table = np.full(256, others, np.uint8)
        for value, index in code.values.items():
            if 0 <= value < 256:
                table[value] = index
        return cv2.LUT(stored, table)
    mask = np.full(stored.shape, others, np.uint8)
    for value, index in code.values.items():
        mask[stored == value] = index
    return mask


def has_unknown(mask: np.ndarray) -> bool:
    """Returns whether a mask (uint8) has an `UNKNOWN` pixel: by a search for the byte, which reads the mask once."""
    return mask.tobytes().find(UNKNOWN) >= 0


def unknown_values(stored: np.ndarray, code: MaskCode) -> tuple[list[int], int]:
    """Returns the grey values of a mask that mean nothing, sorted, and how many pixels have one."""
    strange, pixels = np.unique(stored[class_indices(stored, code) == UNKNOWN], return_counts=True)
    return strange.tolist(), int(pixels.sum())


def keep_classes(mask_HW: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Returns a mask (uint8, H, W) with pixels of other classes `IGNORE`.

    >>> keep_classes(np.array([[0, 1, 7]], np.uint8), [1]).tolist()
    [[255, 1, 255]]
    """
    kept = np.full(256, IGNORE, np.uint8)
    kept[list(classes)] = classes
    return cv2.LUT(mask_HW, kept)  # ten times as fast as indexing


def empty_mask(competition: Competition, size: tuple[int, int]) -> np.ndarray:
    """Returns what is submitted of an image that was not predicted, uint8 (height, width), planes or an object map.

    No pixel is of a class where the form of the submission allows that, which run lengths do; otherwise all are of the
    first class.
    """
    if competition.is_multilabel:
        return np.zeros((*size, competition.num_classes), np.uint8)
    if competition.has_objects:
        return np.zeros(size, np.int32)  # an object map without objects
    code = submission_code(competition)
    has_ignored = IGNORE in code.values.values() or code.ignored_color is not None
    is_blank = has_ignored or competition.submission.format == "run_lengths"
    return np.full(size, IGNORE if is_blank else 0, np.uint8)


def digest_classes(mask_HW: np.ndarray, classes: Sequence[int]) -> bytes:
    """Returns a hash of where a mask (uint8, H, W, or planes) has which of some classes."""
    if mask_HW.ndim == 3:
        return hashlib.sha256(is_present(mask_HW[..., list(classes)]).tobytes()).digest()
    return hashlib.sha256(keep_classes(mask_HW, classes)).digest()


def require_size(image_id: str, mask_HW: np.ndarray, size: tuple[int, int]) -> None:
    """Refuses a mask that is not of its image's (height, width).

    Raises:
        UserError: with both sizes.
    """
    if mask_HW.shape[:2] != tuple(size):
        raise UserError(f"the mask of {image_id} is {mask_HW.shape[:2]} (height, width); its image is {tuple(size)}")


def pixel_columns(competition: Competition) -> list[str]:
    """Returns the catalog's columns of a mask: the pixels of each class, and the ignored ones."""
    return [*(f"pixels_{index}" for index in range(competition.num_classes)), "pixels_ignored"]


def pixel_counts(competition: Competition, inspection: Inspection) -> list[int]:
    """Returns the values of `pixel_columns`."""
    counts = np.zeros(256, np.int64) if inspection.counts is None else inspection.counts
    return [*(int(counts[index]) for index in range(competition.num_classes)), int(counts[IGNORE])]


def class_presence(catalog: pd.DataFrame) -> np.ndarray:
    """Returns which classes each image shows: bool, images x classes."""
    return (catalog.filter(regex=r"^pixels_\d+$") > 0).to_numpy()


def class_table(catalog: pd.DataFrame, split: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    """Returns a row per scored class, in index order.

    Columns: index, name, red, green, blue; over all masks the images with a pixel of the class, its pixels, and their
    share of the pixels that are not ignored (0..1); train_images and valid_images: those images on each side of the
    split.
    """
    names = competition.class_names
    pixels = catalog[pixel_columns(competition)[:-1]].set_axis(names, axis="columns")
    present = pixels > 0
    num_pixels = pixels.sum()
    num_known = int((catalog["width"] * catalog["height"] - catalog["pixels_ignored"]).sum())
    table = pd.DataFrame({"index": range(len(names)), "name": names})
    table[["red", "green", "blue"]] = [list(color) for color in competition.colors[: len(names)]]
    table["images"] = present.sum().to_numpy()
    table["pixels"] = num_pixels.to_numpy()
    table["pixel_share"] = (num_pixels / max(1, num_known)).to_numpy()
    for side in ("train", "valid"):
        ids = split["id"][split["subset"] == side]
        table[f"{side}_images"] = present[catalog["id"].isin(ids).to_numpy()].sum().to_numpy()
    return table


def float32_bytes(competition: Competition, sizes: Iterable[tuple[int, int]]) -> int:
    """Returns what the probabilities of images of these sizes (height, width) take as float32."""
    return 4 * competition.num_classes * sum(height * width for height, width in sizes)


def mask_notices(competition: Competition, catalog: pd.DataFrame) -> list[str]:
    """Returns what is unusual but no mistake: classes without a pixel, masks of ignored pixels only."""
    pixels, notices = catalog[pixel_columns(competition)[:-1]], []
    unseen = [name for name, count in zip(competition.class_names, pixels.sum(), strict=True) if count == 0]
    if unseen:
        notices.append(f"no mask contains {', '.join(unseen)}: the network cannot learn it")
    blank = catalog["id"][catalog["pixels_ignored"] == catalog["width"] * catalog["height"]]
    if len(blank):
        notices.append(f"{len(blank):,} masks hold only ignored pixels (first: {blank.iloc[0]})")
    return notices


def count_values(mask: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    """Returns the number of pixels of each value, int64 [256], of a uint8 HxW mask, or where `inside` is not 0.

    Twice as fast as np.bincount, and the interpreter is free meanwhile (0.12 against 0.28 ms on 480x360).

    >>> count_values(np.array([[0, 1], [1, 255]], np.uint8))[[0, 1, 255]].tolist()
    [1, 2, 1]
    """
    rows = max(1, _EXACT_FLOAT // mask.shape[1])
    bands = (slice(top, top + rows) for top in range(0, mask.shape[0], rows))
    counts = (
        cv2.calcHist([mask[band]], [0], None if inside is None else inside[band], [256], [0, 256]) for band in bands
    )
    return sum(count.ravel().astype(np.int64) for count in counts)


def has_palette(data: bytes) -> bool:
    """Returns whether an image file stores numbers of a palette, which decoders would show as colours."""
    if data.startswith(_PNG):
        return len(data) > 25 and data[25] == _PALETTE
    return data.startswith(_TIFF) and _pil_mode(data) == "P"


def _pil_mode(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as opened:
        return opened.mode


def _read_with_pil(data: bytes, colors: bool) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as opened:
        return cv2.cvtColor(np.array(opened.convert("RGB")), cv2.COLOR_RGB2BGR) if colors else np.array(opened)
