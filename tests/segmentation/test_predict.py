"""Whole images, windows and mirrored copies, on toy networks whose answer is known."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pytorch_toolbelt.inference import tta as toolbelt
from torch import nn

from pipeline.config.load import load
from pipeline.config.schema import Encoder, Model
from pipeline.errors import UserError
from pipeline.segmentation.input_scale import has_input_scale, with_input_scale
from pipeline.segmentation.networks import build_network
from pipeline.segmentation.predict import (
    Prediction,
    Predictor,
    averaged_logits,
    decode,
    full_logits,
    predict_batches,
    stored_bytes,
)
from pipeline.segmentation.views import views
from pipeline.segmentation.windows import window_starts, window_weights
from pipeline.task import Batch, Frame
from pipeline.training.encoder import Scaling, mean_std, normalise

ENCODER = Encoder("tu-lcnet_035", "LCN", None)
SCALING = Scaling(*mean_std(ENCODER.name, ENCODER.weights))
CPU = torch.device("cpu")
NUM_CLASSES = 3


class PerPixel(nn.Module):
    """A network whose answer at a pixel depends on that pixel alone; a fourth output is a padding class."""

    def __init__(self, num_outputs: int = NUM_CLASSES) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.encoder = nn.Identity()
        self.decoder = nn.Identity()
        kernel = nn.Conv2d(3, num_outputs, 1, bias=False)
        kernel.weight.data = torch.randn(kernel.weight.shape, generator=generator)
        self.segmentation_head = nn.Sequential(kernel, nn.Identity())

    def forward(self, x):
        return self.segmentation_head(self.decoder(self.encoder(x)))


class Symmetric(PerPixel):
    """A network that commutes with every mirroring and turn: it looks at a pixel and the mean around it."""

    def forward(self, x):
        return self.segmentation_head(x + F.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False))


class Turned(PerPixel):
    """A network whose answer depends on where a pixel lies, otherwise in each of the eight views."""

    def forward(self, x):
        ramp = torch.arange(x.shape[-1]) * 0.1 + torch.arange(x.shape[-2])[:, None] ** 2 * 0.01
        return super().forward(x) * (1 + ramp)


def predictor(network=None, num_classes=NUM_CLASSES, **settings) -> Predictor:
    plain = {"mode": "full", "tta": "none", "tta_space": "probs", "blend": "gaussian"}
    predict = dataclasses.replace(load("demo").config.predict, **{**plain, **settings})
    return Predictor((network or PerPixel()).eval(), ENCODER, predict, num_classes, CPU, torch.float32)


def images(num=2, height=64, width=96, seed=0):
    return torch.randint(
        0, 256, (num, height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def normalised(**shape):
    return normalise(images(**shape), SCALING)


def batch(image_BHWC, offset=(0, 0), size=None, ids=None) -> Batch:
    num, height, width, _ = image_BHWC.shape
    ids = ids or [f"{index:06d}" for index in range(num)]
    return Batch(image_BHWC, None, [Frame(image_id, offset, size or (height, width)) for image_id in ids])


def predictions(of, *batches) -> dict[str, Prediction]:
    return dict(predict_batches(of, batches))


WINDOWS = {"mode": "window", "window": (40, 32), "overlap": 0.3}


@pytest.mark.parametrize("blend", ["gaussian", "pyramid"])
@pytest.mark.parametrize("window", [(40, 32), (96, 64), (640, 352), (32, 64)])
def test_windows_of_a_network_that_sees_single_pixels_are_the_whole_image(blend, window):
    whole = averaged_logits(predictor(), normalised())
    windows = averaged_logits(predictor(mode="window", window=window, blend=blend), normalised())
    assert torch.allclose(windows, whole, atol=1e-5)


class Small(PerPixel):
    """Has memory for so many windows at once; notes how many it was given."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.counts = limit, []

    def forward(self, x):
        self.counts.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(x)


@pytest.mark.parametrize(
    ("device", "limit", "counts"),
    [("cpu", 1, [1] * 9), ("cuda", 9, [4, 4, 1]), ("cuda", 2, [4, 2, 2, 2, 2, 1]), ("cuda", 1, [4, 2, *[1] * 9])],
)
def test_a_gpu_takes_as_many_windows_at_once_as_fill_the_frame_and_fewer_where_its_memory_is_short(
    device, limit, counts
):
    image, network = normalised(num=1, height=64, width=96), Small(limit)
    of = dataclasses.replace(
        predictor(network, mode="window", window=(48, 32), overlap=0.4), device=torch.device(device)
    )
    found = averaged_logits(of, image)
    assert network.counts == counts
    assert torch.allclose(found, averaged_logits(predictor(), image), atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"tta": "flip"}])
