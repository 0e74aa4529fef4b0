"""Plots of how far probabilities can be trusted, and of errors by distance.

In: what `report/diagnosis.py` reads of diagnosis.json. Out: PNG bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.figure import LIGHT, Theme, add_legend, encode, new_axes, new_figure, style_axes
from pipeline.report.read import percent

LEAST_IN_BIN = 100  # pixels; the share of fewer says nothing
HEIGHT = 420  # page pixels


@dataclass(frozen=True)
class Reliability:
    """Pixels by the probability of what was chosen; of several classes their sums. Arrays are float64 (bins,).

    Attributes:
        pixels: of each bin.
        probability: the sum of their probabilities.
        right: how many of them are right.
    """

    pixels: np.ndarray
    probability: np.ndarray
    right: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of probability and share of right pixels, over bins.

        Source: Guo et al. 2017, equation 3.
        """
        return float(np.abs(self.right - self.probability).sum() / max(self.pixels.sum(), 1))

    @property
    def excess(self) -> float:
        """How much higher the mean probability is than the share of right pixels."""
        return float((self.probability.sum() - self.right.sum()) / max(self.pixels.sum(), 1))

    def right_from(self, least: float) -> float | None:
        """Returns the share of right pixels among those of a probability of `least` or more; None without any."""
        first = round(least * len(self.pixels))
        pixels = self.pixels[first:].sum()
        return float(self.right[first:].sum() / pixels) if pixels else None


def read_reliability(found: Mapping[str, Any], index: int | None = None) -> Reliability:
    """Returns `calibration` of diagnosis.json, of one class or of all.

    >>> found = {"pixels": [[0, 200], [0, 100]], "probability": [[0, 190], [0, 80]], "right": [[0, 180], [0, 90]]}
    >>> round(read_reliability(found).error, 4), round(read_reliability(found, 0).error, 4)
    (0.0, 0.05)
    """
    arrays = (np.array(found[name], float) for name in ("pixels", "probability", "right"))
    return Reliability(*(array.sum(0) if index is None else array[index] for array in arrays))


def draw_reliability(found: Reliability, is_chosen: bool, theme: Theme = LIGHT) -> bytes:
    """Returns the reliability diagram: share of right pixels against probability, and below it the pixels of each bin.

    Args:
        is_chosen: whether probabilities are those of the chosen class, else of every class.
    """
    figure = new_figure(theme, HEIGHT)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    style_axes(axes, theme, "Reliability")
    style_axes(below, theme, grid="y")
    num_bins = len(found.pixels)
    known = found.pixels >= LEAST_IN_BIN
    pixels = np.maximum(found.pixels, 1)
    probability, right = (found.probability / pixels)[known], (found.right / pixels)[known]
    left = np.arange(num_bins)[known] / num_bins
    width = 1 / num_bins
    axes.bar(left, right, width, align="edge", color=theme.valid, edgecolor=theme.background, linewidth=0.8)
    gaps = {"width": width, "bottom": np.minimum(right, probability), "align": "edge", "color": theme.mark}
    axes.bar(left, np.abs(probability - right), **gaps, alpha=0.6, linewidth=0, label="gap")
    axes.plot([0, 1], [0, 1], color=theme.muted, linewidth=1, linestyle=(0, (4, 3)), label="as it should be")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, 1)
    axes.set_ylabel("share of right pixels" if is_chosen else "share that has the class")
    below.bar(np.arange(num_bins) / num_bins, found.pixels / max(found.pixels.sum(), 1), width, align="edge",
              color=theme.muted, edgecolor=theme.background, linewidth=0.8)  # fmt: skip
    below.set_xlabel("probability of the chosen class" if is_chosen else "probability of a class")
    below.set_ylabel("pixels")
    below.set_yscale("log")  # nearly all pixels are sure; the bins in which they are not must show, too
    below.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    add_legend(axes, theme, columns=2)
    return encode(figure)


def draw_distances(edges: Sequence[int], counts: Sequence[Sequence[int]], what: str, theme: Theme = LIGHT) -> bytes:
    """Returns the share of wrong pixels by distance; below each bar stands which share of all errors it has.

    Args:
        counts: pixels and wrong pixels by distance, one more than edges.
        what: the distance to it.
    """
    pixels, wrong = np.array(counts, float).T
    figure, axes = new_axes(theme, f"Wrong pixels by distance to {what}", HEIGHT - 120, grid="y")
    names = distance_names(edges)
    shares = wrong / np.maximum(pixels, 1)
    axes.bar(range(len(names)), shares, 0.7, color=theme.valid, linewidth=0)
    for position, (share, own) in enumerate(zip(shares, wrong / max(wrong.sum(), 1), strict=True)):
        text = f"{percent(share)}" if pixels[position] else "–"
        axes.annotate(text, (position, share), ha="center", va="bottom", fontsize=7.5, color=theme.text)
        names[position] += f"\n{100 * own:.0f} %"
    axes.set_xticks(range(len(names)), names, color=theme.text)
    axes.set_ylim(0, max(shares.max(initial=0) * 1.15, 0.01))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel("pixels from it; below: share of all wrong pixels")
    return encode(figure)


def distance_names(edges: Sequence[int]) -> list[str]:
    """Returns what bins are called.

    >>> distance_names((1, 2, 4))
    ['1', '2', '3–4', '> 4']
    """
    starts = [1, *(edge + 1 for edge in edges)]
    named = [str(end) if start == end else f"{start}–{end}" for start, end in zip(starts, edges, strict=False)]
    return [*named, f"> {edges[-1]}"]
