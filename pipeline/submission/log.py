"""The log of all uploads: local, public and private score of each, as far as Kaggle has answered."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.submission.kaggle import ANSWER_WITHIN_S, ask, connect, facts_in, slug_of, text_of

POLL_EVERY_S = 5.0
LOG_COLUMNS = (
    "reference", "submitted_utc", "competition", "file", "csv_sha256", "local_dice", "local_iou", "public", "private",
    "status", "message",
)  # fmt: skip


def submissions_log(
    log_path: Path | str, competition: Competition, wait_s: float = 0, answer_within_s: float = ANSWER_WITHIN_S
) -> list[dict[str, str]]:
    """Brings `log_path` (csv) up to date with Kaggle's answers and returns its rows of this competition.

    A submission that is not in the log is appended, one that is there gets its new scores; rows are never removed.

    Args:
        log_path: usually submissions/log.csv; made when absent.
        competition: whose submissions to ask for.
        wait_s: how long to wait for scores that are still pending.
        answer_within_s: how long to wait for each answer.

    Raises:
        UserError: no client, credentials, network or permission; the log stays as it was.
    """
    log_path, slug = Path(log_path), slug_of(competition)
    client = connect(answer_within_s)
    give_up = time.monotonic() + wait_s
    while True:
        answers = ask(f"look up submissions to {slug}", lambda: client.competition_submissions(slug), answer_within_s)
        found = [_log_row(submission, slug) for submission in answers or [] if submission]
        if all(row["status"] != "pending" for row in found) or time.monotonic() + POLL_EVERY_S > give_up:
            break
        time.sleep(POLL_EVERY_S)
    rows = {(row["competition"], row["reference"]): row for row in _read_log(log_path)}
    for row in sorted(found, key=lambda row: row["submitted_utc"]):
        rows[row["competition"], row["reference"]] = row
    _write_log(log_path, list(rows.values()))
    return [row for row in rows.values() if row["competition"] == slug]


def _log_row(submission: Any, slug: str) -> dict[str, str]:
    message = text_of(submission, "description")
    facts = facts_in(message)
    status = getattr(submission, "status", None)
    return {
        "reference": text_of(submission, "ref"),
        "submitted_utc": text_of(submission, "date"),
        "competition": slug,
        "file": text_of(submission, "file_name"),
        "csv_sha256": facts.get("csv", ""),
        "local_dice": facts.get("local_dice", ""),
        "local_iou": facts.get("local_iou", ""),
        "public": text_of(submission, "public_score"),
        "private": text_of(submission, "private_score"),
        "status": str(getattr(status, "name", status)).lower().rpartition(".")[2],
        "message": message,
    }


def _read_log(log_path: Path) -> list[dict[str, str]]:
    if not log_path.is_file():
        return []
    with open(log_path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if any(set(row) != set(LOG_COLUMNS) for row in rows):
        raise UserError(f"{log_path} has other columns than {','.join(LOG_COLUMNS)}; move it away to begin a new log")
    return rows


def _write_log(log_path: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, LOG_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(log_path, text.getvalue())
