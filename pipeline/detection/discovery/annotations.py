"""What annotations of an unknown folder hold, in whichever form they are, before it becomes a descriptor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pipeline.data.discovery.draft import Certainty
from pipeline.data.discovery.lists import Listing
from pipeline.data.discovery.names import SUFFIXES, split_subset, suffix_of
from pipeline.detection.annotations.table import path_parts

OBJECT = "Object"  # a class without a name


class Remark(NamedTuple):
    """A note for a draft, and the value of its key, where it sets one."""

    certainty: Certainty
    key: str
    text: str
    value: tuple = ()


class Annotations(NamedTuple):
    """The boxes of a folder.

    Attributes:
        form: the keys of BOXES; of files per image, these are still to be named.
        text: what was found, in words.
        stems: what annotated images are called, without folders and suffix.
        classes: their names, in order.
        remarks: notes on other keys.
        files: the files per image.
        listing: the csv that has the boxes.
    """

    form: dict[str, Any]
    text: str
    stems: set[str]
    classes: list[str]
    remarks: Sequence[Remark] = ()
    files: Sequence[str] = ()
    listing: Listing | None = None


def stem_of(name: str) -> str:
    """Returns what an image is called by a path or name, without folders and suffix.

    >>> stem_of("train/a.b.jpg"), stem_of("0001")
    ('a.b', '0001')
    """
    return path_parts(name)[-1]


def stems_of_images(paths: Iterable[str]) -> set[str]:
    """Returns the stems of all files that may be images."""
    return {stem_of(path) for path in paths if suffix_of(path).lower() in SUFFIXES}


def subset_of(path: str) -> str:
    """Returns the subset that the last part of a path names, "" for none.

    >>> subset_of("annotations/instances_val2017.json"), subset_of("train/_annotations.coco.json")
    ('valid', 'train')
    """
    folders, stem = PurePosixPath(path).parts[:-1], PurePosixPath(path).stem
    return next((subset for part in (stem, *folders[::-1]) if (subset := split_subset(part)[1])), "")


def numbered(labels: Collection[str]) -> list[str]:
    """Returns labels in order: numbers by their value, others as text.

    >>> numbered({"10", "9"}), numbered({"b", "a", "1"})
    (['9', '10'], ['1', 'a', 'b'])
    """
    return sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)
