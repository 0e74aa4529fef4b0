"""The file of a submission: written with its origin, read back, checked against its competition.

In: predictions in any order. Out: a file in the order of the test list. It is read back before it gets its name, and
each image is compared with the prediction that went in. That proves that the format's settings were applied, whatever
the predictions are.

The origin is a `.json` beside the file, or beside a `.json` an `.origin.json`. It names its content, its run and its
local scores. It is removed before the file is written and written after it, so a file with an origin is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.files import atomic_path, sha256_file, write_atomic
from pipeline.paths import descriptor
from pipeline.submission.formats import Format, format_of, format_of_file

WARNING = "warning: "  # of problems that refuse nothing
Sizes = Mapping[str, tuple[int, int]]


def write_submission(
    path: Path | str,
    predictions: Iterable[tuple[str, Any]],
    ids: Sequence[str],
    competition: Competition,
    origin: Mapping[str, Any],
    sizes: Sizes,
) -> None:
    """Writes `path` in the competition's format and its origin beside it.

    The content depends on predictions, ids and competition only. An image that comes early waits in encoded form;
    of each prediction only a hash is kept.

    Args:
        path: the folder is made.
        predictions: id and decoded prediction of each image, in any order.
        ids: the order of the sample submission or of test.csv.
        competition: classes and format.
        origin: further facts for the origin.
        sizes: (height, width) of each image; with SUBMISSION.SIZE, predictions are resized to that.

    Raises:
        UserError: an image is missing, unknown, there twice, or not of its size; an earlier `path` stays as it was.
        RuntimeError: the file does not read back as the predictions that went in; likewise.
    """
    path, form, own_sizes, sizes = Path(path), format_of(competition), sizes, submitted_sizes(competition, sizes)
    if len(set(ids)) != len(ids):
        raise UserError(f"{path}: an id appears twice in the list of images to submit")
    digests: dict[str, bytes] = {}

    def in_order() -> Iterator[tuple[str, bytes]]:
        """Yields id and content of each image as soon as all before it were yielded."""
        positions = {image_id: position for position, image_id in enumerate(ids)}
        waiting: dict[int, bytes] = {}
        next_position = 0
        for image_id, prediction in predictions:
            position = positions.pop(image_id, None)
            if position is None:
                raise UserError(f"{path}: image {image_id} came twice or is not among the {len(ids)} to submit")
            if competition.submission.size:
                prediction = form.resize(prediction, sizes[image_id], own_sizes[image_id])
            waiting[position] = form.encode(image_id, prediction, sizes[image_id], competition)
            digests[image_id] = _digest(form, prediction, sizes[image_id], competition)
            while next_position in waiting:
                yield ids[next_position], waiting.pop(next_position)
                next_position += 1
        if positions:
            some = ", ".join(list(positions)[:5])
            raise UserError(f"{path}: {len(positions)} of {len(ids)} images have no prediction, such as {some}")

    with atomic_path(path) as temporary:
        form.write(temporary, in_order(), competition)
        for image_id, prediction in form.read(temporary, competition, {image_id: sizes[image_id] for image_id in ids}):
            if _digest(form, prediction, sizes[image_id], competition) != digests.pop(image_id):
                raise RuntimeError(f"{path}: {image_id} does not read back as the prediction that was written")
        if digests:
            raise RuntimeError(f"{path}: {len(digests)} images do not read back, such as {next(iter(digests))}")
        origin_path(path).unlink(missing_ok=True)
    facts = {"competition": competition.name, "format": form.name, "images": len(ids), "sha256": sha256_file(path)}
    _write_origin(path, {**origin, **facts, "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds")})


def _digest(form: Format, prediction: Any, size: tuple[int, int], competition: Competition) -> bytes:
    """Returns a hash of a prediction, rounded to the digits that a file stores."""
    return form.digest(form.rounded(prediction, size, competition), competition)


def _write_origin(path: Path, origin: Mapping[str, Any]) -> None:
    write_atomic(origin_path(path), json.dumps(origin, indent=2, ensure_ascii=False) + "\n")


def submitted_sizes(competition: Competition, sizes: Sizes) -> Sizes:
    """Returns (height, width) of each image's prediction in a submission: those of the image, or SUBMISSION.SIZE."""
    if competition.submission.size is None:
        return sizes
    width, height = competition.submission.size
    return dict.fromkeys(sizes, (height, width))


