"""The columns of the table of runs, and the table itself, which has a row per run or per setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

SETTING = "setting"  # the heading of the names of settings


@dataclass(frozen=True)
class Column:
    """Numbers, one per run. `key`: its name in the CSV.

    Attributes:
        is_score: higher is better.
        decimals: how many are shown.
        is_detail: only in the files, not on the terminal.
    """

    key: str
    heading: str
    values: tuple[float | None, ...]
    is_score: bool = True
    decimals: int = 3
    is_detail: bool = False

    @property
    def known(self) -> list[float]:
        """The values that there are."""
        return [value for value in self.values if value is not None]

    def shown(self, value: float | None) -> str:
        """Returns a value for people, empty where it is not known."""
        return "" if value is None else f"{value:.{self.decimals}f}"

    def summary(self) -> dict[str, float | None]:
        """Returns minimum, average and maximum."""
        known = self.known
        if not known:
            return dict.fromkeys(("minimum", "average", "maximum"))
        return {"minimum": min(known), "average": sum(known) / len(known), "maximum": max(known)}


@dataclass(frozen=True)
class RunsTable:
    """The evaluated runs of one competition, or their settings, with the highest score first.

    Attributes:
        competition: its name; `title`: what people call it.
        label: of the competition's own score, whose means are the first of `columns` and whose classes `classes` has.
        runs: their names, or those of settings.
        texts: words by heading, one per run: split, setting in a study, overrides.
        differing: the settings, without those that all runs of a config share.
        columns: without those in which no run has a value.
        notes: what is missing, and what not to compare.
        heading: of `runs`.
        by_setting: the same with a row per setting; None where that has as many rows.
    """

    competition: str
    title: str
    label: str
    runs: tuple[str, ...]
    texts: Mapping[str, tuple[str, ...]]
    differing: tuple[str, ...]
    columns: tuple[Column, ...]
    classes: tuple[Column, ...]
    notes: tuple[str, ...]
    heading: str = "experiment"
    by_setting: RunsTable | None = None

    def sorted(self) -> RunsTable:
        """Returns the table with the highest score first; of equal ones, in the order of their names."""
        scores = self.columns[0].values if self.columns else (None,) * len(self.runs)
        order = sorted(range(len(self.runs)), key=lambda index: (-(scores[index] or 0.0), self.runs[index]))

        def chosen(values: Sequence) -> tuple:
            return tuple(values[index] for index in order) if values else ()

        def moved(columns: Sequence[Column]) -> tuple[Column, ...]:
            return tuple(replace(column, values=chosen(column.values)) for column in columns)

        return replace(
            self,
            runs=chosen(self.runs),
            texts={heading: chosen(cells) for heading, cells in self.texts.items()},
            differing=chosen(self.differing),
            columns=moved(self.columns),
            classes=moved(self.classes),
        )
