"""What sizes a network takes is found by running it; a network of one size sees larger images through windows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.config.schema import Encoder, Model
from pipeline.data.padding import Sizes, refuse_other_sizes
from pipeline.errors import UserError
from pipeline.segmentation.networks import build_network, check_window, sizes_of, whole_logits
from pipeline.segmentation.predict import PLAIN
from pipeline.segmentation.probe import Build, find_build
from pipeline.segmentation.windows import windowed

TILE = (128, 192)  # height, width


def build(encoder: str, name: str = "Unet", wanted: tuple[int, int] | None = TILE) -> nn.Module:
    return build_network(Model(name, "X", Encoder(encoder, "X", None)), 3, wanted=wanted).eval()


def test_a_network_of_convolutions_takes_multiples_of_its_stride():
    assert build("tu-lcnet_035").sizes == Sizes(32, None)


def test_a_network_with_windows_is_built_for_the_size_of_the_tiles_and_sees_larger_images_through_windows():
    network = build("tu-maxvit_rmlp_pico_rw_256")
    assert network.sizes.fixed == TILE
    with torch.inference_mode():
        image = torch.rand(1, 3, 160, 224)
        with pytest.raises(AssertionError, match="must be divisible by window"):
            network(image)
        assert whole_logits(network, image).shape == (1, 3, 160, 224)
        tile = image[..., :128, :192]
        assert torch.equal(whole_logits(network, tile), network(tile))


def test_a_swin_is_told_to_take_any_size():
    network = build("tu-swin_tiny_patch4_window7_224")
    assert list(network.encoder_arguments) in (["strict_img_size"], ["dynamic_img_size"])
    with torch.inference_mode():
        assert network.sizes == Sizes() and network(torch.rand(1, 3, 64, 96)).shape == (1, 3, 64, 96)


def test_a_table_of_positions_that_is_too_short_for_larger_images_is_found_though_shapes_fit():
    network = build("tu-mvitv2_tiny")
    assert network.sizes.fixed == TILE
    with torch.inference_mode():
        assert whole_logits(network, torch.rand(1, 3, 128, 224)).shape == (1, 3, 128, 224)


def test_a_vision_transformer_runs_in_dpt_at_any_size():
    network = build("tu-vit_tiny_patch16_224", "DPT")
    with torch.inference_mode():
        assert network.sizes.fixed is None and network(torch.rand(1, 3, 96, 160)).shape == (1, 3, 96, 160)


@pytest.mark.parametrize(
    ("encoder", "name", "words"),
    [
        ("tu-vit_tiny_patch16_224", "Unet", r"Unsupported model downsampling pattern; with .* these run: .*DPT"),
        ("resnet18", "DPT", r"Only Timm encoders are supported.*; with resnet18 these run: Unet, .*Segformer"),
        (
            "tu-nest_tiny",
            "PSPNet",
            r"does not run at 192x128: .*runs at \[\d+, \d+\].*set MODEL\.ENCODER\.IMAGE_SIZE",
        ),
        ("maxvit_tiny_tf_512", "Unet", r"has no 'maxvit_tiny_tf_512'; timm has it: write tu-maxvit_tiny_tf_512"),
        ("tu-maxvit_tinny_tf_512", "Unet", r"timm has no 'maxvit_tinny_tf_512'; did you mean tu-maxvit_tiny_tf_512"),
    ],
)
def test_what_cannot_work_is_refused_with_what_would(encoder, name, words):
    with pytest.raises(UserError, match=words) as refusal:
        build(encoder, name)
    assert "\n" not in str(refusal.value)


class OnlyMultiples(nn.Module):
    """Takes images whose sides are multiples of a number, as a network of that stride does."""

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple, self.kernel = multiple, nn.Conv2d(3, 2, 1)

    def forward(self, x):
        if any(side % self.multiple for side in x.shape[-2:]):
            raise ValueError(f"not a multiple of {self.multiple}")
        return self.kernel(x)


@pytest.mark.parametrize(("multiple", "found"), [(1, 32), (32, 32), (64, 64), (128, 128)])
def test_the_stride_is_read_from_the_network(multiple, found):
    assert find_build(lambda: OnlyMultiples(multiple), (3, 2), TILE, False, is_own_code=True) == Build({}, Sizes(found))


def test_a_size_that_is_given_is_the_only_one():
    assert find_build(lambda: OnlyMultiples(1), (3, 2), TILE, True, is_own_code=True) == Build({}, Sizes(32, TILE))


def test_probing_leaves_the_random_numbers_as_they_were():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    find_build(lambda: OnlyMultiples(1), (3, 2), None, False, is_own_code=True)
    build("tu-lcnet_050", wanted=None)
    torch.manual_seed(5)
    build("tu-lcnet_035")
    assert torch.equal(expected, torch.manual_seed(5) and torch.rand(3))


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([32, 64]),
    st.none() | st.sampled_from([(64, 128), TILE]),
    st.sampled_from([0, 128]),
)
def test_a_frame_holds_its_image_and_is_one_that_the_network_takes(height, width, multiple, fixed, smallest):
    sizes = Sizes(multiple, fixed, smallest)
    frame = sizes.padded(height, width)
    least = fixed or (max(smallest, 1), max(smallest, 1))
    assert frame[0] >= max(height, least[0]) and frame[1] >= max(width, least[1])
    assert all(side % multiple == 0 or side == limit for side, limit in zip(frame, least, strict=True))
    assert sizes.padded(*frame) == frame


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 3), st.sampled_from([32, 64]), st.sampled_from([0, 128]))
def test_a_scaled_frame_is_the_nearest_that_the_network_takes(rows, columns, factor, multiple, smallest):
    size, sizes = (rows * multiple, columns * multiple), Sizes(multiple, smallest=smallest)
    for side, scaled in zip(size, sizes.scaled(size, factor), strict=True):
        assert scaled % multiple == 0 and scaled >= max(multiple, smallest)
        assert abs(scaled - side * factor) <= multiple / 2 or scaled == max(multiple, smallest)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.1, 3), st.sampled_from([32, 64]), st.sampled_from([0, 128]))
def test_a_frame_that_is_scaled_before_the_network_takes_it_keeps_its_scale(rows, columns, factor, multiple, smallest):
    sizes = Sizes(multiple, smallest=smallest)
    frame = sizes.before(factor).padded(8 * rows, 8 * columns)
    for side, scaled in zip(frame, sizes.scaled(frame, factor), strict=True):
        assert side % multiple == 0 and (abs(scaled - side * factor) <= multiple / 2 or scaled == multiple)


class Halving(nn.Module):
    """A network that halves its features so often that the smallest squares leave nothing."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.kernel = times, nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        halved = self.kernel(x)
        for _ in range(self.times):
            halved = F.max_pool2d(halved, 2)
        return F.interpolate(halved, x.shape[-2:])


