"""Hints on files of other programs: on real masks when they are there, and on masks that look wrong and are right."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.competition import IGNORE
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.submission.hints import MIN_IMAGES, hints, votes_of
from pipeline.submission.file import find_hints
from tests.segmentation.submission.scenes import (
    CONVENTIONS,
    check_submission,
    make_competition,
    make_images,
    sizes_of,
    write,
    write_foreign,
)

ROW, COLUMN = CONVENTIONS["AeroScapes"], CONVENTIONS["Severstal"]
NUM = 2 * MIN_IMAGES
IMAGES = make_images(11, NUM, make_competition())


def moved(mask_HW, order, places):
    """The mask as it is read when its runs are numbered so many pixels too high."""
    pixels_N = np.roll((mask_HW if order == "row" else mask_HW.T).ravel(), places)
    return pixels_N.reshape(mask_HW.shape) if order == "row" else pixels_N.reshape(mask_HW.shape[::-1]).T


def refolded(mask_HW, order):
    """The mask as it is read in `order` when it was written in the other one."""
    if order == "row":
        return mask_HW.T.ravel().reshape(mask_HW.shape)
    return mask_HW.ravel().reshape(mask_HW.shape[::-1]).T


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("name", ["camvid", "dubai_aerial"])
def test_real_masks_show_order_and_base(shared_data, name, order):
    paths = sorted((shared_data(name) / "masks" / "masks").glob("*.png"))[::4]
    masks = [read_mask(path) for path in paths]
    for shift in (-1, 0, 1):
        found = [votes_of(moved(mask_HW, order, shift), order) for mask_HW in masks]
        assert [vote.is_transposed for vote in found] == [False] * len(masks)
        assert {vote.shift for vote in found} <= {shift, None}
        assert sum(vote.shift == shift for vote in found) >= 0.9 * len(masks)
    assert all(votes_of(refolded(mask_HW, order), order).is_transposed for mask_HW in masks)


def hints_on(masks, convention):
    numbered = ((str(number), mask_HW) for number, mask_HW in enumerate(masks))
    return hints(numbered, make_competition(convention))


@pytest.mark.parametrize("convention", [ROW, COLUMN])
def test_files_of_many_images_in_another_order_or_base_give_one_hint(convention):
    masks, order = list(IMAGES.values()), convention.order
    assert hints_on(masks, convention) == []
    (late,) = hints_on([moved(mask_HW, order, 1) for mask_HW in masks], convention)
    (early,) = hints_on([moved(mask_HW, order, -1) for mask_HW in masks], convention)
    (transposed,) = hints_on([refolded(mask_HW, order) for mask_HW in masks], convention)
    assert (
        f"one pixel after the end of the lines, not at it: the file may count pixels from {1 - convention.base}" in late
    )
    assert "one pixel before the end of the lines" in early
    other = "column" if order == "row" else "row"
    assert f"are clearly smoother read {other} by {other} than {order} by {order}" in transposed


@pytest.mark.parametrize("convention", [ROW, COLUMN])
def test_few_images_or_some_of_many_give_no_hint(convention):
    masks, order = list(IMAGES.values()), convention.order
    for change in (lambda mask_HW: moved(mask_HW, order, 1), lambda mask_HW: refolded(mask_HW, order)):
        assert hints_on([change(mask_HW) for mask_HW in masks[: MIN_IMAGES - 1]], convention) == []
        half = [change(mask_HW) if number % 2 else mask_HW for number, mask_HW in enumerate(masks)]
        assert hints_on(half, convention) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_the_smallest_images_say_nothing(shape):
    for value in (0, IGNORE):
        vote = votes_of(np.full(shape, value, np.uint8), "row")
        assert (vote.is_transposed, vote.shift, vote.is_dense_start) == (None, None, False)
    assert hints_on([], ROW) == []


def test_images_that_fold_alike_in_both_orders_say_nothing_of_it():
    rng = np.random.default_rng(0)
    masks = [
        rng.integers(5, size=(40, 160), dtype=np.uint8),
        rng.integers(5, size=(160, 40), dtype=np.uint8),
        np.repeat(np.arange(40, dtype=np.uint8)[:, None] % 5, 170, axis=1),
        np.repeat(np.arange(170, dtype=np.uint8)[None] % 5, 40, axis=0),
        np.full((40, 170), 2, np.uint8),
        np.tril(np.ones((50, 50), np.uint8)),
    ]
    for order in ("row", "column"):
        assert not any(votes_of(mask_HW, order).is_transposed for mask_HW in masks)


def halved(mask_HW):
    """The mask as it is read when it was written at half the size: its runs fill the first quarter."""
    small_N = mask_HW[::2, ::2].ravel()
    return np.pad(small_N, (0, mask_HW.size - small_N.size), constant_values=IGNORE).reshape(mask_HW.shape)


def test_masks_of_half_the_size_give_a_hint():
    found = hints_on([halved(mask_HW) for mask_HW in IMAGES.values()], ROW)
    assert "20 of 20 images are covered without a gap up to a pixel and not after it, such as 0 (1,440 of" in found[-1]


def test_a_few_pixels_of_no_class_give_a_hint_where_the_file_seems_to_cover_all():
    masks = [mask_HW.copy() for mask_HW in IMAGES.values()]
    masks[3][10:13, 10:20] = IGNORE
    (hint,) = hints_on(masks, ROW)
    assert hint.endswith("of all pixels are in no class, in 1 of 20 images, such as 3")
    assert hints_on([np.where(mask_HW == 0, IGNORE, mask_HW) for mask_HW in masks], ROW) == []
    assert hints_on(masks[:9], ROW) == []


def box(is_flipped, is_turned):
    """A thing that begins one pixel beside the border: the smallest mask at which a guess at the base goes wrong."""
    mask_HW = np.zeros((64, 64), np.uint8)
    mask_HW[20:45, 30:63] = 3
    mask_HW = mask_HW[:, ::-1] if is_flipped else mask_HW
    return np.ascontiguousarray(mask_HW.T if is_turned else mask_HW)


def speckled(rng):
    return rng.integers(5, size=(48, 64), dtype=np.uint8)


RNG = np.random.default_rng(5)
STRANGE = {
    "right border": [box(False, False)],
    "left border": [box(True, False)],
    "lower border": [box(False, True)],
    "upper border": [box(True, True)],
    "many boxes": [box(False, False)] * NUM,
    "many boxes on the left": [box(True, False)] * NUM,
    "many boxes below": [box(False, True)] * NUM,
    "speckled": [speckled(RNG) for _ in range(NUM)],
    "nothing": [np.full((64, 64), IGNORE, np.uint8)] * NUM,
    "one class": [np.full((30, 64), 2, np.uint8)] * NUM,
}


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("name", STRANGE)
def test_what_we_wrote_ourselves_is_never_doubted(tmp_path, name, order, base):
    """Whatever the masks look like: no fault, no hint, and so no advice that would only turn the next file wrong."""
    competition = make_competition(replace(ROW, order=order, base=base))
    images = {f"p{number}": mask_HW for number, mask_HW in enumerate(STRANGE[name])}
    path = write(tmp_path / "a.csv", images, competition)
    problems = check_submission(path, competition, sizes_of(images))
    assert problems == (["warning: no class has a single pixel in any image"] if name == "nothing" else [])
    assert find_hints(path, competition, sizes_of(images)) == []
    path.with_suffix(".json").unlink()  # as if it came from another program: a hint at most
    is_box = name.startswith("many") and ("below" in name) == (order == "column")
    found = find_hints(path, competition, sizes_of(images))
    assert [f"may count pixels from {1 - base}" in hint for hint in found] == [True] * is_box


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("order", ["row", "column"])
def test_a_hint_at_the_base_is_gone_once_it_is_followed(tmp_path, order, base):
    """With things cut by the borders but nothing in the corners, so that no run leaves its image in either base."""
    right, wrong = (make_competition(replace(ROW, order=order, base=number)) for number in (base, 1 - base))
    images = {}
    for number in range(NUM):
        mask_HW = np.full((60, 90), IGNORE, np.uint8)
        mask_HW[10 + number : 40, :30] = mask_HW[20:50, 70:] = 1
        mask_HW[:20, 35:60] = mask_HW[55:, 30 + number : 65] = 1
        images[f"p{number}"] = mask_HW
    path = write_foreign(tmp_path / "a.csv", images, right)
    assert check_submission(path, wrong, sizes_of(images)) == []
    (hint,) = find_hints(path, wrong, sizes_of(images))
    assert f"{path}: in 20 of 20 images" in hint and f"may count pixels from {base} instead of {1 - base}" in hint
    assert find_hints(path, right, sizes_of(images)) == []
