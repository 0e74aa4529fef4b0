"""The name of a run on the command line, which stands for its config and its overrides."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.paths import CONFIG
from pipeline.wording import is_below

RUN_FOLDER = re.compile(r"[^=/]{1,200}-[0-9a-f]{8}")  # of a run with overrides


def of_run(name: str, words: Sequence[str], runs: Path) -> tuple[str, list[str]]:
    """Returns the config and the overrides of the run of this name; the name itself and none where it is no run's.

    Args:
        words: that are typed behind it; an override among them replaces that of the run.

    Raises:
        UserError: the same config and overrides are another run now, as a config was changed.
    """
    if not RUN_FOLDER.fullmatch(name) or not (runs / name / CONFIG).is_file():
        return name, []

    from pipeline.config.load import load
    from pipeline.report.folders import config_of, typed_for

    config, *overrides = typed_for(runs / name, config_of(runs / name))
    if (run := load(config, overrides).run) != name:
        command = shlex.join(["./run.sh", config, *overrides])
        changed = f"{name} was made with other values in {config} or base.yaml"
        raise UserError(f"{changed}; with the values that they have now, the run is {run}. Type: {command}")
    given = [word.partition("=")[0] for word in words if "=" in word]
    return config, [word for word in overrides if not is_below(word.partition("=")[0], given)]