def test_whole_images_that_do_not_fit_together_are_predicted_in_parts(settings):
    together = predictions(predictor(**settings), batch(images(num=3)))
    network = Small(1)
    found = predictions(predictor(network, **settings), batch(images(num=3)))
    assert network.counts[:3] == [3, 2, 1]
    for name, wanted in together.items():
        assert torch.allclose(full_logits(found[name]), full_logits(wanted), atol=1e-5)


def test_an_image_that_does_not_fit_alone_is_refused_with_a_remedy():
    with pytest.raises(UserError, match=r"memory is too small[\s\S]*PREDICT\.MODE=window"):
        predictions(predictor(Small(0)), batch(images(num=2)))


def test_a_single_window_that_does_not_fit_is_told():
    with pytest.raises(torch.OutOfMemoryError):
        averaged_logits(predictor(Small(0), **WINDOWS), normalised(num=1))


@pytest.mark.parametrize("tta", ["flip", "d2", "d4"])
@pytest.mark.parametrize("space", ["probs", "logits"])
@pytest.mark.parametrize("windows", [{}, WINDOWS], ids=["full", "windows"])
def test_mirrored_and_turned_copies_are_undone_exactly(tta, space, windows):
    if windows:
        windows = {**windows, "window": (96, 96)}  # one window: a seam would not be symmetric
    image = normalised()
    plain, copies = (
        averaged_logits(predictor(Symmetric(), tta=name, tta_space=space, **windows), image).log_softmax(1)
        for name in ("none", tta)
    )
    assert torch.allclose(copies, plain, atol=1e-4)


def test_flipped_copies_of_a_network_that_is_not_symmetric_are_a_mean_of_two():
    class Ramp(PerPixel):
        def forward(self, x):
            return super().forward(x) + torch.arange(x.shape[-1]) * 0.1

    image = normalised()
    plain = averaged_logits(predictor(tta_space="logits"), image)
    flipped = averaged_logits(predictor(Ramp(), tta="flip", tta_space="logits"), image)
    assert torch.allclose(flipped, plain + 0.05 * (image.shape[-1] - 1), atol=1e-5)


@pytest.mark.parametrize(("tta", "num_views"), [("flip", 2), ("d2", 4), ("d4", 8)])
def test_views_are_those_of_toolbelt(tta, num_views):
    names = {"flip": "fliplr"}
    augment, deaugment = (getattr(toolbelt, f"{names.get(tta, tta)}_image_{way}") for way in ("augment", "deaugment"))
    image = normalised(num=1, height=64, width=64)
    ours = [view.apply(image) for view in views(predictor(tta=tta).settings, (64, 64))]
    theirs = list(augment(image))
    assert len(ours) == num_views
    assert all(any(torch.equal(view[0], other) for other in theirs) for view in ours)
    assert all(any(torch.equal(view[0], other) for view in ours) for other in theirs)
    of = predictor(Turned(), tta=tta, tta_space="logits")
    assert torch.allclose(averaged_logits(of, image), deaugment(Turned()(augment(image))), atol=1e-5)


def test_scaled_copies_of_a_flat_image_agree():
    image = normalise(torch.full((1, 64, 96, 3), 77, dtype=torch.uint8), SCALING)
    plain, copies = (averaged_logits(predictor(tta=tta), image).softmax(1) for tta in ("none", "scales"))
    assert torch.allclose(copies, plain, atol=1e-4)


def test_probabilities_are_averaged_in_their_own_space():
    class Doubtful(PerPixel):
        def forward(self, x):
            logits = torch.zeros(x.shape[0], 2, *x.shape[-2:])
            logits[:, 0, :, : x.shape[-1] // 2] = 20.0
            logits[:, 0, :, x.shape[-1] // 2 :] = -2.0
            return logits

    found = averaged_logits(predictor(Doubtful(), num_classes=2, tta="flip"), normalised(num=1))
    wanted = (torch.sigmoid(torch.tensor(20.0)) + torch.sigmoid(torch.tensor(-2.0))) / 2
    assert torch.allclose(found.softmax(1)[:, 0], wanted, atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"tta": "flip"}, WINDOWS])
