"""Several runs side by side: the settings that differ, the scores, and how sure a gain is.

In: config.yaml, metrics.json, history.csv and per_image.csv of each run. Out: `Comparison`, its text, its plots.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.load import is_machine_key
from pipeline.errors import UserError
from pipeline.paths import CONFIG, HISTORY, METRICS, PER_IMAGE, shown
from pipeline.report.figure import LIGHT, Theme, add_legend, encode, new_figure, style_axes
from pipeline.report.read import read_columns, read_config, read_json, read_stage_seconds, show_value

NAMES_ONLY = ("EXPERIMENT.PREFIX", "EXPERIMENT.SUFFIX", "MODEL.ABBR", "MODEL.ENCODER.ABBR")  # differ without meaning
NUM_DRAWS = 2000  # bootstrap samples: the ends of a 95 % interval are then known to about a twentieth of its width
LEAST_SEQUENCES = 5  # with fewer, drawing whole sequences says nothing, and images are drawn instead
LEAST_IMAGES = 10
# Okabe and Ito's eight without black; more runs repeat them in dashes
RUN_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a100")


@dataclass(frozen=True)
class Gain:
    """Dice of a run minus that of the first one, on the same images.

    Attributes:
        low, high: 95 % interval from drawing `unit` with replacement.
        unit: "sequences", or "images" where there are too few sequences; then the interval is too narrow.
    """

    mean: float
    low: float
    high: float
    num_images: int
    unit: str


@dataclass(frozen=True)
class Comparison:
    """Runs in columns. `settings` holds only keys that differ; a score that a run lacks is None."""

    runs: tuple[str, ...]
    settings: dict[str, tuple[str, ...]]
    scores: dict[str, tuple[float | None, ...]]
    class_dice: dict[str, tuple[float | None, ...]]
    gains: tuple[Gain | None, ...]
    notes: tuple[str, ...] = ()  # what is missing, and what to type

    def __str__(self) -> str:
        return comparison_text(self)


def compare_runs(names: Sequence[str], runs: Path) -> Comparison:
    """Returns the comparison of runs with the first one.

    Raises:
        UserError: a run does not exist or its config is damaged; names the nearest.
    """
    folders = [run_folder(name, runs) for name in names]
    found = [read_json(folder / METRICS) for folder in folders]
    configs = [_read_config(folder) for folder in folders]
    notes = [
        f"{name} was not evaluated yet; type: {_command(folder, values)} evaluate"
        for name, folder, values, content in zip(names, folders, configs, found, strict=True)
        if content is None or _at(content, "dice", "mean") is None
    ]
    metrics = [content or {} for content in found]
    families = [content.get("dice") for content in metrics]
    by_class = [family.get("classes") for family in families if isinstance(family, Mapping)]
    classes = dict.fromkeys(name for scores in by_class if isinstance(scores, Mapping) for name in scores)
    seconds = [sum(read_stage_seconds(folder).values()) / 60 or None for folder in folders]
    scores = {
        "Dice": tuple(_at(content, "dice", "mean") for content in metrics),
        "IoU": tuple(_at(content, "iou", "mean") for content in metrics),
        "data set IoU": tuple(_at(content, "dataset_iou", "mean") for content in metrics),
        "majority guess": tuple(_at(content, "majority", "dice") for content in metrics),
        "epoch kept": tuple(_at(content, "checkpoint", "epoch") for content in metrics),
        "minutes": tuple(seconds),
    }
    class_dice = {name: tuple(_at(content, "dice", "classes", name) for content in metrics) for name in classes}
    per_image = [_read_dice(folder, _command(folder, values)) for folder, values in zip(folders, configs, strict=True)]
    gains = (None, *(paired_gain(per_image[0], other) for other in per_image[1:]))
    return Comparison(tuple(names), differing(configs), scores, class_dice, gains, tuple(notes))


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Returns the keys whose values are not the same in all configs, without names and without the machine's own.

    >>> differing([{"SOLVER.POWER": 1.0, "SOLVER.PLAN": "constant"}, {"SOLVER.POWER": 2.0, "SOLVER.PLAN": "constant"}])
    {'SOLVER.POWER': ('1.0', '2.0')}
    """
    keys = dict.fromkeys(key for values in configs for key in values)
    shown = {key: tuple(show_value(values.get(key)) for values in configs) for key in keys}
    return {
        key: values
        for key, values in shown.items()
        if len(set(values)) > 1 and key not in NAMES_ONLY and not is_machine_key(key)
    }


