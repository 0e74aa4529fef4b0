"""Where and how surely pixels are wrong: worked numbers, and sums against plain loops on drawn masks."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.competition import IGNORE
from pipeline.data.padding import Sizes, offset_in
from pipeline.segmentation import diagnosis
from pipeline.segmentation.compact import CompactLogits, to_sigmoid_codes
from pipeline.segmentation.diagnosis import BINS, DISTANCE_EDGES, SEAM_EDGES, SIZE_EDGES, SUSPECT, examine
from pipeline.segmentation.findings import NO_CLASS, Findings
from pipeline.segmentation.planes import FULL, from_bool
from pipeline.segmentation.predict import Prediction, decode
from pipeline.segmentation.seams import window_seams
from pipeline.segmentation.windows import windowed

NAMES = ("ground", "road", "car")


def prediction_of(probs_CHW: np.ndarray) -> Prediction:
    """A prediction of these probabilities, one class per pixel."""
    with np.errstate(divide="ignore"):
        logits = np.log(probs_CHW).clip(-30).astype(np.float16)
    return Prediction(logits, 1, False, (0, 0), probs_CHW.shape[1:])


def sure_of(mask_HW: np.ndarray, probability: float = 0.96) -> Prediction:
    """A prediction of this mask, with the same probability everywhere."""
    others = (1 - probability) / (len(NAMES) - 1)
    return prediction_of(np.where(mask_HW == np.arange(len(NAMES))[:, None, None], probability, others))


def examined(mask_HW: np.ndarray, truth_HW: np.ndarray, probability: float = 0.96, **options) -> dict:
    prediction = sure_of(mask_HW, probability)
    return examine([prediction], decode(prediction), truth_HW, **options)


def suspects(found: dict) -> list[dict[str, float]]:
    rows = [dict(zip(SUSPECT, row.tolist(), strict=True)) for row in found["suspects"]]
    return [row for row in rows if row["pixels"]]


def test_pixels_fall_into_the_bin_of_the_chosen_class_and_ignored_ones_into_none():
    truth = np.array([[0, 0, 1, IGNORE]], np.uint8)
    found = examined(np.array([[0, 0, 0, 1]], np.uint8), truth, 0.72)["calibration"]
    pixels, probability, right = found[0, int(0.72 * BINS)]
    assert (pixels, right, found[..., 0].sum()) == (3, 2, 3) and probability == pytest.approx(3 * 0.72, abs=2e-3)


def test_members_enter_with_their_mean_probability():
    mask = np.zeros((2, 2), np.uint8)
    found = examine([sure_of(mask, 0.92), sure_of(mask, 0.62)], mask, mask)["calibration"]
    assert found[0, int(0.77 * BINS), 0] == 4


def test_probabilities_that_say_how_often_they_are_right_have_no_calibration_error():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.4, 1, (300, 300))
    is_right = rng.random(probability.shape) < probability
    truth = np.where(is_right, 0, 1).astype(np.uint8)
    probs = np.stack([probability, (1 - probability) / 2, (1 - probability) / 2])
    prediction = prediction_of(probs)
    found = examine([prediction], np.zeros_like(truth), truth)["calibration"].sum(0)
    error = np.abs(found[:, 2] - found[:, 1]).sum() / found[:, 0].sum()
    assert error < 0.01
    overconfident = examine([prediction], np.zeros_like(truth), np.where(rng.random(truth.shape) < 0.5, truth, 2))
    found = overconfident["calibration"].sum(0)
    assert np.abs(found[:, 2] - found[:, 1]).sum() / found[:, 0].sum() > 0.2


def test_objects_are_found_where_half_of_their_pixels_are():
    truth, mask = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    truth[2:8, 2:8] = truth[20:38, 20:38] = truth[20:24, 50:54] = 2  # 6, 18 and 4 pixels wide
    mask[2:8, 2:5] = 2  # half of the first, a ninth of the second, nothing of the third
    mask[20:22, 20:38] = 2
    sizes = examined(mask, truth)["sizes"][2]
    assert sizes[0].tolist() == [2, 1, 36 + 16, 18]
    assert sizes[list(SIZE_EDGES).index(16) + 1].tolist() == [1, 0, 18 * 18, 36]
    assert sizes[:, 0].sum() == 3


@given(st.integers(0, 10**6))
def test_distances_to_boundaries_are_those_of_a_plain_search(seed):
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 3, (3, 4)), np.ones((7, 6), int)).astype(np.uint8)
    mask = np.where(rng.random(truth.shape) < 0.2, rng.integers(0, 3, truth.shape), truth).astype(np.uint8)
    edges = [
        (y, x)
        for y, x in np.ndindex(truth.shape)
        for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1))
        if 0 <= v < truth.shape[0] and 0 <= u < truth.shape[1] and truth[v, u] != truth[y, x]
    ]
    wanted = np.zeros((len(DISTANCE_EDGES) + 1, 2))
    for y, x in np.ndindex(truth.shape):
        # OpenCV's 5 x 5 distances differ from the plain ones by up to 2 %: near an edge of a bin either is right.
        distance = 1 + min((np.hypot(y - v, x - u) for v, u in edges), default=1e6)
        wanted[np.searchsorted(DISTANCE_EDGES, distance)] += 1, mask[y, x] != truth[y, x]
    found = examined(mask, truth)["boundary"]
    assert found.sum(0).tolist() == wanted.sum(0).tolist()
    assert found[:2].tolist() == wanted[:2].tolist() and np.abs(found - wanted).max() <= 0.1 * truth.size


@given(
    st.integers(20, 90),
    st.integers(20, 90),
    st.integers(16, 64),
    st.integers(16, 64),
    st.sampled_from([0.0, 0.25, 0.5]),
)
def test_seams_are_where_windows_begin_and_end(height, width, own_height, own_width, overlap):
    sizes = Sizes()
    frame = sizes.padded(height, width)
    seen = []

    def logits_of(window_NCHW: torch.Tensor) -> torch.Tensor:
        rows, columns = window_NCHW[0, 0, :, 0], window_NCHW[0, 1, 0, :]
        seen.append((int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1))
        return window_NCHW

    positions = torch.meshgrid(*(torch.arange(length).float() for length in frame), indexing="ij")
    windowed(logits_of, torch.stack(positions)[None], (own_height, own_width), overlap, side_by_side=False)
    before = offset_in(frame, (height, width))
    wanted = [
        sorted({at - own for window in seen for at in window[2 * axis : 2 * axis + 2] if 0 < at - own < length})
        for axis, (own, length) in enumerate(zip(before, (height, width), strict=True))
    ]
    found = window_seams((height, width), sizes, (own_height, own_width), overlap)
    assert [sorted(set(own)) for own in found] == wanted


def test_errors_at_a_seam_are_counted_beside_it():
    truth, mask = np.zeros((40, 200), np.uint8), np.zeros((40, 200), np.uint8)
    mask[:, 98:102] = 1
    found = examined(mask, truth, seams=([], [100]))["seams"]
    assert found[0].tolist() == [2 * SEAM_EDGES[0] * 40, 4 * 40] and found[1:, 1].sum() == 0
    assert found[:, 0].sum() == truth.size
    assert examined(mask, truth)["seams"].sum() == 0


def test_a_planted_label_error_is_found_with_its_place_and_classes():
    truth, mask = np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8)
    mask[10:20, 30:50] = 2  # the network sees a car that the mask has as ground
    mask[40:42, :] = 1  # a sliver along an edge
    truth[50:58, 5:25] = IGNORE
    mask[50:58, 5:25] = 1
    (found,) = suspects(examined(mask, truth))
    assert [found[name] for name in ("top", "left", "height", "width", "pixels")] == [10, 30, 10, 20, 200]
    assert (found["label"], found["predicted"]) == (0, 2) and found["probability"] == pytest.approx(0.96, abs=1e-3)


def test_an_unsure_mistake_is_no_suspect_and_neither_is_one_that_was_trained_on():
    truth, mask = np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8)
    mask[10:20, 30:50] = 2
    assert not suspects(examined(mask, truth, 0.85))
    assert not suspects(examined(mask, truth, with_suspects=False))


def test_of_several_classes_each_is_examined_alone():
    truth, mask = np.zeros((40, 40, 2), np.uint8), np.zeros((40, 40, 2), bool)
    truth[5:15, 5:15, 0] = FULL  # the network misses this disc, and sees a bar that is not there
    mask[20:30, 20:30, 1] = True
    truth[35:, :, 1] = IGNORE
    logits = torch.from_numpy(np.where(mask, 4.0, -4.0)).float().movedim(-1, 0)[None]
    codes = to_sigmoid_codes(logits)[0].numpy()
    prediction = Prediction(CompactLogits(codes, True), 1, False, (0, 0), (40, 40), True)
    found = examine([prediction], from_bool(mask), truth)
    assert found["calibration"][..., 0].sum(1).tolist() == [1600, 1400]
    assert found["calibration"][0, 0, 2] == 100, (
        "pixels that have the class although the network is sure of the reverse"
    )
    assert found["boundary"].sum(0).tolist() == [1600, 200]
    assert found["sizes"][0, :, :2].sum(0).tolist() == [1, 0]
    pairs = {(row["label"], row["predicted"]) for row in suspects(found)}
    assert pairs == {(0, diagnosis.NOTHING), (diagnosis.NOTHING, 1)}


def test_a_large_image_is_examined_in_bands_with_the_same_sums(monkeypatch):
    rng = np.random.default_rng(3)
    truth = np.kron(rng.integers(0, 3, (12, 3)), np.ones((20, 30), int)).astype(np.uint8)
    mask = np.where(rng.random(truth.shape) < 0.1, 1, truth).astype(np.uint8)
    monkeypatch.setattr("pipeline.segmentation.ensemble.BLOCK_PIXELS", 900)
    whole = examined(mask, truth)
    monkeypatch.setattr(diagnosis, "BAND_PX", 60 * 90)
    parts = examined(mask, truth)
    assert np.allclose(whole["calibration"], parts["calibration"])
    assert parts["boundary"].sum(0).tolist() == whole["boundary"].sum(0).tolist()
    assert parts["sizes"][..., 2:].sum((0, 1)).tolist() == whole["sizes"][..., 2:].sum((0, 1)).tolist()


def test_the_table_ranks_by_pixels_times_probability_and_leaves_trained_images_out():
    competition = SimpleNamespace(class_names=NAMES, num_classes=len(NAMES), is_multilabel=False)
    findings = Findings(competition, {"trained"})
    truth = np.zeros((60, 80), np.uint8)
    for image_id, side in (("small", 8), ("large", 20), ("trained", 30)):
        mask = truth.copy()
        mask[10 : 10 + side, 10 : 10 + side] = 1
        found = examined(mask, truth, with_suspects=findings.is_searched(image_id))
        findings.add(image_id, truth.shape, found)
    table, facts = findings.table(), findings.facts()
    assert table["id"].tolist() == ["large", "small"] and table["pixels"].tolist() == [400, 64]
    assert set(table["label"]) == {"ground"} and set(table["predicted"]) == {"road"}
    assert facts["suspects"] | {"regions": 2, "left_out": 1, "images": 2} == facts["suspects"]
    assert np.array(facts["calibration"]["pixels"]).sum() == 3 * truth.size
    assert not Findings(competition, None).is_searched("small")
    assert NO_CLASS not in NAMES


def test_no_arrays_of_one_image_depend_on_its_size():
    shapes = []
    for side in (10, 200):
        truth = np.zeros((side, side), np.uint8)
        shapes.append({name: array.shape for name, array in examined(truth, truth).items()})
    assert shapes[0] == shapes[1] and set(shapes[0]) == set(diagnosis.EXAMINED)
    assert sum(map(int, itertools.chain(*shapes[0].values()))) < 200
