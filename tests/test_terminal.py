"""What commands print: no character of a comment, a name or an answer acts on the terminal."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tqdm import tqdm

from pipeline.__main__ import main
from pipeline.terminal import PrintableStream, printable, printable_output

ESCAPES = "\x1b[31mred\x1b[0m \x07 \u202eback \x9b2J \r"


@given(st.text())
def test_nothing_that_acts_is_left_and_cleaning_twice_changes_nothing(text):
    cleaned = printable(text)
    cleaned.encode()  # no lone surrogate
    acting = [one for one in cleaned if not one.isprintable() and one not in "\n\t"]
    assert not [one for one in acting if ord(one) < 0xA0 or one in "\u2028\u2029\u202e\u2066"]
    assert printable(cleaned) == cleaned


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_letters_of_every_script_and_emoji_stay(text):
    assert printable(text) == text


def test_list_prints_no_control_character_of_a_comment(project_copy):
    header = f"# Larger {ESCAPES}tiles?\n# ./run.sh ExpZZZ\n"
    (project_copy / "configs" / "ExpZZZ.yaml").write_text(f"{header}BASE: ExpBAA\n", newline="")
    command = [sys.executable, "-m", "pipeline", "list", "ExpZZZ"]
    printed = subprocess.run(command, cwd=project_copy, capture_output=True, check=True).stdout.decode()
    assert r"Larger \x1b[31mred\x1b[0m \x07 \u202eback \x9b2J" in printed
    assert all(one.isprintable() or one == "\n" for one in printed)


@pytest.mark.parametrize("name", ["\x1b[2Jx", "b\udcff", "\u202eexe"])
def test_messages_of_mistakes_are_printable_too(capsys, name):
    assert main(["show", name]) == 2
    printed = capsys.readouterr().err
    assert printed.strip() and all(one.isprintable() or one == "\n" for one in printed)


def test_progress_bars_are_drawn_as_they_are():
    plain, cleaned = io.StringIO(), io.StringIO()
    for stream in (plain, PrintableStream(cleaned)):
        with tqdm(range(2), file=stream, desc="outer", bar_format="{desc} {n}", mininterval=0) as outer:
            for _ in outer:
                list(tqdm(range(2), file=stream, desc="inner", bar_format="{desc} {n}", mininterval=0, leave=False))
    assert plain.getvalue() == cleaned.getvalue() and "\x1b[A" in plain.getvalue()


def test_streams_are_put_back_also_after_an_error():
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyError), printable_output():
        raise KeyError
    assert (sys.stdout, sys.stderr) == before


def test_the_log_of_a_run_in_python_is_printable(project):
    code = "from pipeline.engine.api import print_line; print_line('image \\x1b[2J.png')"
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout == "image \\x1b[2J.png\n"