def test_padding_is_cut_away_and_a_padding_class_never_wins(settings):
    image = images(num=1)
    wanted = normalise(image, SCALING)[0, :, 8:59, 3:90]
    found = predictions(predictor(PerPixel(4), **settings), batch(image, offset=(8, 3), size=(51, 87)))["000000"]
    assert found.logits.shape[0] == NUM_CLASSES and found.size == (51, 87)
    mask = decode(found)
    expected = PerPixel(4)(wanted[None])[0, :NUM_CLASSES].argmax(0)
    assert mask.shape == (51, 87) and mask.dtype == np.uint8
    assert (torch.from_numpy(mask) == expected).float().mean() > 0.999  # float16 may turn a tie


def test_kept_logits_upsampled_later_are_those_of_the_network():
    network = build_network(Model("FPN", "X", ENCODER), NUM_CLASSES)
    image = images(num=1)
    found = predictions(predictor(network), batch(image))["000000"]
    assert found.factor == 4 and found.logits.dtype == np.float16 and found.logits.shape[1:] == (16, 24)
    with torch.inference_mode():
        wanted = network(normalise(image, SCALING))[0]
    assert torch.allclose(full_logits(found), wanted, atol=2e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize(("architecture", "tta"), [("Unet", "none"), ("Linknet", "none"), ("FPN", "flip")])
def test_full_size_logits_keep_each_pixels_class_and_probabilities_within_a_hundredth(architecture, tta):
    network = build_network(Model(architecture, "X", ENCODER), NUM_CLASSES).eval()
    image = images(num=1)
    found = predictions(predictor(network, tta=tta), batch(image, (8, 3), (51, 87)))["000000"]
    assert found.factor == 1 and found.logits.shape == (NUM_CLASSES, 51, 87) and found.offset == (0, 0)
    with torch.inference_mode():
        wanted = averaged_logits(predictor(network, tta=tta), normalise(image, SCALING))[0, :, 8:59, 3:90].softmax(0)
    assert torch.equal(torch.from_numpy(decode(found)), wanted.argmax(0).byte())
    assert (full_logits(found).softmax(0) - wanted).abs().max() < 0.01


@pytest.mark.parametrize("factor", [1, 4])
def test_logits_beyond_float16_stay_finite(factor):
    network = PerPixel()
    network.segmentation_head[0].weight.data *= 1e6
    if factor > 1:
        network.segmentation_head[1] = nn.UpsamplingBilinear2d(scale_factor=factor)
    logits = np.asarray(predictions(predictor(network), batch(images(num=1)))["000000"].logits)
    assert np.isfinite(logits).all() and (factor == 1 or np.abs(logits).max() == np.float16(65504))


@pytest.mark.parametrize(("settings", "is_exact"), [({}, True), ({"tta": "flip"}, False), ({"mode": "window"}, False)])
def test_what_a_store_takes_is_known_before(settings, is_exact):
    network = build_network(Model("FPN", "X", ENCODER), NUM_CLASSES)
    of, sizes = predictor(network, **settings), [(64, 96), (32, 64)]
    kept = [predictions(of, batch(images(1, *size)))["000000"].logits for size in sizes]
    num_bytes = sum(logits.nbytes if is_exact else logits.codes.nbytes for logits in kept)
    assert stored_bytes(of, sizes) == (num_bytes, is_exact)


def test_images_come_in_the_order_of_the_batches():
    first, second = batch(images(seed=1)), batch(images(seed=2), ids=["a", "b"])
    assert list(predictions(predictor(), first, second)) == ["000000", "000001", "a", "b"]


@given(st.integers(1, 400), st.integers(1, 120), st.floats(0, 0.9))
def test_windows_cover_a_length_evenly_with_the_overlap_that_is_wanted(length, window, overlap):
    starts = window_starts(length, window, overlap)
    covered = {pixel for start in starts for pixel in range(start, min(length, start + window))}
    assert covered == set(range(length)) and starts[0] == 0
    if len(starts) > 1:
        gaps = np.diff(starts)
        assert starts[-1] + window == length and gaps.max() - gaps.min() <= 1
        assert gaps.max() <= max(1, round(window * (1 - overlap)))


@pytest.mark.parametrize("blend", ["gaussian", "pyramid"])
@pytest.mark.parametrize("size", [(1, 1), (32, 64), (352, 640)])
def test_a_windows_middle_counts_most_and_no_pixel_nothing(blend, size):
    weights = window_weights(*size, blend)
    assert weights.shape == size and 0 < weights.min() <= weights.max() <= 1
    assert torch.equal(weights, weights.flip(0)) and torch.equal(weights, weights.flip(1))
    assert weights[size[0] // 2, size[1] // 2] == weights.max()


@pytest.mark.parametrize("tta", ["none", "flip", "d2", "d4"])
def test_every_copy_is_predicted_at_every_scale_and_weighted_by_it(tta):
    image, scales, weights = normalised(num=1, width=128), (0.5, 1.0, 2.0), (1.0, 2.0, 0.5)
    of = predictor(Turned(), tta=tta, tta_space="logits", scales=scales, scale_weights=weights)
    found, wanted = averaged_logits(of, image), 0
    for scale, weight in zip(scales, weights, strict=True):
        larger = F.interpolate(image, scale_factor=scale, mode="bilinear")
        logits = averaged_logits(predictor(Turned(), tta=tta, tta_space="logits"), larger)
        wanted = wanted + weight * F.interpolate(logits, size=image.shape[-2:], mode="bilinear")
    assert torch.allclose(found, wanted / sum(weights), atol=1e-4)
    equal = predictor(Turned(), tta=tta, scales=scales, scale_weights=(3.0, 3.0, 3.0))
    plain = predictor(Turned(), tta=tta, scales=scales)
    assert torch.allclose(*(averaged_logits(one, image).softmax(1) for one in (equal, plain)), atol=1e-5)


def test_scales_of_its_own_are_those_of_tta_scales():
    image = normalised(num=1)
    named, listed = predictor(Turned(), tta="scales"), predictor(Turned(), scales=(0.75, 1.0, 1.25))
    assert torch.equal(averaged_logits(named, image), averaged_logits(listed, image))


def test_a_single_scale_is_no_copy_and_predicts_at_its_size():
    image = normalised(num=1)
    assert torch.equal(averaged_logits(predictor(scales=(1.0,)), image), averaged_logits(predictor(), image))
    sizes = []

    class Sized(PerPixel):
        def forward(self, x):
            sizes.append(tuple(x.shape[-2:]))
            return super().forward(x)

    assert averaged_logits(predictor(Sized(), scales=(1.5,)), image).shape[-2:] == (64, 96)
    assert sizes == [(96, 128)]  # 144 is no multiple of 32


@pytest.mark.parametrize("settings", [{}, {"tta": "flip"}, {"scales": (0.5, 1.0)}, WINDOWS])
def test_a_network_with_an_input_scale_sees_larger_images_and_answers_at_their_own_size(settings):
    plain, network, seen = PerPixel(), with_input_scale(PerPixel(), 2.0), []
    network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    network.load_state_dict(plain.state_dict())
    image = normalise(torch.full((1, 64, 96, 3), 99, dtype=torch.uint8), SCALING)
    found = averaged_logits(predictor(network, **settings), image)
    assert torch.allclose(found, averaged_logits(predictor(plain, **settings), image), atol=1e-5)
    assert max(seen) == ((64, 64) if "window" in settings else (128, 192))  # twice the size, at a stride of 32
    stored = predictions(predictor(network, **settings), batch(images(num=1)))["000000"]
    assert stored.factor == 1 and decode(stored).shape == (64, 96)


def test_at_a_quarter_of_the_size_a_network_sees_the_mean_of_the_pixels():
    network, seen = with_input_scale(PerPixel(), 0.25), []
    network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    dots = torch.zeros(1, 3, 128, 256)
    dots[..., ::4, ::4] = 16
    assert network(dots).shape[-2:] == (128, 256)
    assert seen[0].shape == (1, 3, 32, 64)
    assert torch.allclose(seen[0][..., 2:-2, 2:-2], torch.tensor(1.0), atol=0.2)  # every fourth pixel: 0 or 16


def test_a_network_with_an_input_scale_learns_and_its_copy_has_hooks_of_its_own():
    network = with_input_scale(PerPixel(), 1.5)
    twin = copy.deepcopy(network)
    image = normalised(num=1)
    network(image).square().mean().backward()
    assert all(param.grad.isfinite().all() and param.grad.any() for param in network.parameters())
    assert twin(image[..., :32]).shape[-2:] == (64, 32) and network(image).shape[-2:] == (64, 96)
    assert not has_input_scale(with_input_scale(PerPixel(), 1.0)) and has_input_scale(twin)