def paired_gain(first: Mapping[str, tuple[str, float]], other: Mapping[str, tuple[str, float]]) -> Gain | None:
    """Returns the gain of `other` over `first` on the images of both, or None with fewer than 10 of them.

    Args:
        first, other: sequence and Dice by image id.
    """
    shared = [image_id for image_id in first if image_id in other]
    if len(shared) < LEAST_IMAGES:
        return None
    steps = np.array([other[image_id][1] - first[image_id][1] for image_id in shared])
    sequences = [first[image_id][0] for image_id in shared]
    by_sequence = len(set(sequences)) >= LEAST_SEQUENCES
    _, group_of = np.unique(sequences if by_sequence else shared, return_inverse=True)
    sums, sizes = np.bincount(group_of, steps), np.bincount(group_of)
    drawn = np.random.default_rng(0).integers(0, len(sizes), (NUM_DRAWS, len(sizes)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    unit = "sequences" if by_sequence else "images"
    return Gain(float(steps.mean()), float(low), float(high), len(shared), unit)


def comparison_text(comparison: Comparison) -> str:
    """Returns a comparison as text, runs in columns."""
    gains = tuple(
        "" if gain is None else f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" for gain in comparison.gains
    )
    rows = [("", *comparison.runs)]
    rows += [(key, *values) for key, values in comparison.settings.items()] or [
        ("no setting differs", *("" for _ in comparison.runs))
    ]
    scores = {name: values for name, values in comparison.scores.items() if any(value is not None for value in values)}
    rows += [(), *((name, *map(_number, values)) for name, values in scores.items())] if scores else []
    rows += [("gain, 95 % interval", *gains)] if any(gains) else []
    class_dice = comparison.class_dice.items()
    rows += [(), *((f"Dice {name}", *map(_number, values)) for name, values in class_dice)] if class_dice else []
    widths = [max((len(row[column]) for row in rows if row), default=0) for column in range(len(comparison.runs) + 1)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
    notes = sorted({gain.unit for gain in comparison.gains if gain})
    lines += [f"\nIntervals by drawing {' and '.join(notes)} with replacement, {NUM_DRAWS} times."] if notes else []
    return "\n".join([*lines, *(["", *comparison.notes] if comparison.notes else [])])


def draw_comparison(comparison: Comparison, theme: Theme = LIGHT) -> bytes:
    """Returns a heat map: a row per run, mean Dice and the Dice of each class in columns."""
    from matplotlib.colors import LinearSegmentedColormap

    columns = {"mean": comparison.scores["Dice"], **comparison.class_dice}
    num_runs = len(comparison.runs)
    longest = max(map(len, comparison.runs))
    figure = new_figure(theme, height=120 + 26 * num_runs, width=60 + 7 * longest + 44 * len(columns))
    axes = figure.subplots()
    style_axes(axes, theme, "Validation Dice", grid="none")
    cells = [[np.nan if value is None else value for value in row] for row in zip(*columns.values(), strict=True)]
    heat = LinearSegmentedColormap.from_list("heat", theme.heat)
    axes.imshow(cells, cmap=heat, vmin=0, vmax=1, aspect="auto")
    for row, values in enumerate(cells):
        for column, value in enumerate(values):
            color = theme.paper if value > 0.5 else theme.ink
            text = "–" if np.isnan(value) else f"{value:.2f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=color)
    axes.axvline(0.5, color=theme.paper, linewidth=3)
    axes.set_xticks(
        range(len(columns)), list(columns), rotation=45, ha="right", rotation_mode="anchor", color=theme.ink
    )
    axes.set_yticks(range(num_runs), comparison.runs, color=theme.ink)
    axes.spines["bottom"].set_visible(False)
    return encode(figure)


def draw_run_curves(names: Sequence[str], runs: Path, theme: Theme = LIGHT) -> bytes:
    """Returns the validation Dice over epochs of several runs."""
    figure = new_figure(theme, height=380, width=720)
    axes = figure.subplots()
    style_axes(axes, theme, "Validation Dice over epochs")
    for index, name in enumerate(names):
        history = read_columns(run_folder(name, runs) / HISTORY)
        if history:
            epochs, dice = ([float(cell or "nan") for cell in history[column]] for column in ("epoch", "valid_dice"))
            style = "-" if index < len(RUN_COLORS) else "--"
            axes.plot(epochs, dice, style, color=RUN_COLORS[index % len(RUN_COLORS)], linewidth=1.6, label=name)
    axes.set_xlabel("epoch (0: before training)")
    if axes.lines:
        add_legend(axes, theme, columns=1, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return encode(figure)


def run_folder(name: str, runs: Path) -> Path:
    """Returns the folder of a run.

    Raises:
        UserError: there is none; names the nearest.
    """
    folder = runs / name
    if not folder.is_dir():
        known = sorted(path.name for path in runs.iterdir() if (path / CONFIG).is_file()) if runs.is_dir() else []
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none yet'}"
        raise UserError(f"there is no run {name!r} in {runs}; {hint}\n`./run.sh {name}` makes one of a config.")
    return folder


def _read_config(folder: Path) -> dict[str, Any]:
    """Returns the resolved config of a run that must be there."""
    try:
        values = read_config(folder / CONFIG)
    except (ValueError, AttributeError):
        raise UserError(f"{shown(folder / CONFIG)} is damaged; {_again(folder.name)} writes it anew") from None
    if values is None:
        raise UserError(f"{shown(folder)} holds no run, as it has no {CONFIG}; {_again(folder.name)} makes one")
    return values


def _again(run: str) -> str:
    """Returns what to type for the config that a run is of.

    >>> _again("ExpAAB-1234abcd")
    './run.sh ExpAAB with its settings'
    """
    name, dash, _ = run.partition("-")
    return f"./run.sh {name}{' with its settings' if dash else ''}"


def _command(folder: Path, values: Mapping[str, Any]) -> str:
    """Returns what was typed for a run, by the comments of its config."""
    comments = [line for line in (folder / CONFIG).read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    name = re.search(r"Resolved values of (.+)\.$", "\n".join(comments), re.MULTILINE)
    changed = re.search(r"Overridden on the command line: (.+)$", "\n".join(comments), re.MULTILINE)
    keys = [key for key in (changed[1].split(", ") if changed else ()) if not is_machine_key(key)]
    overrides = [f"{key}={json.dumps(values.get(key))}" for key in keys]
    return " ".join(["./run.sh", name[1] if name else folder.name, *map(shlex.quote, overrides)])


def _read_dice(folder: Path, command: str) -> dict[str, tuple[str, float]]:
    """Returns sequence and Dice by image, nothing where the run was not evaluated."""
    path = folder / PER_IMAGE
    try:
        columns = read_columns(path) or {"id": [], "sequence": [], "dice": []}
        rows = zip(columns["id"], columns["sequence"], columns["dice"], strict=True)
        return {image_id: (sequence, float(dice)) for image_id, sequence, dice in rows}
    except (ValueError, KeyError):
        raise UserError(f"{shown(path)} is damaged; type: {command} evaluate --force") from None


def _at(content: Mapping[str, Any], *path: str) -> float | None:
    value: Any = content
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def _number(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
