"""Several classes per pixel: planes, their files, annotators, and how overlaps are drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.config.competition import IGNORE, Competition, MaskCsv
from pipeline.data.augment import Geometry, cut_label
from pipeline.data.build_store import build_store, resize
from pipeline.data.padding import pad
from pipeline.data.store import open_store
from pipeline.data.tiles import Box
from pipeline.segmentation import copy_paste, planes
from pipeline.segmentation.mask_facts import find_facts
from pipeline.segmentation.mask_source import MaskSource, Row
from pipeline.segmentation.planes import FULL, NO_CLASS, count_planes, is_present, majority_index, mean_share, striped
from tests.data.catalogs import plain_images, train_catalog

HEIGHT, WIDTH = 40, 60
PETS = Competition(
    name="pets",
    title="Pets",
    classes=("cat", "dog"),
    images="images/{id}.png",
    masks="masks/{id}_{class}.png",
    labels="multilabel",
    train_csv=None,
    test_csv=None,
    without_mask="empty",
)
CAT, DOG = np.zeros((HEIGHT, WIDTH), bool), np.zeros((HEIGHT, WIDTH), bool)
CAT[5:25, 5:35], DOG[15:35, 25:55] = True, True  # they overlap in 10 x 10 pixels
BOTH = np.stack([CAT, DOG], -1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for image_id in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"images/{image_id}.png"), rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
    return tmp_path


def read(competition: Competition, folder: Path, image_id: str = "a") -> np.ndarray:
    """Returns an image's planes as `prepare` finds them and the store keeps them."""
    catalog, problems = train_catalog(competition, folder)
    assert problems == []
    source = MaskSource(competition, folder, find_facts(competition, folder))
    path = build_store(plain_images(folder), catalog, None, folder / "tiles", source, lambda line: None)
    row = next(row for row in catalog.itertuples() if row.id == image_id)
    found = source.read(row)
    assert np.array_equal(open_store(path).label(image_id), found)
    counts = count_planes(found)
    assert [getattr(row, f"pixels_{index}") for index in range(found.shape[2])] == counts[: found.shape[2]].tolist()
    return found


def write_class_files(folder: Path, values: int = 255) -> None:
    for name, mask in (("cat", CAT), ("dog", DOG)):
        cv2.imwrite(str(folder / f"masks/a_{name}.png"), mask.astype(np.uint8) * values)


def test_a_file_per_class_keeps_pixels_of_both_classes(folder):
    write_class_files(folder)
    found = read(PETS, folder)
    assert found.dtype == np.uint8 and np.array_equal(found == FULL, BOTH)
    assert not read(PETS, folder, "b").any()  # no files: none of the classes


def test_run_lengths_keep_pixels_of_both_classes(folder):
    rows = [f"a,{name},{_runs(mask)}" for name, mask in (("cat", CAT), ("dog", DOG))]
    (folder / "train.csv").write_text("\n".join(["id,class,rle", *rows]) + "\n")
    csv = MaskCsv("train.csv", class_column="class", order="row", base=1, relative=False)
    competition = replace(PETS, masks=csv, id_column="id", class_labels="names")
    found = read(competition, folder)
    assert np.array_equal(is_present(found), BOTH)
    source = MaskSource(competition, folder, find_facts(competition, folder))
    window = source.window(Row("a", "train.csv", HEIGHT, WIDTH), Box(20, 10, 25, 17))
    assert np.array_equal(window, found[10:27, 20:45])  # of a large image parts are read


def _runs(mask: np.ndarray) -> str:
    flat = np.flatnonzero(np.diff(np.pad(mask.ravel().astype(int), 1)))
    return " ".join(f"{first + 1} {last - first}" for first, last in zip(flat[::2], flat[1::2], strict=True))


def test_a_channel_per_class_is_read_from_arrays_and_colour_files(folder):
    np.save(folder / "masks/a.npy", BOTH)
    assert np.array_equal(is_present(read(replace(PETS, masks="masks/{id}.npy"), folder)), BOTH)
    three = np.dstack([BOTH, ~CAT]).astype(np.uint8) * 255
    cv2.imwrite(str(folder / "masks/a.png"), cv2.cvtColor(three, cv2.COLOR_RGB2BGR))
    competition = replace(PETS, classes=("cat", "dog", "floor"), colors=(), masks="masks/{id}.png")
    assert np.array_equal(is_present(read(competition, folder)), three > 0)


