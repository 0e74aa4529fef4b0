"""The gallery's images: four views in one file, small, of the right pixels."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.config.competition import IGNORE
from pipeline.paths import CROPS, GALLERY, GALLERY_LIST, SUSPICIOUS
from pipeline.report import gallery_files
from pipeline.report.gallery_files import MOST_SIDE, THUMB_HEIGHT, THUMB_WIDTH, draw_thumb
from pipeline.segmentation import gallery
from pipeline.segmentation.gallery import draw_crop, draw_gallery, draw_views, views_of
from pipeline.segmentation.mask_source import masks_of
from pipeline.segmentation.panels import BRIGHT
from pipeline.segmentation.planes import FULL
from pipeline.task import Evaluation
from pipeline.training.inputs import split_rows
from pipeline.work.inputs import competition_folder
from tests.tiny import COLORS, ROAD, SIDE, run_of, run_stages

COMPETITION = SimpleNamespace(colors=[(10 * index, 0, 255 - 10 * index) for index in range(12)])


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image, its mask, and a prediction that is wrong in a square."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 :] = 1
    mask[: height // 8] = IGNORE
    prediction = np.where(mask == IGNORE, 2, mask).astype(np.uint8)
    prediction[-10:, -10:] = 2
    return image, mask, prediction


def test_the_four_views_are_below_one_another_and_errors_are_bright():
    image, mask, prediction = scene(48, 64)
    views = views_of(image, mask, prediction)
    assert views.wrong_share == pytest.approx(100 / (48 * 64 * 7 / 8))
    drawn = draw_views(views, COMPETITION, 1024)
    assert drawn.shape == (4 * 48, 64, 3)
    assert (drawn[:48] == image).all()
    is_bright = (drawn[3 * 48 :] == BRIGHT).all(-1)
    assert is_bright.sum() == 100 and is_bright[-10:, -10:].all()


def test_large_images_are_reduced_and_small_ones_are_not_enlarged():
    assert draw_views(views_of(*scene(600, 2048)), COMPETITION, MOST_SIDE).shape == (4 * 300, 1024, 3)
    assert draw_views(views_of(*scene(20, 30)), COMPETITION, MOST_SIDE).shape == (80, 30, 3)
    for size in ((30, 400), (400, 30), (300, 400)):
        assert draw_thumb(scene(*size)[0]).shape == (THUMB_HEIGHT, THUMB_WIDTH, 3)


def test_of_a_mask_too_large_to_be_drawn_every_second_pixel_is_and_all_count(monkeypatch):
    monkeypatch.setattr(gallery, "MOST_DRAWN", 40)
    image, mask, prediction = scene(48, 64)
    views = views_of(image[::4, ::4], mask, prediction)  # a large image comes as a thumbnail
    assert views.mask.shape == (24, 32) and views.wrong_share == pytest.approx(100 / (48 * 64 * 7 / 8))
    assert draw_views(views, COMPETITION, 1024).shape == (4 * 24, 32, 3)


def test_planes_are_drawn_too():
    image = scene(40, 40)[0]
    mask = np.zeros((40, 40, 2), np.uint8)
    mask[:20, :20, 0] = FULL
    prediction = np.zeros_like(mask)
    views = views_of(image, mask, prediction)
    assert views.wrong_share == 0.25 and draw_views(views, COMPETITION, 1024).shape == (160, 40, 3)


@pytest.mark.parametrize(
    ("top", "left", "height", "width"), [(0, 0, 5, 5), (40, 60, 8, 4), (0, 0, 48, 64), (20, 1, 2, 60)]
)
def test_a_region_anywhere_is_cropped_to_three_parts_of_the_same_size(top, left, height, width):
    region = SimpleNamespace(top=top, left=left, height=height, width=width)
    crop = draw_crop(views_of(*scene(48, 64)), region, COMPETITION)
    part = (crop.shape[1] - 2 * gallery.GAP) / 3
    assert part == int(part) and max(crop.shape[0], part) == gallery.CROP_SIDE
    assert (crop == BRIGHT).all(-1).any(), "a frame"


def test_a_crop_shows_the_region_in_image_and_mask_alike():
    image, mask, prediction = scene(96, 128)
    mask[30:50, 40:60] = 3
    image[30:50, 40:60] = (0, 255, 0)
    crop = draw_crop(
        views_of(image, mask, prediction), SimpleNamespace(top=30, left=40, height=20, width=20), COMPETITION
    )
    side = gallery.CROP_SIDE
    middle = crop[side // 2, [side // 2, side + gallery.GAP + side // 2]]
    assert middle[0].tolist() == [0, 255, 0]
    assert np.abs(middle[1].astype(int) - 0.78 * np.array(COMPETITION.colors[3])).max() < 60


@pytest.fixture
def drawn_run(workshop, without_drawing):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    run_stages(loaded, "testset")
    run = run_of(loaded)
    folder, rows = competition_folder(run), split_rows(run.paths, "valid")
    masks, files = masks_of(run, folder), {row.id: row for row in rows.itertuples()}
    listed = {"rank": 1, "id": rows["id"][0], "top": 5, "left": 5, "height": 20, "width": 20}
    tables = {SUSPICIOUS: pd.DataFrame([listed])}
    evaluation = Evaluation({}, pd.DataFrame(), {}, lambda image_id: masks.read(files[image_id]), notes=tables)
    return run, folder, rows, evaluation


def test_files_are_written_for_each_image_and_region(drawn_run):
    run, folder, rows, evaluation = drawn_run
    draw_gallery(run, folder, rows, evaluation)
    listed = pd.read_csv(run.paths / GALLERY_LIST)
    assert listed["wrong"].tolist() == [0.0] * len(rows)
    assert [path.name for path in (run.paths / CROPS).iterdir()] == ["001.webp"]
    with Image.open(run.paths / GALLERY / "00000.webp") as image:
        assert image.size == (SIDE, 4 * SIDE)
        colors = np.asarray(image.convert("RGB"))[SIDE : 2 * SIDE].reshape(-1, 3)
    own = 0.78 * np.array(run.loaded.competition.colors[ROAD]) + 0.22 * np.mean(COLORS[ROAD])
    assert np.abs(colors - own).max(1).min() < 25, "the road in its class colour"


def test_a_kaggle_notebook_keeps_few_files(drawn_run, monkeypatch):
    run, folder, rows, _ = drawn_run
    blank = Evaluation({}, pd.DataFrame(), {}, lambda image_id: np.zeros((SIDE, SIDE), np.uint8))
    draw_gallery(run, folder, rows, blank)
    whole = pd.read_csv(run.paths / GALLERY_LIST)
    monkeypatch.setattr(gallery_files, "MOST_ON_KAGGLE", 2)
    monkeypatch.setattr(gallery_files, "is_on_kaggle", lambda runs: True)
    draw_gallery(run, folder, rows, blank)
    kept = pd.read_csv(run.paths / GALLERY_LIST)
    assert set(kept["id"]) == set(whole.nlargest(2, "wrong")["id"])
    assert len(list((run.paths / GALLERY).glob("*.webp"))) == 4
