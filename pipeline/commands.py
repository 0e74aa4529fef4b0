"""The commands that are not stages, from `list` to `test`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

NUM_CHANGES = 20  # lines of `diff`: a screenful
NUM_DRAWN = 4  # pictures of `diff`
SCORE_WITHIN_S = 60.0  # most submissions have their score by then


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line and exit code 2, like every other mistake of the user's."""

    def error(self, message: str):
        raise UserError(f"{self.prog}: {message}; see ./run.sh -h")


def parser(name: str) -> Parser:
    """Returns the parser of one command."""
    return Parser(prog=f"./run.sh {name}", add_help=False, allow_abbrev=False)


def list_command(arguments: Sequence[str]) -> int:
    """Prints every config with its question, state and score."""
    from pipeline.report.table import experiment_table

    print(experiment_table(tuple(arguments)))
    return 0


def show_command(arguments: Sequence[str]) -> int:
    """Prints the resolved values of a config and where each was written."""
    from pipeline.config.load import load, nested, run_name
    from pipeline.paths import RunPaths, shown

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
    print(f"{loaded.name}: run name {run_name(loaded.config)}, folder {shown(RunPaths(loaded.run).folder)}")
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
    from pipeline.config.load import PROVISIONAL_LR, load
    from pipeline.files import write_atomic
    from pipeline.paths import RunPaths, shown
    from pipeline.report.rates import PLAN_STEPS, draw_plan, plan_curve
    from pipeline.report.read import read_steps_per_epoch

    options = parser("plan")
    options.add_argument("name")
    options.add_argument("overrides", nargs="*", default=())
    chosen = options.parse_args(arguments)
    loaded = load(chosen.name, tuple(chosen.overrides))
    members = loaded.config.ensemble.members
    if members is not None:
        raise UserError(f"{loaded.name} is an ensemble, which trains nothing; a member's: ./run.sh plan {members[0]}")
    path = RunPaths(loaded.run).plots / "plan.png"
    title = f"{loaded.run}: {loaded.config.solver.plan}"  # the longest of both just fit
    batches = loaded.config.dataloaders.train
    num_steps = read_steps_per_epoch(RunPaths(loaded.run).folder, batches.batch_size, batches.drop_last)
    write_atomic(path, draw_plan(*plan_curve(loaded.plan, num_steps or PLAN_STEPS), title=title))
    for phase in loaded.plan:
        limits = f", patience {phase.patience}" if phase.patience else ""
        rate = f"LR {phase.lr} from {phase.max_lr:g}"
        print(f"{phase.name:<10} at most {phase.epochs} epochs{limits}, {rate}, starts from {phase.start_from}")
    if num_steps is None and any(phase.warmup_steps for phase in loaded.plan):
        print(
            f"warm-up steps are drawn as if an epoch had {PLAN_STEPS}: how many it has is known after "
            f"./run.sh {' '.join([chosen.name, *chosen.overrides])} tile"
        )
    if loaded.config.solver.max_lr == "auto":
        print(f"SOLVER.MAX_LR is auto: drawn for {PROVISIONAL_LR:g} in place of what the sweep will suggest")
    print(f"drawn: {shown(path)}")
    return 0


def compare_command(arguments: Sequence[str]) -> int:
    """Prints the settings that differ between runs, and their scores; draws scores and curves."""
    from pipeline.files import write_atomic
    from pipeline.paths import runs_folder, shown
    from pipeline.report.compare import compare_runs, draw_comparison, draw_run_curves

    if len(set(arguments)) < 2:
        raise UserError("./run.sh compare: name two runs or more; ./run.sh list shows which there are")
    comparison = compare_runs(tuple(arguments))
    print(comparison)
    if any(value is not None for value in comparison.scores["Dice"]):
        folder = runs_folder() / "compared"
        write_atomic(folder / "scores.png", draw_comparison(comparison))
        write_atomic(folder / "curves.png", draw_run_curves(comparison.runs))
        print(f"\ndrawn: {shown(folder / 'scores.png')}, {shown(folder / 'curves.png')}")
    return 0


