"""File templates of a descriptor: `train/{case}/{id}_*.png`; which ids, files and fields go together.

A template is a path below the competition's folder. `{id}` is the image's id, `{stem}` the id without a file suffix,
`{class}` the class of a mask file; any other `{word}` is a part of the id, see `id_fields`. `*` matches anything inside
one folder or file name, `**` any number of folders, `{00..64}` stands for the numbers from 00 to 64.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

FIELD = re.compile(r"\{([A-Za-z_]+)\}")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
SUFFIX = re.compile(r"(?<=.)\.[A-Za-z]{3,4}$")  # a file suffix at the end of an id
CLASS = "class"
VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")  # files of all slices of a scan
POLYGONS = (".json", ".jsonl", ".geojson", ".xml", ".svg")  # files of outlines
CONVERT = "`Polygons and volumes` in docs/competitions.md has the lines that do it"

Values = Mapping[str, str]  # what stands for each field


def template_problem(template: str, id_format: str | None) -> str | None:
    """Returns what is wrong with a template, or None; `id_format` is the descriptor's ID_FORMAT."""
    known = {"id", "stem", CLASS, *(FIELD.findall(id_format) if id_format else ())}
    names = set(FIELD.findall(template))
    if set("{}") & set(RANGE.sub("", FIELD.sub("", template))) or not names - {CLASS}:
        return f"found {template!r}, expected a path with {{id}} in place of the image's id"
    if unknown := sorted(names - known):
        return (
            f"{{{unknown[0]}}} is no part of ID_FORMAT; expected {', '.join(f'{{{name}}}' for name in sorted(known))}"
        )
    if template.startswith("/") or ".." in template.split("/"):
        return f"found {template!r}, expected a path inside the competition's folder"
    return kind_problem(template)


def kind_problem(file: str) -> str | None:
    """Returns why a file of that name is neither an image nor a mask that is read, and what to do; None if it may be.

    >>> kind_problem("labelsTr/{id}.nii.gz").partition(";")[0], kind_problem("masks/{id}.png")
    ("found 'labelsTr/{id}.nii.gz', a file of a whole volume, which is not read", None)
    """
    name = file.lower()
    if name.endswith(VOLUMES):
        why = "a file of a whole volume, which is not read; save each slice as an npy file or a PNG"
        return f"found {file!r}, {why}: {CONVERT}"
    if name.endswith(POLYGONS):
        return f"found {file!r}, a file of polygons, which is not read; draw them into PNGs once: {CONVERT}"
    return None


def expand_ranges(template: str) -> list[str]:
    """Returns the templates that a template with number ranges stands for.

    >>> expand_ranges("{id}/{08..11}.tif")
    ['{id}/08.tif', '{id}/09.tif', '{id}/10.tif', '{id}/11.tif']
    """
    match = RANGE.search(template)
    if match is None:
        return [template]
    first, last = match.groups()
    before, behind = template[: match.start()], template[match.end() :]
    numbers = range(int(first), int(last) + 1)
    return [one for number in numbers for one in expand_ranges(f"{before}{number:0{len(first)}}{behind}")]


def has_wildcard(template: str) -> bool:
    """Returns whether a file has to be searched for: the id alone does not name it."""
    return "*" in template or f"{{{CLASS}}}" in template


def fill_template(template: str, values: Values) -> str:
    """Returns a template with its fields filled in; a field without a value stays.

    >>> fill_template("masks/{stem}.png", id_values("0001.jpg")), fill_template("masks/{id}", id_values("0001.jpg"))
    ('masks/0001.png', 'masks/0001.jpg')
    """
    before, *fields = _pieces(template)
    return before + "".join([values.get(name, f"{{{name}}}") + text for name, text in fields]) if fields else before


@lru_cache(maxsize=64)  # of a competition's few templates, each is filled in for every image
def _pieces(template: str) -> tuple:
    """Returns the text before the first field, then (name, text behind it) of each field."""
    before, *rest = FIELD.split(template)
    return before, *zip(rest[::2], rest[1::2], strict=True)


