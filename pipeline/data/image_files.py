"""The files of images and masks by id, and the ids of the files in a folder, for the templates of a descriptor."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, TypeVar

from pipeline.config.template import (
    CLASS,
    FIELD,
    Values,
    expand_ranges,
    fill_template,
    has_wildcard,
    id_parses,
    name_pattern,
)

JOIN = "|"  # between the files of one label in a cell of the catalog


class _Entry(NamedTuple):
    name: str
    is_folder: bool


Named = TypeVar("Named", bound=tuple)
Match = tuple[str, dict[str, str]]  # a file relative to the competition's folder, and what its fields stand for


def ids_of(folder: Path, template: str, id_format: str | None) -> list[str]:
    """Returns the ids of all files that fit a template, each once, in the order of the files.

    Where the name alone does not say where an id ends, as with `{id}_*.png`, it ends as soon as it can.
    """
    first = expand_ranges(template)[0]
    found = _scan(str(folder), "", first.split("/"), {}, _entries)
    return list(dict.fromkeys(id_of(values, id_format) for _, values in found))


def id_of(values: Values, id_format: str | None) -> str:
    """Returns the id that a name's fields give: by ID_FORMAT where the name has all of its parts.

    >>> id_of({"id": "c1_d2.png"}, "{case}_{day}.png"), id_of({"case": "c1", "day": "d2"}, "{case}_{day}.png")
    ('c1_d2.png', 'c1_d2.png')
    """
    if id_format and values.keys() >= set(FIELD.findall(id_format)):
        return fill_template(id_format, values)
    return values.get("id") or values.get("stem", "")


class Files:
    """Finds the files of images by id. A folder that is searched is listed once.

    Args:
        folder: the competition's.
        templates: one or more; an image's files are those of the first template, then those of the next.
        id_format: the descriptor's ID_FORMAT.
    """

    def __init__(self, folder: Path, templates: Sequence[str], id_format: str | None = None):
        self.folder, self.id_format = folder, id_format
        self.templates = [one for template in templates for one in expand_ranges(template)]
        self._listed: dict[str, list[_Entry]] = {}
        self._below: dict[str, list[tuple[str, str]]] = {}

    def of(self, image_id: str) -> list[tuple[str, str]]:
        """Returns (file, class) of each file of an image; class "" where no template names one.

        A template without a wildcard gives its file whether it is there or not; one with a wildcard gives the files
        that are there, or none.
        """
        return [file for found in self.of_each(image_id) for file in found]

    def of_each(self, image_id: str) -> list[list[tuple[str, str]]]:
        """Returns what `of` does, in a list for each of `templates`."""
        values = self.values_of(image_id)
        if values is None:
            return [[] for _ in self.templates]
        return [self._find(template, values) for template in self.templates]

    def values_of(self, image_id: str) -> dict[str, str] | None:
        """Returns what stands for each field of an image's templates; None where the id does not fit ID_FORMAT.

        Where it can be read in several ways, as `kidney_1_dense_0000` by `{kidney}_{slice}`, that one is taken whose
        files are there, or of which most folders are.
        """
        parses = id_parses(image_id, self.id_format)
        return max(parses, key=self._depth) if len(parses) > 1 else next(iter(parses), None)

    def _depth(self, values: dict[str, str]) -> int:
        """Returns how many parts of the path of an image's first file are there."""
        if has_wildcard(self.templates[0]) and self._find(self.templates[0], values):
            return self.templates[0].count("/") + 1
        parts = fill_template(self.templates[0], values).split("/")
        paths = ("/".join([str(self.folder), *parts[: num + 1]]) for num in range(len(parts)))
        return sum(1 for _ in takewhile(os.path.lexists, paths))

    def _find(self, template: str, values: dict[str, str]) -> list[tuple[str, str]]:
        if not has_wildcard(template):
            return [(fill_template(template, values), "")]
        parts, known = [], dict(values)
        for part in template.split("/"):
            for name in FIELD.findall(part):
                *above, last = values.get(name, "").split("/")  # an id may begin with folders
                for one in above:
                    if set(one) & set("{}*"):  # text of an id, not a field of the template
                        own = "_" * (1 + max(map(len, known)))  # a field that there is not yet
                        known[own], one = one, f"{{{own}}}"
                    parts.append(one)
                if above:
                    known[name] = last
            parts.append(part)
        *folders, last = parts
        if any("*" in part for part in folders) and not any(FIELD.search(part) for part in folders):
            return self._find_below("/".join(folders), last, known)
        return [(file, own.get(CLASS, "")) for file, own in _scan(str(self.folder), "", parts, known, self._entries)]

    def _find_below(self, folders: str, name: str, values: dict[str, str]) -> list[tuple[str, str]]:
        """Returns what `_find` does where any of many folders may hold the files: these are walked once."""
        if folders not in self._below:
            found = _scan(str(self.folder), "", [*folders.split("/"), "*"], {}, self._entries)
            self._below[folders] = sorted((file.rpartition("/")[2], file) for file, _ in found)
        pattern = name_pattern(name, values)
        named = _beginning(self._below[folders], fill_template(name, values))
        matches = ((file, pattern.fullmatch(own)) for own, file in named)
        return sorted((file, match.groupdict().get(CLASS, "")) for file, match in matches if match)

    def _entries(self, folder: str) -> list[_Entry]:
        if folder not in self._listed:
            self._listed[folder] = _entries(folder)
        return self._listed[folder]


def label_files(cell: str | None) -> list[str]:
    """Returns the files of a catalog's cell of labels; none where there is no label."""
    return cell.split(JOIN) if cell else []


def _scan(
    folder: str, parent: str, parts: list[str], values: dict[str, str], list_folder: Callable[[str], list[_Entry]]
) -> Iterator[Match]:
    """Yields every file below `folder`/`parent` that fits the parts of a template, sorted.

    Only folders that can hold a match are listed. A field of `values` stands for its value alone.
    """
    here = f"{folder}/{parent}" if parent else folder
    head, *rest = parts
    if head == "**":
        yield from _scan(folder, parent, rest, values, list_folder)
        for entry in list_folder(here):
            if entry.is_folder:
                yield from _scan(folder, _join(parent, entry.name), parts, values, list_folder)
        return
    filled = fill_template(head, values)
    if not FIELD.search(filled) and "*" not in filled:
        matches = [(filled, values)] if os.path.lexists(f"{here}/{filled}") else []
    else:
        pattern = name_pattern(head, values)
        found = ((entry.name, pattern.fullmatch(entry.name)) for entry in _beginning(list_folder(here), filled))
        matches = [(name, values | match.groupdict()) for name, match in found if match]
    for name, known in matches:
        path = _join(parent, name)
        if rest:
            yield from _scan(folder, path, rest, known, list_folder)
        elif not os.path.isdir(f"{here}/{name}"):
            yield path, known


def _beginning(sorted_entries: list[Named], pattern: str) -> Iterator[Named]:
    """Yields the entries whose name, their first value, begins as `pattern` does before its first wildcard or field."""
    start = min((pattern.find(mark) for mark in "*{" if mark in pattern), default=len(pattern))
    prefix = pattern[:start]
    index = bisect_left(sorted_entries, (prefix,))
    while index < len(sorted_entries) and sorted_entries[index][0].startswith(prefix):
        yield sorted_entries[index]
        index += 1


def _entries(folder: str) -> list[_Entry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(_Entry(entry.name, _is_folder(entry)) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # Of a link that leads to itself, `entry.is_dir()` raises.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir(follow_symlinks=False)


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name
