"""The members of an ensemble as configs of their own: with the overrides that were typed for the ensemble.

A member is written as it is typed behind `./run.sh`: a config, and overrides where its run had some. Its run folder
follows from that, so that a member means the same on every machine.

In: a resolved ensemble. Out: the resolved configs of its members. Needs no torch.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence

from pipeline.config.load import COMBINING_KEYS, Loaded, load, names
from pipeline.errors import UserError
from pipeline.wording import is_below

RUN_FOLDER = re.compile(r"(.+)-[0-9a-f]{8}")  # of a run with overrides


def load_members(loaded: Loaded) -> tuple[Loaded, ...]:
    """Returns the resolved configs of an ensemble's members, in the order of ENSEMBLE.MEMBERS.

    Raises:
        UserError: a member is unknown, from another competition, an ensemble itself, or the same run as another; with
            origin and remedy.
    """
    origin = f"{loaded.origins['ENSEMBLE.MEMBERS']}: ENSEMBLE.MEMBERS"
    members, overrides = [], overrides_of(loaded, COMBINING_KEYS)
    written: dict[str, str] = {}  # by the run
    for name in loaded.config.ensemble.members or ():
        try:
            member = _load_member(name, overrides, loaded.trusts_code)
        except UserError as error:
            raise UserError(f"{origin}: member {name}: {error}") from None
        if (other := written.setdefault(member.run, name)) != name:
            raise UserError(f"{origin}: {name} is the same run as {other}; keep one")
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


def _load_member(text: str, overrides: Sequence[str], trusts_code: bool) -> Loaded:
    """Returns the config of a member; an override of the ensemble replaces the member's own value."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{error} in {text!r}; write what is typed behind ./run.sh") from None
    name, *own = words or [""]
    if (match := RUN_FOLDER.fullmatch(name)) and name not in names() and match[1] in names():
        why = f"is a run folder; a member is written as its run was typed, such as {match[1]} SOLVER.POWER=2"
        raise UserError(f"{why}. The second line of the folder's config says which keys it overrides")
    given = {word.partition("=")[0] for word in overrides}
    kept = [word for word in own if word.partition("=")[0] not in given]
    return load(name, (*kept, *overrides), trusts_code)


def member_names(members: Sequence[Loaded]) -> list[str]:
    """Returns what members are called: by their configs, or by their run folders where several are of one config."""
    configs = [member.name for member in members]
    return [member.run if configs.count(member.name) > 1 else member.name for member in members]


def member_command(member: Loaded, stage: str) -> str:
    """Returns what to type to run a stage of a member, or of any run, with the overrides of its run."""
    return shlex.join(["./run.sh", member.name, *overrides_of(member), stage])


def overrides_of(loaded: Loaded, left_out: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Returns the overrides of a config as KEY=VALUE, without those of the keys or groups `left_out`."""
    values = {key: loaded.values[key] for key in loaded.changed if not is_below(key, left_out)}
    is_word = {key: isinstance(value, str) and value.isidentifier() for key, value in values.items()}
    return tuple(f"{key}={value if is_word[key] else json.dumps(value)}" for key, value in values.items())