def shakeup_command(arguments: Sequence[str]) -> int:
    """Prints how far submissions must lie apart to be truly different, and which two to choose as finals."""
    from pipeline.inference.shakeup import read_scores, shake_up
    from pipeline.report.compare import run_folder

    if len(set(arguments)) < 2:
        raise UserError("./run.sh shakeup: name two runs or more; ./run.sh list shows which there are")
    folders = {name: run_folder(name) for name in arguments}
    print(shake_up(*read_scores(folders)))
    return 0


def score_command(arguments: Sequence[str]) -> int:
    """Prints the local score of any submission file."""
    from pipeline.config.load import load_competition
    from pipeline.submission.score import score_csv, summarise

    options = parser("score")
    options.add_argument("csv", type=Path)
    options.add_argument("--masks", type=Path, required=True)
    options.add_argument("--competition", default="aeroscapes")
    chosen = options.parse_args(arguments)
    competition = load_competition(chosen.competition)
    if not chosen.masks.is_dir():
        raise UserError(f"--masks {chosen.masks}: no such folder; wanted the folder of the index masks <id>.png")
    summary = summarise(score_csv(chosen.csv, chosen.masks, competition), competition)
    # Another competition's classes may fit the numbers in a file: say which was taken.
    print(json.dumps({"competition": competition.name, **summary}, indent=2))
    return 0


def diff_command(arguments: Sequence[str]) -> int:
    """Prints where two submissions differ most, and draws those pictures."""
    from pipeline.config.load import load_competition
    from pipeline.data.catalog import build_catalog
    from pipeline.data.competition import find_folder
    from pipeline.submission.compare import compare_submissions

    options = parser("diff")
    options.add_argument("first", type=Path)
    options.add_argument("second", type=Path)
    options.add_argument("--competition", default="aeroscapes")
    chosen = options.parse_args(arguments)
    competition = load_competition(chosen.competition)
    folder = find_folder(competition)
    catalog, _ = build_catalog(competition, folder)
    test = catalog[catalog["subset"] == "test"]
    sizes = {row.id: (row.height, row.width) for row in test.itertuples()}
    changes = compare_submissions(chosen.first, chosen.second, competition, sizes)
    print(f"{changes['id'].nunique()} of {len(sizes)} pictures differ")
    if not len(changes):
        return 0
    print(changes.head(NUM_CHANGES).to_string(index=False))
    if len(changes) > NUM_CHANGES:
        print(f"... and {len(changes) - NUM_CHANGES} smaller changes of a class in a picture")
    print(f"drawn: {_draw_diff(chosen, competition, folder, test, changes['id'].unique().tolist())}")
    return 0


def _draw_diff(chosen: Any, competition: Any, folder: Path, test: Any, ranked: Sequence[str]) -> str:
    """Draws the pictures that changed most; returns the file's path as a person reads it."""
    from pipeline.data.pictures import read_picture
    from pipeline.outcome import write_picture
    from pipeline.paths import shown, submissions_folder
    from pipeline.report.changes import Changed, choose_changed, draw_changes
    from pipeline.submission.rows import read_masks

    files = test.set_index("id")
    sizes = {row.id: (row.height, row.width) for row in test.itertuples()}
    ids = choose_changed([(picture_id, files.at[picture_id, "sequence"]) for picture_id in ranked], NUM_DRAWN)
    masks = [
        {picture_id: mask for picture_id, mask in read_masks(path, competition, sizes) if picture_id in ids}
        for path in (chosen.first, chosen.second)
    ]
    changed = [Changed(id, read_picture(folder / files.at[id, "picture"]), masks[0][id], masks[1][id]) for id in ids]
    path = submissions_folder() / f"diff_{chosen.first.stem}_{chosen.second.stem}.png"
    titles = (chosen.first.name, chosen.second.name)
    write_picture(path, draw_changes(changed, competition.classes, competition.colors, titles))
    return shown(path)


