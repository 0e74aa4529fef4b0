"""The one reader of images, and what reads many at once: everything that trains, predicts or draws uses this module.

In: a path of a file that `prepare` has found good. Out: uint8 arrays, RGB. Pixels come as they are stored: an EXIF
rotation is never applied here and refused by the check, so that image and label cannot be turned apart. Measured on
CamVid, one core: cv2 1.1 ms an image, PIL 1.2 ms (480x360 JPEG).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from tqdm.contrib.concurrent import thread_map

from pipeline.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
STORED_ORIENTATION = cv2.IMREAD_IGNORE_ORIENTATION
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
        raise changed_file(path, "an 8-bit RGB image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_grey(path: Path | str, reduction: int = 1) -> np.ndarray:
    """Returns an image's brightness, uint8 HxW, with both sides divided by `reduction` (1, 2, 4 or 8) while decoding.

    For a JPEG the reduced sizes cost half of the full one, because most of its frequencies are left undecoded.

    Raises:
        UserError: the file is absent or does not decode.
    """
    grey = cv2.imread(str(path), _REDUCED_GREY[reduction] | STORED_ORIENTATION)
    if grey is None:
        raise changed_file(path, "an image")
    return grey


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
