"""What the command `why` prints, and that it writes nothing."""

from __future__ import annotations

import pytest

from pipeline.__main__ import main
from pipeline.config.load import load
from pipeline.engine.chain import run_chain
from pipeline.paths import Folders
from pipeline.stages import stages_of
from tests.report.small_run import mark_stages, start_run
from tests.test_stages import stand_ins
from tests.tiny import overrides, run_of, write_competition


def lines_of(capsys, *words: str) -> list[str]:
    assert main(["why", *words]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def settings(tmp_path, monkeypatch) -> tuple[str, ...]:
    """The overrides of a tiny run in which every stage is done, by stand-ins that only write files."""
    monkeypatch.setattr("pipeline.work.inputs.lacks_tiles", lambda run: False)  # the stand-in's are no tiles
    words = overrides(write_competition(tmp_path / "data"))
    loaded = load("demo", words)
    run_chain(run_of(loaded), "report", stages=stand_ins(loaded))
    return words


def test_every_stage_of_a_finished_run_is_up_to_date_and_nothing_is_written(settings, capsys):
    folder = Folders.from_environment().runs
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    head, *lines = lines_of(capsys, "demo", *settings)
    assert head.startswith("demo-") and head.endswith(", the run with these settings:")
    names = [stage.name for stage in stages_of(load("demo", settings))]
    assert [line.split(maxsplit=1) for line in lines] == [[name, "up to date"] for name in names]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_of_one_stage_all_that_changed_is_listed_and_what_runs_before_it(settings, capsys):
    paths = Folders.from_environment().run(load("demo", settings).run)
    (paths / "split.csv").write_text("changed by hand")
    head, *lines = lines_of(capsys, "demo", "evaluate", *settings)[1:]
    assert head == "evaluate would run"
    assert lines[0] == "  split.csv changed (written by prepare)"
    assert lines[1].startswith("  last done 20") and lines[2].startswith("  it reads best.ckpt (train), ")
    assert "before it, prepare would run: split.csv is gone or was changed" in lines
    assert "before it, testset may run: images.json is written by prepare" in lines
    assert any(line.endswith("train would run: split.csv changed (written by prepare)") for line in lines)


def test_a_run_of_other_settings_would_reuse_what_is_done(settings, capsys):
    lines = lines_of(capsys, "demo", *settings, "PREDICT.TTA=flip")
    states = {line.split()[0]: line for line in lines[1:]}
    assert "would be reused: from " in states["train"]
    assert states["evaluate"].endswith("would run: not done yet")
    assert len(list(Folders.from_environment().runs.iterdir())) == 1


def test_a_run_that_was_never_started_gets_no_folder(capsys):
    assert {line.split(maxsplit=1)[1] for line in lines_of(capsys, "ExpAAB")} == {"would run: not done yet"}
    assert not Folders.from_environment().runs.exists()


def test_the_answer_needs_no_heavy_package(python_modules):
    loaded = python_modules("import pipeline.__main__ as main; main.main(['why', 'ExpAAB'])")
    assert not loaded & {"torch", "timm", "huggingface_hub", "numpy", "pandas", "matplotlib", "cv2"}


def test_the_demo_is_not_drawn_where_its_images_are_gone(tmp_path, monkeypatch, capsys):
    for module in ("work.inputs", "commands.why"):
        monkeypatch.setattr(f"pipeline.{module}.DEMO_FOLDER", tmp_path / "demo")
    mark_stages(start_run(load("demo")), prepare=1.0)
    assert "would run: " in lines_of(capsys, "demo")[0]
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ExpAAB", "tra"], "ExpAAB tra: neither a stage nor a setting; did you mean train?"),
        (["ExpAAB", "train", "evaluate"], "found train evaluate; name one stage, or none for a line for each"),
        (["EnsAAA", "train"], "EnsAAA has no stage train (an ensemble trains nothing)"),
        (["ExpAAZ"], "there is no config 'ExpAAZ'"),
        ([], "the following arguments are required: NAME"),
    ],
)
def test_a_slip_is_refused(words, message, capsys):
    assert main(["why", *words]) == 2
    assert message in capsys.readouterr().err
