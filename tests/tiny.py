"""A competition and a config so small that the whole chain runs in seconds: coloured shapes, 64 x 64 pixels.

It has the demo competition's descriptor (classes, folders, convention), so that no config need be written: everything
is said by overrides on `configs/demo.yaml`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.config.load import Loaded, load
from pipeline.config.study import SEED, SPLIT
from pipeline.engine.chain import run_chain
from pipeline.engine.run import Run, Stage
from pipeline.engine.stopping import Stop
from pipeline.paths import Folders, RunPaths
from pipeline.report.figure import SCALE
from pipeline.stages import stages_of, task_of

SIDE = 64
BACKGROUND, CAR, VEGETATION, ROAD = 0, 3, 9, 10
COLORS = {BACKGROUND: (90, 90, 90), CAR: (40, 60, 200), VEGETATION: (40, 140, 50), ROAD: (180, 170, 160)}  # RGB
PANEL_WIDTH, PNG_LEVEL = 472, 1  # a quarter, and little compressed, where nobody looks
TRAIN_SEQUENCES, TEST_SEQUENCES, FRAMES = 3, 1, 4

SETTINGS = {
    "MODEL.NAME": "Linknet",  # with this encoder 196 thousand weights, a checkpoint of 3 MB
    "MODEL.ENCODER.NAME": "tu-lcnet_035",
    "MODEL.ENCODER.WEIGHTS": "null",
    "DATASETS.SPLIT.BY": "sequence",
    "DATASETS.SPLIT_INDEX": "0",
    "DATASETS.AUGMENTATION.TILE.ENABLE": "false",
    "DATASETS.AUGMENTATION.COPY_PASTE.ENABLE": "true",
    "DATASETS.AUGMENTATION.COPY_PASTE.VARIANT": "weighted",
    "DATALOADERS.TRAIN.BATCH_SIZE": "2",
    "DATALOADERS.TRAIN.NUM_WORKERS": "0",
    "DATALOADERS.VALID.BATCH_SIZE": "2",
    "DATALOADERS.VALID.NUM_WORKERS": "0",
    "LOSS_FN.MIX": "0.5 ce + 0.5 dice",
    "RUNTIME.KEEP_STATE": "true",  # tests compare the state at the end; `tests/work/test_kept.py` is without
    "RUNTIME.DEVICE": "cpu",  # which ends with the same bits twice
    "SOLVER.PLAN": "flat_cosine",
    "SOLVER.MAX_LR": "0.003",
    "SOLVER.NUM_EPOCHS": "1",
    "SOLVER.ANN_EPOCHS": "1",
    "SOLVER.PATIENCE": "5",
    "SWEEP.ENABLE": "true",
    "SWEEP.STEPS": "8",
    "SWEEP.REPEATS": "1",
    "SWEEP.IMAGES": "2",
}


def write_competition(folder: Path) -> Path:
    """Writes 12 images with masks in 3 sequences, and 4 test images; returns `folder`."""
    rng = np.random.default_rng(7)
    for name in ("imgs/imgs", "masks/masks"):
        (folder / name).mkdir(parents=True)
    ids: dict[str, list[str]] = {"train": [], "test": []}
    for sequence in range(TRAIN_SEQUENCES + TEST_SEQUENCES):
        subset = "train" if sequence < TRAIN_SEQUENCES else "test"
        for frame in range(FRAMES):
            image_id = f"{sequence + 1:06d}_{frame + 1:03d}"
            image, mask = draw(rng)
            cv2.imwrite(str(folder / f"imgs/imgs/{image_id}.jpg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            if subset == "train":
                cv2.imwrite(str(folder / f"masks/masks/{image_id}.png"), mask)
            ids[subset].append(image_id)
    write_lists(folder, ids)
    return folder


def write_lists(folder: Path, ids: Mapping[str, Sequence[str]]) -> None:
    """Writes the lists of a competition like AeroScapes: train.csv, test.csv and sample_submission.csv."""
    for subset, names in ids.items():
        (folder / f"{subset}.csv").write_text("\n".join(["ImageID", *names]) + "\n")
    rows = [f"{image_id}_{index}," for image_id in ids["test"] for index in range(12)]
    (folder / "sample_submission.csv").write_text("\n".join(["ImageID,EncodedPixels", *rows]) + "\n")


def write_hidden(folder: Path, ids: Iterable[str]) -> Path:
    """Writes test images of no competition, such as a hidden test set has; returns the new folder."""
    rng = np.random.default_rng(3)
    folder.mkdir()
    for image_id in ids:
        cv2.imwrite(str(folder / f"{image_id}.jpg"), cv2.cvtColor(draw(rng)[0], cv2.COLOR_RGB2BGR))
    return folder


def write_tiny_study(project: Path, data: Path, settings: str, *changes: str, seeds: str = "null") -> None:
    """Writes the study `mine` on the competition in `data` into a copy of the project; `settings` as YAML."""
    words = [word for word in overrides(data, *changes) if not word.startswith((SPLIT, SEED))]
    lines = ["# Q?", "# ./run.sh study mine", "BASE: demo", "SET:", *(f"  - '{word}'" for word in words)]
    text = "\n".join([*lines, f"SETTINGS: {settings}", f"SEEDS: [{seeds}]"]) + "\n"
    (project / "configs" / "studies" / "mine.yaml").write_text(text)


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image (uint8 RGB) and its mask: a road, a tree, a car on grey ground."""
    mask = np.full((SIDE, SIDE), BACKGROUND, np.uint8)
    left = int(rng.integers(4, SIDE - 24))
    mask[:, left : left + 16] = ROAD
    cv2.circle(mask, tuple(map(int, rng.integers(8, SIDE - 8, 2))), int(rng.integers(6, 14)), VEGETATION, -1)
    top = int(rng.integers(4, SIDE - 14))
    mask[top : top + 10, left + 4 : left + 11] = CAR
    image = np.zeros((SIDE, SIDE, 3), np.int64)
    for index, color in COLORS.items():
        image[mask == index] = color
    return (image + rng.integers(-12, 13, image.shape)).clip(0, 255).astype(np.uint8), mask


