"""What is measured of a competition's training images: number format, black and white, mean and deviation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.competition import Competition
from pipeline.data.image_source import PLAIN, Facts, ImageSource
from pipeline.data.images import Inspection, map_files
from pipeline.data.problems import Problem, make_problem

MOST_MEASURED = 200  # images measured for range, mean and deviation; more add nothing
PIXELS_OF_EACH = 20_000
DARKEST, BRIGHTEST = 0.1, 99.9  # percentiles that become black and white


def _shown_channels(competition: Competition) -> list[int]:
    """Returns which channels are shown as red, green and blue; with NEIGHBOURS, the image itself in grey."""
    last = competition.num_channels - 1
    return [last // 2] * 3 if competition.image.neighbours else [0, last // 2, last]


def measure(competition: Competition, folder: Path, cells: Sequence[str]) -> dict[str, Any]:
    """Returns the facts of the training images: number format, range, and mean and deviation of each channel.

    Mean and deviation are those of values scaled to 0 and 1; None for ordinary colour images, for which the
    encoder brings its own.

    Args:
        cells: of the catalog's column `image`, all of one number format.
    """
    first = ImageSource(competition, folder)
    large = first.large(cells[0])
    dtype = first.inspect(cells[0]).counts if large is None else large.dtype.name
    given, is_plain = competition.image.range, dtype == "uint8" and competition.num_channels == 3
    if is_plain and given is None:
        return {**PLAIN, "shown": _shown_channels(competition), "mean": None, "std": None}
    chosen = list(cells)[:: max(1, len(cells) // MOST_MEASURED)][:MOST_MEASURED]
    source = ImageSource(competition, folder, {**PLAIN, "dtype": dtype, "shown": _shown_channels(competition)})

    def sample(cell: str) -> np.ndarray:
        with source.alone(cell):
            return source.some_pixels(cell, PIXELS_OF_EACH)

    pixels = np.concatenate(map_files(sample, chosen, "measure"))
    if given is not None:
        low, high = map(float, given)
    elif dtype == "uint8":
        low, high = 0.0, 255.0
    else:
        low, high = (float(value) for value in np.percentile(pixels, (DARKEST, BRIGHTEST)))
    if not low < high:
        low, high = low, low + 1.0
    facts = {"dtype": dtype, "low": low, "high": high, "shown": _shown_channels(competition)}
    if is_plain:
        return {**facts, "mean": None, "std": None}
    scaled = (pixels.astype(np.float64) - low) / (high - low)
    deviation = np.maximum(scaled.std(0), 1e-3)
    return facts | {"mean": scaled.mean(0).round(5).tolist(), "std": deviation.round(5).tolist()}


def describe(competition: Competition, facts: Facts) -> list[str]:
    """Returns what was measured, one sentence each, for the terminal; none for ordinary images."""
    if facts.get("mean") is None and (facts["low"], facts["high"]) == (0.0, 255.0):
        return []
    how = "given" if competition.image.range else "measured"
    return [
        f"images are {facts['dtype']} of {competition.num_channels} channels; black is {facts['low']:g} and white "
        f"{facts['high']:g} ({how})"
    ]


def format_problems_of(
    cells: Sequence[str], found: Sequence[Inspection], name: str, expected: str | None = None
) -> list[Problem]:
    """Returns the images whose number format is not the `expected` one; None expects that of most images."""
    formats = [one.counts for one in found if one.counts]
    most = expected or max(set(formats), key=formats.count, default=None)
    facts = {"most": most, "competition": name}
    return [
        make_problem("another number format", cell, f"{one.counts}", **facts)
        for cell, one in zip(cells, found, strict=True)
        if one.counts not in (None, most)
    ]
