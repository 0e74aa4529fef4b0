"""The images of a competition: read from one file or stacked from several, in the number format that they have.

In: IMAGES and IMAGE of the descriptor, and the facts that `prepare` measured. Out: arrays (H, W, C) of uint8, uint16 or
float32; for people and for comparisons 8 bits. The catalog's column `image` has the files of an image, joined.

Letters: H height, W width, C channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from pipeline.config.competition import Competition, ImageForm
from pipeline.data.decode import ARRAYS, DICOM, ORDINARY, TIFF, decode
from pipeline.data.image_files import JOIN, label_files
from pipeline.data.images import (
    BadFile,
    Inspection,
    changed_file,
    image_problems,
    inspect_file,
    read_grey,
    read_image,
)
from pipeline.data.large_image import ONE_AT_A_TIME, LargeImage, stack
from pipeline.data.problems import Problem, make_problem
from pipeline.data.regions import BY_REGION, KEPT_BYTES, Regions, stored_size
from pipeline.data.tiles import Box
from pipeline.files import sha256_file

Facts = Mapping[str, Any]
PLAIN = {"dtype": "uint8", "low": 0.0, "high": 255.0, "shown": [0, 1, 2]}  # the facts of ordinary RGB images


class ImageSource:
    """The images of a competition.

    Args:
        folder: to which the catalog's paths are relative.
        facts: what `measure` returned for the training images; None: they are 8-bit images in colour.
    """

    def __init__(self, competition: Competition, folder: Path, facts: Facts | None = None):
        self.competition, self.folder, self.facts = competition, folder, facts or PLAIN
        self.channels, self.whole_px = competition.num_channels, competition.image.whole_px
        self._is_quick = self.channels == 3 and self.dtype == np.uint8 and _is_usual(competition.image)
        self._opened: dict[str, LargeImage | None] = {}

    def __reduce__(self):
        return ImageSource, (self.competition, self.folder, self.facts)

    @property
    def dtype(self) -> np.dtype:
        """The number format of all images."""
        return np.dtype(self.facts["dtype"])

    def read(self, cell: str) -> np.ndarray:
        """Returns an image by the cell of the catalog that has its files: (H, W, C).

        Raises:
            UserError: a file is absent or not what it was when it was checked.
        """
        if self._is_plain(cell):
            return read_image(self.folder / cell)
        try:
            image = stack([self._decode(file) for file in label_files(cell)], self.channels)
        except (OSError, BadFile) as error:
            raise changed_file(self.folder / label_files(cell)[0], f"an image ({error})") from None
        if image.dtype != self.dtype:
            raise changed_file(self.folder / label_files(cell)[0], f"an image of {self.dtype}")
        return image

    def large(self, cell: str) -> LargeImage | None:
        """Returns an image that has more than WHOLE_PX pixels, to be read by region; None where it is read as a whole.

        Raises:
            BadFile: it has more, and cannot be read by region.
        """
        files = label_files(cell)
        if Path(files[0]).suffix.lower() not in BY_REGION:
            return None
        if cell not in self._opened:
            opened = self._open_large(files)
            if opened is not None:  # one at a time, as each keeps tiles decoded
                self._opened = {one: None for one, image in self._opened.items() if image is None}
            self._opened[cell] = opened
            return opened
        return self._opened[cell]

    def is_large(self, height: int, width: int) -> bool:
        """Returns whether an image of that size is read by region."""
        return int(height) * int(width) > self.whole_px

    def window(self, cell: str, box: Box) -> np.ndarray:
        """Returns a part of an image that is read by region: (box.height, box.width, C).

        Raises:
            UserError: a file is absent or not what it was when it was checked.
        """
        try:
            large = self.large(cell)
            if large is not None:
                return large.read(box)
            why = "it is small"
        except (OSError, BadFile) as error:
            why = str(error)
        raise changed_file(self.folder / label_files(cell)[0], f"an image that is read by region ({why})")

    def alone(self, cell: str) -> AbstractContextManager[Any]:
        """Returns what to enter while working on an image: of large ones only one is worked on at a time."""
        try:
            return nullcontext() if self.large(cell) is None else ONE_AT_A_TIME
        except (OSError, BadFile):
            return nullcontext()

    def shown(self, cell: str) -> np.ndarray:
        """Returns an image for people: uint8 (H, W, 3); of a large image a thumbnail."""
        large = self.large(cell)
        return to_rgb(self.read(cell) if large is None else large.thumbnail(), self.facts)

    def some_pixels(self, cell: str, count: int) -> np.ndarray:
        """Returns evenly spread pixels of an image, about `count`: (P, C)."""
        large = self.large(cell)
        return _some_pixels(self.read(cell), count) if large is None else large.some_pixels(count)

    def grey(self, cell: str, reduction: int = 1) -> np.ndarray:
        """Returns the brightness of an image: uint8 (H, W), both sides divided by `reduction` where that is cheap.

        Of a large image it is that of a thumbnail.
        """
        if self._is_plain(cell):
            return read_grey(self.folder / cell, reduction)
        return cv2.cvtColor(self.shown(cell), cv2.COLOR_RGB2GRAY)

    def inspect(self, cell: str) -> Inspection:
        """Returns what the files of an image hold; `counts` is the name of their number format."""
        try:
            large = self.large(cell)
            if large is not None:
                return _inspect_large(large)
        except OSError as error:
            return _bad(make_problem("file unreadable", label_files(cell)[0], error.strerror or str(error)))
        except BadFile as error:
            facts = {"most": f"{self.whole_px:,}", "competition": self.competition.name}
            return _bad(make_problem(error.kind, label_files(cell)[0], error.found, **facts))
        seen = [self._inspect_file(file) for file in label_files(cell)]
        problems = tuple(problem for one, _ in seen for problem in one.problems)
        first, parts = seen[0][0], [pixels for _, pixels in seen if pixels is not None]
        if problems:
            return Inspection(first.width, first.height, None, problems)
        sizes = {part.shape[:2] for part in parts}
        if len(sizes) > 1:
            found = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
            return _bad(make_problem("files of different sizes", ", ".join(label_files(cell)), found))
        try:
            is_stacked = len(parts) == 1 and parts[0].shape[2] == self.channels
            stacked = parts[0] if is_stacked else stack(parts, self.channels)
            if stacked.dtype.kind == "f" and not np.isfinite(stacked).all():
                raise BadFile("pixels without a value", f"{np.count_nonzero(~np.isfinite(stacked)):,} NaN or infinite")
            number_format = _name_of(stacked.dtype)
        except BadFile as error:
            problem = make_problem(error.kind, label_files(cell)[0], error.found, competition=self.competition.name)
            return Inspection(first.width, first.height, None, (problem,))
        return Inspection(first.width, first.height, number_format, ())

    def _inspect_file(self, file: str) -> tuple[Inspection, np.ndarray | None]:
        path, form = self.folder / file, self.competition.image
        suffix = path.suffix.lower()
        is_chosen = form.bands is not None or form.channels not in (None, 1, 3)  # what a header calls alpha is a band
        is_array = suffix in (*ARRAYS, *DICOM) or (suffix in TIFF and (is_chosen or not _is_known_to_pillow(path)))
        problems_of = partial(image_problems, has_bands=form.bands is not None)
        return inspect_file(
            path,
            file,
            problems_of,
            lambda data: decode(data, suffix, form),
            is_array,
            form.frame is not None,
            form.whole_px,
        )

    def content(self, cell: str) -> str:
        """Returns a hash of the files of an image and of how they are read."""
        files = [sha256_file(self.folder / file) for file in label_files(cell)]
        if self._is_plain(cell):
            return files[0]
        return hashlib.sha256("\n".join([repr(self.competition.image), *files]).encode()).hexdigest()

    def _is_plain(self, cell: str) -> bool:
        """Returns whether an image is one file that the quick reader reads: 8 bits, ordinary, three channels."""
        return self._is_quick and JOIN not in cell and cell.lower().endswith(ORDINARY)

    def _open_large(self, files: Sequence[str]) -> LargeImage | None:
        size = stored_size(self.folder / files[0])
        if size is None or not self.is_large(*size):
            return None
        form, kept_bytes = self.competition.image, KEPT_BYTES // len(files)
        return LargeImage([Regions(self.folder / file, form, kept_bytes) for file in files], self.channels)

    def _decode(self, file: str) -> np.ndarray:
        path = self.folder / file
        return decode(path.read_bytes(), path.suffix, self.competition.image)


def to_rgb(image: np.ndarray, facts: Facts) -> np.ndarray:
    """Returns an image (H, W, C) for people: uint8 (H, W, 3), of the channels that `facts` says are shown."""
    if image.dtype != np.uint8 or (facts["low"], facts["high"]) != (0.0, 255.0):
        low, high = facts["low"], facts["high"]
        image = np.clip((image.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    return image if facts["shown"] == [0, 1, 2] else np.ascontiguousarray(image[..., facts["shown"]])


def black_of(facts: Facts) -> float:
    """Returns the value of a black pixel, which also fills what is added around an image.

    >>> black_of(PLAIN), black_of({"dtype": "uint16", "low": 20.7}), black_of({"dtype": "float32", "low": -1.5})
    (0.0, 21.0, -1.5)
    """
    low, dtype = facts["low"], np.dtype(facts["dtype"])
    return low if dtype.kind == "f" else float(np.clip(round(low), 0, np.iinfo(dtype).max))


def _some_pixels(image: np.ndarray, count: int) -> np.ndarray:
    pixels = image.reshape(-1, image.shape[2])
    return pixels[:: max(1, len(pixels) // count)].copy()  # a view would keep the whole image


def _inspect_large(image: LargeImage) -> Inspection:
    """Returns what a large image holds; all of it is decoded, some rows at a time.

    Raises:
        BadFile: a part does not decode, or has pixels without a value.
    """
    height, width = image.size
    for _, rows in image.bands():
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            raise BadFile("pixels without a value", f"{np.count_nonzero(~np.isfinite(rows)):,} NaN or infinite")
    return Inspection(width, height, image.dtype.name, ())


def _is_known_to_pillow(path: Path) -> bool:
    """Returns whether the header of a TIFF is one that `images.read_header` parses."""
    try:
        with Image.open(path):
            return True
    except (OSError, SyntaxError, ValueError):
        return False


@lru_cache(maxsize=16)
def _name_of(dtype: np.dtype) -> str:
    return dtype.name  # which numpy puts together anew each time, for the price of a small image's header


def _is_usual(form: ImageForm) -> bool:
    return form.bands is None and form.frame is None and form.neighbours == 0


def _bad(*problems: Problem) -> Inspection:
    return Inspection(0, 0, None, problems)
