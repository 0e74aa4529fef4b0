"""Everything that opens an archive, given damaged ones: it is refused with its name, or read.

`DAMAGES=2400 ./run.sh test tests/test_archives.py tests/test_download.py`: so many of each.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.decode import decode
from pipeline.data.images import BadFile
from pipeline.data.leakage import Signatures, read_signatures, write_signatures
from pipeline.errors import UserError
from pipeline.notebook.session import unpack
from pipeline.prediction.progress import _pack, _read
from pipeline.segmentation.discovery.contents import look_at
from pipeline.submission.file import require_good
from tests.damages import damaged
from tests.segmentation.submission.scenes import make_images, make_png_competition, sizes_of, write
from tests.segmentation.submission.test_mask_files import competition_of

PNG = make_png_competition()
NPZ = competition_of("npz")
IMAGES = make_images(3, 4, PNG)
FORM = PNG.image


def repacked(path: Path, packing: int) -> None:
    """Packs a zip again in another way, as an archiver of a user's choice does."""
    with zipfile.ZipFile(path) as zipped:
        entries = {name: zipped.read(name) for name in zipped.namelist()}
    with zipfile.ZipFile(path, "w", packing) as zipped:
        for name, data in entries.items():
            zipped.writestr(name, data)


def write_masks(path: Path, packing: int = zipfile.ZIP_LZMA) -> None:
    repacked(write(path, IMAGES, PNG), packing)


def write_npz(path: Path, packing: int = zipfile.ZIP_LZMA) -> None:
    repacked(write(path, IMAGES, NPZ), packing)


def write_kept(path: Path) -> None:
    write_signatures(path, Signatures(["a", "b"], np.ones((2, 64), bool), np.zeros((2, 64), np.float32)))
    repacked(path, zipfile.ZIP_LZMA)


def write_image(path: Path) -> None:
    np.savez(path, image=np.arange(96, dtype=np.uint8).reshape(8, 12))
    repacked(path, zipfile.ZIP_LZMA)


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as pack:
        for name in ("runs/a/metrics.json", "runs/a/caf\u00e9.csv"):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 100, 1.5
            pack.addfile(info, io.BytesIO(bytes(100)))


def write_progress(path: Path) -> None:
    path.write_bytes(_pack({"a": {"logits": np.zeros(9, np.float32)}}, "key"))


def check_masks(path: Path) -> None:
    require_good(path, PNG, sizes_of(IMAGES))


def read_image(path: Path) -> None:
    try:
        decode(path.read_bytes(), path.suffix, FORM)
    except BadFile:
        return


# The file, what writes it and what reads it, or refuses it with a UserError.
ARCHIVES: tuple[tuple[str, Callable[[Path], None], Callable[[Path], object]], ...] = (
    ("masks.zip", write_masks, check_masks),
    ("bz2.zip", lambda path: write_masks(path, zipfile.ZIP_BZIP2), check_masks),
    ("arrays.npz", write_npz, lambda path: require_good(path, NPZ, sizes_of(IMAGES))),
    ("kept.npz", write_kept, read_signatures),
    ("image.npz", write_image, read_image),
    ("looked_at.npz", write_image, look_at),
    ("runs.pack", write_tar, lambda path: unpack(path, path.with_name("unpacked"))),
    ("progress", write_progress, lambda path: _read(path, "key")),
)  # fmt: skip


@pytest.mark.parametrize(("name", "make", "read"), ARCHIVES, ids=[name for name, *_ in ARCHIVES])
def test_a_damaged_archive_is_refused_with_its_name_or_read(tmp_path, name, make, read):
    make(path := tmp_path / name)
    read(path)
    whole = path.read_bytes()
    for data in damaged(whole, 150):
        path.write_bytes(data)
        try:
            read(path)
        except UserError as error:
            assert name in str(error)
