"""How the image files of an unknown folder become channels: layers, frames, bands, by what a few of them store.

In: the images' family. Out: IMAGES with the files of an image that are stacked, IMAGE, and notes on what else could be
taken. What a volume, a film or a satellite needs is its user's choice: a simple one is made, and is a guess.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.competition import Competition
from pipeline.data.decode import ARRAYS, DICOM, frame_axis, stored_pixels
from pipeline.data.discovery.draft import Draft
from pipeline.data.discovery.families import Family
from pipeline.data.discovery.ids import Ids
from pipeline.data.discovery.images import numbers_of
from pipeline.data.discovery.sizes import MOST_BYTES, header_size, size_of, spread
from pipeline.data.image_files import JOIN, Files
from pipeline.data.image_source import ImageSource
from pipeline.data.images import MAX_PX, BadFile
from pipeline.data.problems import Problem
from pipeline.errors import UserError
from pipeline.segmentation.discovery.findings import Findings

NUM_READ = 5  # images whose pixels are read
COLORS = 3  # channels that a pretrained network sees


def describe_form(draft: Draft, findings: Findings, folder: Path) -> None:
    """Sets IMAGE where the images are not ordinary ones, and notes what their files hold.

    Args:
        draft: has all keys that CONVENTION and SUBMISSION do not need.
    """
    ids = findings.ids
    numbers, suffix = numbers_of(ids.images), ids.images.suffix.lower()
    files = len(draft.competition().templates("train"))
    if numbers:
        which = "all" if files == len(numbers) else f"the {files} in the middle"
        text = f"an image has {len(numbers)} files, layers or bands, of which {which} are stacked as its channels"
        draft.guess("IMAGES", f"{text}; another range or a list of files takes others")
    if beside := _files_beside(findings):
        draft.guess("IMAGES", f"an image also has {', '.join(beside)}, not used; a list in IMAGES stacks several files")
    try:
        pixels = _pixels(folder, ids.images)
        is_grey = bool(pixels) and _choose(
            draft, [one.shape for one in pixels], files, suffix, _mask_sizes(findings, folder)
        )
        problems = _problems(draft.competition(), ids, folder)
    except UserError as error:
        draft.unknown("IMAGE", f"{error}; then `prepare` says what is still needed")
        return
    formats = " or ".join(sorted({one.dtype.name for one in pixels}))
    if suffix in DICOM:
        draft.sure("IMAGE", "the window that DICOM files name is applied")
    if formats not in ("", "uint8"):
        draft.sure("IMAGE", f"the pixels of {suffix} files are {formats}; `prepare` measures black and white")
    if problems:
        shapes = f" (shapes {' and '.join(sorted({str(one.shape) for one in pixels}))})" if pixels else ""
        found = f"{problems[0].kind}, such as {problems[0].file}: {problems[0].found}"
        draft.unknown(
            "IMAGE", f"the images cannot be used as they are{shapes}: {found}; `prepare` says how to fix them"
        )
    elif is_grey and files == 1:
        draft.sure("IMAGE", "images are grey and repeated as three channels; CHANNELS: 1 gives the network one channel")
        if {"SEQUENCE_COLUMN", "SEQUENCE_PATTERN"} & draft.keys.keys():
            text = "each image is seen alone; NEIGHBOURS: 1 stacks the ones before and after it"
            draft.guess("IMAGE", f"{text}; each scan or video must then be one sequence")


def describe_mask_size(draft: Draft, findings: Findings, folder: Path) -> None:
    """Sets MASK_SIZE where no mask file of a few images is as large as its image."""
    images, masks = findings.ids.images, findings.masks
    if masks is None or isinstance(draft.keys["MASKS"], dict):
        return
    image_of = {images.key(file): file for file in images.files if file.subset != "test"}
    pairs = [
        (image_of[key], file) for file in masks.families[0].files if (key := masks.families[0].key(file)) in image_of
    ]
    sizes = [tuple(size_of(folder / file.path) for file in pair) for pair in spread(pairs, NUM_READ)]
    known = [(image, mask) for image, mask in sizes if (0, 0) not in (image, mask)]
    if known and all(image not in (mask, mask[::-1]) for image, mask in known):
        shown = [f"{width}x{height}" for width, height in known[0]]
        text = f"masks are not as large as their images, such as {shown[1]} for {shown[0]}; they are stretched"
        draft.guess("MASK_SIZE", text, "any")


def _choose(
    draft: Draft, shapes: Sequence[tuple[int, ...]], files: int, suffix: str, sizes: Collection[tuple[int, int]]
) -> bool:
    """Sets IMAGE by the shapes of what files store, with what else could be meant; returns whether images are grey.

    A file of an array that is stacked holds frames, because its channels are files already. Of other files the last
    axis is channels where it is the shortest. Nothing is set where no key reads them.

    Args:
        sizes: (width, height) of some masks, which show the axes of height and width.
    """
    form: dict[str, Any] = {}
    deep = [shape for shape in shapes if len(shape) > 2]
    axes = [_axis_of(shape, sizes) for shape in deep]
    if any(len(s) > 3 or axis != 2 or (files > 1 and suffix in ARRAYS) for s, axis in zip(deep, axes, strict=True)):
        left = [(*shape[:axis], *shape[axis + 1 :]) for shape, axis in zip(deep, axes, strict=True)]
        if any(len(shape) > 3 or (len(shape) == 3 and np.argmin(shape) != 2) for shape in left):
            return False
        number = min(shape[axis] for shape, axis in zip(deep, axes, strict=True))
        form["FRAME"] = number // 2
        if axes != [frame_axis(shape) for shape in deep]:
            form["FRAME_AXIS"] = axes[0]
        text = f"{number} images in a file, of which the one in the middle is taken; FRAME counts from 0"
        draft.guess("IMAGE", text, form)
        deep = [shape for shape in left if len(shape) > 2]
    channels = [shape[2] for shape in deep]
    if files > 1 and max(channels, default=1) > COLORS:
        form["BANDS"] = [0]
        draft.guess("IMAGE", f"{max(channels)} channels in each of {files} files, of which the first is taken", form)
    elif files > 1 and max(channels, default=1) > 1:
        form["CHANNELS"] = files * max(channels)
        text = f"{max(channels)} channels in each of {files} files, all of which are stacked"
        draft.guess("IMAGE", f"{text}; BANDS: [0] takes the first of each", form)
    elif channels and min(channels) >= COLORS and max(channels) > COLORS:
        form["BANDS"] = list(range(COLORS))
        text = f"{max(channels)} channels in a file, of which the first three are taken; CHANNELS: {max(channels)} "
        text += "without BANDS takes all; if they are images of their own, FRAME chooses one"
        text += "; the fourth may be transparency" * (max(channels) == 4)
        draft.guess("IMAGE", text, form)
    elif {*channels} == {2}:
        form["CHANNELS"] = 2
        draft.guess("IMAGE", "two channels in a file, which are both taken; BANDS: [0] takes the first alone", form)
    return {*channels} <= {1}


def _files_beside(findings: Findings) -> list[str]:
    """Returns the names of further files that lie in the folder of an image and are no masks."""
    images, masks = findings.ids.images, findings.masks.families if findings.masks else ()
    return [
        family.fixed
        for family in findings.families
        if images.fixed and family.fixed and family.parts == images.parts
        if family is not images and family not in masks and family.role != "mask"
    ]


def _pixels(folder: Path, images: Family) -> list[np.ndarray]:
    """Returns what a few files store, without those that are damaged or too large, which `prepare` lists."""
    pixels = []
    for file in spread(images.files, NUM_READ):
        path = folder / file.path
        width, height = header_size(path)
        try:
            if width * height <= MAX_PX and path.stat().st_size <= MOST_BYTES:
                pixels.append(stored_pixels(path.read_bytes(), images.suffix))
        except (OSError, BadFile):
            continue
    return [one for one in pixels if one.ndim > 1]


def _problems(competition: Competition, ids: Ids, folder: Path) -> list[Problem]:
    """Returns what is wrong with a few images when they are read as described; nothing if any of them can be."""
    source, problems = ImageSource(competition, folder), []
    files = Files(folder, competition.templates("train"), competition.id_format)
    for image_id in spread(list(ids.ids("", "train")), NUM_READ):
        seen = source.inspect(JOIN.join(file for file, _ in files.of(image_id)))
        if not seen.problems:
            return []
        problems += seen.problems
    return problems


def _mask_sizes(findings: Findings, folder: Path) -> set[tuple[int, int]]:
    files = [file for family in findings.masks.families for file in family.files] if findings.masks else []
    return {size_of(folder / file.path) for file in spread(files, NUM_READ)} - {(0, 0)}


def _axis_of(shape: tuple[int, ...], sizes: Collection[tuple[int, int]]) -> int:
    """Returns the axis that counts the images of an array: what is left is as large as a mask, if one has such a size.

    >>> _axis_of((200, 48, 64), [(64, 48)]), _axis_of((200, 48, 64), [])
    (0, 1)
    """
    usual = frame_axis(shape)
    left = {axis: (*shape[:axis], *shape[axis + 1 :]) for axis in range(len(shape))}
    fitting = [axis for axis, (height, width, *_) in left.items() if (width, height) in sizes]
    return fitting[0] if fitting and usual not in fitting else usual
