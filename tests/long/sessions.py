"""The demo trained in sessions like Kaggle's, one cut by its time, and pictures of it for docs/kaggle.md.

    python -m tests.long.sessions [--minutes 6] [--folder FOLDER] [--pictures docs]

Needs namespaces of Linux, as tests/notebook/sandbox.py says. A folder of earlier sessions is only drawn.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from tests.notebook.sandbox import PROJECT, make_image, printed, run_notebook, write_wheels

SLUG = "demo-train"
MOST_SESSIONS = 8
CUT = "The session's time is used up"
FONT, LINE, WIDTH, MARGIN = 15, 20, 1040, 14  # pixels of a drawn notebook
INK, PAPER, CODE_PAPER, NOTE = "#1c1c1c", "#ffffff", "#f3f4f6", "#6b7280"


def main(arguments: Sequence[str]) -> None:
    """Runs sessions until the run is finished; draws them."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=6.0, help="of the first session")
    options.add_argument("--folder", type=Path)
    options.add_argument("--pictures", type=Path)
    chosen = options.parse_args(arguments)
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="sessions-"))
    sessions = sorted(folder.glob("session-*")) or run_sessions(folder, chosen.minutes)
    epochs = [epochs_of(session) for session in sessions]
    print(f"{len(sessions)} sessions in {folder}, with {[len(own) for own in epochs]} epochs at their ends")
    if chosen.pictures is not None:
        draw_notebooks(sessions, chosen.pictures / "kaggle_sessions.webp")
        draw_curve(epochs, chosen.pictures / "kaggle_curve.webp")


def run_sessions(folder: Path, minutes: float) -> list[Path]:
    """Trains the demo in sessions, the first with less time; returns their folders."""
    wheels, environment = write_wheels(folder / "wheels"), {**os.environ, "RUNS_DIR": str(folder / "runs")}
    made = folder / "runs" / "notebooks" / SLUG
    inputs, sessions = {f"datasets/somebody/{SLUG}-files": made / "dataset"}, []
    while len(sessions) < MOST_SESSIONS:
        words = ["kaggle", "demo", "--owner", "somebody", "--accelerator", "none", "--wheels", str(wheels)]
        words += ["--continue"] if sessions else ["--time-limit", f"{minutes}min"]
        subprocess.run([sys.executable, "-m", "pipeline", *words], cwd=PROJECT, env=environment, check=True)
        session, image = folder / f"session-{len(sessions)}", make_image(folder / f"image-{len(sessions)}")
        text = printed(run_notebook(made / "kernel" / f"{SLUG}.ipynb", inputs, session, image))
        sessions.append(session)
        inputs[f"notebooks/somebody/{SLUG}"] = session / "working"
        if CUT not in text:
            return sessions
    raise AssertionError(f"not finished after {MOST_SESSIONS} sessions")


def epochs_of(session: Path) -> list[dict[str, str]]:
    """Returns the rows of the history that a session has packed for the next one."""
    with tarfile.open(session / "working" / f"{SLUG}-runs.pack") as pack:
        names = [name for name in pack.getnames() if name.endswith("/history.csv")]
        file = pack.extractfile(names[0]) if names else None
        return list(csv.DictReader(file.read().decode().splitlines())) if file else []


def draw_notebooks(sessions: Sequence[Path], path: Path) -> None:
    """Draws the cells of the first and the last session: the code, and the beginnings and ends of what they printed."""
    blocks: list[tuple[str, list[str]]] = []
    for number, session in ((1, sessions[0]), (len(sessions), sessions[-1])):
        notebook = json.loads((session / "executed.ipynb").read_text())
        blocks.append(("note", [f"Session {number}"]))
        cell = next(cell for cell in notebook["cells"] if "pipeline.notebook.session" in "".join(cell["source"]))
        blocks.append(("code", "".join(cell["source"]).splitlines()))
        blocks.append(("print", _ends(cell)))
    height = sum(len(lines) * LINE + MARGIN for _, lines in blocks) + MARGIN
    page = Image.new("RGB", (WIDTH, height), PAPER)
    draw, top = ImageDraw.Draw(page), MARGIN
    fonts = Path(matplotlib.get_data_path()) / "fonts/ttf"
    plain, bold = (ImageFont.truetype(str(fonts / f"DejaVuSansMono{kind}.ttf"), FONT) for kind in ("", "-Bold"))
    for kind, lines in blocks:
        bottom = top + len(lines) * LINE
        if kind == "code":
            draw.rectangle((MARGIN, top - 4, WIDTH - MARGIN, bottom + 4), fill=CODE_PAPER)
        for index, line in enumerate(lines):
            place = (MARGIN * 2, top + index * LINE)
            draw.text(place, line[:108], fill=NOTE if line == "..." else INK, font=bold if kind == "note" else plain)
        top = bottom + MARGIN
    page.save(path, lossless=True)


def _ends(cell: Mapping[str, Any], first: int = 9, last: int = 12) -> list[str]:
    """Returns the first and last lines that a cell printed, without progress bars."""
    lines = [line.rstrip() for line in printed({"cells": [cell]}).splitlines() if line.strip()]
    lines = [line for line in lines if not re.search(r"\d+%\|", line)]
    return lines if len(lines) <= first + last else [*lines[:first], "...", *lines[-last:]]


def draw_curve(epochs: Sequence[Sequence[Mapping[str, str]]], path: Path) -> None:
    """Draws the losses of the finished training, with a line where a session ended."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    rows = [row for row in epochs[-1] if int(row["epoch"]) > 0]
    for column, label in (("train_loss", "training"), ("valid_loss", "validation")):
        axes.plot([int(row["epoch"]) for row in rows], [float(row[column]) for row in rows], label=label)
    for number, own in enumerate(epochs[:-1], start=1):
        ended = max((int(row["epoch"]) for row in own), default=0)
        axes.axvline(ended, color="grey", linestyle="--", linewidth=1)
        axes.annotate(f"session {number} ended", (ended, axes.get_ylim()[1]), ha="left", va="top", xytext=(4, -4),
                      textcoords="offset points", color="grey")  # fmt: skip
    axes.set(xlabel="epoch", ylabel="loss", xticks=[int(row["epoch"]) for row in rows])
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1:])
