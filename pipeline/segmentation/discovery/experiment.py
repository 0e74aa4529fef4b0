"""A first experiment on masks: a small network, whole images or tiles that fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.data.discovery.draft import Draft
from pipeline.data.discovery.experiment import Plan, plan_text

BASE = "CamVidAAA"  # a small pretrained network that learns in minutes on two CPU cores
LARGEST_WHOLE = 768  # px: a side up to which whole images are trained on
TILE, LARGEST_SCALE = 512, 2048  # px: sides of tiles, and of the image that they are cut from
LARGEST_FULL = 4096  # px: a side up to which an image is predicted at once
STRIDE = 32  # sides of tiles are multiples of it


def experiment_text(draft: Draft, sizes: Sequence[tuple[int, int]], directory: Path | None = None) -> str:
    """Returns the file `configs/NAME.yaml`.

    Args:
        sizes: (width, height) of some images; (0, 0) where it is not known.
        directory: the competition's folder, where it is not found by its name.
    """
    tile, window = _tile([size for size in sizes if 0 not in size])
    plan = Plan(
        base=BASE,
        network="a small pretrained network",
        images="tiles" if tile else "whole images",
        suffix=f"CA-{'T' if tile else 'FS'}-DA",
        datasets=[f"AUGMENTATION: {{TILE: {tile}}}"] if tile else [],
        others=[f"PREDICT: {{MODE: window, WINDOW: {window}}}"] if window else [],
    )
    return plan_text(draft, plan, directory)


def _tile(sizes: Sequence[tuple[int, int]]) -> tuple[str, str]:
    """Returns TILE and PREDICT.WINDOW as YAML, "" where whole images of one size are small enough.

    >>> _tile([(2000, 1500)])
    ('{ENABLE: true, WIDTH: 512, HEIGHT: 512, SETS: [[2000, 1500, 4, 3]]}', '')
    >>> _tile([(480, 320), (480, 320)]), _tile([])
    (('', ''), ('', ''))
    """
    if not sizes or (len(set(sizes)) == 1 and max(sizes[0]) <= LARGEST_WHOLE):
        return "", ""
    width, height = sorted(sizes)[len(sizes) // 2]
    largest = max(max(size) for size in sizes)
    shrink = min(1, LARGEST_SCALE / max(width, height))
    scale = (max(STRIDE, round(width * shrink)), max(STRIDE, round(height * shrink)))
    sides = [min(TILE, side // STRIDE * STRIDE) for side in scale]
    counts = [-(-side // own) for side, own in zip(scale, sides, strict=True)]
    tile_set = [*scale, *counts]
    window = str([TILE, TILE]) if largest > LARGEST_FULL else ""
    return f"{{ENABLE: true, WIDTH: {sides[0]}, HEIGHT: {sides[1]}, SETS: [{tile_set}]}}", window
