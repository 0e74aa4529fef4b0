"""What an unknown folder with boxes is, as a descriptor; `./run.sh new FOLDER`.

In: a competition's folder. Out: a `Draft` of its descriptor, with what is sure, what is guessed and what is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.data.discovery.draft import Draft
from pipeline.data.discovery.families import Family, find_families, list_paths
from pipeline.data.discovery.folder import (
    Description,
    NothingFound,
    describe_name,
    describe_sequences,
    find_images,
    image_sizes,
    lists_among,
)
from pipeline.data.discovery.ids import Ids, all_ids, find_ids
from pipeline.data.discovery.images import describe_images
from pipeline.data.discovery.lists import Listing, cells_of, read_listings, words_in
from pipeline.data.discovery.names import suffix_of
from pipeline.data.discovery.sizes import size_of, spread
from pipeline.data.discovery.subsets import Lists, choose_lists
from pipeline.data.images import Inspection
from pipeline.detection.box_checks import SKIPPED
from pipeline.detection.box_source import BoxSource
from pipeline.detection.discovery.annotations import Annotations, stem_of, stems_of_images
from pipeline.detection.discovery.box_table import find_table
from pipeline.detection.discovery.coco import find_coco
from pipeline.detection.discovery.experiment import experiment_text
from pipeline.detection.discovery.per_image import find_voc, find_yolo
from pipeline.detection.discovery.submission import describe_submission

LOOKED_FOR = (
    "no COCO file (JSON), no XML or text files named like the images (Pascal VOC, YOLO), and no csv with the images' "
    "names and the four numbers of a box"
)
MOSTLY = 0.5  # above this share of images without annotations, these count as unlabelled
MOST_CHECKED = 2000  # images whose boxes are checked


def discover(folder: Path, name: str) -> Description:
    """Returns what `Task.discover` does."""
    draft, ids = describe_folder(folder, name)
    return Description(draft, lambda directory: experiment_text(draft, image_sizes(folder, ids.images), directory))


def describe_folder(folder: Path, name: str) -> tuple[Draft, Ids]:
    """Returns the descriptor of the competition of boxes in a folder, and how its images are called.

    Args:
        folder: exists.
        name: of the competition.

    Raises:
        NothingFound: the folder has no boxes that are read; with what was looked for.
        UserError: it has no images; with what was found and a remedy.
    """
    paths = list_paths(folder)
    stems = stems_of_images(paths)
    per_image = {path for path in paths if path.endswith(".txt") and stem_of(path) in stems}
    listings = read_listings(folder, lists_among([path for path in paths if path not in per_image]))
    found = _annotations(folder, paths, stems, listings)
    known = words_in(listings, paths) | (found.stems if found else set())
    families = find_images(folder, paths, known)
    if found is None:
        raise NothingFound(families[0], LOOKED_FOR)
    images = max(families, key=lambda family: sum(stem_of(file.path) in found.stems for file in family.files))
    ids = find_ids(images, known)
    labels = _family_of(found, stems)
    draft = Draft(name)
    draft.sure("TASK", "the labels are boxes", "boxes")
    describe_name(draft, folder)
    describe_images(draft, ids, [labels] if labels else [])
    _describe_boxes(draft, found, ids, labels)
    lists = _describe_lists(draft, found, ids, listings)
    _describe_without_boxes(draft, found, ids, lists)
    describe_sequences(draft, listings, ids)
    text = "no file says how submissions are scored; COCO's AP is assumed, see docs/detection.md"
    draft.unknown("SCORE", text, "ap")
    describe_submission(draft, folder, found, _sample(listings), ids)
    _describe_bad_boxes(draft, folder, ids)
    return draft, ids


def _annotations(
    folder: Path, paths: Sequence[str], stems: set[str], listings: Sequence[Listing]
) -> Annotations | None:
    finders = (find_coco, find_voc, find_yolo)
    found = next((own for find in finders if (own := find(folder, paths, stems)) is not None), None)
    if found is not None:
        return found
    return find_table(listings, {stem_of(path): folder / path for path in paths if stems_of_images([path])})


def _family_of(found: Annotations, stems: set[str]) -> Family | None:
    """Returns the largest family of the files with the boxes of an image each; None where there are none."""
    suffixes = {suffix_of(file) for file in found.files}
    return next(iter(find_families(found.files, stems, suffixes)), None) if found.files else None


def _describe_boxes(draft: Draft, found: Annotations, ids: Ids, labels: Family | None) -> None:
    """Sets BOXES and CLASSES, and takes back VALID_IMAGES where these have no boxes."""
    form = dict(found.form)
    valid = {stem_of(file.path) for file in ids.ids("valid").values()} if "VALID_IMAGES" in draft.keys else set()
    if valid and not valid & found.stems:
        draft.drop("VALID_IMAGES")
        draft.guess("VALID_IMAGES", f"{len(valid):,} images in a folder for validation have no boxes, and are not used")
    if labels is not None:
        kind = next(iter(form))
        subsets = {file.subset for file in labels.files}
        form[kind] = ids.template(labels, None if len(subsets) > 1 else min(subsets))
    if form.get("VALID_COCO") and "VALID_IMAGES" not in draft.keys:
        text = (
            "the images of both files are in one folder; set VALID_PATTERN or VALID_CSV to choose those that validate"
        )
        draft.unknown("BOXES", text)
    draft.sure("BOXES", found.text, form)
    draft.keys["CLASSES"] = found.classes
    for remark in found.remarks:
        draft.add(*remark)


def _sample(listings: Sequence[Listing]) -> Listing | None:
    samples = [one for one in listings if one.is_sample]
    return min(samples, key=lambda one: (not one.num_rows, len(one.file), one.file), default=None)


def _describe_lists(draft: Draft, found: Annotations, ids: Ids, listings: Sequence[Listing]) -> Lists:
    """Sets the keys of lists; returns the lists."""
    own, sample, table = all_ids(ids), _sample(listings), found.listing
    labelled = {id for id, file in ids.ids("", "train").items() if table or stem_of(file.path) in found.stems}
    has_valid_folder = "VALID_IMAGES" in draft.keys
    lists = choose_lists(ids, listings, sample, table, labelled, has_valid_folder, table is not None)
    if table and lists.train is None and lists.test and cells_of(lists.test, own) & ids.ids("", "train").keys():
        lists = lists._replace(train=table)  # all files would have the test images, too
        draft.guess("TRAIN_CSV", "images without a row are not used, since test images are in the same folder")
    if lists.train:
        draft.sure("TRAIN_CSV", f"{len(cells_of(lists.train, own)):,} images", lists.train.file)
        if (split := lists.train.subset_column()) and not has_valid_folder:
            draft.guess("SPLIT_COLUMN", "names the organisers' subsets or folds", split)
        elif lists.valid:
            draft.sure("VALID_CSV", f"{len(cells_of(lists.valid, own)):,} images", lists.valid.file)
    else:
        rows = "; those without a row have no boxes" * (table is not None)
        draft.sure("TRAIN_CSV", f"no list has the training images, so all files are taken{rows}", None)
    if lists.test:
        draft.sure("TEST_CSV", f"{len(cells_of(lists.test, own)):,} images to predict", lists.test.file)
    else:
        why = "no list has the test images" if "TEST_IMAGES" in draft.keys else "no test images are here"
        hidden = "; if the test set is hidden, name its folder with `--test-dir`" * ("TEST_IMAGES" not in draft.keys)
        draft.sure("TEST_CSV", why + hidden, None)
    if sample:
        draft.sure("SAMPLE_SUBMISSION", f"{sample.num_rows:,} rows", sample.file)
    _describe_id_column(draft, found, own, [lists.train, lists.test, sample])
    return lists


def _describe_id_column(draft: Draft, found: Annotations, own: set[str], named: Sequence[Listing | None]) -> None:
    columns = [one.id_column(own) for one in named if one]
    own_column = found.form.get("ID_COLUMN")
    column = next((column[0] for column in columns if column and column[0]), own_column)
    if column:
        draft.sure("ID_COLUMN", "its cells are names of images", column)
    if column == own_column:
        draft.keys["BOXES"].pop("ID_COLUMN", None)


def _describe_without_boxes(draft: Draft, found: Annotations, ids: Ids, lists: Lists) -> None:
    """Sets WITHOUT_MASK where images for training have no annotations; those without a row of a csv have no box."""
    if found.listing is not None:
        return
    own = all_ids(ids)
    subsets = ("", "train", *(["valid"] if "VALID_IMAGES" in draft.keys else []))
    listed = {id for one in (lists.train, lists.valid) if one for id in cells_of(one, own)}
    stems = {id: stem_of(file.path) for id, file in ids.ids(*subsets).items() if not listed or id in listed}
    missing = {id for id, stem in stems.items() if stem not in found.stems}
    if not missing:
        return
    predicted = cells_of(lists.test, own) if lists.test else set()
    is_unlabelled = not listed and ("COCO" in found.form or len(missing) > MOSTLY * len(stems) or missing & predicted)
    text = f"{len(missing):,} images have no annotations, and "
    if is_unlabelled:
        draft.guess("WITHOUT_MASK", f"{text}are left out; `empty` means that they have no boxes", "skip")
    else:
        draft.guess("WITHOUT_MASK", f"{text}count as images without boxes; `skip` leaves them out", "empty")


def _describe_bad_boxes(draft: Draft, folder: Path, ids: Ids) -> None:
    """Sets BAD_BOXES where some boxes are invalid, and notes what else is wrong with a box.

    Args:
        draft: is complete.
    """
    source = BoxSource(draft.competition(), folder)
    subsets = ("", "train", *(["valid"] if "VALID_IMAGES" in draft.keys else []))
    problems = list(source.problems)
    for image_id, file in spread(list(ids.ids(*subsets).items()), MOST_CHECKED):
        if cell := source.cell(image_id):
            size = size_of(folder / file.path)
            problems += source.inspect(image_id, cell, Inspection(*size, None, ())).problems
    skipped = [one for one in problems if one.kind in SKIPPED]
    others = [one for one in problems if one.kind not in SKIPPED]
    if skipped:
        kinds = ", ".join(sorted({one.kind for one in skipped}))
        text = f"BAD_BOXES: {len(skipped):,} boxes are invalid ({kinds}) and dropped; `refuse` lists them"
        draft.guess("BOXES", text, draft.keys["BOXES"] | {"BAD_BOXES": "skip"})
    if others:
        draft.unknown("BOXES", f"{others[0].kind}: {others[0].file}, {others[0].found}; `prepare` says how to fix it")
