"""The commands on configs, runs and the machine: `list`, `show`, `plan`, `table`, `compare`, `shakeup`, ..."""

from __future__ import annotations

import fnmatch
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.commands.table import Parser, add_competition, add_config
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.paths import (
    COMPARED_CURVES,
    COMPARED_SCORES,
    CONFIG,
    PLAN_PLOT,
    PROJECT,
    SWEEP_FACTS,
    Folders,
    runs_table,
    shown,
)

WILD = set("*?[")  # of patterns
MOST_TEST_PROCESSES = 4  # each may need 4 GB
SHARES = ("--dist", "loadfile", "--no-loadscope-reorder")  # a file's costly fixtures are made once


def list_command(options: Parser, arguments: Sequence[str]) -> None:
    """Prints configs with question, state and score."""
    meaning = "only configs with all these words in name or question; default: all"
    options.add_argument("words", metavar="WORD", nargs="*", help=meaning)
    words = tuple(options.parse_args(arguments).words)

    from pipeline.report.table import experiment_table
    from pipeline.stages import STAGES

    print(experiment_table(Folders.from_environment().runs, STAGES, words))


def show_command(options: Parser, arguments: Sequence[str]) -> None:
    """Prints the resolved values of a config and the file that set each."""
    add_config(options)
    options.add_argument("--json", action="store_true", help="print the values alone, as JSON")
    chosen = options.parse_args(arguments)

    from pipeline.config.load import load, nested, run_name

    loaded = load(chosen.name, tuple(chosen.overrides))
    if chosen.json:
        print(json.dumps(nested(loaded.values), indent=2))
        return
    width = max(len(key) for key in loaded.values)
    cells = {key: write_value(value) for key, value in loaded.values.items()}
    value_width = min(34, max(len(cell) for cell in cells.values()))
    folder = Folders.from_environment().run(loaded.run).folder
    print(f"{loaded.name}: run name {run_name(loaded.config)}, folder {shown(folder)}")
    for key, cell in cells.items():
        print(f"{key:<{width}}  {cell:<{value_width}}  {loaded.origins[key]}")


def write_value(value: Any) -> str:
    """Returns a value as it would be written in a config.

    >>> write_value((None, True, 1e-08))
    '[null, true, 1e-08]'
    """
    if isinstance(value, tuple):
        return f"[{', '.join(write_value(item) for item in value)}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def plan_command(options: Parser, arguments: Sequence[str]) -> None:
    """Prints the phases of a config's plan, and plots its learning rate over the epochs."""
    add_config(options)
    chosen = options.parse_args(arguments)

    from pipeline.config.load import PROVISIONAL_LR, load, with_max_lr
    from pipeline.config.schema import pseudo_per_batch
    from pipeline.report.curves import PLAN_STEPS, draw_plan
    from pipeline.report.read import read_json, read_steps_per_epoch
    from pipeline.report.side_tables import new_in_phases
    from pipeline.training.all_data import settled_plan

    loaded = load(chosen.name, tuple(chosen.overrides))
    members = loaded.config.ensemble.members
    if members is not None:
        raise UserError(f"{loaded.name} is an ensemble and has no plan; its members have: ./run.sh plan {members[0]}")
    folders = Folders.from_environment()
    paths, is_auto = folders.run(loaded.run), loaded.config.solver.max_lr == "auto"
    # A config that was never run gets no run folder by this.
    path = paths / PLAN_PLOT if (paths / CONFIG).is_file() else folders.runs / "plans" / f"{paths.name}.png"
    title = f"{loaded.run}: {loaded.config.solver.plan}"  # the longest names just fit
    loader = loaded.config.dataloaders.train
    num_steps = read_steps_per_epoch(paths.folder, loader, pseudo_per_batch(loaded.config))
    suggested = (read_json(paths / SWEEP_FACTS) or {}).get("max_lr") if is_auto else None
    plan = with_max_lr(loaded, suggested) if suggested else loaded.plan
    if loaded.is_on_all_images:
        plan = settled_plan(loaded, folders)
        is_auto = False
        print(f"lengths and auto rate are those of SOLVER.FROM {loaded.config.solver.from_}")
    write_atomic(path, draw_plan(plan, num_steps, title))
    for phase, words in zip(plan, new_in_phases(plan), strict=True):
        epochs = "1 epoch" if phase.epochs == 1 else f"{phase.epochs} epochs"
        print(f"{phase.name:<10} at most {epochs}: {words}")
    if num_steps is None and any(phase.warmup_steps for phase in loaded.plan):
        command = shlex.join(["./run.sh", chosen.name, *chosen.overrides, "tile"])
        print(f"warm-up is plotted for {PLAN_STEPS} steps per epoch; the real number is known after {command}")
    if suggested:
        origin = shown(paths / SWEEP_FACTS)
        print(f"SOLVER.MAX_LR is auto: plotted for {suggested:.2g}, the suggestion of the LR sweep in {origin}")
    elif is_auto:
        print(f"SOLVER.MAX_LR is auto: plotted for {PROVISIONAL_LR:g}, because the LR sweep has not run yet")
    print(f"plot: {shown(path)}")


