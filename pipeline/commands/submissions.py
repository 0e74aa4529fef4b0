"""The commands on submissions: `score`, `diff`, `submit`, `log`, `convention`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.commands.arguments import add_competition, add_config, chosen_competition, parser
from pipeline.errors import UserError
from pipeline.paths import LOG, Folders

if TYPE_CHECKING:
    from pipeline.config.competition import Competition

NUM_CHANGES = 20  # lines of `diff`: a screenful
NUM_DRAWN = 4  # images of `diff`
SCORE_WITHIN_S = 60.0  # most submissions have their score by then


def score_command(arguments: Sequence[str]) -> int:
    """Prints the local score of any submission file."""
    options = parser("score")
    options.add_argument("file", type=Path, metavar="FILE", help="a submission: .csv of run lengths, .zip of PNG masks")
    options.add_argument(
        "--masks", type=Path, metavar="DIR", required=True, help="folder of the masks, named and stored as for training"
    )
    add_competition(options, "not needed where a .json beside the submission names it")
    chosen = options.parse_args(arguments)

    from pipeline.segmentation.submission.score import score_file, summarise

    competition = chosen_competition("score", chosen.competition, [chosen.file])
    if not chosen.masks.is_dir():
        raise UserError(f"--masks {chosen.masks}: no such folder; expected the folder of the true masks")

    def sizes_of(ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        sizes = known_sizes(competition, ids)
        if len(sizes) < len(ids):
            print(
                f"{len(ids) - len(sizes)} of the {len(ids)} images are not here: sizes are those of their masks",
                file=sys.stderr,
            )
        return sizes

    # Standard output is for programs.
    scores = score_file(chosen.file, chosen.masks, competition, sizes_of, lambda line: print(line, file=sys.stderr))
    # Another competition's classes may fit the file too, so the output names the competition.
    print(json.dumps({"competition": competition.name, **summarise(scores, competition)}, indent=2))
    return 0


class ImageFile(NamedTuple):
    """A test image's file, its sequence, and its (height, width)."""

    path: Path
    sequence: str
    size: tuple[int, int]


def diff_command(arguments: Sequence[str]) -> int:
    """Prints where two submissions differ most, and draws those images."""
    options = parser("diff")
    options.add_argument("first", type=Path, metavar="ONE", help="a submission in any format")
    options.add_argument("second", type=Path, metavar="TWO", help="another submission of the same images")
    add_competition(options, "not needed where a .json beside a submission names it")
    chosen = options.parse_args(arguments)

    from pipeline.segmentation.submission.compare import compare_submissions
    from pipeline.submission.check import find_hints

    competition = chosen_competition("diff", chosen.competition, [chosen.first, chosen.second])
    images = list_test_images(competition)
    sizes = {image_id: image.size for image_id, image in images.items()}
    changes = compare_submissions(chosen.first, chosen.second, competition, sizes)
    for file in (chosen.first, chosen.second):
        for hint in find_hints(file, competition, sizes):
            print(hint, file=sys.stderr)
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

    folder = find_folder(competition, Folders.from_environment().data)
    images = {}
    for listed in read_list(competition, folder, "test")[0]:
        path = folder / image_file(competition, listed.id, "test")
        images[listed.id] = ImageFile(path, listed.sequence, size_of(path))
    return images


def known_sizes(competition: Competition, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Returns (height, width) of the images whose files are here; an id in both lists is a test image."""
    from pipeline.config.competition import image_file
    from pipeline.data.competition import find_folder, read_list

    try:
        folder = find_folder(competition, Folders.from_environment().data)
    except UserError:
        return {}
    files = {
        listed.id: folder / image_file(competition, listed.id, subset)
        for subset in ("train", "test")
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
        raise UserError(f"cannot read {shown(path)}: {why}; `./run.sh NAME prepare` lists every problem") from None


def draw_diff(
    files: tuple[Path, Path], competition: Competition, images: Mapping[str, ImageFile], ranked: Sequence[str]
) -> str:
    """Draws the images that changed most; returns the path of the drawing, as messages show it."""
    from pipeline.data.images import read_image
    from pipeline.paths import shown
    from pipeline.report.figure import write_image
    from pipeline.segmentation.panels import Changed, choose_changed, draw_changes
    from pipeline.submission.formats import format_of_file

    sizes = {image_id: image.size for image_id, image in images.items()}
    ids = choose_changed([(image_id, images[image_id].sequence) for image_id in ranked], NUM_DRAWN)
    first, second = (
        {id: mask for id, mask in format_of_file(path, competition).read(path, competition, sizes) if id in ids}
        for path in files
    )
    changed = [Changed(id, read_image(images[id].path), first[id], second[id]) for id in ids]
    path = Folders.from_environment().submissions / f"diff_{files[0].stem}_{files[1].stem}.png"
    titles = (files[0].name, files[1].name)
    write_image(path, draw_changes(changed, competition.classes, competition.colors, titles))
    return shown(path)


def submit_command(arguments: Sequence[str]) -> int:
    """Uploads a run's submission to Kaggle, and adds it to the log."""
    options = parser("submit")
    add_config(options)
    options.add_argument(
        "-m", "--message", metavar="TEXT", required=True, help="shown by Kaggle, with the local score added"
    )
    options.add_argument("--again", action="store_true", help="upload even if the same content was uploaded before")
    chosen = options.parse_args(arguments)

    from pipeline.config.load import load
    from pipeline.paths import shown
    from pipeline.submission.formats import format_of
    from pipeline.submission.kaggle import submit
    from pipeline.submission.log import add_upload, log_table, read_log, submissions_log

    loaded = load(chosen.name, tuple(chosen.overrides))
    path = Folders.from_environment().run(loaded.run).submission(format_of(loaded.competition).suffix)
    if not path.is_file():
        command = " ".join([chosen.name, *chosen.overrides])
        raise UserError(f"there is no {path.name} in {shown(path.parent)} yet; write it with ./run.sh {command}")
    log_path = path.with_name(LOG)
    read_log(log_path)  # an unreadable log is refused before the upload
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

    from pipeline.paths import shown
    from pipeline.submission.kaggle import slug_of
    from pipeline.submission.log import log_table, read_log, submissions_log

    path, slug = Folders.from_environment().submissions / LOG, slug_of(competition)
    try:
        rows = submissions_log(path, competition)
    except UserError as error:
        known = [row for row in read_log(path) if row["competition"] == slug]
        if known:
            print(f"as of the last answer, from {shown(path)}:\n{log_table(known)}", flush=True)
        raise UserError(f"{error}\n{shown(path)} is unchanged." if path.is_file() else str(error)) from error
    print(log_table(rows) if rows else f"nothing was uploaded to {slug} yet")
    print(f"in {shown(path)}")
    return 0


def convention_command(arguments: Sequence[str]) -> int:
    """Prints how a competition writes run lengths, found in its own files."""
    options = parser("convention")
    options.add_argument("name", metavar="NAME", help="a competition: configs/competitions/NAME.yaml")
    options.add_argument(
        "runs", type=Path, metavar="RUNS.csv", help="run lengths of training images, often train.csv itself"
    )
    chosen = options.parse_args(arguments)

    from pipeline.config.load import load_competition
    from pipeline.data.competition import find_folder, read_list
    from pipeline.segmentation.submission.convention import convention_text, find_convention

    competition = load_competition(chosen.name)
    folder = find_folder(competition, Folders.from_environment().data)
    train, test = ([one.id for one in read_list(competition, folder, subset)[0]] for subset in ("train", "test"))
    print(convention_text(find_convention(competition, folder, chosen.runs, train, test), competition))
    return 0
