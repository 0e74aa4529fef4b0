"""The command line as a process: exit codes, one clear line instead of a traceback, and how fast it answers."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config.load import names
from pipeline.paths import PROJECT


def type_in(*arguments: str, folder: Path = PROJECT) -> tuple[int, str, str]:
    """Returns exit code, output and error output of `./run.sh ARGUMENTS`, of the project in a folder."""
    command = [sys.executable, "-m", "pipeline", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["ExpAAZ"], ["there is no", "'ExpAAZ'", "did you mean ExpAAA or ExpAAB or ExpAAC?"]),
        (["ExpAAB", "SOLVER.MAXLR=1"], ["unknown key SOLVER.MAXLR; did you mean SOLVER.MAX_LR?"]),
        (["ExpAAB", "SOLVER.MAX_LR=fast"], ["SOLVER.MAX_LR: found 'fast', expected a number (above 0) or auto"]),
        (["ExpAAB", "SOLVER.MAX_LR=-1"], ["SOLVER.MAX_LR", "(above 0)"]),
        (["demo", "tra"], ["demo tra: neither a stage nor a setting; did you mean train?"]),
        (["demo", "--forse"], ["did you mean --force?"]),
        (["dem"], ["'dem'", "did you mean demo"]),
        (["lst"], ["'lst'", "did you mean ./run.sh list?"]),
        (["show"], ["the following arguments are required: NAME"]),
        (["show", "ExpAAB", "--jsn"], ["--jsn"]),
        (["demo", "sweep", "SWEEP.ENABLE=false"], ["demo has no stage sweep (SWEEP.ENABLE is false)"]),
        (["demo", "fit"], ["demo has no stage fit (no DECODE setting is fitted)"]),
        (["EnsAAA", "train"], ["EnsAAA has no stage train (an ensemble trains nothing)"]),
        (["EnsAAA", "fit"], ["EnsAAA has no stage fit (no DECODE setting is fitted)"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_slip_is_one_line_and_exit_code_2(arguments, wanted):
    code, output, error = type_in(*arguments)
    assert (code, output, error.count("\n")) == (2, "", 1)
    assert all(text in error for text in wanted), error


def test_without_data_the_answer_says_where_it_looked_and_how_to_get_them(project_copy):
    code, output, error = type_in("ExpAAB", folder=project_copy)
    assert code == 2 and "Traceback" not in error + output
    assert "No data of the competition 'aeroscapes' found" in error and "./run.sh download aeroscapes" in error


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["help"]])
def test_help_names_stages_commands_and_exit_codes(arguments):
    code, output, error = type_in(*arguments)
    assert (code, error) == (0, "")
    for word in (
        "prepare testset pseudo tile sweep train average evaluate fit predict submit report",
        "list",
        "show",
        "doctor",
        "3 stopped",
    ):
        assert word in " ".join(output.split())


def test_without_arguments_the_help_is_shown_and_the_exit_code_is_2():
    code, output, _ = type_in()
    assert code == 2 and "./run.sh demo" in output


def test_the_list_names_every_config():
    code, output, error = type_in("list")
    assert (code, error) == (0, "") and all(name in output for name in names())


def test_show_says_where_each_value_comes_from():
    code, output, _ = type_in("show", "ExpAAB", "SOLVER.MAX_LR=5e-4")
    lines = {line.split()[0]: line.split()[1:] for line in output.splitlines()[1:]}
    assert code == 0 and lines["SOLVER.MAX_LR"] == ["0.0005", "command", "line"]
    assert lines["EXPERIMENT.PREFIX"][0] == "AAB" and lines["EXPERIMENT.PREFIX"][1].startswith("configs/ExpAAB.yaml:")


def test_show_json_is_json_with_the_configs_own_keys():
    code, output, _ = type_in("show", "ExpAAB", "--json")
    values = json.loads(output)
    assert code == 0 and values["MODEL"]["ENCODER"]["NAME"] == "efficientnet-b3" and values["SOLVER"]["ANN_EPOCHS"] == 4


def test_show_takes_less_than_a_second():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert type_in("show", "ExpAAB")[0] == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_a_reader_that_goes_away_is_no_fault():
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "pipeline", "list"]
    result = subprocess.run(command, cwd=PROJECT, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert (result.returncode, result.stderr) == (0, "")
