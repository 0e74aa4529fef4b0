"""Networks by name, their encoder weights, and the cut before the head's upsampling."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from pipeline.config.load import load, names
from pipeline.config.schema import Encoder, Model
from pipeline.errors import UserError
from pipeline.paths import shown
from pipeline.segmentation import networks as build
from pipeline.segmentation.networks import IMAGENET_MEAN_STD, align_corners, build_network, low_logits, upsample_factor
from pipeline.training.encoder import load_encoder, load_weights, mean_std, normalise
from pipeline.training.weights import find_encoder_weights

ARCHITECTURES = (
    *("Unet", "UnetPlusPlus", "FPN", "PAN", "PSPNet", "Linknet", "MAnet", "DeepLabV3", "DeepLabV3Plus"),
    *("UPerNet", "Segformer"),
)
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
    return Model(name, "X", encoder, None)


def filled(encoder: Encoder, folders: Sequence[Path] = (), name: str = "Linknet") -> nn.Module:
    """A network whose encoder holds its pretrained weights."""
    network = build_network(model(name, encoder), 2)
    load_encoder(network, encoder, folders)
    return network


@pytest.fixture(scope="module")
def encoder_state():
    network = build_network(model(), 2)
    return {name: tensor.contiguous() for name, tensor in network.encoder.state_dict().items()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_upsampling_the_low_logits_is_the_network_to_the_bit(architecture):
    network = build_network(model(architecture), num_outputs=3).eval()
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


def test_these_are_the_networks_of_the_experiments():
    models = [load(name).config.model for name in names() if name.startswith("Exp")]
    assert {(model.name, model.encoder.name) for model in models} == EXPERIMENTS


def test_a_misspelt_encoder_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"MODEL\.ENCODER\.NAME: the library has no 'resnet43'; did you mean resnet34"):
        build_network(model(encoder=Encoder("resnet43", "X", None)), 2)


def test_images_are_normalised_as_the_weights_were_trained():
    image = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = normalise(image, TINY)
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in IMAGENET_MEAN_STD)
    wanted = ((image.double() / 255 - mean) / std).permute(0, 3, 1, 2)
    assert torch.allclose(found.double(), wanted, atol=1e-6) and found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_what_prediction_normalised_with_can_be_trained_with():
    build._scale_shift.cache_clear()
    image = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    with torch.inference_mode():
        normalise(image, TINY)
    weight = torch.ones(1, requires_grad=True)
    (normalise(image, TINY) * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("name", "weights", "mean"),
    [
        ("resnet34", "imagenet", 0.485),
        ("efficientnet-b3", "imagenet", 0.485),
        ("efficientnet-b3", "advprop", 0.5),
        ("xception", "imagenet", 0.5),
        ("dpn68", "imagenet", 124 / 255),
        ("timm-tf_efficientnet_lite0", "imagenet", 0.5),
        ("tu-vit_base_patch16_224", "imagenet", 0.5),
        ("tu-resnest50d", None, 0.485),
        ("tu-of_nobody", None, 0.485),
    ],
)
def test_mean_and_deviation_belong_to_the_encoder_and_its_weights(name, weights, mean):
    assert mean_std(name, weights)[0][0] == mean


def test_another_runs_weights_are_taken_whole():
    first, second = build_network(model(), 2), build_network(model(), 2)
    load_weights(second, first.state_dict(), "ExpAAB")
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def test_weights_with_a_tensor_too_many_are_refused():
    network = build_network(model(), 2)
    state = {**network.state_dict(), "decoder.extra.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=r"ExpAAB does not fit this network: decoder\.extra\.weight has no place here"):
        load_weights(network, state, "ExpAAB")


def test_weights_are_found_by_encoder_and_tag_in_the_first_folder_that_has_them(tmp_path):
    encoder, folders = dataclasses.replace(TINY, weights="imagenet"), [tmp_path / name for name in ("a", "b", "c")]
    assert find_encoder_weights(encoder, folders) is None and find_encoder_weights(TINY, folders) is None
    for folder in folders[1:]:
        folder.mkdir()
        (folder / "tu-lcnet_035-imagenet.safetensors").write_bytes(b"")
    assert find_encoder_weights(encoder, folders) == folders[1] / "tu-lcnet_035-imagenet.safetensors"
    assert find_encoder_weights(TINY, folders) is None


def test_weights_may_be_named_by_path(tmp_path):
    path = tmp_path / "mine.safetensors"
    with pytest.raises(UserError, match=r"MODEL\.ENCODER\.WEIGHTS: there is no file .*mine\.safetensors"):
        find_encoder_weights(dataclasses.replace(TINY, weights=str(path)), ())
    path.write_bytes(b"")
    assert find_encoder_weights(dataclasses.replace(TINY, weights=str(path)), ()) == path


def test_an_encoders_file_fills_the_encoder_alone(tmp_path, encoder_state):
    path = tmp_path / "mine.safetensors"
    save_file(encoder_state, path)
    torch.manual_seed(1)
    network = filled(dataclasses.replace(TINY, weights=str(path)))
    assert all(torch.equal(tensor, encoder_state[name]) for name, tensor in network.encoder.state_dict().items())
    torch.manual_seed(1)
    random = build_network(model(), 2).state_dict()
    others = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("encoder.")}
    assert others and all(torch.equal(tensor, random[name]) for name, tensor in others.items())


def test_an_encoder_without_weights_stays_as_it_is():
    network = build_network(model(), 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_encoder(network, TINY, ())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("damage", ["cut", "other tensor", "tensor too many", "tensor too few"])
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path, encoder_state, damage):
    path, state = tmp_path / "mine.safetensors", dict(encoder_state)
    first = sorted(state)[0]
    if damage == "other tensor":
        state[first] = torch.zeros(1, 2, 3)
    elif damage == "tensor too many":
        state["extra"] = torch.zeros(1)
    elif damage == "tensor too few":
        del state[first]
    save_file(state, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    wanted = "is not a whole safetensors file" if damage == "cut" else "does not fit encoder tu-lcnet_035: 1 tensors"
    with pytest.raises(UserError, match=rf"mine\.safetensors {wanted}"):
        filled(dataclasses.replace(TINY, weights=str(path)))


def test_without_internet_the_message_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing cached"))
    monkeypatch.setattr(build.hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(build.hub.constants, "HF_HUB_CACHE", str(tmp_path / "nothing cached"))
    with pytest.raises(UserError) as caught:
        filled(Encoder("resnet34", "X", "imagenet"), (tmp_path / "a", tmp_path / "b"))
    message, looked_in = str(caught.value), f"{shown(tmp_path / 'a')}, {shown(tmp_path / 'b')}"
    what = "no imagenet weights for encoder resnet34: there is no resnet34-imagenet.safetensors in"
    assert f"{what} {looked_in}, and the library's hub did not answer" in message
    for fix in ("set WEIGHTS_DIR", "MODEL.ENCODER.WEIGHTS=null", "./run.sh download resnet34"):
        assert fix in message


def test_a_tag_that_the_library_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(UserError, match="resnet34 has no 'imagenet22k'; known: imagenet"):
        filled(Encoder("resnet34", "X", "imagenet22k"))


def test_real_weights_of_the_library_fit(shared):
    path = next(iter(sorted((shared / "weights").glob("mobilenet_v2-imagenet.safetensors"))), None)
    if path is None:
        pytest.skip("needs mobilenet_v2-imagenet.safetensors in the shared folder")
    filled(Encoder("mobilenet_v2", "X", str(path)), name="FPN")
