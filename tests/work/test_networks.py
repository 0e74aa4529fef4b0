"""Networks of every kind go through the whole chain: sweep, training, evaluation, prediction; whole and in windows."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.paths import BEST, HISTORY, LAST, METRICS, SWEEP_FACTS, TEST_PROBS
from pipeline.prediction.store import open_predictions
from pipeline.training.checkpoint import load_checkpoint
from tests.tiny import draw_nothing, executed, overrides, run_of, run_paths, run_stages

TILES = (
    *("DATASETS.AUGMENTATION.TILE.ENABLE=true", "DATASETS.AUGMENTATION.TILE.WIDTH=32"),
    *("DATASETS.AUGMENTATION.TILE.HEIGHT=32", "DATASETS.AUGMENTATION.TILE.SETS=[[64, 64, 2, 2]]"),
)
WINDOWS = ("PREDICT.MODE=window", "PREDICT.WINDOW=[32, 32]")
NO_ENCODER = ("MODEL.ENCODER.NAME=none", "MODEL.ENCODER.WEIGHTS=null")
SMALL_DPT = (
    *("MODEL.NAME=DPT", "MODEL.ENCODER.NAME=tu-vit_tiny_patch16_224", "MODEL.OPTIONS.DECODER_FUSION_CHANNELS=16"),
    "MODEL.OPTIONS.DECODER_INTERMEDIATE_CHANNELS=[8, 8, 16, 16]",
)
PLAIN = ("MODEL.NAME=PlainUnet", *NO_ENCODER, "MODEL.OPTIONS.FIRST_CHANNELS=4", "MODEL.OPTIONS.ENCODER_DEPTH=2")
KINDS = {
    "DPT": SMALL_DPT,
    "DPT, windows": (*SMALL_DPT, *WINDOWS),
    "DeepLabV2": ("MODEL.NAME=DeepLabV2", "MODEL.ENCODER.NAME=resnet18", "SOLVER.OPTIMIZER.HEAD_LR_FACTOR=10"),
    "PlainUnet": PLAIN,
    "PlainUnet, auxiliary head": (*PLAIN, "MODEL.AUX_WEIGHT=0.4", *WINDOWS),
    "one size": ("MODEL.NAME=Unet", "MODEL.ENCODER.NAME=tu-maxvit_rmlp_pico_rw_256", *TILES, "PREDICT.TTA=d4"),
}
CODE = """
from torch import nn

class Network(nn.Module):
    def __init__(self, in_channels, classes, width):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.segmentation_head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        return self.segmentation_head(self.encoder(x))

def build(in_channels, classes, width=4):
    return Network(in_channels, classes, width)

def halves(in_channels, classes):
    return nn.Sequential(nn.Conv2d(in_channels, classes, 2, stride=2))

class Pair(Network):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits

def pair(in_channels, classes):
    return Pair(in_channels, classes, 4)

class Always(Network):
    def forward(self, x):
        return super().forward(x), x

def always_pair(in_channels, classes):
    return Always(in_channels, classes, 4)

class Numbers(Network):
    def forward(self, x):
        return super().forward(x).long()

def numbers(in_channels, classes):
    return Numbers(in_channels, classes, 4)

def frozen(in_channels, classes):
    return Network(in_channels, classes, 4).requires_grad_(False)
"""


@pytest.fixture
def own_network(tmp_path, monkeypatch):
    """The path of a network of one's own in a folder of configs that otherwise is the project's."""
    from pipeline.paths import CONFIGS

    folder = tmp_path / "configs"
    folder.mkdir()
    for path in CONFIGS.iterdir():
        (folder / path.name).symlink_to(path)
    for module in ("pipeline.config.load", "pipeline.segmentation.own_code", "pipeline.work.inputs"):
        monkeypatch.setattr(f"{module}.CONFIGS", folder)
    (folder / "my_network.py").write_text(CODE)
    return folder / "my_network.py"


def own(workshop, *changes, trusts_code=True):
    """Returns a resolved config whose network is one's own."""
    settings = ("MODEL.NAME=my_network.py:build", *NO_ENCODER, "SWEEP.ENABLE=false", *changes)
    settings = tuple({setting.split("=")[0]: setting for setting in settings}.values())
    workshop.tiny(*settings)  # its folder
    return load("demo", overrides(workshop.data, *settings), trusts_code)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_each_kind_is_swept_trained_evaluated_and_predicts(workshop, monkeypatch, kind):
    draw_nothing(monkeypatch)
    loaded = workshop.tiny(*KINDS[kind])
    paths, _ = run_stages(loaded, "submit")
    history = pd.read_csv(paths / HISTORY)
    assert len(history) == 3 and history["valid_loss"].notna().all()
    assert ("train_loss_aux" in history) == ("auxiliary" in kind)
    assert json.loads((paths / SWEEP_FACTS).read_text())["max_lr"] > 0
    assert json.loads((paths / METRICS).read_text())["images"] == 4
    content = load_checkpoint(paths / LAST)
    assert content["state"]["epoch"] == 2 and all(torch.isfinite(value).all() for value in content["network"].values())
    store = open_predictions(run_of(loaded), "test")
    assert len(list(store)) == 4
    factor = {"DPT": 2, "DeepLabV2": 8}.get(kind, 1)  # small logits where the head allows it
    assert {store[image_id].factor for image_id in store} == {factor}


