"""The calls of Kaggle's client that the pipeline makes, answered from a folder instead of a server.

STAND_IN_MOOD says how it behaves, STAND_IN_FOLDER holds `submissions.json` and the archive to download.
"""

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

if os.environ.get("STAND_IN_MOOD") == "not installed":
    raise ImportError("No module named 'kaggle'")


class Refusal(OSError):
    """An HTTP error as `requests` raises it: an OSError that carries the response."""

    def __init__(self, status: int):
        super().__init__(f"{status} Client Error")
        self.response = SimpleNamespace(status_code=status)


class KaggleApi:
    """Answers like Kaggle's client of the same name."""

    def __init__(self):
        self.mood = os.environ["STAND_IN_MOOD"]
        self.folder = Path(os.environ["STAND_IN_FOLDER"])

    def authenticate(self):
        if self.mood == "no credentials":
            print("Authentication required to call the Kaggle API.")
            exit(1)

    def competition_submissions(self, competition, page_number=-1, page_token="", page_size=20):
        """Answers with one page; each page leaves out one entry that is None, as Kaggle does."""
        self._meet(competition)
        first = (max(page_number, 1) - 1) * page_size
        page = [SimpleNamespace(**submission) for submission in self._read()[first : first + page_size]]
        return [None, *page[1:]] if self.mood == "leaves out" else page

    def competition_submit(self, file_name, message, competition):
        if self.mood == "broken upload":
            return SimpleNamespace(message="Could not submit to competition", ref=0)
        submission = {
            "ref": 100 + len(self._read()), "date": "2024-05-06 07:08:09", "description": message,
            "file_name": Path(file_name).name, "status": "SubmissionStatus.PENDING", "public_score": "",
            "private_score": "",
        }  # fmt: skip
        (self.folder / "submissions.json").write_text(json.dumps([submission, *self._read()]))
        return SimpleNamespace(message="Successfully submitted", ref=submission["ref"])

    def competition_list_files(self, competition):
        self._meet(competition)

    def competition_download_files(self, competition, path, force, quiet):
        shutil.copy(self.folder / "archive.zip", Path(path) / f"{competition}.zip")
        if self.mood == "broken download":
            raise ConnectionError("connection reset")

    def _meet(self, competition):
        if self.mood == "no network":
            raise ConnectionError("Failed to resolve 'api.kaggle.com'")
        if self.mood == "silent":
            time.sleep(60)
        if self.mood.isdecimal():
            raise Refusal(int(self.mood))
        assert competition == "a-competition"

    def _read(self):
        path = self.folder / "submissions.json"
        return json.loads(path.read_text()) if path.exists() else []
