"""An ensemble's members: their runs, what decides their predictions, and which images they were not trained on.

A validation image is combined only from members that did not train on it, nor started from a run that did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from pipeline.config.load import Loaded, is_machine_key, run_name
from pipeline.config.members import member_command
from pipeline.data.catalog import read_catalog
from pipeline.data.split import read_split
from pipeline.data.table import read_table
from pipeline.engine.chain import reuse_finished, run_chain
from pipeline.engine.dependence import why_run
from pipeline.engine.run import Run
from pipeline.errors import DiskTooSmall, UserError
from pipeline.files import sha256_file
from pipeline.paths import (
    AVERAGE,
    BEST,
    ENSEMBLE,
    LEAKAGE,
    METRICS,
    PSEUDO_FACTS,
    SPLIT,
    TEST_CATALOG,
)
from pipeline.prediction.store import open_predictions
from pipeline.report.read import read_columns, read_json
from pipeline.report.trained_on import trained_on
from pipeline.training.inputs import predicting_checkpoint, split_rows
from pipeline.wording import is_below

PREDICTING = ("evaluate", "testset", "predict")  # the stages of a member that an ensemble may start by itself
LEARNING = ("pseudo", "train")  # the stages that decide its weights, of those that an ensemble never starts
WITHOUT_STORES = (
    "Or add ENSEMBLE.STREAM=true: members then predict image by image and store no probabilities. The result is the "
    "same, but every METHOD that you try predicts again."
)


def without_stores(loaded: Loaded, has_limit: bool) -> str:
    """Returns a line on how to do without stores, for messages; empty where an ensemble of this task needs them.

    Args:
        has_limit: whether there is a time limit, for which members are predicted one after the other.
    """
    return "" if has_limit or loaded.competition.has_boxes else f"\n{WITHOUT_STORES}"


def require_trained(members: Sequence[Run]) -> None:
    """Refuses members without a finished training, or whose training is not what their config says now.

    Raises:
        UserError: names each with the command to type; no training is started here.
    """
    if without := [member.name for member in members if all(stage.name != "testset" for stage in member.stages)]:
        raise UserError(
            f"{', '.join(without)}: the competition has no test images, and an ensemble combines their predictions. "
            "Give TEST_IMAGES or TEST_CSV in its file, or a folder with --test-dir FOLDER"
        )
    require_current(members, "testset")


def require_current(members: Sequence[Run], last: str) -> None:
    """Refuses members without a finished training, or whose training is not what their config says now.

    Args:
        last: the stage up to which they are run before their training is compared with what it would read now.

    Raises:
        UserError: names each with the command to type.
    """
    lines = []
    for member in members:
        reuse_finished(member, PREDICTING[-1] if last == "testset" else "train")  # another TTA needs no training
        if not member.paths.marker("train").is_file() or not (member.paths / BEST).is_file():
            lines.append((member, "not trained"))
            continue
        run_chain(replace(member, log=lambda line: None), last)
        learning = [stage for stage in member.stages if stage.name in LEARNING]
        reason = next(filter(None, (why_run(stage, member) for stage in learning)), None)
        if reason is not None:
            lines.append((member, f"trained with other settings or data: {reason}"))
        elif member.loaded.is_averaged and (reason := why_run(member.stage("average"), member)) is not None:
            lines.append((member, f"not averaged: {reason}"))
    if lines:
        width = max(len(member.name) for member, _ in lines)
        stage_of = {member.name: "average" if member.loaded.is_averaged else "train" for member, _ in lines}
        commands = [
            f"  {member.name:<{width}}  {why}; type: {member_command(member.loaded, stage_of[member.name])}"
            for member, why in lines
        ]
        raise UserError("\n".join([f"{len(lines)} of {len(members)} members cannot predict yet:", *commands]))


def predict_members(members: Sequence[Run], has_limit: bool = False) -> None:
    """Runs the stages of each member that write its probabilities, where they are not fresh.

    Args:
        has_limit: whether there is a time limit; then `submit` predicts the test images.

    Raises:
        UserError: a member's mistake; where the disk is too small, also how to do without the stores.
    """
    for member in members:
        stages = [stage for stage in member.stages if stage.name in PREDICTING[: 2 if has_limit else 3]]
        try:
            run_chain(member, stages[-1].name, stages=stages)
        except DiskTooSmall as error:
            raise UserError(f"{member.name}: {error}{without_stores(member.loaded, has_limit)}") from error


def require_alike(members: Sequence[Run], has_stores: bool) -> None:
    """Refuses members that differ in test images, or whose stores differ in competition or classes.

    Args:
        has_stores: whether they have predicted the test images.

    Raises:
        UserError: names the members and what differs.
    """

    if not has_stores:
        ids = {member.name: set(read_catalog(member.paths / TEST_CATALOG)["id"]) for member in members}
    else:
        stores = {member.name: open_predictions(member, "test") for member in members}
        members[0].task.stored_alike({name: store.index for name, store in stores.items()})
        ids = {name: set(store) for name, store in stores.items()}
    first, *others = ids
    for name in others:
        unlike = ids[name] ^ ids[first]
        if unlike:
            raise UserError(f"{name} and {first} predict other test images, such as {min(unlike)}; run both again")


def member_facts(member: Run, name: str) -> dict[str, Any]:
    """Returns a member's entry in members.json: names, settings of its predictions, its own scores."""
    metrics = read_json(member.paths / METRICS) or {}
    predict = member.stage("predict")
    values = member.loaded.values.items()
    learnt = {"pseudo": pseudo_facts(member)} if member.loaded.has_pseudo_labels else {}
    return {
        "name": name,
        "run_name": run_name(member.loaded.config),
        "checkpoint_sha256": sha256_file(predicting_checkpoint(member)),
        **weights_used(member),
        "settings": {
            key: value for key, value in values if is_below(key, predict.settings) and not is_machine_key(key)
        },
        "split": split_facts(member),
        "score": metrics.get("score"),
        "scores": {name: family["mean"] for name, family in metrics.get("scores", {}).items()},
        "images": metrics.get("images"),
        **learnt,
    }


