"""The forms of a submission, as a table: run lengths in a csv, PNG masks in a zip.

A format is a record of functions. Whoever writes, checks, scores, compares or uploads a submission asks `format_of` and
knows no format itself. The table names the functions; their modules are imported when one is called, so that a file's
suffix costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.config.competition import Competition


@dataclass(frozen=True)
class Format:
    """How submissions of one kind are stored. A size is (height, width).

    Attributes:
        name: as in SUBMISSION.FORMAT.
        suffix: of the file.
        encode: (id, prediction, size, competition) to the bytes that the file has of one image; refuses another size.
        write: (path, pairs of id and bytes, competition); writes a file that has them in that order.
        digest: (prediction, competition) to a hash of what the file can hold of a prediction.
        read: (path, competition, sizes, skipped) to pairs of id and prediction, in the order of `sizes`; refuses a file
            that cannot be read, or has other images than these and the `skipped` ones.
        list_ids: (path, competition) to the ids that the file has, in its order; refuses one that is of no image.
        check: (path, competition, sizes, sample) to all that is wrong, see `check.py`.
        hints: (path, competition, sizes, skipped) to what suggests that a file was written in another way.
        check_sample: (competition, path, test ids) to what is wrong with the sample submission.
    """

    name: str
    suffix: str
    encode: Callable[..., bytes]
    write: Callable[..., None]
    digest: Callable[..., bytes]
    read: Callable[..., Any]
    list_ids: Callable[..., list[str]]
    check: Callable[..., list[str]]
    check_sample: Callable[..., list[Any]]
    hints: Callable[..., list[str]] = lambda *arguments: []


def _named(name: str) -> Callable[..., Any]:
    """Returns a function that imports the function `name` when it is called."""
    module, _, function = name.rpartition(".")
    return lambda *arguments: getattr(import_module(module), function)(*arguments)


FORMATS = (
    Format(
        "run_lengths",
        ".csv",
        encode=_named("pipeline.segmentation.submission.run_lengths.encode"),
        write=_named("pipeline.segmentation.submission.run_lengths.write"),
        digest=_named("pipeline.segmentation.submission.run_lengths.digest"),
        read=_named("pipeline.segmentation.submission.run_lengths.read"),
        list_ids=_named("pipeline.segmentation.submission.run_lengths.list_ids"),
        check=_named("pipeline.segmentation.submission.check_run_lengths.check"),
        check_sample=_named("pipeline.segmentation.submission.sample_submission.check_sample"),
        hints=_named("pipeline.segmentation.submission.hints.find_hints"),
    ),
    Format(
        "png_masks",
        ".zip",
        encode=_named("pipeline.segmentation.submission.png_masks.encode"),
        write=_named("pipeline.segmentation.submission.png_masks.write"),
        digest=_named("pipeline.segmentation.submission.png_masks.digest"),
        read=_named("pipeline.segmentation.submission.png_masks.read"),
        list_ids=_named("pipeline.segmentation.submission.png_masks.list_ids"),
        check=_named("pipeline.segmentation.submission.check_png_masks.check"),
        check_sample=_named("pipeline.segmentation.submission.check_png_masks.check_sample"),
    ),
)


def format_of(competition: Competition) -> Format:
    """Returns the format in which a competition wants its submissions."""
    return next(one for one in FORMATS if one.name == competition.submission.format)


def format_of_file(path: Path, competition: Competition) -> Format:
    """Returns the format of a file, by its suffix; the competition's own where that says nothing."""
    return next((one for one in FORMATS if one.suffix == path.suffix.lower()), format_of(competition))
