"""A chain that counts words in text files: the engine needs no image, no task and no config of the project."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.chain import run_chain, stage_seconds
from pipeline.engine.dependence import why_run
from pipeline.engine.run import Run, Stage
from pipeline.engine.stopping import Stop
from pipeline.errors import Stopped, UserError
from pipeline.paths import PROJECT, REFUSAL, Folders, shown
from tests.tiny import executed

DEFAULTS = {"TEXTS": "poems", "COUNT.LEAST": 1, "SORT.BY": "word", "PRINT.WIDTH": 80}


@dataclass(frozen=True)
class Book:
    """A resolved config: all that the engine asks of one."""

    name: str = "book"
    run: str = "book"
    settings: Mapping[str, Any] = field(default_factory=DEFAULTS.copy)

    @property
    def text(self) -> str:
        return "".join(f"{key}: {value}\n" for key, value in self.settings.items())


def book(suffix: str = "", **changes: Any) -> Book:
    """Returns a book with other settings, in a run folder of its own if it has a suffix."""
    settings = DEFAULTS | {key.replace("__", "."): value for key, value in changes.items()}
    return Book(run=f"book{suffix}", settings=settings)


def texts(run: Run) -> dict[str, list[Path]]:
    return {"the texts": sorted((run.folders.data[0] / run.loaded.settings["TEXTS"]).glob("*.txt"))}


def index_path(run: Run) -> Path:
    """A large file that can be made again."""
    return run.folders.scratch / f"{run.name}.index"


def printed(run: Run) -> dict[str, Path]:
    return {"the print": run.paths.submission(".txt")}


def count(run: Run) -> None:
    words = [word for path in texts(run)["the texts"] for word in path.read_text().lower().split()]
    index_path(run).parent.mkdir(parents=True, exist_ok=True)
    index_path(run).write_text(" ".join(words))
    counts = {word: number for word, number in Counter(words).items() if number >= run.loaded.settings["COUNT.LEAST"]}
    (run.paths / "counts.json").write_text(json.dumps(counts, sort_keys=True))


def sort(run: Run) -> None:
    assert index_path(run).is_file()
    counts = json.loads((run.paths / "counts.json").read_text())
    by = run.loaded.settings["SORT.BY"]
    ordered = sorted(counts, key=lambda word: (-counts[word], word) if by == "count" else word)
    (run.paths / "sorted.txt").write_text("\n".join(ordered))


def print_out(run: Run) -> None:
    words = (run.paths / "sorted.txt").read_text().split()
    longest = max(map(len, words), default=0)
    if longest > run.loaded.settings["PRINT.WIDTH"]:
        raise UserError(f"PRINT.WIDTH: a word has {longest} letters; type PRINT.WIDTH={longest}")
    path = run.paths.submission(".txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(words))


def review(run: Run) -> None:
    refusal = run.paths / REFUSAL
    words = (run.paths / "sorted.txt").read_text().split()
    verdict = json.loads(refusal.read_text())["message"] if refusal.is_file() else "printed"
    (run.paths / "review.txt").write_text(f"{len(words)} words, {verdict}")


def check_width(run: Run) -> None:
    if run.loaded.settings["PRINT.WIDTH"] < 1:
        raise UserError("PRINT.WIDTH must be at least 1")


STAGES = (
    Stage(
        "count",
        "count the words",
        count,
        settings=("TEXTS", "COUNT"),
        reads_outside=texts,
        writes=("counts.json",),
        lacks=lambda run: not index_path(run).is_file(),
        is_shared=True,
    ),
    Stage("sort", "sort them", sort, ("SORT",), reads=("counts.json",), writes=("sorted.txt",), is_shared=True),
    Stage(
        "print",
        "print them",
        print_out,
        settings=("PRINT",),
        reads=("sorted.txt",),
        writes_outside=printed,
        check=check_width,
    ),
    Stage(
        "review",
        "review the print",
        review,
        settings=(),
        reads=("sorted.txt", REFUSAL),
        reads_outside=printed,
        writes=("review.txt",),
        despite=("print",),
    ),
)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Two poems, and places to write to."""
    poems = tmp_path / "data" / "poems"
    poems.mkdir(parents=True)
    (poems / "one.txt").write_text("Tiger tiger burning bright")
    (poems / "two.txt").write_text("the forests of the night")
    return Folders(tmp_path / "runs", tmp_path / "prints", tmp_path / "scratch", (tmp_path / "data",), ())


