"""The names that studies give to the settings of runs, and the runs that they compare them with.

In: the tables that studies have written. Out: `StudyTable`, `Setting`. No pandas, no NumPy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.study import SEED, SPLIT
from pipeline.paths import CONFIGS, STUDIES, TRIALS
from pipeline.report.folders import SPLIT_KEYS
from pipeline.report.read import Columns, Header, read_columns, read_header, show_value

STUDY_COLUMNS = ("setting", "runs", "planned", "score", "gain", "low", "high", "verdict")
REPEATED = (*SPLIT_KEYS, SEED)  # what may differ between the runs of one setting
SHORT = {SPLIT: "split", SEED: "seed"}


@dataclass(frozen=True)
class StudyTable:
    """A table of a study as its command wrote it; `columns` is None where it is damaged."""

    name: str
    question: str
    columns: Columns | None


@dataclass(frozen=True)
class Setting:
    """The name of a run's setting in studies, and the names of the runs that they compare it with."""

    name: str
    references: tuple[str, ...]


def read_studies(runs: Path, configs: Path = CONFIGS) -> list[StudyTable]:
    """Returns the tables of all studies that were run, by name."""
    found = []
    for path in sorted((runs / STUDIES).glob("*.csv")):
        if path.stem.endswith(TRIALS):  # of a search, which has a table of its own beside it
            continue
        source = configs / "studies" / f"{path.stem}.yaml"
        header = read_header(source) if source.is_file() else Header("", None, "")
        columns = read_columns(path)
        is_whole = columns is not None and set(STUDY_COLUMNS) <= set(columns)
        found.append(StudyTable(path.stem, header.question, columns if is_whole else None))
    return found


def read_settings(studies: Sequence[StudyTable]) -> dict[str, Setting]:
    """Returns, by run, its setting in each study, such as "no colors (demo_questions)", and the references of these."""
    found: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    for study in studies:
        columns = study.columns or {}
        names = [cell.split() for cell in columns.get("names", ())]
        for setting, own in zip(columns.get("setting", ()), names, strict=False):
            for run in own:
                found[run].append((f"{setting} ({study.name})", names[0] if own is not names[0] else []))
    return {
        run: Setting(", ".join(name for name, _ in own), tuple(one for _, references in own for one in references))
        for run, own in found.items()
    }


def repeat_words(setting: Setting, values: Mapping[str, Any], changed: Sequence[str]) -> str:
    """Returns what a run of a setting is called: by the setting, and by its own split and seed.

    >>> values = {"DATASETS.SPLIT_INDEX": 0, "EXPERIMENT.SEED": 2, "SOLVER.POWER": 1.0}
    >>> repeat_words(Setting("plain (mine)", ()), values, list(values))
    'plain (mine), split 0, seed 2'
    """
    own = (f", {word} {show_value(values[key])}" for key, word in SHORT.items() if key in changed and key in values)
    return setting.name + "".join(own)
