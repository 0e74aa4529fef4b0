"""The same validation images at chosen epochs (REPORT.EPOCHS): what a run has kept of them, and their section.

In: the folder of a run's scenes, see `training/scenes.py`. Out: `Shots`, for this page and for that of several runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.paths import SCENE_LIST, scene_file, scene_scores
from pipeline.report.figure import Color
from pipeline.report.markup import Html, digits, embedded, join, tag
from pipeline.report.read import read_json
from pipeline.report.record import Record
from pipeline.scores import LABELS


@dataclass(frozen=True)
class Moment:
    """What a run keeps of one epoch.

    Attributes:
        key: in file names, `epoch_20` or `best`.
        epoch: as in history.csv.
        score: name of that of `scores`, one per scene; None where a scene has none.
    """

    key: str
    epoch: int
    score: str
    scores: Sequence[float | None]

    @property
    def title(self) -> str:
        """What stands above its images."""
        return f"kept: epoch {self.epoch}" if self.key == "best" else f"epoch {self.epoch}"


@dataclass(frozen=True)
class Shots:
    """All that a run has kept; empty where it has nothing.

    Attributes:
        folder: of the run.
        names: of the scenes, by image and window.
        moments: by key, in order of epochs; what the best weights find comes last.
    """

    folder: Path
    names: Sequence[str]
    moments: Mapping[str, Moment]

    def file(self, name: str, key: str) -> Path:
        """Returns an image of a scene: `image`, `label`, or the key of a moment."""
        return self.folder / scene_file(self.names.index(name) + 1, key)

    def score(self, name: str, moment: Moment) -> str:
        """Returns what stands below a scene's image at a moment."""
        return f"{LABELS[moment.score]} {digits(moment.scores[self.names.index(name)])}"


def read_shots(folder: Path, epochs: Sequence[int]) -> Shots:
    """Returns what a run's folder has of the chosen epochs and of the best weights, where all files are there."""
    listed = read_json(folder / SCENE_LIST, list) or []
    names = [_name(own) for own in listed]
    moments = {}
    for key in (*(f"epoch_{epoch}" for epoch in sorted(epochs)), "best"):
        found = read_json(folder / scene_scores(key)) or {}
        files = (folder / scene_file(number, key) for number in range(1, len(names) + 1))
        if names and len(found.get("scores", ())) == len(names) and all(file.is_file() for file in files):
            moments[key] = Moment(key, int(found["epoch"]), str(found["score"]), found["scores"])
    return Shots(folder, names if moments else [], moments)


def _name(own: Mapping[str, Any]) -> str:
    """Returns the name of a scene.

    >>> _name({"id": "slide_7", "window": [128, 0, 768, 768]}), _name({"id": "0001", "window": None})
    ('slide_7, window at row 128, column 0', '0001')
    """
    window = own.get("window")
    return f"{own['id']}, window at row {window[0]}, column {window[1]}" if window else str(own["id"])


def late_epochs(epochs: Sequence[int], shots: Shots, last_epoch: int | None) -> list[int]:
    """Returns the chosen epochs that were trained before they were chosen, so that there are no images of them.

    Args:
        last_epoch: the last that is trained; None: none is.
    """
    trained = () if last_epoch is None else range(last_epoch + 1)
    return [epoch for epoch in sorted(epochs) if epoch in trained and f"epoch_{epoch}" not in shots.moments]


def missing_epochs(
    epochs: Sequence[int], shots: Shots, last_epoch: int | None, is_trained: bool, command: str
) -> list[tuple[str, str]]:
    """Returns why there is no image of some chosen epochs, each with the command that makes them, or "".

    Args:
        is_trained: whether training is finished.
        command: trains the run.
    """
    late = late_epochs(epochs, shots, last_epoch)
    ahead = [epoch for epoch in sorted(epochs) if epoch not in late and f"epoch_{epoch}" not in shots.moments]
    found = []
    if late:
        found.append(
            (f"{_named(late)} trained before REPORT.EPOCHS named it; made by training anew:", f"{command} --force")
        )
    if ahead and is_trained:
        found.append((f"{_named(ahead)} not reached: training ended after epoch {last_epoch}.", ""))
    elif ahead:
        found.append((f"{_named(ahead)} not reached yet; training goes on with", command))
    return found


def _named(epochs: Sequence[int]) -> str:
    """Returns epochs as the beginning of a sentence.

    >>> _named([20]), _named([20, 50])
    ('Epoch 20 was', 'Epochs 20 and 50 were')
    """
    words = [str(epoch) for epoch in epochs]
    return f"Epoch {words[0]} was" if len(words) == 1 else f"Epochs {', '.join(words[:-1])} and {words[-1]} were"


def scenes_section(record: Record) -> Html | None:
    """Returns each scene in a row: image, label, and what the network finds at the chosen epochs and in the end."""
    epochs, command = record.loaded.config.report.epochs, record.command("train")
    trained = [int(epoch) for epoch in record.history.get("epoch", ())]
    last_epoch, is_trained = (trained[-1] if trained else None), "train" in record.stage_seconds
    shots = read_shots(record.folder, epochs)
    notes = [
        tag("p", text, " ", tag("code", typed) if typed else None, class_="missing")
        for text, typed in missing_epochs(epochs, shots, last_epoch, is_trained, command)
    ]
    if not shots.moments:
        return join(*notes) if notes else None
    rows = (join(tag("h3", name), scene_row(shots, name)) for name in shots.names)
    text = "The same images in every run of this split, chosen by the classes that they show, not by any prediction."
    return join(tag("p", text, class_="note"), legend(record.colors), *rows, *notes)


def scene_row(shots: Shots, name: str) -> Html:
    """Returns the images of a scene side by side, each with what it is and its score."""
    cells = [("image", "image", ""), ("label", "label", "")]
    cells += [(key, moment.title, shots.score(name, moment)) for key, moment in shots.moments.items()]
    drawn = (shot(shots.file(name, key), f"{name}, {title}", title, score) for key, title, score in cells)
    return tag("div", *drawn, class_="shots")


def shot(path: Path, about: str, title: str, score: str) -> Html:
    """Returns one image with its caption."""
    caption = tag("figcaption", title, tag("b", score) if score else None)
    return tag("figure", embedded(path, " ".join(filter(None, (about, score)))), caption)


def legend(colors: Mapping[str, Color]) -> Html:
    """Returns the class colours."""
    return tag("ul", *(tag("li", swatch(color), name) for name, color in colors.items()), class_="legend")


def swatch(color: Color) -> Html:
    """Returns a small square of a colour."""
    return tag("span", class_="swatch", style="background:#{:02x}{:02x}{:02x}".format(*color), aria_hidden="true")