def split_facts(run: Run) -> dict[str, Any]:
    """Returns kind and index of a run's split, and the number of its folds where SPLIT.FOLDS gives one."""
    datasets = run.loaded.config.datasets
    folds = {} if datasets.split.folds is None else {"folds": datasets.split.folds}
    return {"by": datasets.split.by, "index": datasets.split_index, **folds}


def pseudo_facts(run: Run) -> dict[str, Any]:
    """Returns what is known of a run's pseudo-labels, without the list of images that its teacher was trained on."""
    facts = read_json(run.paths / PSEUDO_FACTS) or {}
    return {name: value for name, value in facts.items() if name != "trained_on"}


def held_out_table(members: Sequence[Run], catalog: pd.DataFrame) -> pd.DataFrame:
    """Returns id, subset, members of the public images: `valid` where a member predicted it and did not train on it.

    `members` holds the numbers of those members, such as "0 3".

    Raises:
        UserError: there is no such image.
    """
    out_of_fold = []
    for member in members:
        seen = trained_on(member)
        own = read_columns(member.paths / SPLIT)
        valid = {id for id, subset in zip(own["id"], own["subset"], strict=True) if subset == "valid"}
        out_of_fold.append(set() if seen is None else valid - seen)
    ids = catalog["id"].tolist()
    numbers = [" ".join(str(number) for number, own in enumerate(out_of_fold) if id in own) for id in ids]
    if not any(numbers):
        raise UserError(
            "no image is out of fold for any member, so the ensemble cannot be scored; "
            "list members with different SPLIT_INDEX in ENSEMBLE.MEMBERS"
        )
    return pd.DataFrame({"id": ids, "subset": ["valid" if own else "train" for own in numbers], "members": numbers})


def members_by_image(split: pd.DataFrame) -> dict[str, list[int]]:
    """Returns the numbers of the members that were not trained on an image, by its id, from an ensemble's split.csv."""
    return {row.id: [int(word) for word in row.members.split()] for row in split.itertuples()}


def held_out_rows(run: Run) -> tuple[pd.DataFrame, dict[str, list[int]]]:
    """Returns the catalog rows of the validation images, and the numbers of the members not trained on each."""
    rows = split_rows(run.paths, "valid")
    if not run.loaded.is_ensemble:
        return rows, {image_id: [0] for image_id in rows["id"]}
    members = members_by_image(read_split(run.paths / SPLIT))
    return rows, {image_id: members[image_id] for image_id in rows["id"]}


def combination_facts(run: Run) -> dict[str, Any] | None:
    """Returns the content of an ensemble's ensemble.json; None for a single run, which combines nothing."""
    return read_json(run.paths / ENSEMBLE) if run.loaded.is_ensemble else None


def leaked_pairs(members: Sequence[Run], held_out: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """Returns train_id, valid_id, distance of near-duplicates between validation images and what members trained on.

    Args:
        held_out: numbers of the members that were not trained on an image, by its id.
    """
    tables = []
    for number, member in enumerate(members):
        leaks = read_table(member.paths / LEAKAGE, ("train_id", "valid_id", "distance"))
        is_held_out = pd.Series([number in held_out.get(valid_id, ()) for valid_id in leaks["valid_id"]], dtype=bool)
        tables.append(leaks[is_held_out])
    return pd.concat(tables).drop_duplicates().reset_index(drop=True)


def weights_used(run: Run) -> dict[str, str]:
    """Returns which weights a run predicts with, where AVERAGE has decided that."""
    return {"weights": read_json(run.paths / AVERAGE)["weights"]} if run.loaded.is_averaged else {}
