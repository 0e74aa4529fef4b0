"""Images in files of some each: which file an image belongs to, which are still to be made, which is now complete.

A file is whole or absent and holds a fixed run of the id list, whatever order results come in; so what was killed and
resumed leaves the same files as what was not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

Value = TypeVar("Value")

IMAGES_PER_FILE = 16  # some 40 files for 648 images: Kaggle keeps 500 files; a kill loses at most 15 results


class Parts(Generic[Value]):
    """The runs of an id list, one to a file.

    Args:
        ids: every image, in the order in which `add` will be called.
        path_of: from the number of a run to its file.

    >>> parts = Parts(["a", "b"], lambda number: Path("/nowhere") / str(number))
    >>> parts.missing(), parts.add("a", 1), parts.add("b", 2)
    (['a', 'b'], None, (0, {'a': 1, 'b': 2}))
    """

    def __init__(self, ids: Sequence[str], path_of: Callable[[int], Path]) -> None:
        starts = range(0, len(ids), IMAGES_PER_FILE)
        self.runs = [list(ids[start : start + IMAGES_PER_FILE]) for start in starts]
        self.paths = [path_of(number) for number in range(len(self.runs))]
        self.number_of = {image_id: number for number, run in enumerate(self.runs) for image_id in run}
        self.pending: dict[str, Value] = {}

    def missing(self) -> list[str]:
        """Returns the ids whose file is not there yet, in order."""
        pairs = zip(self.paths, self.runs, strict=True)
        return [image_id for path, run in pairs if not path.is_file() for image_id in run]

    def add(self, image_id: str, value: Value) -> tuple[int, dict[str, Value]] | None:
        """Takes in an image's value; returns the number and the values of its run as soon as that is complete."""
        self.pending[image_id] = value
        number = self.number_of[image_id]
        run = self.runs[number]
        if any(other not in self.pending for other in run):
            return None
        return number, {other: self.pending.pop(other) for other in run}
