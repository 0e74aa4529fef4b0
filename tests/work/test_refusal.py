"""A refused submission: the report is written all the same and shows why, and the command ends as refused."""

from __future__ import annotations

import json

import pytest

from pipeline.__main__ import main
from pipeline.engine.chain import FORCED
from pipeline.errors import UserError
from pipeline.paths import REFUSAL, REPORT, Folders
from pipeline.work import submit as submit_module
from tests.tiny import draw_nothing, executed, overrides, run_paths, tiny, write_competition

pytestmark = pytest.mark.slow
MESSAGE = "demo.csv has 2 problems:\n  000004_001_3: a run ends beyond the image"


def test_a_refused_submission_is_reported_and_exits_as_refused(tmp_path, monkeypatch, capsys):
    draw_nothing(monkeypatch)
    data = write_competition(tmp_path / "data")
    changes = ("SWEEP.ENABLE=false", "DATALOADERS.TRAIN.BATCH_SIZE=4")
    command, paths = ["demo", *overrides(data, *changes)], run_paths(tiny(data, *changes).run)

    def refuse(run) -> None:
        raise UserError(MESSAGE)

    with monkeypatch.context() as patched:
        patched.setattr(submit_module, "submit", refuse)
        assert main(command) == 2
        shown = capsys.readouterr()
        assert shown.err == f"{MESSAGE}\n"
        assert executed(shown.out.splitlines()) == [
            *("prepare", "testset", "tile", "train", "evaluate", "predict", "report")
        ]
        assert json.loads((paths / REFUSAL).read_text()) == {"stage": "submit", "message": MESSAGE}
        assert f"<h2>submit was refused</h2><pre>{MESSAGE}</pre>" in (paths / REPORT).read_text()
        assert main(command) == 2  # nothing but the refused stage runs again
        again = capsys.readouterr()
        assert again.err == f"{MESSAGE}\n" and executed(again.out.splitlines()) == []
    assert not Folders.from_environment().submissions.exists()

    assert main(command) == 0
    assert executed(capsys.readouterr().out.splitlines()) == ["submit", "report"]
    assert not (paths / REFUSAL).exists()
    assert "was refused" not in (paths / REPORT).read_text()
    assert paths.submission(".csv").is_file()

    with monkeypatch.context() as patched:  # and one that was good may be refused later
        patched.setattr(submit_module, "submit", refuse)
        assert main([*command, "submit", "report", FORCED]) == 2
        assert "submit was refused" in (paths / REPORT).read_text()
