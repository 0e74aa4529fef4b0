"""The notebook that is pushed to Kaggle, as text: unpack the dataset, run, show what came out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

INTRODUCTION = """\
# {command}

Made by `{command}`. {what}

| | |
|---|---|
| code, packages, weights | dataset `{files}` |
| time | {hours:g} hours |
| output | {output} |
"""
UNPACK = """\
import sys
import tarfile
import time
from pathlib import Path

STARTED = time.monotonic()
INPUT, PACK, UNPACKED = Path("/kaggle/input"), {pack!r}, Path("/tmp/unpacked")
packs = [path for depth in ("*", "*/*", "*/*/*") for path in INPUT.glob(f"{{depth}}/{{PACK}}")]
if not packs:
    raise FileNotFoundError(f"{{PACK}} is not among the inputs; add the dataset {files} with Add Input")
with tarfile.open(packs[0]) as pack:
    pack.extractall(UNPACKED, filter="data")
sys.path.insert(0, str(UNPACKED / "project"))
print(*sorted(path.name for path in UNPACKED.iterdir()))
"""
RUN = """\
from pipeline.notebook.session import {kind}

WORDS = [  # behind ./run.sh
{words}
]
{kind}({slug!r}, WORDS, hours={hours!r}, started_s=STARTED, {more})
"""
SHOW = """\
from IPython.display import Image, display

for path in sorted(Path("/kaggle/working").glob("*.png")):
    print(path.name)
    display(Image(str(path)))
"""
SUBMISSION = """\
for path in sorted(Path("/kaggle/working").glob("submission.*")):
    print(path.name, f"{path.stat().st_size:,} bytes")
    if path.suffix == ".csv":
        with open(path) as file:
            print(*[line[:100].rstrip() for _, line in zip(range(5), file)], sep="\\n")
"""

ABOUT = {
    "train": (
        "Trains; the next session continues.",
        "submission, report, log, and the runs for the next session",
    ),
    "study": (
        "Trains the runs of a study; the next session continues.",
        "table, log, and all runs for the next session",
    ),
    "predict": ("Predicts the test images with trained weights.", "submission and log"),
}


def notebook_text(
    kind: str, slug: str, files: str, pack: str, words: Sequence[str], hours: float, command: str, more: str
) -> str:
    """Returns a notebook as JSON, in the format 4.5.

    Args:
        kind: "train", "study" or "predict", the function of `session.py` that it calls.
        slug: of the notebook.
        files: the dataset, `OWNER/SLUG`.
        pack: the file in the dataset.
        words: what is typed behind `./run.sh`.
        hours: that it may take.
        command: that has made it.
        more: further arguments of the function, as text.
    """
    what, output = ABOUT[kind]
    introduction = INTRODUCTION.format(command=command, what=what, files=files, hours=hours, output=output)
    lines = "\n".join(f"    {word!r}," for word in words)
    run = RUN.format(kind=kind, slug=slug, words=lines, hours=hours, more=more)
    shown = {"train": [SUBMISSION, SHOW], "study": [], "predict": [SUBMISSION]}  # a study prints its table
    codes = [UNPACK.format(pack=pack, files=files), run, *shown[kind]]
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "source": introduction}]
    cells += [{"cell_type": "code", "source": code, "outputs": [], "execution_count": None} for code in codes]
    for number, cell in enumerate(cells):
        cell |= {"id": f"cell-{number}", "metadata": {}, "source": cell["source"].strip("\n")}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    facts = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": facts, "nbformat": 4, "nbformat_minor": 5}, indent=1)
