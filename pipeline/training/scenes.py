"""The same few validation images at chosen epochs, as the network sees them then (REPORT.EPOCHS), for the report.

In: validation images that show many classes, the same in every run of a competition and split, whatever its network.
Out: below `scenes/` of the run: image and label of each, and after each chosen epoch, and of the best weights in the
end, what the network finds in them, with its score. The weights are those that validation uses.

Training is the same with and without. The images of an epoch are written before its checkpoint: a process that is
killed between the two repeats the end of that epoch, and writes them again. So none is missing after a resume, and what
is of epochs that the checkpoint has not reached is removed when a training goes on.
"""

from __future__ import annotations

import functools
import io
import re
import shutil
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from pipeline.engine.run import Run
from pipeline.files import write_atomic, write_json
from pipeline.paths import BEST, SCENE_LIST, SCENES, RunPaths, scene_file, scene_scores
from pipeline.scores import per_image_score
from pipeline.task import Batch, Learning
from pipeline.training.checkpoint import load_or_refuse
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.learner import Learner, autocast, validated_weights
from pipeline.training.state import TrainState
from pipeline.training.validate import chosen_batches

NUM_SCENES = 3  # fixed, so that all runs of a split show the same ones
EPOCH = re.compile(r"epoch_(\d+)")


@dataclass
class Scenes:
    """The chosen images of one training, and what is kept of them."""

    run: Run
    learning: Learning

    @property
    def epochs(self) -> tuple[int, ...]:
        return self.run.loaded.config.report.epochs

    @functools.cached_property
    def batches(self) -> list[Batch]:
        """The images, one a batch, decoded once."""
        return list(chosen_batches(self.run, NUM_SCENES, batch_size=1, varied=True))

    def begin(self, state: TrainState) -> None:
        """Removes drawings of epochs after the checkpoint, writes the scenes, warns of epochs chosen too late."""
        remove_after(self.run, state.epoch)
        if not self.epochs:
            return
        for number, batch in enumerate(self.batches, start=1):
            for moment, content in zip(("image", "label"), self.run.task.draw_scene(self.run, batch), strict=True):
                self._write(number, moment, content)
        frames = [batch.keys[0] for batch in self.batches]
        listed = [{"id": frame.id, "window": list(frame.part.core) if frame.part else None} for frame in frames]
        write_json(self.run.paths / SCENE_LIST, listed)
        reached = range(state.epoch + 1) if state.history else ()
        for epoch in sorted(set(self.epochs) & set(reached)):
            if not (self.run.paths / scene_scores(f"epoch_{epoch}")).is_file():
                what = f"no images of epoch {epoch}, which was trained before REPORT.EPOCHS named it"
                self.run.log(f"warning: {what}; to have them, train anew: the same command with `train --force`")

    def after_epoch(self, learner: Learner, epoch: int) -> None:
        """Keeps what the network finds after an epoch, if it is a chosen one."""
        if epoch in self.epochs:
            self._predict(learner, f"epoch_{epoch}", epoch)

    def finish(self, learner: Learner, best_epoch: int) -> None:
        """Keeps what the best weights find. The learner has them from here on: its training has ended."""
        if self.epochs:
            content = load_or_refuse(self.run.paths / BEST, "train anew with --force")
            learner.network.load_state_dict(validated_weights(content))
            learner.ema = None  # averaged weights are the network's own now
            self._predict(learner, "best", best_epoch)

    def _predict(self, learner: Learner, moment: str, epoch: int) -> None:
        devices = [learner.device] if learner.device.type == "cuda" else []
        scores = []
        with torch.random.fork_rng(devices), learner.validated() as network:
            for number, batch in enumerate(self.batches, start=1):
                outputs = self._outputs(learner, network, batch)
                self._write(number, moment, self.run.task.draw_outputs(self.run, batch, outputs))
                scores.append(self._score(outputs, batch))
        name = self._score_name
        write_json(self.run.paths / scene_scores(moment), {"epoch": epoch, "score": name, "scores": scores})

    def _outputs(self, learner: Learner, network: nn.Module, batch: Batch) -> Any:
        scaling, images_BHWC = scaling_of(network, learner.config.model.encoder), batch.images.to(learner.device)
        with autocast(learner.device, learner.precision):
            return self.learning.whole(network, normalise(images_BHWC, scaling))

    @property
    def _score_name(self) -> str:
        return per_image_score(self.run.loaded.competition.score)

    def _score(self, outputs: Any, batch: Batch) -> float | None:
        """Returns the score of a single image, or of the core of a window."""
        scorer = self.learning.scorer()
        scorer.add(outputs, self.learning.to_device(batch.labels))
        return scorer.scores().by_name[self._score_name].mean

    def _write(self, number: int, moment: str, content: bytes) -> None:
        write_atomic(self.run.paths / scene_file(number, moment), content)


def kept_images(paths: RunPaths, epoch: int) -> dict[str, np.ndarray]:
    """Returns what is kept of an epoch, uint8 RGB by name; with the first such epoch of a run, image and label too."""
    if not (paths / scene_scores(f"epoch_{epoch}")).is_file():
        return {}
    epochs = [int(found[1]) for path in (paths / SCENES).glob("*.json") if (found := EPOCH.fullmatch(path.stem))]
    moments = {"prediction": f"epoch_{epoch}"}
    if epoch == min(epochs):
        moments = {"image": "image", "label": "label"} | moments
    return {
        f"scene_{number}/{what}": np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))
        for number in range(1, NUM_SCENES + 1)
        for what, moment in moments.items()
        if (path := paths / scene_file(number, moment)).is_file()  # small validation sets have fewer
    }


def remove_after(run: Run, epoch: int) -> None:
    """Removes what is kept of epochs after this one, and of the best weights, which may become others."""
    for path in (run.paths / SCENES).glob("*.*"):
        moment = path.stem.partition("_")[2] if path.stem[:1].isdigit() else path.stem
        found = EPOCH.fullmatch(moment)
        if moment == "best" or (found and int(found[1]) > epoch):
            path.unlink()


def remove_all(run: Run) -> None:
    """Removes the images of an earlier training."""
    shutil.rmtree(run.paths / SCENES, ignore_errors=True)
