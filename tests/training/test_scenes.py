"""Images of chosen epochs: of the weights that were validated, the same after any stop; training does not notice."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.config.load import load
from pipeline.engine.dependence import why_run
from pipeline.engine.stopping import Stop
from pipeline.errors import Stopped
from pipeline.paths import BEST, HISTORY, LAST, PER_IMAGE, SCENES, SPLIT, RunPaths
from pipeline.segmentation.scenes import MOST_SIDE, draw_outputs, draw_scene
from pipeline.task import Batch, Frame, Part
from pipeline.training.scenes import NUM_SCENES
from pipeline.training.validate import choose_images, chosen_batches
from tests.tiny import BACKGROUND, ROAD, run_of, run_paths, run_stages
from tests.training.toy import StopAt

CHANGES = ("SWEEP.ENABLE=false", "SOLVER.NUM_EPOCHS=2", "RUNTIME.LOG_STEPS=0")


def kept(paths: RunPaths) -> dict[str, bytes]:
    """Returns every file of the scenes by its name."""
    return {path.name: path.read_bytes() for path in sorted((paths / SCENES).glob("*"))}


def moments(paths: RunPaths) -> dict[str, dict]:
    """Returns epoch, score and scores by moment."""
    found = {path.stem: json.loads(path.read_text()) for path in (paths / SCENES).glob("*.json")}
    return {name: content for name, content in found.items() if name != "list"}


def ids(paths: RunPaths) -> list[str]:
    return [own["id"] for own in json.loads((paths / SCENES / "list.json").read_text())]


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


@pytest.fixture
def trained(workshop, without_drawing):
    """`trained("REPORT.EPOCHS=[1]")`: the paths of a tiny run that is trained to its end, taking over nothing."""

    def train(*changes: str) -> RunPaths:
        return run_stages(workshop.tiny(*CHANGES, *changes), "train", force=("train",))[0]

    return train


def test_training_ends_with_the_same_bits_with_and_without_images(trained):
    plain, shown = trained(), trained("REPORT.EPOCHS=[0, 1, 3]")
    assert kept(plain) == {}
    assert set(moments(shown)) == {"epoch_0", "epoch_1", "epoch_3", "best"}
    for name in (LAST, BEST, HISTORY):
        assert (plain / name).read_bytes() == (shown / name).read_bytes(), name


@pytest.mark.parametrize("average", [(), ("SOLVER.EMA_DECAY=0.9",)], ids=["plain", "averaged weights"])
def test_the_score_below_an_image_is_that_of_the_evaluation(workshop, without_drawing, average):
    """Of the best weights, which `evaluate` predicts by another way: its own network, store, and scoring."""
    loaded = workshop.tiny(*CHANGES, "REPORT.EPOCHS=[1, 2, 3]", *average)
    paths, _ = run_stages(loaded, "evaluate")
    found, scores = moments(paths), pd.read_csv(paths / PER_IMAGE).set_index("id")["dice"]
    best = found.pop("best")
    assert best["scores"] == pytest.approx([scores[one] for one in ids(paths)], abs=1e-6)
    history = pd.read_csv(paths / HISTORY)
    assert best["epoch"] == history["epoch"][history["is_best"] == 1].max()
    assert best["scores"] == found[f"epoch_{best['epoch']}"]["scores"]
    assert {name: content["epoch"] for name, content in found.items()} == {
        f"epoch_{epoch}": epoch for epoch in (1, 2, 3)
    }
    images = kept(paths)
    for number in range(1, NUM_SCENES + 1):
        assert images[f"{number}_best.webp"] == images[f"{number}_epoch_{best['epoch']}.webp"]


@pytest.mark.parametrize("count", [1, 9, 17, 30])
def test_a_run_that_was_stopped_anywhere_has_the_same_images(workshop, trained, count):
    whole = trained("REPORT.EPOCHS=[0, 2, 3]", "SOLVER.SAVE_MINUTES=0")
    wanted = kept(whole)
    loaded = dataclasses.replace(
        workshop.tiny(*CHANGES, "REPORT.EPOCHS=[0, 2, 3]", "SOLVER.SAVE_MINUTES=0"), run=f"stopped-{count}"
    )
    prepared_like(whole, loaded.run)
    stage, run = run_of(loaded).stage("train"), run_of(loaded, stop=StopAt(count))
    with pytest.raises(Stopped):
        stage.function(run)
    stage.function(run_of(loaded))
    assert kept(run_paths(loaded.run)) == wanted


def prepared_like(paths: RunPaths, name: str) -> None:
    """Makes another run's folder with what the stages before `train` wrote."""
    folder = run_paths(name).folder
    folder.mkdir(parents=True)
    for path in paths.folder.iterdir():
        if path.suffix in (".csv", ".json") and path.name not in (HISTORY, "timings.csv", "steps.csv"):
            (folder / path.name).write_bytes(path.read_bytes())


