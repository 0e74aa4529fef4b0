"""What each small file of a run must hold so that it can be read: the keys of JSON files, the columns of tables.

Another run's file may be empty, cut off or edited by hand. It is checked once, where it is read (`report/read.py`);
content that does not fit counts as damaged, so that no reader gets a wrong type. Only keys that readers use are listed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import paths

NUMBER, TEXT_OR_NONE, NUMBER_OR_NONE = (int, float), (str, None), (int, float, None)
_SCORES = {str: NUMBER_OR_NONE}  # by class, or by name of a score
_SCORE = {"label": str, "mean": NUMBER_OR_NONE, "classes": _SCORES}
_STAGE = {"seconds": NUMBER, "version?": int, "settings?": dict, "inputs?": {str: str}, "outputs?": {str: str}}
_SCENE = {"epoch": int, "score": str, "scores": [NUMBER_OR_NONE]}
_MACHINE = {"cpu?": TEXT_OR_NONE, "cores?": int, "memory_bytes?": NUMBER, "gpu?": str, "gpu_memory_bytes?": NUMBER}

# By file, or by folder for all of its files. A key that ends with ? may be missing.
SHAPES: Mapping[str, Any] = {
    paths.METRICS: {
        "images": int,
        "score": str,
        "scores": {str: _SCORE},
        "scored?": ([str], None),
        "majority?": ({"class?": str, "scores?": _SCORES}, None),
        "split?": ({"by?": str, "index?": (int, None), "folds?": int}, None),
        "checkpoint?": ({"epoch?": (int, None), "sha256?": str, "parameters?": NUMBER_OR_NONE}, None),
        "duplicates?": ({str: int}, None),
    },
    paths.TILES: {"samples_per_epoch?": int},
    paths.SWEEP_FACTS: {"max_lr?": NUMBER_OR_NONE},
    paths.AVERAGE: {"runs?": [str]},
    paths.PSEUDO_FACTS: {"trained_on?": ([str], None)},
    paths.MEMBERS: [dict],
    paths.REFUSAL: {"stage": str, "message": str},
    paths.SCENE_LIST: [{"id": str, "window?": ([int], None)}],
    paths.SCENES: _SCENE,
    paths.MARKERS: _STAGE,
    paths.PROVENANCE: {
        "versions?": ({str: str}, None),
        "commit?": ({"hash": str, "is_changed": bool}, None),
        "machine?": (_MACHINE, None),
        "device?": TEXT_OR_NONE,
        "peak_bytes?": ({str: NUMBER_OR_NONE}, None),
        "earlier?": ([_MACHINE], None),
    },
    # What other runs read of the settings; the run itself checks all of them.
    paths.CONFIG: {
        "DATASETS?": {"COMPETITION?": str, "SPLIT_INDEX?": int, "SPLIT?": {"BY?": str}},
        "DATALOADERS?": {"TRAIN?": {"BATCH_SIZE?": int, "DROP_LAST?": bool}},
        "EXPERIMENT?": {"LOAD_PREV?": TEXT_OR_NONE},
        "PSEUDO?": {"TEACHER?": TEXT_OR_NONE},
        "REPORT?": {"EPOCHS?": [int]},
    },
}


class Table(NamedTuple):
    """The columns that a table must have.

    Attributes:
        text: read as they are.
        whole: whole numbers.
        other: numbers, or empty cells.
        all_other: whether every further column is of that kind, too.
    """

    text: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    all_other: bool = False


_CATALOG = Table(("id", "sequence", "image"), ("width", "height"))
TABLES: Mapping[str, Table] = {
    paths.TRAIN_CATALOG: _CATALOG,
    paths.TEST_CATALOG: _CATALOG,
    paths.CLASSES: Table(("name",), ("red", "green", "blue", "images", "valid_images"), (), True),
    paths.SPLIT: Table(("id", "subset")),
    paths.LEAKAGE: Table(("train_id", "valid_id"), (), ("distance",)),
    paths.SWEEP_TABLE: Table((), (), ("lr",), True),
    paths.HISTORY: Table(("phase",), ("epoch",), ("lr",), True),
    paths.TIMINGS: Table((), (), ("epoch", "seconds", "samples_per_s")),
    paths.PER_IMAGE: Table(("id", "sequence"), (), (), True),
    paths.CONFUSION: Table((), (), ()),
    paths.PSEUDO_TABLE: Table(("id",), (), ("labelled", "confidence")),
    paths.GALLERY_LIST: Table(("id",), ("number", "width", "height")),
}


def of_file(path: Path, known: Mapping[str, Any]) -> Any:
    """Returns the entry for a file of a run, by its name or that of its folder; None if there is none.

    >>> of_file(Path("runs/ExpAAB/scenes/best.json"), {"scenes": 1, "best.json": 2, "scenes/list.json": 3})
    1
    """
    folder = path.parent.name
    return known.get(f"{folder}/{path.name}", known.get(folder, known.get(path.name)))


def is_table(columns: Mapping[str, Sequence[str]], table: Table) -> bool:
    """Returns whether a table has its columns, with numbers where they are expected.

    >>> is_table({"id": ["a"], "epoch": ["1"]}, Table(("id",), ("epoch",))), is_table({"epoch": ["x"]}, Table())
    (True, True)
    >>> is_table({"seconds": ["x"]}, Table(other=("seconds",)))
    False
    """
    if not {*table.text, *table.whole, *table.other} <= columns.keys():
        return False
    rest = [name for name in columns if name not in (*table.text, *table.whole)] if table.all_other else table.other
    try:
        for name in table.whole:
            list(map(int, columns[name]))
        for name in rest:  # without a loop over cells: `list` reads the tables of hundreds of runs
            values = list(map(float, filter(None, map(str.strip, columns[name]))))
            if math.inf in values or -math.inf in values:
                return False
    except ValueError:
        return False
    return True
