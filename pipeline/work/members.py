"""Who an ensemble's members are: their runs, what decides their predictions, and which images each may judge.

A validation image is judged only by members that did not train on it, nor started from a run that did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.config.ensemble import member_command
from pipeline.config.keys import is_below
from pipeline.config.load import is_machine_key, run_name
from pipeline.data.catalog import read_catalog
from pipeline.data.split import read_split
from pipeline.engine.chain import reuse_finished, run_chain, why_run
from pipeline.engine.run import Run
from pipeline.errors import DiskTooSmall, UserError
from pipeline.files import sha256_file
from pipeline.inference.ensemble import check_members
from pipeline.inference.probability_store import ProbabilityStore
from pipeline.paths import BEST, CONFIG, LEAKAGE, METRICS, PROBS, SPLIT, TEST_CATALOG, Folders
from pipeline.report.read import read_columns, read_config, read_json
from pipeline.training.inputs import find_checkpoint, split_rows

PREDICTING = ("evaluate", "testset", "predict")  # the stages of a member that an ensemble may start by itself
WITHOUT_STORES = (
    "Or do without the members' probability stores: add ENSEMBLE.STREAM=true. They then predict and are combined "
    "image by image, with the same result, but anew for every METHOD that you try."
)


def require_trained(members: Sequence[Run]) -> None:
    """Refuses members without a finished training, or whose training is not what their config says now.

    Raises:
        UserError: names each with the command to type; no training is started here.
    """
    lines = []
    for member in members:
        reuse_finished(member, PREDICTING[-1])  # another TTA needs no training
        if not (member.paths.markers / "train.json").is_file() or not (member.paths / BEST).is_file():
            lines.append((member, "not trained"))
            continue
        run_chain(member.with_log(lambda line: None), "testset")
        reason = why_run(member.stage("train"), member)
        if reason is not None:
            lines.append((member, f"trained with other settings or data: {reason}"))
    if lines:
        width = max(len(member.name) for member, _ in lines)
        commands = [
            f"  {member.name:<{width}}  {why}; type: {member_command(member.loaded, 'train')}" for member, why in lines
        ]
        raise UserError("\n".join([f"{len(lines)} of {len(members)} members cannot predict yet:", *commands]))


def predict_members(members: Sequence[Run]) -> None:
    """Runs the stages of each member that write its probabilities, where they are not fresh.

    Raises:
        UserError: a member's mistake; where the disk is too small, also how to do without the stores.
    """
    for member in members:
        stages = [stage for stage in member.stages if stage.name in PREDICTING]
        try:
            run_chain(member, PREDICTING[-1], stages=stages)
        except DiskTooSmall as error:
            raise UserError(f"{member.name}: {error}\n{WITHOUT_STORES}") from error


def require_alike(members: Sequence[Run], is_streamed: bool) -> None:
    """Refuses members that differ in test images, or whose stores differ in competition or classes.

    Raises:
        UserError: names the members and what differs.
    """

    if is_streamed:
        ids = {member.name: set(read_catalog(member.paths / TEST_CATALOG)["id"]) for member in members}
    else:
        stores = {member.name: ProbabilityStore(member.paths / PROBS["test"]) for member in members}
        check_members({name: store.index for name, store in stores.items()})
        ids = {name: set(store.ids) for name, store in stores.items()}
    first, *others = ids
    for name in others:
        unlike = ids[name] ^ ids[first]
        if unlike:
            raise UserError(f"{name} and {first} predict other test images, such as {min(unlike)}; run both again")


def member_facts(member: Run) -> dict[str, Any]:
    """Returns what members.json says of a member: who it is, what decides its predictions, its own score."""
    metrics = read_json(member.paths / METRICS) or {}
    predict = member.stage("predict")
    values = member.loaded.values.items()
    split = member.loaded.config.datasets
    return {
        "name": member.loaded.name,
        "run_name": run_name(member.loaded.config),
        "checkpoint_sha256": sha256_file(member.paths / BEST),
        "settings": {
            key: value for key, value in values if is_below(key, predict.settings) and not is_machine_key(key)
        },
        "split": {"by": split.split.by, "index": split.split_index},
        "dice": metrics.get("dice", {}).get("mean"),
        "iou": metrics.get("iou", {}).get("mean"),
        "images": metrics.get("images"),
    }


def judges_table(members: Sequence[Run], catalog: pd.DataFrame) -> pd.DataFrame:
    """Returns id, subset, judges of the public images: `valid` where a member predicted it and did not train on it.

    `judges` holds the numbers of those members, such as "0 3".

    Raises:
        UserError: there is no such image.
    """
    judged = []
    for member in members:
        seen = trained_on(member)
        own = read_columns(member.paths / SPLIT)
        valid = {id for id, subset in zip(own["id"], own["subset"], strict=True) if subset == "valid"}
        judged.append(set() if seen is None else valid - seen)
    ids = catalog["id"].tolist()
    judges = [" ".join(str(number) for number, known in enumerate(judged) if id in known) for id in ids]
    if not any(judges):
        raise UserError("every public image was trained on by all members, so the ensemble cannot be judged")
    return pd.DataFrame({"id": ids, "subset": ["valid" if one else "train" for one in judges], "judges": judges})


def members_by_image(split: pd.DataFrame) -> dict[str, list[int]]:
    """Returns the numbers of the members for which an image is held out, by its id, from an ensemble's split.csv."""
    return {row.id: [int(word) for word in row.judges.split()] for row in split.itertuples()}


def held_out_rows(run: Run) -> tuple[pd.DataFrame, dict[str, list[int]]]:
    """Returns the catalog rows of an ensemble's out-of-fold images, and the members for which each is held out."""
    rows, members = split_rows(run.paths, "valid"), members_by_image(read_split(run.paths / SPLIT))
    return rows, {image_id: members[image_id] for image_id in rows["id"]}


def leaked_pairs(members: Sequence[Run], judges: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """Returns train_id, valid_id, distance of near-duplicates between a judged image and what a judge trained on.

    Args:
        judges: the numbers of the members that judge an image, by its id.
    """
    tables = []
    for number, member in enumerate(members):
        leaks = pd.read_csv(member.paths / LEAKAGE, dtype=str, keep_default_na=False)
        is_judged = pd.Series([number in judges.get(valid_id, ()) for valid_id in leaks["valid_id"]], dtype=bool)
        tables.append(leaks[is_judged])
    return pd.concat(tables).drop_duplicates().reset_index(drop=True)


def trained_on(member: Run) -> set[str] | None:
    """Returns the images that a run's weights have seen; None where it started from a file of unknown origin."""
    return _trained_on(member.paths.folder, member.loaded.config.experiment.load_prev, member.folders)


def _trained_on(folder: Path, load_prev: str | None, folders: Folders, seen: tuple[Path, ...] = ()) -> set[str] | None:
    """Returns the images that a run's weights have seen, those of the runs it started from included.

    None: it started from a file of which nothing is known.
    """
    split = read_columns(folder / SPLIT)
    if split is None or folder in seen:
        return None
    ids = {id for id, subset in zip(split["id"], split["subset"], strict=True) if subset == "train"}
    if load_prev is None:
        return ids
    previous = find_checkpoint(load_prev, folders).parent
    values = read_config(previous / CONFIG) or {}
    earlier = _trained_on(previous, values.get("EXPERIMENT.LOAD_PREV"), folders, (*seen, folder))
    return None if earlier is None else ids | earlier