def submit_command(arguments: Sequence[str]) -> int:
    """Uploads a run's submission to Kaggle, and puts it into the log."""
    from pipeline.config.load import load
    from pipeline.paths import RunPaths, shown
    from pipeline.submission.kaggle import submit
    from pipeline.submission.log import add_upload, log_table, read_log, submissions_log

    options = parser("submit")
    options.add_argument("name")
    options.add_argument("overrides", nargs="*", default=())
    options.add_argument("-m", "--message", required=True)
    options.add_argument("--again", action="store_true")
    chosen = options.parse_intermixed_args(arguments)  # settings may stand behind the message
    loaded = load(chosen.name, tuple(chosen.overrides))
    path = RunPaths(loaded.run).submission
    if not path.is_file():
        command = " ".join([chosen.name, *chosen.overrides])
        raise UserError(f"there is no {path.name} in {shown(path.parent)} yet; make it with ./run.sh {command}")
    log_path = path.with_name("log.csv")
    read_log(log_path)  # one that cannot be written on is refused before the upload
    submitted = submit(path, loaded.competition, chosen.message, chosen.again)
    add_upload(log_path, loaded.competition, path.name, submitted)
    print(f"uploaded: {shown(path)}; waiting for its score", flush=True)
    later = f"./run.sh log --competition {loaded.competition.name}"
    try:
        rows = submissions_log(log_path, loaded.competition, SCORE_WITHIN_S)
        is_pending = any(row["reference"] == submitted.reference and row["status"] == "pending" for row in rows)
        print(log_table(rows))
    except (UserError, KeyboardInterrupt) as error:
        is_pending = True
        print(error or "stopped waiting")
    print(f"in {shown(log_path)}" + (f"; its score is still to come: {later}" if is_pending else ""))
    return 0


def log_command(arguments: Sequence[str]) -> int:
    """Asks Kaggle for the scores of all uploads, keeps them in submissions/log.csv and prints them."""
    from pipeline.config.load import load_competition
    from pipeline.paths import shown, submissions_folder
    from pipeline.submission.kaggle import slug_of
    from pipeline.submission.log import log_table, read_log, submissions_log

    options = parser("log")
    options.add_argument("--competition", default="aeroscapes")
    competition = load_competition(options.parse_args(arguments).competition)
    path, slug = submissions_folder() / "log.csv", slug_of(competition)
    try:
        rows = submissions_log(path, competition)
    except UserError as error:
        known = [row for row in read_log(path) if row["competition"] == slug]
        if known:
            print(f"as of the last time, from {shown(path)}:\n{log_table(known)}", flush=True)
        raise UserError(f"{error}\n{shown(path)} is as it was." if path.is_file() else str(error)) from error
    print(log_table(rows) if rows else f"nothing was uploaded to {slug} yet")
    print(f"in {shown(path)}")
    return 0


def convention_command(arguments: Sequence[str]) -> int:
    """Finds out from a competition's own files how it writes its runs."""
    from pipeline.config.load import load_competition
    from pipeline.data.catalog import build_catalog
    from pipeline.data.competition import find_folder
    from pipeline.submission.detective import convention_text, investigate

    options = parser("convention")
    options.add_argument("name")
    options.add_argument("runs", type=Path)
    chosen = options.parse_args(arguments)
    competition = load_competition(chosen.name)
    folder = find_folder(competition)
    catalog, _ = build_catalog(competition, folder)
    train, test = (catalog.loc[catalog["subset"] == subset, "id"].tolist() for subset in ("train", "test"))
    print(convention_text(investigate(competition, folder, chosen.runs, train, test), competition))
    return 0


def download_command(arguments: Sequence[str]) -> int:
    """Fetches a competition's data, or an encoder's weights."""
    from pipeline.download import download

    options = parser("download")
    options.add_argument("name")
    download(options.parse_args(arguments).name)
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
