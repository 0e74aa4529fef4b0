"""The files of images and masks by id, and the ids of the files in a folder, for the templates of a descriptor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.config.template import (
    CLASS,
    FIELD,
    expand_ranges,
    fill_template,
    has_wildcard,
    id_values,
    name_pattern,
)

JOIN = "|"  # between the files of one label in a cell of the catalog


def scan(folder: Path, template: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields (file relative to `folder`, values of the fields) of every file that fits a template, sorted.

    Only folders that can hold a match are listed.
    """
    yield from _scan(str(folder), "", template.split("/"), {})


def ids_of(folder: Path, template: str, id_format: str | None) -> list[str]:
    """Returns the ids of all files that fit a template, each once, in the order of the files."""
    name = id_format or ("{id}" if "{id}" in template else "{stem}")
    return list(dict.fromkeys(fill_template(name, values) for _, values in scan(folder, template)))


class Files:
    """Finds the files of images by id. A template that searches is matched with the whole folder once.

    Args:
        folder: the competition's.
        templates: one or more; an image's files are those of the first template, then those of the next.
        id_format: the descriptor's ID_FORMAT.
    """

    def __init__(self, folder: Path, templates: Sequence[str], id_format: str | None = None):
        self.folder, self.id_format = folder, id_format
        self.templates = [one for template in templates for one in expand_ranges(template)]
        self._found: dict[str, dict[tuple[str, ...], list[tuple[str, str]]]] = {}

    def of(self, image_id: str) -> list[tuple[str, str]]:
        """Returns (file, class) of each file of an image; class "" where no template names one.

        A template without a wildcard gives its file whether it is there or not; one with a wildcard gives the files
        that are there, or none.
        """
        values = id_values(image_id, self.id_format)
        if values is None:
            return []
        files: list[tuple[str, str]] = []
        for template in self.templates:
            if has_wildcard(template):
                key = tuple(values.get(name, "") for name in _id_fields(template))
                files += self._index(template).get(key, [])
            else:
                files.append((fill_template(template, values), ""))
        return files

    def _index(self, template: str) -> dict[tuple[str, ...], list[tuple[str, str]]]:
        if template not in self._found:
            index: dict[tuple[str, ...], list[tuple[str, str]]] = {}
            for file, values in scan(self.folder, template):
                key = tuple(values[name] for name in _id_fields(template))
                index.setdefault(key, []).append((file, values.get(CLASS, "")))
            self._found[template] = index
        return self._found[template]


def label_files(cell: str | None) -> list[str]:
    """Returns the files of a catalog's cell of labels; none where there is no label."""
    return cell.split(JOIN) if cell else []


def _id_fields(template: str) -> list[str]:
    return [name for name in dict.fromkeys(FIELD.findall(template)) if name != CLASS]


def _scan(folder: str, parent: str, parts: list[str], values: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    here = f"{folder}/{parent}" if parent else folder
    head, *rest = parts
    if head == "**":
        yield from _scan(folder, parent, rest, values)
        for entry in _entries(here):
            if entry.is_dir():
                yield from _scan(folder, _join(parent, entry.name), parts, values)
        return
    filled = fill_template(head, values)
    if not FIELD.search(filled) and "*" not in filled:
        matches = [(filled, values)] if os.path.lexists(f"{here}/{filled}") else []
    else:
        pattern = name_pattern(head, values)
        found = ((entry.name, pattern.fullmatch(entry.name)) for entry in _entries(here))
        matches = [(name, values | match.groupdict()) for name, match in found if match]
    for name, known in matches:
        path = _join(parent, name)
        if rest:
            yield from _scan(folder, path, rest, known)
        elif not os.path.isdir(f"{here}/{name}"):
            yield path, known


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name
