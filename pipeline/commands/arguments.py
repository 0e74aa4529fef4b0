"""How the commands that are not stages read what is typed behind them."""

from __future__ import annotations

import argparse

from pipeline.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line and exit code 2, like every other mistake of the user's."""

    def error(self, message: str):
        raise UserError(f"{self.prog}: {message}; see ./run.sh -h")


def parser(name: str) -> Parser:
    """Returns the parser of one command."""
    return Parser(prog=f"./run.sh {name}", add_help=False, allow_abbrev=False)