def test_a_process_that_dies_between_images_and_checkpoint_leaves_no_wrong_ones(workshop, trained, monkeypatch):
    whole = trained("REPORT.EPOCHS=[1, 2]")
    loaded = dataclasses.replace(workshop.tiny(*CHANGES, "REPORT.EPOCHS=[1, 2]"), run="died")
    prepared_like(whole, loaded.run)
    stage, calls = run_of(loaded).stage("train"), []

    def die(training) -> None:
        calls.append(training.state.epoch)
        if training.state.epoch == 2:
            raise KeyboardInterrupt
        return save(training)

    with monkeypatch.context() as patched:
        from pipeline.training.trainer import save

        patched.setattr("pipeline.training.trainer.save", die)
        with pytest.raises(KeyboardInterrupt):
            stage.function(run_of(loaded))
    paths = run_paths(loaded.run)
    assert calls == [0, 1, 2] and set(moments(paths)) == {"epoch_1", "epoch_2"}
    # As if it went on otherwise from here: what the checkpoint has not reached is nobody's.
    edited = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, report=chosen(1)))
    with pytest.raises(Stopped):
        stage.function(run_of(edited, stop=StopAt(1)))
    assert set(moments(paths)) == {"epoch_1"}
    stage.function(run_of(loaded))
    assert kept(paths) == kept(whole)


def chosen(*epochs: int):
    """Returns the section REPORT of a config."""
    return load("demo", (f"REPORT.EPOCHS={list(epochs)}",)).config.report


def test_when_training_begins_anew_the_old_images_are_gone(workshop, without_drawing):
    first = workshop.tiny(*CHANGES, "REPORT.EPOCHS=[1, 3]")
    paths, _ = run_stages(first, "train")
    before = kept(paths)
    # As if the config's file had been edited: an override would get a folder of its own.
    other = dataclasses.replace(workshop.tiny(*CHANGES, "REPORT.EPOCHS=[2]", "SOLVER.MAX_LR=0.01"), run=first.run)
    run_stages(other, "train")
    assert set(moments(paths)) == {"epoch_2", "best"}
    assert kept(paths)["1_best.webp"] != before["1_best.webp"]
    run_stages(first, "train", force=("train",))
    assert kept(paths) == before


def test_an_epoch_that_is_chosen_too_late_trains_nothing_anew_and_is_said(workshop, without_drawing):
    loaded = workshop.tiny(*CHANGES, "REPORT.EPOCHS=[1]")
    paths, _ = run_stages(loaded)
    trained = (paths / LAST).stat().st_mtime_ns
    later = workshop.tiny(*CHANGES, "REPORT.EPOCHS=[1, 2]")
    later = dataclasses.replace(later, run=loaded.run)
    assert why_run(run_of(later).stage("train"), run_of(later)) is None
    _, lines = run_stages(later)
    assert "train     up to date" in lines
    assert any(line.startswith("warning: no images of epoch 2, trained before") for line in lines)
    assert (paths / LAST).stat().st_mtime_ns == trained
    page = (paths / "report.html").read_text()
    assert re.search(
        r"Epoch 2 was trained before REPORT.EPOCHS named it[^<]*<code>\S+ demo train .* --force</code>", page
    )


def test_a_training_that_goes_on_says_which_epochs_come_too_late(workshop, without_drawing):
    loaded = workshop.tiny(*CHANGES)
    stage, lines = run_of(loaded).stage("train"), []
    with pytest.raises(Stopped):
        stage.function(run_of(loaded, stop=AfterEpoch(run_paths(loaded.run) / HISTORY, 1)))
    later = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, report=chosen(1, 2)))
    stage.function(run_of(later, lines.append))
    assert [line for line in lines if "REPORT.EPOCHS" in line] == [
        "warning: no images of epoch 1, which was trained before REPORT.EPOCHS named it; to have them, train anew: the "
        "same command with `train --force`"
    ]
    assert set(moments(run_paths(loaded.run))) == {"epoch_2", "best"}


