"""Finished runs that differ in their loss: scores in one table, and one image under each loss in one drawing.

    python -m tests.benchmarks.losses_side_by_side CamVidPAB CamVidPAB-c074351b ... [image=0006R0_f01500]

The names are folders of runs in which `evaluate` is done, all of one split. Drawn is the validation image with the most
classes unless one is named. Writes `losses.png` into the first run's folder. The interval is that of the difference in
Dice to the first run, over sequences of images; it does not cover what another seed changes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.competition import Competition
from pipeline.config.load import load_competition
from pipeline.config.mask_code import mask_code
from pipeline.data.competition import find_folder
from pipeline.data.images import read_image
from pipeline.intervals import group_numbers, interval
from pipeline.paths import CLASSES, CONFIG, METRICS, PER_IMAGE, VALID_PROBS, Folders, RunPaths
from pipeline.prediction.store import PredictionStore
from pipeline.report.canvas import GAP, MARGIN, arrange, captioned, legend, text_line
from pipeline.report.figure import write_image
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.panels import NOT_SCORED, class_chips, paint_mask
from pipeline.segmentation.predict import decode, unpack
from pipeline.training.inputs import split_rows

RARE_SHARE = 0.02  # classes with fewer of all pixels are rare
NUM_COLUMNS = 4
TEXT_SIZE = 20


@dataclass(frozen=True)
class Finished:
    """One run's loss and scores."""

    paths: RunPaths
    loss: str
    dice: float
    iou: float
    miou: float
    rare_dice: float
    image_dice: pd.Series  # by image id


def read_run(name: str) -> Finished:
    """Returns the loss and the scores that the files of a finished run hold."""
    paths = Folders.from_environment().run(name)
    scores, table = json.loads((paths / METRICS).read_text())["scores"], pd.read_csv(paths / CLASSES)
    rare = table.loc[table["pixel_share"] < RARE_SHARE, "name"]
    loss_fn = settings_of(paths)["LOSS_FN"]
    return Finished(
        paths=paths,
        loss=loss_fn["MIX"] + (", class weights" if loss_fn["WEIGHTS"] else ""),
        dice=scores["dice"]["mean"],
        iou=scores["iou"]["mean"],
        miou=scores["miou"]["mean"],
        rare_dice=float(np.mean([scores["dice"]["classes"][one] for one in rare])),
        image_dice=pd.read_csv(paths / PER_IMAGE, dtype={"id": str}).set_index("id")["dice"],
    )


def settings_of(paths: RunPaths) -> dict[str, Any]:
    """Returns the resolved config of a run; its file is JSON below comments."""
    text = (paths / CONFIG).read_text()
    return json.loads(text[text.index("{") :])


def richest_image(rows: pd.DataFrame) -> str:
    """Returns the id of the image with most classes; of several, the one whose rarest is largest."""
    pixels = rows[[name for name in rows.columns if name.startswith("pixels_") and name != "pixels_ignored"]]
    order = pd.DataFrame({"classes": (pixels > 0).sum(axis=1), "least": pixels.where(pixels > 0).min(axis=1)})
    return rows.loc[order.sort_values(["classes", "least"]).index[-1], "id"]


def draw_scene(runs: Sequence[Finished], image_id: str, competition: Competition, folder: Path) -> np.ndarray:
    """Returns an image, its label and each run's prediction in one drawing, uint8 RGB."""
    row = split_rows(runs[0].paths, "valid").set_index("id").loc[image_id]
    image, label = read_image(folder / row["image"]), read_mask(folder / row["mask"], mask_code(competition))
    cells = [("image", image), ("label", paint_mask(label, competition.colors, image))]
    masks = [label]
    for run in runs:
        mask = decode(PredictionStore(run.paths / VALID_PROBS, unpack)[image_id])
        masks.append(mask)
        caption = f"{run.loss}: {run.image_dice[image_id]:.3f}"
        cells.append((caption, paint_mask(mask, competition.colors, image)))
    width = label.shape[1]
    drawn = [captioned(caption, cell, width, TEXT_SIZE) for caption, cell in cells]
    rows = [drawn[start : start + NUM_COLUMNS] for start in range(0, len(drawn), NUM_COLUMNS)]
    full_width = NUM_COLUMNS * (width + GAP) - GAP
    title = text_line(f"{image_id} under each loss, with its Dice on this image", TEXT_SIZE, full_width, bold=True)
    chips = class_chips(masks, competition.class_names, competition.colors, NOT_SCORED, {})
    return arrange([[title], *rows, [legend(chips, full_width, TEXT_SIZE)]], margin=MARGIN)


def main(arguments: Sequence[str]) -> None:
    runs = [read_run(argument) for argument in arguments if "=" not in argument]
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    first = runs[0]
    print(f"{'loss':<26} {'Dice':>6} {'IoU':>6} {'mIoU':>6} {'rare':>6}   Dice against {first.loss}")
    rows = split_rows(first.paths, "valid").set_index("id").loc[first.image_dice.index]
    groups = group_numbers(rows.index, rows["sequence"])
    for run in runs:
        gain = interval((run.image_dice - first.image_dice).to_numpy(), groups)
        against = "" if run is first else str(gain)
        print(f"{run.loss:<26} {run.dice:6.3f} {run.iou:6.3f} {run.miou:6.3f} {run.rare_dice:6.3f}   {against}")
    datasets = settings_of(first.paths)["DATASETS"]
    competition = load_competition(datasets["COMPETITION"], CONFIG)
    folder = find_folder(competition, Folders.from_environment().data, datasets.get("DIRECTORY"))
    image_id = named.get("image") or richest_image(split_rows(first.paths, "valid"))
    path = first.paths / "losses.png"
    write_image(path, draw_scene(runs, image_id, competition, folder))
    print(f"image {image_id}: {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
