"""How the commands that are not stages read what is typed behind them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.config.competition import Competition


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line and exit code 2, like every other mistake of the user's."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def parser(name: str) -> Parser:
    """Returns the parser of one command."""
    return Parser(prog=f"./run.sh {name}", add_help=False, allow_abbrev=False)


def chosen_competition(command: str, given: str | None, files: Sequence[Path] = ()) -> Competition:
    """Returns the competition that is meant: the one `given`, or what the .json beside a submission says of its origin.

    Raises:
        UserError: a file is not there, nothing says the competition, or two files are of different ones.
    """
    from pipeline.config.load import competition_names, load_competition

    for file in files:
        if not file.is_file():
            raise UserError(f"./run.sh {command}: there is no file {file}; expected a submission")
    if given is not None:
        return load_competition(given)
    found = {file: name for file in files if (name := _competition_beside(file)) is not None}
    if len(set(found.values())) > 1:
        said = "; ".join(f"{file} is of {name}" for file, name in found.items())
        raise UserError(f"./run.sh {command}: {said}. If both are meant as one's, name it: --competition NAME")
    if not found:
        silent = f": no {' or '.join(str(file.with_suffix('.json')) for file in files)} says it" if files else ""
        raise UserError(
            f"./run.sh {command}: which competition{silent}; add --competition NAME, "
            f"one of {', '.join(competition_names())}"
        )
    return load_competition(next(iter(found.values())))


def _competition_beside(csv_path: Path) -> str | None:
    """Returns the competition that the origin beside a submission names, itself or by its experiment."""
    from pipeline.config.load import load

    try:
        origin = json.loads(csv_path.with_suffix(".json").read_text(encoding="utf-8"))
        if isinstance(origin, dict) and "competition" in origin:
            return str(origin["competition"])
        return load(str(origin["experiment"])).competition.name  # written before origins named it
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None
