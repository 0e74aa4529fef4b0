"""One self-contained page on several runs: what differs, what it gains, and the same images side by side.

    ./run.sh compare 'ExpC0*' --page

In: the folders of runs, however far each has come. Out: a page with its images inside. A run that lacks something is
shown with what it has, and with the command that makes the rest.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.config.load import load_competition
from pipeline.engine.run import Stage
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.intervals import Interval, group_numbers, interval
from pipeline.paths import CONFIG, Folders, compared_page
from pipeline.report.compare import LEAST_IMAGES, Comparison, compare_runs, read_image_scores
from pipeline.report.figure import Color
from pipeline.report.frame import document
from pipeline.report.markup import Html, digits, join, quantity, tag, themed
from pipeline.report.overlay import draw_overlay
from pipeline.report.side import Side, read_sides
from pipeline.report.side_images import images_part
from pipeline.report.side_tables import classes_part, plans_part, rest_part, scores_part, settings_part
from pipeline.scores import LABELS, label_of, per_image_score, score_of


def write_side_page(names: Sequence[str], folders: Folders, stages: Sequence[Stage]) -> Path:
    """Writes the page of runs, or of configs that were never run; returns its path.

    Raises:
        UserError: there is neither a run nor a config of a name, or a run's files are damaged.
    """
    started = [name for name in names if (folders.run(name) / CONFIG).is_file()]
    comparison = (
        compare_runs(started, folders.runs) if started else Comparison((), {}, None, "score", {}, {}, (), (), "score")
    )
    sides, own = read_sides(names, folders, stages), _own_intervals(comparison, folders)
    curves = _curves(sides, comparison)
    parts = [
        ("Scores", "Scores", scores_part(sides, comparison, own)),
        ("Images", "The same images", images_part(sides, _colors(sides)) or _no_images()),
        ("Classes", "Score per class", classes_part(sides, comparison)),
        ("Curves", "Learning curves", curves),
        ("Plans", "Losses, phases, changes of the plan", plans_part(sides)),
        ("Settings", "Settings that differ", settings_part(sides, comparison)),
        ("Missing", "What is missing", rest_part(sides)),
    ]
    title = f"{quantity(len(sides), 'run')} side by side"
    path = folders.runs / compared_page(names)
    made = [part for part in parts if part[2] is not None]
    write_atomic(path, document(title, "Compared runs", _headline(sides, comparison, title), made))
    return path


def _headline(sides: Sequence[Side], comparison: Comparison, title: str) -> Html:
    """Returns what is compared, and the best run."""
    known = dict.fromkeys(side.competition for side in sides if side.competition)
    competitions = [_title_of(name) for name in known]
    labels = {side.name: side.label for side in sides}
    scores = comparison.scores.get(comparison.label, ())
    found = [(mean, labels[name]) for name, mean in zip(comparison.runs, scores, strict=False) if mean is not None]
    words = None
    if found and len(known) == 1:
        mean, label = max(found)
        best = tag("strong", digits(mean))
        words = tag("p", best, f" the highest validation {comparison.label}, of {label}", class_="score")
    notes = [note for note in comparison.notes if "compared here" in note]
    if len(known) > 1:
        notes.append("These runs are of different competitions: their scores cannot be compared.")
    cautions = tag("aside", tag("ul", *(tag("li", note) for note in notes)), class_="caution") if notes else None
    listed = ", ".join(side.label for side in sides)
    return tag(
        "header",
        tag("p", "; ".join(competitions), class_="eyebrow"),
        tag("div", tag("h1", title), class_="title"),
        tag("p", listed, class_="question"),
        words,
        cautions,
    )


def _title_of(name: str) -> str:
    try:
        return f"{name}: {load_competition(name).title}"
    except UserError:  # its description was renamed or removed
        return name


def _colors(sides: Sequence[Side]) -> dict[str, dict[str, Color]]:
    """Returns the class colours by competition and class."""
    found = {}
    for name in {side.competition for side in sides if side.shots.names}:
        with contextlib.suppress(UserError):  # its description was renamed or removed
            competition = load_competition(name)
            found[name] = dict(zip(competition.classes, competition.colors, strict=True))
    return found


def _no_images() -> Html:
    text = (
        "No run has images yet: name epochs in REPORT.EPOCHS before a run trains, such as REPORT: {EPOCHS: [20, 50]}."
    )
    return tag("p", text, class_="missing")


def _own_intervals(comparison: Comparison, folders: Folders) -> dict[str, Interval]:
    """Returns the mean over images of each run with its interval, where it has enough of them."""
    if comparison.score is None:
        return {}
    score, found = per_image_score(comparison.score), {}
    for name in comparison.runs:
        of_images = read_image_scores(folders.run(name).folder, shlex.join(["./run.sh", name]), score)
        if len(of_images) >= LEAST_IMAGES:
            sequences, values = zip(*of_images.values(), strict=True)
            found[name] = interval(np.array(values), group_numbers(list(of_images), sequences))
    return found


def _curves(sides: Sequence[Side], comparison: Comparison) -> Html | None:
    """Returns the curves of all runs that have trained an epoch, with what to know when reading them."""
    trained = [side for side in sides if side.history.get("epoch")]
    if not trained:
        return None
    watched = score_of(str(trained[0].values.get("SOLVER.MONITOR", "")))
    score = watched or comparison.score
    if score is None or f"valid_{score}" not in trained[0].history:
        score = next((name for name in LABELS if f"valid_{name}" in trained[0].history), "dice")
    alt = f"Validation loss, {label_of(score)} and learning rate over epochs, a line per run."
    drawn = themed(lambda theme: draw_overlay(sides, score, theme), alt)
    notes = ["Circles: a phase of the plan begins. Crosses: the plan was changed while it trained."]
    if len({side.mix for side in trained}) > 1:
        text = "The validation loss of each run is that of its own LOSS_FN.MIX: across mixes, compare its course only."
        notes.append(text)
    return join(drawn, tag("p", " ".join(notes), class_="note"))
