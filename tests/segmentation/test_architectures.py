"""The architectures of library and project, their options, the auxiliary head."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.config.architectures import OURS, library_architectures
from pipeline.config.load import load
from pipeline.config.schema import Encoder, Model
from pipeline.errors import UserError
from pipeline.segmentation.architectures import architectures
from pipeline.segmentation.auxiliary import class_presence, presence_loss, with_presence
from pipeline.segmentation.losses import mixed_loss
from pipeline.segmentation.networks import build_network, low_logits, upsample_factor
from pipeline.training.learner import freeze
from pipeline.training.optimizer import parameter_groups

TINY = Encoder("tu-lcnet_035", "LCN", None)
NO_ENCODER = Encoder("none", "NO", None)


def network(name: str, encoder: Encoder = TINY, num_outputs: int = 3, aux_weight: float = 0.0, **options) -> nn.Module:
    return build_network(Model(name, "X", encoder, options, aux_weight), num_outputs).eval()


def test_the_architectures_are_the_installed_librarys_and_ours():
    of_library = [one.__name__ for one in smp.MODEL_ARCHITECTURES_MAPPING.values()]
    assert sorted(library_architectures()) == sorted(of_library) and "DPT" in of_library
    assert set(architectures()) == {*of_library, *OURS}


def test_deeplab_v2_is_the_papers():
    found = network("DeepLabV2", Encoder("resnet18", "RNT18", None))
    rates = [branch.dilation for branch in found.segmentation_head[0].branches]
    assert rates == [(6, 6), (12, 12), (18, 18), (24, 24)]
    strides = [found.encoder.layer3[0].conv1.stride, found.encoder.layer4[0].conv1.stride]
    assert strides == [(1, 1), (1, 1)]
    assert {module.dilation for module in found.encoder.layer3.modules() if isinstance(module, nn.Conv2d)} >= {(2, 2)}
    assert {module.dilation for module in found.encoder.layer4.modules() if isinstance(module, nn.Conv2d)} >= {(4, 4)}
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        feature = found.encoder(image)[-1]
        low = low_logits(found, image)
        by_hand = sum(
            F.conv2d(feature, b.weight, b.bias, padding=b.padding, dilation=b.dilation)
            for b in found.segmentation_head[0].branches
        )
    assert upsample_factor(found) == 8 and low.shape == (1, 3, 8, 12)
    assert torch.allclose(low, by_hand, atol=1e-5)


@pytest.mark.parametrize("use_norm", [True, False])
def test_the_plain_unet_has_the_diarys_depth_and_kernels(use_norm):
    found = network("PlainUnet", NO_ENCODER, USE_NORM=use_norm)
    assert found.encoder.out_channels == [64, 128, 256, 512, 1024] and found.encoder.output_stride == 16
    assert any(isinstance(module, nn.BatchNorm2d) for module in found.modules()) == use_norm
    small = network("PlainUnet", NO_ENCODER, FIRST_CHANNELS=4, ENCODER_DEPTH=2, USE_NORM=use_norm)
    with torch.inference_mode():
        assert small(torch.rand(1, 3, 32, 64)).shape == (1, 3, 32, 64)


def test_a_pixel_of_the_plain_unet_sees_its_surroundings_through_every_level():
    small = network("PlainUnet", NO_ENCODER, FIRST_CHANNELS=4, ENCODER_DEPTH=3)
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    small(image)[0, 0, 32, 32].backward()
    rows = torch.nonzero(image.grad.abs().sum((0, 1, 3))).flatten()
    assert int(rows.max() - rows.min()) > 40  # without the deepest level: 20


@pytest.mark.parametrize(
    ("name", "options", "check"),
    [
        ("Unet", {"DECODER_CHANNELS": (32, 16, 8, 8, 4)}, lambda net: net.segmentation_head[0].in_channels == 4),
        ("Unet", {"ENCODER_DEPTH": 3, "DECODER_CHANNELS": (16, 8, 4)}, lambda net: net.encoder.output_stride == 8),
        ("DeepLabV3Plus", {"ENCODER_OUTPUT_STRIDE": 8}, lambda net: net.encoder.output_stride == 8),
        ("FPN", {"DECODER_DROPOUT": 0.5}, lambda net: net.decoder.dropout.p == 0.5),
        ("Unet", {"DECODER_ATTENTION_TYPE": None}, lambda net: True),
    ],
)
def test_options_of_the_library_reach_the_network(name, options, check):
    assert check(network(name, **options))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("FPN", {"DECODER_CHANNEL": 3}, r"OPTIONS\.DECODER_CHANNEL: FPN has no such option; did you mean DECODER_"),
        ("FPN", {"CLASSES": 3}, r"OPTIONS\.CLASSES: FPN has no such option"),
        (
            "Unet",
            {"DECODER_CHANNELS": "many"},
            r"DECODER_CHANNELS: found 'many', expected a list, each item an integer",
        ),
        ("Unet", {"DECODER_CHANNELS": (8, 4)}, r"Unet with encoder .*; change MODEL\.OPTIONS"),
        ("DeepLabV3", {"ENCODER_OUTPUT_STRIDE": 7}, r"ENCODER_OUTPUT_STRIDE: found 7, expected one of 8, 16"),
        ("FPN", {"UPSAMPLING": 2}, r"it maps \(2, 3, 224, 224\) to \(2, 3, 112, 112\).*change MODEL\.OPTIONS: it runs"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(name, options, words):
    with pytest.raises(UserError, match=words):
        network(name, **options)


def test_a_name_goes_with_its_encoder():
    with pytest.raises(UserError, match=r"PlainUnet has no encoder of the library; set MODEL\.ENCODER\.NAME: none"):
        load("demo", ("MODEL.NAME=PlainUnet",))
    with pytest.raises(UserError, match=r"Unet needs an encoder"):
        load("demo", ("MODEL.NAME=Unet", "MODEL.ENCODER.NAME=none"))
    with pytest.raises(UserError, match=r"MODEL\.NAME: found '\.\./x\.py:build', expected FILE\.py:FUNCTION"):
        load("demo", ("MODEL.NAME=../x.py:build",))
    with pytest.raises(UserError, match=r"IMAGE_SIZE: \[100, 64\] must be multiples of 32, for example \[96, 64\]"):
        load("demo", ("MODEL.ENCODER.IMAGE_SIZE=[100, 64]",))


def test_the_head_has_a_rate_of_its_own_beside_the_encoders():
    found = network("DeepLabV2", Encoder("resnet18", "RNT18", None))
    groups = parameter_groups(found, 5e-4, 1.0, True, head_lr_factor=10.0)
    assert [group["lr_factor"] for group in groups] == [1.0, 10.0]
    own = {id(param) for param in found.segmentation_head.parameters()}
    assert {id(param) for param in groups[1]["params"]} == own and len(own) == 8
    three = parameter_groups(network("Linknet"), 0.0, 0.1, True, head_lr_factor=10.0)
    assert [group["lr_factor"] for group in three] == [1.0, 0.1, 10.0]


def test_parts_of_our_networks_can_be_frozen_by_name():
    found = network("DeepLabV2", Encoder("resnet18", "RNT18", None)).train()
    freeze(found, ["encoder.layer1", "encoder.bn1"])
    assert not any(param.requires_grad for param in found.encoder.layer1.parameters())
    with pytest.raises(UserError, match="segmentation_head, encoder"):
        freeze(found, ["encoder.layer9"])


@pytest.mark.parametrize(
    ("name", "encoder"),
    [
        ("Unet", TINY),
        ("DPT", Encoder("tu-vit_tiny_patch16_224", "V", None)),
        ("DeepLabV2", Encoder("resnet18", "R", None)),
        ("PlainUnet", NO_ENCODER),
    ],
)
def test_an_auxiliary_head_returns_a_logit_per_image_and_class(name, encoder):
    logits, labels = network(name, encoder, aux_weight=0.4)(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 3, 64, 64) and labels.shape == (2, 3)


def test_the_loss_of_the_head_is_added_with_its_weight_and_ignored_pixels_show_nothing():
    mask = torch.tensor([[[0, 0, 255]], [[1, 2, 2]]], dtype=torch.uint8)
    assert class_presence(mask, 3).tolist() == [[1, 0, 0], [0, 1, 1]]
    planes = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    planes[0, 0, 0, 1], planes[0, 1, 1, 2], planes[0, 0, 1, 0] = 240, 255, 80  # a third of a pixel is no class of it
    assert class_presence(planes, 3).tolist() == [[0, 1, 0]]
    sure = torch.tensor([[9.0, -9, 9], [-9, 9, -9]])  # wrong about the third class only
    assert presence_loss(sure, mask, [0, 1]) < 1e-3 < 8 < presence_loss(sure, mask, [2])

    def main(logits, masks):
        return mixed_loss([("ce", 1.0)], logits, masks)

    logits = torch.zeros(2, 3, 1, 3)
    loss = with_presence(main, 0.5, [0, 1, 2])((logits, sure), mask)
    assert loss.total == main(logits, mask).total + 0.5 * presence_loss(sure, mask, [0, 1, 2])
    assert set(loss.terms) == {"ce", "aux"}
    assert with_presence(main, 0.5, [0])(logits, mask).terms.keys() == {"ce"}
