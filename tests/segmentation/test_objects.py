"""Objects: numbered where they touch, grown from cores, trained with borders, read from every form of label."""

from __future__ import annotations

import heapq
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.config.competition import IGNORE, Competition, Convention, MaskCsv, Objects
from pipeline.segmentation.mask_source import MaskSource, Row
from pipeline.segmentation.object_decoding import with_objects
from pipeline.segmentation.objects import (
    LEVELS,
    borders,
    class_of,
    digest_objects,
    like_first,
    match_objects,
    object_map,
    outlines,
    parted,
    renumbered,
    watershed,
    without_small,
)
from pipeline.segmentation.predict import Prediction
from pipeline.segmentation.submission.rle import encode
from tests.data.catalogs import train_catalog
from tests.segmentation.nuclei import draw_nuclei

CELLS = Competition(
    name="cells",
    title="Cells",
    classes=("back", "cell", "border"),
    images="images/{id}.png",
    masks="masks/{id}/*.png",
    mask_values=(0, 255),
    train_csv=None,
    test_csv=None,
    convention=Convention("column", 1, rows="id"),
    objects=Objects("watershed", border="border"),
)
ROW = Row("a", "", 256, 320)
COLUMN = np.arange(60)


def drawn(seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """The object map of nuclei of class 1, and their pixels."""
    _, nuclei = draw_nuclei(np.random.default_rng(seed), 256, 320)
    return sum((256 * number + 1) * own.astype(np.int32) for number, own in enumerate(nuclei, start=1)), nuclei


def same_objects(first: np.ndarray, second: np.ndarray) -> bool:
    return np.array_equal(renumbered(first), renumbered(second))


def numbers() -> st.SearchStrategy[np.ndarray]:
    shape = npst.array_shapes(min_dims=2, max_dims=2, max_side=9)
    return npst.arrays(np.int32, shape, elements=st.integers(0, 4))


def slow_watershed(seeds: np.ndarray, plane: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The usual flooding: always the highest pixel beside a numbered one, of equals the one found first."""
    found, queue, count = np.where(plane, seeds, 0), [], 0

    def push(row: int, column: int) -> None:
        nonlocal count
        for down, right in product((-1, 0, 1), repeat=2):
            y, x = row + down, column + right
            if 0 <= y < plane.shape[0] and 0 <= x < plane.shape[1] and plane[y, x] and not found[y, x]:
                heapq.heappush(queue, (-int(levels[y, x]), count, y, x, int(found[row, column])))
                count += 1

    for row, column in zip(*np.nonzero(found), strict=True):
        push(row, column)
    while queue:
        *_, y, x, number = heapq.heappop(queue)
        if not found[y, x]:
            found[y, x] = number
            push(y, x)
    return found


def test_a_watershed_is_the_usual_flooding_but_for_a_pixel_of_some_lines():
    rng, (true, _) = np.random.default_rng(1), drawn()
    plane = true > 0
    depth = cv2.distanceTransform(plane.astype(np.uint8), cv2.DIST_L2, 5)
    probs = cv2.GaussianBlur(np.clip(0.4 + 0.05 * depth + rng.normal(0, 0.02, depth.shape), 0, 1), (0, 0), 1)
    probs = probs.astype(np.float32)
    core = plane & (probs > 0.6)
    found = watershed(plane, core, probs)
    assert ((found > 0) == plane).all()
    _, seeds = cv2.connectedComponents(core.astype(np.uint8), connectivity=8)
    wanted = slow_watershed(seeds, plane, (probs * (LEVELS - 1)).astype(np.uint8))
    has_seed = wanted > 0
    same = like_first(256 * wanted, 256 * found) // 256
    assert seeds.max() > 10 and (same != wanted)[has_seed].mean() < 0.02


def test_seeds_grow_along_high_probability_and_meet_in_the_valley():
    plane = np.ones((5, 60), bool)
    valley = np.tile(np.interp(COLUMN, [0, 10, 40, 50, 59], [0.9, 0.95, 0.55, 0.95, 0.9]), (5, 1)).astype(np.float32)
    core = plane & (valley > 0.9)
    found = watershed(plane, core, valley)
    assert sorted(np.unique(found)) == [1, 2]
    edge = int((found[2] == found[2, 0]).sum())
    assert 38 <= edge <= 42  # at the lowest probability, not half-way between the cores (30)


def test_a_piece_without_a_core_is_an_object_of_its_own():
    plane = np.zeros((5, 60), bool)
    plane[:, :10], plane[:, 20:50] = True, True
    core = (COLUMN > 22) & (COLUMN < 26) | (COLUMN > 44) & (COLUMN < 48)
    found = watershed(plane, plane & core, np.full(plane.shape, 0.8, np.float32))
    assert len(np.unique(found[found > 0])) == 3 and len(np.unique(found[:, :10])) == 1


def test_pixels_that_touch_at_a_corner_are_one_object_and_small_ones_are_dropped():
    mask = np.uint8([[1, 0, 0, 1], [0, 1, 0, 0]])
    one = object_map(mask, {1: cv2.connectedComponents(mask, connectivity=8)[1]})
    assert one.tolist() == [[257, 0, 0, 513], [0, 257, 0, 0]]
    kept = object_map(mask, {1: without_small(one // 256, 2)})
    assert kept.tolist() == [[257, 0, 0, 0], [0, 257, 0, 0]]


@given(numbers(), st.integers(1, 3))
def test_borders_are_the_pixels_whose_window_has_two_objects(objects, width):
    found = borders(objects * 256 + (objects > 0), width)
    for y, x in np.ndindex(objects.shape):
        window = objects[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
        assert found[y, x] == (len(np.unique(window[window > 0])) > 1)


@given(numbers())
def test_the_hash_of_objects_depends_on_their_pixels_and_not_on_their_numbers(objects):
    one, other = (numbers * 256 + (objects > 0) for numbers in (objects, (5 - objects) * (objects > 0)))
    assert digest_objects(one, [1]) == digest_objects(other, [1])
    assert (digest_objects(one, [1]) == digest_objects(np.zeros_like(one), [1])) == (not objects.any())
    if len(np.unique(objects[objects > 0])) > 1:
        assert digest_objects(one, [1]) != digest_objects((objects > 0) * np.int32(257), [1])


@given(numbers(), st.data())
def test_matches_have_the_iou_of_each_pair(first, data):
    second = data.draw(npst.arrays(np.int32, first.shape, elements=st.integers(0, 3)))
    found = match_objects(first, second)
    ious = dict(zip(zip(found.first.tolist(), found.second.tolist(), strict=True), found.iou, strict=True))
    assert (found.num_first, found.num_second) == tuple(len(np.unique(one[one > 0])) for one in (first, second))
    for pair in product(range(1, 5), range(1, 4)):
        own, other = first == pair[0], second == pair[1]
        assert (pair in ious) == bool((own & other).any())
        if pair in ious:
            assert ious[pair] == pytest.approx((own & other).sum() / (own | other).sum())


def test_outlines_and_parting_lines_show_where_touching_objects_meet():
    touching = np.zeros((9, 12), np.int32)
    touching[1:8, 1:6], touching[1:8, 6:11] = 257, 513
    assert outlines(touching).sum() == 2 * (7 * 5 - 5 * 3)
    assert np.unique(np.nonzero(parted(touching) == IGNORE)[1]).tolist() == [5, 6]
    assert outlines((touching > 0) * np.int32(257)).sum() == 7 * 10 - 5 * 8


def write_masks(folder: Path, form: str, nuclei: list[np.ndarray]) -> Competition:
    """Writes the labels of image `a` in one of the forms; returns its competition."""
    (folder / "masks" / "a").mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), np.zeros((256, 320, 3), np.uint8))
    if form == "a file per object":
        for number, own in enumerate(nuclei):
            cv2.imwrite(str(folder / f"masks/a/{number:03d}.png"), own * np.uint8(255))
        return replace(CELLS, images="{id}.png")
    if form == "a row per object":
        texts = [encode(own.astype(np.uint8), 2, CELLS.convention)[1] for own in nuclei]
        (folder / "runs.csv").write_text("\n".join(["ImageID,pixels", *(f"a,{text}" for text in texts)]) + "\n")
        given = MaskCsv("runs.csv", order="column", base=1, relative=False)
        return replace(CELLS, images="{id}.png", masks=given, mask_values=None)
    stored = sum((7 * number) * own.astype(np.uint16) for number, own in enumerate(nuclei, start=40))
    cv2.imwrite(str(folder / "masks" / "a.png"), stored)
    return replace(CELLS, images="{id}.png", masks="masks/{id}.png", mask_values="objects")


FORMS = ("a file per object", "a row per object", "a number per object")


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_every_form_keep_touching_objects_apart_and_train_borders(tmp_path, form):
    true, nuclei = drawn()
    competition = write_masks(tmp_path, form, nuclei)
    source = MaskSource(competition, tmp_path, {"order": "column", "base": 1, "relative": False})
    row = Row("a", source.cell("a"), 256, 320)
    assert same_objects(source.read_objects(row), true)
    merged = cv2.connectedComponents((true > 0).astype(np.uint8))[0] - 1
    assert merged < len(nuclei)  # so many touch
    mask, is_border = source.read(row), borders(true, 2)
    assert (mask == np.where(is_border, 2, true > 0)).all() and is_border.sum() > 100
    inside = cv2.connectedComponents((mask == 1).astype(np.uint8), connectivity=8)[0] - 1
    assert inside >= len(nuclei)  # no two of them touch any more
    catalog, problems = train_catalog(competition, tmp_path)
    assert problems == []
    assert catalog.loc[0, ["pixels_1", "pixels_2"]].tolist() == [(mask == 1).sum(), (mask == 2).sum()]


def test_without_a_class_of_borders_the_mask_is_as_ever_and_another_width_is_another_content(tmp_path):
    true, nuclei = drawn()
    competition = write_masks(tmp_path, "a file per object", nuclei)
    plain = replace(competition, classes=("back", "cell"), objects=Objects("components"))
    sources = [MaskSource(one, tmp_path) for one in (plain, replace(plain, objects=Objects()), competition)]
    row = Row("a", sources[0].cell("a"), 256, 320)
    assert all((source.read(row) == (true > 0)).all() for source in sources[:2])
    assert sources[0].content(row) == sources[1].content(row) != sources[2].content(row)
    wider = MaskSource(replace(competition, objects=replace(competition.objects, border_width=3)), tmp_path)
    assert wider.content(row) != sources[2].content(row)


def test_a_file_per_image_has_the_connected_components_as_objects(tmp_path):
    (tmp_path / "masks").mkdir()
    mask = np.zeros((256, 320), np.uint8)
    mask[10:20, 10:20], mask[10:20, 30:40] = 255, 255
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), mask)
    source = MaskSource(replace(CELLS, masks="masks/{id}.png"), tmp_path)
    row = Row("a", "masks/a.png", 256, 320)
    assert sorted(np.unique(source.read_objects(row))) == [0, 257, 513]
    assert sorted(np.unique(MaskSource(CELLS, tmp_path).read_objects(ROW))) == [0]  # an image without a file


def prediction(probs_CHW: np.ndarray) -> Prediction:
    logits = np.log(np.clip(probs_CHW, 1e-4, 1)).astype(np.float16)
    return Prediction(logits, 1, False, (0, 0), probs_CHW.shape[1:])


def test_predicted_borders_part_touching_objects_and_are_given_back_to_them():
    true, nuclei = drawn(3)
    mask, inner = np.where(borders(true, 2), 2, true > 0), np.float32(0.75)
    probs = np.full((3, 256, 320), (1 - inner) / 2, np.float32)
    np.put_along_axis(probs, mask[None], inner, 0)
    outside = (mask == 2) & (true == 0)
    probs[0][outside], probs[1][outside] = 0.2, 0.05  # between two objects, background is the next best
    probs[0][(mask == 2) & (true > 0)] = 0.05
    one = prediction(probs)
    found = with_objects([one], mask.astype(np.uint8), CELLS)
    assert sorted(np.unique(class_of(found))) == [0, 1]
    matches = match_objects(true // 256, found // 256)
    best = [matches.iou[matches.first == number].max() for number in range(1, len(nuclei) + 1)]
    assert np.mean(best) > 0.95 and np.mean(np.array(best) > 0.5) > 0.95
    pieces = with_objects([one], mask.astype(np.uint8), replace(CELLS, objects=Objects("components", border="border")))
    assert (class_of(pieces) == mask).all()  # components leave borders to no object
    larger = with_objects([one], mask.astype(np.uint8), CELLS, replace(CELLS.objects, min_size=300))
    sizes = np.bincount((larger // 256).ravel())[1:]
    assert 0 < len(sizes) < len(nuclei) and sizes.min() >= 300


def test_a_small_piece_is_given_to_the_object_that_it_touches_and_dropped_alone():
    probs = np.full((3, 12, 60), 0.01, np.float32)
    row = np.where(COLUMN < 30, 0.9, 0.05).astype(np.float32)
    row[24:26], row[27] = 0.55, 0.55  # parts two columns with a high probability from the rest
    row[50:52] = 0.9
    probs[1, 2:10] = row
    probs[0] = 0.99 - probs[1]
    mask = probs.argmax(0).astype(np.uint8)
    every, larger = (
        with_objects([prediction(probs)], mask, replace(CELLS, objects=Objects("watershed", min_size=size)))
        for size in (0, 40)
    )
    sizes = [sorted(np.bincount((one // 256).ravel())[1:].tolist()) for one in (every, larger)]
    assert len(sizes[0]) == 4 and sizes[1] == [8 * 30]


def test_borders_far_from_any_object_are_none():
    probs = np.full((3, 20, 30), 0.1, np.float32)
    probs[0] = 0.8
    probs[:, 5:15, 5:15] = np.float32([0.05, 0.35, 0.6])[:, None, None]
    mask = probs.argmax(0).astype(np.uint8)
    assert (mask == 2).sum() == 100
    assert not with_objects([prediction(probs)], mask, CELLS).any()


def test_masks_stay_masks_where_objects_are_not_told_apart():
    mask = np.eye(5, dtype=np.uint8)
    plain = replace(CELLS, classes=("back", "cell"), objects=Objects())
    assert with_objects([], mask, plain) is mask
