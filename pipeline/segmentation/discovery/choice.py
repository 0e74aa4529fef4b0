"""Which family of an unknown folder's files has the images: by their names, the lists, and their pixels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.data.discovery.families import Family, Found
from pipeline.data.discovery.sizes import spread
from pipeline.segmentation.discovery.contents import Content, look_at

NUM_LOOKED_AT = 3  # files of a family by which images and masks are told apart
LEAST_SHARE = 0.1  # of the largest family's files that the images' has


def choose_images(
    families: Sequence[Family], known: Collection[str], folder: Path
) -> tuple[Family | None, dict[int, Content]]:
    """Returns the family of the images, and a file of each family as it was looked at, by the family's index.

    The largest is taken that no name calls a mask, that is not of a few files, whose files the lists know, whose pixels
    have many values, and that has test images.
    """
    looks = {index: _look(family, folder) for index, family in enumerate(families)}

    most = max(len(family.files) for family in families)

    def merits(index: int) -> tuple:
        family, look = families[index], looks[index]
        is_listed = any(_names_of(file) & known for file in family.files) if known else False
        many_values = look.values is None and (look.is_plane or look.size != (0, 0))
        in_test, is_many = "test" in family.subsets, len(family.files) >= LEAST_SHARE * most
        return (
            family.role != "mask",
            is_many,
            is_listed,
            many_values,
            in_test,
            family.role == "image",
            len(family.files),
        )

    best = max(looks, key=merits, default=None)
    return (None if best is None else families[best]), looks


def _names_of(file: Found) -> set[str]:
    return {file.name, file.stem, *file.folders[-1:]}


def _look(family: Family, folder: Path) -> Content:
    """Returns what a family's files hold: of those that can be read, the one with the most values."""
    looks = [look_at(folder / file.path) for file in spread(family.files, NUM_LOOKED_AT)]
    readable = [look for look in looks if look.size != (0, 0)] or looks
    return next((look for look in readable if look.values is None), readable[0])
