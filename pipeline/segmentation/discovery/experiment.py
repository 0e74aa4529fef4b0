"""A first experiment for a new competition: a small network, whole images or tiles that fit, a split without leaks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from pipeline.segmentation.discovery.draft import Draft

BASE = "CamVidAAA"  # a small pretrained network that learns in minutes on two CPU cores
SUFFIX = "AAA"
LARGEST_WHOLE = 768  # px: a side up to which whole images are trained on
TILE, LARGEST_SCALE = 512, 2048  # px: sides of tiles, and of the image that they are cut from
LARGEST_FULL = 4096  # px: a side up to which an image is predicted at once
STRIDE = 32  # sides of tiles are multiples of it
MOST_WORDS = 2  # of the competition's name in the experiment's


def experiment_name(competition: str) -> str:
    """Returns the name of the first experiment of a competition.

    >>> experiment_name("carvana_image_masking_challenge"), experiment_name("loveda")
    ('CarvanaImageAAA', 'LovedaAAA')
    """
    words = [word for word in competition.split("_") if word][:MOST_WORDS]
    return "".join(word[:1].upper() + word[1:] for word in words) + SUFFIX


def experiment_text(draft: Draft, sizes: Sequence[tuple[int, int]], directory: Path | None = None) -> str:
    """Returns the file `configs/NAME.yaml`.

    Args:
        sizes: (width, height) of some images; (0, 0) where it is not known.
        directory: the competition's folder, where it is not found by its name.
    """
    name = experiment_name(draft.name)
    by = split_by(draft)
    tile, window = _tile([size for size in sizes if 0 not in size])
    lines = [
        f"# What does a small pretrained network score on {draft.name}, with {'tiles' if tile else 'whole images'}?",
        f"# ./run.sh {shlex.quote(name)}",
        "# Published: no result.",
        f"BASE: {BASE}",
        f"EXPERIMENT: {{PREFIX: {name}, SUFFIX: CA-{'T' if tile else 'FS'}-DA}}",
        "DATASETS:",
        f"  COMPETITION: {draft.name}",
        *([f'  DIRECTORY: "{directory}"'] if directory else []),
        f"  SPLIT: {{BY: {by}}}",
        *([f"  AUGMENTATION: {{TILE: {tile}}}"] if tile else []),
        *([f"PREDICT: {{MODE: window, WINDOW: {window}}}"] if window else []),
    ]
    return "\n".join(lines) + "\n"


def split_by(draft: Draft) -> str:
    """Returns the split that a competition's files suggest: the organisers', by sequence, or random."""
    if {"VALID_IMAGES", "VALID_CSV", "SPLIT_COLUMN"} & draft.keys.keys():
        return "given"
    return "sequence" if {"SEQUENCE_COLUMN", "SEQUENCE_PATTERN"} & draft.keys.keys() else "slice"


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
