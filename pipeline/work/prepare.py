"""`prepare`: checks every training image and label; writes catalog, class statistics, split, leakage and histograms."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd

from pipeline.data.catalog import build_train_catalog, find_notices, write_table
from pipeline.data.image_facts import describe, measure
from pipeline.data.image_source import ImageSource
from pipeline.data.leakage import near_duplicates
from pipeline.data.listed import MOST_LISTED, is_capped
from pipeline.data.problems import format_problems
from pipeline.data.split import SLICES, make_split
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.paths import CLASSES, IMAGES, LABELS, LEAKAGE, PLOTS, SIGNATURES, SPLIT, TRAIN_CATALOG, shown
from pipeline.report.markup import quantity
from pipeline.report.plots import write_class_histograms
from pipeline.work.inputs import competition_folder


def prepare(run: Run) -> None:
    """Writes the tables of the training images.

    Raises:
        UserError: files or lists have problems; all of them, each with its fix.
    """
    competition, datasets, folder = run.loaded.competition, run.loaded.config.datasets, competition_folder(run)
    task = run.task
    facts = task.find_labels(competition, folder)
    labels = task.open_labels(competition, folder, facts)
    catalog, problems = build_train_catalog(competition, folder, task, labels)
    if problems:
        raise UserError(f"{shown(folder)} cannot be used as it is:\n{format_problems(problems)}")
    images = measure(competition, folder, catalog["image"].tolist())
    notices = describe(competition, images) + task.describe_labels(competition, facts)
    notices += find_notices(competition, folder, catalog, task, labels)
    if datasets.split.by not in ("given", "none") and (catalog["given"] == "valid").any():
        notices.append("the organisers' own validation images are not used as such: DATASETS.SPLIT.BY=given does it")
    for notice in notices:
        run.log(f"note: {notice}")
    kind, present = datasets.split, task.class_presence(catalog)
    split = make_split(catalog, present, kind.by, datasets.split_index, kind.folds)
    _check_sides(run, catalog, present, split)
    leaks = near_duplicates(ImageSource(competition, folder, images), catalog, split, run.paths / SIGNATURES)
    classes = task.class_table(catalog, split, competition)
    tables = {TRAIN_CATALOG: catalog, SPLIT: split, LEAKAGE: leaks, CLASSES: classes}
    write_json(run.paths / LABELS, facts)
    write_json(run.paths / IMAGES, images)
    for name, table in tables.items():
        write_table(run.paths / name, table)
    write_class_histograms(run.paths / CLASSES, run.paths / PLOTS)
    counts = split["subset"].value_counts()
    if run.loaded.is_on_all_images:
        run.log(
            f"{quantity(counts['train'], 'training image')}, none for validation: this run gets no score of its own"
        )
        return
    run.log(f"{quantity(counts['train'], 'training image')}, {quantity(counts['valid'], 'validation image')}")
    _log_leakage(run, catalog, leaks, counts["valid"])


def _check_sides(run: Run, catalog: pd.DataFrame, present: np.ndarray, split: pd.DataFrame) -> None:
    """Refuses a split without labels in its training or its validation images.

    Args:
        present: bool, images x classes: which classes each image shows.

    Raises:
        UserError: no image of a side has a label.
    """
    competition, datasets = run.loaded.competition, run.loaded.config.datasets
    what, where = ("box", "annotations") if competition.has_boxes else ("pixel of a class", "masks")
    for subset, name, use in (("train", "training", "learn"), ("valid", "validation", "score")):
        number = int((split["subset"] == subset).sum())
        if not number or _has_label(catalog, present, split, subset):
            continue
        found = f"none of the {number:,} {name} images of this split has a {what}"
        if competition.is_multilabel and subset == "valid":
            run.log(f"warning: {found}: a network that finds nothing gets the best score")
            continue
        index = _usable_index(run, catalog, present)
        other = "" if index is None else f", or set DATASETS.SPLIT_INDEX={index}"
        raise UserError(
            f"SPLIT.BY {datasets.split.by}, SPLIT_INDEX {datasets.split_index}: {found}, so there is nothing to {use}."
            f"\nCheck the {where}{other}."
        )


def _has_label(catalog: pd.DataFrame, present: np.ndarray, split: pd.DataFrame, subset: str) -> bool:
    return bool(present[catalog["id"].isin(split["id"][split["subset"] == subset]).to_numpy()].any())


def _usable_index(run: Run, catalog: pd.DataFrame, present: np.ndarray) -> int | None:
    """Returns the first SPLIT_INDEX by which both sides have labels, None where there is none."""
    kind, own = run.loaded.config.datasets.split, run.loaded.config.datasets.split_index
    for index in range(len(SLICES)) if own >= 0 else range(own - 1, -101, -1):
        with contextlib.suppress(UserError):
            split = make_split(catalog, present, kind.by, index, kind.folds)
            if all(_has_label(catalog, present, split, subset) for subset in ("train", "valid")):
                return index
    return None


def _log_leakage(run: Run, catalog: pd.DataFrame, leaks: pd.DataFrame, num_valid: int) -> None:
    num_leaky = leaks["valid_id"].nunique()
    if not num_leaky:
        return
    cut = f"; {LEAKAGE} lists at most {MOST_LISTED} per validation image" if is_capped(leaks["valid_id"]) else ""
    run.log(
        f"leakage: {num_leaky} of {num_valid} validation images have a near-duplicate among the training images, so "
        f"the score will be too good; {_leakage_fix(run, catalog)}{cut}"
    )


def _leakage_fix(run: Run, catalog: pd.DataFrame) -> str:
    by = run.loaded.config.datasets.split.by
    if by in ("sequence", "stratified"):
        return f"these are of different sequences, see {LEAKAGE}"
    if catalog["sequence"].nunique() > 1:
        return "DATASETS.SPLIT.BY=sequence keeps the images of a sequence together"
    return "SEQUENCE_COLUMN or SEQUENCE_PATTERN in the competition's file says which images belong together"
