"""The small files of a run as columns and records, and how values are shown.

A file that is damaged, or does not have the form that `shapes.py` lists, is read as if it were missing.

Needs neither pandas nor NumPy, so that `./run.sh list` stays quick.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat, takewhile
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.paths import CONFIG, MARKERS, METRICS, TILES
from pipeline.report.shapes import SHAPES, TABLES, is_table, of_file

Columns = Mapping[str, Sequence[str]]

PUBLISHED = re.compile(r"^Published: (?:validation )?(\w+) (\d+\.\d+)")
ON_ALL_IMAGES = "was trained on all images (DATASETS.SPLIT.BY: none)"
MAPPINGS = ("MODEL.OPTIONS",)  # keys of a config whose value is no group of keys, but a mapping
NEAR_ZERO = 0.05  # mean score below which next to nothing is found


@dataclass(frozen=True)
class Header:
    """The comment lines that open a config: its question, and the score that was published for it.

    Attributes:
        published_label: which score that is, such as "Dice".
    """

    question: str
    published: float | None
    published_label: str


@dataclass(frozen=True)
class ClassRow:
    """A line of classes.csv."""

    name: str
    color: tuple[int, int, int]
    images: int
    valid_images: int
    amount: int  # what is labelled as the class, in `unit`
    share: float  # of all that is labelled
    unit: str = "pixels"  # or boxes


def read_columns(path: Path) -> dict[str, list[str]] | None:
    """Returns a CSV as text by column, every cell as written; None when there is no such file or it is damaged."""
    if not path.is_file():  # opening a pipe would wait for ever
        return None
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            rows = [row for row in reader if len(row) == len(header)]
    except (OSError, csv.Error):
        return None
    columns = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    table = of_file(path, TABLES)
    return columns if table is None or is_table(columns, table) else None


def read_json(path: Path, kind: type = dict) -> Any:
    """Returns the content of a JSON file; None when there is no such file, it is damaged or holds no `kind`."""
    content = files.read_json(path, of_file(path, SHAPES) or kind)
    return content if isinstance(content, kind) else None


def damaged_files(run_folder: Path, names: Iterable[str]) -> list[str]:
    """Returns the names of a run's files that exist but cannot be read."""
    readers = {".csv": read_columns, ".yaml": read_config, ".json": partial(read_json, kind=object)}
    there = (name for name in names if os.path.lexists(run_folder / name))
    return [name for name in there if readers[Path(name).suffix](run_folder / name) is None]


def damage_of(run_folder: Path, names: Iterable[str]) -> str:
    """Returns which of a run's files are damaged, as text: "damaged config.yaml"; "" where none is."""
    damaged = damaged_files(run_folder, names)
    return f"damaged {' and '.join(damaged)}" if damaged else ""


def numbers(cells: Iterable[str]) -> list[float]:
    """Returns cells as numbers; an empty one, which stands for "not known", becomes NaN.

    >>> numbers(["0.5", "", "3"])
    [0.5, nan, 3.0]
    """
    return [float(cell) if cell.strip() else math.nan for cell in cells]


