"""Files of weights: where those of an encoder are found, and which tensors may fill a network."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.config.schema import Encoder, Model
from pipeline.detection.yolox import YOLOX
from pipeline.detection.yolox_weights import load_yolox
from pipeline.errors import UserError
from pipeline.segmentation.networks import build_network
from pipeline.training.assemble import start_learner
from pipeline.training.checkpoint import save_checkpoint
from pipeline.training.encoder import load_encoder
from pipeline.training.inputs import find_encoder_weights
from pipeline.training.weights import load_weights
from tests.detection.reference_yolox import make_reference, yolox_model
from tests.tiny import run_of, run_stages

TINY = Encoder("tu-lcnet_035", "LCN", None)


def quantised(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # they are deprecated, but there are files of them
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


KINDS = {
    "int8": (lambda one: (one * 10).to(torch.int8), "is int8, expected float32; use weights that are not quantised"),
    "bool": (lambda one: one > 0, "is bool, expected float32"),
    "complex64": (lambda one: one.to(torch.complex64), "is complex64, expected float32"),
    "float64": (lambda one: one.double(), "is float64, expected float32"),
    "float8": (lambda one: one.to(torch.float8_e4m3fn), "is float8_e4m3fn, expected float32"),
    "NaN": (lambda one: one.clone().index_fill_(0, torch.tensor(0), torch.nan), "values that are NaN or infinite"),
    "half infinity": (lambda one: one.half() * torch.inf, "values that are NaN or infinite"),
    "sparse": (lambda one: one.to_sparse(), r"is sparse \(sparse_coo\), expected a dense tensor of float32"),
    "meta": (lambda one: one.to("meta"), "has no values"),
    "quantised": (lambda one: quantised(one), "is quantised, expected a dense"),
}
IN_SAFETENSORS = ("int8", "bool", "float64", "float8", "NaN", "half infinity")  # the format has no others
every_kind = pytest.mark.parametrize("kind", KINDS)


def spoilt(state: dict[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """Weights in which one tensor, the first of four dimensions, is of another kind."""
    name = next(name for name, tensor in state.items() if tensor.ndim == 4)
    return state | {name: KINDS[kind][0](state[name])}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return build_network(Model("Linknet", "X", TINY), 12)


def refused(network: nn.Module, kind: str, fill) -> None:
    """The network is not changed, and the message says what was found."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError, match=KINDS[kind][1]):
        fill()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


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


@every_kind
def test_tensors_of_another_kind_are_not_cast_into_a_network(network, kind):
    state = spoilt(network.state_dict(), kind)
    refused(network, kind, lambda: load_weights(network, state, "ExpAAB"))


@pytest.mark.parametrize("width", [torch.float16, torch.bfloat16])
def test_floats_of_half_the_width_are_taken_to_the_bit(network, width):
    half = {name: one.to(width) if one.is_floating_point() else one for name, one in network.state_dict().items()}
    other = build_network(Model("Linknet", "X", TINY), 12)
    load_weights(other, half, "ExpAAB")
    assert all(torch.equal(one, half[name].to(one.dtype)) for name, one in other.state_dict().items())


def test_a_counter_that_became_a_float_is_refused(network):
    name = next(name for name in network.state_dict() if name.endswith("num_batches_tracked"))
    state = network.state_dict() | {name: torch.tensor(1.5)}
    with pytest.raises(UserError, match="num_batches_tracked is float32, expected int64"):
        load_weights(network, state, "ExpAAB")


@pytest.mark.usefixtures("without_drawing")
@pytest.mark.parametrize("part", ["all", "fitting", "classes"])
@pytest.mark.parametrize("kind", ["int8", "sparse", "meta", "NaN"])
def test_an_earlier_network_of_another_kind_is_refused_whatever_part_is_taken(workshop, tmp_path, part, kind, network):
    path = tmp_path / "best.ckpt"
    save_checkpoint(path, {"network": spoilt(network.state_dict(), kind), "ema": None, "state": {}})
    names = workshop.tiny().competition.class_names
    (tmp_path / "classes.csv").write_text("\n".join(["name", *names]) + "\n")
    changes = ("SWEEP.ENABLE=false", f"EXPERIMENT.LOAD_PREV={path}", f"EXPERIMENT.LOAD_PART={part}")
    loaded = workshop.tiny(*changes)
    run_stages(loaded, "prepare")
    with pytest.raises(UserError, match=rf"LOAD_PREV .*best\.ckpt: \S+ .*{KINDS[kind][1]}"):
        start_learner(run_of(loaded))


@pytest.mark.parametrize("kind", IN_SAFETENSORS)
def test_an_encoders_file_of_another_kind_is_refused(tmp_path, network, kind):
    path = tmp_path / "mine.safetensors"
    save_file({name: one.contiguous() for name, one in spoilt(network.encoder.state_dict(), kind).items()}, path)
    refused(network, kind, lambda: load_encoder(network, dataclasses.replace(TINY, weights=str(path)), ()))


@pytest.mark.parametrize("kind", ["int8", "sparse", "meta", "quantised", "NaN"])
def test_published_weights_of_yolox_of_another_kind_are_refused(tmp_path, kind):
    network, path = YOLOX.build(yolox_model(size="nano"), 3, 3), tmp_path / "yolox_nano.pth"
    torch.save({"model": spoilt(make_reference("nano", 3).state_dict(), kind)}, path)
    refused(network, kind, lambda: load_yolox(network, path, print))
