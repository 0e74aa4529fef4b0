"""Published weights are loaded whole or refused; what is frozen is counted."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from pipeline.detection.yolox import YOLOX
from pipeline.detection.yolox_weights import load_yolox
from pipeline.errors import UserError
from pipeline.training.learner import freeze, frozen_words
from tests.detection.reference_yolox import copy_weights, make_reference, with_random_norms, yolox_model


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(1)
    return with_random_norms(make_reference("nano", 3))


def ours(num_classes=3, size="nano", num_channels=3):
    return YOLOX.build(yolox_model(size=size), num_classes, num_channels)


def write(path, state):
    """Writes weights as the reference's trainer does, with what else it keeps."""
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"start_epoch": 3, "model": state, "optimizer": {"state": {}}, "best_ap": 0.1}, path)
    return path


def refused(network, path, message):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_yolox(network, path, print)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", ["yolox_nano.pth", "yolox_nano.safetensors"])
def test_weights_that_the_reference_wrote_are_loaded_whole(theirs, tmp_path, name):
    network, wanted, lines = ours(), ours(), []
    load_yolox(network, write(tmp_path / name, theirs.state_dict()), lines.append)
    copy_weights(theirs, wanted)
    found = network.state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in wanted.state_dict().items())
    assert lines == []


def test_the_last_layers_for_another_number_of_classes_stay_random(theirs, tmp_path):
    network, wanted, lines = ours(7), ours(), []
    copy_weights(theirs, wanted)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_yolox(network, write(tmp_path / "coco.pth", theirs.state_dict()), lines.append)
    for name, tensor in network.state_dict().items():
        source = before if name.startswith("head.classes.") else wanted.state_dict()
        assert torch.equal(tensor, source[name]), name
    assert (
        len(lines) == 1
        and "coco.pth is for 3 classes" in lines[0]
        and "start from random weights for 7 classes" in lines[0]
    )


def test_weights_of_another_size_are_refused_with_the_size_to_set(theirs, tmp_path):
    path = write(tmp_path / "a.pth", theirs.state_dict())
    refused(ours(size="tiny"), path, "a.pth is for yolox_nano, but MODEL.ENCODER.NAME is yolox_tiny; .*NAME=yolox_nano")


def test_weights_for_colour_images_are_refused_for_others(theirs, tmp_path):
    path = write(tmp_path / "a.pth", theirs.state_dict())
    refused(ours(num_channels=1), path, "for images of 3 channels, but the images have 1")


@pytest.mark.parametrize("change", ["drop", "reshape", "add"])
def test_weights_that_fit_in_part_are_refused(theirs, tmp_path, change):
    state = dict(theirs.state_dict())
    if change == "drop":
        del state["backbone.C3_p4.conv1.conv.weight"]
    elif change == "reshape":
        state["backbone.C3_p4.conv1.conv.weight"] = torch.zeros(3, 3)
    else:
        state["head.another.weight"] = torch.zeros(3)
    wanted = "head.another.weight" if change == "add" else "neck.top_down4.conv1.conv.weight"
    refused(ours(), write(tmp_path / "a.pth", state), f"does not fit this YOLOX: 1 tensors, first {wanted}")


def test_weights_without_the_layers_of_classes_are_refused(theirs, tmp_path):
    state = {key: tensor for key, tensor in theirs.state_dict().items() if "cls_preds" not in key}
    refused(ours(), write(tmp_path / "a.pth", state), "6 tensors, first head.classes.0.weight")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_broken_and_absent_files_are_refused(theirs, tmp_path, name):
    refused(ours(), tmp_path / name, "does not exist; put")
    path = write(tmp_path / name, theirs.state_dict())
    path.write_bytes(path.read_bytes()[:5000])
    refused(ours(), path, "is damaged or .*download it again")


def test_foreign_files_are_refused(tmp_path):
    refused(ours(), write(tmp_path / "resnet.pth", {"fc.weight": torch.zeros(2)}), "has no weights of YOLOX")
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "plain.pth")
    refused(ours(), tmp_path / "plain.pth", "has no weights under 'model'")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    refused(ours(), tmp_path / "list.pth", "has no weights under 'model'")


def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    refused(ours(), tmp_path / "evil.pth", "not a file of tensors and plain values")
    assert not (tmp_path / "written").exists()


def test_the_frozen_backbone_of_yolox_l_is_described_with_its_parameters():
    with torch.device("meta"):
        network = ours(7, "l")
    freeze(network, ["encoder", "neck"])
    sizes = {True: 0, False: 0}
    for param in network.parameters():
        sizes[param.requires_grad] += param.numel()
    assert sizes == {False: 46_599_040, True: 7_553_572}
    wanted = "frozen: encoder (27.1 M parameters), neck (19.5 M parameters); learning: head (7.6 M parameters)"
    assert frozen_words(network) == wanted
