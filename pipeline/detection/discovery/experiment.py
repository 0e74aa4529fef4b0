"""A first experiment on boxes: a RetinaNet with a small encoder, on whole images that are not too large for a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.data.discovery.draft import Draft
from pipeline.data.discovery.experiment import Plan, plan_text

BASE = "BccdR"
LARGEST = 512  # px: a longer side of the network's input than this is avoided
SCALES = (1, 0.5, 0.25)  # of DATASETS.INPUT_SCALE; 0.25 is the least


def experiment_text(draft: Draft, sizes: Sequence[tuple[int, int]], directory: Path | None = None) -> str:
    """Returns the file `configs/NAME.yaml`.

    Args:
        sizes: (width, height) of some images; (0, 0) where it is not known.
        directory: the competition's folder, where it is not found by its name.
    """
    plan = Plan(
        base=BASE,
        network="a RetinaNet with a small encoder",
        images="whole images",
        suffix="A",
        datasets=[f"INPUT_SCALE: {input_scale(sizes)}"],
    )
    return plan_text(draft, plan, directory)


def input_scale(sizes: Sequence[tuple[int, int]]) -> float:
    """Returns the scale at which the network sees images.

    >>> input_scale([(512, 480)]), input_scale([(0, 0), (640, 480)]), input_scale([(4000, 3000)]), input_scale([])
    (1, 0.5, 0.25, 1)
    """
    sides = sorted(max(size) for size in sizes if 0 not in size)
    usual = sides[len(sides) // 2] if sides else 0
    return next((scale for scale in SCALES if usual * scale <= LARGEST), SCALES[-1])
