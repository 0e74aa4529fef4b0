"""How lists call the images of an unknown folder: by stem, file name or parts of the path.

In: the family of the images, and lists. Out: `Ids`, which gives the id of a file and the template of a family.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from pipeline.config.template import FIELD, fill_template
from pipeline.data.discovery.families import Family, Found
from pipeline.data.discovery.names import SEPARATORS
from pipeline.data.discovery.sizes import spread

NUM_TRIED = 40  # files whose path is compared with the lists
NUMBER = "number"


@dataclass(frozen=True)
class Ids:
    """How images are called.

    Attributes:
        images: their family.
        form: `key`: what differs between the names; `name`: the file's name with its suffix; `parts`: see `id_format`.
        id_format: the descriptor's ID_FORMAT.
        folder_format: its part that is the name of the last folder `*`.
        before, behind: of the file's name, what stands before the number in the id, and the template of what follows.
    """

    images: Family
    form: Literal["key", "name", "parts"] = "key"
    id_format: str | None = None
    folder_format: str = ""
    before: str = ""
    behind: str = ""

    def id_of(self, file: Found) -> str:
        """Returns the id of an image."""
        if self.form == "parts":
            number = _number_of(file.stem, self.before, self.behind)
            before, _, behind = self.id_format.partition(self.folder_format)
            fill = {NUMBER: number}
            return f"{fill_template(before, fill)}{file.folders[-1]}{fill_template(behind, fill)}"
        return file.name if self.form == "name" else self.images.key(file)

    def ids(self, *subsets: str) -> dict[str, Found]:
        """Returns the images of some subsets, or all, by id, in the order of their files."""
        return {self.id_of(file): file for file in self.images.files if not subsets or file.subset in subsets}

    def template(self, family: Family, subset: str | None) -> str:
        """Returns the template of the files of a family; `subset` None: of all."""
        if self.form == "key":
            return family.template(subset)
        if self.form == "name":
            is_image = family.suffix == self.images.suffix and family is self.images
            return family.template(subset, "{id}" if is_image else "{stem}", with_suffix=not is_image)
        path = PurePosixPath(family.template(subset, "{id}"))
        behind = self.behind if family is self.images else family.tail
        parts = list(path.parts[:-1])
        last = len(parts) - 1 - parts[::-1].index("*")
        first_field = FIELD.search(self.folder_format)[0]
        same = last > 0 and all(
            file.folders[-1].startswith(file.folders[-2]) for file in family.files[:NUM_TRIED] if len(file.folders) > 1
        )
        parts[last] = self.folder_format
        if last and parts[last - 1] == "*" and same and first_field != self.folder_format:
            parts[last - 1] = first_field
        return "/".join([*parts, f"{family.head}{self.before}{{{NUMBER}}}{behind}{family.suffix}"])


def find_ids(images: Family, known: Collection[str]) -> Ids:
    """Returns how the images are called, by the words of the lists; without these by what differs between the names."""
    tried = spread(images.files, NUM_TRIED)
    is_whole_name = images.fixed is None and not images.head and not images.tail
    if is_whole_name and any(file.name in known for file in tried):
        return Ids(images, "name")
    if any(images.key(file) in known for file in tried):
        return Ids(images)
    if "*" not in images.parts or images.fixed is not None:
        return Ids(images)
    by_parts = _find_parts(images, tried, known)
    if by_parts:
        return by_parts
    is_twice = max(Counter((file.subset, images.key(file)) for file in images.files).values()) > 1
    return (
        _parts(images, "_", images.files[0].stem, len(images.files[0].stem)) or Ids(images) if is_twice else Ids(images)
    )


def training_ids(ids: Ids) -> set[str]:
    """Returns the ids of the images that may be labelled: those of no test folder, or all."""
    return set(ids.ids("", "train", "valid")) or all_ids(ids)


def all_ids(ids: Ids) -> set[str]:
    """Returns the ids of all images."""
    return set(ids.ids())


def _find_parts(images: Family, files: Sequence[Found], known: Collection[str]) -> Ids | None:
    """Returns the ids that are a folder's name and the beginning of a file's: `case2_day0_slice_0001`."""
    for file in files:
        ends = [match.start() for match in re.finditer(r"[_\-. ]", file.stem)] + [len(file.stem)]
        for separator in SEPARATORS:
            for end in ends[::-1]:
                if f"{file.folders[-1]}{separator}{file.stem[:end]}" in known:
                    return _parts(images, separator, file.stem, end)
    return None


def _parts(images: Family, separator: str, stem: str, end: int) -> Ids | None:
    """Returns ids of parts where `stem[:end]` of a file's name belongs to its id."""
    start = re.match(r"\D*", stem[:end])[0]
    if len(start) == end or not all(file.stem.startswith(start) for file in images.files):
        start = ""
    behind = f"{stem[end]}*" if end < len(stem) else ""
    folder = _folder_format([file.folders[-1] for file in images.files])
    return Ids(images, "parts", f"{folder}{separator}{start}{{{NUMBER}}}", folder, start, behind)


def _folder_format(names: Sequence[str]) -> str:
    """Returns the template of folders' names, with a field for each part between `_`.

    >>> _folder_format(["case2_day0", "case15_day16"]), _folder_format(["a", "b_c"])
    ('{case}_{day}', '{folder}')
    """
    pieces = [name.split("_") for name in names]
    if len({len(own) for own in pieces}) > 1:
        return "{folder}"
    fields = []
    for values in zip(*pieces, strict=True):
        word = re.match(r"[A-Za-z]*", values[0])[0]
        is_name = word and all(value.startswith(word) for value in values)
        field = word.lower() if is_name and word.lower() not in ("id", "stem", "class", NUMBER, *fields) else ""
        fields.append(field or "folder" + "_part" * len(fields))
    return "_".join(f"{{{field}}}" for field in fields)


def _number_of(stem: str, before: str, behind: str) -> str:
    rest = stem[len(before) :]
    return rest.partition(behind[0])[0] if behind else rest