def make_run(loaded: Book, folders: Folders, lines: list[str], stop: Stop | None = None) -> Run:
    return Run(loaded, folders, lines.append, stop or Stop(), lambda loaded: STAGES)


def go(loaded: Book, folders: Folders, last: str = "review", force: tuple[str, ...] = ()) -> list[str]:
    """Runs the chain; returns the lines that it logged."""
    lines: list[str] = []
    run_chain(make_run(loaded, folders, lines), last, force)
    return lines


ALL = ["count", "sort", "print", "review"]


def test_stages_run_in_order_and_each_reads_what_the_one_before_wrote(folders):
    lines = go(book(), folders)
    assert executed(lines) == ALL
    assert lines[0] == "count     count the words (not done yet)" and lines[1].startswith("count     done in ")
    words = ["bright", "burning", "forests", "night", "of", "the", "tiger"]
    assert folders.run("book").submission(".txt").read_text().split() == words
    assert (folders.run("book") / "review.txt").read_text() == "7 words, printed"
    assert (folders.run("book") / "config.yaml").read_text() == book().text


def test_what_is_unchanged_is_up_to_date(folders):
    go(book(), folders)
    assert go(book(), folders) == [f"{name:<9} up to date" for name in ALL]


def test_what_changed_runs_with_all_that_comes_out_otherwise(folders):
    go(book(), folders)
    poem = folders.data[0] / "poems" / "two.txt"
    poem.write_text("of the night the forests")  # the same words
    lines = go(book(), folders)
    assert executed(lines) == ["count"] and "(the texts changed)" in lines[0]
    poem.write_text("in the forests of the night")
    assert executed(go(book(), folders)) == ALL
    assert executed(go(book(SORT__BY="count"), folders)) == ["sort", "print", "review"]
    assert folders.run("book").submission(".txt").read_text().startswith("the\ntiger\n")
    lines = go(book(SORT__BY="count", PRINT__WIDTH=40), folders)
    assert executed(lines) == ["print"] and "PRINT.WIDTH changed (80 -> 40)" in lines[2]


def test_the_last_stage_named_ends_the_chain(folders):
    assert executed(go(book(), folders, last="sort")) == ["count", "sort"]
    run = make_run(book(), folders, [])
    assert list(stage_seconds(STAGES, run.paths)) == ["count", "sort"]
    assert [why_run(stage, run) for stage in STAGES] == [None, None, "not done yet", "not done yet"]


def test_a_sibling_run_reuses_what_was_done_with_the_same_settings(folders):
    go(book(), folders)
    lines = go(book("-0a1b2c3d", SORT__BY="count"), folders)
    assert lines[0] == f"count     reused from {shown(folders.run('book').folder)} (same settings)"
    assert executed(lines) == ["count", "sort", "print", "review"]  # for the index, which the sibling has for itself
    other = folders.run("book-0a1b2c3d")
    assert other.submission(".txt").read_text().startswith("the\ntiger\n")
    assert executed(go(book("-00000000"), folders, last="review")) == ["print", "review"]
    assert (folders.run("book-00000000") / "sorted.txt").samefile(folders.run("book") / "sorted.txt")


def test_a_book_of_another_name_is_no_sibling(folders):
    go(book(), folders)
    assert executed(go(replace(book(), name="letters", run="letters"), folders)) == ALL


def test_large_files_that_are_gone_are_made_again_when_a_later_stage_needs_them(folders):
    go(book(), folders)
    shutil.rmtree(folders.scratch)
    lines = go(book(), folders)
    assert lines[0] == "count     up to date (its large files are gone; they are made again when needed)"
    assert executed(lines) == [] and not folders.scratch.exists()
    assert executed(go(book(SORT__BY="count"), folders, last="sort")) == ["count", "sort"]


