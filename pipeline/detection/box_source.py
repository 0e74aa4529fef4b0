"""Reads the boxes of a competition, from one file for many images or from one file per image.

In: BOXES of the descriptor. Out: `Boxes` in pixels, cut at the borders of their image. The catalog's column `mask` has
what `BoxSource.cell` returns.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.box_form import BoxForm
from pipeline.config.competition import Competition
from pipeline.config.template import FIELD
from pipeline.data.competition import ids_of_files
from pipeline.data.image_files import Files, ids_of
from pipeline.data.images import Inspection, changed_file
from pipeline.data.problems import Problem, make_problem
from pipeline.detection.annotations.boxes_csv import read_boxes_csv
from pipeline.detection.annotations.coco_json import read_coco
from pipeline.detection.annotations.nuscenes_json import read_nuscenes
from pipeline.detection.annotations.table import Annotated, Table, annotated, path_parts
from pipeline.detection.annotations.voc import read_voc
from pipeline.detection.annotations.yolo_text import read_yolo
from pipeline.detection.box_checks import SKIPPED, Checked, advice_of, check_boxes, class_indices
from pipeline.detection.boxes import Boxes, areas
from pipeline.detection.labels import BoxCounts, count_boxes, size_words
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.files import sha256_file, stamp_of
from pipeline.paths import LABELS
from pipeline.report.read import read_json
from pipeline.wording import alike_names

Found = tuple[Annotated, list[Problem]]
FIRST_PIXELS = 2  # px; if all boxes of all images lie in the first 2x2 pixels, their numbers are fractions
# By form: what to do about boxes whose numbers are fractions.
IN_FRACTIONS = {
    "csv": "if they are fractions of the image's sides, set NORMALISED: true under BOXES",
    "coco": "COCO counts pixels: multiply x and width by the image's width, y and height by its height",
    "voc": "Pascal VOC counts pixels: multiply x by the image's width and y by its height",
    "nuscenes": "nuScenes counts pixels: multiply x by the image's width and y by its height",
}


class BoxSource:
    """The boxes of a competition.

    Args:
        folder: of the competition.
        facts: what `find_box_facts` returned for it; boxes need none.

    Attributes:
        planes: 0: a label has no values per pixel.
    """

    planes = 0

    def __init__(self, competition: Competition, folder: Path, facts: Mapping[str, Any] | None = None):
        self.competition, self.folder, self.form = competition, folder, competition.boxes
        self.indices, self.others = class_indices(competition)
        self._advice = advice_of(competition)
        self.is_normalised = self.form.normalised or self.form.kind == "yolo"
        self.tables, self._unreadable = _tables(competition, folder)
        self.files = Files(folder, [self.form.template], competition.id_format) if self.form.template else None
        subsets = ("train", "valid") if competition.valid_images else ("train",)
        tested = ("test",) if competition.test_images else ()
        self._templates = [competition.templates(subset)[0] for subset in (*subsets, *tested)]
        self._images = [Files(folder, competition.templates(subset), competition.id_format) for subset in subsets]
        self._checked: dict[str, Checked] = {}  # of inspected images, without their boxes
        self._entries: dict[tuple[str, str], list[str]] = {}  # images by (file, what it calls them)
        self._farthest: dict[str, float] = {}  # of inspected images: the farthest right or bottom of a box, as written
        self._sides: dict[
            str, np.ndarray
        ] = {}  # of inspected images: the root of the area of each box, crowds left out
        self._inspected: set[str] = set()

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with whole files; after images were inspected, also with entries that belong to none."""
        if self._unreadable or not self._inspected:
            return self._unreadable
        problems = [problem for table in self.tables for problem in table.problems]
        for (file, name), ids in sorted(self._entries.items()):
            if len(ids) > 1:
                found = f"{name!r} matches {' and '.join(sorted(ids)[:3])}"
                problems.append(make_problem("boxes of two images", file, found))
        for table in self.tables:
            names = sorted(table.images)
            if names and not any((table.file, name) in self._entries for name in names):
                first = names[0] + alike_names(names[:1], self._inspected)[names[0]]
                found = f"none of {len(names):,} names matches an image (first: {first})"
                problems.append(make_problem("boxes of no image", table.file, found, competition=self.competition.name))
        farthest = max(self._farthest.values(), default=FIRST_PIXELS)
        if not self.is_normalised and farthest < FIRST_PIXELS:
            where, remedy = self.form.template or self.form.files[0], IN_FRACTIONS[self.form.kind]
            found = f"all boxes lie within {farthest:.4g} pixels of the left and top edges"
            name = self.competition.name
            problems.append(make_problem("boxes in fractions", where, found, remedy=remedy, competition=name))
        return problems

    @property
    def notices(self) -> Iterator[str]:
        """What is unusual but not wrong, and last how large boxes are, a sentence each, after images were inspected."""
        checked = dict(sorted(self._checked.items()))
        yield from self._skipped(checked)
        for name, text in (
            ("num_clipped", "boxes that reach beyond their image by more than a pixel, clipped to it"),
            ("num_left_out", "boxes dropped by BOXES.NAMES"),
        ):
            counts = {image_id: getattr(found, name) for image_id, found in checked.items() if getattr(found, name)}
            if counts:
                yield f"{text}: {sum(counts.values()):,} (first: {next(iter(counts))})"
        num_before = sum(found.num_before for found in checked.values())
        if num_before and self.form.first == 1:
            yield (
                f"boxes that begin at pixel 0, although BOXES.FIRST_PX is 1: {num_before:,}; if the annotations count "
                "from 0, set FIRST_PX: 0"
            )
        unused = self._unused()
        absent = self._absent(unused) if self.competition.train_csv is None else []
        if absent:
            yield self._absent_words(absent)
        if others := [name for name in unused if name not in set(absent)]:
            why = "no list has them" if self.competition.train_csv else "they are not for training or validation"
            yield f"annotated images that are not used, as {why}: {len(others):,} (first: {others[0]})"

        sides_N = np.concatenate([np.zeros(0, np.float32), *(own for _, own in sorted(self._sides.items()))])
        if len(sides_N):
            yield size_words(sides_N)

    def _skipped(self, checked: Mapping[str, Checked]) -> Iterator[str]:
        if self.form.bad_boxes != "skip":
            return
        faults = [(image_id, fault) for image_id, found in checked.items() for fault in found.faults]
        counts = Counter(fault.kind for _, fault in faults if fault.kind in SKIPPED)
        if counts:
            kinds = ", ".join(f"{count:,} ({kind})" for kind, count in counts.items())
            first = next(f"{image_id}, {fault.found}" for image_id, fault in faults if fault.kind in SKIPPED)
            yield f"boxes dropped by BAD_BOXES: skip: {kinds}; first: {first}"

    def _unused(self) -> list[str]:
        """Returns the annotations' names of images that were not inspected."""
        if self.form.template:
            ids = ids_of_files(self.competition, self.folder, self.form.template)
            return [image_id for image_id in ids if image_id not in self._inspected]
        return sorted(
            name
            for table in self.tables
            for name, own in table.images.items()
            if (table.file, name) not in self._entries and len(own.labels)
        )

    def _absent(self, names: Sequence[str]) -> list[str]:
        """Returns the names, of those in the annotations, of which no image is in a folder of images, test or not."""
        templates, id_format = self._templates, self.competition.id_format
        there = {path_parts(one)[-1] for template in templates for one in ids_of(self.folder, template, id_format)}
        return [name for name in names if path_parts(name)[-1] not in there]

    def _absent_words(self, names: Sequence[str]) -> str:
        where = " or ".join(_folder_of(template) for template in self._templates)
        of = self.form.template or " and ".join(self.form.files)
        are = "1 image of {} is" if len(names) == 1 else f"{len(names):,} images of {{}} are"
        remedy = "remove these files" if self.form.template else "remove them from the file"
        return f"{are.format(of)} not in {where} (first: {names[0]}); unpack the archive whole, or {remedy}"

    def cell(self, image_id: str) -> str:
        """Returns the file that has the boxes of an image; "" if no file has them."""
        if self.files is not None:
            file = self._file_of(image_id)
            return file if file and (self.folder / file).exists() else ""
        if self._unreadable:
            return self.form.files[0]
        table, _ = self._entry(image_id)
        return "" if table is None else table.file

    def inspect(self, image_id: str, cell: str, image: Inspection) -> Inspection:
        """Returns what the boxes of an image are; `counts` is a `BoxCounts`. The size stays 0: boxes have none."""
        self._inspected.add(image_id)
        given, problems = self._given(image_id, cell)
        if self.files is not None and len(files := [file for file, _ in self.files.of(image_id)]) > 1:
            problems = [make_problem("image annotated twice", files[1], f"{image_id} also has {files[0]}")]
        size, name = (image.height, image.width), self.competition.name
        if not cell and self.competition.without_mask == "refuse":
            file = self.files and self._file_of(image_id)
            where, found = (
                (file, "no such file") if file else (" or ".join(self.form.files), f"no entry for {image_id!r}")
            )
            problems = [make_problem("boxes missing", where or self.form.template, found, competition=name)]
        if problems or 0 in size:  # problems of the image itself are reported elsewhere
            return Inspection(0, 0, None, tuple(problems))
        if given.size is not None and 0 not in given.size and given.size != size:
            found = f"{image_id}: annotated at {given.size[1]}x{given.size[0]}, but its image is {size[1]}x{size[0]}"
            return Inspection(0, 0, None, (make_problem("boxes of another size", cell, found),))
        if np.isfinite(given.numbers).any():
            self._farthest[image_id] = float(np.nanmax(given.numbers[:, 2:]))
        checked = check_boxes(given, self.indices, self.others, size, self.is_normalised)
        faults = [fault for fault in checked.faults if self.form.bad_boxes == "refuse" or fault.kind not in SKIPPED]
        facts = {"competition": name} | self._advice
        problems = [make_problem(fault.kind, cell, f"{image_id}, {fault.found}", **facts) for fault in faults]
        self._sides[image_id] = np.sqrt(areas(checked.boxes.xyxy[~checked.boxes.is_crowd]))
        self._checked[image_id] = checked._replace(boxes=checked.boxes.keep([]))
        counts: BoxCounts = count_boxes(checked.boxes, self.competition.num_classes)
        return Inspection(0, 0, counts, tuple(problems))

    def read(self, row: Any) -> Boxes:
        """Returns the boxes of a catalog row, which has `id`, `mask`, `height` and `width`.

        Raises:
            UserError: a file is absent or not what it was when it was checked.
        """
        given, problems = self._given(row.id, row.mask)
        checked = check_boxes(given, self.indices, self.others, (int(row.height), int(row.width)), self.is_normalised)
        if problems or any(self.form.bad_boxes == "refuse" or one.kind not in SKIPPED for one in checked.faults):
            raise changed_file(self.folder / row.mask, "good boxes")
        return checked.boxes

    def values(self, row: Any) -> dict[str, Any]:
        """Returns the boxes of a catalog row as plain values, with the size (height, width) of their image."""
        boxes = self.read(row)
        plain = {name: getattr(boxes, name).tolist() for name in boxes._fields}
        return {**plain, "size": [int(row.height), int(row.width)]}

    def content(self, row: Any) -> str:
        """Returns a hash of all that the boxes of a catalog row are read from."""
        form = self.form
        how = (form.first, form.bad_boxes, self.is_normalised, sorted(self.indices.items()), self.others)
        parts = [repr(how)]
        if self.files is None:
            given, _ = self._given(row.id, row.mask)
            parts += [repr(given.labels), given.numbers.tobytes().hex(), given.is_crowd.tobytes().hex()]
        elif row.mask:
            parts.append(sha256_file(self.folder / row.mask))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _file_of(self, image_id: str) -> str:
        return next((file for file, _ in self.files.of(image_id)), "")

    def _given(self, image_id: str, cell: str) -> Found:
        """Returns the boxes of an image as the annotations have them, and why they cannot be read."""
        if not cell:
            return annotated([]), []
        name = self.competition.name
        if self.form.kind == "voc":
            return read_voc(self.folder / cell, cell, self.form.first, name)
        if self.form.kind == "yolo":
            return read_yolo(self.folder / cell, cell, name)
        if self._unreadable:
            raise UserError(f"{cell} cannot be read: {self._unreadable[0].found}; run the stage `prepare --force`")
        table, own = self._entry(image_id)
        if table is None or own is None:
            return annotated([]), []
        self._entries.setdefault((table.file, own), [])
        if image_id not in self._entries[table.file, own]:
            self._entries[table.file, own].append(image_id)
        return table.images[own], []

    def _entry(self, image_id: str) -> tuple[Table | None, str | None]:
        """Returns the file that has an image's boxes, and the image's name in it; None if the file does not name it."""
        paths = [file for files in self._images for file, _ in files.of(image_id)]
        for table in self.tables:
            own = table.find(paths, image_id)
            if own is not None:
                return table, own
        return next((table for table in self.tables if not table.has_every_image), None), None


