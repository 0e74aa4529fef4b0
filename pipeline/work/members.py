"""An ensemble's members: their runs, what decides their predictions, and which images they were not trained on.

A validation image is combined only from members that did not train on it, nor started from a run that did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.chain import Run, Stage, run_chain, take_over, why_run
from pipeline.config.check import is_below
from pipeline.config.ensemble import load_members, member_command
from pipeline.config.load import Loaded, is_machine_key, run_name
from pipeline.errors import DiskTooSmall, UserError
from pipeline.files import sha256_file
from pipeline.paths import CONFIGS, RunPaths
from pipeline.report.read import read_columns, read_config, read_json
from pipeline.work.experiment import competition_files, find_run

if TYPE_CHECKING:
    import pandas as pd

PREDICTING = ("evaluate", "predict")  # the stages of a member that an ensemble may start by itself
WITHOUT_STORES = (
    "Or do without the members' probability stores: add ENSEMBLE.STREAM=true. They then predict and are combined "
    "image by image, with the same result, but anew for every METHOD that you try."
)


def member_runs(run: Run) -> list[Run]:
    """Returns the members as runs of their own, in the order of ENSEMBLE.MEMBERS."""
    return [Run(member, RunPaths(member.run), run.stop) for member in load_members(run.loaded)]


def member_sources(run: Run) -> dict[str, Path | list[Path]]:
    """Returns what decides the members' predictions: the competition, their checkpoints and configs."""
    sources: dict[str, Path | list[Path]] = {"the competition's files": competition_files(run)}
    for member in member_runs(run):
        files = {origin.rpartition(":")[0] for origin in member.loaded.origins.values()}
        sources[f"{member.paths.name}'s checkpoint"] = member.paths / "best.ckpt"
        sources[f"{member.loaded.name}'s config"] = sorted(CONFIGS.parent / file for file in files if file)
    return sources


def member_stores(run: Run, subset: str) -> dict[str, Path | list[Path]]:
    """Returns the members' probability stores of the `test` or `valid` images, by a name for messages.

    None with ENSEMBLE.STREAM: members.json says then what decides their predictions.
    """
    if run.loaded.config.ensemble.stream:
        return {}
    return {f"{member.paths.name}'s probs/{subset}": member.paths.probs(subset) for member in member_runs(run)}


def lacks_predictions(run: Run) -> bool:
    """Returns whether a member's probabilities, where they are wanted, are gone."""
    if run.loaded.config.ensemble.stream:
        return False
    folders = [member.paths.probs(subset) for member in member_runs(run) for subset in ("valid", "test")]
    return not all((folder / "index.json").is_file() for folder in folders)


def _as_of(member: Run, say: Callable[[str], None]) -> Callable[[str], None]:
    return lambda line: say(f"{member.paths.name}: {line}")


def require_trained(
    members: Sequence[Run], stages_of: Callable[[Loaded], tuple[Stage, ...]], say: Callable[[str], None]
) -> None:
    """Refuses members without a finished training, or whose training is not what their config says now.

    Raises:
        UserError: names each with the command to type; no training is started here.
    """
    lines = []
    for member in members:
        stages = {stage.name: stage for stage in stages_of(member.loaded)}
        take_over(stages_of(member.loaded), "train", member, _as_of(member, say))  # other TTA trains nothing anew
        if not (member.paths.markers / "train.json").is_file() or not (member.paths / "best.ckpt").is_file():
            lines.append((member, "not trained"))
            continue
        run_chain([stages["prepare"]], "prepare", member, (), lambda line: None)
        reason = why_run(stages["train"], member)
        if reason is not None:
            lines.append((member, f"trained otherwise: {reason}"))
    if lines:
        width = max(len(member.paths.name) for member, _ in lines)
        commands = [
            f"  {member.paths.name:<{width}}  {why}; type: {member_command(member.loaded, 'train')}"
            for member, why in lines
        ]
        raise UserError("\n".join([f"{len(lines)} of {len(members)} members cannot predict yet:", *commands]))


def predict_members(
    members: Sequence[Run], stages_of: Callable[[Loaded], tuple[Stage, ...]], say: Callable[[str], None]
) -> None:
    """Runs the stages of each member that write its probabilities, where they are not fresh.

    Raises:
        UserError: a member's mistake; where the disk is too small, also how to do without the stores.
    """
    for member in members:
        stages = [stage for stage in stages_of(member.loaded) if stage.name in PREDICTING]
        name = member.paths.name
        try:
            run_chain(stages, PREDICTING[-1], member, (), _as_of(member, say))
        except DiskTooSmall as error:
            raise UserError(f"{name}: {error}\n{WITHOUT_STORES}") from error


