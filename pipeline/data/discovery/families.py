"""The image files of an unknown folder, sorted into families: files whose paths differ in an id and a subset only.

In: a folder, and the words that its lists contain. Out: a `Family` for each kind of file, such as
`gtFine/<>/*/{id}_gtFine_labelIds.png`: `<>` stands for train, val or test in any spelling, `*` for folders whose
names are data (cities, patients), and the id is what is left of the name.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.data.discovery.names import SEPARATORS, SUBSET, SUFFIXES, role_of, split_subset, suffix_of

_DATA = re.compile(r"[0-9a-f]{6,}|\d+", re.IGNORECASE)  # numbers and hashes
_LAST = re.compile(r"[_\-. ][A-Za-z][A-Za-z0-9]*$")  # a word at the end of a name
_LAST_WORDS = re.compile(r"([_\-. ][A-Za-z][A-Za-z0-9]*)+$")
_SEPARATOR = re.compile(r"[_\-. ]")
_FIRST = re.compile(r"^[A-Za-z]+[_\-. ]")
LEAST_SHARE = 0.1  # of a folder's files that have a word at their end, if it tells a kind
MOST_HEADS = 4  # words at the beginnings of names
MOST_KINDS = 30  # words at the ends of names; more are parts of ids
SAME = 0.6  # share of folders that have a file of one name, if that is no id


class Found(NamedTuple):
    """A file: its path below the folder, its subset ("": none named), and the names of its folders that are data."""

    path: str
    subset: str
    folders: tuple[str, ...]
    parts: tuple[str, ...]  # of the path, with SUBSET for the subset's word
    word: str  # the subset's, as it is spelled

    @property
    def name(self) -> str:
        return self.parts[-1]

    @property
    def stem(self) -> str:
        return self.name.removesuffix(suffix_of(self.name))


@dataclass(frozen=True)
class Family:
    """Files of one kind.

    Attributes:
        parts: the folders, see SUBSET; `*` where the name is data.
        head, tail: what stands before and behind the id in each name, without the suffix.
        fixed: the name, or a template of numbers `{00..64}.tif`, where the id is the name of the last `*`.
    """

    parts: tuple[str, ...]
    head: str
    tail: str
    suffix: str
    fixed: str | None
    files: tuple[Found, ...]

    def key(self, file: Found) -> str:
        """Returns what tells a file from the others of its family."""
        if self.fixed is not None:
            return file.folders[-1]
        return file.stem[len(self.head) : len(file.stem) - len(self.tail) or None]

    def keys(self, *subsets: str) -> set[str]:
        """Returns the keys of all files, or of those of some subsets."""
        return {self.key(file) for file in self.files if not subsets or file.subset in subsets}

    @property
    def subsets(self) -> set[str]:
        return {file.subset for file in self.files}

    @property
    def has_own_keys(self) -> bool:
        """Whether no two subsets have a key in common, so that a key tells the subset, too."""
        return len(self.keys()) == sum(len(self.keys(subset)) for subset in self.subsets)

    @property
    def labelled_subset(self) -> str | None:
        """The subset whose files are taken for masks; None: those of all, where their keys tell them apart."""
        subsets = self.subsets
        return None if len(subsets) > 1 and self.has_own_keys else "train" if "train" in subsets else min(subsets)

    def template(self, subset: str | None = None, field: str = "{id}", with_suffix: bool = True) -> str:
        """Returns the descriptor's template of the files of a subset; None: of all subsets."""
        words = Counter(file.word for file in self.files if subset is None or file.subset == subset)
        word = next(iter(words)) if len(words) == 1 else "*"
        parts = [part.replace(SUBSET, word) for part in self.parts]
        if self.fixed is None:
            suffix = self.suffix if with_suffix else ""
            return "/".join([*parts, f"{self.head}{field}{self.tail}{suffix}"])
        last = len(parts) - 1 - parts[::-1].index("*")
        return "/".join([*parts[:last], field, *parts[last + 1 :], self.fixed])

    @property
    def role(self) -> str:
        """What its names call it: "mask", "image" or ""; the last word decides."""
        texts = (*self.parts, self.head, self.fixed or self.tail)
        return next((role for text in texts[::-1] if (role := role_of(text))), "")


def list_paths(folder: Path) -> list[str]:
    """Returns the paths of all files below a folder, sorted, without hidden ones and what macOS adds to archives."""
    paths = []
    for parent, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith((".", "__MACOSX")))
        inside = os.path.relpath(parent, folder).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        paths += [f"{prefix}{name}" for name in sorted(files) if not name.startswith(".")]
    return paths


