"""Masks in a zip, a file per image: written, read back into index masks, and checked by file.

In: index masks, or a zip, and the competition's SUBMISSION. Out: a zip of the files of `mask_files.py`, grey or RGB, or
index masks (uint8, H, W). A pixel of no class is stored as the ignored class or value, and read as `IGNORE`.

`kind` is always the name of the format.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.config.competition import IGNORE, Competition
from pipeline.config.mask_code import MaskCode, submission_code
from pipeline.config.template import fill_template, id_values, name_pattern
from pipeline.data.image_files import id_of
from pipeline.data.problems import Problem, make_problem
from pipeline.errors import UserError
from pipeline.files import DAMAGED_ARCHIVE
from pipeline.paths import descriptor
from pipeline.segmentation.inspect_mask import listed
from pipeline.segmentation.labels import UNKNOWN, class_indices, digest_classes, keep_classes, require_size
from pipeline.segmentation.submission.mask_files import KINDS, MaskFileError
from pipeline.submission.file import WARNING, Sizes
from pipeline.wording import similar_name

PNG = "png_masks"
FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest in a zip; a fixed one, so that the same masks give the same file
_ORDINARY_FILE = 0o100644 << 16
_MAX_SUGGESTIONS = 20  # finding a similar name is slow; a zip with more unknown names has one common cause


def _template(competition: Competition, kind: str) -> str:
    """Returns SUBMISSION.FILE, or its default."""
    own = competition.submission
    return own.file if own.file and own.format in (kind, "run_lengths") else f"{{id}}{KINDS[kind].suffix}"


def _file_of(image_id: str, competition: Competition, kind: str) -> str:
    """Returns the name of an image's mask in the zip."""
    return fill_template(_template(competition, kind), id_values(image_id, competition.id_format) or {})


def encode(
    image_id: str, mask_HW: np.ndarray, size: tuple[int, int], competition: Competition, kind: str = PNG
) -> bytes:
    """Returns an index mask as a file.

    Raises:
        UserError: it is not of that (height, width), or has pixels of no class and the competition ignores none.
    """
    require_size(image_id, mask_HW, size)
    mask_HW = keep_classes(mask_HW, range(competition.num_classes))  # an ignored class is stored as ignored
    table, is_known = _stored_values(submission_code(competition))
    if not is_known[mask_HW].all():
        raise UserError(
            f"the mask of {image_id} has pixels of no class, for which the masks of a submission have no value; give "
            f"IGNORE_INDEX in {descriptor(competition.name)}"
        )
    return KINDS[kind].encode(table[mask_HW].squeeze(-1) if table.shape[1] == 1 else table[mask_HW])


def write(path: Path, images: Iterable[tuple[str, bytes]], competition: Competition, kind: str = PNG) -> None:
    """Writes a zip of one file per image.

    Raises:
        UserError: SUBMISSION.FILE gives two images one name.
    """
    names: set[str] = set()
    with zipfile.ZipFile(path, "w") as zipped:
        for image_id, data in images:
            entry = zipfile.ZipInfo(_file_of(image_id, competition, kind), FIRST_DATE)
            entry.compress_type = KINDS[kind].packing
            entry.create_system, entry.external_attr = 3, _ORDINARY_FILE  # 3: Unix, on every system
            if entry.filename in names:
                raise UserError(
                    f"SUBMISSION.FILE {_template(competition, kind)!r} calls two images {entry.filename}; "
                    "write {id} instead of {stem}"
                )
            names.add(entry.filename)
            zipped.writestr(entry, data)


def digest(mask_HW: np.ndarray, competition: Competition, kind: str = PNG) -> bytes:
    """Returns a hash of what a file holds of an index mask."""
    return digest_classes(mask_HW, range(competition.num_classes))


