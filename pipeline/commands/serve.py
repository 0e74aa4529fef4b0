"""The board for a browser on this machine: made anew when a run's files have changed, and loaded anew by itself.

Only requests for the page, its version, and files that it links to are answered: the address is looked up in a table,
never turned into a path. Requests come from this machine alone (127.0.0.1), and with its name: a page of another site
whose name was redirected here gets no answer. Standard library only.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipeline.engine.folder import lock_holder
from pipeline.errors import UserError
from pipeline.paths import (
    BOARD,
    CONFIG,
    HISTORY,
    LOG,
    MARKERS,
    MEMBERS,
    METRICS,
    PER_IMAGE,
    REFUSAL,
    REPORT,
    STUDIES,
    Folders,
    shown,
)
from pipeline.report.board_page import board_page
from pipeline.stages import STAGES

HOST = "127.0.0.1"
SHOWN_FILES = (CONFIG, HISTORY, METRICS, PER_IMAGE, MEMBERS, REFUSAL, REPORT, MARKERS)  # of a run, on the board
IMAGES_SHOWN = "*.webp"  # that a report loads from a folder beside it
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Served:
    """The page as it was made last, and the files that it links to; for several requests at a time."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.version, self.page = "", b""
        self.files: dict[str, Path] = {}
        self._lock = threading.Lock()

    def version_now(self) -> str:
        """Returns a word that changes when a file that is shown does, or one comes or goes."""
        digest = hashlib.sha256()
        for path in self._watched():
            try:
                facts = path.stat()
            except OSError:  # not there, or removed just now
                continue
            digest.update(f"{path}\0{facts.st_mtime_ns}\0{facts.st_size}\0".encode(errors="surrogateescape"))
            if path.name == MARKERS:  # a run that is killed leaves all its files as they are
                digest.update(b"running" if lock_holder(self.folders.run(path.parent.name)) is not None else b"")
        return digest.hexdigest()[:16]

    def _watched(self) -> Iterator[Path]:
        runs = self.folders.runs
        yield self.folders.submissions / LOG
        for folder in sorted(runs.iterdir()) if runs.is_dir() else ():
            if folder.name == STUDIES:
                yield from sorted(folder.glob("*.csv"))
            elif (folder / CONFIG).is_file() or (folder / MARKERS).is_dir():
                yield from (folder / name for name in SHOWN_FILES)

    def page_now(self) -> bytes:
        """Returns the page, made anew where something has changed."""
        with self._lock:
            version = self.version_now()
            if version != self.version:
                text, self.files = board_page(self.folders, STAGES, version)
                self.version, self.page = version, text.encode()
            return self.page

    def file(self, address: str) -> Path | None:
        """Returns a file that the page links to, None of any other address, and where it leads out of its folder."""
        if not self.version:
            self.page_now()  # a link that was kept from an earlier server
        path = self.files.get(address) or self._beside_a_report(address)
        if path is None or path.resolve().parent != path.parent.resolve() or not path.is_file():
            return None
        return path

    def _beside_a_report(self, address: str) -> Path | None:
        """Returns an image in a folder of a run with a report, which may show it; found by looking through them."""
        run, _, rest = address.partition("/")
        folder, _, image = rest.partition("/")
        report = self.files.get(f"{run}/{REPORT}")
        if report is None or folder.startswith("."):
            return None
        found = (path for own in report.parent.iterdir() if own.name == folder for path in own.glob(IMAGES_SHOWN))
        return next((path for path in found if path.name == image), None)


def make_server(folders: Folders, port: int) -> ThreadingHTTPServer:
    """Returns a server that is bound to its port and answers once `serve_forever` is called.

    Raises:
        UserError: the port is in use, or is none.
    """
    served = Served(folders)

    class Handler(BoardHandler):
        board = served

    try:
        return Server((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "expected a number from 0 to 65535"
        raise UserError(f"cannot serve on port {port}: {why}; type another: ./run.sh watch --serve 0") from None


class Server(ThreadingHTTPServer):
    """A server that is silent about browsers that leave in the middle of an answer."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class BoardHandler(BaseHTTPRequestHandler):
    """Answers one request; `board` is what is served."""

    board: Served
    server_version, sys_version = "board", ""

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def _answer(self, with_content: bool) -> None:
        if self.headers.get("Host") not in self._own_names():
            self.send_error(HTTPStatus.FORBIDDEN, "only for this machine")
            return
        address = self.path.partition("?")[0].removeprefix("/")
        if address in ("", BOARD):
            self._send(self.board.page_now(), "text/html; charset=utf-8", with_content)
        elif address == "version":
            self._send(self.board.version_now().encode(), "text/plain; charset=utf-8", with_content)
        elif (path := self.board.file(address)) is not None:
            self._send_file(path, with_content)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _own_names(self) -> tuple[str, ...]:
        """Returns what a browser on this machine calls it; without a port, which is 80 then."""
        port = self.server.server_address[1]
        endings = [f":{port}", *([""] if port == 80 else [])]
        return tuple(f"{name}{ending}" for name in (HOST, "localhost") for ending in endings)

    def _send(self, content: bytes, kind: str, with_content: bool) -> None:
        self._begin(kind, len(content))
        if with_content:
            self.wfile.write(content)

    def _send_file(self, path: Path, with_content: bool) -> None:
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed below
        except OSError:  # removed just now
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            kind = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
            self._begin(kind, os.fstat(file.fileno()).st_size)  # of the opened one: the path may be replaced meanwhile
            if with_content:
                shutil.copyfileobj(file, self.wfile)

    def _begin(self, kind: str, length: int) -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Prints nothing: the terminal has the address alone."""


def serve(folders: Folders, port: int) -> None:
    """Serves the board until Ctrl-C."""
    with make_server(folders, port) as server:
        address = f"http://{HOST}:{server.server_address[1]}/"
        print(f"board of {shown(folders.runs)}, on this machine only: {address} (Ctrl-C ends it)", flush=True)
        server.serve_forever(poll_interval=0.2)