@dataclass(frozen=True)
class Workshop:
    """A tiny competition whose images are checked and cut, for tests that begin after that."""

    data: Path
    runs: Path
    scratch: Path

    def tiny(self, *changes: str) -> Loaded:
        """Returns the resolved tiny config; its run folder has the stages up to `tile` done, as far as they fit."""
        loaded = tiny(self.data, *changes)
        (prepared,) = self.runs.iterdir()
        if not run_paths(loaded.run).folder.exists():
            shutil.copytree(prepared, run_paths(loaded.run).folder)
            shutil.copytree(self.scratch, Folders.from_environment().scratch, dirs_exist_ok=True)
        return loaded


def make_workshop(folder: Path) -> Workshop:
    """Writes a competition and runs the stages up to `tile` below `folder`."""
    workshop = Workshop(write_competition(folder / "data"), folder / "runs", folder / "scratch")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RUNS_DIR", str(workshop.runs))
        monkeypatch.setenv("SCRATCH_DIR", str(workshop.scratch))
        draw_nothing(monkeypatch)
        run_stages(tiny(workshop.data), "tile")
    return workshop


def overrides(folder: Path, *changes: str) -> tuple[str, ...]:
    """Returns the `KEY=VALUE` arguments that make the demo config this tiny one, with `changes` of the same form."""
    settings = SETTINGS | {"DATASETS.DIRECTORY": str(folder)} | dict(change.split("=", 1) for change in changes)
    return tuple(f"{key}={value}" for key, value in settings.items())


def tiny(folder: Path, *changes: str) -> Loaded:
    """Returns the resolved tiny config on the competition in `folder`."""
    return load("demo", overrides(folder, *changes))


def run_paths(name: str) -> RunPaths:
    """Returns the paths of a run in the folders of this test."""
    return Folders.from_environment().run(name)


def run_of(loaded: Loaded, log: Callable[[str], None] = print, stop: Stop | None = None) -> Run:
    """Returns the run of a resolved config in the folders of this test."""
    return Run(loaded, Folders.from_environment(), log, stop or Stop(), stages_of, task_of)


def run_stages(loaded: Loaded, last: str = "report", force: tuple[str, ...] = (), stages: tuple[Stage, ...] = ()):
    """Runs the chain up to `last` in this process; returns the run's paths and the lines that it logged."""
    lines: list[str] = []
    run = run_of(loaded, lines.append)
    run_chain(run, last, force, stages or None)
    return run.paths, lines


def draw_nothing(monkeypatch) -> None:
    """Leaves every plot a blank dot, and panels small: drawing takes most of the time of a chain as small as this."""
    canvas = "matplotlib.backends.backend_agg.FigureCanvasAgg"
    monkeypatch.setattr(f"{canvas}.draw", lambda canvas: None)
    monkeypatch.setattr(f"{canvas}.get_width_height", lambda canvas: (SCALE, SCALE))
    monkeypatch.setattr(f"{canvas}.buffer_rgba", lambda canvas: bytes(SCALE * SCALE * 4))
    monkeypatch.setattr("pipeline.report.figure.make_legible", lambda figure: None)
    monkeypatch.setattr("pipeline.report.figure.PNG_LEVEL", PNG_LEVEL)
    for task in ("segmentation", "detection"):
        monkeypatch.setattr(f"pipeline.{task}.panels.WIDTH", PANEL_WIDTH)


def draw_nothing_in(project: Path) -> None:
    """Does the same to a copy of the code, for processes of its own."""
    blank = "def encode(figure):\n    return encode_png(Image.new('RGB', (SCALE, SCALE)))\n"
    added = {"report/figure": f"PNG_LEVEL = {PNG_LEVEL}\n{blank}"}
    added |= {f"{task}/panels": f"WIDTH = {PANEL_WIDTH}\n" for task in ("segmentation", "detection")}
    for name, lines in added.items():
        with open(project / "pipeline" / f"{name}.py", "a") as file:
            file.write(lines)


def executed(lines: list[str]) -> list[str]:
    """Returns the stages that ran, in order, by what the chain logged; those of an ensemble's members are left out."""
    return [words[0] for words in map(str.split, lines) if words[1:3] == ["done", "in"]]