@pytest.mark.parametrize(("times", "smallest"), [(4, 0), (5, 0), (6, 64), (7, 128)])
def test_the_smallest_side_that_a_network_takes_is_found(times, smallest):
    found = find_build(lambda: Halving(times), (3, 2), None, False, is_own_code=True)
    assert found == Build({}, Sizes(smallest=smallest))


@given(st.integers(8, 40), st.integers(8, 40), st.sampled_from([(8, 8), (16, 24), (40, 9)]))
def test_windows_of_one_size_cover_every_frame_even_a_smaller_one(height, width, window):
    seen = []

    def logits_of(image):
        seen.append(tuple(image.shape[-2:]))
        return image[:, :2] * 3

    image = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(windowed(logits_of, image, window, is_fixed=True), image[:, :2] * 3, atol=1e-5)
    assert set(seen) == {window}


def test_samples_of_another_size_than_the_networks_are_refused_with_the_key_to_set():
    refuse_other_sizes(Sizes(), {(96, 64), (32, 32)})
    refuse_other_sizes(Sizes(fixed=TILE), {TILE})
    with pytest.raises(UserError, match=r"a training sample has 96x64; set MODEL\.ENCODER\.IMAGE_SIZE: \[96, 64\]"):
        refuse_other_sizes(Sizes(fixed=TILE), {(64, 96)})
    with pytest.raises(
        UserError, match=r"cut tiles of its size: DATASETS\.AUGMENTATION\.TILE: \{ENABLE: true, WIDTH: 192"
    ):
        refuse_other_sizes(Sizes(fixed=TILE), {(64, 96), (32, 32)})


@pytest.mark.parametrize("window", [(64, 128), (128, 144), (32, 32)])
def test_windows_that_are_too_small_for_the_poolings_are_refused_by_sizes_that_are_not(window):
    words = (
        rf"WINDOW: \[{window[0]}, {window[1]}\] must be multiples of 32 and at least 128 .*, for example \[128, 128\]"
    )
    with pytest.raises(UserError, match=words):
        check_window(replace(PLAIN, mode="window", window=window), Sizes(smallest=128))
    check_window(replace(PLAIN, mode="window", window=(128, 160)), Sizes(smallest=128))


def test_a_network_of_another_origin_takes_any_size():
    assert sizes_of(nn.Identity()) == Sizes()
