"""The command of a run, from its folder."""

from __future__ import annotations

import shlex

import pytest

from pipeline.errors import UserError
from pipeline.report.folders import command_of, run_folder

NAME = "Exp $x 'a'"


def test_a_command_with_any_name_can_be_pasted(tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "config.yaml").write_text("")
    assert shlex.split(command_of(tmp_path / NAME, {})) == ["./run.sh", NAME]


def test_the_answer_to_an_unknown_run_can_be_pasted(tmp_path):
    with pytest.raises(UserError) as caught:
        run_folder(NAME, tmp_path)
    assert shlex.split(str(caught.value).split("`")[1]) == ["./run.sh", NAME]
