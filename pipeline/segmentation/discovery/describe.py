"""What an unknown folder is, as a descriptor: images, masks, lists and sample put together; `./run.sh new FOLDER`.

In: a competition's folder. Out: a `Draft` of its descriptor, with what is sure, what is guessed and what is open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.template import CONVERT, POLYGONS
from pipeline.data.discovery.draft import Draft
from pipeline.data.discovery.families import Family, list_paths
from pipeline.data.discovery.folder import (
    Description,
    NothingFound,
    describe_name,
    describe_sequences,
    find_images,
    image_sizes,
    lists_among,
    lists_beside_images,
)
from pipeline.data.discovery.ids import all_ids, find_ids, training_ids
from pipeline.data.discovery.images import describe_images
from pipeline.data.discovery.lists import Listing, cells_of, join_listings, read_listings, words_in
from pipeline.data.discovery.subsets import Lists, choose_lists
from pipeline.segmentation.discovery.choice import choose_images
from pipeline.segmentation.discovery.classes import describe_classes, describe_overlap
from pipeline.segmentation.discovery.experiment import experiment_text
from pipeline.segmentation.discovery.findings import Findings, find_lists, labelled_ids, predicted_ids
from pipeline.segmentation.discovery.forms import describe_form, describe_mask_size
from pipeline.segmentation.discovery.masks import find_masks
from pipeline.segmentation.discovery.submission import describe_objects, describe_submission

MOST_LISTED = 3  # files that a message names
MOSTLY = 0.5  # below this share of images with a mask file, those without count as unlabelled
ENOUGH = 0.95  # share of the images with a mask file, if the others are exceptions


def discover(folder: Path, name: str) -> Description:
    """Returns what `Task.discover` does."""
    draft, found = describe_folder(folder, name)
    images = found.ids.images
    return Description(draft, lambda directory: experiment_text(draft, image_sizes(folder, images), directory))


def describe_folder(folder: Path, name: str) -> tuple[Draft, Findings]:
    """Returns the descriptor of the competition in a folder, and what it was made from.

    Args:
        folder: exists.
        name: of the competition.

    Raises:
        NothingFound: the folder has no masks that are read; with what was looked for.
        UserError: it has no images; with what was found and a remedy.
    """
    paths = list_paths(folder)
    listings = read_listings(folder, lists_among(paths))
    known = words_in(listings, paths)
    families = find_images(folder, paths, known)
    images, looks = choose_images(families, known, folder)
    ids = find_ids(images, known)
    masks = find_masks(families, looks, ids, folder, predicted_ids(listings, ids))
    examples = join_listings(read_listings(folder, lists_beside_images(paths)))
    findings = find_lists(ids, families, listings, masks, examples)
    if masks is None and findings.runs is None:
        raise NothingFound(ids.images, _no_masks(findings, paths))
    draft = Draft(name)
    describe_name(draft, folder)
    describe_images(draft, ids, masks.families if masks else ())
    _describe_other_test_images(draft, findings)
    _describe_masks(draft, findings)
    labels = describe_classes(draft, findings)
    _describe_lists(draft, findings)
    _describe_without_mask(draft, findings)
    _leave_out_masks(draft, findings)
    describe_sequences(draft, findings.listings, findings.ids)
    describe_form(draft, findings, folder)
    describe_mask_size(draft, findings, folder)
    text = "no file says how submissions are scored; Dice per image is assumed, see docs/competitions.md"
    draft.unknown("SCORE", text, "dice")
    describe_submission(draft, folder, findings, labels)
    describe_objects(draft, findings)
    describe_overlap(draft, findings.runs, training_ids(ids))
    return draft, findings


def _no_masks(findings: Findings, paths: Sequence[str]) -> str:
    listings = findings.listings
    lists = ", ".join(listing.file for listing in listings[:MOST_LISTED]) or "none"
    found = (
        "no mask files (named like the images, with few values), and no csv with run lengths for their names "
        f"(csv files: {lists})"
    )
    with_outlines = [one.file for one in listings if not one.is_sample and one.has_polygons]
    outlines = [*with_outlines, *(path for path in paths if path.lower().endswith(POLYGONS))]
    if not outlines:
        return found
    many = f", one of {len(outlines):,} such files," * (len(outlines) > 1)
    return f"{found}. {outlines[0]}{many} may have polygons; draw them into PNGs once: {CONVERT}"


def _describe_other_test_images(draft: Draft, findings: Findings) -> None:
    if "TEST_IMAGES" not in draft.keys and (other := _other_test_images(findings)):
        text = f"{len(other.files):,} files in another form than the training images"
        draft.guess("TEST_IMAGES", text, findings.ids.template(other, "test"))


def _other_test_images(findings: Findings) -> Family | None:
    for family in findings.families:
        is_own = family is findings.ids.images or (findings.masks and family in findings.masks.families)
        if not is_own and family.role != "mask" and family.subsets == {"test"}:
            return family
    return None


def _describe_masks(draft: Draft, findings: Findings) -> None:
    masks, runs = findings.masks, findings.runs
    predicted = predicted_ids(findings.listings, findings.ids)
    num_images = sum(id not in predicted for id in findings.ids.ids("", "train"))
    if masks is not None and (masks.coverage >= ENOUGH or runs is None):
        draft.sure("MASKS", f"{round(masks.coverage * num_images):,} of {num_images:,} images have one", masks.template)
        if masks.others:
            draft.guess("MASKS", f"not used: {', '.join(masks.others)}")
        if masks.is_objects:
            draft.guess("MASKS", "several files of an image are its objects, and are joined")
        if masks.region:
            draft.guess("VALID_REGION", "test images have these files, too, so they are no labels", masks.region)
        return
    column, has_class = runs.id_column(training_ids(findings.ids))
    keys = {"CSV": runs.file}
    class_column = None if has_class else runs.class_column(column, runs.runs_column)
    keys |= {"CLASS_COLUMN": class_column} if class_column else {}
    pattern = runs.class_pattern(class_column) if class_column else None
    if pattern:
        keys["CLASS_PATTERN"] = pattern
        longest = max(runs.columns[class_column], key=len)
        draft.guess("MASKS", f"cells of {class_column} such as {longest} begin with the class")
    keys |= {"ROWS": "id_class"} if has_class else {}
    if len(runs.columns) > 2 + bool(class_column):
        keys["VALUE_COLUMN"] = runs.runs_column
    draft.sure("MASKS", f"{runs.num_rows:,} rows of run lengths; `prepare` finds out again how they are read", keys)


def _describe_lists(draft: Draft, findings: Findings) -> None:
    sample, own = findings.sample, all_ids(findings.ids)
    uses_runs = isinstance(draft.keys["MASKS"], dict)
    labelled = set(findings.ids.ids("", "train")) if uses_runs else labelled_ids(findings)
    has_valid_folder = "VALID_IMAGES" in draft.keys
    lists = choose_lists(findings.ids, findings.listings, sample, findings.runs, labelled, has_valid_folder, uses_runs)
    named = [_describe_train_list(draft, findings, lists, uses_runs), lists.test]
    if lists.test:
        draft.sure("TEST_CSV", f"{len(cells_of(lists.test, own)):,} images to predict", lists.test.file)
    else:
        why = "no list has the test images" if "TEST_IMAGES" in draft.keys else "no test images are here"
        hidden = "; if the test set is hidden, name its folder with `--test-dir`" * ("TEST_IMAGES" not in draft.keys)
        draft.sure("TEST_CSV", why + hidden, None)
    if sample:
        text = f"{sample.num_rows:,} rows" if sample.num_rows else "a header without rows"
        draft.sure("SAMPLE_SUBMISSION", text, sample.file)
    columns = [one.id_column(own)[0] for one in named if one] + ([next(iter(sample.columns))] if sample else [])
    if column := next(filter(None, columns), None):  # a text file has none
        draft.sure("ID_COLUMN", "its cells are names of images", column)
        if uses_runs and (own_column := findings.runs.id_column(training_ids(findings.ids))[0]) != column:
            draft.keys["MASKS"]["ID_COLUMN"] = own_column


def _describe_train_list(draft: Draft, findings: Findings, lists: Lists, uses_runs: bool) -> Listing | None:
    """Notes which images train and validate; returns the list whose column of ids is that of the competition."""
    own, part = all_ids(findings.ids), lists.part
    if lists.train:
        text = f"{len(cells_of(lists.train, own)):,} images"
        unlisted = f"; {lists.unlisted:,} images without a mask are in no list, and not used"
        draft.sure("TRAIN_CSV", text + unlisted * (lists.unlisted > 0), lists.train.file)
        if (split := lists.train.subset_column()) and "VALID_IMAGES" not in draft.keys:
            draft.guess("SPLIT_COLUMN", "names the organisers' subsets or folds", split)
        elif lists.valid:
            draft.sure("VALID_CSV", f"{len(cells_of(lists.valid, own)):,} images", lists.valid.file)
        return lists.train
    is_runs = part is not None and part is findings.runs and uses_runs
    text = f"{part.file} lacks {lists.unlisted:,} images" if part else "no list has the training images"
    draft.sure("TRAIN_CSV", f"{text}{', which count as empty' * is_runs}, so all files are taken", None)
    return part if is_runs else None


def _describe_without_mask(draft: Draft, findings: Findings) -> None:
    """Notes what images without a mask file are, where such are listed, or no list says which images there are."""
    masks, own = findings.masks, all_ids(findings.ids)
    if masks is None or masks.coverage == 1 or isinstance(draft.keys["MASKS"], dict):
        return
    named = {draft.keys.get("TRAIN_CSV"), draft.keys.get("VALID_CSV")} - {None}
    listed = {id for one in findings.listings if one.file in named for id in cells_of(one, own)}
    if listed and not masks.is_objects and listed <= labelled_ids(findings):
        return
    if masks.coverage < MOSTLY:
        text = "most images have no mask file, so these count as unlabelled; `empty` means that nothing is on them"
        draft.guess("WITHOUT_MASK", text, "skip")
    else:
        draft.guess("WITHOUT_MASK", "an image without a mask file counts as empty; `skip` leaves it out", "empty")


def _leave_out_masks(draft: Draft, findings: Findings) -> None:
    """Leaves out what lies among the images and is none, where no list tells them apart."""
    images = findings.ids.images
    others = [
        family
        for family in findings.families
        if family is not images and (family.parts, family.suffix, family.fixed) == (images.parts, images.suffix, None)
    ]
    is_among = any(family.head.startswith(images.head) and family.tail.endswith(images.tail) for family in others)
    if draft.keys["TRAIN_CSV"] is None and images.fixed is None and is_among:
        heads, tails = ({re.escape(getattr(family, end)) for family in others} - {""} for end in ("head", "tail"))
        heads.discard(re.escape(images.head))
        tails.discard(re.escape(images.tail))
        parts = [f"({'|'.join(sorted(heads))})"] if heads else []
        parts += [f".*({'|'.join(sorted(tails))})$"] if tails else []
        named = ", ".join(family.template() for family in others)
        draft.sure("ID_PATTERN", f"leaves out {named}, which IMAGES matches, too", f"^(?!{'|'.join(parts)})")
