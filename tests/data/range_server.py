"""A web server on this machine that answers requests for parts of files, and misbehaves as it is told."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class RangeServer(ThreadingHTTPServer):
    """Serves the files below a folder.

    Attributes:
        moods: what to do with the next requests, one each, then all is good: a status by which one is refused, `cut`
            (half of an answer), `damage` (one bit of it), `drop` (the connection closes), `whole` (ranges are ignored).
        wait_s: before each answer.
        asked: (file, first byte or None) of each request.
    """

    daemon_threads = True

    def __init__(self, folder: Path, wait_s: float = 0.0):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.wait_s = folder, wait_s
        self.moods: list[int | str] = []
        self.asked: list[tuple[str, int | None]] = []
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of the server."""


class _Handler(BaseHTTPRequestHandler):
    server: RangeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, wanted = self.server.folder / self.path.lstrip("/"), self.headers.get("Range")
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted) if wanted else None
        with self.server.lock:
            self.server.asked.append((path.name, int(found[1]) if found else None))
            mood = self.server.moods.pop(0) if self.server.moods else "good"
        time.sleep(self.server.wait_s)
        if mood == "drop":
            self.close_connection = True
            return
        if isinstance(mood, int) or not path.is_file():
            self.send_error(mood if isinstance(mood, int) else 404)
            return
        with open(path, "rb") as file:
            if found and mood != "whole":
                file.seek(int(found[1]))
                content = file.read(int(found[2]) + 1 - int(found[1]))
            else:
                content = file.read()
        if mood == "damage":
            content = bytes([content[0] ^ 1]) + content[1:]
        self.send_response(206 if found and mood != "whole" else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if mood == "cut" else content)
        self.close_connection = mood == "cut"


@contextmanager
def serving(folder: Path, wait_s: float = 0.0) -> Iterator[RangeServer]:
    """Yields a server of the files below a folder, which runs in a thread."""
    server = RangeServer(folder, wait_s)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
