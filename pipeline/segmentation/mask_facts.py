"""How run lengths of masks are to be read, where MASKS does not say it: found from the texts and the images.

In: `MASKS: {CSV: train.csv}` of the descriptor. Out: labels.json, which `MaskSource` reads masks by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.config.competition import Competition, MaskCsv
from pipeline.data.competition import cell_of
from pipeline.data.image_facts import measure
from pipeline.data.image_files import Files
from pipeline.data.image_source import ImageSource, to_rgb
from pipeline.data.images import BadFile, map_files
from pipeline.data.tiles import Box
from pipeline.errors import UserError
from pipeline.paths import descriptor
from pipeline.segmentation.mask_runs import read_runs
from pipeline.segmentation.submission.edges import LargeGrey, guess_convention

MOST_EXAMPLES = 64  # images by which the convention of run lengths is found
FOUND = ("order", "base", "relative")  # what is found of a convention where MASKS says nothing


def find_facts(competition: Competition, folder: Path) -> dict[str, Any]:
    """Returns how the run lengths of MASKS are read, what of it is not sure, and by how many masks it was found.

    Empty for masks that are files.

    Raises:
        UserError: no convention fits the texts and images.
    """
    spec = competition.masks
    if not isinstance(spec, MaskCsv):
        return {}
    given = {name: getattr(spec, name) for name in FOUND if getattr(spec, name) is not None}
    known = replace(competition.convention, empty="", **given)
    table, problems = read_runs(folder, competition, known)
    facts = {name: getattr(known, name) for name in FOUND} | {"doubtful": [], "examples": 0}
    if problems or len(given) == len(FOUND):
        return facts  # with problems the catalog refuses the csv anyway
    images = Files(folder, competition.templates("train"), competition.id_format)
    ids = [image_id for image_id in table.rows if all((folder / file).is_file() for file, _ in images.of(image_id))]
    chosen = [image_id for image_id in ids[:: max(1, len(ids) // MOST_EXAMPLES)][:MOST_EXAMPLES] if images.of(image_id)]
    cells = [cell_of(images, image_id) for image_id in chosen]
    if any(_is_damaged(competition, folder, cell) for cell in cells):
        cells = []  # the catalog says what is wrong with them
    source = ImageSource(competition, folder, measure(competition, folder, cells) if cells else None)
    size = None if competition.mask_size == "image" else competition.mask_size
    greys = map_files(lambda cell: _brightness(source, cell, size), cells, "find convention")
    seen = [(image_id, grey) for image_id, grey in zip(chosen, greys, strict=False) if grey is not None]
    examples = [(row.text, grey) for image_id, grey in seen for row in table.rows[image_id]]
    if not examples:
        return facts | {"doubtful": [name for name in FOUND if name not in given]}
    guess = guess_convention(examples, known, tuple(given))
    if guess is None:
        raise UserError(
            f"{spec.csv}: no ORDER, BASE or RELATIVE makes these runs fit inside their images. Check that the csv and "
            f"the images belong together; if they do, set the three keys of MASKS in {descriptor(competition.name)}"
        )
    found = {name: getattr(guess.convention, name) for name in FOUND}
    return found | {"doubtful": list(guess.doubtful), "examples": len(examples)}


def _is_damaged(competition: Competition, folder: Path, cell: str) -> bool:
    source = ImageSource(competition, folder)
    try:
        if source.large(cell) is not None:  # all of it is decoded for the catalog, which says what is wrong
            return False
    except (OSError, BadFile):
        return True
    return bool(source.inspect(cell).problems)


def _brightness(source: ImageSource, cell: str, mask_size: tuple[int, int] | None) -> np.ndarray | LargeGrey | None:
    """Returns the brightness of an image, at the size of its run lengths; None of a large image of another size."""
    large = source.large(cell)
    if large is None:
        grey = source.grey(cell)
        return cv2.resize(grey, mask_size, interpolation=cv2.INTER_AREA) if mask_size else grey
    if mask_size:
        return None

    def read(box: Box) -> np.ndarray:
        return cv2.cvtColor(to_rgb(source.window(cell, box), source.facts), cv2.COLOR_RGB2GRAY)

    return LargeGrey(large.size, read)


def describe_facts(competition: Competition, facts: Mapping[str, Any]) -> list[str]:
    """Returns what was found of run lengths, a sentence each, for the terminal."""
    if not facts.get("doubtful") and not facts.get("examples"):
        return []
    words = {"order": str(facts["order"]), "base": str(facts["base"]), "relative": str(facts["relative"]).lower()}
    found = ", ".join(f"{name.upper()}: {value}" for name, value in words.items())
    if not facts["examples"]:
        why = "of ORDER, BASE and RELATIVE, those that MASKS leaves out are as in CONVENTION"
        return [f"{competition.masks.csv}: no readable example; {why}"]
    lines = [f"{competition.masks.csv}: read with {found} (from {facts['examples']} rows and their images)"]
    if facts["doubtful"]:
        named = " and ".join(name.upper() for name in facts["doubtful"])
        lines.append(f"not certain: {named}; check and write into MASKS of {descriptor(competition.name)}")
    return lines