def compare_command(options: Parser, arguments: Sequence[str]) -> None:
    """Prints the settings that differ between runs, and their scores; plots scores and curves."""
    meaning = "write one page that lays the runs side by side, with their images, and plot nothing else"
    add_names(options).add_argument("--page", action="store_true", help=meaning)
    chosen = options.parse_args(arguments)
    names = chosen_names(options, chosen.names)

    from pipeline.report.compare import compare_runs

    folders = Folders.from_environment()
    if chosen.page:
        from pipeline.report.side_page import write_side_page
        from pipeline.stages import STAGES

        print(f"page: {shown(write_side_page(names, folders, STAGES))}")
        return

    from pipeline.report.plots import draw_comparison, draw_run_curves

    runs = folders.runs
    comparison = compare_runs(names, runs)
    print(comparison)
    if comparison.score is not None:
        write_atomic(runs / COMPARED_SCORES, draw_comparison(comparison))
        write_atomic(runs / COMPARED_CURVES, draw_run_curves(comparison, runs))
        print(f"\nplots: {shown(runs / COMPARED_SCORES)}, {shown(runs / COMPARED_CURVES)}")


def table_command(options: Parser, arguments: Sequence[str]) -> None:
    """Prints the scores and costs of all evaluated runs, a table per competition, and writes them into files."""
    meaning = "only these runs: names of run folders, or a pattern such as 'ExpC0*'; default: all"
    options.add_argument("names", metavar="NAME", nargs="*", help=meaning)
    add_competition(options, "only its runs; default: a table for each competition")
    options.add_argument("--classes", action="store_true", help="print the score of each class too")
    meaning = "print a row per run; default: a row per setting, the mean of runs that differ only in split and seed"
    options.add_argument("--runs", action="store_true", help=meaning)
    chosen = options.parse_args(arguments)

    from pipeline.config.load import config_path
    from pipeline.report.folders import run_folder
    from pipeline.report.runs_page import table_page
    from pipeline.report.runs_table import runs_tables
    from pipeline.report.runs_text import csv_text, markdown_text, terminal_text
    from pipeline.stages import STAGES

    folders = Folders.from_environment()
    names = [name for one in chosen.names for name in matching(one, folders.runs)]
    for name in names:
        run_folder(name, folders.runs)  # refuses a name that there is not
    tables = runs_tables(folders, STAGES, names or None, chosen.competition)
    if not tables:
        if chosen.competition is not None:
            config_path(chosen.competition, "competition", "--competition")  # refuses a name that there is not
        of = f" of {chosen.competition}" if chosen.competition else ""
        print(f"There are no {'such ' if names else ''}runs{of} in {shown(folders.runs)} yet.")
    width = shutil.get_terminal_size((120, 24)).columns
    written = {".csv": csv_text, ".md": markdown_text, ".html": table_page}
    for number, table in enumerate(tables):
        shown_table = table if chosen.runs or table.by_setting is None else table.by_setting
        print(("\n" if number else "") + terminal_text(shown_table, width, chosen.classes))
        if table.runs:
            for suffix, write in written.items():
                path = folders.runs / runs_table(table.competition, bool(names), suffix)
                write_atomic(path, write(table))
            print(f"files: {shown(path.with_suffix(''))}{', '.join(written)}")


