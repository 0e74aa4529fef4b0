"""A small Kaggle on this machine: answers the installed client over HTTP, for competitions, data sets and notebooks.

Its state lies in a folder: `submissions.json`, `archive.zip` to download, `uploads/`, `datasets.json`, `kernels.json`,
`output/` of the last session. `moods` says how it misbehaves: a status by which it refuses everything, or a word.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

OWNER, TOKEN = "somebody", "0123456789abcdef"
COMPETITIONS = ("a-competition", "opencv-pytorch-course-segmentation")  # the second is that of aeroscapes
PIECE = 2**18  # bytes in which a slow download arrives
ASKS_UNTIL_READY = 2  # a data set is not ready at once


class Refused(Exception):
    """An HTTP status other than 200."""


class Kaggle(ThreadingHTTPServer):
    """The server. Attributes: `asked`, the calls in order; `bodies`, what each was asked, the last one by call."""

    daemon_threads = True

    def __init__(self, folder: Path, mood: str = "good") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.mood = folder, mood
        self.asked: list[str] = []
        self.bodies: dict[str, dict[str, Any]] = {}
        self.ranges: list[str | None] = []  # what each download asked for
        self.is_over = threading.Event()
        (folder / "uploads").mkdir(exist_ok=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of the server."""

    def read(self, name: str, empty: Any) -> Any:
        path = self.folder / name
        return json.loads(path.read_text()) if path.exists() else empty

    def write(self, name: str, content: Any) -> None:
        (self.folder / name).write_text(json.dumps(content))

    # Competitions

    def list_submissions(self, body: dict[str, Any]) -> dict[str, Any]:
        self.meet(body)
        size = body.get("pageSize", 20)
        first = (max(body.get("page", 1), 1) - 1) * size
        page = self.read("submissions.json", [])[first : first + size]
        page = page[1:] if self.mood == "leaves out" else page  # pages may be shorter than they should be
        return {"submissions": [_submission(one) for one in page]}

    def start_submission_upload(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.start_upload(body["fileName"])

    def create_submission(self, body: dict[str, Any]) -> dict[str, Any]:
        earlier = self.read("submissions.json", [])
        own = {"ref": 100 + len(earlier), "date": "2024-05-06 07:08:09", "status": "COMPLETE", "public_score": "0.81"}
        own |= {"description": body["submissionDescription"], "file_name": body["blobFileTokens"]}
        self.write("submissions.json", [own, *earlier])
        if self.mood == "goes after the upload":
            self.mood = "hangs up"
        return {"message": "Successfully submitted", "ref": own["ref"]}

    def list_data_files(self, body: dict[str, Any]) -> dict[str, Any]:
        self.meet(body)
        return {"files": []}

    # Uploads, of submissions and of data sets

    def start_upload(self, name: str) -> dict[str, Any]:
        return {"token": name, "createUrl": f"{self.address}/upload/{name}"}

    def start_blob_upload(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.start_upload(body["name"])

    # Data sets

    def get_dataset_status(self, body: dict[str, Any]) -> dict[str, Any]:
        name, datasets = f"{body['ownerSlug']}/{body['datasetSlug']}", self.read("datasets.json", {})
        if name not in datasets:
            raise Refused(404)
        own = datasets[name]
        own["asked"] += 1
        self.write("datasets.json", datasets)
        if self.mood == "damaged data set":
            return {"status": "FAILED"}
        return {"status": "READY" if own["asked"] > ASKS_UNTIL_READY else "BLOBS_RECEIVED"}

    def get_dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        own = self.read("datasets.json", {})[f"{body['ownerSlug']}/{body['datasetSlug']}"]
        is_processed = own["asked"] > ASKS_UNTIL_READY + 1  # later than its state says
        return {"currentVersionNumber": own["version"] - (0 if is_processed else 1)}

    def create_dataset(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.new_version(f"{body['ownerSlug']}/{body['slug']}", body["files"])

    def create_dataset_version(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.new_version(f"{body['ownerSlug']}/{body['datasetSlug']}", body["body"]["files"])

    def new_version(self, name: str, files: list[dict[str, str]]) -> dict[str, Any]:
        if self.mood == "data set refused":
            return {"status": "error", "error": "the title is already in use"}
        datasets = self.read("datasets.json", {})
        version = datasets.get(name, {"version": 0})["version"] + 1
        datasets[name] = {"version": version, "asked": 0, "files": [file["token"] for file in files]}
        self.write("datasets.json", datasets)
        return {"status": "ok", "url": f"https://www.kaggle.com/datasets/{name}", "ref": name}

    # Notebooks

    def save_kernel(self, body: dict[str, Any]) -> dict[str, Any]:
        kernels = self.read("kernels.json", {})
        known = {"kernelDataSources": set(kernels), "datasetDataSources": set(self.read("datasets.json", {}))}
        invalid = {name: [one for one in body.get(name, []) if one not in those] for name, those in known.items()}
        invalid["competitionDataSources"] = [
            one for one in body.get("competitionDataSources", []) if self.mood == "rules not accepted"
        ]
        if self.mood == "notebook refused":
            return {"error": "Maximum weekly GPU quota of 30.00 hours reached."}
        version = kernels.get(body["slug"], {"version": 0})["version"] + 1
        kernels[body["slug"]] = {"version": version, "status": "QUEUED"}
        self.write("kernels.json", kernels)
        names = {name: f"invalid{name[0].upper()}{name[1:].replace('Data', '')}" for name in invalid}
        answer = {names[name]: those for name, those in invalid.items() if those}
        return {
            "ref": body["slug"],
            "url": f"https://www.kaggle.com/code/{body['slug']}",
            "versionNumber": version,
            **answer,
        }

    def get_kernel_session_status(self, body: dict[str, Any]) -> dict[str, Any]:
        own = self.read("kernels.json", {}).get(f"{body['userName']}/{body['kernelSlug']}")
        if own is None:
            raise Refused(403)  # Kaggle does not tell what is absent from what is private
        return {"status": own["status"], **({"failureMessage": own["why"]} if "why" in own else {})}

    def list_kernel_session_output(self, body: dict[str, Any]) -> dict[str, Any]:
        folder, size = self.folder / "output", 2  # Kaggle answers in pages
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        first = int(body.get("pageToken") or 0)
        files = [{"fileName": name, "url": f"{self.address}/output/{name}"} for name in names[first : first + size]]
        more = {"nextPageToken": str(first + size)} if first + size < len(names) else {}
        return {"files": files, "log": "a log\n" if names else "", **more}

    def meet(self, body: dict[str, Any]) -> None:
        if body["competitionName"] not in COMPETITIONS:
            raise Refused(404)


def _submission(own: dict[str, Any]) -> dict[str, Any]:
    names = {"file_name": "fileName", "public_score": "publicScore", "private_score": "privateScore"}
    values = {names.get(name, name): value for name, value in own.items()}
    values["date"] = f"{values['date'].replace(' ', 'T')}{'' if ':' in values['date'] else 'T00:00:00'}Z"
    return values | {"status": str(values.get("status", "COMPLETE")).rpartition(".")[2]}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Kaggle

    def log_message(self, *words: object) -> None:
        """The tests' output is their own."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = self.path.rpartition("/")[2]
        self.server.asked.append(call)
        self.server.bodies[call] = body
        mood = self.server.mood
        if mood == "silent":
            self.server.is_over.wait(60)
            self.close_connection = True
            return
        if mood == "hangs up":
            self.close_connection = True
            return
        if not self.headers.get("Authorization"):
            self.answer(401, {"code": 401, "message": "Unauthenticated"})
        elif mood.isdecimal():
            self.answer(int(mood), {"code": int(mood), "message": "refused by the test"})
        elif call == "DownloadDataFiles":
            self.send_response(302)
            self.send_header("Location", f"{self.server.address}/archive.zip?signed=yes")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            try:
                self.answer(200, getattr(self.server, re.sub(r"(?<!^)(?=[A-Z])", "_", call).lower())(body))
            except Refused as refused:
                (status,) = refused.args
                self.answer(status, {"code": status, "message": "refused"})

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.mood == "broken upload":
            self.answer(400, {})
            return
        (self.server.folder / "uploads" / self.path.rpartition("/")[2]).write_bytes(data)
        self.answer(200, {})

    def do_GET(self) -> None:
        path = self.server.folder / self.path.partition("?")[0].lstrip("/")
        data, wanted = path.read_bytes(), self.headers.get("Range")
        self.server.ranges.append(wanted)
        first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        mood, is_first = self.server.mood, len(self.server.ranges) == 1
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data) - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"the same"')
        self.end_headers()
        rest = data[first:]
        if mood == "broken download" or (mood == "cut download" and is_first):
            self.wfile.write(rest[: len(rest) // 2])
            self.close_connection = True
            return
        for start in range(0, len(rest), PIECE if mood == "slow download" else max(1, len(rest))):
            self.wfile.write(rest[start : start + PIECE] if mood == "slow download" else rest)
            self.server.is_over.wait(0.05 if mood == "slow download" else 0)

    def answer(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def kaggle_at(folder: Path, mood: str = "good") -> Iterator[Kaggle]:
    """Yields a Kaggle with its state in a folder, which the installed client of this process talks to meanwhile."""
    pytest.importorskip("kagglesdk", reason="needs version 2 of Kaggle's client")
    from kagglesdk.kaggle_env import KaggleEnv, _env_to_endpoint

    kept = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE")}
    own = {"HOME": str(folder / "home"), "KAGGLE_USERNAME": OWNER, "KAGGLE_KEY": TOKEN, "NO_PROXY": "127.0.0.1"}
    with Kaggle(folder, mood) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        address = "http://127.0.0.1:9" if mood == "no network" else server.address  # port 9: nobody listens
        with (
            contextlib.ExitStack() as stack,
            mock.patch.dict(os.environ, {**kept, **own}, clear=True),
            mock.patch.dict(_env_to_endpoint, {KaggleEnv.PROD: address}),
        ):
            import kaggle  # noqa: F401 - logs in where it is imported, so with these credentials

            waiting = mock.Mock(wraps=time, sleep=lambda seconds: None)  # of the client, between its tries
            stack.enter_context(mock.patch.object(sys.modules["kaggle.api.kaggle_api_extended"], "time", waiting))
            try:
                yield server
            finally:
                server.is_over.set()
                server.shutdown()
                thread.join()
