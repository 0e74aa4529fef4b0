"""The convention of run lengths is found from texts and images, and what is not sure is called so."""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
import pytest

from pipeline.config.competition import Convention
from pipeline.segmentation.submission.edges import guess_convention
from pipeline.segmentation.submission.rle import encode

ALL = [Convention(*one) for one in product(("row", "column"), (0, 1), (False, True))]


def scenes(number: int, height: int, width: int, contrast: float = 40) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns masks (bool) of ellipses, some beyond the border, and noisy images that show them."""
    rng = np.random.default_rng(5)
    found = []
    while len(found) < number:
        mask = np.zeros((height, width), np.uint8)
        for _ in range(rng.integers(1, 4)):
            centre = (int(rng.integers(width)), int(rng.integers(height)))
            axes = (int(rng.integers(5, width // 3)), int(rng.integers(5, height // 4)))
            cv2.ellipse(mask, centre, axes, float(rng.integers(180)), 0, 360, 1, -1)
        if 0 < mask.sum() < mask.size:
            image = 90 + rng.normal(0, 8, mask.shape) + contrast * mask
            found.append((mask > 0, np.clip(image, 0, 255).astype(np.uint8)))
    return found


def examples(pairs, convention: Convention) -> list[tuple[str, np.ndarray]]:
    return [(encode(mask.astype(np.uint8), 2, convention)[1], image) for mask, image in pairs]


@pytest.mark.parametrize("size", [(64, 64), (60, 90)], ids=["square", "wide"])
@pytest.mark.parametrize("convention", ALL, ids=lambda one: f"{one.order} {one.base} {one.relative}")
def test_every_convention_is_found_for_sure(convention, size):
    guess = guess_convention(examples(scenes(30, *size), convention), Convention())
    assert guess is not None
    assert (guess.convention, guess.doubtful) == (convention, ())


def test_images_that_do_not_show_the_objects_leave_the_direction_open():
    pairs = scenes(30, 64, 64, contrast=0)
    guess = guess_convention(examples(pairs, Convention("column", 1)), Convention())
    assert "order" in guess.doubtful


def test_what_is_given_is_not_looked_for():
    wide = scenes(30, 60, 90)
    texts = examples(wide, Convention("column", 1))
    for order in ("row", "column"):
        guess = guess_convention(texts, Convention(order), given=("order",))
        assert guess is None or guess.convention.order == order
    assert guess_convention(texts, Convention("column"), given=("order",)).convention == Convention("column", 1)


def test_runs_that_leave_every_image_fit_no_convention():
    assert guess_convention([("1 999999", np.zeros((8, 8), np.uint8))], Convention()) is None


def test_a_few_rows_with_bugs_do_not_hide_the_convention():
    convention = Convention("column", 1)
    texts = examples(scenes(60, 60, 90), convention)
    texts[7] = ("5390 20", texts[7][1])  # beyond the last pixel, as some published encoders write
    assert guess_convention(texts, Convention()).convention == convention