def amend_origin(path: Path, changes: Mapping[str, Any]) -> None:
    """Writes into the origin of a submission what it says in addition, or instead."""
    origin = json.loads(origin_path(path).read_text(encoding="utf-8"))
    _write_origin(path, {**origin, **changes})


def origin_path(path: Path) -> Path:
    """Returns where the origin of a submission is.

    >>> origin_path(Path("a/Exp.csv")).name, origin_path(Path("a/Exp.json")).name
    ('Exp.json', 'Exp.origin.json')
    """
    return path.with_suffix(".origin.json" if path.suffix.lower() == ".json" else ".json")


def read_origin(path: Path) -> dict[str, Any]:
    """Returns the origin of a submission, empty where it has none.

    Raises:
        UserError: it cannot be read.
    """
    beside = origin_path(path)
    if not beside.is_file():
        return {}
    try:
        origin = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {beside}: {error}; write the submission again, or remove the file") from error
    if not isinstance(origin, dict):
        raise UserError(f"{beside} is no origin of a submission; write the submission again, or remove the file")
    return _renamed(origin)


def _renamed(origin: dict[str, Any]) -> dict[str, Any]:
    """Returns an origin with today's names; earlier ones are of csv files scored by Dice.

    >>> _renamed({"csv_sha256": "0f", "local_dice": 0.5, "local_iou": 0.4})
    {'sha256': '0f', 'score': 'dice', 'local_score': 0.5, 'local_scores': {'dice': 0.5, 'iou': 0.4}}
    """
    if "csv_sha256" in origin:
        origin["sha256"] = origin.pop("csv_sha256")
    if "local_dice" in origin:
        scores = {"dice": origin.pop("local_dice"), "iou": origin.pop("local_iou", None)}
        origin |= {"score": "dice", "local_score": scores["dice"], "local_scores": scores}
    return origin


def is_own(path: Path) -> bool:
    """Returns whether a file is as `write_submission` left it: its origin names its content."""
    try:
        return read_origin(path).get("sha256") == sha256_file(path)
    except UserError:
        return False


def require_good(
    path: Path, competition: Competition, sizes: Sizes, sample_submission: Path | None = None, num_shown: int = 20
) -> list[str]:
    """Returns the warnings about a submission of any format, which refuse nothing.

    Args:
        sizes: (height, width) of each test image; its keys are the ids that must be there.
        sample_submission: the competition's own, where there is one.

    Raises:
        UserError: something is proved wrong with it; shows the first `num_shown` problems.
    """
    sizes = submitted_sizes(competition, sizes)
    problems = format_of_file(path, competition).check(path, competition, sizes, sample_submission)
    faults = [problem for problem in problems if not problem.startswith(WARNING)]
    if faults:
        table = "\n".join(f"{number:>4}  {fault}" for number, fault in enumerate(faults[:num_shown], start=1))
        rest = f"\n      and {len(faults) - num_shown} more" if len(faults) > num_shown else ""
        how = "BOX_CONVENTION" if competition.has_boxes else "CONVENTION"
        count = "1 problem" if len(faults) == 1 else f"{len(faults)} problems"
        raise UserError(
            f"{path} cannot be submitted to {competition.name}: {count}\n{table}{rest}\n"
            f"It was checked against the test images and SUBMISSION, {how} and SAMPLE_SUBMISSION in "
            f"{descriptor(competition.name)}."
        )
    return problems


def find_hints(path: Path, competition: Competition, sizes: Sizes, skipped: Iterable[str] = ()) -> list[str]:
    """Returns, as warnings, what suggests that a file was written in another way than it is read.

    There are none on a file of our own, which was compared with its predictions when it was written. The images
    `skipped` are not read.
    """
    if is_own(path):
        return []
    form = format_of_file(path, competition)
    masks = form.read(path, competition, submitted_sizes(competition, sizes), skipped)
    hints = form.hints(masks, competition)
    return [f"{WARNING}{path}: {hint}" for hint in hints]
