"""Where the images of an unknown folder are, as templates: for training, validation and test, with their layers."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.template import RANGE
from pipeline.data.discovery.draft import Draft
from pipeline.data.discovery.families import Family
from pipeline.data.discovery.ids import Ids

MOST_STACKED = 16  # files of an image that are stacked; of more, those in the middle


def describe_images(draft: Draft, ids: Ids, labels: Sequence[Family]) -> None:
    """Sets IMAGES, ID_FORMAT, VALID_IMAGES and TEST_IMAGES.

    Args:
        labels: the families of the labels' files; none where lists have the labels.
    """
    images, subsets = ids.images, ids.images.subsets
    own = [name for name in ("train", "") if name in subsets] or sorted(subsets)
    draft.sure("IMAGES", f"{len(ids.ids(own[0])):,} images", stacked(ids.template(images, own[0]), images))
    if ids.form == "parts":
        draft.guess("ID_FORMAT", f"ids such as {next(iter(ids.ids()))} are parts of the path", ids.id_format)
    if "valid" in subsets and own[0] != "valid":
        valid, template = ids.ids("valid"), ids.template(images, "valid")
        if images.has_own_keys and all(family.has_own_keys for family in labels):
            draft.sure("VALID_IMAGES", f"{len(valid):,} images in a folder of their own", stacked(template, images))
        else:
            why = (
                f"{template} is not used, because its names are also names of other images, such as {next(iter(valid))}"
            )
            draft.unknown("VALID_IMAGES", f"{why}; give training and validation images different names")
    if "test" in subsets and own[0] != "test":
        template = stacked(ids.template(images, "test"), images)
        draft.sure("TEST_IMAGES", f"{len(ids.ids('test')):,} images", template)


def stacked(template: str, images: Family) -> str | list[str]:
    """Returns a template with the numbers of the layers that are stacked, as a list where some between them are absent.

    Args:
        template: of `images`, with their range of numbers, if they have one.
    """
    numbers = numbers_of(images)
    if not numbers:
        return template
    first = max(0, (len(numbers) - MOST_STACKED) // 2)
    taken = numbers[first : first + MOST_STACKED]
    if int(taken[-1]) - int(taken[0]) + 1 == len(taken):
        return RANGE.sub(f"{{{taken[0]}..{taken[-1]}}}", template)
    return [RANGE.sub(number, template) for number in taken]


def numbers_of(images: Family) -> list[str]:
    """Returns the numbers of the files that an image has, in their order; none where it is one file."""
    found = RANGE.search(images.fixed or "")
    if not found:
        return []
    before, behind = images.fixed[: found.start()], images.fixed[found.end() :]
    return sorted({file.name[len(before) : len(file.name) - len(behind)] for file in images.files}, key=int)
