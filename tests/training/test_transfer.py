"""Weights of an earlier network: of other classes, of another architecture, of a file that the library wrote."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import UserError
from pipeline.segmentation.networks import build_network
from pipeline.training.assemble import start_learner
from pipeline.training.checkpoint import save_checkpoint
from pipeline.training.transfer import read_weights
from tests.tiny import run_of, run_stages

pytestmark = pytest.mark.usefixtures("without_drawing")

HEAD = ("segmentation_head.0.weight", "segmentation_head.0.bias")
OTHERS = ["Sky", "car", "Grass", "ROAD"]  # of which two are classes of the tiny competition, written otherwise


def earlier(workshop, folder: Path, classes: list[str] | None, *changes: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """Writes the checkpoint of a network of other classes; returns it and its weights."""
    torch.manual_seed(5)
    network = build_network(workshop.tiny(*changes).config.model, len(classes or OTHERS))
    folder.mkdir(exist_ok=True)
    save_checkpoint(folder / "best.ckpt", {"network": network.state_dict(), "ema": None, "state": {}})
    if classes is not None:
        (folder / "classes.csv").write_text("\n".join(["name", *classes]) + "\n")
    return folder / "best.ckpt", network.state_dict()


def started(workshop, path: Path | str, part: str, *changes: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    loaded = workshop.tiny(
        "SWEEP.ENABLE=false", f"EXPERIMENT.LOAD_PREV={path}", f"EXPERIMENT.LOAD_PART={part}", *changes
    )
    run_stages(loaded, "prepare")
    lines: list[str] = []
    learner = start_learner(run_of(loaded, lines.append))
    return learner.network.state_dict(), lines


def fresh_head(workshop) -> dict[str, torch.Tensor]:
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    return {name: start_learner(run_of(loaded)).network.state_dict()[name] for name in HEAD}


def test_what_fits_is_taken_the_last_layer_is_new_and_both_are_told(workshop, tmp_path):
    path, state = earlier(workshop, tmp_path / "before", OTHERS)
    own, lines = started(workshop, path, "fitting")
    assert all(torch.equal(own[name], state[name]) for name in state if name not in HEAD)
    assert all(torch.equal(own[name], tensor) for name, tensor in fresh_head(workshop).items())
    assert lines[0] == f"EXPERIMENT.LOAD_PREV {path}: {len(state) - 2} of {len(state)} tensors are taken"
    assert lines[1].startswith(f"  new: {HEAD[0]} ((4, ") and f"{HEAD[1]} ((4,) there, (12,) here)" in lines[1]


def test_classes_of_the_same_name_keep_their_part_of_the_last_layer(workshop, tmp_path):
    path, state = earlier(workshop, tmp_path / "before", OTHERS)
    own, lines = started(workshop, path, "classes")
    names, fresh = workshop.tiny().competition.class_names, fresh_head(workshop)
    for tensor in HEAD:
        for index, name in enumerate(names):
            source = {"Car": state[tensor][1], "Road": state[tensor][3], "Sky": state[tensor][0]}.get(name)
            assert torch.equal(own[tensor][index], fresh[tensor][index] if source is None else source)
    kept = [name for name in names if name.casefold() in {other.casefold() for other in OTHERS}]
    assert len(kept) >= 2 and f"  classes that are carried over: {', '.join(kept)}" in lines
    assert f"  classes that are new: {', '.join(name for name in names if name not in kept)}" in lines


def test_a_last_layer_of_as_many_other_classes_is_not_taken(workshop, tmp_path):
    names = list(workshop.tiny().competition.class_names)
    path, state = earlier(workshop, tmp_path / "before", names[::-1])
    own, lines = started(workshop, path, "fitting")
    assert not torch.equal(own[HEAD[0]], state[HEAD[0]]) and "(its classes are others, or not known)" in lines[1]
    own, lines = started(workshop, path, "all")
    assert torch.equal(own[HEAD[0]], state[HEAD[0]]), "all is what it says"
    assert ["has a last layer for other classes; EXPERIMENT.LOAD_PART=fitting" in line for line in lines] == [True]
    path, state = earlier(workshop, tmp_path / "same", names)
    own, lines = started(workshop, path, "fitting")
    assert all(torch.equal(own[name], state[name]) for name in state)
    assert lines == [f"EXPERIMENT.LOAD_PREV {path}: {len(state)} of {len(state)} tensors are taken"]
    assert started(workshop, path, "all")[1] == []


def test_another_decoder_leaves_the_encoder(workshop, tmp_path):
    path, state = earlier(workshop, tmp_path / "before", OTHERS, "MODEL.NAME=FPN")
    own, lines = started(workshop, path, "fitting")
    encoder = [name for name in own if name.startswith("encoder.")]
    assert encoder and all(torch.equal(own[name], state[name]) for name in encoder)
    assert any(line.startswith("  not used: decoder.p5.weight") for line in lines)


def test_networks_that_the_library_wrote_and_plain_files_are_taken(workshop, tmp_path):
    network = build_network(workshop.tiny().config.model, 3)
    network.save_pretrained(tmp_path / "published")
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, tmp_path / "plain.safetensors")
    for path in (tmp_path / "published", tmp_path / "plain.safetensors"):
        own, _ = started(workshop, path, "fitting")
        assert all(torch.equal(own[name], state[name]) for name in state if name not in HEAD)


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("all", (), r"does not fit .*segmentation_head\.0\.weight.* or EXPERIMENT.LOAD_PART=fitting to take what fits"),
        ("fitting", ("MODEL.NAME=FPN", "MODEL.ENCODER.NAME=resnet18"), "nothing in EXPERIMENT.LOAD_PREV"),
        ("classes", (), "needs the names of the classes"),
    ],
)
def test_what_cannot_be_taken_is_refused(workshop, tmp_path, part, changes, words):
    path, _ = earlier(workshop, tmp_path / "before", None)
    with pytest.raises(UserError, match=words):
        started(workshop, path, part, *changes)


@pytest.mark.parametrize(
    ("name", "words"),
    [("broken.safetensors", "is damaged or no safetensors file"), ("absent.safetensors", "there is no file")],
)
def test_a_file_that_is_no_network_is_refused(workshop, tmp_path, name, words):
    (tmp_path / "broken.safetensors").write_bytes(b"no network")
    with pytest.raises(UserError, match=words):
        started(workshop, tmp_path / name, "fitting")


def test_a_network_of_the_hub_that_is_out_of_reach_is_refused_with_what_to_do(workshop, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *names: (_ for _ in ()).throw(OSError()))
    with pytest.raises(UserError, match=r"With internet: .*snapshot_download") as refusal:
        started(workshop, "somebody/network", "fitting")
    command = re.search(r"With internet: (.*); then name", str(refusal.value))[1]
    offline = subprocess.run(
        ["sh", "-c", command], env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, check=False
    )
    assert b"LocalEntryNotFoundError" in offline.stderr  # it asks for the network, and there is nothing to ask here


def test_a_hub_that_does_not_answer_is_not_asked_again_and_again(workshop, monkeypatch):
    def download(*names):
        asked.append(huggingface_hub.constants.HF_HUB_OFFLINE)
        raise OSError

    asked: list[bool] = []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("pipeline.training.hub._reaches", lambda address: False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match="somebody/network is not on this machine"):
        started(workshop, "somebody/network", "fitting")
    assert asked == [True]


def test_a_part_of_nothing_is_refused(workshop):
    with pytest.raises(UserError, match=r"EXPERIMENT\.LOAD_PART: has an effect with EXPERIMENT\.LOAD_PREV only"):
        workshop.tiny("EXPERIMENT.LOAD_PART=classes")


@pytest.mark.parametrize(
    ("name", "words"), [("other.ckpt", "name a run, a checkpoint"), ("best.ckpt", "train it first")]
)
def test_a_checkpoint_that_is_not_there_is_trained_only_if_it_is_of_a_run(tmp_path, name, words):
    with pytest.raises(UserError, match=rf"{name}; EXPERIMENT\.LOAD_PREV needs it; {words}"):
        read_weights(tmp_path / "ExpAAB" / name)
