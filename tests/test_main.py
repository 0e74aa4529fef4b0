"""The first words of the command line: what is typed wrongly is told apart and answered with what to type."""

import ast
import errno
import inspect

import pytest

from pipeline.__main__ import COMMANDS, ON_SUBMISSIONS, main
from pipeline.commands import runs, submissions


def answer(capsys, *arguments: str) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err.strip()


def test_a_misspelt_command_is_answered_with_the_command(capsys):
    assert answer(capsys, "lst") == "there is no command and no config 'lst'; did you mean ./run.sh list?"
    assert answer(capsys, "Doctor").endswith("did you mean ./run.sh doctor?")


def test_a_misspelt_config_is_answered_with_the_nearest(capsys):
    assert "did you mean ExpAAB?" in answer(capsys, "expaab")


def test_a_stage_before_its_experiment_is_turned_round(capsys):
    assert answer(capsys, "train", "ExpAAB").endswith("the experiment comes first: ./run.sh ExpAAB train")
    assert answer(capsys, "prepare").endswith("./run.sh NAME prepare")


@pytest.mark.parametrize("word", ["--version", "-v", ""])
def test_an_unknown_option_is_not_looked_for_among_the_configs(capsys, word):
    assert answer(capsys, word) == f"{word!r} is no command and no config; ./run.sh -h shows what there is"


def test_a_setting_with_a_space_or_dashes_is_shown_how_it_is_written(capsys):
    assert "a setting is written SOLVER.MAX_LR=VALUE" in answer(capsys, "ExpAAB", "SOLVER.MAX_LR", "1e-3")
    assert answer(capsys, "ExpAAB", "--SOLVER.MAX_LR=1e-3").endswith("written without dashes: SOLVER.MAX_LR=1e-3")


@pytest.mark.parametrize("arguments", [("-h",), ("help",), ("ExpAAB", "--help"), ("help", "nothing")])
def test_help_is_given_wherever_it_is_asked_for(capsys, arguments):
    assert main(arguments) == 0
    assert "Stages, in order" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_usage_of_its_own_with_its_options_and_an_example(capsys, command):
    assert main(["help", command]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"./run.sh {command}") and f"Example: ./run.sh {command}" in text
    assert "Stages, in order" not in text
    module = inspect.getsource(submissions if command in ON_SUBMISSIONS else runs)
    (function,) = (node for node in ast.parse(module).body if getattr(node, "name", "") == f"{command}_command")
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args]
    options = [call.args for call in calls if ast.unparse(call.func).endswith(".add_argument")]
    assert [
        word.value for words in options for word in words if word.value.startswith("-") and word.value not in text
    ] == []


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "test"])
def test_a_command_that_is_asked_for_help_says_its_own_and_does_nothing(capsys, command):
    assert main([command, "--help"]) == 0
    asked = capsys.readouterr().out
    assert main([command, "ExpAAB", "-h"]) == 0
    assert main(["help", command]) == 0
    assert capsys.readouterr().out == 2 * asked


def test_help_needs_no_package(python_modules):
    loaded = python_modules("import pipeline.__main__ as main; main.main(['score', '--help'])")
    assert not loaded & {"yaml", "numpy", "torch"}


@pytest.mark.parametrize("command", ["list", "compare", "shakeup", "doctor", "plan", "log"])
def test_an_option_that_a_command_has_not_is_refused(capsys, command):
    assert "--nonsense" in answer(capsys, command, "ExpAAB", "--nonsense")


def test_a_full_disk_is_no_fault_of_ours(capsys, monkeypatch):
    def write(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runs, "list_command", write)
    assert answer(capsys, "list") == "No space left on device: free space, then start the same command again"


@pytest.mark.parametrize("command", ["show", "plan"])
def test_a_command_without_a_name_asks_for_the_name_alone(capsys, command):
    message = answer(capsys, command)
    assert message == f"./run.sh {command}: the following arguments are required: name; see ./run.sh {command} --help"


def test_an_interrupt_that_an_import_turned_into_an_error_is_still_one(capsys, monkeypatch):
    def load(_):
        try:
            raise KeyboardInterrupt("asked to end (SIGTERM)")
        except KeyboardInterrupt as interrupt:
            raise RuntimeError("Error calling __set_name__ on 'Field' instance") from interrupt

    monkeypatch.setattr(runs, "list_command", load)
    assert main(["list"]) == 3
    assert capsys.readouterr().err.startswith("stopped: asked to end (SIGTERM); nothing is broken")
