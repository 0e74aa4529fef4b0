"""The commands on submissions: `score`, `diff`, `submit`, `log`, `convention`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.arguments import parser
from pipeline.errors import UserError

NUM_CHANGES = 20  # lines of `diff`: a screenful
NUM_DRAWN = 4  # pictures of `diff`
SCORE_WITHIN_S = 60.0  # most submissions have their score by then


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
