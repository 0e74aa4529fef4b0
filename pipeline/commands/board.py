"""The command `board`: writes one page over all runs."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.commands.table import Parser
from pipeline.files import write_atomic
from pipeline.paths import BOARD, Folders, shown


def board_command(options: Parser, arguments: Sequence[str]) -> None:
    """Writes the page, from what the runs' folders hold now."""
    options.parse_args(arguments)

    from pipeline.report.board_page import board_page
    from pipeline.stages import STAGES

    folders = Folders.from_environment()
    text, _ = board_page(folders, STAGES)
    path = folders.runs / BOARD
    write_atomic(path, text)
    print(f"page: {shown(path)}")
