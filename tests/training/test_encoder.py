"""What an encoder expects, and its pretrained weights: from a file, from the library's hub, or refused."""

from __future__ import annotations

import dataclasses
import re
import socket
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.config.schema import Encoder, Model
from pipeline.errors import UserError
from pipeline.paths import shown
from pipeline.segmentation.networks import build_network
from pipeline.training import encoder as encoder_module
from pipeline.training.encoder import (
    IMAGENET_MEAN_STD,
    Scaling,
    load_encoder,
    mean_std,
    normalise,
)
from pipeline.training.encoder_names import name_to_build
from pipeline.training.weights import load_weights

TINY = Encoder("tu-lcnet_035", "LCN", None)
SCALING = Scaling(*mean_std(TINY.name, TINY.weights))


def model(name: str = "Linknet", encoder: Encoder = TINY) -> Model:
    return Model(name, "X", encoder)


def filled(encoder: Encoder, folders: Sequence[Path] = (), name: str = "Linknet") -> nn.Module:
    """A network whose encoder holds its pretrained weights."""
    network = build_network(model(name, encoder), 2)
    load_encoder(network, encoder, folders)
    return network


@pytest.fixture(scope="module")
def encoder_state():
    network = build_network(model(), 2)
    return {name: tensor.contiguous() for name, tensor in network.encoder.state_dict().items()}


def test_images_are_normalised_as_the_weights_were_trained():
    image = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = normalise(image, SCALING)
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in IMAGENET_MEAN_STD)
    wanted = ((image.double() / 255 - mean) / std).permute(0, 3, 1, 2)
    assert torch.allclose(found.double(), wanted, atol=1e-6) and found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_what_prediction_normalised_with_can_be_trained_with():
    encoder_module._scale_shift.cache_clear()
    image = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    with torch.inference_mode():
        normalise(image, SCALING)
    weight = torch.ones(1, requires_grad=True)
    (normalise(image, SCALING) * weight).sum().backward()
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
    with pytest.raises(UserError, match=r"ExpAAB does not fit this network, which has no decoder\.extra\.weight"):
        load_weights(network, state, "ExpAAB")


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
    wanted = "is damaged or no safetensors file" if damage == "cut" else "does not fit encoder tu-lcnet_035: "
    with pytest.raises(UserError, match=rf"mine\.safetensors {wanted}") as refused:
        filled(dataclasses.replace(TINY, weights=str(path)))
    if damage == "other tensor":
        shapes = f"(1, 2, 3) in the file and {tuple(encoder_state[first].shape)} in the network"
        assert f"{first} is {shapes} (the only tensor that differs)" in str(refused.value)


def test_without_internet_the_message_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing cached"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "nothing cached"))
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


@pytest.mark.parametrize(
    ("name", "encoder", "positions"),
    [
        ("Unet", "tu-coatnet_nano_rw_224", "relative_position_bias_table"),
        ("DPT", "tu-vit_tiny_patch16_224", "pos_embed"),
    ],
)
def test_weights_of_another_image_size_are_resampled_where_they_are_of_positions(tmp_path, name, encoder, positions):
    sizes, networks = ([224, 224], [64, 96]), []
    for width, height in sizes:
        settings = Encoder(encoder, "X", str(tmp_path / "mine.safetensors"), (width, height))
        networks.append(build_network(model(name, settings), 2, wanted=(height, width)))
    state = {key: tensor.contiguous() for key, tensor in networks[0].encoder.state_dict().items()}
    save_file(state, tmp_path / "mine.safetensors")
    load_encoder(networks[1], settings, ())
    found = networks[1].encoder.state_dict()
    other = [key for key in state if found[key].shape != state[key].shape]
    assert other and all(positions in key for key in other)
    assert all(torch.equal(found[key], state[key]) for key in state if key not in other)
    key = other[0]  # a smooth resampling keeps the mean about
    assert found[key].std() > 0 and abs(float(found[key].mean() - state[key].mean())) < float(state[key].std())


def test_a_shallower_encoder_leaves_the_deepest_stages_of_a_file_out(tmp_path):
    settings = Encoder("tu-convnext_atto", "X", str(tmp_path / "mine.safetensors"))
    state = build_network(model("Unet", settings), 2).encoder.state_dict()
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "mine.safetensors")
    network = build_network(Model("PSPNet", "X", settings), 2)
    load_encoder(network, settings, ())
    own = network.encoder.state_dict()
    assert 0 < len(own) < len(state) and all(torch.equal(tensor, state[key]) for key, tensor in own.items())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tu-resnet188", "timm has no 'resnet188'; did you mean tu-resnet18 or "),
        ("tu-", "timm has no ''; write for example tu-resnet18"),
        ("tu-../../x", "found 'tu-../../x', expected an encoder of timm's own list, not of a hub or a folder"),
        ("tu-local-dir:/nowhere", "not of a hub or a folder"),
        ("tu-hf-hub:timm/resnet18.a1_in1k", "set MODEL.ENCODER.ALLOW_REMOTE: true; otherwise write"),
        ("tu-resnet18.a1_in1", "timm has no weights 'a1_in1' of resnet18; did you mean resnet18.a1_in1k"),
        ("tu-resnet18.", "timm has no weights '' of resnet18; "),
        ("tu-test_none.x", "timm has no 'test_none.x'"),
        ("timm-res2", "timm has no 'res2'"),
        ("timm-resnest14d/../x", "not of a hub or a folder"),
        ("resnet188", "the library has no 'resnet188'; did you mean resnet18"),
        ("lcnet_035", "timm has it: write tu-lcnet_035"),
    ],
)
def test_an_encoder_that_is_in_no_list_is_refused_before_anything_is_fetched(monkeypatch, name, words):
    monkeypatch.setattr(socket.socket, "connect", lambda *arguments: pytest.fail("asked the internet"))
    with pytest.raises(UserError, match=rf"MODEL\.ENCODER\.NAME: .*{re.escape(words)}"):
        build_network(model(encoder=Encoder(name, "X", None)), 2)


@pytest.mark.parametrize("name", ["timm-mobilenetv3_small_075", "timm-res2net50_26w_4s", "tu-resnet18.a1_in1k"])
def test_old_names_and_names_with_a_tag_are_known(name):
    assert name_to_build(Encoder(name, "X", None)) == name