def require_alike(members: Sequence[Run], is_streamed: bool) -> None:
    """Refuses members that differ in test images, or whose stores differ in competition or classes.

    Raises:
        UserError: names the members and what differs.
    """
    from pipeline.data.catalog import read_catalog
    from pipeline.inference.ensemble import check_members
    from pipeline.inference.probability_store import ProbabilityStore

    if is_streamed:
        catalogs = {member.paths.name: read_catalog(member.paths / "catalog.csv") for member in members}
        ids = {name: set(table.loc[table["subset"] == "test", "id"]) for name, table in catalogs.items()}
    else:
        stores = {member.paths.name: ProbabilityStore(member.paths.probs("test")) for member in members}
        check_members({name: store.index for name, store in stores.items()})
        ids = {name: set(store.ids) for name, store in stores.items()}
    first, *others = ids
    for name in others:
        unlike = ids[name] ^ ids[first]
        if unlike:
            raise UserError(f"{name} and {first} predict other test images, such as {min(unlike)}; run both again")


def member_facts(member: Run, stages_of: Callable[[Loaded], tuple[Stage, ...]]) -> dict[str, Any]:
    """Returns what members.json has of a member: its names, what decides its predictions, its own scores."""
    metrics = read_json(member.paths / "metrics.json") or {}
    (predict,) = (stage for stage in stages_of(member.loaded) if stage.name == PREDICTING[-1])
    values = member.loaded.values.items()
    split = member.loaded.config.datasets
    return {
        "name": member.loaded.name,
        "run": member.paths.name,
        "run_name": run_name(member.loaded.config),
        "checkpoint_sha256": sha256_file(member.paths / "best.ckpt"),
        "settings": {
            key: value for key, value in values if is_below(key, predict.settings) and not is_machine_key(key)
        },
        "split": {"by": split.split.by, "index": split.split_index},
        "score": metrics.get("score"),
        "scores": {name: family["mean"] for name, family in metrics.get("scores", {}).items()},
        "images": metrics.get("images"),
    }


def held_out_table(members: Sequence[Run], catalog: pd.DataFrame) -> pd.DataFrame:
    """Returns id, subset, members of the public images: `valid` where a member predicted it and did not train on it.

    `members` holds the numbers of those members, such as "0 3".

    Raises:
        UserError: there is no such image.
    """
    import pandas as pd

    out_of_fold = []
    for member in members:
        seen = trained_on(member.paths.folder, member.loaded.config.experiment.load_prev)
        own = read_columns(member.paths / "split.csv")
        valid = {id for id, subset in zip(own["id"], own["subset"], strict=True) if subset == "valid"}
        out_of_fold.append(set() if seen is None else valid - seen)
    ids = catalog.loc[catalog["subset"] == "train", "id"].tolist()
    numbers = [" ".join(str(number) for number, own in enumerate(out_of_fold) if id in own) for id in ids]
    if not any(numbers):
        raise UserError(
            "each member was trained on every public image, so no image is left to score the ensemble on; "
            "take members of different slices into ENSEMBLE.MEMBERS"
        )
    return pd.DataFrame({"id": ids, "subset": ["valid" if own else "train" for own in numbers], "members": numbers})


def leaked_pairs(members: Sequence[Run], held_out: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """Returns train_id, valid_id, distance of near-duplicates between validation images and what members trained on.

    Args:
        held_out: numbers of the members that were not trained on an image, by its id.
    """
    import pandas as pd

    tables = []
    for number, member in enumerate(members):
        leaks = pd.read_csv(member.paths / "leakage.csv", dtype=str, keep_default_na=False)
        is_held_out = pd.Series([number in held_out.get(valid_id, ()) for valid_id in leaks["valid_id"]], dtype=bool)
        tables.append(leaks[is_held_out])
    return pd.concat(tables).drop_duplicates().reset_index(drop=True)


def trained_on(folder: Path, load_prev: str | None, seen: tuple[Path, ...] = ()) -> set[str] | None:
    """Returns the images that a run's weights have seen, those of the runs it started from included.

    None: it started from a file of which nothing is known.
    """
    split = read_columns(folder / "split.csv")
    if split is None or folder in seen:
        return None
    ids = {id for id, subset in zip(split["id"], split["subset"], strict=True) if subset == "train"}
    if load_prev is None:
        return ids
    previous = find_run(load_prev).parent
    values = read_config(previous / "config.yaml") or {}
    earlier = trained_on(previous, values.get("EXPERIMENT.LOAD_PREV"), (*seen, folder))
    return None if earlier is None else ids | earlier
