"""The commands on submissions: `score`, `diff`, `submit`, `log`, `convention`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.table import Parser, add_competition, add_config, chosen_competition
from pipeline.engine.run import lazy
from pipeline.errors import UserError
from pipeline.paths import LOG, Folders, shown

if TYPE_CHECKING:
    from pipeline.config.competition import Competition

NUM_CHANGES = 20  # lines of `diff`: a screenful
NUM_DRAWN = 4  # images of `diff`
SCORE_WITHIN_S = 60.0  # most submissions have their score by then


@dataclass(frozen=True)
class FileFunctions:
    """What `score` and `diff` do with the files of a task.

    Attributes:
        score: (file, labels, competition, function from ids to the known ones' sizes, log, sequences by id) to what is
            printed.
        compare: (first, second, competition, sizes by id) to a table of what differs, by `id`.
        draw_changes: (pairs of id and image, sizes by id, both files, competition) to a drawing, uint8 (H, W, 3).
    """

    score: Callable[..., dict[str, Any]]
    compare: Callable[..., Any]
    draw_changes: Callable[..., Any]


OF_TASK = {
    "segmentation": FileFunctions(
        lazy("pipeline.segmentation.submission.score:score_file"),
        lazy("pipeline.segmentation.submission.compare:compare_submissions"),
        lazy("pipeline.segmentation.submission.draw_changes:draw_changes"),
    ),
    "boxes": FileFunctions(
        lazy("pipeline.detection.submission.score:score_file"),
        lazy("pipeline.detection.submission.compare:compare_files"),
        lazy("pipeline.detection.submission.draw_changes:draw_changes"),
    ),
}


def note(line: str) -> None:
    """Prints a line to standard error; standard output is for programs."""
    print(line, file=sys.stderr)


def score_command(options: Parser, arguments: Sequence[str]) -> None:
    """Prints the local score of any submission file."""
    options.add_argument(
        "file", type=Path, metavar="FILE", help="a submission: .csv, .zip or .npz of masks, .csv or .json of boxes"
    )
    meaning = "the true masks or boxes, stored as for training: a folder, or a csv or JSON file of all of them"
    options.add_argument("--masks", "--boxes", type=Path, metavar="DIR", required=True, help=meaning)
    add_competition(options, "not needed where a .json beside the submission names it")
    chosen = options.parse_args(arguments)

    from pipeline.config.competition import OF_VOLUMES

    competition = chosen_competition(options, chosen.competition, [chosen.file])
    if not chosen.masks.exists():
        what = "boxes" if competition.has_boxes else "masks"
        why = f"no such file or folder; expected the folder of the true {what}, or the file that has them"
        raise UserError(f"--{what} {chosen.masks}: {why}")

    sizes = partial(known_sizes, competition)
    needs_list = competition.score in OF_VOLUMES or competition.has_boxes
    sequences = known_sequences(competition) if needs_list else {}
    score = OF_TASK[competition.task].score
    summary = score(chosen.file, chosen.masks, competition, sizes, note, sequences)
    # Another competition's classes may fit the file too, so the output names the competition.
    print(json.dumps({"competition": competition.name, **summary}, indent=2))


def diff_command(options: Parser, arguments: Sequence[str]) -> None:
    """Prints where two submissions differ most, and draws those images."""
    options.add_argument("first", type=Path, metavar="ONE", help="a submission in any format")
    options.add_argument("second", type=Path, metavar="TWO", help="another submission of the same images")
    add_competition(options, "not needed where a .json beside a submission names it")
    chosen = options.parse_args(arguments)

    from pipeline.data.image_facts import measure
    from pipeline.data.image_source import ImageSource
    from pipeline.report.figure import write_image
    from pipeline.submission.file import find_hints

    competition = chosen_competition(options, chosen.competition, [chosen.first, chosen.second])
    folder, images = images_by_id(competition, "test")
    sizes = {id: size_of(competition, folder, cell) for id, (cell, _) in images.items()}
    files, functions = (chosen.first, chosen.second), OF_TASK[competition.task]
    changes = functions.compare(*files, competition, sizes)
    for hint in (hint for file in files for hint in find_hints(file, competition, sizes)):
        note(hint)
    print(f"{changes['id'].nunique()} of {len(sizes)} images differ")
    if not len(changes):
        return
    print(changes.head(NUM_CHANGES).to_string(index=False))
    if len(changes) > NUM_CHANGES:
        print(f"... and {len(changes) - NUM_CHANGES} smaller changes of a class in an image")
    ids = choose_changed([(id, images[id][1]) for id in changes["id"].unique()], NUM_DRAWN)
    facts = measure(competition, folder, [images[id][0] for id in ids])
    source = ImageSource(competition, folder, facts)
    pairs = [(id, source.shown(images[id][0])) for id in ids]
    path = Folders.from_environment().submissions / f"diff_{chosen.first.stem}_{chosen.second.stem}.png"
    write_image(path, functions.draw_changes(pairs, sizes, files, competition))
    print(f"drawn: {shown(path)}")


def choose_changed(ranked: Sequence[tuple[str, str]], most: int) -> list[str]:
    """Returns the ids to show of (id, sequence) pairs, the most changed first, of as many sequences as there are.

    >>> choose_changed([("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")], 3)
    ['a1', 'a2', 'b1']
    """
    seen: set[str] = set()
    fresh = [id for id, sequence in ranked if not sequence or not (sequence in seen or seen.add(sequence))]
    chosen = [*fresh, *(id for id, _ in ranked if id not in fresh)][:most]
    return [id for id, _ in ranked if id in chosen]


def images_by_id(competition: Competition, *subsets: str) -> tuple[Path, dict[str, tuple[str, str]]]:
    """Returns the competition's folder, and the files below it, joined, and the sequence of its images by id.

    An id in two lists is of the last subset.

    Raises:
        UserError: the competition's folder is not here.
    """
    from pipeline.data.competition import find_folder, list_files

    folder = find_folder(competition, Folders.from_environment().data)
    return folder, {
        listed.id: (cell, listed.sequence)
        for subset in subsets
        for listed, cell in list_files(competition, folder, subset)[0]
    }


def known_sizes(competition: Competition, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Returns (height, width) of the images whose files are here; notes how many are not."""
    from pipeline.data.image_files import label_files

    try:
        folder, images = images_by_id(competition, "train", "test")
    except UserError:
        folder, images = Path(), {}
    cells = {id: images[id][0] for id in ids if id in images}
    here = {id: cell for id, cell in cells.items() if all((folder / file).is_file() for file in label_files(cell))}
    if (num_absent := len(ids) - len(here)) and not competition.has_boxes:  # boxes have no size of their own
        note(f"{num_absent} of the {len(ids)} images are not here: sizes are those of their masks")
    return {id: size_of(competition, folder, cell) for id, cell in here.items()}


def known_sequences(competition: Competition) -> dict[str, str]:
    """Returns the sequence of the images that are listed here, by id."""
    try:
        _, images = images_by_id(competition, "train", "test")
    except UserError:
        return {}
    return {image_id: sequence for image_id, (_, sequence) in images.items()}


def size_of(competition: Competition, folder: Path, cell: str) -> tuple[int, int]:
    """Returns (height, width) of an image by its files, joined: from the header of the first, if there is one.

    Raises:
        UserError: the file is absent or no image.
    """
    from PIL import Image, UnidentifiedImageError

    from pipeline.data.image_files import label_files
    from pipeline.data.image_source import ImageSource

    path = folder / label_files(cell)[0]
    try:
        with Image.open(path) as opened:
            return opened.size[::-1]
    except UnidentifiedImageError:  # an array, a medical image or a TIFF of another kind
        seen = ImageSource(competition, folder).inspect(cell)
        why = "" if seen.height else "not an image"
    except OSError as error:
        why = error.strerror or "not an image"
    if why:
        raise UserError(f"cannot read {shown(path)}: {why}; `./run.sh NAME prepare` lists every problem")
    return seen.height, seen.width


def submit_command(options: Parser, arguments: Sequence[str]) -> None:
    """Uploads a run's submission to Kaggle, and adds it to the log."""
    add_config(options)
    meaning = "shown by Kaggle, with the local score added"
    options.add_argument("-m", "--message", metavar="TEXT", required=True, help=meaning)
    options.add_argument("--again", action="store_true", help="upload even if the same content was uploaded before")
    chosen = options.parse_args(arguments)

    from pipeline.config.load import load
    from pipeline.submission.formats import format_of
    from pipeline.submission.kaggle import submit
    from pipeline.submission.log import add_upload, log_table, read_log, submissions_log

    loaded = load(chosen.name, tuple(chosen.overrides))
    path = Folders.from_environment().run(loaded.run).submission(format_of(loaded.competition).suffix)
    if not path.is_file():
        command = shlex.join([chosen.name, *chosen.overrides])
        raise UserError(f"there is no {path.name} in {shown(path.parent)} yet; write it with ./run.sh {command}")
    log_path = path.with_name(LOG)
    read_log(log_path)  # an unreadable log is refused before the upload
    submitted = submit(path, loaded.competition, chosen.message, chosen.again)
    add_upload(log_path, loaded.competition, path.name, submitted)
    print(f"uploaded: {shown(path)}; waiting for its score", flush=True)
    later = f"./run.sh log --competition {shlex.quote(loaded.competition.name)}"
    try:
        rows = submissions_log(log_path, loaded.competition, SCORE_WITHIN_S)
        is_pending = any(row["reference"] == submitted.reference and row["status"] == "pending" for row in rows)
        print(log_table(rows))
    except (UserError, KeyboardInterrupt) as error:
        is_pending = True
        print(str(error) or "stopped waiting")
    print(f"in {shown(log_path)}" + (f"; its score is still to come: {later}" if is_pending else ""))


def log_command(options: Parser, arguments: Sequence[str]) -> None:
    """Asks Kaggle for the scores of all uploads, keeps them in submissions/log.csv and prints them."""
    add_competition(options, "it needs a KAGGLE_SLUG")
    competition = chosen_competition(options, options.parse_args(arguments).competition)

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


def convention_command(options: Parser, arguments: Sequence[str]) -> None:
    """Prints how a competition writes run lengths, found in its own files."""
    options.add_argument("name", metavar="NAME", help="a competition: configs/competitions/NAME.yaml")
    meaning = "run lengths of training images, often train.csv itself"
    options.add_argument("runs", type=Path, metavar="RUNS.csv", help=meaning)
    chosen = options.parse_args(arguments)

    from pipeline.config.load import load_competition
    from pipeline.data.competition import find_folder, list_images
    from pipeline.segmentation.submission.convention import convention_text, find_convention

    competition = load_competition(chosen.name)
    folder = find_folder(competition, Folders.from_environment().data)
    train, test = ([one.id for one in list_images(competition, folder, subset)[0]] for subset in ("train", "test"))
    print(convention_text(find_convention(competition, folder, chosen.runs, train, test), competition))
