"""What training and validation need of boxes: loss and scores. See `Learning` in `pipeline/task.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from pipeline.config.load import Loaded
from pipeline.config.loss_mix import parse_mix, term_parts, term_settings
from pipeline.config.schema import Detections as Settings
from pipeline.detection.boxes import Boxes, Detections
from pipeline.detection.coco_scores import coco_scores
from pipeline.detection.dense import BoxTargets, Dense, join_outputs
from pipeline.detection.networks import decoded, detector_of, seen_size
from pipeline.detection.samples import BoxLabels, labels_to, split_labels
from pipeline.detection.selection import select
from pipeline.detection.set_scores import set_scores
from pipeline.engine.run import Run
from pipeline.task import Criterion, Learning, Loss, Score, Scores

VALIDATED = Settings()  # validation during training selects boxes with the defaults of PREDICT.DETECTIONS


def learning(run: Run, device: torch.device) -> Learning:
    """Returns what training and validation need, for a run on a device."""
    loaded, competition = run.loaded, run.loaded.competition
    scored = competition.scored_indices

    def criterion(mix: str, epoch: int, class_scores: Sequence[float]) -> Criterion:
        return partial(mixed_loss, loaded, parse_mix(mix))

    return Learning(
        classes=competition.class_names,
        scored=scored,
        class_label="AP",
        split_labels=split_labels,
        to_device=partial(labels_to, device=device),
        join_outputs=join_outputs,
        criterion=criterion,
        num_sums=0,
        sample_sums=lambda outputs, labels: torch.zeros(0, dtype=torch.float64, device=device),
        sample_scores=lambda means: Scores({}, [], []),
        scorer=lambda: BoxScorer(loaded, competition.class_names, scored),
    )


def mixed_loss(loaded: Loaded, mix: Sequence[tuple[str, float]], outputs: Dense, labels: BoxLabels) -> Loss:
    """Returns the weighted loss of a mix, and its terms by their names in the mix."""
    model, targets = loaded.config.model, seen_targets(labels.targets, loaded.config.datasets.input_scale)
    names = {name: term_parts(name)[0] for name, _ in mix}
    settings = {own: term_settings(name) for name, own in names.items()}
    terms = detector_of(model).losses(model, loaded.competition.num_classes, outputs, targets, settings)
    total = torch.stack([weight * terms.values[names[name]] for name, weight in mix]).sum()
    return Loss(total, {name: terms.values[own].detach() for name, own in names.items()}, terms.count)


def seen_targets(targets: BoxTargets, factor: float) -> BoxTargets:
    """Returns targets in the pixels of the network's input."""
    seen = seen_size(targets.size, factor)
    if seen == targets.size:
        return targets
    x, y = seen[1] / targets.size[1], seen[0] / targets.size[0]
    boxes, crowds = ([one * one.new_tensor([x, y, x, y]) for one in own] for own in (targets.boxes, targets.crowds))
    return targets._replace(boxes=boxes, size=seen, crowds=crowds)


@dataclass
class BoxScorer:
    """Detections and true boxes of a validation, in pixels of the frames; a window counts as an image of its own."""

    loaded: Loaded
    classes: Sequence[str]
    scored: Sequence[int]
    found: list[Detections] = field(default_factory=list)
    truth: list[Boxes] = field(default_factory=list)

    def add(self, outputs: Dense, labels: BoxLabels, windows_of: str | None = None) -> None:
        """Adds a batch."""
        size = labels.targets.size
        boxes_BA4, probs_BAC = decoded(self.loaded, outputs, size)
        pairs = zip(boxes_BA4, probs_BAC, strict=True)
        self.found += [select(*pair, VALIDATED, (0, 0), size) for pair in pairs]
        self.truth += labels.truth

    def collected(self) -> dict[str, Any]:
        """Returns what was added, for `take` of another process's scorer."""
        return {"found": self.found, "truth": self.truth}

    def take(self, collected: Mapping[str, Any]) -> None:
        """Adds what another scorer has collected, of the batches that follow."""
        self.found += collected["found"]
        self.truth += collected["truth"]

    def scores(self) -> Scores:
        """Returns the scores of all images at once."""
        names = [str(number) for number in range(len(self.truth))]
        truth, found = (dict(zip(names, own, strict=True)) for own in (self.truth, self.found))
        scores = coco_scores(truth, found, self.classes)
        values = set_scores(scores, truth, found, self.loaded.competition, self.loaded.config.solver.monitor)
        by_name = {name: score_of(own.tolist(), self.scored) for name, own in values.items()}
        ap = by_name["ap"].classes
        known = [0.0 if math.isnan(value) else value for value in ap]
        return Scores(by_name, known, [value != 0 for value in ap])


def score_of(values: Sequence[float], scored: Sequence[int]) -> Score:
    """Returns a score with its mean over the scored classes that have a value.

    >>> score_of([0.5, math.nan, 0.7], scored=[0, 1]).mean
    0.5
    """
    known = [values[index] for index in scored if not math.isnan(values[index])]
    return Score(math.fsum(known) / len(known) if known else None, list(values))
