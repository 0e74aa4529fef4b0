"""The content of annotation files in one common form: boxes by image, not yet checked.

The readers in this folder return a `Table`, or an `Annotated` for a file per image; `box_checks.py` decides which boxes
are valid. Letters: N boxes of an image.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from pipeline.config.template import SUFFIX
from pipeline.data.problems import Problem, make_problem

MOST_SHOWN = 40  # characters of a value that a message repeats


class Row(NamedTuple):
    """A box as written: its class, where it is in the file, and its numbers as `edges` returns them."""

    label: str
    place: str
    numbers: Sequence[float]
    is_crowd: bool = False


class Annotated(NamedTuple):
    """The boxes of an image as they are in its annotations.

    Attributes:
        numbers: float64 (N, 4): left, top, right, bottom, right and bottom exclusive, in pixels or as shares of the
            image's sides; NaN where there are no numbers.
        labels: what the annotations call the class of each box.
        places: where each box is in its file, for messages.
        is_crowd: bool (N,).
        size: (height, width) of the image, where the annotations have it.
    """

    numbers: np.ndarray
    labels: tuple[str, ...]
    places: tuple[str, ...]
    is_crowd: np.ndarray
    size: tuple[int, int] | None


def annotated(rows: Iterable[Row], size: tuple[int, int] | None = None) -> Annotated:
    """Returns the boxes of an image from its rows.

    >>> annotated([Row("car", "line 2", (0, 0, 4, 2))]).numbers.tolist()
    [[0.0, 0.0, 4.0, 2.0]]
    """
    rows = list(rows)
    numbers_N4 = np.array([row.numbers for row in rows], np.float64).reshape(-1, 4)
    is_crowd_N = np.array([row.is_crowd for row in rows], bool)
    return Annotated(numbers_N4, tuple(row.label for row in rows), tuple(row.place for row in rows), is_crowd_N, size)


@dataclass(frozen=True)
class Table:
    """The boxes of many images in one file.

    Attributes:
        file: as messages and the catalog call it.
        images: by the image's name in the file: a path, a name or an id.
        has_every_image: whether the file names images without boxes, too; otherwise an image that is not in it has no
            boxes.
        problems: what is wrong with entries that belong to no image.
    """

    file: str
    images: dict[str, Annotated]
    has_every_image: bool
    problems: list[Problem] = field(default_factory=list)

    @cached_property
    def _by_stem(self) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
        found: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for name in self.images:
            parts = path_parts(name)
            found.setdefault(parts[-1], []).append((name, parts))
        return found

    def find(self, paths: Sequence[str], image_id: str = "") -> str | None:
        """Returns the name in the file of the image with one of these paths, or this id; None if it has no entry.

        Two paths match if the shorter one is the end of the longer one, ignoring file suffixes. An id matches an entry
        that ends with it if no other entry does.

        >>> table = Table("a.json", {"x/1.jpg": None, "2.jpg": None, "z/3.jpg": None}, True)
        >>> table.find(["imgs/x/1.png"]), table.find(["imgs/2.jpg"])
        ('x/1.jpg', '2.jpg')
        >>> table.find(["y/3.jpg"]), table.find(["y/3.jpg"], "3")
        (None, 'z/3.jpg')
        """
        for name in (*paths, image_id):
            if name in self.images:
                return name
        for path in paths:
            own = path_parts(path)
            found = [
                (len(parts), other)
                for other, parts in self._by_stem.get(own[-1], ())
                if own[-len(parts) :] == parts[-len(own) :]
            ]
            if found:
                return max(found)[1]
        own = path_parts(image_id)
        found = [other for other, parts in self._by_stem.get(own[-1], ()) if parts[-len(own) :] == own]
        return found[0] if len(found) == 1 else None


def path_parts(name: str) -> tuple[str, ...]:
    """Returns the folders of a path and its last part without a file suffix.

    >>> path_parts("./train/a.jpg"), path_parts("train\\\\a.b")
    (('train', 'a'), ('train', 'a.b'))
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts or ("",)
    return (*parts[:-1], SUFFIX.sub("", parts[-1]))


def edges(numbers: Sequence[float], order: str, first: int = 0) -> tuple[float, float, float, float]:
    """Returns left, top, right, bottom of a box, from 0, right and bottom exclusive.

    Args:
        numbers: four, in the order that BOXES.ORDER says.
        first: the number of the first pixel; with 1, right and bottom are inclusive.

    >>> edges((10, 20, 30, 40), "xywh"), edges((1, 1, 640, 480), "xyxy", 1), edges((5, 5, 4, 2), "cxcywh")
    ((10, 20, 40, 60), (0, 0, 640, 480), (3.0, 4.0, 7.0, 6.0))
    """
    a, b, c, d = numbers
    if order == "xyxy":
        return a - first, b - first, c, d
    if order == "xywh":
        return a - first, b - first, a - first + c, b - first + d
    return a - c / 2, b - d / 2, a + c / 2, b + d / 2


NO_NUMBERS = (float("nan"),) * 4


def four_numbers(value: Any) -> tuple[float, float, float, float] | None:
    """Returns the four numbers in a list of JSON values or texts; None if it has no four numbers.

    >>> four_numbers(["1", 2, 3.5, 4]), four_numbers([1, 2, 3]), four_numbers([1, 2, None, 4])
    ((1.0, 2.0, 3.5, 4.0), None, None)
    """
    if not isinstance(value, list | tuple) or len(value) != 4 or any(isinstance(one, bool) for one in value):
        return None
    try:
        a, b, c, d = map(float, value)
    except (TypeError, ValueError, OverflowError):
        return None
    return a, b, c, d


def shown_value(value: Any) -> str:
    """Returns a value of a file for a message, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def load_json(path: Path, file: str, wanted: str, key: str, competition: str) -> tuple[Any, list[Problem]]:
    """Returns the content of a JSON file, and the problems if it cannot be read.

    Args:
        wanted: what the file should be, for messages.
        key: the descriptor's key that names it.
    """
    if not os.path.isfile(path):
        facts = {"key": key, "competition": competition}
        return None, [make_problem("file of boxes missing", file, "no such file", **facts)]
    try:
        return json.loads(path.read_bytes()), []
    except OSError as error:
        found = error.strerror or str(error)
    except (ValueError, RecursionError) as error:
        found = f"not JSON: {error}"
    return None, [make_problem("annotations unreadable", file, found, wanted=wanted, competition=competition)]
