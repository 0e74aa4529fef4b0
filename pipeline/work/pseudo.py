"""`pseudo`: labels unlabelled images with a teacher's predictions. Without PSEUDO.TEACHER there is no such stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.data.catalog import write_table
from pipeline.data.leakage import near_pairs
from pipeline.data.listed import MOST_LISTED
from pipeline.data.loaders import available_workers
from pipeline.engine.chain import run_chain
from pipeline.engine.run import Run
from pipeline.errors import Stopped, UserError
from pipeline.files import sha256_file, write_json
from pipeline.paths import PSEUDO_FACTS, PSEUDO_LABELS, PSEUDO_LEAKAGE, PSEUDO_TABLE
from pipeline.prediction.store import PredictionStore, StoreWriter, open_predictions
from pipeline.prediction.streaming import Source, stream
from pipeline.report.trained_on import trained_on
from pipeline.training.assemble import load_predictor, predicting_content
from pipeline.training.inputs import images_of, predicting_checkpoint, split_rows
from pipeline.work.inputs import competition_folder, large_ids
from pipeline.work.members import require_current
from pipeline.work.teacher import (
    OF_TEST,
    Teacher,
    honest_teacher,
    is_streamed,
    teacher_runs,
    unlabelled_folder,
    unlabelled_rows,
)

TABLE_COLUMNS = ("labelled", "confidence")


def pseudo(run: Run) -> None:
    """Writes the pseudo-labels, a table with a row per image, their near-duplicates in validation, and a sheet of some.

    Raises:
        UserError: the teacher is not trained, has no honest member, or is sure of no image.
        Stopped: the time budget is used up; whole shards are kept.
    """
    members, has_stores = teacher_runs(run), not is_streamed(run)
    require_current(members, "testset" if has_stores else "prepare")
    teacher = honest_teacher(run, [trained_on(member) for member in members], members)
    for name, why in teacher.left_out.items():
        run.log(f"teacher: {name} is left out: {why}")
    folder, rows = unlabelled_folder(run), unlabelled_rows(run)
    store = _write_labels(run, teacher, folder, rows, has_stores)
    table = _table(run, rows, store.index["images"])
    used = table[table["is_used"] == 1].reset_index(drop=True)
    write_table(run.paths / PSEUDO_TABLE, table)
    leaks = _near_validation(run, folder, used)
    write_table(run.paths / PSEUDO_LEAKAGE, leaks)
    facts = _facts(run, teacher, table, leaks)
    write_json(run.paths / PSEUDO_FACTS, facts)
    run.task.draw_pseudo_labels(run, folder, used)
    _log(run, facts)


def _write_labels(run: Run, teacher: Teacher, folder: Path, rows: pd.DataFrame, has_stores: bool) -> PredictionStore:
    """Returns the store of the labels of all images; goes on where an earlier process stopped."""
    alone = large_ids(rows, run.loaded.competition.image.whole_px)
    writer = StoreWriter(run.paths / PSEUDO_LABELS, run.key, rows["id"].tolist(), {}, lambda label: label, alone=alone)
    missing = writer.missing()
    predictions = (_stored if has_stores else _streamed)(teacher.members, folder, rows, missing) if missing else ()
    with tqdm(total=len(missing), desc="pseudo-label", unit="image", leave=False, disable=None) as bar:
        for image_id, own in predictions:
            writer.put(image_id, run.task.pseudo_label(run, own))
            bar.update()
            if run.stop.requested:
                raise Stopped(f"{run.stop.reason}, {bar.n} of {len(missing)} images pseudo-labelled")
    writer.finish()
    return PredictionStore(run.paths / PSEUDO_LABELS, lambda array, facts: (array, facts))


def _stored(
    members: Sequence[Run], folder: Path, rows: pd.DataFrame, missing: Sequence[str]
) -> Iterator[tuple[str, list[Any]]]:
    """Yields each image with the members' predictions from their stores, which are written first where they are not."""
    for member in members:
        stages = [stage for stage in member.stages if stage.name in ("testset", "predict")]
        run_chain(member, stages[-1].name, stages=stages)
    stores = [open_predictions(member, OF_TEST) for member in members]
    for member, store in zip(members, stores, strict=True):
        if unlike := set(rows["id"]) ^ set(store):
            found = f"{member.name} predicts other test images, such as {min(unlike)}"
            raise UserError(f"PSEUDO.TEACHER: {found}; remove DATASETS.TEST_DIRECTORY from its config")
    members[0].task.stored_alike({member.name: store.index for member, store in zip(members, stores, strict=True)})
    for image_id in missing:
        yield image_id, [store.view(image_id) for store in stores]


