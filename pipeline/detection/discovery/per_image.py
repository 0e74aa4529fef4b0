"""Annotations of an unknown folder in a file per image: Pascal VOC's XML files, YOLO's text files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from pipeline.data.discovery.names import words_of
from pipeline.data.discovery.sizes import spread
from pipeline.detection.annotations.table import Annotated
from pipeline.detection.annotations.voc import read_voc
from pipeline.detection.annotations.yolo_text import read_yolo
from pipeline.detection.discovery.annotations import Annotations, Remark, numbered, stem_of

MOST_DIGITS = 4  # of the index of a class; a longer number at the start of a line is another, such as a time
MOST = 0.9  # share of some files that can be read, if all are annotations


def find_voc(folder: Path, paths: Sequence[str], stems: set[str]) -> Annotations | None:
    """Returns the boxes of XML files that are called as images are; None where there are none.

    Args:
        paths: of all files.
        stems: of the images.
    """
    files = [path for path in paths if path.lower().endswith(".xml") and stem_of(path) in stems]

    def read(file: str) -> Annotated | None:
        given, problems = read_voc(folder / file, file, 0, "")
        return None if problems else given

    if not _are_annotations([read(file) for file in spread(files)]):
        return None
    found = [given for file in files if (given := read(file)) is not None]
    classes = sorted({label for given in found for label in given.labels if label})
    remarks = [Remark("GUESS", "CLASSES", "the names in the files, in alphabetical order")]
    if num := sum(bool((given.numbers[:, :2] == 0).any()) for given in found):
        text = f"boxes of {num:,} images begin at pixel 0, so pixels are counted from 0, not from 1 as in Pascal VOC"
        remarks.append(Remark("GUESS", "BOXES", text))
    form = {"VOC": None} | ({"FIRST_PX": 0} if num else {})
    text = f"{len(files):,} XML files with {sum(len(given.labels) for given in found):,} boxes"
    return Annotations(form, text, {stem_of(file) for file in files}, classes, remarks, files)


def find_yolo(folder: Path, paths: Sequence[str], stems: set[str]) -> Annotations | None:
    """Returns the boxes of text files that are called as images are; None where there are none.

    Args:
        paths: of all files.
        stems: of the images.
    """
    files = [path for path in paths if path.endswith(".txt") and stem_of(path) in stems]

    def read(file: str) -> Annotated | None:
        given, problems = read_yolo(folder / file, file, "")
        are_classes = all(label.isdecimal() and len(label) <= MOST_DIGITS for label in given.labels)
        return given if are_classes and not problems and np.isfinite(given.numbers).all() else None

    if not _are_annotations([read(file) for file in spread(files)]):
        return None
    found = [given for file in files if (given := read(file)) is not None]
    numbers = numbered({label for given in found for label in given.labels})
    classes, remarks = _names(folder, paths, int(numbers[-1]) + 1)
    text = f"{len(files):,} text files with {sum(len(given.labels) for given in found):,} boxes"
    return Annotations({"YOLO": None}, text, {stem_of(file) for file in files}, classes, remarks, files)


def _are_annotations(some: Sequence[Annotated | None]) -> bool:
    """Returns whether most of some files can be read, and some have boxes."""
    read = [given for given in some if given is not None]
    return bool(some) and len(read) >= MOST * len(some) and any(len(given.labels) for given in read)


def _names(folder: Path, paths: Sequence[str], least: int) -> tuple[list[str], list[Remark]]:
    """Returns the names of YOLO's classes, from a file that has them, and notes.

    Args:
        least: how many classes there are at least.
    """
    for path in sorted((path for path in paths if _may_have_names(path)), key=lambda path: (path.count("/"), path)):
        names = _names_in(folder / path)
        if len(names) >= least and len({name.casefold() for name in names}) == len(names):
            return names, [Remark("SURE", "CLASSES", f"named in {path}")]
    names = [f"Class {index}" for index in range(least)]
    text = "no file has the names of the classes; name them, in this order"
    return names, [Remark("COULD NOT TELL", "CLASSES", text)]


def _may_have_names(path: str) -> bool:
    name = path.rpartition("/")[2].lower()
    is_list = name.endswith((".txt", ".names")) and {*words_of(name)} & {"classes", "class", "names", "labels"}
    return name.endswith((".yaml", ".yml")) or bool(is_list)


def _names_in(path: Path) -> list[str]:
    """Returns the classes that a file names: `names` of a YAML file, or the lines of another; [] where it has none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() not in (".yaml", ".yml"):
            return [line.strip() for line in text.splitlines() if line.strip()]
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and all(isinstance(index, int) and index < 10**MOST_DIGITS for index in names):
        names = [names.get(index, f"Class {index}") for index in range(max(names, default=-1) + 1)]
    return [str(name) for name in names] if isinstance(names, list) else []
