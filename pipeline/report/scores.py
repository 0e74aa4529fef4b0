"""The scores of a run by name, which of them is the competition's own, and which images they rank best and worst.

In: metrics.json; columns of per_image.csv and history.csv. Needs neither pandas nor NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.paths import METRICS
from pipeline.report.read import Columns, read_json

NEAR_ZERO = 0.05  # mean score below which next to nothing is found
GROUPS = ("worst", "best", "median")  # in this order where there are too few images for all


@dataclass(frozen=True)
class Score:
    """One score of a run.

    Attributes:
        name: in files; `label`: for people.
        mean: over the scored classes; None where no image shows any of them.
        classes: by class name, not only the scored ones.
    """

    name: str
    label: str
    mean: float | None
    classes: Mapping[str, float | None]


@dataclass(frozen=True)
class Metrics:
    """Content of metrics.json.

    Attributes:
        main: the competition's own score.
        scores: all scores by name, `main` among them.
        scored: the classes that enter means.
        majority_class: the class with most pixels in training; "" where unknown.
        majority: by name of a score, what predicting that class everywhere reaches.
        content: the whole file.
    """

    images: int
    main: Score
    scores: Mapping[str, Score]
    scored: tuple[str, ...]
    majority_class: str
    majority: Mapping[str, float | None]
    split: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    duplicates: Mapping[str, Any]
    content: Mapping[str, Any]

    @property
    def others(self) -> list[Score]:
        """The scores beside the main one."""
        return [score for score in self.scores.values() if score is not self.main]

    def mean(self, name: str) -> float | None:
        """Returns the mean of a score, or None where the run does not have it."""
        return self.scores[name].mean if name in self.scores else None


def read_metrics(run_folder: Path) -> Metrics | None:
    """Returns the scores of a run, or None while it has none, and where metrics.json is damaged or of another form."""
    content = read_json(run_folder / METRICS) or {}
    try:
        scores = {
            name: Score(name, str(own["label"]), _number(own["mean"]), _numbers(own["classes"]))
            for name, own in content["scores"].items()
        }
        main, majority = scores[content["score"]], content.get("majority") or {}
        return Metrics(
            images=int(content["images"]),
            main=main,
            scores=scores,
            scored=tuple(map(str, content.get("scored") or main.classes)),
            majority_class=str(majority.get("class", "")),
            majority=_numbers(majority.get("scores") or {}),
            **{key: dict(content.get(key) or {}) for key in ("split", "checkpoint", "duplicates")},
            content=content,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def score_warning(metrics: Mapping[str, Any]) -> str | None:
    """Returns a sentence where the competition's own score is near 0 or not above the majority guess, else None.

    >>> metrics = {"score": "dice", "scores": {"dice": {"label": "Dice", "mean": 0.4}}}
    >>> score_warning(metrics | {"majority": {"class": "Road", "scores": {"dice": 0.45}}})
    'The validation Dice 0.4000 is not above 0.4500, the score of predicting Road everywhere.'
    >>> score_warning(metrics) is None
    True
    """
    name = metrics.get("score")
    own, majority = metrics.get("scores", {}).get(name, {}), metrics.get("majority")
    mean, label = own.get("mean"), own.get("label", name)
    if mean is None:
        return None
    guess = (majority or {}).get("scores", {}).get(name)
    if guess is not None and mean <= guess:
        what = f"the score of predicting {majority['class']} everywhere"
        return f"The validation {label} {mean:.4f} is not above {guess:.4f}, {what}."
    return f"The validation {label} {mean:.4f} is close to 0: next to nothing is found." if mean < NEAR_ZERO else None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _numbers(values: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def split_name(split: Mapping[str, Any]) -> str:
    """Returns a split of metrics.json as text.

    >>> split_name({"by": "slice", "index": 3})
    'slice 3'
    """
    return f"{split.get('by', '–')} {split.get('index', '')}"


def history_scores(history: Columns) -> list[str]:
    """Returns the scores in history.csv, without losses and without the scores of single classes.

    >>> history_scores({"valid_loss": [], "valid_dice": [], "valid_iou": [], "valid_iou_Road": []})
    ['dice', 'iou']
    """
    names = [column.removeprefix("valid_") for column in history if column.startswith("valid_")]
    return [name for name in names if name != "loss" and not any(name.startswith(f"{other}_") for other in names)]


def choose_images(per_image: Mapping[str, Sequence[Any]], score: str, k: int = 3) -> dict[str, list[str]]:
    """Returns the ids of the k best, median and worst images, none in two groups.

    Neighbouring frames of a video score alike and would fill a group with one scene, so each group takes the next
    image of another sequence while there is one within reach (a third of the images). A group is ordered by score:
    best and median from the highest down, worst from the lowest up.

    Args:
        per_image: columns of per_image.csv or a DataFrame: `id`, the score and, optionally, `sequence`.
        score: the column that ranks them.

    >>> choose_images({"id": ["a", "b", "c"], "dice": ["0.2", "0.9", "0.5"]}, "dice", k=1)
    {'best': ['b'], 'median': ['c'], 'worst': ['a']}
    """
    ids = [str(image_id) for image_id in per_image["id"]]
    sequence_of = dict(zip(ids, per_image.get("sequence", ids), strict=True))
    ranked = [image_id for _, image_id in sorted(zip(map(float, per_image[score]), ids, strict=True))]
    middle = (len(ranked) - 1) / 2
    orders = {
        "worst": ranked,
        "best": ranked[::-1],
        "median": sorted(ranked, key=lambda image_id: abs(ranked.index(image_id) - middle)),
    }
    reach = max(k, math.ceil(len(ranked) / 3))
    chosen: dict[str, list[str]] = {group: [] for group in ("best", "median", "worst")}
    for turn in range(k):
        for group in GROUPS:
            taken = {image_id for ids_of_group in chosen.values() for image_id in ids_of_group}
            left = [image_id for image_id in orders[group][:reach] if image_id not in taken]
            shown = {sequence_of[image_id] for image_id in chosen[group]}
            fresh = [image_id for image_id in left if sequence_of[image_id] not in shown]
            if left and len(chosen[group]) == turn:
                chosen[group].append((fresh or left)[0])
    return {
        group: sorted(ids_of_group, key=ranked.index, reverse=group != "worst")
        for group, ids_of_group in chosen.items()
    }
