"""Which lists of an unknown folder say which images train, validate and are predicted.

In: ids and lists. Out: `Lists`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline.data.discovery.ids import Ids, all_ids
from pipeline.data.discovery.lists import Listing, cells_of
from pipeline.data.discovery.names import split_subset


class Lists(NamedTuple):
    """The lists of images, None where there is none.

    Attributes:
        train: has all images for training that the others lack: all there are, or all that have a label.
        part: has some images for training, where none has all.
        unlisted: how many images for training no list has.
    """

    train: Listing | None
    valid: Listing | None
    test: Listing | None
    part: Listing | None
    unlisted: int


def choose_lists(
    ids: Ids,
    listings: Sequence[Listing],
    sample: Listing | None,
    labels: Listing | None,
    labelled: set[str],
    has_valid_folder: bool,
    has_many_rows: bool,
) -> Lists:
    """Returns the lists of images.

    Args:
        sample: the sample submission.
        labels: a list that has labels.
        labelled: the ids of the images for training that have a label, or need none.
        has_valid_folder: whether images for validation have a folder of their own, and need no list.
        has_many_rows: whether `labels` may have several rows of an image.
    """
    own = all_ids(ids)
    train, test = (set(ids.ids(*subsets)) for subsets in (("", "train"), ("test",)))
    named = [one for one in listings if not one.is_sample and one.id_column(own)]
    tests = [one for one in named if "test" in one.file.lower()]
    test_list = tests[0] if tests else sample if sample and sample.num_rows and sample.id_column(own or test) else None
    trains = [one for one in named if one not in (sample, test_list)]
    valids = [one for one in trains if split_subset(PurePosixPath(one.file).stem)[1] == "valid"]
    valids.sort(key=lambda one: not cells_of(one, own) <= labelled)  # one for another task names other images, too
    valid_list = valids[0] if valids and not has_valid_folder else None
    others = {id for one in (test_list, valid_list) if one for id in cells_of(one, own)}

    def is_whole(one: Listing) -> bool:
        listed = cells_of(one, own)
        has_rows = (one is labels and has_many_rows) or one.has_own_rows(own)  # other lists have a row per image
        return has_rows and any(listed <= images and images - listed <= others for images in (train, labelled))

    whole = [one for one in trains if one not in valids and is_whole(one)]
    whole.sort(key=lambda one: (one is not labels, "train" not in one.file.lower(), one.file))
    if not whole:
        part = next((one for one in trains if cells_of(one, own) & train), None)
        return Lists(None, None, test_list, part, len(train - cells_of(part, own)) if part else len(train))
    return Lists(whole[0], valid_list, test_list, None, len(train - cells_of(whole[0], own) - others))
