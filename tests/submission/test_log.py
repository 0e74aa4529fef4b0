"""The log of uploads, filled from what the stand-in answers."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.submission.log import LOG_COLUMNS, escaped, log_table, plain, read_log
from tests.submission.clients import run_lines

LOG = "submissions_log('log.csv', competition)"


def submission(number, **changes):
    return {
        "ref": number, "date": f"2024-05-{number:02d} 07:08:09", "status": "SubmissionStatus.COMPLETE",
        "description": f"try {number} | local_dice 0.8{number} | local_iou 0.7{number} | sha256 0123456789ab",
        "file_name": "Exp.csv", "public_score": f"0.7{number}", "private_score": "", **changes,
    }  # fmt: skip


def answer(folder, *submissions):
    (folder / "submissions.json").write_text(json.dumps(submissions))


def read(folder):
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_local_and_leaderboard_scores_stand_side_by_side_in_the_order_of_upload(tmp_path):
    answer(tmp_path, submission(12), submission(11, description="by hand, without facts"))
    outcome = run_lines(LOG, tmp_path)
    assert outcome.code == 0, outcome.error
    by_hand, ours = read(tmp_path)
    assert (by_hand["reference"], by_hand["local_score"], by_hand["public"]) == ("11", "", "0.711")
    assert (ours["score"], ours["local_score"], ours["public"], ours["private"]) == ("dice", "0.812", "0.712", "")
    assert by_hand["score"] == ""
    assert (ours["status"], ours["sha256"], ours["competition"]) == ("complete", "0123456789ab", "a-competition")


def test_scores_that_come_later_fill_the_row_that_is_there(tmp_path):
    answer(tmp_path, submission(11, status="SubmissionStatus.PENDING", public_score=""))
    assert run_lines(LOG, tmp_path).code == 0
    assert [row["status"] for row in read(tmp_path)] == ["pending"]
    answer(tmp_path, submission(12), submission(11, private_score="0.69"))
    assert run_lines(LOG, tmp_path).code == 0
    assert [(row["reference"], row["private"]) for row in read(tmp_path)] == [("11", "0.69"), ("12", "")]
    answer(tmp_path)
    assert run_lines(LOG, tmp_path).code == 0
    assert len(read(tmp_path)) == 2


def test_the_local_score_is_the_competitions_own(tmp_path):
    answer(tmp_path, submission(12))
    outcome = run_lines(LOG.replace("competition)", "make_competition(score='iou'))"), tmp_path)
    assert outcome.code == 0, outcome.error
    assert [(row["score"], row["local_score"]) for row in read(tmp_path)] == [("iou", "0.712")]


def test_all_pages_of_submissions_are_in_the_log(tmp_path):
    answer(tmp_path, *(submission(number, date=f"2024-05-01 07:08:{number:02d}") for number in range(45, 0, -1)))
    outcome = run_lines(LOG, tmp_path)
    assert outcome.code == 0, outcome.error
    assert [row["reference"] for row in read(tmp_path)] == [str(number) for number in range(1, 46)]


def test_a_page_that_is_not_full_is_not_taken_for_the_last(tmp_path):
    answer(tmp_path, *(submission(number, date=f"2024-05-01 07:08:{number:02d}") for number in range(45, 0, -1)))
    assert run_lines(LOG, tmp_path, "leaves out").code == 0
    assert {row["reference"] for row in read(tmp_path)} == {str(number) for number in range(1, 46)} - {"45", "25", "5"}


EARLIER = """\
reference,submitted_utc,competition,file,csv_sha256,local_dice,local_iou,public,private,status,message
9,2024-04-01 07:08:09,a-competition,Exp.csv,ffffffffffff,0.81,0.71,0.7,0.6,complete,flat | csv ffffffffffff
,2024-04-02 07:08:09,other,Exp.csv,eeeeeeeeeeee,,,,,pending,by hand
"""


def test_an_earlier_log_is_continued(tmp_path):
    (tmp_path / "log.csv").write_text(EARLIER)
    answer(tmp_path, submission(12))
    outcome = run_lines(LOG, tmp_path)
    assert outcome.code == 0, outcome.error
    rows = read(tmp_path)
    assert list(rows[0]) == list(LOG_COLUMNS)
    assert [(row["reference"], row["sha256"], row["score"], row["local_score"]) for row in rows] == [
        ("9", "ffffffffffff", "dice", "0.81"),
        ("", "eeeeeeeeeeee", "", ""),
        ("12", "0123456789ab", "dice", "0.812"),
    ]


def test_without_an_answer_the_log_stays_as_it_was(tmp_path):
    (tmp_path / "log.csv").write_text("old")
    assert run_lines(LOG, tmp_path, "no network").code == 2
    assert (tmp_path / "log.csv").read_text() == "old"


def test_a_log_of_another_kind_is_not_overwritten(tmp_path):
    answer(tmp_path, submission(11))
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    outcome = run_lines(LOG, tmp_path)
    assert outcome.code == 2
    assert "does not have the columns reference," in outcome.error


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"a,b\n1,2\n", ",".join(LOG_COLUMNS).encode() + b"\n1\n", None]
)
def test_a_log_that_cannot_be_read_is_named_with_what_to_do(tmp_path, content):
    path = tmp_path / "log.csv"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=r"log\.csv .*; move it away to begin a new log"):
        read_log(path)


@given(st.text() | st.builds(str.__add__, st.text("'=+-@\t\r", max_size=3), st.text()))
def test_no_text_of_the_log_is_a_formula_and_every_text_comes_back(text):
    assert escaped(text)[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert plain(escaped(text)) == text


def test_a_message_that_looks_like_a_formula_is_none_in_the_file(tmp_path):
    answer(tmp_path, submission(11, description='=HYPERLINK("http://a.example")', file_name="+Exp.csv"))
    for _ in range(2):
        assert run_lines(LOG, tmp_path).code == 0
        (row,) = read(tmp_path)
        assert (row["message"], row["file"]) == ('\'=HYPERLINK("http://a.example")', "'+Exp.csv")
        assert (row["public"], row["local_score"]) == ("0.711", "")
    (row,) = read_log(tmp_path / "log.csv")
    assert (row["message"], row["file"]) == ('=HYPERLINK("http://a.example")', "+Exp.csv")


UPLOAD = """from pathlib import Path
from pipeline.submission.kaggle import Submitted
from pipeline.submission.log import add_upload, log_table
message = "flat | local_dice 0.8123 | sha256 0123456789ab"
add_upload(Path("log.csv"), competition, "Exp.csv", Submitted({reference!r}, message, "0123456789ab" + 52 * "0"))
"""


def test_an_upload_is_in_the_log_before_kaggle_was_asked_again(tmp_path):
    assert run_lines(UPLOAD.format(reference="11"), tmp_path, "no network").code == 0
    (row,) = read(tmp_path)
    assert (row["reference"], row["status"], row["local_score"], row["public"]) == ("11", "pending", "0.8123", "")
    answer(tmp_path, submission(11))
    assert run_lines(LOG, tmp_path).code == 0
    assert [(row["reference"], row["status"], row["public"]) for row in read(tmp_path)] == [("11", "complete", "0.711")]


def test_an_upload_without_a_number_becomes_the_row_of_the_same_content(tmp_path):
    for _ in range(2):
        assert run_lines(UPLOAD.format(reference=""), tmp_path).code == 0
    assert [row["reference"] for row in read(tmp_path)] == [""]
    answer(tmp_path, submission(12, description="other | sha256 ffffffffffff"))
    assert run_lines(LOG, tmp_path).code == 0
    assert [row["reference"] for row in read(tmp_path)] == ["", "12"]
    answer(tmp_path, submission(11))
    assert run_lines(LOG, tmp_path).code == 0
    assert [row["reference"] for row in read(tmp_path)] == ["12", "11"]


def test_the_table_shows_the_three_scores_and_leaves_the_facts_out_of_the_message():
    row = dict.fromkeys(LOG_COLUMNS, "") | {"file": "Exp.csv", "local_score": "0.8123", "public": "0.79", "status": "x"}
    header, line = log_table([row | {"message": f"{'long ' * 20}| local_dice 0.8123"}]).splitlines()
    assert header.split() == ["uploaded", "file", "local", "public", "private", "status", "message"]
    assert line.split()[:6] == ["–", "Exp.csv", "0.8123", "0.79", "–", "x"]
    assert line.endswith("…")
    assert "local_dice" not in line