def any_file(template: str) -> str:
    """Returns the glob pattern that matches the file of every image.

    >>> any_file("train/{id}/image_{00..64}.png")
    'train/*/image_*.png'
    """
    return FIELD.sub("*", RANGE.sub("*", "**".join(map(_escape, template.split("**")))))


def below_folders(template: str) -> str:
    """Returns a template without the folders that are the same for every image.

    >>> below_folders("test/{id}/layers/{08..09}.png"), below_folders("imgs/{id}.jpg")
    ('{id}/layers/{08..09}.png', '{id}.jpg')
    """
    *folders, name = template.split("/")
    while folders and not FIELD.search(folders[0]) and "*" not in folders[0]:
        del folders[0]
    return "/".join([*folders, name])


def id_values(image_id: str, id_format: str | None = None) -> dict[str, str] | None:
    """Returns what stands for each field of an image's templates, or None where the id does not fit the format.

    >>> id_values("case2_day0.png", "{case}_{day}.png")
    {'id': 'case2_day0.png', 'stem': 'case2_day0', 'case': 'case2', 'day': 'day0'}
    """
    values = {"id": image_id, "stem": SUFFIX.sub("", image_id) if "." in image_id else image_id}
    if id_format is None:
        return values
    match = name_pattern(id_format, {}).fullmatch(image_id)
    return values | match.groupdict() if match else None


def id_parses(image_id: str, id_format: str | None) -> list[dict[str, str]]:
    """Returns every way to read an id by its format: what stands for each field; first that of `id_values`.

    >>> [parse["kidney"] for parse in id_parses("kidney_1_dense_0000", "{kidney}_{slice}")]
    ['kidney', 'kidney_1', 'kidney_1_dense']
    """
    plain = id_values(image_id)
    if id_format is None:
        return [plain]
    before, *rest = FIELD.split(id_format)
    fields = tuple(zip(rest[::2], rest[1::2], strict=True))
    if not fields:
        return [plain] if image_id == id_format else []
    return [plain | found for found in _parses(image_id[len(before) :], fields, {})] * image_id.startswith(before)


def _parses(text: str, fields: Sequence[tuple[str, str]], known: dict[str, str]) -> Iterator[dict[str, str]]:
    """Yields what fields stand for in a text, each with what stands behind it; a field has at least one character."""
    (name, behind), *left = fields
    ends = [len(text) - len(behind)] if not left else _places(text, behind)
    for end in ends:
        value = text[:end]
        if end < 1 or not text[end:].startswith(behind) or known.get(name, value) != value:
            continue
        found = {**known, name: value}
        if left:
            yield from _parses(text[end + len(behind) :], left, found)
        else:
            yield found


def _places(text: str, part: str) -> Iterator[int]:
    place = text.find(part, 1)
    while 0 <= place <= len(text):
        yield place
        place = text.find(part, place + 1)


def name_pattern(text: str, values: Values) -> re.Pattern[str]:
    """Returns the expression that a name must match; a field that stands twice must be the same both times.

    A number that `values` gives ends where it ends: with id 1, `{id}*.png` is 1.png and 1_a.png, but not 10.png.
    """
    parts, seen, after_number = [], set(), False
    for piece in re.split(r"(\{[A-Za-z_]+\}|\*)", text):
        name = piece[1:-1] if FIELD.fullmatch(piece) else None
        if piece == "*":
            parts.append("(?![0-9]).*" if after_number else ".*")
        elif name is None:
            parts.append(re.escape(piece))
        elif name in values:
            parts.append(re.escape(values[name]))
        else:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>.+?)")
            seen.add(name)
        if piece:
            after_number = name in values and values[name][-1:].isdigit()
    return re.compile("".join(parts))


def _escape(text: str) -> str:
    return "*".join(glob.escape(piece) for piece in text.split("*"))
