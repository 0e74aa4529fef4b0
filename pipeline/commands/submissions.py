"""The commands on submissions: `score`, `diff`, `submit`, `log`, `convention`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.commands.arguments import add_competition, add_config, chosen_competition, parser
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.config.competition import Competition

NUM_CHANGES = 20  # lines of `diff`: a screenful
NUM_DRAWN = 4  # images of `diff`
SCORE_WITHIN_S = 60.0  # most submissions have their score by then


def score_command(arguments: Sequence[str]) -> int:
    """Prints the local score of any submission file."""
    options = parser("score")
    options.add_argument("csv", type=Path, metavar="FILE.csv", help="the submission")
    meaning = "folder of the masks, named and stored as for training"
    options.add_argument("--masks", type=Path, metavar="DIR", required=True, help=meaning)
    add_competition(options, "not needed where a .json beside the submission names it")
    chosen = options.parse_args(arguments)

    from pipeline.submission.score import score_csv, summarise

    competition = chosen_competition("score", chosen.competition, [chosen.csv])
    if not chosen.masks.is_dir():
        raise UserError(f"--masks {chosen.masks}: no such folder; wanted the folder of the true masks")

    def sizes_of(ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        sizes = known_sizes(competition, ids)
        if len(sizes) < len(ids):
            print(
                f"{len(ids) - len(sizes)} of the {len(ids)} images are not here: their masks' sizes are believed",
                file=sys.stderr,
            )
        return sizes

    # Standard output is for programs.
    table = score_csv(chosen.csv, chosen.masks, competition, sizes_of, lambda line: print(line, file=sys.stderr))
    # Another competition's classes may fit the numbers in a file: say which was taken.
    print(json.dumps({"competition": competition.name, **summarise(table, competition)}, indent=2))
    return 0


class ImageFile(NamedTuple):
    """A test image's file, its video, and its (height, width)."""

    path: Path
    sequence: str
    size: tuple[int, int]


def diff_command(arguments: Sequence[str]) -> int:
    """Prints where two submissions differ most, and draws those images."""
    options = parser("diff")
    options.add_argument("first", type=Path, metavar="ONE.csv", help="a submission")
    options.add_argument("second", type=Path, metavar="TWO.csv", help="another submission")
    add_competition(options, "not needed where a .json beside a submission names it")
    chosen = options.parse_args(arguments)

    from pipeline.submission.compare import compare_submissions

    competition = chosen_competition("diff", chosen.competition, [chosen.first, chosen.second])
    images = list_test_images(competition)
    sizes = {image_id: image.size for image_id, image in images.items()}
    changes = compare_submissions(chosen.first, chosen.second, competition, sizes)
    print(f"{changes['id'].nunique()} of {len(sizes)} images differ")
    if not len(changes):
        return 0
    print(changes.head(NUM_CHANGES).to_string(index=False))
    if len(changes) > NUM_CHANGES:
        print(f"... and {len(changes) - NUM_CHANGES} smaller changes of a class in an image")
    files = (chosen.first, chosen.second)
    print(f"drawn: {draw_diff(files, competition, images, changes['id'].unique().tolist())}")
    return 0


def list_test_images(competition: Competition) -> dict[str, ImageFile]:
    """Returns the competition's test images by id, sizes from the files' headers: nothing is decoded."""
    from pipeline.config.competition import image_file
    from pipeline.data.competition import find_folder, read_list

    folder = find_folder(competition)
    images = {}
    for listed in read_list(competition, folder, "test")[0]:
        path = folder / image_file(competition, listed.id, "test")
        images[listed.id] = ImageFile(path, listed.sequence, size_of(path))
    return images


def known_sizes(competition: Competition, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Returns (height, width) of those images that are here: of the test list, or of the training list."""
    from pipeline.config.competition import image_file
    from pipeline.data.competition import find_folder, read_list

    try:
        folder = find_folder(competition)
    except UserError:
        return {}
    subsets = ("train", "test")  # an id in both is an image for testing: that is what is submitted
    files = {
        listed.id: folder / image_file(competition, listed.id, subset)
        for subset in subsets
        for listed in read_list(competition, folder, subset)[0]
    }
    return {id: size_of(files[id]) for id in ids if id in files and files[id].is_file()}


def size_of(path: Path) -> tuple[int, int]:
    """Returns (height, width) of an image, from its header.

    Raises:
        UserError: the file is absent or no image.
    """
    from PIL import Image

    from pipeline.paths import shown

    try:
        with Image.open(path) as opened:
            return opened.size[::-1]
    except OSError as error:
        why = error.strerror or "not an image"
        raise UserError(f"cannot read {shown(path)}: {why}; `prepare` of any config lists all that is wrong") from None


def draw_diff(
    files: tuple[Path, Path], competition: Competition, images: Mapping[str, ImageFile], ranked: Sequence[str]
) -> str:
    """Draws the images that changed most; returns the drawing's path as a person reads it."""
    from pipeline.data.images import read_image
    from pipeline.paths import shown, submissions_folder
    from pipeline.report.figure import write_image
    from pipeline.report.panels import Changed, choose_changed, draw_changes
    from pipeline.submission.rows import read_masks

    sizes = {image_id: image.size for image_id, image in images.items()}
    ids = choose_changed([(image_id, images[image_id].sequence) for image_id in ranked], NUM_DRAWN)
    first, second = (
        {image_id: mask for image_id, mask in read_masks(path, competition, sizes) if image_id in ids} for path in files
    )
    changed = [Changed(id, read_image(images[id].path), first[id], second[id]) for id in ids]
    path = submissions_folder() / f"diff_{files[0].stem}_{files[1].stem}.png"
    titles = (files[0].name, files[1].name)
    write_image(path, draw_changes(changed, competition.classes, competition.colors, titles))
    return shown(path)


def submit_command(arguments: Sequence[str]) -> int:
    """Uploads a run's submission to Kaggle, and puts it into the log."""
    options = parser("submit")
    add_config(options)
    meaning = "shown by Kaggle, with the local score added"
    options.add_argument("-m", "--message", metavar="TEXT", required=True, help=meaning)
    options.add_argument("--again", action="store_true", help="upload even if the same content was uploaded before")
    chosen = options.parse_args(arguments)

    from pipeline.config.load import load
    from pipeline.paths import RunPaths, shown
    from pipeline.submission.kaggle import submit
    from pipeline.submission.log import add_upload, log_table, read_log, submissions_log

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
    options = parser("log")
    add_competition(options, "it needs a KAGGLE_SLUG")
    competition = chosen_competition("log", options.parse_args(arguments).competition)

    from pipeline.paths import shown, submissions_folder
    from pipeline.submission.kaggle import slug_of
    from pipeline.submission.log import log_table, read_log, submissions_log

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
    options = parser("convention")
    options.add_argument("name", metavar="NAME", help="a competition: configs/competitions/NAME.yaml")
    meaning = "run lengths of training images, often train.csv itself"
    options.add_argument("runs", type=Path, metavar="RUNS.csv", help=meaning)
    chosen = options.parse_args(arguments)

    from pipeline.config.load import load_competition
    from pipeline.data.competition import find_folder, read_list
    from pipeline.submission.detective import convention_text, investigate

    competition = load_competition(chosen.name)
    folder = find_folder(competition)
    train, test = ([one.id for one in read_list(competition, folder, subset)[0]] for subset in ("train", "test"))
    print(convention_text(investigate(competition, folder, chosen.runs, train, test), competition))
    return 0