@pytest.mark.slow
def test_a_network_of_ones_own_goes_through_the_chain_and_an_edit_trains_anew(workshop, own_network, monkeypatch):
    draw_nothing(monkeypatch)
    loaded = own(workshop, "MODEL.OPTIONS.WIDTH=6")
    paths, _ = run_stages(loaded, "predict")
    assert (paths / BEST).is_file() and (paths / TEST_PROBS).is_dir()
    assert load_checkpoint(paths / BEST)["network"]["encoder.0.weight"].shape[0] == 6
    assert executed(run_stages(loaded, "predict")[1]) == []
    assert executed(run_stages(replace(loaded, trusts_code=False), "predict")[1]) == []  # what is done runs no code
    own_network.write_text(own_network.read_text() + "\n# another network\n")
    _, lines = run_stages(loaded, "predict")
    assert "train" in executed(lines) and any("the code in my_network.py changed" in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "trusts_code", "words"),
    [
        ((), False, r"my_network\.py:build runs the code of configs/my_network\.py; read it, then add --trust-code"),
        (
            ("MODEL.NAME=my_network.py:halves",),
            True,
            r"maps \(2, 3, 224, 224\) to \(2, 12, 112, 112\).*correct the file",
        ),
        (("MODEL.NAME=my_network.py:bild",), True, r"configs/my_network\.py has no function bild"),
        (("MODEL.NAME=other.py:build",), True, r"there is no file other\.py in configs/"),
        (("MODEL.NAME=my_network.py:always_pair",), True, r"to a tuple, not to \(2, 12, 224, 224\); correct the file"),
        (("MODEL.NAME=my_network.py:pair",), True, r"to a tuple, not to .*, in training mode; correct the file"),
        (("MODEL.NAME=my_network.py:numbers",), True, r"to torch\.int64, expected floating point"),
        (("MODEL.NAME=my_network.py:frozen",), True, r"it has no weights that can be trained; correct the file"),
        (("MODEL.OPTIONS.DEPTH=3",), True, r"unexpected keyword argument 'depth'.*correct the file or MODEL\.OPTIONS"),
        (("MODEL.AUX_WEIGHT=0.5",), True, r"MODEL\.AUX_WEIGHT: my_network\.py:build has no auxiliary head"),
    ],
)
def test_a_network_of_ones_own_is_refused_before_anything_is_spent(workshop, own_network, changes, trusts_code, words):
    loaded = own(workshop, *changes, trusts_code=trusts_code)
    with pytest.raises(UserError, match=words):
        run_stages(loaded, "train")
    assert not (run_paths(loaded.run) / HISTORY).exists()


def test_whole_images_of_another_size_than_the_networks_are_refused_with_the_size_to_set(workshop):
    loaded = workshop.tiny("MODEL.NAME=Unet", "MODEL.ENCODER.NAME=tu-lcnet_035", "MODEL.ENCODER.IMAGE_SIZE=[32, 32]")
    with pytest.raises(UserError, match=r"takes images of 32x32 only.*set MODEL\.ENCODER\.IMAGE_SIZE: \[64, 64\]"):
        run_stages(loaded, "train")


def test_tiles_of_another_size_than_the_given_one_are_refused(workshop):
    loaded = workshop.tiny("MODEL.ENCODER.IMAGE_SIZE=[64, 32]", *TILES[:2], "DATASETS.AUGMENTATION.TILE.HEIGHT=64")
    with pytest.raises(UserError, match=r"tiles of 32x64 do not fit a network of 64x32"):
        run_stages(loaded, "train")


HALF = "DATASETS.INPUT_SCALE=0.5"
CROP = "DATASETS.AUGMENTATION.RANDOM_CROP"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "smallest", "at"),
    [
        (("PREDICT.SCALES=[0.5, 1.0]",), "128x128", ""),
        ((HALF, f"{CROP}={{ENABLE: true, WIDTH: 32, HEIGHT: 32}}"), "256x256", " at DATASETS.INPUT_SCALE 0.5"),
        ((HALF, *TILES), "256x256", " at DATASETS.INPUT_SCALE 0.5"),
    ],
)
def test_frames_that_are_too_small_for_the_poolings_are_padded(workshop, changes, smallest, at):
    loaded = workshop.tiny("MODEL.NAME=PAN", "MODEL.ENCODER.NAME=tu-lcnet_035", "SWEEP.ENABLE=false", *changes)
    paths, lines = run_stages(loaded, "predict")
    assert (paths / TEST_PROBS / "index.json").exists()
    assert f"samples below {smallest} pixels are padded to that, the smallest that PAN takes{at}" in lines


@pytest.mark.parametrize(
    ("name", "option"),
    [("DeepLabV2", "DECODER_ATROUS_RATES=[0, -6]"), ("MAnet", "DECODER_PAB_CHANNELS=0")],
)
def test_options_that_fail_with_real_numbers_alone_are_refused_before_training(workshop, name, option):
    loaded = workshop.tiny(f"MODEL.NAME={name}", "MODEL.ENCODER.NAME=resnet18", f"MODEL.OPTIONS.{option}")
    with pytest.raises(UserError, match=rf"MODEL: {name} with .*; change MODEL\.OPTIONS: it runs without them"):
        run_stages(loaded, "train")
