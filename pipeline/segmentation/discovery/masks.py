"""Which files of an unknown folder are masks, how they belong to images, and which classes their values are.

In: families, the ids of the images. Out: `MaskFiles`: a template of MASKS, the values, and a region where there is one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.discovery.families import Family
from pipeline.data.discovery.ids import Ids
from pipeline.data.discovery.names import words_of
from pipeline.data.discovery.sizes import MOST_FILES, spread
from pipeline.segmentation.discovery.contents import Content, look_at

LEAST_COVERAGE = 0.05  # share of the images that have a mask, if files are masks at all
# Of masks of the same images these are second choice: objects instead of classes, drawings, single annotators.
SECOND_WORDS = frozenset(
    ("instance", "instances", "color", "colors", "colour", "individual", "object", "vis", "preview")
)
DENSE = 0.6  # share of the numbers up to the largest value that occur, if values are class indices


@dataclass(frozen=True)
class MaskFiles:
    """Masks in files.

    Attributes:
        template: of MASKS.
        families: the files.
        coverage: share of the images for training that have one.
        values: all grey values or colours that were found, sorted; None: too many, or unreadable.
        is_whole: whether all files were read for `values`.
        names: the classes in the files' names, for `{class}`.
        is_objects: whether an image has several files.
        region: template of files that say which pixels count.
        others: templates of further files that may be masks.
    """

    template: str
    families: tuple[Family, ...]
    coverage: float
    values: tuple | None = None
    is_color: bool = False
    is_lossy: bool = False
    is_whole: bool = False
    names: tuple[str, ...] = ()
    is_objects: bool = False
    region: str | None = None
    others: tuple[str, ...] = ()


def find_masks(
    families: Sequence[Family], looks: Mapping[int, Content], ids: Ids, folder: Path, predicted: Collection[str]
) -> MaskFiles | None:
    """Returns the masks of the images, None where no files are.

    Args:
        looks: what a file of each family holds, by the family's index.
        predicted: ids of images that are listed for prediction, which have no mask.
    """
    training = {ids.images.key(file) for id, file in ids.ids("", "train").items() if id not in predicted}
    wanted = training or ids.images.keys()
    candidates = []
    for index, family in enumerate(families):
        look = looks[index]
        is_mask = family.role == "mask" or (look.values is not None and not look.is_lossy)
        if family is ids.images or not is_mask or not look.is_plane:
            continue
        found = _belonging(family, ids, wanted)
        if found and found.coverage >= LEAST_COVERAGE:
            candidates.append((found, look))
    for_class = _class_files([found for found, look in candidates if _is_binary(look)], ids)
    if for_class:
        return for_class
    has_labels_only = any("test" not in found.families[0].subsets for found, _ in candidates)
    in_test = "test" in ids.images.subsets
    region = None
    if has_labels_only and in_test:  # what is given of test images, too, is no label
        regions = [found for found, look in candidates if "test" in found.families[0].subsets and _is_binary(look)]
        region = regions[0].template if regions else None
        candidates = [one for one in candidates if "test" not in one[0].families[0].subsets]
    if not candidates:
        return None
    candidates.sort(key=_merits, reverse=True)
    (best, _), *rest = candidates
    return replace(_with_values(best, folder), region=region, others=tuple(found.template for found, _ in rest))


def _merits(candidate: tuple[MaskFiles, Content]) -> tuple:
    found, look = candidate
    family = found.families[0]
    words = words_of(family.tail)
    has_objects = "instanceid" in "".join(words)  # a number or colour for each object
    is_second = bool({*words_of(family.template())} & SECOND_WORDS) or has_objects
    return (
        not look.is_lossy,
        not has_objects,
        not is_second,
        not look.is_color,
        look.values is not None,
        found.coverage,
        not found.is_objects,
    )


def _belonging(family: Family, ids: Ids, wanted: set[str]) -> MaskFiles | None:
    """Returns how files belong to the images: by name, by a beginning of the name, or by a folder."""
    subset = family.labelled_subset
    keys = family.keys()
    if share := len(keys & wanted) / len(wanted):
        return MaskFiles(ids.template(family, subset), (family,), share)
    if family.fixed is not None or ids.form == "parts":
        return None
    folders = {file.folders[-1] for file in family.files if file.folders}
    if share := len(folders & wanted) / len(wanted):
        parts = family.template(subset, "*").split("/")
        last = len(parts) - 2 - parts[:-1][::-1].index("*")
        parts[last] = "{id}"
        return MaskFiles("/".join(parts), (family,), share, is_objects=True)
    stems = {key.rpartition("_")[0] for key in keys}
    if share := len(stems & wanted) / len(wanted):
        field = "{stem}" if ids.form == "name" else "{id}"
        return MaskFiles(family.template(subset, f"{field}_*"), (family,), share, is_objects=True)
    return None


def _class_files(candidates: Sequence[MaskFiles], ids: Ids) -> MaskFiles | None:
    """Returns the masks of a file per class: names or folders that differ in a word, of the same images."""
    groups: dict[str, list[tuple[str, MaskFiles]]] = defaultdict(list)
    for found in candidates:
        family = found.families[0]
        if {*words_of(family.tail)} & SECOND_WORDS or found.is_objects:
            continue
        if family.tail:
            pattern = ids.template(replace(family, tail=f"{family.tail[0]}{{class}}"), family.labelled_subset)
            groups[pattern].append((family.tail[1:], found))
        parts = found.template.split("/")
        for index in range(len(parts) - 1):
            if "{" not in parts[index] and "*" not in parts[index]:
                groups["/".join([*parts[:index], "{class}", *parts[index + 1 :]])].append((parts[index], found))
    best = max(groups, key=lambda pattern: len(groups[pattern]), default=None)
    if best is None or len(groups[best]) < 2:
        return None
    names = tuple(sorted(name for name, _ in groups[best]))
    own = [found for _, found in groups[best]]
    families, coverage = tuple(found.families[0] for found in own), max(found.coverage for found in own)
    return MaskFiles(best, families, coverage, (0, 1), is_whole=True, names=names)


def _is_binary(look: Content) -> bool:
    return look.values is not None and not look.is_color and len(look.values) <= 2 and 0 in (*look.values, 0)


def _with_values(found: MaskFiles, folder: Path) -> MaskFiles:
    """Returns masks with the values of up to `MOST_FILES` of the files for training and validation."""
    files = [file for family in found.families for file in family.files if file.subset != "test"]
    contents = [look_at(folder / file.path) for file in spread(files)]
    contents = [one for one in contents if one.size != (0, 0)]  # `prepare` lists those that cannot be read
    is_color = any(one.is_color for one in contents)
    kinds = {one.is_color for one in contents}
    values: tuple | None = None
    if len(kinds) == 1 and all(one.values is not None for one in contents):
        values = tuple(sorted({value for one in contents for value in one.values}))
    is_lossy = any(one.is_lossy for one in contents)
    return replace(found, values=values, is_color=is_color, is_lossy=is_lossy, is_whole=len(files) <= MOST_FILES)


def is_dense(values: Sequence[int]) -> bool:
    """Returns whether values are class indices: numbers from 0 with few gaps, apart from an ignored one.

    >>> is_dense((0, 1, 2, 5)), is_dense((0, 255)), is_dense((1, 4, 7, 26)), is_dense((1, 2, 3))
    (True, False, False, True)
    """
    top = max(values)
    return min(values) in (0, 1) and top < 254 and len(values) >= DENSE * (top + (min(values) == 0))