def test_a_value_may_mean_several_classes_or_be_ignored(folder):
    stored = CAT * 1 + DOG * 2
    stored[0] = 9
    cv2.imwrite(str(folder / "masks/a.png"), stored.astype(np.uint8))
    values = {"cat": (1, 3), "dog": (2, 3), "ignore": (9,)}
    found = read(replace(PETS, masks="masks/{id}.png", mask_values=values), folder)
    assert (found[0] == IGNORE).all() and np.array_equal(is_present(found[1:]), BOTH[1:])


def test_a_file_with_other_channels_and_a_value_without_a_class_are_refused_with_a_remedy(folder):
    np.save(folder / "masks/a.npy", np.dstack([BOTH, CAT]))
    _, (problem,) = train_catalog(replace(PETS, masks="masks/{id}.npy"), folder)
    assert problem.kind == "mask of other channels" and problem.found == "3 channels for 2 classes"
    assert "{class} into MASKS" in problem.fix
    cv2.imwrite(str(folder / "masks/a.png"), CAT.astype(np.uint8) * 7)
    values = {"cat": (1,), "dog": (2,)}
    _, (problem,) = train_catalog(replace(PETS, masks="masks/{id}.png", mask_values=values), folder)
    assert problem.kind == "mask value not in MASK_VALUES" and problem.found == "values 7"


def test_shares_are_soft_labels_of_one_class(folder):
    cv2.imwrite(str(folder / "masks/a_cat.png"), np.where(CAT, 255, 102).astype(np.uint8))
    found = read(replace(PETS, mask_values="shares"), folder)
    assert set(np.unique(found[..., 0])) == {96, FULL}  # 102 of 255 is two fifths
    np.save(folder / "masks/a.npy", np.where(CAT, 0.5, 0.0))
    one = replace(PETS, classes=("cat",), colors=(), masks="masks/{id}.npy", mask_values="shares")
    assert np.array_equal(is_present(read(one, folder))[..., 0], CAT)


@pytest.mark.parametrize(("how", "wanted"), [("mean", {0, 80, 160, 240}), ("vote", {0, 240})])
def test_masks_of_three_annotators_are_averaged_or_voted_on(folder, how, wanted):
    views = [CAT, CAT & ~DOG, np.roll(CAT, 5, axis=1)]
    for number, mask in enumerate(views):
        (folder / f"masks/{number}").mkdir()
        cv2.imwrite(str(folder / f"masks/{number}/a.png"), mask.astype(np.uint8) * 255)
    templates = tuple(f"masks/{number}/{{id}}.png" for number in range(3))
    found = read(replace(PETS, classes=("cat",), colors=(), masks=templates, annotators=how), folder)[..., 0]
    assert set(np.unique(found)) == wanted
    assert np.array_equal(is_present(found), sum(view.astype(int) for view in views) >= 2)


def test_annotators_vote_on_one_class_per_pixel_too(folder):
    views = [np.full((HEIGHT, WIDTH), value, np.uint8) for value in (2, 1, 1)]
    for number, mask in enumerate(views):
        (folder / f"masks/{number}").mkdir()
        for image_id in ("a", "b"):
            cv2.imwrite(str(folder / f"masks/{number}/{image_id}.png"), mask)
    templates = tuple(f"masks/{number}/{{id}}.png" for number in range(3))
    plain = replace(PETS, classes=("floor", "cat", "dog"), colors=(), labels="exclusive", annotators="vote")
    catalog, problems = train_catalog(replace(plain, masks=templates), folder)
    assert problems == [] and catalog["pixels_1"].tolist() == [HEIGHT * WIDTH] * 2
    assert majority_index([views[0], views[1]]).max() == 2  # a tie goes to the first


@given(arrays.arrays(np.uint8, (3, 4, 5, 2), elements=st.sampled_from([0, FULL, IGNORE])))
def test_the_mean_share_is_that_of_the_annotators_who_know(parts):
    known = (parts != IGNORE).sum(0)
    wanted = np.where(parts == IGNORE, 0, parts).sum(0) / np.maximum(known, 1)
    found = mean_share(list(parts))
    assert (found[known == 0] == IGNORE).all() and np.allclose(found[known > 0], wanted[known > 0])


