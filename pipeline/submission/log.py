"""The log of all uploads: local, public and private score of each, as far as Kaggle has answered.

    ./run.sh log --competition aeroscapes

An upload is in the log at once, with its local score; the leaderboard's scores follow when Kaggle is asked again.
"""

from __future__ import annotations

import csv
import io
import os
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.submission.kaggle import (
    Submitted,
    all_submissions,
    connect,
    facts_in,
    newest_submissions,
    slug_of,
    text_of,
)

POLL_EVERY_S = 5.0
PENDING = "pending"
SHOWN = {"submitted_utc": "uploaded", "file": "file", "local_score": "local", "public": "public", "private": "private"}
SHOWN |= {"status": "status", "message": "message"}
MOST_MESSAGE = 40  # characters of it in the table
LOG_COLUMNS = (
    "reference", "submitted_utc", "competition", "file", "sha256", "score", "local_score", "public", "private",
    "status", "message",
)  # fmt: skip
FREE_TEXT = ("file", "message")  # what people write; all else is Kaggle's or ours
FORMULA = re.compile(r"'*[=+\-@\t\r]")
EARLIER_COLUMNS = {*LOG_COLUMNS, "csv_sha256", "local_dice", "local_iou"} - {"sha256", "score", "local_score"}


def submissions_log(log_path: Path | str, competition: Competition, wait_s: float = 0) -> list[dict[str, str]]:
    """Brings `log_path` (csv) up to date with Kaggle's answers and returns its rows of this competition.

    A submission that is not in the log is appended, one that is there gets its new scores; rows are never removed.
    What `add_upload` wrote without Kaggle's number becomes the row of the upload with the same content.

    Args:
        log_path: usually submissions/log.csv; made when absent.
        competition: whose submissions to ask for.
        wait_s: how long to wait for scores that are still pending.

    Raises:
        UserError: no client, credentials, network or permission; the log stays as it was.
    """
    log_path, slug = Path(log_path), slug_of(competition)
    client = connect()
    give_up = time.monotonic() + wait_s
    found = [_log_row(submission, competition) for submission in all_submissions(client, slug)]
    while any(row["status"] == PENDING for row in found) and time.monotonic() + POLL_EVERY_S <= give_up:
        time.sleep(POLL_EVERY_S)
        newest = [_log_row(submission, competition) for submission in newest_submissions(client, slug)]
        found = list({row["reference"]: row for row in (*found, *newest)}.values())
    answered = {row["sha256"] for row in found if row["sha256"]}
    rows = {
        _key(row): row
        for row in read_log(log_path)
        if row["reference"] or row["competition"] != slug or row["sha256"] not in answered
    }
    for row in sorted(found, key=lambda row: row["submitted_utc"]):
        rows[_key(row)] = row
    _write_log(log_path, list(rows.values()))
    return [row for row in rows.values() if row["competition"] == slug]


def add_upload(log_path: Path, competition: Competition, file: str, submitted: Submitted) -> None:
    """Adds an upload to the log, its scores pending; needs no network."""
    row = _known(submitted.message, competition) | {
        "reference": submitted.reference if submitted.reference != "0" else "",
        "submitted_utc": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S"),
        "file": file,
        "status": PENDING,
    }
    rows = {_key(other): other for other in read_log(log_path)}
    _write_log(log_path, list((rows | {_key(row): row}).values()))


def log_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns the rows as a table for people, local, public and private score side by side."""
    cells = [list(SHOWN.values())]
    for row in rows:
        message = row["message"].partition(" | ")[0]  # without the facts, which have columns of their own
        short = message if len(message) <= MOST_MESSAGE else f"{message[: MOST_MESSAGE - 1]}…"
        cells.append([(row | {"message": short})[column] or "–" for column in SHOWN])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _key(row: Mapping[str, str]) -> tuple[str, str]:
    """Returns what identifies an upload: Kaggle's number, or the content where there is none yet."""
    return row["competition"], row["reference"] or f"sha256 {row['sha256']}"


def _known(message: str, competition: Competition) -> dict[str, str]:
    """Returns a row with the facts in the message of an upload, all else empty."""
    facts = facts_in(message)
    local_score = facts.get(f"local_{competition.score}", "")
    return dict.fromkeys(LOG_COLUMNS, "") | {
        "competition": slug_of(competition),
        "sha256": facts.get("sha256", ""),
        "score": competition.score if local_score else "",
        "local_score": local_score,
        "message": message,
    }


def _log_row(submission: Any, competition: Competition) -> dict[str, str]:
    status = getattr(submission, "status", None)
    return _known(text_of(submission, "description"), competition) | {
        "reference": text_of(submission, "ref"),
        "submitted_utc": text_of(submission, "date"),
        "file": text_of(submission, "file_name"),
        "public": text_of(submission, "public_score"),
        "private": text_of(submission, "private_score"),
        "status": str(getattr(status, "name", status)).lower().rpartition(".")[2],
    }


def read_log(log_path: Path) -> list[dict[str, str]]:
    """Returns the rows of a log, none where there is no log yet; an earlier log has Dice as its score.

    Raises:
        UserError: it is another table.
    """
    if not os.path.lexists(log_path):
        return []
    remedy = "move it away to begin a new log"
    try:
        with open(log_path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{log_path} cannot be read ({error}); {remedy}") from None
    is_whole = all(set(row) == columns and None not in row.values() for row in rows)
    if columns not in (set(LOG_COLUMNS), EARLIER_COLUMNS) or not is_whole:
        raise UserError(f"{log_path} does not have the columns {','.join(LOG_COLUMNS)}; {remedy}")
    rows = [row | {name: plain(row[name]) for name in FREE_TEXT} for row in rows]
    return rows if columns == set(LOG_COLUMNS) else [_renamed(row) for row in rows]


def escaped(cell: str) -> str:
    """Returns a text that a spreadsheet does not take for a formula: a teammate's message may begin with one.

    >>> escaped("=1+1"), escaped("flat, then cosine")
    ("'=1+1", 'flat, then cosine')
    """
    return f"'{cell}" if FORMULA.match(cell) else cell


def plain(cell: str) -> str:
    """Returns the text that `escaped` was given.

    >>> plain("'=1+1"), plain("'t was best")
    ('=1+1', "'t was best")
    """
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def _renamed(row: Mapping[str, str]) -> dict[str, str]:
    """Returns a row of an earlier log, whose competitions were scored by Dice, with today's columns."""
    names = {
        "sha256": row["csv_sha256"],
        "score": "dice" if row["local_dice"] else "",
        "local_score": row["local_dice"],
    }
    return {name: (row | names)[name] for name in LOG_COLUMNS}


def _write_log(log_path: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, LOG_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {name: escaped(row[name]) for name in FREE_TEXT} for row in rows)
    write_atomic(log_path, text.getvalue())
