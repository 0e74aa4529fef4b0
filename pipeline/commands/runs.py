"""The commands that are not stages, from `list` to `test`; those on submissions are in `submissions.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.commands.arguments import parser
from pipeline.errors import UserError


def list_command(arguments: Sequence[str]) -> int:
    """Prints every config with its question, state and score."""
    from pipeline.paths import Folders
    from pipeline.report.table import experiment_table
    from pipeline.stages import STAGES

    options = parser("list")
    options.add_argument("words", nargs="*")
    print(experiment_table(Folders.from_environment().runs, STAGES, tuple(options.parse_args(arguments).words)))
    return 0


def show_command(arguments: Sequence[str]) -> int:
    """Prints the resolved values of a config and where each was written."""
    from pipeline.config.load import load, nested, run_name
    from pipeline.paths import Folders, shown

    options = parser("show")
    options.add_argument("name")
    options.add_argument("overrides", nargs="*", default=())
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args(arguments)
    loaded = load(chosen.name, tuple(chosen.overrides))
    if chosen.json:
        print(json.dumps(nested(loaded.values), indent=2))
        return 0
    width = max(len(key) for key in loaded.values)
    cells = {key: write_value(value) for key, value in loaded.values.items()}
    value_width = min(34, max(len(cell) for cell in cells.values()))
    folder = Folders.from_environment().run(loaded.run).folder
    print(f"{loaded.name}: run name {run_name(loaded.config)}, folder {shown(folder)}")
    for key, cell in cells.items():
        print(f"{key:<{width}}  {cell:<{value_width}}  {loaded.origins[key]}")
    return 0


def write_value(value: Any) -> str:
    """Returns a value as it would be written in a config.

    >>> write_value((None, True, 1e-08))
    '[null, true, 1e-08]'
    """
    if isinstance(value, tuple):
        return f"[{', '.join(write_value(item) for item in value)}]"
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def plan_command(arguments: Sequence[str]) -> int:
    """Draws the learning rate over the epochs of a config's plan."""
    from pipeline.config.load import PROVISIONAL_LR, load, with_max_lr
    from pipeline.files import write_atomic
    from pipeline.paths import CONFIG, PLAN_PLOT, SWEEP_FACTS, Folders, shown
    from pipeline.report.plans import PLAN_STEPS, draw_plan, plan_curve
    from pipeline.report.read import read_json, read_steps_per_epoch

    options = parser("plan")
    options.add_argument("name")
    options.add_argument("overrides", nargs="*", default=())
    chosen = options.parse_args(arguments)
    loaded = load(chosen.name, tuple(chosen.overrides))
    members = loaded.config.ensemble.members
    if members is not None:
        raise UserError(f"{loaded.name} is an ensemble, which trains nothing; a member's: ./run.sh plan {members[0]}")
    folders = Folders.from_environment()
    paths, is_auto = folders.run(loaded.run), loaded.config.solver.max_lr == "auto"
    # What was not run leaves no folder of a run.
    path = paths / PLAN_PLOT if (paths / CONFIG).is_file() else folders.runs / "plans" / f"{paths.name}.png"
    title = f"{loaded.run}: {loaded.config.solver.plan}"  # the longest of both just fit
    batches = loaded.config.dataloaders.train
    num_steps = read_steps_per_epoch(paths.folder, batches.batch_size, batches.drop_last)
    suggested = (read_json(paths / SWEEP_FACTS) or {}).get("max_lr") if is_auto else None
    plan = with_max_lr(loaded, suggested) if suggested else loaded.plan
    write_atomic(path, draw_plan(*plan_curve(plan, num_steps or PLAN_STEPS), title=title))
    for phase in plan:
        limits = f", patience {phase.patience}" if phase.patience else ""
        rate = f"LR {phase.lr} from {phase.max_lr:.3g}"
        epochs = "1 epoch" if phase.epochs == 1 else f"{phase.epochs} epochs"
        print(f"{phase.name:<10} at most {epochs}{limits}, {rate}, starts from {phase.start_from}")
    if num_steps is None and any(phase.warmup_steps for phase in loaded.plan):
        print(
            f"warm-up steps are drawn as if an epoch had {PLAN_STEPS}: how many it has is known after "
            f"./run.sh {' '.join([chosen.name, *chosen.overrides])} tile"
        )
    if suggested:
        origin = shown(paths / SWEEP_FACTS)
        print(f"SOLVER.MAX_LR is auto: drawn for {suggested:.2g}, the sweep's suggestion in {origin}")
    elif is_auto:
        print(f"SOLVER.MAX_LR is auto: drawn for {PROVISIONAL_LR:g} in place of what the sweep will suggest")
    print(f"drawn: {shown(path)}")
    return 0


def compare_command(arguments: Sequence[str]) -> int:
    """Prints the settings that differ between runs, and their scores; draws scores and curves."""
    from pipeline.files import write_atomic
    from pipeline.paths import Folders, shown
    from pipeline.report.compare import compare_runs, draw_comparison, draw_run_curves

    names = two_or_more("compare", arguments)
    comparison = compare_runs(names, runs=Folders.from_environment().runs)
    print(comparison)
    if any(value is not None for value in comparison.scores["Dice"]):
        folder = Folders.from_environment().runs / "compared"
        write_atomic(folder / "scores.png", draw_comparison(comparison))
        write_atomic(folder / "curves.png", draw_run_curves(comparison.runs, Folders.from_environment().runs))
        print(f"\ndrawn: {shown(folder / 'scores.png')}, {shown(folder / 'curves.png')}")
    return 0


def two_or_more(command: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of runs behind a command.

    Raises:
        UserError: fewer than two different ones, or an option.
    """
    options = parser(command)
    options.add_argument("names", nargs="*")
    names = tuple(options.parse_args(arguments).names)
    if len(set(names)) < 2:
        raise UserError(f"./run.sh {command}: name two runs or more; ./run.sh list shows which there are")
    return names


def shakeup_command(arguments: Sequence[str]) -> int:
    """Prints how far submissions must lie apart to be truly different, and which two to choose as finals."""
    from pipeline.inference.shakeup import read_scores, shake_up
    from pipeline.paths import Folders
    from pipeline.report.compare import run_folder

    folders = {name: run_folder(name, Folders.from_environment().runs) for name in two_or_more("shakeup", arguments)}
    print(shake_up(*read_scores(folders)))
    return 0


def download_command(arguments: Sequence[str]) -> int:
    """Fetches a competition's data, or an encoder's weights."""
    from pipeline.download import download
    from pipeline.paths import Folders

    options = parser("download")
    options.add_argument("name")
    download(options.parse_args(arguments).name, Folders.from_environment())
    return 0


def doctor_command(arguments: Sequence[str]) -> int:
    """Tells what this machine has and what is missing."""
    from pipeline.door.doctor import doctor

    parser("doctor").parse_args(arguments)
    return doctor()


def test_command(arguments: Sequence[str]) -> int:
    """Runs the tests; arguments go to pytest."""
    from pipeline.paths import PROJECT

    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=PROJECT, env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}).returncode
