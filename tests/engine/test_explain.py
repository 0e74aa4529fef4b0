"""Why a stage would run: everything that has changed, what waits for it, and not a byte is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.engine.explain import Explanation, explain, what_it_reads
from pipeline.paths import Folders, shown
from tests.engine.test_toy_chain import Book, book, folders, go, make_run
from tests.tiny import executed

__all__ = ["folders"]  # the fixture


def states(found: list[Explanation]) -> list[str]:
    return [str(one) for one in found]


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def done(folders) -> Folders:
    """Folders in which the book has gone through all stages."""
    go(book(), folders)
    return folders


def asked(folders: Folders, own: Book) -> list[Explanation]:
    return explain(make_run(own, folders, []))


def test_what_was_never_done_is_said_and_makes_no_folder(folders):
    assert states(asked(folders, book())) == ["would run: not done yet"] * 4
    assert not folders.runs.exists()


def test_what_is_unchanged_is_up_to_date_and_nothing_is_written(done):
    before = contents(done.runs.parent)
    assert states(asked(done, book())) == ["up to date"] * 4
    assert contents(done.runs.parent) == before


def test_everything_that_has_changed_is_named_not_only_the_first(done):
    (done.data[0] / "poems" / "three.txt").write_text("tiger")
    changed = book(COUNT__LEAST=2)
    first, *_ = asked(done, changed)
    assert first.reasons == ("COUNT.LEAST changed (1 -> 2)", "the texts changed")
    assert str(first) == "would run: COUNT.LEAST changed (1 -> 2) (and 1 more)"


def test_a_later_stage_waits_for_what_an_earlier_one_would_write(done):
    assert states(asked(done, book(SORT__BY="count"))) == [
        "up to date",
        'would run: SORT.BY changed ("word" -> "count")',
        "may run: sorted.txt is written by sort",
        "may run: sorted.txt is written by sort (and 1 more)",  # what `print` writes outside the run's folder
    ]


def test_a_file_that_was_changed_by_hand_is_named_with_the_stage_that_wrote_it(done):
    (done.runs / "book" / "counts.json").write_text("{}")
    found = asked(done, book())
    assert found[0].reasons == ("counts.json is gone or was changed",)
    assert found[1].reasons == ("counts.json changed (written by count)",)


def test_what_a_sibling_has_done_would_be_reused(done):
    found = asked(done, book("-0123abcd", SORT__BY="count"))
    assert str(found[0]) == f"would be reused: from {shown(done.runs / 'book')}, if its inputs are the same"
    assert [one.state for one in found[1:]] == ["would run"] * 3
    assert not (done.runs / "book-0123abcd").exists()


def test_large_files_that_are_gone_are_said(done):
    (done.scratch / "book.index").unlink()
    assert states(asked(done, book()))[0] == "up to date: its large files are gone"


def test_what_a_stage_reads_is_named_with_who_writes_it(done):
    run = make_run(book(), done, [])
    assert [what_it_reads(stage, run) for stage in run.stages] == [
        ["the texts"],
        ["counts.json (count)"],
        ["sorted.txt (sort)"],
        ["sorted.txt (sort)", "refused.json", "the print"],
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"COUNT__LEAST": 2},
        {"SORT__BY": "count"},
        {"PRINT__WIDTH": 90},
        {"SORT__BY": "count", "PRINT__WIDTH": 90},
        {},
    ],
)
def test_the_chain_then_does_what_was_said(done, change):
    found = {one.stage: one.state for one in asked(done, book(**change))}
    ran = set(executed(go(book(**change), done)))
    surely, perhaps = (
        {name for name, state in found.items() if state == wanted} for wanted in ("would run", "may run")
    )
    assert surely <= ran <= surely | perhaps