def find_families(paths: Sequence[str], known: Collection[str], suffixes: Collection[str] = SUFFIXES) -> list[Family]:
    """Returns the families of the image files among `paths`, or of those with other `suffixes`, the largest first.

    Args:
        known: the words that the lists contain: a folder or file that is called so is called by an id.
    """
    files = [_found(path) for path in paths if suffix_of(path).lower() in suffixes]
    families = [
        family for parts, own in _leaves(files, 0, (), known) for family in _families_of_leaf(parts, own, known)
    ]
    return sorted(families, key=lambda family: (-len(family.files), family.template()))


def _found(path: str) -> Found:
    *folders, name = path.split("/")
    parts, subset, word = [], "", ""
    for folder in folders:
        part, own, own_word = split_subset(folder) if not subset else (folder, "", "")
        parts.append(part)
        subset, word = subset or own, word or own_word
    return Found(path, subset, (), (*parts, name), word)


def _leaves(
    files: Sequence[Found], depth: int, parts: tuple[str, ...], known: Collection[str]
) -> Iterator[tuple[tuple[str, ...], list[Found]]]:
    """Yields the folders that have files, as patterns; folders whose names are data are one."""
    here = [file for file in files if len(file.parts) == depth + 1]
    if here:
        yield parts, here
    below: dict[str, list[Found]] = defaultdict(list)
    for file in files:
        if len(file.parts) > depth + 1:
            below[file.parts[depth]].append(file)
    data = _data_names(below, depth, known)
    for name, own in below.items():
        if name not in data:
            yield from _leaves(own, depth + 1, (*parts, name), known)
    joined = [file._replace(folders=(*file.folders, name)) for name in sorted(data) for file in below[name]]
    if joined:
        yield from _leaves(joined, depth + 1, (*parts, "*"), known)


def _data_names(below: Mapping[str, list[Found]], depth: int, known: Collection[str]) -> set[str]:
    """Returns which of the folders beside each other are called by data: ids, cities, patients, scenes."""
    names = [name for name in below if SUBSET not in name and not role_of(name)]
    listed = {name for name in names if name in known}
    forms = {
        name: frozenset((len(file.parts) - depth, suffix_of(file.name).lower()) for file in below[name])
        for name in names
    }
    if not forms:
        return set()
    usual = Counter(forms.values()).most_common(1)[0][0]
    alike = {name for name in names if len(forms[name] & usual) >= len(forms[name] | usual) / 2}
    if listed & alike:
        return alike
    if len(alike) < 2:
        return set()
    shapes = Counter(_DATA.sub("#", name) for name in alike)
    shape, count = shapes.most_common(1)[0]
    subsets = {name: {file.subset for file in below[name]} for name in alike}
    is_split = len(set().union(*subsets.values())) > 1 and all(len(own) == 1 for own in subsets.values())
    stems = [{file.stem for file in below[name]} for name in alike]
    is_partition = len(set().union(*stems)) > 0.9 * sum(map(len, stems))
    is_numbered = "#" in shape and count >= 0.8 * len(alike)
    return alike if is_numbered or is_split or is_partition else set()


def _families_of_leaf(parts: tuple[str, ...], files: Sequence[Found], known: Collection[str]) -> Iterator[Family]:
    by_suffix: dict[str, list[Found]] = defaultdict(list)
    for file in files:
        by_suffix[suffix_of(file.name)].append(file)
    for suffix, own in by_suffix.items():
        fixed = _fixed_names(own, known) if "*" in parts else {}
        for name in dict.fromkeys(fixed.values()):
            named = tuple(file for file in own if fixed.get(file.name) == name)
            yield Family(parts, "", "", suffix, name, named)
        rest = [file for file in own if file.name not in fixed]
        for (head, tail), kind in _kinds(rest, known).items():
            yield Family(parts, head, tail, suffix, None, tuple(kind))


def _fixed_names(files: Sequence[Found], known: Collection[str]) -> dict[str, str]:
    """Returns the names that are the same in most folders, each with the template that it belongs to."""
    folders_of: dict[str, set[str]] = defaultdict(set)
    for file in files:
        folders_of[file.subset].add(str(PurePosixPath(file.path).parent))
    if max(map(len, folders_of.values())) < 2:
        return {}
    counts = Counter((file.subset, file.name) for file in files)
    fixed = {name for (subset, name), count in counts.items() if count > max(1, SAME * len(folders_of[subset]) - 1e-9)}
    templates = {name: name for name in fixed}
    is_id = any(file.folders[-1] in known for file in files)
    if is_id and any(f"{file.folders[-1]}{sign}{file.stem}" in known for file in files for sign in SEPARATORS):
        is_id = False  # lists name folder and file together: each file is an image
    for names, template in _numbered(sorted(fixed)):
        for name in names:
            if is_id:  # layers or bands of what the folder is called by
                templates[name] = template
            else:  # images of their own
                templates.pop(name, None)
    return templates