def read_steps_per_epoch(run_folder: Path, loader: Any, num_pseudo: int = 0) -> int | None:
    """Returns the optimizer steps of an epoch with the settings DATALOADERS.TRAIN, or None before the run has tiles.

    Args:
        num_pseudo: pseudo-labelled samples of each batch, which an epoch's length does not depend on.
    """
    samples, size = (read_json(run_folder / TILES) or {}).get("samples_per_epoch"), loader.batch_size - num_pseudo
    return None if samples is None else max(1, samples // size if loader.drop_last else -(-samples // size))


def read_classes(path: Path) -> list[ClassRow] | None:
    """Returns the lines of classes.csv, or None when it is not there yet."""
    if (columns := read_columns(path)) is None:
        return None
    unit, share = ("boxes", "box_share") if "boxes" in columns else ("pixels", "pixel_share")
    counts = (map(int, columns[name]) for name in ("images", "valid_images", unit))
    colors = zip(*(map(int, columns[channel]) for channel in ("red", "green", "blue")), strict=True)
    return list(map(ClassRow, columns["name"], colors, *counts, map(float, columns[share]), repeat(unit)))


def read_header(path: Path) -> Header:
    """Returns the question and the published score from the comments that open a config."""
    # A file that is not UTF-8 is refused when its experiment is run; the list shows all the others nevertheless.
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        comments = [line.lstrip("#").strip() for line in takewhile(lambda line: line.startswith("#"), file)]
    found = next(filter(None, map(PUBLISHED.match, comments)), None)
    question = comments[0] if comments else ""
    return Header(question, float(found[2]), found[1]) if found else Header(question, None, "")


def read_config(path: Path) -> dict[str, Any] | None:
    """Returns the resolved config of a run as `{"SOLVER.MAX_LR": 0.001, ...}`, or None where it is missing or damaged.

    The file is comments and JSON, see `Loaded.text`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        tree = json.loads("\n".join(line for line in lines if not line.startswith("#")))
    except (OSError, ValueError, RecursionError):
        return None
    return _flatten(tree) if tree and files.fits(tree, SHAPES[CONFIG]) else None


def is_run(folder: Path) -> bool:
    """Returns whether a folder is that of a run, even of one that has lost its config."""
    return (folder / CONFIG).is_file() or (folder / MARKERS).is_dir()


def is_on_all_images(run_folder: Path) -> bool:
    """Returns whether a run that is there trains on all images, so that it never gets a score of its own."""
    return (read_config(run_folder / CONFIG) or {}).get("DATASETS.SPLIT.BY") == "none"


def why_no_score(run_folder: Path, command: str) -> str:
    """Returns why a run has no scores, to be put behind its name, and what to do; `command` runs it."""
    if damage := damage_of(run_folder, (CONFIG, METRICS)):
        return f"has {damage}; to write it again, type: {command} evaluate"
    if is_on_all_images(run_folder):
        return f"{ON_ALL_IMAGES} and has no score of its own; compare the run of its SOLVER.FROM"
    return f"has no scores yet; type: {command} evaluate"


def read_origin(path: Path) -> tuple[str | None, list[str]]:
    """Returns a run's experiment and the keys overridden on the command line, from the comments of its config."""
    experiment, keys = None, []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("# Resolved values of "):
            experiment = line.removeprefix("# Resolved values of ").removesuffix(".")
        elif line.startswith("# Overridden on the command line: "):
            keys = line.partition(": ")[2].split(", ")
    return experiment, keys


def _flatten(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in tree.items():
        is_group = isinstance(value, dict) and f"{path}{key}" not in MAPPINGS
        values |= _flatten(value, f"{path}{key}.") if is_group else {f"{path}{key}": value}
    return values


def read_stage_seconds(run_folder: Path) -> dict[str, float]:
    """Returns the stages that a run has finished, by name, with their seconds."""
    paths = (path for path in sorted((run_folder / MARKERS).glob("*.json")) if not path.stem.endswith(".begun"))
    markers = {path.stem: read_json(path) or {} for path in paths}
    return {name: float(marker["seconds"]) for name, marker in markers.items() if marker}


@dataclass(frozen=True)
class Score:
    """One score of a run.

    Attributes:
        name: in files; `label`: for people.
        mean: over the scored classes; None where no image shows any of them.
        classes: by class name, not only the scored ones.
    """

    name: str
    label: str
    mean: float | None
    classes: Mapping[str, float | None]


@dataclass(frozen=True)
class Metrics:
    """Content of metrics.json.

    Attributes:
        main: the competition's own score.
        scores: all scores by name, `main` among them.
        scored: the classes that enter means.
        majority_class: the class with most pixels in training; "" where unknown.
        majority: by name of a score, what predicting that class everywhere reaches.
        content: the whole file.
    """

    images: int
    main: Score
    scores: Mapping[str, Score]
    scored: tuple[str, ...]
    majority_class: str
    majority: Mapping[str, float | None]
    split: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    duplicates: Mapping[str, Any]
    content: Mapping[str, Any]

    @property
    def others(self) -> list[Score]:
        """The scores beside the main one."""
        return [score for score in self.scores.values() if score is not self.main]

    def mean(self, name: str) -> float | None:
        """Returns the mean of a score, or None where the run does not have it."""
        return self.scores[name].mean if name in self.scores else None


def read_metrics(run_folder: Path) -> Metrics | None:
    """Returns the scores of a run, or None while it has none, and where metrics.json is damaged or of another form."""
    content = read_json(run_folder / METRICS)
    if content is None or content["score"] not in content["scores"]:
        return None
    means = _known({name: own["mean"] for name, own in content["scores"].items()})
    scores = {
        name: Score(name, own["label"], means[name], _known(own["classes"])) for name, own in content["scores"].items()
    }
    main, majority = scores[content["score"]], content.get("majority") or {}
    return Metrics(
        images=content["images"],
        main=main,
        scores=scores,
        scored=tuple(content.get("scored") or main.classes),
        majority_class=majority.get("class", ""),
        majority=_known(majority.get("scores") or {}),
        **{key: content.get(key) or {} for key in ("split", "checkpoint", "duplicates")},
        content=content,
    )


def score_warning(metrics: Mapping[str, Any]) -> str | None:
    """Returns a sentence where the competition's own score is near 0 or not above the majority guess, else None.

    >>> metrics = {"score": "dice", "scores": {"dice": {"label": "Dice", "mean": 0.4}}}
    >>> score_warning(metrics | {"majority": {"class": "Road", "scores": {"dice": 0.45}}})
    'The validation Dice 0.4000 is not above 0.4500, the score of predicting Road everywhere.'
    >>> score_warning(metrics) is None
    True
    """
    name = metrics.get("score")
    own, majority = metrics.get("scores", {}).get(name, {}), metrics.get("majority")
    mean, label = own.get("mean"), own.get("label", name)
    if mean is None:
        return None
    guess = (majority or {}).get("scores", {}).get(name)
    if guess is not None and mean <= guess:
        what = f"the score of predicting {majority['class']} everywhere"
        return f"The validation {label} {mean:.4f} is not above {guess:.4f}, {what}."
    return f"The validation {label} {mean:.4f} is close to 0: next to nothing is found." if mean < NEAR_ZERO else None


def _known(values: Mapping[str, Any]) -> dict[str, float | None]:
    known = {name: None if value is None else float(value) for name, value in values.items()}
    return {name: None if value is None or not math.isfinite(value) else value for name, value in known.items()}


def split_name(split: Mapping[str, Any]) -> str:
    """Returns a split of metrics.json as text.

    >>> split_name({"by": "slice", "index": 3}), split_name({"by": "slice", "index": None})
    ('slice 3', 'slice')
    >>> split_name({"by": "sequence", "index": 0, "folds": 5})
    'sequence 0 of 5 folds'
    """
    index, folds = split.get("index"), f" of {split['folds']} folds" if "folds" in split else ""
    return split.get("by", "–") if index is None else f"{split.get('by', '–')} {index}{folds}"


def show_value(value: Any) -> str:
    """Returns a config value as it is written on the command line.

    >>> show_value(None), show_value(True), show_value((1, 2)), show_value(1e-8), show_value("FPN")
    ('null', 'true', '[1, 2]', '1e-08', 'FPN')
    """
    return value if isinstance(value, str) else json.dumps(value)


def two_digits(value: float) -> str:
    """Returns a number with two significant digits, without an exponent where it can.

    >>> two_digits(0.00523), two_digits(131.7), two_digits(1e-7)
    ('0.0052', '130', '1e-07')
    """
    return f"{float(f'{value:.2g}'):g}"


def percent(share: float) -> str:
    """Returns a share in per cent, small ones with two significant digits.

    >>> percent(0.317), percent(0.0049), percent(1.0)
    ('32 %', '0.49 %', '100 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{two_digits(100 * share)} %"
