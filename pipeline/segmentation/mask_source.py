"""Where the masks of a competition are, and how an image's is read: from one file, from several, or from run lengths.

In: MASKS, MASK_VALUES, VALID_REGION and WITHOUT_MASK of the descriptor. Out: uint8 index masks (H, W), `IGNORE` where a
pixel is ignored, or with LABELS: multilabel planes (H, W, C). The catalog's column `mask` has what `MaskSource.cell`
returns.

Of several files each adds its object to the image: what is not background in a later file covers what was before. A
template with {class} says which class a file is of; its pixels of any other value than 0 are of that class.

Where OBJECTS is given, each row of run lengths is an object; of files see `objects_in_files`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.config.competition import IGNORE, Competition, MaskCsv
from pipeline.config.mask_code import mask_code
from pipeline.data.image_files import JOIN, Files, label_files
from pipeline.data.images import Inspection
from pipeline.data.problems import Problem, make_problem
from pipeline.data.tiles import Box
from pipeline.engine.run import Run
from pipeline.files import sha256_file
from pipeline.paths import LABELS
from pipeline.report.read import read_json
from pipeline.segmentation.labels import ONE_CLASS, read_stored_mask
from pipeline.segmentation.mask_facts import FOUND
from pipeline.segmentation.mask_forms import mask_form, of_class
from pipeline.segmentation.mask_runs import index_by_label, read_runs
from pipeline.segmentation.objects import borders, class_of, objects_in_files, paint_objects
from pipeline.segmentation.resizing import run_size, stretched
from pipeline.segmentation.submission.rle import RleError, paint_window
from pipeline.segmentation.valid_region import valid_region
from pipeline.wording import alike_names


class Row(NamedTuple):
    """What `MaskSource.read` needs of a row of the catalog; the size matters where an image has no mask file."""

    id: str
    mask: str
    height: int
    width: int


class MaskSource:
    """The masks of a competition.

    Args:
        folder: of the competition.
        facts: what `find_facts` returned for it.

    Attributes:
        problems: what is wrong with the csv of run lengths.
        notices: what is unusual, after all images were inspected.
        planes: of a mask, where a pixel may have several classes: their number; None: masks are index masks.
    """

    def __init__(self, competition: Competition, folder: Path, facts: Mapping[str, Any] | None = None):
        self.competition, self.folder, self.form = competition, folder, mask_form(competition)
        self.planes = competition.num_classes if competition.is_multilabel else None
        self.region = valid_region(competition, folder)
        self._prefix = f"{competition.mask_folder}/" if competition.mask_folder else ""
        self._csv_problems: list[Problem] = []
        self._without_image: set[str] = set()  # ids of run lengths that no image had so far
        self.runs = self.files = None
        self.unread: list[str] = []
        self._shared_pixels: dict[str, int] = {}
        self._inspected: set[str] = set()
        self._kept: tuple[str, np.ndarray] | None = None
        self._parsed: tuple[str, list] | None = None
        if isinstance(competition.masks, MaskCsv):
            convention = replace(competition.convention, empty="", **{name: (facts or {})[name] for name in FOUND})
            self.runs, self._csv_problems = read_runs(folder, competition, convention)
            self._without_image = set(self.runs.rows)
            self.unread = [] if competition.masks.class_column else list(self.runs.unread)
        else:
            templates = [competition.masks] if isinstance(competition.masks, str) else list(competition.masks)
            self.files = Files(folder / (competition.mask_folder or ""), templates, competition.id_format)

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the csv of run lengths; after all images were inspected, also whether no id matches."""
        if not self._inspected or not self._without_image or len(self._without_image) < len(self.runs.rows):
            return self._csv_problems
        found = f"only ids that no image has: {self._strays()}"
        return [
            *self._csv_problems,
            make_problem("runs of no image", self.runs.file, found, competition=self.competition.name),
        ]

    @property
    def notices(self) -> Iterator[str]:
        """What is unusual but no mistake, a sentence each."""
        if self.unread:
            yield (
                f"{self.runs.file} has columns that are not read: {', '.join(self.unread)}; "
                "if one of them is the class, name it as CLASS_COLUMN of MASKS"
            )
        if self._without_image:
            yield (f"ids in {self.runs.file} that no image has: {self._strays()}; their run lengths are not used")
        if not self._shared_pixels:
            return
        first, total = next(iter(self._shared_pixels)), sum(self._shared_pixels.values())
        yield (
            f"masks with pixels of several classes: {len(self._shared_pixels):,} ({total:,} pixels, first: {first}); "
            "such a pixel gets the last of its classes in the order of CLASSES; LABELS: multilabel keeps all of them"
        )

    def _strays(self) -> str:
        first = min(self._without_image)
        return f"{len(self._without_image):,} (first: {first}{alike_names([first], self._inspected)[first]})"

    def cell(self, image_id: str) -> str:
        """Returns what the catalog keeps of an image's mask: its files, joined; "" where it has none."""
        if self.runs is not None:
            return self.runs.file
        return JOIN.join(f"{self._prefix}{file}" for file, _ in self._files_of(image_id))

    def read(self, row: Any) -> np.ndarray:
        """Returns the mask of a catalog row, which has `id`, `mask`, `height` and `width`.

        Raises:
            UserError: a file or row is absent or not what it was when it was checked.
        """
        if self.competition.border_index is not None:
            map_HW, objects = self.read_objects(row), self.competition.objects
            mask = class_of(map_HW)
            mask[borders(map_HW, objects.border_width) & (mask != IGNORE)] = self.competition.border_index
            return mask
        size = (int(row.height), int(row.width))
        if self.runs is not None:
            own = run_size(size, self.competition)
            mask = self.form.of_runs(self.runs.masks(row.id, *own), own)
        elif row.mask:
            files = self._files_in(row)
            masks = [self.form.read(self.files.folder / file, self._index_of(of)) for file, of in files]
            mask = self._joined(row.id, files, masks)
        else:
            mask = self.form.blank(size)
        mask = stretched(mask, size, self.competition)
        return mask if self.region is None else self.region.ignore_outside(mask, row.id)

    def window(self, row: Any, box: Box) -> np.ndarray:
        """Returns a part of the mask of a catalog row: uint8 (box.height, box.width), or planes.

        Of run lengths only that part is decoded; another mask is decoded as a whole once and kept for the next part.

        Raises:
            UserError: as `read`.
        """
        height, width = int(row.height), int(row.width)
        is_stretched = self.competition.mask_size != "image"
        if self.runs is None or is_stretched or self.region is not None or self.competition.border_index is not None:
            if self._kept is None or self._kept[0] != row.id:
                self._kept = None
                self._kept = row.id, self.read(row)
            return self._kept[1][box.y : box.y + box.height, box.x : box.x + box.width].copy()
        if self._parsed is None or self._parsed[0] != row.id:
            self._parsed = row.id, self.runs.parsed(row.id, height * width)
        masks: dict[int, np.ndarray] = {}
        for index, runs in self._parsed[1]:
            own = paint_window(runs, height, width, self.runs.convention.order, box)
            masks[index] = masks[index] | own if index in masks else own
        return self.form.of_runs(masks, (box.height, box.width))

    def read_objects(self, row: Any) -> np.ndarray:
        """Returns the object map of a catalog row, int32 (H, W), see `objects.py`; without a class of borders.

        Raises:
            UserError: as `read` does.
        """
        size = (int(row.height), int(row.width))
        if self.runs is not None:
            own = run_size(size, self.competition)
            map_HW = paint_objects(own, self.runs.objects(row.id, *own))
        elif row.mask:
            files = (self._read_stored(file, of) for file, of in self._files_in(row))
            map_HW = objects_in_files(files, self.competition)
        else:
            map_HW = np.zeros(size, np.int32)
        map_HW = stretched(map_HW, size, self.competition)
        return map_HW if self.region is None else self.region.ignore_outside(map_HW, row.id)

    def read_scored(self, row: Any) -> np.ndarray:
        """Returns what predictions are scored by: the object map where OBJECTS is given, else the mask."""
        return self.read_objects(row) if self.competition.has_objects else self.read(row)

    def read_both(self, row: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mask of a catalog row, and what `read_scored` returns."""
        mask = self.read(row)
        return mask, self.read_objects(row) if self.competition.has_objects else mask

    def inspect(self, image_id: str, cell: str, image: Inspection) -> Inspection:
        """Returns what the mask of an image holds; `counts` is int64 [256], its pixels by class index."""
        size = (image.height, image.width)
        self._inspected.add(image_id)
        self._without_image.discard(image_id)
        if self.runs is None and not cell and self.competition.without_mask == "refuse":
            found, name = f"no mask file of {image_id!r}", self.competition.name
            problem = make_problem("mask missing", " or ".join(self.files.templates), found, competition=name)
            return Inspection(0, 0, None, (problem,))
        if self.runs is None and cell:
            found = self._inspect_files(image_id, size)
        elif 0 in size:
            return Inspection(0, 0, None, ())
        else:
            found = self.form.blank(size) if self.runs is None else self._inspect_runs(image_id, size)
        if isinstance(found, Inspection):
            return found
        found = stretched(found, size, self.competition)
        if self.region is not None and found.shape[:2] == size:
            problem = self.region.problem(image_id, size)
            if problem:
                return Inspection(image.width, image.height, None, (problem,))
            found = self.region.ignore_outside(found, image_id)
        if self.competition.border_index is not None and found.shape == size:
            found = self.read(Row(image_id, cell, *size))
        return Inspection(found.shape[1], found.shape[0], self.form.counts(found), ())

    def _inspect_runs(self, image_id: str, size: tuple[int, int]) -> np.ndarray | Inspection:
        """Returns the mask of an image's run lengths, or what is wrong with them."""
        try:
            masks = self.runs.masks(image_id, *run_size(size, self.competition))
        except RleError as error:
            found, name = f"{image_id}, {error}", self.competition.name
            problem = make_problem("run lengths do not fit", self.runs.file, found, competition=name)
            return Inspection(0, 0, None, (problem,))
        if len(masks) > 1 and not self.competition.is_multilabel:
            own = [*masks.values()]
            shared = int(sum(map(np.count_nonzero, own)) - np.count_nonzero(np.logical_or.reduce(own)))
            self._shared_pixels |= {image_id: shared} if shared else {}
        return self.form.of_runs(masks, run_size(size, self.competition))

    def _inspect_files(self, image_id: str, size: tuple[int, int]) -> np.ndarray | Inspection:
        """Returns the mask of an image's files, or what is wrong with them."""
        files = self._files_of(image_id)
        if any(of for _, of in files) and (problems := self._unknown_classes(files)):
            return Inspection(0, 0, None, problems)
        absent = self.competition.annotators and not all(self.files.of_each(image_id))
        if absent and self.competition.without_mask == "refuse":
            found, templates = f"not all annotators have a file of {image_id!r}", " and ".join(self.files.templates)
            problem = make_problem("mask missing", templates, found, competition=self.competition.name)
            return Inspection(0, 0, None, (problem,))
        seen, masks = [], []
        for file, of in files:
            one, mask = self.form.inspect(self.files.folder / file, file, self._index_of(of))
            seen.append(one)
            masks.append(mask)
        problems = tuple(problem for one in seen for problem in one.problems)
        odd = next((one for one in seen if (one.height, one.width) != size), seen[0])
        if problems or len({(one.height, one.width) for one in seen}) > 1:
            return Inspection(odd.width, odd.height, None, problems)
        return self._joined(image_id, files, masks)

    def _joined(self, image_id: str, files: list[tuple[str, str]], masks: Sequence[np.ndarray]) -> np.ndarray:
        """Returns one mask of those of an image's files; each template is of one annotator where there are several."""
        if self.competition.annotators is None:
            return self.form.join(masks)
        by_file = dict(zip((file for file, _ in files), masks, strict=True))
        own = [[by_file[file] for file, _ in found if file in by_file] for found in self.files.of_each(image_id)]
        is_empty = self.competition.without_mask == "empty"  # who has no file has marked nothing
        blank = [self.form.blank(masks[0].shape[:2])] if is_empty else []
        return self.form.combine([self.form.join(parts or blank) for parts in own if parts or blank])

    def content(self, row: Any) -> str:
        """Returns a hash of all that the mask of a catalog row is read from."""
        parts, objects = [self.form.code], self.competition.objects
        if self.competition.mask_size != "image":
            parts.append(f"size {self.competition.mask_size}")
        if objects.border is not None:
            parts.append(f"border {self.competition.border_index} {objects.border_width}")
        if self.runs is not None:
            parts.append(self.runs.content(row.id))
        elif row.mask:
            parts += [
                f"{'' if (index := self._index_of(of)) is None else index} {sha256_file(self.files.folder / file)}"
                for file, of in self._files_in(row)
            ]
        if self.region is not None:
            parts += map(sha256_file, self.region.paths(row.id))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _files_of(self, image_id: str) -> list[tuple[str, str]]:
        """Returns (file, class) of each mask file of an image; only those there are where masks may be missing."""
        files = self.files.of(image_id)
        if self.competition.without_mask == "refuse":
            return files
        return [(file, of) for file, of in files if (self.files.folder / file).exists()]

    def _files_in(self, row: Any) -> list[tuple[str, str]]:
        """Returns (file, class) of each mask file that a catalog row names."""
        class_of = dict(self.files.of(row.id))
        files = [file.removeprefix(self._prefix) for file in label_files(row.mask)]
        return [(file, class_of.get(file, "")) for file in files]

    def _index_of(self, label: str) -> int | None:
        """Returns the class of a file by its label in the file's name; None where the name has none."""
        return index_by_label(self.competition)[label.casefold()] if label else None

    def _unknown_classes(self, files: list[tuple[str, str]]) -> tuple[Problem, ...]:
        """Returns the problems of files whose name has a class that is none."""
        known, name = index_by_label(self.competition), self.competition.name
        labels = ", ".join(self.competition.label_texts)
        found = [
            (file, f"class {of!r}; the labels of the classes are {labels}")
            for file, of in files
            if of.casefold() not in known
        ]
        return tuple(make_problem("class unknown", file, text, competition=name) for file, text in found)

    def _read_stored(self, file: str, of: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns what a mask file stores, and its index mask."""
        code = ONE_CLASS if of else mask_code(self.competition)
        stored, mask = read_stored_mask(self.files.folder / file, code)
        return stored, of_class(mask, self._index_of(of))


def masks_of(run: Run, folder: Path) -> MaskSource:
    """Returns the masks of a run's competition, read as `prepare` found."""
    return MaskSource(run.loaded.competition, folder, read_json(run.paths / LABELS))
