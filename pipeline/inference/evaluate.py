"""Scores of predicted masks against true ones: per image and class, and from the summed confusion matrix.

In: pairs of index masks. Out: `metrics.json`, `per_image.csv`, `confusion.csv`. Both families of scores are reported,
by name: the competition's (per image, 1 when both lack the class) and the data set's (mIoU of all pixels at once).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.files import atomic_path, write_atomic
from pipeline.model.metrics import dataset_iou, dice_iou, image_confusion
from pipeline.paths import CONFUSION, METRICS, PER_IMAGE


def confusion_of(predicted: np.ndarray, truth: np.ndarray, num_classes: int) -> torch.Tensor:
    """Returns the confusion matrix (C, C), rows truth, of two uint8 index masks; 255 in truth is ignored."""
    return image_confusion(torch.from_numpy(predicted)[None], torch.from_numpy(truth)[None], num_classes)[0]


def image_table(
    ids: Sequence[str],
    sequences: Sequence[str],
    confusion_PCC: torch.Tensor,
    classes: Sequence[str],
    scored: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Returns one row per image: id, sequence, mean Dice and IoU over classes, then both per class.

    Args:
        scored: indices of the classes that enter means; None: all.
    """
    dice_PC, iou_PC = (scores.numpy() for scores in dice_iou(confusion_PCC))
    kept = list(range(len(classes)) if scored is None else scored)
    table = {"id": ids, "sequence": sequences, "dice": dice_PC[:, kept].mean(1), "iou": iou_PC[:, kept].mean(1)}
    table |= {f"dice_{name}": dice_PC[:, index] for index, name in enumerate(classes)}
    table |= {f"iou_{name}": iou_PC[:, index] for index, name in enumerate(classes)}
    return pd.DataFrame(table)


def summarise(
    per_image: pd.DataFrame, confusion_CC: torch.Tensor, classes: Sequence[str], scored: Sequence[int] | None = None
) -> dict[str, Any]:
    """Returns the scores of `metrics.json`: dice, iou (competition) and dataset_iou, each as a mean and by class.

    Args:
        scored: indices of the classes that enter means; None: all.
    """
    names = [classes[index] for index in (range(len(classes)) if scored is None else scored)]

    def family(values: Sequence[float]) -> dict[str, Any]:
        by_class = {
            name: None if math.isnan(value) else float(value) for name, value in zip(classes, values, strict=True)
        }
        known = [by_class[name] for name in names if by_class[name] is not None]
        return {"mean": sum(known) / len(known) if known else None, "classes": by_class}

    return {
        "images": len(per_image),
        "dice": family([per_image[f"dice_{name}"].mean() for name in classes]),
        "iou": family([per_image[f"iou_{name}"].mean() for name in classes]),
        "dataset_iou": family(dataset_iou(confusion_CC).tolist()),
    }


def majority_guess(
    truths: Iterable[np.ndarray], majority_index: int, classes: Sequence[str], scored: Sequence[int] | None = None
) -> dict[str, Any]:
    """Returns the mean Dice of always guessing the class with the most training pixels: what any network must beat.

    Args:
        scored: indices of the classes that enter the mean; None: all.
    """
    num_classes = len(classes)
    confusions = [confusion_of(np.full_like(truth, majority_index), truth, num_classes) for truth in truths]
    dice_PC, _ = dice_iou(torch.stack(confusions))
    kept = list(range(num_classes) if scored is None else scored)
    return {"class": classes[majority_index], "dice": float(dice_PC[:, kept].mean(0).mean())}


def write_scores(
    folder: Path, metrics: dict[str, Any], per_image: pd.DataFrame, confusion_CC: torch.Tensor, classes: Sequence[str]
) -> None:
    """Writes the three files of an evaluation."""
    with atomic_path(folder / PER_IMAGE) as path:
        per_image.to_csv(path, index=False, float_format="%.6f")
    with atomic_path(folder / CONFUSION) as path:
        pd.DataFrame(confusion_CC.numpy(), index=pd.Index(classes, name="truth"), columns=list(classes)).to_csv(path)
    write_atomic(folder / METRICS, json.dumps(metrics, indent=1))
