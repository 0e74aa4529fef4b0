"""Encoders of Hugging Face's hub: refused by default, loaded from the hub's cache, and counted as the files they are.

The cache is a real one: the folders, links and files that the hub's client leaves, with a small network of timm.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from pipeline.config.schema import Encoder, Model
from pipeline.engine.dependence import why_run
from pipeline.engine.freshness import Marker, write_marker
from pipeline.errors import UserError
from pipeline.segmentation.networks import build_network
from pipeline.training.encoder import load_encoder, mean_std
from pipeline.training.hub import read_description
from tests.tiny import run_of, run_stages

NAME = "tu-hf-hub:somebody/small"
ENCODER = Encoder(NAME, "SML", "imagenet", allow_remote=True)
PERMITTED = ("MODEL.NAME=Unet", f"MODEL.ENCODER.NAME={NAME}", "MODEL.ENCODER.ALLOW_REMOTE=true")
MEAN, STD = [0.4, 0.4, 0.4], [0.2, 0.2, 0.2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The hub's cache, which has `somebody/small`; there is no network."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    publish(folder, "a" * 40, seed=1)
    return folder


def publish(folder: Path, commit: str, seed: int, **changes) -> Path:
    """Writes a commit of `somebody/small` as the client stores it, and makes it the newest."""
    torch.manual_seed(seed)
    network = timm.create_model("test_resnet", num_classes=3)
    of_model = folder / "models--somebody--small"
    snapshot = of_model / "snapshots" / commit
    snapshot.mkdir(parents=True)
    own = {"mean": MEAN, "std": STD, "input_size": [3, 64, 64], "num_classes": 3, "custom_load": False}
    content = {
        "architecture": "test_resnet",
        "num_classes": 3,
        "pretrained_cfg": own | changes.pop("pretrained_cfg", {}),
    }
    (snapshot / "config.json").write_text(json.dumps(content | changes))
    save_file(network.state_dict(), snapshot / "model.safetensors")
    (of_model / "refs").mkdir(exist_ok=True)
    (of_model / "refs" / "main").write_text(commit)
    return snapshot


def test_it_is_refused_where_no_key_permits_it():
    with pytest.raises(UserError, match=r"fetched from Hugging Face's hub.*set MODEL\.ENCODER\.ALLOW_REMOTE: true"):
        build_network(Model("Unet", "U", Encoder(NAME, "SML", None)), 2)


def test_it_is_built_and_filled_from_the_cache(cache):
    network = build_network(Model("Unet", "U", ENCODER), 2)
    load_encoder(network, ENCODER, ())
    published = load_file(next(cache.rglob("model.safetensors")))
    own = network.encoder.state_dict()
    assert all(torch.equal(tensor, published[name.removeprefix("model.")]) for name, tensor in own.items())
    assert len(own) > 20
    assert mean_std(NAME, "imagenet") == (tuple(MEAN), tuple(STD))


@pytest.mark.parametrize(
    "name",
    [
        *("tu-hf-hub:", "tu-hf-hub:small", "tu-hf-hub:../../x", "tu-hf-hub:a/b/c", f"{NAME}@../x"),
        *(f"tu-hf-hub:own/{name}" for name in ("a--b", "a..b", "a.", "a-", "a.git", "a" * 97)),
    ],
)
def test_a_name_that_is_no_owner_and_name_is_refused(name):
    with pytest.raises(UserError, match=r"MODEL\.ENCODER\.NAME: found .*, expected tu-hf-hub:OWNER/NAME"):
        build_network(Model("Unet", "U", Encoder(name, "SML", None, allow_remote=True)), 2)


def test_a_folder_of_this_machine_is_refused_with_the_key_too(cache):
    folder = next(cache.rglob("model.safetensors")).parent
    with pytest.raises(UserError, match="not of a hub or a folder"):
        build_network(Model("Unet", "U", Encoder(f"tu-local-dir:{folder}", "SML", None, allow_remote=True)), 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"pretrained_cfg": {"file": "/etc/passwd"}},
        {"pretrained_cfg": {"hf_hub_filename": "pytorch_model.bin"}},
        {"pretrained_cfg": {"custom_load": "hf"}},
        {"model_args": {"pretrained_cfg_overlay": {"file": "x"}}},
        {"model_args": {"checkpoint_path": "x"}},
    ],
)
def test_a_description_that_would_have_other_files_read_is_refused(cache, changes):
    publish(cache, "b" * 40, 1, **changes)
    with pytest.raises(UserError, match="which can make timm read other files"):
        build_network(Model("Unet", "U", ENCODER), 2)


def test_weights_in_another_format_are_not_read(cache):
    next(cache.rglob("model.safetensors")).rename(
        cache / "models--somebody--small/snapshots" / ("a" * 40) / "pytorch_model.bin"
    )
    network = build_network(Model("Unet", "U", ENCODER), 2)
    with pytest.raises(UserError, match=r"model\.safetensors of somebody/small is not in the cache"):
        load_encoder(network, ENCODER, ())


@pytest.mark.parametrize("weights", [None, "imagenet", "/own/weights.safetensors"])
def test_a_network_is_built_from_its_description_alone(cache, weights):
    next(cache.rglob("model.safetensors")).unlink()
    network = build_network(Model("Unet", "U", Encoder(NAME, "SML", weights, allow_remote=True)), 2)
    assert network.encoder.state_dict()


def test_why_a_run_trains_is_told_of_a_name_that_is_none_too(workshop):
    run = run_of(workshop.tiny("MODEL.NAME=Unet", "MODEL.ENCODER.NAME=tu-hf-hub:resnet18"))
    write_marker(run.paths.marker("train"), Marker(1, {}, {}, {}, 1.0))
    assert why_run(run.stage("train"), run) is not None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"architecture": 3}', '{"architecture": "test_resnet", "model_args": 3}', "\0"]
)
def test_a_damaged_description_is_refused_with_its_path(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        read_description(tmp_path / "config.json", NAME)


def test_what_timm_does_not_have_is_refused(cache):
    publish(cache, "b" * 40, 1, architecture="no_such_network")
    with pytest.raises(UserError, match="has the architecture 'no_such_network', which timm does not have"):
        build_network(Model("Unet", "U", ENCODER), 2)


def test_another_commit_in_the_cache_trains_anew_and_the_same_does_not(workshop, cache, without_drawing):
    loaded = workshop.tiny(*PERMITTED, "MODEL.ENCODER.WEIGHTS=imagenet", "SWEEP.ENABLE=false")
    run_stages(loaded, "train")
    run = run_of(loaded)
    assert why_run(run.stage("train"), run) is None
    publish(cache, "b" * 40, seed=2)
    assert "the encoder's model.safetensors" in str(why_run(run.stage("train"), run))
    pinned = workshop.tiny(*PERMITTED[::2], f"MODEL.ENCODER.NAME={NAME}@{'a' * 40}", "MODEL.ENCODER.WEIGHTS=imagenet")
    shutil.rmtree(cache / "models--somebody--small" / "refs")
    assert build_network(pinned.config.model, 2) is not None