def _streamed(
    members: Sequence[Run], folder: Path, rows: pd.DataFrame, missing: Sequence[str]
) -> Iterator[tuple[str, list[Any]]]:
    """Yields each image with the predictions of the members' networks."""

    def source(member: Run) -> Source:
        dataset, options = member.task.valid_data(member, folder, rows), member.loaded.config.dataloaders.valid
        return Source(
            lambda: load_predictor(member, predicting_content(member)), dataset, options.batch_size, member.task
        )

    num_threads = max(member.loaded.config.dataloaders.valid.num_workers for member in members)
    everyone = range(len(members))
    yield from stream(
        [source(member) for member in members],
        dict.fromkeys(missing, everyone),
        available_workers(num_threads, members[0].log),
    )


def _table(run: Run, rows: pd.DataFrame, labels: dict[str, Any]) -> pd.DataFrame:
    """Returns the rows with what their labels hold: `labelled`, `confidence`, `pixels_0` and so on, `is_used`.

    Raises:
        UserError: no image is labelled enough.
    """
    settings, num_classes = run.loaded.config.pseudo, run.loaded.competition.num_classes
    own = [labels[image_id] for image_id in rows["id"]]
    table = rows.assign(**{name: [facts[name] for facts in own] for name in TABLE_COLUMNS})
    table["is_used"] = ((table["labelled"] >= settings.min_labelled) & (table["labelled"] > 0)).astype(int)
    pixels = np.array([facts["pixels"] for facts in own], np.int64).reshape(len(rows), num_classes)
    columns = pd.DataFrame(pixels, columns=[f"pixels_{index}" for index in range(num_classes)], index=table.index)
    table = pd.concat([table, columns], axis=1)
    if not table["is_used"].any():
        found = f"none of {len(table)} images has {100 * settings.min_labelled:g} % of its pixels labelled"
        best = f"the most is {table['labelled'].max():.3f}, at a mean confidence of {table['confidence'].mean():.3f}"
        raise UserError(f"PSEUDO.CONFIDENCE {settings.confidence:g}: {found} ({best}); lower it, or MIN_LABELLED")
    return table


def _near_validation(run: Run, folder: Path, used: pd.DataFrame) -> pd.DataFrame:
    """Returns pseudo_id, valid_id, distance of near-duplicates between pseudo-labelled and validation images."""
    valid = split_rows(run.paths, "valid")
    pair = (images_of(run, folder), used), (images_of(run, competition_folder(run)), valid)
    return near_pairs(*pair, "pseudo_id")


def _facts(run: Run, teacher: Teacher, table: pd.DataFrame, leaks: pd.DataFrame) -> dict[str, Any]:
    """Returns what report, origin and later runs need to know of the pseudo-labels."""
    settings, used = run.loaded.config.pseudo, table[table["is_used"] == 1]
    names = run.loaded.competition.class_names
    pixels = used[[f"pixels_{index}" for index in range(len(names))]].sum()
    sizes = used["width"] * used["height"]
    return {
        "teacher": settings.teacher,
        "members": {member.name: sha256_file(predicting_checkpoint(member)) for member in teacher.members},
        "left_out": teacher.left_out,
        "of_test": settings.images == OF_TEST,
        "labels": settings.labels,
        "confidence": settings.confidence,
        "agreement": settings.agreement,
        "images": len(used),
        "images_left_out": len(table) - len(used),
        "labelled": float((used["labelled"] * sizes).sum() / sizes.sum()),
        "mean_confidence": float((used["confidence"] * sizes).sum() / sizes.sum()),
        "pixels": dict(zip(names, map(int, pixels), strict=True)),
        "near_duplicates": len(leaks),
        "valid_images": len(split_rows(run.paths, "valid")),
        "valid_images_affected": int(leaks["valid_id"].nunique()),
        "trained_on": sorted(teacher.trained_on),
    }


def _log(run: Run, facts: dict[str, Any]) -> None:
    images = f"{facts['images']} of {facts['images'] + facts['images_left_out']} images"
    share = f"{100 * facts['labelled']:.1f} % of their pixels (mean confidence {facts['mean_confidence']:.3f})"
    run.log(f"pseudo-labels: {images}, {share}, by {', '.join(facts['members'])}")
    unseen = [name for name, pixels in facts["pixels"].items() if pixels == 0]
    if unseen:
        run.log(f"note: no pseudo-label contains {', '.join(unseen)}")
    if facts["valid_images_affected"]:
        found = f"{facts['valid_images_affected']} of {facts['valid_images']} validation images"
        run.log(
            f"leakage: {found} have a near-duplicate among the pseudo-labelled images. No member of the teacher was "
            f"trained on these, but the score will be higher than on new scenes, see {PSEUDO_LEAKAGE} "
            f"(at most {MOST_LISTED} per validation image are listed)"
        )