class AfterEpoch(Stop):
    """A stop that is requested once a run's history has the row of an epoch."""

    def __init__(self, history: Path, epoch: int) -> None:
        super().__init__()
        self.history, self.epoch = history, epoch

    @property
    def requested(self) -> bool:
        if self.history.is_file() and len(self.history.read_text().splitlines()) > self.epoch + 1:
            self.reason = "the test says so"
        return self.reason is not None


def test_the_images_are_the_same_for_every_network(trained):
    one = trained("REPORT.EPOCHS=[1]", "DATASETS.SPLIT.BY=slice")
    other = trained("REPORT.EPOCHS=[2]", "DATASETS.SPLIT.BY=slice", "MODEL.NAME=FPN", "EXPERIMENT.SEED=5")
    assert ids(one) == ids(other)
    images, others = kept(one), kept(other)
    for number in range(1, len(ids(one)) + 1):
        for what in ("image", "label"):
            assert images[f"{number}_{what}.webp"] == others[f"{number}_{what}.webp"]


def test_the_images_are_of_different_sequences(workshop):
    loaded = workshop.tiny("DATASETS.SPLIT.BY=kfold")
    run_stages(loaded, "prepare")
    split = pd.read_csv(run_paths(loaded.run) / SPLIT, dtype=str)
    sequences = split["id"][split["subset"] == "valid"].str[:6]
    assert sequences.nunique() > 1 and len(sequences) > sequences.nunique()
    batches = chosen_batches(run_of(loaded), sequences.nunique(), batch_size=1, varied=True)
    assert sorted(batch.keys[0].id[:6] for batch in batches) == sorted(sequences.unique())


def test_sequences_are_repeated_only_where_none_is_left():
    present = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0]], bool)
    assert choose_images("abcd", present, 2, sequences="xxyy") == ["a", "c"]
    assert choose_images("abcd", present, 3, sequences="xxyy") == ["a", "b", "c"]
    assert choose_images("abcd", present, 9, sequences="xxyy") == list("abcd")


def of_core(image: np.ndarray, mask: np.ndarray, part: Part | None, offset: tuple[int, int]) -> Batch:
    frame = Frame("a", offset, image.shape[:2], part)
    padded = [np.pad(array, [(offset[0], 5), (offset[1], 7), (0, 0)][: array.ndim]) for array in (image, mask)]
    return Batch(*(torch.from_numpy(array)[None] for array in padded), [frame])


@pytest.mark.parametrize("offset", [(0, 0), (3, 9)])
@pytest.mark.parametrize(
    ("part", "core"),
    [
        (None, (slice(None), slice(None))),
        (Part((400, 400), (100, 50, 60, 90), (110, 60, 30, 40)), (slice(10, 40), slice(10, 50))),
    ],
    ids=["whole", "window"],
)
def test_what_is_drawn_is_the_image_without_padding_or_the_core_of_a_window(workshop, part, core, offset):
    run, generator = run_of(workshop.tiny()), np.random.default_rng(1)
    image = np.repeat(np.repeat(generator.integers(60, 200, (6, 9, 3), np.uint8), 10, 0), 10, 1)
    mask = np.full((60, 90), ROAD, np.uint8)
    mask[:, 45:] = BACKGROUND
    batch = of_core(image, mask, part, offset)
    drawn, label = map(pixels, draw_scene(run, batch))
    assert drawn.shape == image[core].shape == label.shape
    assert np.abs(drawn - image[core]).mean() < 6  # WebP
    logits = torch.nn.functional.one_hot(batch.labels.long(), 12).permute(0, 3, 1, 2).float()
    assert (pixels(draw_outputs(run, batch, logits)) == label).all()


def test_large_images_become_small_files_of_the_same_shape(workshop):
    image = np.zeros((900, 2000, 3), np.uint8)
    drawn = pixels(draw_scene(run_of(workshop.tiny()), of_core(image, image[..., 0], None, (0, 0)))[0])
    assert drawn.shape == (round(MOST_SIDE * 900 / 2000), MOST_SIDE, 3)
