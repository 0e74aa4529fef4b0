"""Who an ensemble's members are, and what decides their predictions; without torch and pandas, as in `inputs.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from pipeline.config.ensemble import is_ensemble, load_members
from pipeline.engine.run import Run, Sources
from pipeline.errors import UserError
from pipeline.paths import BEST, CONFIGS, INDEX, PROBS
from pipeline.work.inputs import sample_submission, test_files, training_files, training_images


def member_runs(run: Run) -> list[Run]:
    """Returns an ensemble's members as runs of their own, in the order of ENSEMBLE.MEMBERS; else the run itself."""
    if not is_ensemble(run.loaded):
        return [run]
    return [run.of(member).with_log(_prefixed(run.log, member.run)) for member in load_members(run.loaded)]


def member_sources(run: Run) -> Sources:
    """Returns what decides the members' predictions: the competition, their checkpoints and configs.

    Members that are finished need no training image: a hidden test set is predicted without the competition.
    """
    sources = dict(test_files(run))
    with contextlib.suppress(UserError):
        sources |= training_files(run)
    for member in member_runs(run):
        files = {origin.rpartition(":")[0] for origin in member.loaded.origins.values()}
        sources[f"{member.name}'s checkpoint"] = member.paths / BEST
        sources[f"{member.loaded.name}'s config"] = sorted(CONFIGS.parent / file for file in files if file)
    return sources


def member_stores(run: Run, subset: str) -> Sources:
    """Returns the members' probability stores of the `test` or `valid` images, by a name for messages.

    None with ENSEMBLE.STREAM: members.json says then what decides their predictions.
    """
    if run.loaded.config.ensemble.stream:
        return {}
    return {f"{member.loaded.name}'s {PROBS[subset]}": member.paths / PROBS[subset] for member in member_runs(run)}


def held_out_sources(run: Run) -> Sources:
    """Returns the members' stores of the validation images, and these images with their labels."""
    return member_stores(run, "valid") | training_images(run)


def test_sources(run: Run) -> Sources:
    """Returns the members' stores of the test images, and the sample submission."""
    return member_stores(run, "test") | sample_submission(run)


def lacks_predictions(run: Run) -> bool:
    """Returns whether a member's probabilities, where they are wanted, are gone."""
    if run.loaded.config.ensemble.stream:
        return False
    folders = [member.paths / probs for member in member_runs(run) for probs in PROBS.values()]
    return not all((folder / INDEX).is_file() for folder in folders)


def _prefixed(log: Callable[[str], None], name: str) -> Callable[[str], None]:
    return lambda line: log(f"{name}: {line}")
