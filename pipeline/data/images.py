"""Image files: the one reader of images, and the strict check of a file, read once, its header parsed, decoded whole.

In: paths. Out: uint8 arrays, RGB; of a check the size, and everything that is wrong. Everything that trains, predicts
or draws reads here what `prepare` has found good; what a label file holds is checked by the task, see
`Task.inspect_label`. Pixels come as they are stored: an EXIF rotation is never applied here and refused by the check,
so that image and label cannot be turned apart. Measured on CamVid, one core: cv2 1.1 ms an image, PIL 1.2 ms (480x360
JPEG).

The header is parsed here because decoders are lenient: OpenCV 4 fills the rest of a truncated JPEG with grey, PIL's
`verify` passes it, both stretch 1-bit values to 0 and 255, and afterwards neither distinguishes a palette from a colour
mask. Of 200 files each that were cut, had a zeroed tail, or (PNG) a flipped bit, all were refused; a flipped bit in a
JPEG's pixels cannot be found without a checksum.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from PIL import Image
from tqdm.contrib.concurrent import thread_map

from pipeline.data.problems import Problem, make_problem
from pipeline.errors import UserError

# Otherwise it prints a line for each tag of a GeoTIFF that it does not know, at every reading of the file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

Item = TypeVar("Item")
Result = TypeVar("Result")
STORED_ORIENTATION = cv2.IMREAD_IGNORE_ORIENTATION
_REDUCED_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
READ_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "JPEG2000")
MAX_PX = 2**26  # 8192 x 8192: of a file that is looked into before there is a competition
MOST_DECODED_PX = 2**30  # OpenCV's own limit; of images, WHOLE_PX of IMAGE is a lower one
Image.MAX_IMAGE_PIXELS = None  # `inspect_file` compares the header with a limit of its own before anything is decoded
_ORIENTATION_TAG = 0x0112
_BITS_PER_SAMPLE_TAG = 258
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_COLORS = {0: "greyscale", 2: "RGB", 3: "palette", 4: "greyscale with alpha", 6: "RGB with alpha"}
_PIL_MODES = {
    "1": (1, "greyscale"), "L": (8, "greyscale"), "I;16": (16, "greyscale"), "I;16B": (16, "greyscale"),
    "I": (32, "greyscale"), "F": (32, "greyscale"), "P": (8, "palette"), "LA": (8, "greyscale with alpha"),
    "PA": (8, "palette with alpha"), "RGB": (8, "RGB"), "RGBA": (8, "RGB with alpha"), "CMYK": (8, "CMYK"),
}  # fmt: skip


def read_image(path: Path | str) -> np.ndarray:
    """Returns an image, uint8 HxWx3, RGB.

    Raises:
        UserError: the file is absent or does not decode.
    """
    is_file = os.path.isfile(path)  # opening a pipe would block forever
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | STORED_ORIENTATION) if is_file else None
    if image is None:
        raise changed_file(path, "an 8-bit RGB image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_grey(path: Path | str, reduction: int = 1) -> np.ndarray:
    """Returns an image's brightness, uint8 HxW, with both sides divided by `reduction` (1, 2, 4 or 8) while decoding.

    For a JPEG the reduced sizes cost half of the full one, because most of its frequencies are left undecoded.

    Raises:
        UserError: the file is absent or does not decode.
    """
    grey = cv2.imread(str(path), _REDUCED_GREY[reduction] | STORED_ORIENTATION) if os.path.isfile(path) else None
    if grey is None:
        raise changed_file(path, "an image")
    return grey


def by_fours(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Returns what `change` makes of an image (H, W, C), given at most four channels at once, as OpenCV wants it."""
    fours = (image[..., first : first + 4] for first in range(0, image.shape[2], 4))
    changed = [change(np.ascontiguousarray(four)) for four in fours]
    parts = [part.reshape(*part.shape[:2], -1) for part in changed]  # OpenCV drops the axis of a single channel
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def changed_file(path: Path | str, expected: str) -> UserError:
    """Returns the refusal of a file that was good when it was checked and is not any more."""
    state = "does not decode to" if Path(path).is_file() else "does not exist; expected"
    return UserError(f"{path} {state} {expected}.\nTo check all files, run the stage `prepare --force`.")


