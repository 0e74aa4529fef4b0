"""The members of an ensemble as configs of their own: with the overrides that were typed for the ensemble.

In: a resolved ensemble. Out: the resolved configs of its members. Needs no torch.
"""

from __future__ import annotations

import json
import shlex

from pipeline.config.load import COMBINING_KEYS, Loaded, load
from pipeline.errors import UserError
from pipeline.wording import is_below


def load_members(loaded: Loaded) -> tuple[Loaded, ...]:
    """Returns the resolved configs of an ensemble's members, in the order of ENSEMBLE.MEMBERS.

    Raises:
        UserError: a member is unknown, from another competition, or an ensemble itself; with origin and remedy.
    """
    origin = f"{loaded.origins['ENSEMBLE.MEMBERS']}: ENSEMBLE.MEMBERS"
    members, overrides = [], _overrides(loaded, COMBINING_KEYS)
    for name in loaded.config.ensemble.members or ():
        try:
            member = load(name, overrides, loaded.trusts_code)
        except UserError as error:
            raise UserError(f"{origin}: member {name}: {error}") from None
        if member.is_on_all_images:
            why = (
                "is trained on all images (DATASETS.SPLIT.BY: none), so no image is out of fold for it and the ensemble"
            )
            raise UserError(f"{origin}: {name} {why} could not be scored with it; name its SOLVER.FROM instead")
        if member.is_ensemble:
            raise UserError(f"{origin}: {name} is an ensemble; give its members instead")
        if member.config.submit.time_limit_hours is not None:
            why = "sets SUBMIT.TIME_LIMIT_HOURS, but only the ensemble has a time limit"
            raise UserError(f"{origin}: member {name} {why}; remove it there, and give --time-limit to {loaded.name}")
        if member.competition != loaded.competition:
            raise UserError(
                f"{origin}: {name} is from the competition {member.competition.name}, {loaded.name} from "
                f"{loaded.competition.name}; set DATASETS.COMPETITION, or remove {name}"
            )
        members.append(member)
    return tuple(members)


def member_command(member: Loaded, stage: str) -> str:
    """Returns what to type to run a stage of a member, or of any run, with the overrides of its run."""
    return " ".join(["./run.sh", member.name, *map(shlex.quote, _overrides(member)), stage])


def _overrides(loaded: Loaded, left_out: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Returns the overrides of a config as KEY=VALUE, without those of the groups `left_out`."""
    values = {key: loaded.values[key] for key in loaded.changed if not is_below(key, left_out)}
    is_word = {key: isinstance(value, str) and value.isidentifier() for key, value in values.items()}
    return tuple(f"{key}={value if is_word[key] else json.dumps(value)}" for key, value in values.items())
