"""The command `watch`: what the running and the latest runs are doing, in the terminal or on the board in a browser."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.commands.runs import matching
from pipeline.commands.table import Parser
from pipeline.engine.process import lost_output
from pipeline.errors import UserError
from pipeline.paths import CONFIG, Folders, shown
from pipeline.terminal import move
from pipeline.wording import duration

if TYPE_CHECKING:
    from pipeline.report.live import Live

EVERY_S = 3.0
NUM_LATEST = 8  # runs beside those that are running
DEFAULT_PORT = 8765
HEADS = ("run", "stage", "epoch", "score", "best", "time", "left", "")
RUNNING = "*"
UP, CLEAR = "\x1b[{}F", "\x1b[J"  # of a terminal: the cursor some lines up; what is below it is cleared


def watch_command(options: Parser, arguments: Sequence[str]) -> int:
    """Prints what runs are doing until Ctrl-C, which is how it is meant to end."""
    meaning = "only these runs: names of run folders, or a pattern such as 'ExpC0*'; default: the running and latest"
    options.add_argument("names", metavar="NAME", nargs="*", help=meaning)
    meaning = f"serve the board on this machine only, at this port (default {DEFAULT_PORT}; 0: any that is free)"
    options.add_argument("--serve", metavar="PORT", nargs="?", type=int, const=DEFAULT_PORT, help=meaning)
    chosen = options.parse_args(arguments)
    folders = Folders.from_environment()
    try:
        if chosen.serve is not None:
            if chosen.names:
                raise UserError(f"{options.prog}: --serve shows all runs; leave out {' '.join(chosen.names)}")
            from pipeline.commands.serve import serve

            serve(folders, chosen.serve)
        else:
            watch(folders, chosen.names)
    except KeyboardInterrupt:
        print()
    return 0


def watch(folders: Folders, names: Sequence[str], every_s: float = EVERY_S) -> None:
    """Prints the state of runs every few seconds, for ever; on a terminal in the same place, else what is new alone.

    Raises:
        UserError: a name or a pattern that no run has.
    """
    read = _reader(folders)
    show = _on_terminal if sys.stdout.isatty() else _as_lines
    before: Any = None
    while lost_output() is None:  # as after `| head`
        before = show(_chosen(folders, names, read), before, shown(folders.runs))
        time.sleep(every_s)


def _reader(folders: Folders) -> Callable[[str], Live]:
    """Returns what reads a run by its name; the scores of competitions are looked up once."""
    from pipeline.report.live import declared_score, read_live
    from pipeline.report.read import read_config
    from pipeline.stages import STAGES

    scores: dict[str, str] = {}

    def read(name: str) -> Live:
        paths = folders.run(name)
        competition = str((read_config(paths / CONFIG) or {}).get("DATASETS.COMPETITION"))
        if competition not in scores:
            scores[competition] = declared_score(competition)
        return read_live(paths, STAGES, time.time(), scores[competition])

    return read


def _chosen(folders: Folders, names: Sequence[str], read: Callable[[str], Live]) -> list[Live]:
    """Returns the runs of these names, or else those that are running and the latest, the running ones first."""
    from pipeline.engine.folder import lock_holder
    from pipeline.report.folders import run_folder
    from pipeline.report.live import last_change
    from pipeline.report.read import is_run

    if names:
        return [read(run_folder(one, folders.runs).name) for name in names for one in matching(name, folders.runs)]
    found = [path for path in folders.runs.iterdir() if is_run(path)] if folders.runs.is_dir() else []
    running = {path.name for path in found if lock_holder(folders.run(path.name)) is not None}
    found.sort(key=lambda path: (path.name not in running, -last_change(path)))
    return [read(path.name) for path in found[: len(running) + NUM_LATEST]]


def state_lines(runs: Sequence[Live], width: int) -> list[str]:
    """Returns the table of runs, in lines of at most `width` columns."""
    rows = [HEADS, *map(_cells, runs)]
    kept = [index for index in range(len(HEADS)) if any(row[index] for row in rows[1:])]
    widths = {index: max(len(row[index]) for row in rows) for index in kept}
    lines = ("  ".join(row[index].ljust(widths[index]) for index in kept).rstrip() for row in rows)
    return [line[:width] for line in lines]


def _cells(live: Live) -> tuple[str, ...]:
    score, best = ("" if value is None else f"{value:.3f}" for value in (live.score, live.best))
    spent, left = ("" if value is None else duration(value) for value in (live.stage_s, live.left_s))
    stage = f"{RUNNING} {live.stage}" if live.is_running else live.stage
    score = f"{live.label} {score}" if score else ""
    return (live.name, stage, live.epochs, score, best, spent, left, live.note)


def _on_terminal(runs: Sequence[Live], before: int | None, where: str) -> int:
    """Draws the table where the last one was; returns how many lines it has."""
    size = shutil.get_terminal_size((100, 24))
    lines = state_lines(runs, size.columns) if runs else [f"There are no runs in {where} yet."]
    lines = [*lines[: size.lines - 2], f"{RUNNING} running; Ctrl-C ends watching, not the runs"[: size.columns]]
    move(f"{UP.format(before) if before else ''}{CLEAR}")
    print("\n".join(lines), flush=True)
    return len(lines)


def _as_lines(runs: Sequence[Live], before: dict[str, Live] | None, where: str) -> dict[str, Live]:
    """Prints a line per run that is new or has come further; returns the runs by name."""
    if before is None and not runs:
        print(f"There are no runs in {where} yet.", flush=True)
    for live in runs:
        if before is None or _without_clock(before.get(live.name)) != _without_clock(live):
            words = [word.strip() for word in _cells(live)]
            epoch, best = f"epoch {words[2]}" if words[2] else "", f"best {words[4]}" if words[4] else ""
            left = f"{words[6]} left" if words[6] else ""
            parts = (words[0], words[1], epoch, words[3], best, left, words[7])
            print(time.strftime("%H:%M:%S"), "  ".join(part for part in parts if part), flush=True)
    return {live.name: live for live in runs}


def _without_clock(live: Live | None) -> Live | None:
    """Returns what of a run changes only when it comes further."""
    if live is None:
        return None
    return replace(live, stage_s=None, left_s=None, silent_s=0.0 if live.silent_s is not None else None, changed_at=0.0)
