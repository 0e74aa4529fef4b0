"""Large images in windows: every pixel counts once, and windows are joined to what the whole image gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.competition import IGNORE, Convention, ImageForm, MaskCsv
from pipeline.config.load import load
from pipeline.data.image_source import ImageSource
from pipeline.data.loaders import image_loader, same_size_batches, valid_batches
from pipeline.data.tiles import Box, cover
from pipeline.data.whole_images import WholeImages
from pipeline.prediction.streaming import Source, stream
from pipeline.segmentation.learning import MaskScorer
from pipeline.segmentation.mask_facts import find_facts
from pipeline.segmentation.mask_source import MaskSource
from pipeline.segmentation.predict import Predictor, agreement, decode, full_logits, predict_batches
from pipeline.segmentation.samples import collate_valid, whole_images
from pipeline.segmentation.submission.rle import decode_classes, encode, paint_window, parse_runs
from pipeline.segmentation.task import SEGMENTATION
from tests.data.broken import COMPETITION
from tests.segmentation.test_predict import PerPixel

WIDTH, HEIGHT, SMALL = 1500, 1100, (200, 96)  # of a large image; (height, width) of one that is read as a whole
RNG = np.random.default_rng(9)
RGB = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
COLUMNS = Convention(order="column", base=1)


def discs(height: int, width: int) -> np.ndarray:
    """Returns a mask of some discs: uint8 (H, W), 0 and 1."""
    rows, columns = np.ogrid[:height, :width]
    centres = RNG.random((6, 2)) * (height, width)
    inside = [(rows - y) ** 2 + (columns - x) ** 2 < (height // 9) ** 2 for y, x in centres]
    return np.any(inside, axis=0).astype(np.uint8)


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    """A folder with a large and a small image, run lengths of both, its description and its masks."""
    folder = tmp_path_factory.mktemp("large")
    masks = {"large": discs(HEIGHT, WIDTH), "small": discs(*SMALL)}
    tifffile.imwrite(folder / "large.tif", RGB, photometric="rgb", tile=(256, 256), compression="zlib")
    tifffile.imwrite(folder / "small.tif", RGB[: SMALL[0], : SMALL[1]], photometric="rgb")
    lines = [f"{image_id},{encode(mask, 2, COLUMNS)[1]}" for image_id, mask in masks.items()]
    (folder / "train.csv").write_text("\n".join(["id,runs", *lines]) + "\n")
    described = replace(
        COMPETITION,
        classes=("Background", "Disc"),
        images="{id}.tif",
        masks=MaskCsv("train.csv", id_column="id", order="column", base=1, relative=False),
        train_csv="train.csv",
        id_column="id",
        mask_values=None,
        submitted=None,
        ignore_index=None,
        convention=replace(COLUMNS, rows="id", id_column="id"),
        image=ImageForm(whole_px=10**6),
    )
    return folder, described, masks


def rows_of(*ids: str) -> pd.DataFrame:
    sizes = {"large": (WIDTH, HEIGHT), "small": SMALL[::-1]}
    rows = [(image_id, f"{image_id}.tif", "train.csv", *sizes[image_id]) for image_id in ids]
    return pd.DataFrame(rows, columns=["id", "image", "mask", "width", "height"])


def dataset(competition, *ids: str, whole_px: int = 10**6, labelled: bool = True) -> WholeImages:
    folder, described, _ = competition
    described = replace(described, image=ImageForm(whole_px=whole_px))
    masks = MaskSource(described, folder, SEGMENTATION.find_labels(described, folder))
    rows = rows_of(*ids) if labelled else rows_of(*ids).drop(columns="mask")
    return whole_images(rows, ImageSource(described, folder), masks)


def predictor(**settings) -> Predictor:
    predict = replace(load("demo").config.predict, **{"mode": "full", "tta": "none", **settings})
    encoder = load("demo").config.model.encoder
    return Predictor(PerPixel(2).eval(), encoder, predict, 2, torch.device("cpu"), torch.float32, 10**6)


def batches(data: WholeImages, batch_size: int = 2):
    return valid_batches(image_loader(data, batch_size, collate_valid, 0))


@given(length=st.integers(1, 3000), window=st.integers(2, 600), overlap=st.integers(0, 200))
def test_cores_cover_a_length_once_and_see_half_of_the_overlap_around_them(length, window, overlap):
    overlap = min(overlap, window - 1)
    covered = 0
    for start, own, core, core_length in cover(length, window, overlap):
        assert core == covered and start <= core and core + core_length <= start + own <= length
        assert start == 0 or core - start >= overlap // 2
        assert start + own == length or start + own - core - core_length >= overlap // 2
        covered = core + core_length
    assert covered == length


def test_the_windows_of_an_image_show_each_pixel_of_its_mask_once(competition):
    data, masks = dataset(competition, "small", "large"), competition[2]
    assert len(data) == 1 + 2 * 2 and [row.id for row in data.rows] == ["small", "large"]
    found = np.full((HEIGHT, WIDTH), IGNORE, np.uint8)
    share = 0.0
    for image, mask, frame in (data[index] for index in range(1, 5)):
        top, left, height, width = frame.part.window
        (y, x), inside = frame.offset, mask != IGNORE
        wanted = RGB[top : top + height, left : left + width]
        np.testing.assert_array_equal(image[y : y + height, x : x + width], wanted)
        part = found[top : top + height, left : left + width]
        shown = mask[y : y + height, x : x + width]
        assert (part[shown != IGNORE] == IGNORE).all()
        part[shown != IGNORE] = shown[shown != IGNORE]
        assert inside.sum() == round(frame.part.share * HEIGHT * WIDTH)
        share += frame.part.share
    np.testing.assert_array_equal(found, masks["large"])
    assert share == pytest.approx(1)


def test_a_batch_has_windows_of_one_image_only_and_counts_as_its_share(competition):
    data = dataset(competition, "small", "large")
    assert same_size_batches(data, 3) == [[0], [1, 2, 3], [4]]
    small, first, second = batches(data, 3)
    assert (small.windows_of, small.num_images) == (None, 1)
    assert first.windows_of == second.windows_of == "large"
    assert first.num_images + second.num_images == pytest.approx(1)


@pytest.mark.parametrize("settings", [{}, {"tta": "d2"}, {"mode": "window", "window": (320, 256)}])
def test_joined_windows_are_the_prediction_of_the_whole_image(competition, settings):
    used = predictor(**settings)
    joined = dict(predict_batches(used, batches(dataset(competition, "large", "small", labelled=False))))
    whole = dict(predict_batches(used, batches(dataset(competition, "large", "small", whole_px=10**8, labelled=False))))
    assert list(joined) == ["large", "small"]
    for image_id in joined:
        assert joined[image_id].size == whole[image_id].size
        np.testing.assert_allclose(full_logits(joined[image_id]), full_logits(whole[image_id]), atol=0.2)
        assert (decode(joined[image_id]) == decode(whole[image_id])).mean() > 0.9999
    np.testing.assert_array_equal(joined["small"].logits, whole["small"].logits)


def test_a_large_images_stored_classes_agree_with_its_networks(competition):
    data = dataset(competition, "large", labelled=False)
    stored = dict(predict_batches(predictor(), batches(data)))
    assert agreement(predictor(), data, [0, 2], stored) > 0.9999


@pytest.mark.parametrize("num_threads", [0, 2])
def test_members_that_stream_join_the_windows_likewise(competition, num_threads):
    data = dataset(competition, "small", "large", labelled=False)
    sources = [Source(predictor, data, 2, SEGMENTATION)] * 2
    streamed = dict(stream(sources, {"large": [0, 1], "small": [1]}, num_threads))
    stored = dict(predict_batches(predictor(), batches(data)))
    assert [len(streamed["large"]), len(streamed["small"])] == [2, 1]
    for prediction in streamed["large"]:
        np.testing.assert_array_equal(prediction.logits, stored["large"].logits)


def test_scores_of_windows_are_those_of_the_whole_image(competition):
    network, scores = PerPixel(2), []
    for whole_px in (10**6, 10**8):
        scorer = MaskScorer(2, (0, 1))
        for batch in batches(dataset(competition, "large", "small", whole_px=whole_px)):
            logits = network(batch.images.permute(0, 3, 1, 2).float())
            scorer.add(logits, batch.labels, *([batch.windows_of] if batch.windows_of else []))
        scores.append(scorer.scores())
    assert scores[0] == scores[1]


def test_few_windows_can_be_kept_by_the_classes_that_they_show(competition):
    data = dataset(competition, "large")
    present = data.class_presence()
    assert present.shape == (4, 255) and present[:, 0].all()
    data.keep([2])
    assert len(data) == 1 and data[0][2].part.window[:2] == (HEIGHT - 1024, 0)


def test_masks_in_files_and_run_lengths_have_the_same_windows(competition, tmp_path):
    folder, described, masks = competition
    row, box = next(rows_of("large").itertuples()), Box(301, 402, 503, 304)
    of_runs = MaskSource(described, folder, SEGMENTATION.find_labels(described, folder)).window(row, box)
    np.testing.assert_array_equal(of_runs, masks["large"][402:706, 301:804])
    tifffile.imwrite(tmp_path / "large.tif", masks["large"], compression="zlib")
    of_file = MaskSource(replace(described, masks="{id}.tif"), tmp_path).window(row._replace(mask="large.tif"), box)
    np.testing.assert_array_equal(of_file, of_runs)


@pytest.mark.parametrize("order", ["row", "column"])
@given(data=st.data())
def test_a_window_of_runs_is_cut_from_the_whole_mask(order, data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    mask = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 2, (height, width), dtype=np.uint8)
    convention = Convention(order=order, base=1)
    text = encode(mask, 2, convention)[1]
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = Box(left, top, data.draw(st.integers(1, width - left)), data.draw(st.integers(1, height - top)))
    runs = parse_runs(text, height * width, convention)
    window = paint_window(runs, height, width, order, box)
    np.testing.assert_array_equal(window, mask[top : top + box.height, left : left + box.width] == 1)
    np.testing.assert_array_equal(decode_classes([text], height, width, convention) == 0, mask == 1)


def test_run_lengths_that_are_written_and_read_some_rows_at_a_time_stay_the_same(monkeypatch):
    mask = discs(300, 200)
    wanted = [encode(mask, 2, Convention(order=order)) for order in ("row", "column")]
    monkeypatch.setattr("pipeline.segmentation.submission.rle.BLOCK", 1000)
    assert [encode(mask, 2, Convention(order=order)) for order in ("row", "column")] == wanted
    for order, texts in zip(("row", "column"), wanted, strict=True):
        np.testing.assert_array_equal(decode_classes(texts, 300, 200, Convention(order=order)), mask)


def test_the_convention_of_run_lengths_is_found_from_windows_of_a_large_image(competition, tmp_path: Path):
    _, described, _ = competition
    lines = []
    for number in range(4):
        mask = discs(HEIGHT, WIDTH)
        noise = RNG.integers(-9, 10, (HEIGHT, WIDTH, 1))
        image = (np.array([[60, 60, 60], [200, 150, 100]])[mask] + noise).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"{number}.tif", image, photometric="rgb", tile=(256, 256), compression="zlib")
        lines.append(f"{number},{encode(mask, 2, COLUMNS)[1]}")
    (tmp_path / "train.csv").write_text("\n".join(["id,runs", *lines]) + "\n")
    facts = find_facts(replace(described, masks=MaskCsv("train.csv", id_column="id")), tmp_path)
    assert (facts["order"], facts["base"], facts["relative"], facts["doubtful"]) == ("column", 1, False, [])