def _numbered(names: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """Yields the names that differ in a number only, and the template of them all.

    >>> list(_numbered(["09_a1.tif", "10_a1.tif", "mask.png"]))
    [(['09_a1.tif', '10_a1.tif'], '{09..10}_a1.tif')]
    """
    groups: dict[tuple[str, str, int], dict[str, str]] = defaultdict(dict)
    for name in names:
        for match in re.finditer(r"\d+", PurePosixPath(name).stem):
            before, behind = name[: match.start()], name[match.end() :]
            groups[(before, behind, len(match[0]))][match[0]] = name
    for (before, behind, _), numbers in groups.items():
        if len(numbers) > 1:
            first, last = min(numbers), max(numbers)
            yield list(numbers.values()), f"{before}{{{first}..{last}}}{behind}"


def _kinds(files: Sequence[Found], known: Collection[str]) -> dict[tuple[str, str], list[Found]]:
    """Returns files by the words (head, tail) of their names that tell kinds: `0001_mask`, `mask_0001`."""
    if any(file.stem in known or file.name in known for file in files):
        return _kinds_of_listed(files, known)
    ends = Counter(match[0] for file in files if (match := _LAST.search(file.stem)) and match.start() > 0)
    tails = {end for end, count in ends.items() if count >= max(2, LEAST_SHARE * len(files))}
    if len(tails) > MOST_KINDS:
        tails = set()
    heads = {match[0] for file in files if (match := _FIRST.match(file.stem))}
    num_headed = sum(_FIRST.match(file.stem) is not None for file in files)
    is_role = num_headed == len(files) and all(map(role_of, heads))  # `image_001`, `mask_001`, in one folder or two
    heads = heads if is_role or ("mask" in map(role_of, heads) and len(heads) <= MOST_HEADS) else set()
    kinds: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for file in files:
        end, start = _LAST.search(file.stem), _FIRST.match(file.stem)
        tail = end[0] if end and end[0] in tails else ""
        kinds[(start[0] if start and start[0] in heads else "", tail)].append(file)
    return {
        (head, longer): named
        for (head, tail), own in kinds.items()
        for longer, named in _longer(head, tail, own).items()
    }


def _kinds_of_listed(files: Sequence[Found], known: Collection[str]) -> dict[tuple[str, str], list[Found]]:
    """Returns what `_kinds` does where lists name files: whole names are ids, but `0001_mask` if `0001` is one.

    `0001` may also be a file beside it that no list names, as where lists have the test images only.
    """
    kinds: dict[tuple[str, str], list[Found]] = defaultdict(list)
    stems = {(file.parts[:-1], file.subset, file.stem) for file in files}
    for file in files:
        suffix, tail = suffix_of(file.name), ""
        if file.stem not in known and file.name not in known and (match := _LAST_WORDS.search(file.stem)):
            starts = [found.start() for found in _SEPARATOR.finditer(file.stem, match.start())]
            longest = (
                start
                for start in starts[::-1]
                if {file.stem[:start], file.stem[:start] + suffix} & known
                or (file.parts[:-1], file.subset, file.stem[:start]) in stems
            )
            tail = file.stem[next(longest, len(file.stem)) :]
        kinds["", tail].append(file)
    return dict(kinds)


def _longer(head: str, tail: str, files: Sequence[Found]) -> dict[str, list[Found]]:
    """Returns files by their tail with the words before it: those that all have, or that tell kinds of the same ids."""
    words: dict[str, list[Found]] = defaultdict(list)
    for file in files:
        match = _LAST.search(file.stem.removesuffix(tail)) if tail else None
        words[match[0] if match else ""].append(file)
    ids = [{file.stem[len(head) : -len(word + tail)] for file in own} for word, own in words.items() if word]
    are_same = all(2 * len(own & ids[0]) > max(len(own), len(ids[0])) for own in ids)  # some files may be missing
    if "" in words or len(words) > MOST_HEADS or not are_same or not all(map(all, ids)):
        return {tail: list(files)}
    return {longer: one for word, own in words.items() for longer, one in _longer(head, word + tail, own).items()}
