"""The check of PNG masks in a zip, by file: missing, unknown and double names, and masks of another size or kind."""

from __future__ import annotations

import difflib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.config.competition import IGNORE, Competition, submission_code
from pipeline.data.problems import Problem, make_problem
from pipeline.errors import UserError
from pipeline.segmentation.submission.png_masks import PngError, decode_file, file_of, files_in, open_zip
from pipeline.submission.check import WARNING

Sizes = Mapping[str, tuple[int, int]]
_MAX_SUGGESTIONS = 20  # finding a similar name is slow; a zip with more unknown names has one common cause


def check(path: Path, competition: Competition, sizes: Sizes, sample_path: Path | None) -> list[str]:
    """Returns what is wrong with a zip, see `check.py`."""
    by_name = {file_of(image_id, competition): size for image_id, size in sizes.items()}
    try:
        with open_zip(path) as zipped:
            entries, problems = _match_names(files_in(zipped), by_name)
            problems += _check_masks(zipped, entries, by_name, competition)
    except UserError as error:
        return [str(error)]
    if sample_path is not None:
        problems += _sample_problems(sample_path, by_name, competition)
    return problems


def check_sample(competition: Competition, path: Path, test_ids: set[str]) -> list[Problem]:
    """Returns what is wrong with the sample submission: no zip, or files of no test image."""
    file = path.name
    known = {file_of(image_id, competition) for image_id in test_ids}
    try:
        with open_zip(path) as zipped:
            names = [entry.filename for entry in files_in(zipped)]
    except UserError as error:
        return [make_problem("sample not a zip", file, str(error), competition=competition.name)]
    example = min(known, default="none")
    facts = {"example": example, "competition": competition.name}
    return [make_problem("sample file unknown", file, name, **facts) for name in names if known and name not in known]


def _match_names(entries: Sequence[zipfile.ZipInfo], by_name: Sizes) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """Returns the first file of each test image, and what is wrong with the names of all others."""
    matched: dict[str, zipfile.ZipInfo] = {}
    problems = []
    num_unknown = 0
    for entry in entries:
        name = entry.filename
        if name in matched:
            problems.append(f"{name}: the file is there twice")
        elif name in by_name:
            matched[name] = entry
        else:
            num_unknown += 1
            similar = difflib.get_close_matches(name, by_name, n=1) if num_unknown <= _MAX_SUGGESTIONS else []
            hint = f"; did you mean {similar[0]}?" if similar else ""
            problems.append(f"{name}: no test image has a mask of this name{hint}")
    missing = [name for name in by_name if name not in matched]
    if missing and not matched:
        return matched, [*problems, f"all {len(missing)} masks are missing, from {missing[0]} on"]
    return matched, problems + [f"{name}: missing" for name in missing]


def _check_masks(
    zipped: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], by_name: Sizes, competition: Competition
) -> Iterator[str]:
    """Yields which masks cannot be read, and whether all pixels of all images are of one class."""
    code, num_faults = submission_code(competition), 0
    values: set[int] = set()
    for name, entry in entries.items():
        try:
            values.update(np.unique(decode_file(zipped, entry, by_name[name], code)).tolist())
        except PngError as error:
            num_faults += 1
            yield f"{name}: {error}"
    if len(values) == 1 and not num_faults:
        (value,) = values
        yield (f"{WARNING}every pixel of every image is {'ignored' if value == IGNORE else competition.classes[value]}")


def _sample_problems(sample_path: Path, by_name: Sizes, competition: Competition) -> Iterator[str]:
    """Yields where the competition's own sample contradicts SUBMISSION.

    A sample may be shorter than the test list, so files that it lacks are a warning, and so is one that cannot be read.
    """
    try:
        with open_zip(sample_path) as zipped:
            entries = {entry.filename: entry for entry in files_in(zipped)}
            name = next((name for name in entries if name in by_name), None)
            if name is not None:
                decode_file(zipped, entries[name], by_name[name], submission_code(competition))
    except PngError as error:
        yield f"{WARNING}{sample_path.name} is of another kind: {name}: {error}"
    except UserError as error:
        yield f"{WARNING}not compared with the sample submission: {error}"
        return
    more, fewer = [name for name in entries if name not in by_name], [name for name in by_name if name not in entries]
    if more:
        yield f"{sample_path.name}: {len(more)} files are of no test image, such as {more[0]}"
    if fewer:
        yield f"{WARNING}{sample_path.name} lacks {len(fewer)} of {len(by_name)} masks, such as {fewer[0]}"
