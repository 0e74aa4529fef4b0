"""What every description of an unknown folder begins with: its lists, images, name and sequences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.config.competition import TEXT_LIST
from pipeline.config.template import VOLUMES, kind_problem
from pipeline.data.discovery.draft import Draft
from pipeline.data.discovery.families import Family, find_families
from pipeline.data.discovery.ids import Ids
from pipeline.data.discovery.lists import Listing
from pipeline.data.discovery.names import SUFFIXES, split_subset
from pipeline.data.discovery.sizes import size_of, spread
from pipeline.errors import UserError
from pipeline.paths import shown

ARCHIVES = (".zip", ".tar", ".gz", ".7z")
MOST_SIZES = 48  # images whose sizes are read
LEAST_SEQUENCES, LEAST_FRAMES = 3, 2.0  # sequences, and images in each on average, for a prefix to name them
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")  # a name in Kaggle's addresses


class Description(NamedTuple):
    """What a task finds in a folder.

    Attributes:
        draft: the competition's file.
        experiment: (the competition's folder, or None where it is found by its name) to the text of a first experiment.
    """

    draft: Draft
    experiment: Callable[[Path | None], str]


class NothingFound(UserError):
    """A folder has images, but no labels of a task.

    Attributes:
        images: their family.
        looked_for: what was looked for, in words.
    """

    def __init__(self, images: Family, looked_for: str):
        super().__init__(looked_for)
        self.images, self.looked_for = images, looked_for


def lists_among(paths: Sequence[str]) -> list[str]:
    """Returns the files that may be lists: csv files at the top, or deeper down and the only one of their name.

    Of text files those that are called by a subset: `train.txt`.
    """
    files = [path for path in paths if path.lower().endswith(".csv")]
    names = Counter(PurePosixPath(path).name for path in files)
    texts = [path for path in paths if path.endswith(TEXT_LIST) and split_subset(PurePosixPath(path).stem)[1]]
    return [path for path in files if "/" not in path or names[PurePosixPath(path).name] == 1] + texts


def lists_beside_images(paths: Sequence[str]) -> list[str]:
    """Returns some of the csv files of the name that most folders have one of, as where each image has its own."""
    files = [path for path in paths if path.lower().endswith(".csv") and "/" in path]
    names = Counter(PurePosixPath(path).name for path in files)
    name, count = names.most_common(1)[0] if names else ("", 0)
    return spread([path for path in files if PurePosixPath(path).name == name]) if count > 1 else []


def find_images(folder: Path, paths: Sequence[str], known: Collection[str]) -> list[Family]:
    """Returns the families of the image files of a folder, the largest first.

    Args:
        paths: of all its files.
        known: the words that the lists contain.

    Raises:
        UserError: there are none; says what is there, and what to do.
    """
    families = find_families(paths, known)
    if not families:
        raise UserError(_no_images(folder, paths))
    return families


def _no_images(folder: Path, paths: Sequence[str]) -> str:
    if volumes := [path for path in paths if path.lower().endswith(VOLUMES)]:
        return f"{shown(folder)} has {len(volumes):,} volumes and no images: {kind_problem(volumes[0])}"
    archives = [path for path in paths if PurePosixPath(path).suffix.lower() in ARCHIVES]
    if archives:
        return f"{shown(folder)} has no images, but archives such as {archives[0]}; unpack them first"
    what = "it is empty" if not paths else f"it has {len(paths):,} other files, such as {paths[0]}"
    return f"{shown(folder)} has no image: {what}; expected files that end with {', '.join(SUFFIXES)}, at any depth"


def describe_name(draft: Draft, folder: Path) -> None:
    """Sets TITLE, and KAGGLE_SLUG where the folder's name looks like one."""
    title = re.sub(r"[_\-\s]+", " ", folder.name).strip() or draft.name
    draft.unknown("TITLE", "the name that reports show; this is the folder's name", title[:1].upper() + title[1:])
    if SLUG.fullmatch(folder.name):
        draft.guess("KAGGLE_SLUG", "the folder's name looks like one in Kaggle's addresses", folder.name)


def describe_sequences(draft: Draft, listings: Sequence[Listing], ids: Ids) -> None:
    """Notes which images belong together: a column of the list, or a beginning that many ids share."""
    listing = next((one for one in listings if one.file == draft.keys.get("TRAIN_CSV")), None)
    if listing and (column := listing.sequence_column()):
        draft.guess("SEQUENCE_COLUMN", "says which images belong together; a split must not separate them", column)
        return
    names = list(ids.ids("", "train", "valid"))
    folder_parts = ids.folder_format.count("_") + 1  # of ids that begin with a folder's name: that is a scan
    counts = (folder_parts,) if ids.form == "parts" else (1, 2)
    patterns = ["^(" + sign.join([f"[^{sign}]+"] * num) + f"){sign}" for sign in "_-" for num in counts]
    by_folder = ["^(.+)_[^_]+$"] * (ids.id_format or "").startswith("{folder}_{")
    for pattern in [*by_folder, *patterns, "^([A-Za-z_-]+)[0-9]+$"]:
        found = [match[1] if (match := re.search(pattern, name)) else None for name in names]
        num = len(set(found))
        if None not in found and num >= LEAST_SEQUENCES and len(found) >= LEAST_FRAMES * num:
            text = f"{num:,} prefixes such as {found[0]}, with {len(found) / num:.0f} images each on average"
            draft.guess(
                "SEQUENCE_PATTERN", f"{text}: they seem to be of one scene, which a split must not separate", pattern
            )
            return
    if "VALID_IMAGES" not in draft.keys:
        draft.unknown("SEQUENCE_PATTERN", "names do not show which images are of one scene, patient or video")


def image_sizes(folder: Path, images: Family, most: int = MOST_SIZES) -> list[tuple[int, int]]:
    """Returns (width, height) of at most so many images, evenly spread; (0, 0) where it is not known."""
    return [size_of(folder / file.path) for file in spread(images.files, most)]