def read(
    path: Path, competition: Competition, sizes: Sizes, skipped: Iterable[str] = (), kind: str = PNG
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields id and index mask of each image that the zip has, in the order of `sizes`.

    Args:
        sizes: (height, width) of each image.
        skipped: images whose masks are not read.

    Raises:
        UserError: a file belongs to no image in `sizes`, appears twice, or is not a mask of that size.
    """
    code = submission_code(competition)
    expected = {_file_of(image_id, competition, kind) for image_id in [*sizes, *skipped]}
    with _open_zip(path, kind) as zipped:
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in _files_in(zipped):
            if entry.filename not in expected:
                raise UserError(
                    f"{path}: {entry.filename} belongs to none of the {len(sizes)} images of {competition.name}; "
                    f"expected files such as {next(iter(expected), 'none')}. Is it a submission to another competition?"
                )
            if entry.filename in entries:
                raise UserError(f"{path}: {entry.filename} appears twice")
            entries[entry.filename] = entry
        for image_id, size in sizes.items():
            entry = entries.get(_file_of(image_id, competition, kind))
            if entry is not None:
                try:
                    yield image_id, _decode_file(zipped, entry, size, code, kind)
                except MaskFileError as error:
                    raise UserError(f"{path}: {entry.filename}: {error}") from error


def list_ids(path: Path, competition: Competition, kind: str = PNG) -> list[str]:
    """Returns the images that a zip has masks of, in its order; with {stem}, ids without a file's suffix.

    Raises:
        UserError: the zip cannot be read, is empty, or a name in it does not match SUBMISSION.FILE.
    """
    pattern = name_pattern(_template(competition, kind), {})
    with _open_zip(path, kind) as zipped:
        names = [entry.filename for entry in _files_in(zipped)]
    matches = {name: pattern.fullmatch(name) for name in names}
    strange = next((name for name, match in matches.items() if match is None), None)
    if strange or not names:
        found = f"the name {strange} does not match SUBMISSION.FILE" if strange else "no files"
        raise UserError(
            f"{path}: {found}; expected files such as {_file_of('<id>', competition, kind)}. "
            f"It is read as a submission to {competition.name}."
        )
    return [id_of(match.groupdict(), competition.id_format) for match in matches.values()]


def check(path: Path, competition: Competition, sizes: Sizes, sample_path: Path | None, kind: str = PNG) -> list[str]:
    """Returns what is wrong with a zip, see `Format`."""
    by_name = {_file_of(image_id, competition, kind): size for image_id, size in sizes.items()}
    try:
        with _open_zip(path, kind) as zipped:
            entries, problems = _match_names(_files_in(zipped), by_name)
            problems += _check_masks(zipped, entries, by_name, competition, kind)
    except UserError as error:
        return [str(error)]
    if sample_path is not None:
        problems += _sample_problems(sample_path, by_name, competition, kind)
    return problems


def check_sample(competition: Competition, path: Path, test_ids: set[str], kind: str = PNG) -> list[Problem]:
    """Returns what is wrong with the sample submission: not a zip, or files that belong to no test image."""
    file = path.name
    known = {_file_of(image_id, competition, kind) for image_id in test_ids}
    try:
        with _open_zip(path, kind) as zipped:
            names = [entry.filename for entry in _files_in(zipped)]
    except UserError as error:
        return [make_problem("sample not a zip", file, str(error), competition=competition.name)]
    example = min(known, default="none")
    facts = {"example": example, "competition": competition.name}
    return [make_problem("sample file unknown", file, name, **facts) for name in names if known and name not in known]


def _open_zip(path: Path, kind: str) -> zipfile.ZipFile:
    """Returns an open zip.

    Raises:
        UserError: there is no such file, or it is not a complete zip.
    """
    try:
        return zipfile.ZipFile(path)
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{path} is not a whole zip: {error}; expected {KINDS[kind].what}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; expected {KINDS[kind].what}") from error


def _files_in(zipped: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Returns the files in a zip, in its order."""
    return [entry for entry in zipped.infolist() if not entry.filename.endswith("/")]


def _decode_file(
    zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, size: tuple[int, int], code: MaskCode, kind: str
) -> np.ndarray:
    """Returns a file in a zip as index mask.

    Raises:
        MaskFileError: it is damaged, of another kind or (height, width), or has values of no class.
    """
    KINDS[kind].check_size(entry.file_size, size)
    try:
        data = zipped.read(entry)
    except (*DAMAGED_ARCHIVE, OSError) as error:
        raise MaskFileError(f"cannot be unpacked: {error}") from error
    stored = KINDS[kind].read(data, code, size)
    mask_HW = class_indices(stored, code)
    if (mask_HW == UNKNOWN).any():
        raise MaskFileError(_strange_values(stored[mask_HW == UNKNOWN], code))
    return mask_HW


def _strange_values(pixels: np.ndarray, code: MaskCode) -> str:
    """Returns the message about stored pixels of no class: grey values of shape N, or BGR of shape N, 3."""
    strange = listed(np.unique(pixels if pixels.ndim == 1 else pixels[:, ::-1], axis=0).tolist())
    what = "colours" if code.colors else "values"
    return f"{what} {strange} in {len(pixels):,} pixels; expected {what} of the classes, see SUBMISSION.VALUES"


def _stored_values(code: MaskCode) -> tuple[np.ndarray, np.ndarray]:
    """Returns what to store for each value of an index mask, uint8 (256, 1 or 3: BGR), and whether there is a value."""
    if code.colors:
        ignored = [] if code.ignored_color is None else [(IGNORE, code.colors[code.ignored_color][::-1])]
        stored = [*((index, color[::-1]) for index, color in enumerate(code.colors)), *ignored]
    else:
        stored = [(index, (value,)) for value, index in code.values.items()]
    table, is_known = np.zeros((256, len(stored[0][1])), np.uint8), np.zeros(256, bool)
    for index, value in stored:
        table[index], is_known[index] = value, True
    return table, is_known


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
            hint = similar_name(name, by_name) if num_unknown <= _MAX_SUGGESTIONS else ""
            problems.append(f"{name or 'a file without a name'}: no test image has a mask of this name{hint}")
    missing = [name for name in by_name if name not in matched]
    if missing and not matched:
        return matched, [*problems, f"all {len(missing)} masks are missing, from {missing[0]} on"]
    return matched, problems + [f"{name}: missing" for name in missing]


def _check_masks(
    zipped: zipfile.ZipFile,
    entries: Mapping[str, zipfile.ZipInfo],
    by_name: Sizes,
    competition: Competition,
    kind: str,
) -> Iterator[str]:
    """Yields which masks cannot be read, and whether all pixels of all images are of one class."""
    code, num_faults = submission_code(competition), 0
    values: set[int] = set()
    for name, entry in entries.items():
        try:
            values.update(np.unique(_decode_file(zipped, entry, by_name[name], code, kind)).tolist())
        except MaskFileError as error:
            num_faults += 1
            yield f"{name}: {error}"
    if len(values) == 1 and not num_faults:
        (value,) = values
        yield (f"{WARNING}every pixel of every image is {'ignored' if value == IGNORE else competition.classes[value]}")


def _sample_problems(sample_path: Path, by_name: Sizes, competition: Competition, kind: str) -> Iterator[str]:
    """Yields where the competition's own sample contradicts SUBMISSION.

    A sample may be shorter than the test list, so files that it lacks are a warning, and so is one that cannot be read.
    """
    try:
        with _open_zip(sample_path, kind) as zipped:
            entries = {entry.filename: entry for entry in _files_in(zipped)}
            name = next((name for name in entries if name in by_name), None)
            if name is not None:
                _decode_file(zipped, entries[name], by_name[name], submission_code(competition), kind)
    except MaskFileError as error:
        yield f"{WARNING}{sample_path.name} is of another kind: {name}: {error}"
    except UserError as error:
        yield f"{WARNING}not compared with the sample submission: {error}"
        return
    more, fewer = [name for name in entries if name not in by_name], [name for name in by_name if name not in entries]
    if more:
        yield f"{sample_path.name}: {len(more)} files are of no test image, such as {more[0]}"
    if fewer:
        yield f"{WARNING}{sample_path.name} lacks {len(fewer)} of {len(by_name)} masks, such as {fewer[0]}"
