"""Which encoders go under the pyramid, and what becomes of images of any size."""

from __future__ import annotations

import pytest
import torch

from pipeline.config.schema import Encoder, Model
from pipeline.detection.pyramid import STRIDES, Pyramid, grids_of, make_encoder
from pipeline.errors import UserError


def model_of(encoder: str) -> Model:
    return Model("RetinaNet", "RN", Encoder(encoder, "E", None))


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "tu-convnext_atto", "vgg11_bn", "timm-regnetx_002"])
@pytest.mark.parametrize("num_channels", [1, 5])
def test_encoders_of_the_library_and_timm_take_images_of_any_channels_and_size(encoder, num_channels):
    with torch.device("meta"):
        network = make_encoder(model_of(encoder), num_channels)
        pyramid = Pyramid(network.out_channels[-3:], 8)
        levels = pyramid(network(torch.empty(2, num_channels, 96, 160))[-3:])
    assert [tuple(level.shape) for level in levels] == [(2, 8, *grid) for grid in grids_of((96, 160))]


def test_each_level_has_half_the_rows_and_columns_of_the_finer_one():
    assert STRIDES == (8, 16, 32, 64, 128)
    assert grids_of((128, 256)) == [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]
    assert grids_of((32, 32)) == [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("resnet81", "the library has no 'resnet81'; did you mean resnet18"),
        ("convnext_atto", "the library has no 'convnext_atto'; timm has it: write tu-convnext_atto"),
        ("tu-resnet-18", "timm has no 'resnet-18'; did you mean tu-resnet18"),
        ("tu-vit_tiny_patch16_224", "RetinaNet cannot use 'tu-vit_tiny_patch16_224'"),
    ],
)
def test_a_wrong_encoder_is_refused_with_what_to_write(encoder, message):
    with torch.device("meta"), pytest.raises(UserError, match=rf"MODEL\.ENCODER\.NAME: .*{message}"):
        make_encoder(model_of(encoder), 3)
