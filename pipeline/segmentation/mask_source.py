"""Where the masks of a competition are, and how an image's is read: from one file, from several, or from run lengths.

In: MASKS, MASK_VALUES, VALID_REGION and WITHOUT_MASK of the descriptor. Out: uint8 index masks (H, W), `IGNORE` where a
pixel is ignored. The catalog's column `mask` has what `MaskSource.cell` returns.

Of several files each adds its object to the image: what is not background in a later file covers what was before. A
template with {class} says which class a file is of; its pixels of any other value than 0 are of that class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.config.competition import IGNORE, Competition, MaskCsv, mask_code
from pipeline.data.image_files import JOIN, Files, label_files
from pipeline.data.images import Inspection, read_grey
from pipeline.data.problems import Problem, make_problem
from pipeline.data.tiles import Box
from pipeline.engine.run import Run
from pipeline.files import sha256_file
from pipeline.paths import LABELS
from pipeline.report.read import read_json
from pipeline.segmentation.inspect_mask import inspect_mask
from pipeline.segmentation.labels import ONE_CLASS, count_values, read_mask
from pipeline.segmentation.mask_facts import FOUND
from pipeline.segmentation.mask_runs import index_by_label, read_runs
from pipeline.segmentation.submission.rle import RleError, paint_window

BACKGROUND = 0


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
    """

    def __init__(self, competition: Competition, folder: Path, facts: Mapping[str, Any] | None = None):
        self.competition, self.folder, self.code = competition, folder, mask_code(competition)
        self.region = _files(folder, competition.valid_region, competition)
        self._prefix = f"{competition.mask_folder}/" if competition.mask_folder else ""
        self._csv_problems: list[Problem] = []
        self._without_image: set[str] = set()  # ids of run lengths that no image had so far
        self.runs = self.files = None
        self.unread: list[str] = []
        self._shared_pixels: dict[str, int] = {}
        self._inspected = False
        self._kept: tuple[str, np.ndarray] | None = None
        self._parsed: tuple[str, list] | None = None
        if isinstance(competition.masks, MaskCsv):
            convention = replace(competition.convention, empty="", **{name: (facts or {})[name] for name in FOUND})
            self.runs, self._csv_problems = read_runs(folder, competition, convention)
            self._without_image = set(self.runs.rows)
            self.unread = [] if competition.masks.class_column else list(self.runs.unread)
        else:
            self.files = _files(folder / (competition.mask_folder or ""), competition.masks, competition)

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the csv of run lengths; after all images were inspected, also whether no id matches."""
        if not self._inspected or not self._without_image or len(self._without_image) < len(self.runs.rows):
            return self._csv_problems
        found = f"only ids that no image has: {len(self._without_image):,} (first: {min(self._without_image)})"
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
            yield (
                f"ids in {self.runs.file} that no image has: {len(self._without_image):,} "
                f"(first: {min(self._without_image)}); their run lengths are not used"
            )
        if not self._shared_pixels:
            return
        first, total = next(iter(self._shared_pixels)), sum(self._shared_pixels.values())
        yield (
            f"masks with pixels of several classes: {len(self._shared_pixels):,} ({total:,} pixels, first: {first}); "
            "such a pixel gets the last of its classes in the order of CLASSES"
        )

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
        size = (int(row.height), int(row.width))
        if self.runs is not None:
            mask = _painted(self.runs.masks(row.id, *size), size)
        elif row.mask:
            mask = _joined([self._read_file(file, of) for file, of in self._files_in(row)])
        else:
            mask = np.full(size, BACKGROUND, np.uint8)
        return self._in_region(mask, row.id)

    def window(self, row: Any, box: Box) -> np.ndarray:
        """Returns a part of the mask of a catalog row: uint8 (box.height, box.width).

        Of run lengths only that part is decoded; another mask is decoded as a whole once and kept for the next part.

        Raises:
            UserError: as `read`.
        """
        height, width = int(row.height), int(row.width)
        if self.runs is None or self.region is not None:
            if self._kept is None or self._kept[0] != row.id:
                self._kept = None
                self._kept = row.id, self.read(row)
            return self._kept[1][box.y : box.y + box.height, box.x : box.x + box.width].copy()
        if self._parsed is None or self._parsed[0] != row.id:
            self._parsed = row.id, self.runs.parsed(row.id, height * width)
        mask = np.full((box.height, box.width), BACKGROUND, np.uint8)
        for index, runs in self._parsed[1]:
            mask[paint_window(runs, height, width, self.runs.convention.order, box)] = index
        return mask

    def inspect(self, image_id: str, cell: str, image: Inspection) -> Inspection:
        """Returns what the mask of an image holds; `counts` is int64 [256], its pixels by class index."""
        size = (image.height, image.width)
        self._inspected = True
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
            found = np.full(size, BACKGROUND, np.uint8) if self.runs is None else self._inspect_runs(image_id, size)
        if isinstance(found, Inspection):
            return found
        if self.region is not None and found.shape == size:
            problem = self._region_problem(image_id, size)
            if problem:
                return Inspection(image.width, image.height, None, (problem,))
            found = self._in_region(found, image_id)
        return Inspection(found.shape[1], found.shape[0], count_values(found), ())

    def _inspect_runs(self, image_id: str, size: tuple[int, int]) -> np.ndarray | Inspection:
        """Returns the mask of an image's run lengths, or what is wrong with them."""
        try:
            masks = self.runs.masks(image_id, *size)
        except RleError as error:
            found, name = f"{image_id}, {error}", self.competition.name
            problem = make_problem("run lengths do not fit", self.runs.file, found, competition=name)
            return Inspection(0, 0, None, (problem,))
        mask = _painted(masks, size)
        if shared := int(sum(map(np.count_nonzero, masks.values())) - np.count_nonzero(mask)):  # background is 0
            self._shared_pixels[image_id] = shared
        return mask

    def _inspect_files(self, image_id: str, size: tuple[int, int]) -> np.ndarray | Inspection:
        """Returns the mask of an image's files, or what is wrong with them."""
        files = self._files_of(image_id)
        if any(of for _, of in files) and (problems := self._unknown_classes(files)):
            return Inspection(0, 0, None, problems)
        seen, masks = [], []
        for file, of in files:
            one, mask = inspect_mask(self.files.folder / file, file, self.competition, self.code, of)
            seen.append(one)
            masks.append(mask if mask is None else self._class_mask(mask, of))
        problems = tuple(problem for one in seen for problem in one.problems)
        odd = next((one for one in seen if (one.height, one.width) != size), seen[0])
        if problems or len({(one.height, one.width) for one in seen}) > 1:
            return Inspection(odd.width, odd.height, None, problems)
        return _joined(masks)

    def content(self, row: Any) -> str:
        """Returns a hash of all that the mask of a catalog row is read from."""
        parts = [repr(self.code)]
        if self.runs is not None:
            parts.append(self.runs.content(row.id))
        elif row.mask:
            parts += [
                f"{self._index_of(of) if of else ''} {sha256_file(self.files.folder / file)}"
                for file, of in self._files_in(row)
            ]
        if self.region is not None:
            parts += [sha256_file(self.folder / file) for file, _ in self.region.of(row.id)]
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

    def _index_of(self, label: str) -> int:
        return index_by_label(self.competition)[label.casefold()]

    def _unknown_classes(self, files: list[tuple[str, str]]) -> tuple[Problem, ...]:
        """Returns the problems of files whose name has a class that is none."""
        known, name = index_by_label(self.competition), self.competition.name
        labels = ", ".join(self.competition.labels)
        found = [
            (file, f"class {of!r}; the labels of the classes are {labels}")
            for file, of in files
            if of.casefold() not in known
        ]
        return tuple(make_problem("class unknown", file, text, competition=name) for file, text in found)

    def _read_file(self, file: str, of: str) -> np.ndarray:
        return self._class_mask(read_mask(self.files.folder / file, ONE_CLASS if of else self.code), of)

    def _class_mask(self, mask: np.ndarray, of: str) -> np.ndarray:
        """Returns the mask of a file that is of one class: `of` is the class in its name, "" where it has all."""
        if not of:
            return mask
        return np.where(mask == BACKGROUND, BACKGROUND, self._index_of(of)).astype(np.uint8)

    def _in_region(self, mask: np.ndarray, image_id: str) -> np.ndarray:
        if self.region is not None:
            for file, _ in self.region.of(image_id):
                mask[~_is_valid(self.folder / file)] = IGNORE
        return mask

    def _region_problem(self, image_id: str, size: tuple[int, int]) -> Problem | None:
        for file, _ in self.region.of(image_id):
            if not (self.folder / file).is_file():
                return make_problem("region missing", file, "no such file", competition=self.competition.name)
            found = _is_valid(self.folder / file).shape
            if found != size:
                return make_problem("size mismatch", file, f"{found[1]}x{found[0]}, its image {size[1]}x{size[0]}")
        return None


def masks_of(run: Run, folder: Path) -> MaskSource:
    """Returns the masks of a run's competition, read as `prepare` found."""
    return MaskSource(run.loaded.competition, folder, read_json(run.paths / LABELS))


def _files(folder: Path, templates: str | tuple[str, ...] | None, competition: Competition) -> Files | None:
    if templates is None:
        return None
    return Files(folder, [templates] if isinstance(templates, str) else templates, competition.id_format)


def _painted(masks: Mapping[int, np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Returns an index mask with the pixels of each class, in the order of the classes."""
    mask = np.full(size, BACKGROUND, np.uint8)
    for index in sorted(masks):
        mask[masks[index]] = index
    return mask


def _joined(masks: list[np.ndarray]) -> np.ndarray:
    """Returns one mask of those of several files: what is not background covers what was before."""
    first, *others = masks
    for mask in others:
        first = np.where(mask == BACKGROUND, first, mask)
    return first


def _is_valid(path: Path) -> np.ndarray:
    """Returns where a region mask is not 0: bool (H, W)."""
    return read_grey(path) > 0