def _tables(competition: Competition, folder: Path) -> tuple[tuple[Table, ...], list[Problem]]:
    """Returns the files that have the boxes of many images, and why they cannot be read."""
    form = competition.boxes
    stamps = tuple(stamp_of(folder / name) for name in form.files)
    plain = {name: value for name, value in vars(form).items() if name != "names"}  # which a reader does not need
    given = (tuple(plain.items()), competition.id_column, competition.name)
    tables, problems = _read_tables(folder, stamps, *given)
    return tables, list(problems)


@lru_cache(maxsize=1)  # each stage of a run asks for the same files, most of them several times
def _read_tables(
    folder: Path, stamps: tuple, plain: tuple[tuple[str, Any], ...], id_column: str, name: str
) -> tuple[tuple[Table, ...], tuple[Problem, ...]]:
    """Returns the files that have the boxes of many images, and why they cannot be read.

    Args:
        stamps: of the files: with others they are read again.
        plain: the keys of BOXES.
        id_column: of the competition.
        name: of the competition.
    """
    form = BoxForm(**dict(plain))
    read = []
    for key in ("coco", "valid_coco"):
        if file := getattr(form, key):
            read.append(read_coco(folder / file, file, f"BOXES.{key.upper()}", name))
    if form.csv:
        read.append(read_boxes_csv(folder / form.csv, form, id_column, name))
    if form.nuscenes:
        read.append(read_nuscenes(folder / form.nuscenes, form.nuscenes, name))
    return tuple(table for table, _ in read), tuple(problem for _, problems in read for problem in problems)


def boxes_of(run: Run, folder: Path) -> BoxSource:
    """Returns the boxes of a run's competition, read as `prepare` found."""
    return BoxSource(run.loaded.competition, folder, read_json(run.paths / LABELS))


def _folder_of(template: str) -> str:
    """Returns the folder of the images of a template, for messages.

    >>> _folder_of("train/images/{id}.png"), _folder_of("{id}.jpg")
    ('train/images', "the competition's folder")
    """
    known = template[: match.start()] if (match := FIELD.search(template)) else template
    return known.rpartition("/")[0] or "the competition's folder"