def num_cores() -> int:
    """Returns the number of cores that this process may use, which a container or `taskset` may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_files(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> list[Result]:
    """Returns `function` of every item, in order, from all cores; the bar is shown on a terminal only.

    Threads, not processes: decoding leaves the interpreter free (two cores: 1.7 times one), nothing is pickled, and
    Ctrl-C ends at once.

    >>> map_files(len, ["a", "bc"], "count")
    [1, 2]
    """
    bar = {"desc": description, "unit": "file", "leave": False, "disable": None}
    return thread_map(function, items, max_workers=num_cores(), **bar)


class BadFile(Exception):
    """A file that is no whole image; `kind` is one of `problems.KINDS`."""

    def __init__(self, kind: str, found: str) -> None:
        super().__init__(found)
        self.kind, self.found = kind, found


@dataclass(frozen=True)
class Header:
    """Format as PIL names it, size, bits per channel, colour in words, number of frames, EXIF orientation (1: none)."""

    format: str
    width: int
    height: int
    bits: int
    color: str
    num_frames: int = 1
    orientation: int = 1


def read_header(data: bytes) -> Header:
    """Returns the header of an image file.

    Raises:
        BadFile: empty, truncated, damaged, or not an image.
    """
    if not data:
        raise BadFile("file empty", "0 bytes")
    if data.startswith(b"version https://git-lfs"):
        raise BadFile("Git LFS pointer", f"{len(data)} bytes of text, a pointer")
    return _read_png(data) if data.startswith(_PNG_SIGNATURE) else _read_with_pil(data)


def _read_png(data: bytes) -> Header:
    chunks = _png_chunks(data)
    if b"IHDR" not in chunks or len(chunks[b"IHDR"]) != 13:
        raise BadFile("file damaged", "PNG without a header")
    width, height, bits, color_type = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    color = _PNG_COLORS.get(color_type)
    if color is None:
        raise BadFile("file damaged", f"PNG with unknown colour type {color_type}")
    if b"tRNS" in chunks and "alpha" not in color:
        color += " with alpha"
    num_frames = struct.unpack(">I", chunks[b"acTL"][:4])[0] if len(chunks.get(b"acTL", b"")) >= 4 else 1
    return Header("PNG", width, height, bits, color, num_frames, _exif_orientation(chunks.get(b"eXIf")))


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """Returns the first chunk of each name, without those of pixels, after comparing every checksum."""
    chunks: dict[bytes, bytes] = {}
    start = len(_PNG_SIGNATURE)
    while True:
        size, name = struct.unpack(">I4s", data[start : start + 8].ljust(8, b"\0"))
        end = start + 12 + size
        if end > len(data):
            raise BadFile("file truncated", f"PNG, ends after {len(data):,} bytes without its end mark")
        body = memoryview(data)[start + 4 : end - 4]
        if zlib.crc32(body) != struct.unpack(">I", data[end - 4 : end])[0]:
            raise BadFile("file damaged", f"PNG, wrong checksum at byte {start:,}")
        if name == b"IEND":
            return chunks
        if name != b"IDAT":
            chunks.setdefault(name, bytes(body[4:]))
        start = end


def _exif_orientation(exif: bytes | None) -> int:
    if not exif:
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif if exif.startswith(b"Exif") else b"Exif\0\0" + exif)
        return int(tags.get(_ORIENTATION_TAG, 1)) or 1
    except (OSError, SyntaxError, ValueError, TypeError, struct.error):
        return 1  # EXIF that nobody can parse turns no image


def _read_with_pil(data: bytes) -> Header:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            bits, color = _PIL_MODES.get(opened.mode, (8, opened.mode))
            if opened.format == "TIFF":  # PIL reduces 16-bit RGB to 8 bits and calls it RGB
                bits = max(opened.tag_v2.get(_BITS_PER_SAMPLE_TAG, (bits,)))
            num_frames = getattr(opened, "n_frames", 1)
            orientation = int(opened.getexif().get(_ORIENTATION_TAG, 1)) or 1
            header = Header(opened.format or "", *opened.size, bits, color, num_frames, orientation)
    except Image.UnidentifiedImageError:
        raise BadFile("not an image", f"{len(data):,} bytes beginning with {data[:12]!r}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadFile("image too large", str(error).split(",")[0]) from None
    except (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error) as error:
        raise BadFile("file damaged", f"its header does not parse: {error}") from None
    if header.format in ("JPEG", "MPO") and data.rfind(b"\xff\xd9") < _first_scan(data):
        raise BadFile("file truncated", f"JPEG, ends after {len(data):,} bytes without its end mark")
    return header


def _first_scan(data: bytes) -> int:
    """Returns where a JPEG's pixels begin, or its length if they never do.

    The end mark counts behind that only, since a thumbnail in the header has one too. Pixels cannot contain one.
    """
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        if data[start + 1] == 0xDA:
            return start
        filling = data[start + 1] == 0xFF  # a marker may be preceded by any number of these
        start += 1 if filling else 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return len(data)


@dataclass(frozen=True)
class Inspection:
    """What a file holds: size (0: unknown), its problems, and `counts`, whatever the task counts in a good label."""

    width: int
    height: int
    counts: Any
    problems: tuple[Problem, ...]


def inspect_file(
    path: Path,
    file: str,
    problems_of: Callable[[Header, str], list[Problem]],
    decode: Callable[[bytes], np.ndarray | None],
    is_array: bool = False,
    has_frames: bool = False,
    most_px: int = MOST_DECODED_PX,
) -> tuple[Inspection, np.ndarray | None]:
    """Returns what a file holds, and its decoded pixels where nothing is wrong so far.

    Args:
        problems_of: (header, file) to what is wrong with an image of that kind.
        is_array: whether it is an array or a medical image, which has no header that is known here.
        has_frames: whether several images in it are expected.
        most_px: pixels of the largest image that is accepted.
    """
    try:
        data = path.read_bytes()
        header = Header("NumPy array", 0, 0, 0, "") if is_array else read_header(data)
        size = f"{header.width}x{header.height}"
        if not is_array and (header.width == 0 or header.height == 0):
            raise BadFile("image of no size", size)
        if header.width * header.height > most_px:
            raise BadFile("image too large", size)
    except OSError as error:
        return _bad(make_problem("file unreadable", file, error.strerror or str(error)))
    except BadFile as error:
        return _bad(make_problem(error.kind, file, error.found, most=f"{most_px:,}"))
    problems = [] if is_array else _common_problems(header, file, has_frames) + problems_of(header, file)
    if problems:
        return _bad(*problems, width=header.width, height=header.height)
    try:
        pixels = decode(data)
    except BadFile as error:
        return _bad(make_problem(error.kind, file, error.found))
    except (cv2.error, OSError, SyntaxError, ValueError, EOFError):
        pixels = None
    if pixels is not None and pixels.shape[0] * pixels.shape[1] > most_px:  # an array, which has no header
        return _bad(make_problem("image too large", file, f"{pixels.shape[1]}x{pixels.shape[0]}", most=f"{most_px:,}"))
    if pixels is None or (not is_array and pixels.shape[:2] != (header.height, header.width)):
        return _bad(make_problem("file damaged", file, f"{header.format}, its pixels do not decode"))
    return Inspection(pixels.shape[1], pixels.shape[0], None, ()), pixels


def _bad(*problems: Problem, width: int = 0, height: int = 0) -> tuple[Inspection, None]:
    return Inspection(width, height, None, problems), None


def _common_problems(header: Header, file: str, has_frames: bool) -> list[Problem]:
    checks = (
        (
            header.num_frames > 1 and not has_frames,
            "several images in a file",
            f"{header.format}, {header.num_frames} frames",
        ),
        (header.orientation != 1, "EXIF rotation", f"orientation {header.orientation}"),
    )
    return [make_problem(kind, file, text) for is_wrong, kind, text in checks if is_wrong]


def image_problems(header: Header, file: str, has_bands: bool = False) -> list[Problem]:
    """Returns why the header of a file is not one of an image that networks are trained on.

    Args:
        has_bands: whether IMAGE.BANDS names the channels that are used, which leaves alpha out.
    """
    found, plain = f"{header.bits}-bit {header.color}", header.color.removesuffix(" with alpha")
    checks = (
        (header.num_frames == 1 and header.format not in READ_FORMATS, "file format", header.format),
        ("alpha" in header.color and not has_bands, "image with alpha", found),
        (header.color == "CMYK", "CMYK image", found),
        (plain not in ("RGB", "greyscale", "palette"), "image in another colour space", header.color),
    )
    return [make_problem(kind, file, text) for is_wrong, kind, text in checks if is_wrong][:1]


def compare_sizes(image: Inspection, label: Inspection, file: str) -> list[Problem]:
    """Returns the problem of a label (called `file`) whose size is not its image's; unknown sizes pass."""
    size, label_size = (image.width, image.height), (label.width, label.height)
    if size == label_size or 0 in size + label_size:
        return []
    kind = "size turned by 90 degrees" if size == label_size[::-1] else "size mismatch"
    return [make_problem(kind, file, f"{label.width}x{label.height}, its image {image.width}x{image.height}")]
