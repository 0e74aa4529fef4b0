"""What an unknown folder is, as a descriptor: images, masks, lists and sample put together; `./run.sh new FOLDER`.

In: a competition's folder. Out: a `Draft` of its descriptor, with what is sure, what is guessed and what is open.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.config.competition import TEXT_LIST
from pipeline.config.template import CONVERT, POLYGONS, VOLUMES, kind_problem
from pipeline.errors import UserError
from pipeline.paths import shown
from pipeline.segmentation.discovery.classes import describe_classes, describe_overlap
from pipeline.segmentation.discovery.contents import size_of, spread
from pipeline.segmentation.discovery.draft import Draft
from pipeline.segmentation.discovery.families import Family, find_families, list_paths
from pipeline.segmentation.discovery.findings import (
    Findings,
    all_ids,
    cells_of,
    find_lists,
    labelled_ids,
    predicted_ids,
    training_ids,
)
from pipeline.segmentation.discovery.forms import describe_form, describe_mask_size, stacked
from pipeline.segmentation.discovery.ids import choose_images, find_ids
from pipeline.segmentation.discovery.lists import Listing, join_listings, read_listings, words_in
from pipeline.segmentation.discovery.masks import find_masks
from pipeline.segmentation.discovery.names import SUFFIXES, split_subset
from pipeline.segmentation.discovery.submission import describe_objects, describe_submission
from pipeline.segmentation.discovery.subsets import Lists, choose_lists

ARCHIVES = (".zip", ".tar", ".gz", ".7z")
MOST_LISTED = 3  # files that a message names
MOSTLY = 0.5  # below this share of images with a mask file, those without count as unlabelled
ENOUGH = 0.95  # share of the images with a mask file, if the others are exceptions
LEAST_SEQUENCES, LEAST_FRAMES = (
    3,
    2.0,
)  # sequences, and images in each on average, for a prefix to name them
SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")  # a name in Kaggle's addresses


def describe_folder(folder: Path, name: str) -> tuple[Draft, Findings]:
    """Returns the descriptor of the competition in a folder, and what it was made from.

    Args:
        folder: exists.
        name: of the competition.

    Raises:
        UserError: the folder has no images, or nothing that says what is on them; with what was found and a remedy.
    """
    paths = list_paths(folder)
    listings = read_listings(folder, _lists(paths))
    known = words_in(listings, paths)
    families = find_families(paths, known)
    if not families:
        raise UserError(_no_images(folder, paths))
    images, looks = choose_images(families, known, folder)
    ids = find_ids(images, known)
    masks = find_masks(families, looks, ids, folder, predicted_ids(listings, ids))
    examples = join_listings(read_listings(folder, _beside_images(paths)))
    findings = find_lists(ids, families, listings, masks, examples)
    if masks is None and findings.runs is None:
        raise UserError(_no_masks(folder, findings, paths))
    draft = Draft(name)
    title = re.sub(r"[_\-\s]+", " ", folder.name).strip() or name
    draft.unknown("TITLE", "the name that reports show; this is the folder's name", title[:1].upper() + title[1:])
    _describe_images(draft, findings)
    _describe_masks(draft, findings)
    labels = describe_classes(draft, findings)
    _describe_lists(draft, findings)
    _describe_without_mask(draft, findings)
    _leave_out_masks(draft, findings)
    _describe_sequences(draft, findings)
    describe_form(draft, findings, folder)
    describe_mask_size(draft, findings, folder)
    text = "no file says how submissions are scored; Dice per image is assumed, see docs/competitions.md"
    draft.unknown("SCORE", text, "dice")
    if SLUG.fullmatch(folder.name):
        draft.guess("KAGGLE_SLUG", "the folder's name looks like one in Kaggle's addresses", folder.name)
    describe_submission(draft, folder, findings, labels)
    describe_objects(draft, findings)
    describe_overlap(draft, findings.runs, training_ids(ids))
    return draft, findings


def image_sizes(folder: Path, findings: Findings, most: int) -> list[tuple[int, int]]:
    """Returns (width, height) of at most so many images, evenly spread; (0, 0) where it is not known."""
    return [size_of(folder / file.path) for file in spread(findings.ids.images.files, most)]


def _lists(paths: Sequence[str]) -> list[str]:
    """Returns the files that may be lists: csv files at the top, or deeper down and the only one of their name.

    Of text files those that are called by a subset: `train.txt`.
    """
    files = [path for path in paths if path.lower().endswith(".csv")]
    names = Counter(PurePosixPath(path).name for path in files)
    texts = [path for path in paths if path.endswith(TEXT_LIST) and split_subset(PurePosixPath(path).stem)[1]]
    return [path for path in files if "/" not in path or names[PurePosixPath(path).name] == 1] + texts


def _beside_images(paths: Sequence[str]) -> list[str]:
    """Returns some of the csv files of the name that most folders have one of, as where each image has its own."""
    files = [path for path in paths if path.lower().endswith(".csv") and "/" in path]
    names = Counter(PurePosixPath(path).name for path in files)
    name, count = names.most_common(1)[0] if names else ("", 0)
    return spread([path for path in files if PurePosixPath(path).name == name]) if count > 1 else []


def _no_images(folder: Path, paths: Sequence[str]) -> str:
    if volumes := [path for path in paths if path.lower().endswith(VOLUMES)]:
        return f"{shown(folder)} has {len(volumes):,} volumes and no images: {kind_problem(volumes[0])}"
    archives = [path for path in paths if PurePosixPath(path).suffix.lower() in ARCHIVES]
    if archives:
        return f"{shown(folder)} has archives and no images; unpack them first, such as {archives[0]}"
    what = "it is empty" if not paths else f"it has {len(paths):,} other files, such as {paths[0]}"
    return f"{shown(folder)} has no image: {what}; expected files that end with {', '.join(SUFFIXES)}, at any depth"


def _no_masks(folder: Path, findings: Findings, paths: Sequence[str]) -> str:
    ids, listings = findings.ids, findings.listings
    lists = ", ".join(listing.file for listing in listings[:MOST_LISTED]) or "none"
    found = f"{shown(folder)} has {len(ids.images.files):,} images, {ids.images.template()}, but no masks"
    with_outlines = [one.file for one in listings if not one.is_sample and one.has_polygons]
    if outlines := [*with_outlines, *(path for path in paths if path.lower().endswith(POLYGONS))]:
        many = f", one of {len(outlines):,} such files" * (len(outlines) > 1)
        return f"{found} that are read. {outlines[0]}{many} may have polygons; draw them into PNGs once: {CONVERT}"
    return (
        f"{found}: no files of the "
        f"same names with few values, and no csv with run lengths and the images' names "
        f"(lists: {lists}). Put the masks into the folder, or describe it by hand as in docs/competitions.md"
    )


def _describe_images(draft: Draft, findings: Findings) -> None:
    ids, masks = findings.ids, findings.masks.families if findings.masks else ()
    images, subsets = ids.images, ids.images.subsets
    own = [name for name in ("train", "") if name in subsets] or sorted(subsets)
    draft.sure("IMAGES", f"{len(ids.ids(own[0])):,} images", stacked(ids.template(images, own[0]), images))
    if ids.form == "parts":
        draft.guess("ID_FORMAT", f"ids such as {next(iter(ids.ids()))} are parts of the path", ids.id_format)
    if "valid" in subsets and own[0] != "valid":
        valid, template = ids.ids("valid"), ids.template(images, "valid")
        if images.has_own_keys and all(family.has_own_keys for family in masks):
            draft.sure("VALID_IMAGES", f"{len(valid):,} images in a folder of their own", stacked(template, images))
        else:
            why = f"{template} has names that other images have, too, such as {next(iter(valid))}, so it is not used"
            draft.unknown("VALID_IMAGES", f"{why}; images of training and validation need names of their own")
    if "test" in subsets and own[0] != "test":
        template = stacked(ids.template(images, "test"), images)
        draft.sure("TEST_IMAGES", f"{len(ids.ids('test')):,} images", template)
    elif other := _other_test_images(findings):
        draft.guess(
            "TEST_IMAGES",
            f"{len(other.files):,} files in another form than the training images",
            ids.template(other, "test"),
        )


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
    lists = choose_lists(findings, uses_runs, "VALID_IMAGES" in draft.keys)
    named = [_describe_train_list(draft, findings, lists, uses_runs), lists.test]
    if lists.test:
        draft.sure("TEST_CSV", f"{len(cells_of(lists.test, own)):,} images to predict", lists.test.file)
    else:
        why = "no list has the test images" if "TEST_IMAGES" in draft.keys else "no test images are here"
        hidden = "; where the test set is hidden, `--test-dir` names its folder" * ("TEST_IMAGES" not in draft.keys)
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


def _describe_sequences(draft: Draft, findings: Findings) -> None:
    """Notes which images belong together: a column of the list, or a beginning that many ids share."""
    listing = next((one for one in findings.listings if one.file == draft.keys.get("TRAIN_CSV")), None)
    if listing and (column := listing.sequence_column()):
        draft.guess("SEQUENCE_COLUMN", "says which images belong together and must not be split", column)
        return
    names = list(findings.ids.ids("", "train", "valid"))
    folder_parts = findings.ids.folder_format.count("_") + 1  # of ids that begin with a folder's name: that is a scan
    counts = (folder_parts,) if findings.ids.form == "parts" else (1, 2)
    patterns = ["^(" + sign.join([f"[^{sign}]+"] * num) + f"){sign}" for sign in "_-" for num in counts]
    by_folder = ["^(.+)_[^_]+$"] * (findings.ids.id_format or "").startswith("{folder}_{")
    for pattern in [*by_folder, *patterns, "^([A-Za-z_-]+)[0-9]+$"]:
        found = [match[1] if (match := re.search(pattern, name)) else None for name in names]
        num = len(set(found))
        if None not in found and num >= LEAST_SEQUENCES and len(found) >= LEAST_FRAMES * num:
            text = f"{num:,} prefixes such as {found[0]}, with {len(found) / num:.0f} images each on average"
            draft.guess("SEQUENCE_PATTERN", f"{text}: images of one scene, which must not be split", pattern)
            return
    if "VALID_IMAGES" not in draft.keys:
        draft.unknown("SEQUENCE_PATTERN", "names do not show which images are of one scene, patient or video")
