"""Image / truth / prediction / errors in a row, and which images to show: the best, the median, the worst.

In: an image, its mask and the predicted mask; columns of per_image.csv. Out: a uint8 RGB image; ids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pipeline.config.competition import IGNORE
from pipeline.report.canvas import (
    GAP,
    MARGIN,
    MUTED,
    Chip,
    Color,
    draw_legend,
    fit,
    hatched,
    highlight,
    legend_height,
    line_height,
    new_canvas,
    paint_mask,
    resize,
    write,
)

WIDTH = 1920  # pixels of a panel: four tiles near a small image's own size, sharp at twice the page's width
MOST_TILE_HEIGHT = 760
LEAST_WIDTH = 960  # of a panel of narrow images: title and legend need it
LEAST_CELL_WIDTH = 300  # captions need it
TITLE_SIZE, TEXT_SIZE = 26, 22
GROUPS = ("worst", "best", "median")  # in this order when there are too few images for all


def draw_panel(
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    names: Sequence[str],
    colors: Sequence[Color],
    title: str = "",
    dice: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Returns image, truth, prediction and errors side by side, with a legend of the classes present.

    Args:
        image: uint8 (H, W, 3) RGB.
        truth: uint8 (H, W), class index, 255 where nothing counts; drawn hatched.
        prediction: uint8 (H, W), class index.
        names: the scored classes in index order; `colors` likewise (more are allowed).
        dice: Dice of each class on this image, for the legend.

    Returns:
        uint8 (H', W', 3), at most 1920 wide. Wide images are laid out in two rows or four.
    """
    scored = truth != IGNORE
    wrong = scored & (truth != prediction)
    wrong_share = wrong.sum() / max(scored.sum(), 1)
    height, width = truth.shape
    num_columns = 4 if width <= 2.6 * height else 2 if width <= 7 * height else 1
    tile_width = (WIDTH - 2 * MARGIN - (num_columns - 1) * GAP) // num_columns
    tile_width, tile_height = fit(width, height, tile_width, MOST_TILE_HEIGHT)
    image, truth, prediction, wrong = (
        resize(array, tile_width, tile_height) for array in (image, truth, prediction, wrong.astype(np.uint8))
    )
    tiles = (
        ("image", image),
        ("truth", paint_mask(truth, colors, image)),
        ("prediction", paint_mask(prediction, colors, image)),
        (f"errors: {100 * wrong_share:.1f} % of pixels", _paint_errors(image, truth, wrong)),
    )
    chips = _chips(truth, prediction, names, colors, dice)
    return _lay_out(tiles, num_columns, title, chips)


def choose_images(per_image: Mapping[str, Sequence[Any]], k: int = 3) -> dict[str, list[str]]:
    """Returns the ids of the k best, median and worst images, none in two groups.

    Neighbouring frames of a video score alike and would fill a group with one scene, so each group takes the next
    image of another sequence while there is one within reach (a third of the images). What was chosen stands in
    the order of its Dice: the best and the median from the highest down, the worst from the lowest up.

    Args:
        per_image: columns `id`, `dice` and, optionally, `sequence` of per_image.csv; a DataFrame will do.

    >>> choose_images({"id": ["a", "b", "c"], "dice": ["0.2", "0.9", "0.5"]}, k=1)
    {'best': ['b'], 'median': ['c'], 'worst': ['a']}
    """
    ids, dice = [str(image_id) for image_id in per_image["id"]], [float(value) for value in per_image["dice"]]
    sequences = list(per_image["sequence"]) if "sequence" in per_image else ids
    sequence_of = dict(zip(ids, sequences, strict=True))
    ranked = [image_id for _, image_id in sorted(zip(dice, ids, strict=True), key=lambda pair: (pair[0], pair[1]))]
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
            seen = {sequence_of[image_id] for image_id in chosen[group]}
            fresh = [image_id for image_id in left if sequence_of[image_id] not in seen]
            if left and len(chosen[group]) == turn:
                chosen[group].append((fresh or left)[0])
    return {
        group: sorted(ids_of_group, key=ranked.index, reverse=group != "worst")
        for group, ids_of_group in chosen.items()
    }


def _paint_errors(image: np.ndarray, truth: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Returns the image dark and grey, wrong pixels bright, ignored ones hatched."""
    return np.where((truth == IGNORE)[..., None], hatched(*truth.shape), highlight(image, wrong > 0))


def _chips(
    truth: np.ndarray,
    prediction: np.ndarray,
    names: Sequence[str],
    colors: Sequence[Color],
    dice: Mapping[str, float] | None,
) -> list[Chip]:
    present = set(np.unique(truth)) | set(np.unique(prediction))
    chips = []
    for index, name in enumerate(names):
        if index in present:
            score = (dice or {}).get(name)
            chips.append(Chip(colors[index], name if score is None else f"{name} {score:.2f}"))
    return [*chips, Chip(None, "not scored")] if IGNORE in present else chips


def _lay_out(
    tiles: Sequence[tuple[str, np.ndarray]], num_columns: int, title: str, chips: Sequence[Chip]
) -> np.ndarray:
    tile_height, tile_width = tiles[0][1].shape[:2]
    cell_width = max(tile_width, LEAST_CELL_WIDTH)
    width = max(LEAST_WIDTH, 2 * MARGIN + num_columns * cell_width + (num_columns - 1) * GAP)
    title_height = line_height(TITLE_SIZE) if title else 0
    cell_height = line_height(TEXT_SIZE) + tile_height + GAP
    legend_top = MARGIN + title_height + math.ceil(len(tiles) / num_columns) * cell_height + GAP
    height = legend_top + legend_height(chips, width - 2 * MARGIN, TEXT_SIZE) + MARGIN // 2
    canvas = new_canvas(width, height)
    draw = ImageDraw.Draw(canvas)
    write(draw, (MARGIN, MARGIN - 4), title, TITLE_SIZE, width - 2 * MARGIN, bold=True)
    for index, (caption, tile) in enumerate(tiles):
        left = MARGIN + (index % num_columns) * (cell_width + GAP)
        top = MARGIN + title_height + (index // num_columns) * cell_height
        write(draw, (left, top), caption, TEXT_SIZE, cell_width, fill=MUTED)
        canvas.paste(Image.fromarray(tile), (left, top + line_height(TEXT_SIZE)))
    draw_legend(canvas, (MARGIN, legend_top), chips, width - 2 * MARGIN, TEXT_SIZE)
    return np.asarray(canvas)
