"""Finished runs that differ in their loss: scores in one table, and one scene under each loss in one image.

    python -m tests.benchmarks.losses_side_by_side CamVidPAB CamVidPAB-c074351b ... [image=0006R0_f01500]

The names are folders of runs in which `evaluate` is done, all of one split. The scene is the validation image with
the most classes unless one is named. Writes `losses.png` into the first run's folder. The interval is that of the
difference in Dice to the first run, from 2,000 bootstrap draws of images; it does not hold what another seed does.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from pipeline.config.competition import Competition, mask_code
from pipeline.config.load import load_competition
from pipeline.data.competition import find_folder
from pipeline.data.images import read_image
from pipeline.files import write_atomic
from pipeline.paths import VALID_PROBS, Folders, RunPaths
from pipeline.prediction.store import PredictionStore
from pipeline.report.canvas import (
    GAP,
    MARGIN,
    MUTED,
    Chip,
    draw_legend,
    legend_height,
    line_height,
    new_canvas,
    paint_mask,
    write,
)
from pipeline.report.figure import encode_png
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.predict import decode
from pipeline.training.inputs import split_rows
from tests.benchmarks.padding_band import interval

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
    """Returns what a finished run says of itself."""
    paths = Folders.from_environment().run(name)
    text = (paths / "config.yaml").read_text()
    config, scores = json.loads(text[text.index("{") :]), json.loads((paths / "metrics.json").read_text())["scores"]
    table = pd.read_csv(paths / "classes.csv")
    rare = table.loc[table["pixel_share"] < RARE_SHARE, "name"]
    loss_fn = config["LOSS_FN"]
    return Finished(
        paths=paths,
        loss=loss_fn["MIX"] + (", class weights" if loss_fn["WEIGHTS"] else ""),
        dice=scores["dice"]["mean"],
        iou=scores["iou"]["mean"],
        miou=scores["miou"]["mean"],
        rare_dice=float(np.mean([scores["dice"]["classes"][one] for one in rare])),
        image_dice=pd.read_csv(paths / "per_image.csv", dtype={"id": str}).set_index("id")["dice"],
    )


def richest_image(rows: pd.DataFrame) -> str:
    """Returns the id of the image that shows most classes; of several, the one whose rarest is largest."""
    pixels = rows[[name for name in rows.columns if name.startswith("pixels_") and name != "pixels_ignored"]]
    order = pd.DataFrame({"classes": (pixels > 0).sum(axis=1), "least": pixels.where(pixels > 0).min(axis=1)})
    return rows.loc[order.sort_values(["classes", "least"]).index[-1], "id"]


def draw_scene(runs: Sequence[Finished], image_id: str, competition: Competition, folder: Path) -> bytes:
    """Returns image, truth and each run's prediction of one scene as PNG."""
    row = split_rows(runs[0].paths, "valid").set_index("id").loc[image_id]
    image, truth = read_image(folder / row["image"]), read_mask(folder / row["mask"], mask_code(competition))
    cells = [("image", image), ("truth", paint_mask(truth, competition.colors, image))]
    for run in runs:
        mask = decode(PredictionStore(run.paths / VALID_PROBS)[image_id])
        caption = f"{run.loss}: {run.image_dice[image_id]:.3f}"
        cells.append((caption, paint_mask(mask, competition.colors, image)))
    height, width = truth.shape
    cell_height = line_height(TEXT_SIZE) + height + GAP
    num_rows = math.ceil(len(cells) / NUM_COLUMNS)
    full_width = 2 * MARGIN + NUM_COLUMNS * (width + GAP) - GAP
    classes = competition.class_names
    chips = [Chip(color, name) for color, name in zip(competition.colors, classes, strict=False)]
    chips.append(Chip(None, "not scored"))
    legend_top = 2 * MARGIN + line_height(TEXT_SIZE) + num_rows * cell_height
    canvas = new_canvas(full_width, legend_top + legend_height(chips, full_width - 2 * MARGIN, TEXT_SIZE) + MARGIN)
    draw = ImageDraw.Draw(canvas)
    title = f"{image_id} under each loss, with its Dice on this image"
    write(draw, (MARGIN, MARGIN), title, TEXT_SIZE, full_width - 2 * MARGIN, bold=True)
    for index, (caption, cell) in enumerate(cells):
        left = MARGIN + (index % NUM_COLUMNS) * (width + GAP)
        top = 2 * MARGIN + line_height(TEXT_SIZE) + (index // NUM_COLUMNS) * cell_height
        write(draw, (left, top), caption, TEXT_SIZE, width, fill=MUTED)
        canvas.paste(Image.fromarray(cell), (left, top + line_height(TEXT_SIZE)))
    draw_legend(canvas, (MARGIN, legend_top), chips, full_width - 2 * MARGIN, TEXT_SIZE)
    return encode_png(canvas)


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
    text = (first.paths / "config.yaml").read_text()
    datasets = json.loads(text[text.index("{") :])["DATASETS"]
    competition = load_competition(datasets["COMPETITION"], "config.yaml")
    folder = find_folder(competition, Folders.from_environment().data, datasets.get("DIRECTORY"))
    image_id = named.get("image") or richest_image(split_rows(first.paths, "valid"))
    write_atomic(first.paths / "losses.png", draw_scene(runs, image_id, competition, folder))
    print(f"scene {image_id}: {first.paths / 'losses.png'}")


if __name__ == "__main__":
    main(sys.argv[1:])