def add_names(options: Parser) -> Parser:
    """Adds the names of two or more runs as `names`; returns the parser."""
    meaning = "two or more runs: names of configs or run folders, or a pattern of run folders such as 'ExpC0*'"
    options.add_argument("names", metavar="NAME", nargs="+", help=meaning)
    return options


def chosen_names(options: Parser, given: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of two or more runs, with those that match a pattern in its place.

    Raises:
        UserError: fewer than two different names, or a pattern that no run has.
    """
    runs = Folders.from_environment().runs
    names = tuple(dict.fromkeys(name for one in given for name in matching(one, runs)))
    if len(names) < 2:
        found = f" (found {names[0]})" if any(set(one) & WILD for one in given) else ""
        raise UserError(f"{options.prog}: give the names of two or more runs{found}; ./run.sh list shows them")
    return names


def matching(name: str, runs: Path) -> list[str]:
    """Returns the run folders that a pattern matches, sorted; a name without wildcards is returned as it is.

    Raises:
        UserError: a pattern that no run has.
    """
    if not set(name) & WILD:
        return [name]
    folders = sorted(path.name for path in runs.glob(name) if (path / CONFIG).is_file()) if "/" not in name else []
    if not folders:
        from pipeline.config.load import names

        remedy = "./run.sh list shows the runs that there are"
        if configs := fnmatch.filter(sorted(names()), name):
            remedy = f"it matches configs that can be run, such as ./run.sh {configs[0]}"
        raise UserError(f"no run matches {name!r} in {shown(runs)}; {remedy}")
    return folders


def shakeup_command(options: Parser, arguments: Sequence[str]) -> None:
    """Prints which scores differ by more than chance, and which two submissions to choose as finals."""
    names = chosen_names(options, add_names(options).parse_args(arguments).names)

    from pipeline.report.folders import run_folder
    from pipeline.report.shakeup import read_scores, shake_up

    runs = Folders.from_environment().runs
    folders = {name: run_folder(name, runs) for name in names}
    print(shake_up(*read_scores(folders)))


def download_command(options: Parser, arguments: Sequence[str]) -> None:
    """Downloads a competition's data, or an encoder's weights."""
    options.add_argument("name", metavar="NAME", help="a competition (into data/NAME) or an encoder (into WEIGHTS_DIR)")
    name = options.parse_args(arguments).name

    from pipeline.download import download

    download(name, Folders.from_environment())


def doctor_command(options: Parser, arguments: Sequence[str]) -> int:
    """Prints what this machine has and what is missing."""
    options.parse_args(arguments)

    from pipeline.bootstrap.doctor import doctor

    return doctor()


def test_command(options: Parser, arguments: Sequence[str]) -> int:
    """Runs the tests; arguments are passed on to pytest. The whole suite runs on several cores."""
    meaning = "passed on to pytest; its options: ./run.sh test . --help"
    options.add_argument("arguments", metavar="ARGUMENT", nargs="*", help=meaning)
    if arguments[:1] in (["-h"], ["--help"]):
        options.parse_args(arguments)

    from pipeline.data.images import num_cores

    is_whole = all(argument.startswith("-") for argument in arguments) and "-n" not in arguments
    shares = ["-n", str(min(num_cores(), MOST_TEST_PROCESSES)), *SHARES] if is_whole and find_spec("xdist") else []
    command = [sys.executable, "-m", "pytest", *shares, *arguments]
    return subprocess.run(command, cwd=PROJECT, env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}).returncode
