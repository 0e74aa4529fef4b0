"""Anchors against torchvision's, how well they cover boxes, and the options of RetinaNet."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import _default_anchorgen

from pipeline.config.detector_options import options_of
from pipeline.config.schema import Encoder, Model
from pipeline.detection.anchors import anchor_coverage, anchors_of
from pipeline.detection.boxes import ious
from pipeline.detection.pyramid import STRIDES, grids_of
from pipeline.detection.retinanet import build
from pipeline.errors import UserError

CPU = torch.device("cpu")


def model_of(encoder: str = "tu-lcnet_035", **options) -> Model:
    return Model("RetinaNet", "RN", Encoder(encoder, "E", None), options)


@pytest.mark.parametrize("size", [(128, 128), (256, 384), (640, 640)])
def test_the_anchors_are_torchvisions_in_frames_of_multiples_of_128(size):
    features = [torch.zeros(1, 1, *grid) for grid in grids_of(size)]
    (expected,) = _default_anchorgen()(ImageList(torch.zeros(1, 1, *size), [size]), features)
    found = anchors_of(options_of(model_of()), size, CPU)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@given(st.integers(1, 20), st.integers(1, 20))
def test_an_anchor_does_not_move_with_the_size_of_the_frame(rows, columns):
    """What is learnt from tiles holds in whole images."""
    size, per_position, start = (32 * rows, 32 * columns), 9, 0
    found = anchors_of(options_of(model_of()), size, CPU).reshape(-1, per_position, 4)
    for stride, (height, width) in zip(STRIDES, grids_of(size), strict=True):
        level = found[start : start + height * width].reshape(height, width, per_position, 4)
        centres = (level[..., :2] + level[..., 2:]) / 2
        assert torch.equal(centres[..., 0], stride * torch.arange(width)[None, :, None].expand(centres.shape[:3]))
        assert torch.equal(centres[..., 1], stride * torch.arange(height)[:, None, None].expand(centres.shape[:3]))
        start += height * width
    assert start == len(found)


def test_worked_shapes_of_anchors():
    options = options_of(model_of(SCALES=2, RATIOS=(1, 4), ANCHOR_SIZES=(16, 32, 64, 128, 256)))
    first = anchors_of(options, (32, 32), CPU)[:4]
    # 16, and 16 * sqrt(2) = 22.6 without its fraction. Ratio 4 halves the width and doubles the height; of 11x44 the
    # half width 5.5 is rounded to 6.
    assert (first[:, 2:] - first[:, :2]).tolist() == [[16, 16], [22, 22], [8, 32], [12, 44]]


def test_anchors_are_made_once_for_prediction_and_training():
    options = options_of(model_of(SCALES=1))
    with torch.inference_mode():
        first = anchors_of(options, (64, 64), CPU)
    second = anchors_of(options, (64, 64), CPU)
    assert second is first and not second.is_inference()
    elsewhere = anchors_of(options, (64, 64), torch.device("meta"))
    assert elsewhere.is_meta and elsewhere.shape == first.shape


CORNERS = hnp.arrays(np.float32, st.tuples(st.integers(0, 8), st.just(4)), elements=st.floats(0, 400, width=32))


@settings(max_examples=40)
@given(CORNERS, st.sampled_from([(32, 32), (96, 160), (256, 128)]))
def test_coverage_is_the_best_iou_with_any_anchor(corners, size):
    starts, ends = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])
    boxes = np.concatenate([starts, ends], 1)
    model = model_of(SCALES=2, ANCHOR_SIZES=(8, 24, 64, 128, 300))
    anchors = anchors_of(options_of(model), size, CPU).numpy()
    found = anchor_coverage(boxes, model, size)
    assert found.dtype == np.float32 and found.shape == (len(boxes),)
    assert np.allclose(found, ious(boxes, anchors).max(1, initial=0), atol=1e-5)


def test_worked_coverage():
    model = model_of(SCALES=1, RATIOS=(1,))
    # The anchor of 32x32 around pixel (64, 64); a quarter of one; twice its width.
    boxes = np.array([[48, 48, 80, 80], [56, 56, 72, 72], [32, 48, 96, 80]])
    assert anchor_coverage(boxes, model, (128, 128)).tolist() == [1, 0.25, 0.5]
    assert anchor_coverage(np.zeros((0, 4)), model, (128, 128)).shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"CHANNEL": 3}, r"OPTIONS\.CHANNEL: RetinaNet has no such option; did you mean CHANNELS\?"),
        ({"WIDTH": 3}, r"OPTIONS\.WIDTH: .* it has CHANNELS, CONVOLUTIONS, PRIOR, SCALES, RATIOS, ANCHOR_SIZES"),
        ({"Channels": 3}, r"OPTIONS\.Channels: RetinaNet has no such option; did you mean CHANNELS\?"),
        ({"CHANNELS": 8, "channels": 8}, r"OPTIONS\.channels: given in upper and in lower case; keep CHANNELS"),
        ({"CHANNELS": "many"}, r"OPTIONS\.CHANNELS: found 'many', expected an integer \(at least 1\)"),
        ({"CHANNELS": "8"}, r"OPTIONS\.CHANNELS: found the quoted text '8', expected an integer"),
        ({"CHANNELS": 0}, r"OPTIONS\.CHANNELS: 0 is outside the allowed range \(at least 1\)"),
        ({"CONVOLUTIONS": True}, r"OPTIONS\.CONVOLUTIONS: found 'true', expected an integer"),
        ({"PRIOR": 0.0}, r"OPTIONS\.PRIOR: 0\.0 is outside the allowed range"),
        ({"PRIOR": 1}, r"OPTIONS\.PRIOR: 1\.0 is outside the allowed range"),
        ({"SCALES": None}, r"OPTIONS\.SCALES: found null, expected an integer"),
        ({"RATIOS": ()}, r"OPTIONS\.RATIOS: found an empty list"),
        ({"RATIOS": 2}, r"OPTIONS\.RATIOS: found '2', expected a list"),
        ({"RATIOS": (1, -1)}, r"OPTIONS\.RATIOS: item 2: -1\.0 is outside the allowed range \(above 0\)"),
        ({"ANCHOR_SIZES": (8, 16)}, r"OPTIONS\.ANCHOR_SIZES: found a list of 2, expected a list of 5"),
        ({"ANCHOR_SIZES": (1, 2, 4, 8, 16)}, r"OPTIONS\.ANCHOR_SIZES: the anchors of P3 are 2x0, "),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(options, message):
    with pytest.raises(UserError, match=message):
        build(model_of(**options), 2, 3)