def test_what_a_later_stage_could_not_do_is_refused_before_the_first_one_runs(folders):
    with pytest.raises(UserError, match=r"PRINT\.WIDTH must be at least 1"):
        go(book(PRINT__WIDTH=0), folders)
    assert not folders.run("book").folder.exists()
    assert executed(go(book(PRINT__WIDTH=0), folders, last="sort")) == ["count", "sort"]  # not wanted, not checked


def test_a_stage_runs_despite_the_refusal_that_it_reports_and_the_chain_ends_refused(folders):
    lines: list[str] = []
    narrow = book(PRINT__WIDTH=5)
    with pytest.raises(UserError, match=r"a word has 7 letters; type PRINT\.WIDTH=7"):
        run_chain(make_run(narrow, folders, lines), "review")
    assert executed(lines) == ["count", "sort", "review"]
    paths = folders.run("book")
    message = "PRINT.WIDTH: a word has 7 letters; type PRINT.WIDTH=7"
    assert json.loads((paths / REFUSAL).read_text()) == {"stage": "print", "message": message}
    assert (paths / "review.txt").read_text() == f"7 words, {message}"
    with pytest.raises(UserError, match="7 letters"):  # the same again: nothing but the refused stage runs
        run_chain(make_run(narrow, folders, lines), "review")
    assert executed(lines) == ["count", "sort", "review"]
    assert executed(go(book(PRINT__WIDTH=7), folders)) == ["print", "review"]
    assert not (paths / REFUSAL).exists()
    assert (paths / "review.txt").read_text() == "7 words, printed"


def test_a_refusal_ends_the_chain_at_once_for_stages_that_need_its_result(folders):
    (folders.data[0] / "poems" / "two.txt").write_bytes(b"\xff\xfe")  # no text: a fault of the program, not a refusal
    with pytest.raises(UnicodeDecodeError):
        go(book(), folders)

    def refuse(run: Run) -> None:
        raise UserError("no words")

    lines: list[str] = []
    stages = (replace(STAGES[0], function=refuse), *STAGES[1:])
    with pytest.raises(UserError, match="no words"):
        run_chain(make_run(book(), folders, lines), "review", stages=stages)
    assert executed(lines) == []


@pytest.mark.parametrize("name", ["sort", "print"])
def test_what_a_refused_stage_held_is_gone_with_its_error(folders, name):
    held = []

    def refuse(run: Run) -> None:
        loader = Counter()  # stands for data-loading workers, which end in order only if they end now
        held.append(weakref.ref(loader))
        raise UserError("no words")

    stages = tuple(replace(stage, function=refuse) if stage.name == name else stage for stage in STAGES)
    gc.disable()
    try:
        with suppress(UserError):
            run_chain(make_run(book(), folders, []), "review", stages=stages)
        assert held and held[0]() is None
    finally:
        gc.enable()


def test_force_runs_a_stage_from_its_beginning(folders):
    go(book(), folders)
    lines = go(book(), folders, force=("sort",))
    assert executed(lines) == ["sort"] and "sort      sort them (--force)" in lines


def test_a_stop_ends_the_chain_between_two_stages_and_the_same_call_continues(folders):
    stop = Stop(budget_s=0.0)
    with pytest.raises(Stopped, match="the time budget is used up, before count"):
        run_chain(make_run(book(), folders, [], stop), "review")
    assert executed(go(book(), folders)) == ALL


def test_the_engine_loads_no_config_no_task_and_no_package():
    code = (
        "import sys, pipeline.engine.chain\n"
        "print(*(name for name in sys.modules if name.startswith('pipeline.')))\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'yaml', 'numpy', 'torch', 'tqdm'}))"
    )
    # -S: without the packages of others.
    found = subprocess.run([sys.executable, "-S", "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    ours, others = found.stdout.splitlines()
    engine = {name for name in ours.split() if name.startswith("pipeline.engine")}
    small = {f"pipeline.{name}" for name in ("errors", "files", "paths", "wording")}
    assert set(ours.split()) <= engine | small and others == ""
