"""The formats of submissions, as a table: run lengths, PNG or TIFF masks, arrays; boxes as text or JSON.

A format is a record of functions. Code that writes, checks, scores, compares or uploads a submission calls `format_of`
and depends on no format. The table names the functions; their modules are imported at the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.competition import Competition
from pipeline.engine.run import lazy, named


@dataclass(frozen=True)
class Format:
    """How submissions of one kind are stored. A size is (height, width).

    Attributes:
        name: as in SUBMISSION.FORMAT.
        suffix: of the file.
        task: whose predictions it stores, as in TASK.
        encode: (id, prediction, size, competition) to the bytes that the file has of one image; refuses another size.
        write: (path, pairs of id and bytes, competition); writes a file that has them in that order.
        digest: (prediction, competition) to a hash of what the file can hold of a rounded prediction.
        read: (path, competition, sizes, skipped) to pairs of id and prediction, in the order of `sizes`; refuses a file
            that cannot be read, or has other images than these and the `skipped` ones.
        list_ids: (path, competition) to the ids that the file has, in its order; refuses one that is of no image.
        check: (path, competition, sizes, sample) to all that is wrong, in the order of the file; see `require_good`.
        rounded: (prediction, size, competition) to the prediction with as many digits as the file has.
        like_sample: (competition, path of its sample or None) to the competition with what the sample decides.
        hints: (pairs that were read, competition) to what suggests that the file was written in another way.
        resize: (prediction, size, its present size) to the prediction at another size.
        check_sample: (competition, path, test ids) to what is wrong with the sample submission.
    """

    name: str
    suffix: str
    task: str
    encode: Callable[..., bytes]
    write: Callable[..., None]
    digest: Callable[..., bytes]
    read: Callable[..., Any]
    list_ids: Callable[..., list[str]]
    check: Callable[..., list[str]]
    check_sample: Callable[..., list[Any]]
    resize: Callable[..., Any]
    hints: Callable[..., list[str]] = lambda *arguments: []
    rounded: Callable[..., Any] = lambda prediction, size, competition: prediction
    like_sample: Callable[..., Competition] = lambda competition, sample: competition


def _functions(module: str, *names: str) -> dict[str, Callable[..., Any]]:
    """Returns the functions of a module by name; it is imported when one is called."""
    return {name: lazy(f"{module}:{name}") for name in names}


def _resize_mask(mask: Any, size: tuple[int, int], mask_size: tuple[int, int]) -> Any:
    """Returns a mask at another size; the present size is that of the mask."""
    return named("pipeline.segmentation.resizing:resize_mask")(mask, size)


_OF_MASKS = {"task": "segmentation", "resize": _resize_mask}


def _zip_of_masks(kind: str, suffix: str) -> Format:
    """Returns the format whose masks are files in a zip."""
    names = ("encode", "write", "digest", "read", "list_ids", "check", "check_sample")
    module = "pipeline.segmentation.submission.zip_masks"
    return Format(kind, suffix, **{name: lazy(f"{module}:{name}", kind=kind) for name in names}, **_OF_MASKS)


def _boxes(kind: str, suffix: str) -> Format:
    """Returns the format of boxes of that name."""
    modules = dict.fromkeys(("encode", "write", "read", "list_ids"), "kinds") | dict.fromkeys(
        ("check", "check_sample"), "check"
    )
    folder = "pipeline.detection.submission"
    return Format(
        kind,
        suffix,
        "boxes",
        **{name: lazy(f"{folder}.{module}:{name}", kind=kind) for name, module in modules.items()},
        **_functions(f"{folder}.grid", "digest", "rounded"),
        resize=lazy(f"{folder}.grid:resize_boxes"),
        hints=lazy(f"{folder}.hints:hints"),
    )


FORMATS = (
    Format(
        "run_lengths",
        ".csv",
        **_functions(
            "pipeline.segmentation.submission.run_lengths",
            *("encode", "write", "digest", "read", "list_ids", "like_sample"),
        ),
        **_functions("pipeline.segmentation.submission.check_run_lengths", "check", "check_sample"),
        **_functions("pipeline.segmentation.submission.hints", "hints"),
        **_OF_MASKS,
    ),
    _zip_of_masks("png_masks", ".zip"),
    _zip_of_masks("tiff_masks", ".zip"),
    _zip_of_masks("npz", ".npz"),
    _boxes("prediction_string", ".csv"),
    _boxes("coco_results", ".json"),
    _boxes("nuscenes_boxes", ".json"),
)


def format_of(competition: Competition) -> Format:
    """Returns the format in which a competition wants its submissions."""
    return next(one for one in FORMATS if one.name == competition.submission.format)


def format_of_file(path: Path, competition: Competition) -> Format:
    """Returns the format of a file, by its suffix; the competition's own where it has that or none is known."""
    own, suffix = format_of(competition), path.suffix.lower()
    others = (one for one in FORMATS if one.suffix == suffix and one.task == own.task)
    return own if own.suffix == suffix else next(others, own)
