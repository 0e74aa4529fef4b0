"""Networks by name, and the cut before the head's upsampling."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

from pipeline.config.architectures import library_architectures
from pipeline.config.load import load, names
from pipeline.config.schema import Encoder, Model
from pipeline.errors import UserError
from pipeline.segmentation.networks import align_corners, build_network, low_logits, upsample_factor
from pipeline.training.checkpoint import num_parameters

# Every (architecture, encoder) of the 73 experiments.
EXPERIMENTS = {
    ("DeepLabV3Plus", "efficientnet-b3"),
    ("DeepLabV3Plus", "efficientnet-b5"),
    ("DeepLabV3Plus", "resnet50"),
    ("DeepLabV3Plus", "resnet152"),
    ("FPN", "efficientnet-b3"),
    ("FPN", "timm-resnest50d"),
    ("Linknet", "timm-skresnet34"),
}
TINY = Encoder("tu-lcnet_035", "LCN", None)
IMAGE = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))


def model(name: str = "Linknet", encoder: Encoder = TINY) -> Model:
    return Model(name, "X", encoder)


@pytest.mark.parametrize("architecture", library_architectures())
def test_upsampling_the_low_logits_is_the_network_to_the_bit(architecture):
    encoder = Encoder("tu-vit_tiny_patch16_224", "VIT", None) if architecture == "DPT" else TINY
    network = build_network(model(architecture, encoder), num_outputs=3).eval()
    image = IMAGE.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        whole, low = network(image), low_logits(network, image)
        factor = upsample_factor(network)
        if factor > 1:
            low = F.interpolate(low, scale_factor=factor, mode="bilinear", align_corners=align_corners(network))
    assert torch.equal(whole, low) and whole.shape == (1, 3, 128, 128)


@pytest.mark.parametrize(("architecture", "encoder"), sorted(EXPERIMENTS))
def test_the_network_of_every_experiment_is_built_and_runs(architecture, encoder):
    network = build_network(model(architecture, Encoder(encoder, "X", "imagenet")), 12).eval()
    with torch.inference_mode():
        assert network(IMAGE[..., :64, :64]).shape == (1, 12, 64, 64)
    kernels = [param for param in network.parameters() if param.dim() == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


@pytest.mark.parametrize("encoder", ["tu-lcnet_035", "mit_b0", "vgg11_bn", "se_resnet50"])
def test_the_parameters_of_a_network_are_counted_from_its_weights_alone(encoder):
    network = build_network(model("FPN", Encoder(encoder, "X", None)), 3)
    assert num_parameters(network.state_dict()) == sum(param.numel() for param in network.parameters())


@pytest.mark.parametrize("num_channels", [1, 4, 16])
@pytest.mark.parametrize(
    "encoder",
    ["resnet18", "efficientnet-b0", "timm-efficientnet-b0", "mobilenet_v2", "se_resnet50", "vgg11_bn", "mit_b0"],
)
def test_images_may_have_any_number_of_channels(encoder, num_channels):
    network = build_network(model("FPN", Encoder(encoder, "X", None)), 2, num_channels).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, num_channels, 64, 64)).shape == (1, 2, 64, 64)


def test_these_are_the_networks_of_the_aeroscapes_experiments():
    models = [load(name).config.model for name in names() if re.fullmatch("Exp[A-Z]{3}", name)]
    assert {(model.name, model.encoder.name) for model in models} == EXPERIMENTS


def test_a_misspelt_encoder_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"MODEL\.ENCODER\.NAME: the library has no 'resnet43'; did you mean resnet34"):
        build_network(model(encoder=Encoder("resnet43", "X", None)), 2)