@pytest.mark.parametrize("num_classes", [1, 2, 3, 4, 5, 9])
def test_planes_are_cut_warped_padded_and_resized_as_each_alone(num_classes):
    rng = np.random.default_rng(1)
    label = rng.choice(np.array([0, FULL, IGNORE], np.uint8), (HEIGHT, WIDTH, num_classes))
    box = Box(7, 3, 32, 24)
    for warped, border in ((False, "reflect_101"), (True, "reflect_101"), (True, "constant")):
        geometry = Geometry(flip=True, warped=warped, angle=20.0 if warped else 0.0, border=border)
        found = cut_label(label, geometry, box, IGNORE)
        for index in range(num_classes):
            alone = cut_label(np.ascontiguousarray(label[..., index]), geometry, box, IGNORE)
            assert np.array_equal(found[..., index], alone)
            for value in (None, IGNORE):
                assert np.array_equal(pad(found, (32, 64), value)[..., index], pad(alone, (32, 64), value))
    blank = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for scale in ((29, 23), (90, 77)):
        resized = resize(blank, label, scale)[1]
        alone = [resize(blank, np.ascontiguousarray(label[..., index]), scale)[1] for index in range(num_classes)]
        assert np.array_equal(resized, np.stack(alone, -1))


def test_pasting_a_class_brings_all_classes_of_its_pixels():
    source = planes.from_bool(BOTH)
    image, mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8), planes.from_bool(np.stack([~CAT, ~CAT], -1))
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    before = mask.copy()
    copy_paste.paste(image, mask, source, [0], lambda box: white[: box.height, : box.width])
    assert np.array_equal(mask[CAT], source[CAT]) and np.array_equal(mask[~CAT], before[~CAT])
    assert image[CAT].min() > 100  # at a corner the seam mixes both


def test_overlaps_are_drawn_as_stripes_of_all_their_classes():
    drawn = striped(planes.from_bool(BOTH))
    assert (drawn[CAT & ~DOG] == 0).all() and (drawn[DOG & ~CAT] == 1).all()
    assert set(np.unique(drawn[CAT & DOG])) == {0, 1}
    assert (drawn[~CAT & ~DOG] == NO_CLASS).all()


def test_another_order_of_the_classes_is_another_content(folder):
    cv2.imwrite(str(folder / "masks/a.png"), CAT.astype(np.uint8))
    values = {"cat": (1,), "dog": (2,)}
    first = replace(PETS, masks="masks/{id}.png", mask_values=values)
    second = replace(first, classes=("dog", "cat"), colors=())
    row = Row("a", "masks/a.png", HEIGHT, WIDTH)
    contents = {MaskSource(one, folder).content(row) for one in (first, second)}
    assert len(contents) == 2


@pytest.mark.parametrize(
    ("stored", "values", "found"),
    [
        (np.where(CAT, np.nan, 0.0), None, "NaN or infinite pixels"),
        (np.where(CAT, np.nan, 0.5), "shares", "NaN or infinite pixels"),
        (CAT * 3.5, "shares", "float64 from 0 to 3.5"),
        (CAT.astype(np.int64), "shares", "int64 from 0 to 1"),
    ],
)
def test_numbers_that_are_no_shares_or_no_numbers_are_refused(stored, values, found, folder):
    np.save(folder / "masks/a.npy", stored)
    one = replace(PETS, classes=("cat",), colors=(), masks="masks/{id}.npy", mask_values=values)
    _, (problem,) = train_catalog(one, folder)
    assert (problem.kind, problem.found) == ("mask of other numbers", found)


def test_an_annotator_without_a_file_has_marked_nothing_or_is_refused(folder):
    for name in ("0", "1"):
        (folder / "masks" / name).mkdir()
    for image_id in ("a", "b"):
        cv2.imwrite(str(folder / f"masks/0/{image_id}.png"), CAT.astype(np.uint8))
    templates = ("masks/0/{id}*.png", "masks/1/{id}*.png")
    one = replace(PETS, classes=("cat",), colors=(), masks=templates, annotators="mean")
    assert set(np.unique(read(one, folder))) == {0, 120}
    _, problems = train_catalog(replace(one, without_mask="refuse"), folder)
    assert {problem.found for problem in problems} == {
        f"not all annotators have a file of {image_id!r}" for image_id in ("a", "b")
    }


def test_pasting_by_occurrence_brings_no_class_that_overlaps_the_pasted_one():
    source, mask = planes.from_bool(BOTH), planes.from_bool(np.stack([CAT, np.zeros_like(CAT)], -1))
    assert copy_paste.keep_occurrence([0], mask, source, count_planes(mask)) == []
    alone = planes.from_bool(np.stack([CAT & ~DOG, np.zeros_like(CAT)], -1))
    assert copy_paste.keep_occurrence([0], mask, alone, count_planes(mask)) == [0]
