"""What was found in an unknown folder, before it becomes a descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.segmentation.discovery.families import Family
from pipeline.segmentation.discovery.ids import Ids
from pipeline.segmentation.discovery.lists import Listing
from pipeline.segmentation.discovery.masks import MaskFiles


class Findings(NamedTuple):
    """What was found in a folder. `runs` is the list with the masks' run lengths, `sample` the sample submission."""

    ids: Ids
    families: Sequence[Family]
    listings: Sequence[Listing]
    masks: MaskFiles | None
    runs: Listing | None
    sample: Listing | None


def find_lists(ids: Ids, families: Sequence[Family], listings: Sequence[Listing], masks: MaskFiles | None) -> Findings:
    """Returns the findings with the list of the masks' run lengths, and the sample submission that is most usual."""
    own = all_ids(ids)
    with_runs = [one for one in listings if not one.is_sample and one.runs_column and one.id_column(own)]
    samples = sorted(
        (one for one in listings if one.is_sample), key=lambda one: (not one.num_rows, len(one.file), one.file)
    )
    runs = max(with_runs, key=lambda one: one.num_rows, default=None)
    return Findings(ids, families, listings, masks, runs, samples[0] if samples else None)


def cells_of(listing: Listing, ids: set[str]) -> set[str]:
    """Returns the ids in a list, of which those that are no file's are kept, too."""
    column, has_class = listing.id_column(ids)
    cells = listing.columns[column]
    return {cell.rpartition("_")[0] for cell in cells} if has_class else set(cells)


def predicted_ids(listings: Sequence[Listing], ids: Ids) -> set[str]:
    """Returns the ids of images in samples and lists that are called so."""
    own = all_ids(ids)
    lists = [one for one in listings if (one.is_sample or "test" in one.file.lower()) and one.id_column(own)]
    return {id for one in lists for id in cells_of(one, own)}


def all_ids(ids: Ids) -> set[str]:
    """Returns the ids of all images."""
    return set(ids.ids())
