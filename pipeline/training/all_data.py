"""Training on all images (DATASETS.SPLIT.BY: none): how long, and at which rate, by a run that had a validation.

In: the history of the run that SOLVER.FROM names. Out: the plan that leads to its best weights, with nothing left to
decide: each phase has the epochs that it had there on the way to the best epoch, no patience, and goes on from the last
weights, which are those that the other run went back to.

Needs no torch, so that a skipped stage starts fast.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.config.load import Loaded, with_max_lr
from pipeline.config.load import names as config_names
from pipeline.config.plan import Phase
from pipeline.engine.freshness import read_marker
from pipeline.errors import UserError
from pipeline.files import fits, read_json
from pipeline.paths import HISTORY, SWEEP_FACTS, Folders, RunPaths, shown
from pipeline.training.inputs import how_to_train

Columns = Mapping[str, Sequence[str]]

SETTINGS = {"SOLVER.PLAN": [{"name": str, "start_from": str}]}  # what is read of those of another run


def source_of(loaded: Loaded, folders: Folders) -> RunPaths:
    """Returns the files of the run that SOLVER.FROM names."""
    return folders.run(loaded.config.solver.from_)


def check_source(loaded: Loaded, folders: Folders) -> None:
    """Refuses a SOLVER.FROM that is not trained, is on all images itself, or is of other data or phases.

    Raises:
        UserError: says what was found, and what to type.
    """
    fixed_plan(loaded, loaded.plan, folders)


def settled_plan(loaded: Loaded, folders: Folders) -> tuple[Phase, ...]:
    """Returns the plan of a run on all images, with the lengths and, where MAX_LR is auto, the rate of SOLVER.FROM.

    Raises:
        UserError: see `check_source`.
    """
    plan = fixed_plan(loaded, loaded.plan, folders)
    if loaded.config.solver.max_lr != "auto":
        return plan
    source, settings = source_of(loaded, folders), settings_of_source(loaded, folders)
    max_lr = settings.get("SOLVER.MAX_LR")
    if max_lr == "auto":
        max_lr = (read_json(source / SWEEP_FACTS, {"max_lr": (int, float)}) or {}).get("max_lr")
    if max_lr is None:
        raise UserError(
            f"SOLVER.MAX_LR: auto takes the rate of {source.name}, whose {SWEEP_FACTS} is gone; give a number"
        )
    return fixed_plan(loaded, with_max_lr(loaded, max_lr), folders)


def fixed_plan(loaded: Loaded, plan: Sequence[Phase], folders: Folders) -> tuple[Phase, ...]:
    """Returns a plan as long as it was on the way to the best weights of the run that SOLVER.FROM names."""
    name, settings = loaded.config.solver.from_, settings_of_source(loaded, folders)
    from pipeline.data.table import read_table

    columns = ("phase", "is_best")
    history = read_table(source_of(loaded, folders) / HISTORY, columns)[[*columns]].to_dict("list")
    theirs = [phase["name"] for phase in settings["SOLVER.PLAN"]]
    if theirs != [phase.name for phase in plan]:
        found = f"{name} has the phases {', '.join(theirs)}, this plan {', '.join(phase.name for phase in plan)}"
        raise UserError(f"SOLVER.FROM: {found}; use the same SOLVER.PLAN")
    reverts = {phase["name"] for phase in settings["SOLVER.PLAN"] if phase["start_from"] == "best"}
    lengths = epochs_to_best(history, reverts, name)
    return tuple(
        replace(
            phase,
            epochs=lengths[phase.name],
            curve_epochs=max(phase.curve_epochs or phase.epochs, lengths[phase.name]),
            patience=None,
            start_from="last",
        )
        for phase in plan
        if lengths.get(phase.name)
    )


def settings_of_source(loaded: Loaded, folders: Folders) -> Mapping[str, Any]:
    """Returns the settings by which the run was trained that SOLVER.FROM names."""
    source, name = source_of(loaded, folders), loaded.config.solver.from_
    marker = read_marker(source.marker("train"))
    is_whole = marker is not None and fits(marker.settings, SETTINGS)
    if not is_whole or not (source / HISTORY).is_file():
        fix = f"train and score it first{how_to_train(name, 'evaluate')}"
        if name not in config_names() and not source.folder.is_dir():
            fix = "no config and no run has this name"
        raise UserError(f"SOLVER.FROM: {name} is not trained ({shown(source.folder)}); {fix}")
    if marker.settings.get("DATASETS.SPLIT.BY") == "none":
        raise UserError(f"SOLVER.FROM: {name} was itself trained on all images; name a run with a validation")
    theirs, own = marker.settings.get("DATASETS.COMPETITION"), loaded.competition.name
    if theirs != own:
        raise UserError(f"SOLVER.FROM: {name} is of {theirs}, this config of {own}; name a run of the same competition")
    return marker.settings


def epochs_to_best(history: Columns, reverts: Collection[str], name: str = "the run") -> dict[str, int]:
    """Returns the number of epochs of each phase on the way to the best weights, by name.

    A phase that goes back to the best weights so far makes what lay between them and it count nothing.

    Args:
        reverts: names of phases that start from the best weights.

    Raises:
        UserError: no epoch was the best.

    >>> history = {"phase": ["flat"] * 4 + ["anneal"] * 2, "is_best": ["0", "1", "0", "0", "0", "1"]}
    >>> epochs_to_best(history, {"anneal"}), epochs_to_best(history, ())
    ({'flat': 1, 'anneal': 2}, {'flat': 3, 'anneal': 2})
    """
    phases = history["phase"]
    best = [epoch for epoch, value in enumerate(history["is_best"]) if value == "1" and epoch > 0]
    if not best:
        raise UserError(f"SOLVER.FROM: no epoch of {name} is marked as its best; name a run that improved in training")
    lengths: dict[str, int] = {}
    epoch = best[-1]
    while epoch > 0:
        phase = phases[epoch]
        lengths[phase] = lengths.get(phase, 0) + 1
        is_first = epoch == 1 or phases[epoch - 1] != phase
        if is_first and phase in reverts:
            epoch = max((one for one in best if one < epoch), default=0)
        else:
            epoch -= 1
    return dict(reversed(lengths.items()))
