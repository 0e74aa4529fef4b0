"""The argument parsers of the commands, and the arguments that several commands share. Standard library only."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.commands.table import COMMANDS
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.config.competition import Competition


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit code 2, like every other mistake of the user's."""

    def __init__(self, **options: Any) -> None:
        # Raw: descriptions and examples are printed as they are written.
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")

    def parse_args(self, *arguments: Any) -> Any:
        """Returns the arguments; options may stand before, between and after the others."""
        return self.parse_intermixed_args(*arguments)

    def options(self) -> list[str]:
        """Returns the options as they are typed, `--help` among them."""
        return [option for action in self._actions for option in action.option_strings]


def parser(name: str) -> Parser:
    """Returns the parser of one command."""
    command = COMMANDS[name]
    prog, description = f"./run.sh {name}", f"{command.summary[0].upper()}{command.summary[1:]}."
    return Parser(prog=prog, description=description, epilog=f"example: {prog} {command.example}".rstrip())


def add_config(options: Parser) -> None:
    """Adds NAME and KEY=VALUE, the config of a run, as `name` and `overrides`."""
    options.add_argument("name", metavar="NAME", help="a config: configs/NAME.yaml")
    meaning = "other settings; the run folder is then that of a run with these settings"
    options.add_argument("overrides", metavar="KEY=VALUE", nargs="*", default=(), help=meaning)


def add_competition(options: Parser, note: str) -> None:
    """Adds the option `--competition`; `note` ends its help."""
    options.add_argument("--competition", metavar="NAME", help=f"configs/competitions/NAME.yaml; {note}")


def chosen_competition(command: str, given: str | None, files: Sequence[Path] = ()) -> Competition:
    """Returns the competition `given`, or else the one that the .json beside a submission names.

    Raises:
        UserError: a file does not exist, no competition is named, or two files are from different ones.
    """
    from pipeline.config.load import competition_names, load_competition

    for file in files:
        if not file.is_file():
            raise UserError(f"./run.sh {command}: there is no file {file}; expected a submission")
    if given is not None:
        return load_competition(given)
    found = {file: name for file in files if (name := _competition_beside(file)) is not None}
    if len(set(found.values())) > 1:
        pairs = "; ".join(f"{file} is from {name}" for file, name in found.items())
        raise UserError(f"./run.sh {command}: {pairs}. To treat both as one competition's, add --competition NAME")
    if not found:
        origins = " or ".join(str(file.with_suffix(".json")) for file in files)
        why = f"no {origins} names the competition" if files else "no competition is named"
        raise UserError(f"./run.sh {command}: {why}; add --competition NAME, one of {', '.join(competition_names())}")
    return load_competition(next(iter(found.values())))


def _competition_beside(csv_path: Path) -> str | None:
    """Returns the competition in the .json beside a submission: its own entry, or that of its experiment's config."""
    from pipeline.config.load import load

    try:
        origin = json.loads(csv_path.with_suffix(".json").read_text(encoding="utf-8"))
        if isinstance(origin, dict) and "competition" in origin:
            return str(origin["competition"])
        return load(str(origin["experiment"])).competition.name  # written before origins named it
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None
