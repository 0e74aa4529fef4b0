"""Uploads with the installed client: over HTTP to a Kaggle on this machine, and without credentials."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.submission.kaggle import all_submissions, facts_in, submit
from tests.segmentation.submission.scenes import make_competition, write
from tests.submission.clients import run_elsewhere, run_lines
from tests.submission.loopback import kaggle_at

SUBMIT = "print(submit('Exp.csv', competition, 'FPN | 480 px'))"


@pytest.fixture
def folder(tmp_path):
    """A folder with a submission and its origin."""
    images = {"a": np.zeros((2, 3), np.uint8)}
    write(tmp_path / "Exp.csv", images, make_competition(), local_scores={"dice": 0.81234, "iou": 0.7, "miou": None})
    return tmp_path


def test_a_submission_is_uploaded_with_local_scores_and_content_hash_in_its_message(folder):
    outcome = run_lines(SUBMIT, folder)
    assert outcome.code == 0, outcome.error
    (submission,) = json.loads((folder / "submissions.json").read_text())
    sha256 = json.loads((folder / "Exp.json").read_text())["sha256"]
    assert submission["description"] == f"FPN | 480 px | local_dice 0.8123 | local_iou 0.7000 | sha256 {sha256[:12]}"
    assert facts_in(submission["description"])["sha256"] == sha256[:12]
    assert sha256 in outcome.out
    assert (folder / "uploads" / "Exp.csv").read_bytes() == (folder / "Exp.csv").read_bytes()


def test_the_client_makes_the_calls_that_kaggle_documents(folder):
    with kaggle_at(folder) as server:
        submit(folder / "Exp.csv", make_competition(), "FPN")
    calls = ["ListSubmissions", "ListSubmissions", "StartSubmissionUpload", "CreateSubmission"]
    assert server.asked in (calls, calls[1:])  # an empty first page is the last one
    assert server.bodies["StartSubmissionUpload"]["contentLength"] == (folder / "Exp.csv").stat().st_size
    assert server.bodies["CreateSubmission"]["competitionName"] == "a-competition"


def test_a_score_of_several_words_is_found_in_the_message_again():
    message = "FPN | local_dice 0.8123 | local_global_dice 0.9000 | sha256 0123456789ab"
    assert facts_in(message)["local_global_dice"] == "0.9000"


def test_an_earlier_origin_is_still_understood(folder):
    origin = json.loads((folder / "Exp.json").read_text())
    earlier = {"csv_sha256": origin["sha256"], "local_dice": 0.81234, "local_iou": 0.7}
    (folder / "Exp.json").write_text(json.dumps(earlier))
    outcome = run_lines(SUBMIT, folder)
    assert outcome.code == 0, outcome.error
    assert "FPN | 480 px | local_dice 0.8123 | local_iou 0.7000 | sha256 " in outcome.out


def test_an_upload_of_earlier_days_is_recognized(folder):
    digits = json.loads((folder / "Exp.json").read_text())["sha256"][:12]
    uploads = [{"ref": 5, "date": "2024-05-01", "description": f"flat | csv {digits}"}]
    (folder / "submissions.json").write_text(json.dumps(uploads))
    assert "was submitted before, with the same content, as 5" in run_lines(SUBMIT, folder).error


def test_the_same_content_is_not_uploaded_twice_unless_asked_for(folder):
    assert run_lines(SUBMIT, folder).code == 0
    outcome = run_lines(SUBMIT, folder)
    assert outcome.code == 2
    assert "was submitted before, with the same content, as 100" in outcome.error
    assert run_lines(SUBMIT.replace("px'", "px', again=True"), folder).code == 0
    assert len(json.loads((folder / "submissions.json").read_text())) == 2


def test_an_upload_of_long_ago_is_found_on_a_later_page(folder):
    assert run_lines(SUBMIT, folder).code == 0
    (first,) = json.loads((folder / "submissions.json").read_text())
    later = [first | {"ref": 200 + number, "description": f"by hand {number}"} for number in range(50)]
    (folder / "submissions.json").write_text(json.dumps([*later, first]))
    outcome = run_lines(SUBMIT, folder)
    assert outcome.code == 2
    assert "was submitted before, with the same content, as 100" in outcome.error


def uploads(count: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(ref=number) for number in range(count)]


class Client16:
    """Has one page; a token has no effect."""

    def __init__(self, count: int) -> None:
        self.all, self.calls = uploads(count), []

    def competition_submissions(self, competition, page_token=None, page_size=20):
        self.calls.append(page_token)
        return self.all[:20]


class Client17(Client16):
    """Calls the number of a page a token."""

    def competition_submissions(self, competition, group=None, sort=None, page_token=0, page_size=20):
        self.calls.append(page_token)
        first = (max(page_token, 1) - 1) * page_size
        return self.all[first : first + page_size]


class Client18(Client16):
    """Has tokens, which no call returns."""

    def competition_submissions(self, competition, page_token="", page_size=20):
        self.calls.append(page_token)
        return self.all[:20]


class Client22(Client16):
    """Has both."""

    def competition_submissions(self, competition, page_number=-1, page_token="", page_size=20):
        self.calls.append(page_number)
        first = (max(page_number, 1) - 1) * page_size
        return self.all[first : first + page_size]


@pytest.mark.parametrize(
    ("client", "count", "found", "calls"),
    [
        (Client16, 45, 20, [None]),
        (Client17, 45, 45, [0, 2, 3, 4]),
        (Client18, 45, 20, [""]),
        (Client22, 45, 45, [-1, 2, 3, 4]),
        (Client22, 40, 40, [-1, 2, 3]),
        (Client22, 7, 7, [-1, 2]),
        (Client22, 0, 0, [-1]),
    ],
)
def test_each_client_lists_what_it_can_and_what_is_missing_is_noted(client, count, found, calls, capsys):
    asked = client(count)
    references = [one.ref for one in all_submissions(asked, "a-competition")]
    assert references == list(range(found)) and asked.calls == calls
    assert ("lists only the last 20 submissions" in capsys.readouterr().err) == (found < count)


def test_a_submission_that_arrives_between_two_pages_is_listed_once():
    class Growing(Client22):
        def competition_submissions(self, competition, page_number=-1, page_size=20):
            page = super().competition_submissions(competition, page_number)
            self.all.insert(0, SimpleNamespace(ref=1000 + len(self.calls)))
            return page

    references = [one.ref for one in all_submissions(Growing(45), "a-competition")]
    assert len(references) == len(set(references)) and set(range(45)) <= set(references)


def test_the_installed_client_has_numbers_of_pages(tmp_path):
    lines = "from kaggle.api.kaggle_api_extended import KaggleApi\nimport pipeline.submission.kaggle as own\n"
    outcome = run_lines(f"{lines}print('page:', own.page_name(KaggleApi()))", tmp_path)
    assert outcome.out.splitlines()[-1] in ("page: page_number", "page: page_token"), outcome.error


def check_refusal(outcome, message):
    assert outcome.code == 2
    assert "Traceback" not in outcome.error
    assert outcome.out == ""  # the client's own page, which ours replaces
    assert re.search(message, outcome.error), outcome.error


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        ("401", "kaggle.json into ~/.kaggle/"),
        ("403", "accept its rules"),
        ("404", "KAGGLE_SLUG"),
        ("429", "Too many requests or uploads for today"),
        ("500", "Kaggle refused to look up submissions to a-competition: 500"),
        ("no network", "Kaggle cannot be reached .*\nIs there a network\\?"),
        ("hangs up", "Kaggle cannot be reached .*\nIs there a network\\?"),
        ("broken upload", "the upload of Exp.csv to a-competition broke off"),
    ],
)
def test_a_refusal_ends_in_one_clear_message(folder, mood, message):
    check_refusal(run_lines(SUBMIT, folder, mood), message)


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        ("not installed", "the Kaggle client cannot be imported .* Install it: .* install kaggle"),
        ("old", "KAGGLE_USERNAME=<name> KAGGLE_KEY=<key>"),
        ("older", "KAGGLE_USERNAME=<name> KAGGLE_KEY=<key>"),
        ("exits", "KAGGLE_USERNAME=<name> KAGGLE_KEY=<key>"),
    ],
)
def test_a_client_that_cannot_be_imported_ends_in_one_clear_message(folder, mood, message):
    check_refusal(run_elsewhere(SUBMIT, folder, mood), message)


def test_a_dead_network_ends_within_seconds(folder):
    outcome = run_lines("submit('Exp.csv', competition, 'x', answer_within_s=1)", folder, "silent")
    assert outcome.code == 2
    assert "Kaggle did not answer within 1 s" in outcome.error
    assert outcome.seconds < 20


def test_the_real_client_without_credentials_tells_how_to_get_them(folder):
    outcome = run_elsewhere(SUBMIT, folder, None)
    assert outcome.code == 2
    assert "no Kaggle credentials" in outcome.error
    assert "Authentication required" not in outcome.out
    assert outcome.seconds < 20


def test_a_csv_that_was_changed_after_its_origin_was_written_is_not_uploaded(folder):
    with open(folder / "Exp.csv", "a") as file:
        file.write("\n")
    outcome = run_lines(SUBMIT, folder)
    assert outcome.code == 2
    assert "Exp.csv was changed after Exp.json was written" in outcome.error


def test_an_absent_csv_and_a_competition_that_is_not_on_kaggle_are_refused(folder):
    assert "run the stage `submit`" in run_lines(SUBMIT.replace("Exp.csv", "None.csv"), folder).error
    lines = "submit('Exp.csv', make_competition(kaggle_slug=None), 'x')"
    assert "test is not a Kaggle competition" in run_lines(lines, folder).error
