"""Loads the configs of an ensemble's members.

An override of an ensemble that does not concern combining, such as PREDICT.TTA=flip or DATASETS.SPLIT.BY=sequence, is
passed on to every member: each then has its own run with that setting, as if it had been typed for the member.
"""

from __future__ import annotations

import json
import shlex

from pipeline.config.load import Loaded, load
from pipeline.errors import UserError
from pipeline.wording import is_below

OWN_KEYS = ("ENSEMBLE", "DECODE")  # not passed on to members


def is_ensemble(loaded: Loaded) -> bool:
    """Returns whether a config combines members instead of training a network."""
    return loaded.config.ensemble.members is not None


def member_overrides(loaded: Loaded) -> tuple[str, ...]:
    """Returns the overrides of an ensemble that are passed on to its members, as KEY=VALUE."""
    kept = (key for key in loaded.changed if not is_below(key, OWN_KEYS))
    return tuple(f"{key}={_written(loaded.values[key])}" for key in kept)


def load_members(loaded: Loaded) -> tuple[Loaded, ...]:
    """Returns the resolved configs of an ensemble's members, in the order of ENSEMBLE.MEMBERS.

    Raises:
        UserError: a member is unknown, from another competition, or an ensemble itself; with origin and remedy.
    """
    origin = f"{loaded.origins['ENSEMBLE.MEMBERS']}: ENSEMBLE.MEMBERS"
    members = []
    for name in loaded.config.ensemble.members or ():
        try:
            member = load(name, member_overrides(loaded))
        except UserError as error:
            raise UserError(f"{origin}: member {name}: {error}") from None
        if is_ensemble(member):
            raise UserError(f"{origin}: {name} is an ensemble; give its members instead")
        if member.competition != loaded.competition:
            raise UserError(
                f"{origin}: {name} is from the competition {member.competition.name}, {loaded.name} from "
                f"{loaded.competition.name}; set DATASETS.COMPETITION, or remove {name}"
            )
        members.append(member)
    return tuple(members)


def member_command(member: Loaded, stage: str) -> str:
    """Returns what to type to run a stage of a member, with the overrides of its run."""
    overrides = (f"{key}={_written(member.values[key])}" for key in member.changed)
    return " ".join(["./run.sh", member.name, *map(shlex.quote, overrides), stage])


def _written(value: object) -> str:
    return value if isinstance(value, str) and value.isidentifier() else json.dumps(value)
