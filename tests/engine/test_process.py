"""Output that cannot be written, closed standard files, and locales that are not UTF-8: a run goes on all the same."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.engine.process import Output
from pipeline.paths import CLASSES, MARKERS, PROJECT, TEST_CATALOG, Folders
from tests.tiny import overrides, write_competition

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")
# Closes standard files, sets the process up, then opens a file, to which a library prints by number.
CLOSED = """
import os, sys
for descriptor in map(int, sys.argv[2]):
    os.close(descriptor)
from pipeline.engine.process import keep_output_going
keep_output_going()
with open(sys.argv[1], "w") as file:
    for descriptor in (1, 2):
        os.write(descriptor, b"a message of a library")
    print("a line")
    print("a warning", file=sys.stderr)
    sys.stdin.read()
    file.write("whole")
"""


# Prints a line and ends when standard input does.
WAITING = """
import sys
from pipeline.engine.process import keep_output_going
keep_output_going()
print("a line")
sys.stdin.read()
"""


@contextmanager
def without_reader() -> Iterator[int]:
    """Gives the end of a pipe that nobody reads, as of `| head` after its line."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    yield write_end
    os.close(write_end)


def type_in(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipeline", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": PROJECT} | options
    return subprocess.run(command, check=False, **pipes)


def test_with_pythonunbuffered_a_line_is_seen_before_the_program_ends():
    command, environment = [sys.executable, "-c", WAITING], os.environ | {"PYTHONUNBUFFERED": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": PROJECT, "env": environment}
    with subprocess.Popen(command, **pipes) as process:
        timer = threading.Timer(60, process.stdin.close)  # without the line, this ends the wait for it
        timer.start()
        line, is_waiting = process.stdout.readline(), process.poll() is None and timer.is_alive()
        timer.cancel()
    assert line == b"a line\n" and is_waiting


def test_what_cannot_be_written_is_lost_and_the_first_error_is_kept():
    with without_reader() as write_end:
        output = Output(write_end)
        assert output.write(b"12345") == 5 and isinstance(output.error, BrokenPipeError)
        first = output.error
        assert output.write(b"67") == 2 and output.error is first


def test_a_pipe_that_does_not_wait_loses_nothing():
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    content, received = os.urandom(1 << 18), bytearray()  # four times what a pipe holds

    def read() -> None:
        while chunk := os.read(read_end, 1 << 12):
            received.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    output, left = Output(write_end), memoryview(content)
    while left:
        left = left[output.write(left) :]
    os.close(write_end)
    reader.join()
    os.close(read_end)
    assert bytes(received) == content and output.error is None


@pytest.mark.parametrize("closed", ["0", "1", "2", "12", "012"])
def test_a_file_is_never_opened_in_the_place_of_a_closed_standard_file(tmp_path, closed):
    command = [sys.executable, "-c", CLOSED, str(tmp_path / "file"), closed]
    result = subprocess.run(command, cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "file").read_bytes() == b"whole"


@pytest.mark.parametrize("reader", ["gone", pytest.param("full", marks=needs_full)])
def test_a_stage_goes_on_when_nobody_can_read_its_lines(tmp_path, reader):
    words = ("demo", "testset", *overrides(write_competition(tmp_path / "data")))
    if reader == "gone":
        with without_reader() as end:
            result = type_in(*words, stdout=end)
    else:
        with FULL.open("wb") as end:
            result = type_in(*words, stdout=end)
    told = b"cannot write to standard output: No space left on device" in result.stderr
    assert (result.returncode, told) == (0, reader == "full"), result.stderr
    (run,) = Folders.from_environment().runs.glob("demo-*")
    assert (run / MARKERS / "testset.json").is_file()


@needs_full
def test_a_command_whose_answer_is_lost_names_standard_output():
    with FULL.open("wb") as end:
        result = type_in("show", "ExpAAB", stdout=end)
    expected = "cannot write to standard output: No space left on device; free space, or redirect it elsewhere\n"
    assert (result.returncode, result.stderr.decode()) == (2, expected)


@needs_full
def test_an_error_that_nobody_can_read_keeps_its_exit_code():
    with FULL.open("wb") as end:
        assert type_in("show", "ExpAAZ", stderr=end).returncode == 2


def test_where_output_is_ascii_other_characters_are_escaped():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = type_in("show", "Exp\u00c4", env=environment)
    assert result.returncode == 2 and "Exp\\xc4" in result.stderr.decode("ascii")


def test_names_that_are_not_ascii_are_read_and_written_in_any_locale(project_copy, tmp_path, monkeypatch):
    descriptor = project_copy / "configs" / "competitions" / "demo.yaml"
    text = descriptor.read_text(encoding="utf-8").replace("Car, ", "V\u00e9hicule, ").replace("Road", "\u9053")
    descriptor.write_text(text, encoding="utf-8")
    data = write_competition(tmp_path / "donn\u00e9es")
    for path in [path for path in data.rglob("*") if path.suffix in (".jpg", ".png", ".csv")]:
        if path.suffix == ".csv":
            path.write_text(path.read_text().replace("_00", "_\u00e900"), encoding="utf-8")
        else:
            path.rename(path.with_name(path.name.replace("_00", "_\u00e900")))
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "\u00e9tudes"))
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    options = {"env": os.environ | locale, "cwd": project_copy}
    result = type_in("demo", "testset", *overrides(data), **options)
    assert result.returncode == 0, result.stderr
    result.stdout.decode("ascii")
    (run,) = Folders.from_environment().runs.glob("demo-*")
    assert "V\u00e9hicule" in (run / CLASSES).read_text(encoding="utf-8")
    assert "000004_\u00e9001" in (run / TEST_CATALOG).read_text(encoding="utf-8")
    result = type_in("why", "demo", "testset", *overrides(data), **options)
    assert (result.returncode, b"up to date" in result.stdout) == (0, True), result.stderr
