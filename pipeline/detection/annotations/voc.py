"""Boxes in XML files in Pascal VOC's format, one per image: `object` with `name` and `bndbox`.

Pascal VOC counts pixels from 1, and its right and bottom pixels are inclusive: xmin 1 and xmax 640 span a width of 640.
Objects marked `difficult` are kept as crowds: detecting them is no error, and they are not trained on.

Source: development kit of the PASCAL Visual Object Classes Challenge 2012.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from pipeline.data.problems import Problem, make_problem
from pipeline.detection.annotations.table import NO_NUMBERS, Annotated, Row, annotated, edges, four_numbers

WANTED = "an XML file in Pascal VOC's format: `annotation` with `object`s that have `name` and `bndbox`"
SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path, file: str, first: int, competition: str) -> tuple[Annotated, list[Problem]]:
    """Returns the boxes of an XML file, and the problems if it cannot be read.

    Args:
        file: how messages call it.
        first: the number of the first pixel; with 1, right and bottom are inclusive.
        competition: its name.
    """
    try:
        data = path.read_bytes()
        if b"<!ENTITY" in data:  # never needed here, and a few of them can fill the memory
            raise ElementTree.ParseError("it defines entities, which are not supported")
        root = ElementTree.fromstring(data)
    except OSError as error:
        return annotated([]), [_unreadable(file, error.strerror or str(error), competition)]
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        return annotated([]), [_unreadable(file, f"not XML: {error}", competition)]
    if root.tag != "annotation":
        return annotated([]), [_unreadable(file, f"the root element is {root.tag!r}", competition)]
    rows = []
    for number, one in enumerate(root.iter("object"), start=1):
        label = (one.findtext("name") or "").strip()
        place = f"object {number} ({label})" if label else f"object {number} (no name)"
        texts = [one.findtext(f"bndbox/{side}") for side in SIDES]
        numbers = four_numbers(texts)
        if numbers is None:
            place += ", bndbox " + ", ".join(text or "nothing" for text in texts)
        is_difficult = (one.findtext("difficult") or "0").strip() == "1"
        rows.append(Row(label, place, edges(numbers, "xyxy", first) if numbers else NO_NUMBERS, is_difficult))
    return annotated(rows, _size_of(root)), []


def _unreadable(file: str, found: str, competition: str) -> Problem:
    return make_problem("annotations unreadable", file, found, wanted=WANTED, competition=competition)


def _size_of(root: ElementTree.Element) -> tuple[int, int] | None:
    """Returns (height, width); some programs leave it out or write 0."""
    texts = [(root.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    if not all(text.isascii() and text.isdigit() and int(text) for text in texts):
        return None
    return int(texts[0]), int(texts[1])
