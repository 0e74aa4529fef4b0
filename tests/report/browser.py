"""Pages in a real browser, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")


def browsed(page: str, folder: Path) -> str:
    """Returns the elements of a page as text after its scripts have run; `folder` is for the browser's files."""
    return visited(page, folder)[0]


def visited(page: str, folder: Path, *options: str) -> tuple[str, list[str]]:
    """Returns the elements of a page after its scripts have run, and what the browser's console says.

    Args:
        folder: for the browser's files.
        options: of the browser, such as `--window-size=390,800`.
    """
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=3000", *options, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
