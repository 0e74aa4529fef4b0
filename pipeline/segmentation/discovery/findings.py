"""What was found in an unknown folder, before it becomes a descriptor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.data.discovery.families import Family
from pipeline.data.discovery.ids import Ids, all_ids, training_ids
from pipeline.data.discovery.lists import Listing, cells_of
from pipeline.segmentation.discovery.masks import MaskFiles


class Findings(NamedTuple):
    """What was found in a folder.

    Attributes:
        runs: the list with the masks' run lengths.
        sample: the sample submission.
        examples: run lengths that show how they are written: `runs`, or those in a csv beside each image.
    """

    ids: Ids
    families: Sequence[Family]
    listings: Sequence[Listing]
    masks: MaskFiles | None
    runs: Listing | None
    sample: Listing | None
    examples: Listing | None


def find_lists(
    ids: Ids,
    families: Sequence[Family],
    listings: Sequence[Listing],
    masks: MaskFiles | None,
    beside_images: Listing | None = None,
) -> Findings:
    """Returns the findings with the list of the masks' run lengths, and the sample submission that is most usual."""
    labelled = training_ids(ids)  # a number of a patient may be the name of a test image
    with_runs = [one for one in listings if not one.is_sample and one.runs_column and one.id_column(labelled)]
    samples = sorted(
        (one for one in listings if one.is_sample), key=lambda one: (not one.num_rows, len(one.file), one.file)
    )
    runs = max(with_runs, key=lambda one: one.num_rows, default=None)
    examples = runs
    if runs is None and beside_images and beside_images.runs_column and beside_images.id_column(labelled):
        examples = beside_images
    return Findings(ids, families, listings, masks, runs, samples[0] if samples else None, examples)


def predicted_ids(listings: Sequence[Listing], ids: Ids) -> set[str]:
    """Returns the ids of images in samples and lists that are called so."""
    own = all_ids(ids)
    lists = [one for one in listings if (one.is_sample or "test" in one.file.lower()) and one.id_column(own)]
    return {id for one in lists for id in cells_of(one, own)}


def labelled_ids(findings: Findings) -> set[str]:
    """Returns the ids of the images for training that have a mask file, where masks are called as images are."""
    ids, masks = findings.ids, findings.masks
    keys = set().union(*(family.keys() for family in masks.families)) if masks else set()
    return {id for id, file in ids.ids("", "train").items() if ids.images.key(file) in keys}
