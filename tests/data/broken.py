"""Competition folders that are good, and every way to break one: real files, a function per kind of damage.

`IMAGE_BREAKS` and `MASK_BREAKS` damage the files of one image, so that all of them fit into one folder;
`LIST_BREAKS` damage a list and exclude each other.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.config.competition import Competition, Convention

WIDTH, HEIGHT = 40, 24
CONVENTION = Convention(
    order="row", base=0, relative=False, empty="", id_column="ImageID", value_column="EncodedPixels",
    rows="id_class", class_column=None, class_base=0,
)  # fmt: skip
COMPETITION = Competition(
    name="little", title="Little", classes=("Land", "Road", "Water", "Void"), ignore_index=3,
    colors=((0, 0, 0), (128, 0, 0), (0, 0, 128), (9, 9, 9)),
    images="imgs/imgs/{id}.jpg", masks="masks/masks/{id}.png",
    train_csv="train.csv", test_csv="test.csv", id_column="ImageID", sample_submission="sample_submission.csv",
    sequence_column=None, sequence_pattern=r"^([^_]+)_", kaggle_slug="little-competition", repository=None,
    licence="CC0", convention=CONVENTION, submitted=("Land", "Road", "Water", "Void"),
)  # fmt: skip
WITH_COLUMN = replace(COMPETITION, sequence_column="Flight", sequence_pattern=None)


def make_good(folder: Path, num_train: int = 4, num_test: int = 2) -> Path:
    """Writes a competition folder without a fault: train ids 000001_001 and on, test ids 000900_001 and on."""
    rng = np.random.default_rng(7)
    (folder / "imgs/imgs").mkdir(parents=True)
    (folder / "masks/masks").mkdir(parents=True)
    train, test = train_ids(num_train), [f"000900_{number:03d}" for number in range(1, num_test + 1)]
    for id in train + test:
        (folder / f"imgs/imgs/{id}.jpg").write_bytes(jpeg(rgb(rng)))
    for id in train:
        (folder / f"masks/masks/{id}.png").write_bytes(png(rng.integers(0, 4, (HEIGHT, WIDTH), dtype=np.uint8)))
    (folder / "train.csv").write_text("ImageID,Flight\n" + "".join(f"{id},{id[:6]}\n" for id in train))
    (folder / "test.csv").write_text("ImageID\n" + "".join(f"{id}\n" for id in test))
    sample = [f"{id}_{number},\n" for id in test for number in range(4)]
    (folder / "sample_submission.csv").write_text("ImageID,EncodedPixels\n" + "".join(sample))
    return folder


def train_ids(num_train: int) -> list[str]:
    """Returns ids of two frames a flight."""
    return [f"{1 + number // 2:06d}_{1 + number % 2:03d}" for number in range(num_train)]


def rgb(rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Returns a smooth random image, uint8 HxWx3."""
    return cv2.resize(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(image: np.ndarray, mode: str | None = None, **options) -> bytes:
    """Returns an image as JPEG bytes, converted to a PIL mode."""
    return encoded(Image.fromarray(image), "JPEG", mode, **options)


def png(pixels: np.ndarray) -> bytes:
    """Returns an array as PNG bytes, by OpenCV: uint8 or uint16, 1, 3 or 4 channels."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def encoded(image: Image.Image, format: str, mode: str | None = None, **options) -> bytes:
    """Returns a PIL image as bytes of a format."""
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, format, **options)
    return buffer.getvalue()


def raw_png(width: int, height: int, bits: int, color_type: int, num_rows: int = HEIGHT) -> bytes:
    """Returns a PNG of zeros whose header need not be true: it holds `num_rows` rows of `WIDTH` pixels."""
    samples = WIDTH * {0: 1, 2: 3}.get(color_type, 1)
    row = bytes(1 + (samples * bits + 7) // 8)
    body = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0))]
    body += [(b"IDAT", zlib.compress(row * num_rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in body)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _rotation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


IMAGE = rgb(np.random.default_rng(1))
MASK = np.random.default_rng(2).integers(0, 3, (HEIGHT, WIDTH), dtype=np.uint8)
_PIL = Image.fromarray(IMAGE)
_JPEG, _PNG, _BMP, _MASK_PNG = jpeg(IMAGE), png(IMAGE), encoded(_PIL, "BMP"), png(MASK)
_HUGE_BMP = _BMP[:18] + struct.pack("<ii", 99_999, 99_999) + _BMP[26:]
_FRAMES = {"save_all": True, "append_images": [_PIL.rotate(90), _PIL.rotate(180)]}
_ALPHA = np.dstack([IMAGE, np.full((HEIGHT, WIDTH), 200, np.uint8)])


def _flipped(data: bytes, byte: int) -> bytes:
    return data[:byte] + bytes([data[byte] ^ 0x10]) + data[byte + 1 :]


def _write(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link_to(target: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return link


def _rename(change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda path: path.rename(path.with_name(change(path.name))) and None


# (what is done, kind that must be reported, what does it to the path)
Break = tuple[str, str, Callable[[Path], None]]

IMAGE_BREAKS: tuple[Break, ...] = (
    ("removed", "image missing", Path.unlink),
    ("extension in capitals", "image under another name", _rename(lambda name: name.replace(".jpg", ".JPG"))),
    ("other extension", "image under another name", _rename(lambda name: name.replace(".jpg", ".jpeg"))),
    ("leading zeros lost", "image under another name", _rename(lambda name: name.lstrip("0"))),
    ("a folder in its place", "not a file", _replace_by_folder),
    ("a link to nowhere", "link to nowhere", _link_to("gone.jpg")),
    ("a link to itself", "link to nowhere", lambda path: _link_to(path.name)(path)),
    ("a link to a device", "not a file", _link_to("/dev/zero")),
    ("a named pipe", "not a file", lambda path: path.unlink() or os.mkfifo(path)),
    ("unreadable", "file unreadable", _link_to("/proc/self/mem")),  # a regular file that even root cannot read
    ("empty", "file empty", _write(b"")),
    ("cut JPEG", "file truncated", _write(_JPEG[:-60])),
    ("JPEG with a zeroed tail", "file truncated", _write(_JPEG[:-30] + bytes(30))),
    ("JPEG without its last two bytes", "file truncated", _write(_JPEG[:-2])),
    ("JPEG cut in its header", "file damaged", _write(_JPEG[:30])),
    ("cut PNG", "file truncated", _write(_PNG[: len(_PNG) // 2])),
    ("PNG without its end mark", "file truncated", _write(_PNG[:-12])),
    ("PNG with a flipped bit", "file damaged", _write(_flipped(_PNG, len(_PNG) // 2))),
    ("PNG of an unknown colour type", "file damaged", _write(raw_png(WIDTH, HEIGHT, 8, 5))),
    ("PNG whose pixels end early", "file damaged", _write(raw_png(WIDTH, HEIGHT, 8, 2, num_rows=3))),
    ("a web page", "not an image", _write(b"<!DOCTYPE html><html><body>404</body></html>")),
    ("a Git LFS pointer", "Git LFS pointer", _write(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")),
    ("no columns", "image of no size", _write(raw_png(0, HEIGHT, 8, 2))),
    ("PNG that claims 10^10 pixels", "image too large", _write(raw_png(100_000, 100_000, 8, 2))),
    ("BMP that claims 10^10 pixels", "image too large", _write(_HUGE_BMP)),
    ("animated PNG", "several images in a file", _write(encoded(_PIL, "PNG", **_FRAMES))),
    ("animated WebP", "several images in a file", _write(encoded(_PIL, "WEBP", **_FRAMES))),
    ("TIFF of three pages", "several images in a file", _write(encoded(_PIL, "TIFF", **_FRAMES))),
    ("JPEG turned by EXIF", "EXIF rotation", _write(encoded(_PIL, "JPEG", exif=_rotation(6)))),
    ("PNG turned by EXIF", "EXIF rotation", _write(encoded(_PIL, "PNG", exif=_rotation(3)))),
    ("RGBA PNG", "image with alpha", _write(png(_ALPHA))),
    ("grey PNG with alpha", "image with alpha", _write(encoded(_PIL, "PNG", "LA"))),
    ("RGB PNG with a transparent colour", "image with alpha", _write(encoded(_PIL, "PNG", transparency=(1, 2, 3)))),
    ("RGBA WebP", "image with alpha", _write(encoded(Image.fromarray(_ALPHA), "WEBP"))),
    ("PPM", "file format", _write(encoded(_PIL, "PPM"))),
    ("CMYK JPEG", "CMYK image", _write(jpeg(IMAGE, "CMYK"))),
    ("16-bit RGB PNG", "another number format", _write(png(IMAGE.astype(np.uint16) * 257))),
    ("16-bit grey PNG", "another number format", _write(png(IMAGE[..., 0].astype(np.uint16) * 257))),
    ("16-bit RGB TIFF", "another number format", _write(cv2.imencode(".tif", IMAGE.astype(np.uint16))[1].tobytes())),
    ("Lab TIFF", "image in another colour space", _write(encoded(Image.new("LAB", (WIDTH, HEIGHT)), "TIFF"))),
)  # fmt: skip

MASK_BREAKS: tuple[Break, ...] = (
    ("fractions", "mask with fractions", _write(cv2.imencode(".tif", np.float32(MASK) + 0.5)[1].tobytes())),
    ("removed", "mask missing", Path.unlink),
    ("extension in capitals", "mask under another name", _rename(str.upper)),
    ("a folder in its place", "not a file", _replace_by_folder),
    ("empty", "file empty", _write(b"")),
    ("cut", "file truncated", _write(_MASK_PNG[: len(_MASK_PNG) // 2])),
    ("a flipped bit", "file damaged", _write(_flipped(_MASK_PNG, len(_MASK_PNG) // 2))),
    ("text", "not an image", _write(b"0 0 0 1 1 1 2 2 2")),
    ("too small", "size mismatch", _write(png(MASK[:-4, :-4]))),
    ("turned", "size turned by 90 degrees", _write(png(np.ascontiguousarray(np.rot90(MASK))))),
    ("colours", "RGB mask", _write(_PNG)),
    ("RGBA", "RGB mask", _write(png(_ALPHA))),
    ("grey with alpha", "mask with alpha", _write(encoded(Image.fromarray(MASK), "PNG", "LA"))),
    ("a transparent value", "mask with alpha", _write(encoded(Image.fromarray(MASK), "PNG", transparency=1))),
    ("16 bits", "mask value out of range", _write(png(MASK.astype(np.uint16) * 300))),
    ("4 bits", "mask of less than 8 bits", _write(raw_png(WIDTH, HEIGHT, 4, 0))),
    ("a photograph's format", "mask in another format", _write(encoded(Image.fromarray(MASK), "PPM"))),
    ("JPEG inside", "lossy mask", _write(jpeg(MASK))),
    ("0 and 255", "mask value out of range", _write(png((MASK > 0).astype(np.uint8) * 255))),
    ("one value too high", "mask value out of range", _write(png(np.where(MASK == 2, 4, MASK).astype(np.uint8)))),
    ("turned by EXIF", "EXIF rotation", _write(encoded(Image.fromarray(MASK), "PNG", exif=_rotation(8)))),
)  # fmt: skip


def _text(change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda path: path.write_text(change(path.read_text())) and None


def _without(part: str) -> Callable[[Path], None]:
    return _text(lambda text: text.replace(part, ""))


def _line(number: int, change: Callable[[str], str]) -> Callable[[Path], None]:
    def edit(text: str) -> str:
        lines = text.splitlines()
        return "\n".join([*lines[:number], change(lines[number]), *lines[number + 1 :]]) + "\n"

    return _text(edit)


# (list, what is done, kind that must be reported, what does it to the path)
LIST_BREAKS: tuple[tuple[str, str, str, Callable[[Path], None]], ...] = (
    ("train.csv", "removed", "list missing", Path.unlink),
    ("train.csv", "unreadable", "list unreadable", _link_to("/proc/self/mem")),
    ("train.csv", "empty", "list empty", _write(b"")),
    ("train.csv", "blank lines only", "list empty", _write(b"\n \n\n")),
    ("train.csv", "header only", "list without rows", _write(b"ImageID,Flight\n")),
    ("train.csv", "semicolons", "list with another separator", _text(lambda text: text.replace(",", ";"))),
    ("train.csv", "tabs", "list with another separator", _text(lambda text: text.replace(",", "\t"))),
    ("train.csv", "UTF-16", "list not plain text", _write("ImageID,Flight\n000001_001,1\n".encode("utf-16"))),
    ("train.csv", "Latin-1", "list not plain text", _write("ImageID,Flight\nStraße_1,a\n".encode("latin-1"))),
    ("train.csv", "a spreadsheet", "list not plain text", _write(b"PK\x03\x04" + bytes(60))),
    ("train.csv", "an open quote", "list with broken quotes", _line(2, lambda line: '"' + line)),
    ("train.csv", "a row too long", "list with uneven rows", _line(2, lambda line: line + ",1,2")),
    ("train.csv", "a row too short", "list with uneven rows", _line(2, lambda line: line.split(",")[0])),
    ("train.csv", "a column twice", "list with a column twice", _line(0, lambda line: "ImageID,ImageID")),
    ("train.csv", "a column renamed", "column missing", _line(0, lambda line: "image_id,Flight")),
    ("train.csv", "an empty id", "id empty", _line(2, lambda line: ",000001")),
    ("train.csv", "a path for an id", "id not a file name", _line(2, lambda line: "../../etc/passwd,000001")),
    ("train.csv", "what separates files", "id not a file name", _line(2, lambda line: "000001|_002,000001")),
    ("train.csv", "a control character", "id not a file name", _line(2, lambda line: "000001\x07_002,000001")),
    ("train.csv", "a row twice", "id twice", _text(lambda text: text + text.splitlines()[1] + "\n")),
    ("train.csv", "an id without a sequence", "sequence not in the id", _line(2, lambda line: "000001-002,000001")),
    ("test.csv", "removed", "list missing", Path.unlink),
    ("test.csv", "a training image", "id in train and test", _text(lambda text: text + "000001_001\n")),
    ("sample_submission.csv", "removed", "csv missing", Path.unlink),
    ("sample_submission.csv", "a column renamed", "column missing", _line(0, lambda line: "ImageID,rle")),
    ("sample_submission.csv", "another image", "sample row unknown", _text(lambda text: text + "000077_001_0,\n")),
    ("sample_submission.csv", "another class", "sample row unknown", _text(lambda text: text + "000900_001_4,\n")),
    ("sample_submission.csv", "a row missing", "sample row missing", _without("000900_001_2,\n")),
    ("sample_submission.csv", "a row twice", "sample row twice", _text(lambda text: text + "000900_001_2,\n")),
)  # fmt: skip
