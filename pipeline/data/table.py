"""Reads the tables of a run with every cell as written: an image may be called `NA`, `007` or `1e5`.

The only place that reads a CSV with pandas, which by default turns such cells into NaN, 7 and 100000.0. Lists of a
competition are read by `csv_file.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.errors import UserError
from pipeline.paths import shown


def read_table(path: Path, columns: Sequence[str], text: Sequence[str] | None = None) -> pd.DataFrame:
    """Returns a table with every cell as it was written.

    Args:
        columns: those that must be there.
        text: the columns of text, where the others are numbers; None: all are text.

    Raises:
        UserError: the file is missing or damaged; names it and how it is written again.
    """
    try:
        dtype = str if text is None else dict.fromkeys(text, str)
        table = pd.read_csv(path, dtype=dtype, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise _refusal(path, "is missing") from None
    except (OSError, ValueError) as error:  # among the latter are pandas' own, and that of text that is not UTF-8
        raise _refusal(path, f"cannot be read ({str(error).strip()})") from None
    if lacking := [name for name in columns if name not in table]:
        raise _refusal(path, f"has no column {lacking[0]}")
    numbers = () if text is None or table.empty else set(columns) - set(text)
    if wrong := sorted(name for name in numbers if table[name].dtype.kind not in "if"):
        raise _refusal(path, f"has cells that are not numbers in its column {wrong[0]}")
    return table


def _refusal(path: Path, why: str) -> UserError:
    return UserError(f"{shown(path)} {why}; run the experiment of {path.parent.name} again to write it")
