"""The command line: help, the frozen list of commands and options, and answers to typing errors."""

import errno
import multiprocessing
import sys
from pathlib import Path

import pytest

from pipeline import __main__ as command_line
from pipeline.__main__ import main, report_end
from pipeline.commands import runs
from pipeline.commands.table import COMMANDS, Parser
from pipeline.data.store import Store
from pipeline.errors import Stopped, UserError
from pipeline.training import trainer
from tests.tiny import overrides


def answer(capsys, *arguments: str) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err.strip()


def test_a_misspelt_command_is_answered_with_the_command(capsys):
    assert answer(capsys, "lst") == "there is no command or config 'lst'; did you mean ./run.sh list?"
    assert answer(capsys, "Doctor").endswith("did you mean ./run.sh doctor?")


def test_a_misspelt_config_is_answered_with_the_nearest(capsys):
    assert "did you mean ExpAAB?" in answer(capsys, "expaab")


def test_a_stage_before_its_experiment_is_answered_with_the_right_order(capsys):
    assert answer(capsys, "train", "ExpAAB").endswith("the experiment comes first: ./run.sh ExpAAB train")
    assert answer(capsys, "prepare").endswith("./run.sh NAME prepare")


@pytest.mark.parametrize("word", ["--version", "-v", ""])
def test_an_unknown_option_is_not_searched_for_among_the_configs(capsys, word):
    assert answer(capsys, word).startswith(f"{word!r} is not a command or config; ./run.sh -h lists commands")


def test_a_setting_with_a_space_or_dashes_is_answered_with_its_form(capsys):
    assert "a setting is written SOLVER.MAX_LR=VALUE" in answer(capsys, "ExpAAB", "SOLVER.MAX_LR", "1e-3")
    assert answer(capsys, "ExpAAB", "--SOLVER.MAX_LR=1e-3").endswith("written without dashes: SOLVER.MAX_LR=1e-3")


@pytest.mark.parametrize("arguments", [("-h",), ("help",), ("ExpAAB", "--help"), ("help", "nothing")])
def test_help_is_printed_wherever_it_is_asked_for(capsys, arguments):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: ./run.sh [-h]") and all(f"\n  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_of_its_own_with_an_example(capsys, command):
    assert main(["help", command]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: ./run.sh {command} ") and f"example: ./run.sh {command}" in text


def usage_of(parser: Parser) -> str:
    """Returns how a parser's command is typed: prog, arguments, options."""
    actions = [action for action in parser._actions if action.dest != "help"]
    assert all(action.help for action in actions), f"{parser.prog}: each argument needs a help"
    return " ".join([parser.prog, *(" ".join(action.option_strings) or action.metavar for action in actions)])


def test_the_command_line_is_frozen(monkeypatch):
    parsers = []
    monkeypatch.setattr(Parser, "print_help", lambda self, file=None: parsers.append(self))
    for words in ((), *((command,) for command in COMMANDS)):
        assert main([*words, "--help"]) == 0
    frozen = (Path(__file__).parent / "command_line.txt").read_text().splitlines()
    found = [usage_of(parser) for parser in parsers]
    assert found == frozen, "The command line changed. If that is meant, change tests/command_line.txt with it."


def test_an_option_stands_anywhere_among_the_arguments(capsys):
    assert main(["show", "--json", "ExpAAB", "SOLVER.POWER=2"]) == 0
    first = capsys.readouterr().out
    assert main(["show", "ExpAAB", "--json", "SOLVER.POWER=2"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "test"])  # pytest has --help, too
def test_a_command_that_is_asked_for_help_says_its_own_and_does_nothing(capsys, command):
    assert main([command, "--help"]) == 0
    asked = capsys.readouterr().out
    assert main([command, "ExpAAB", "-h"]) == 0
    assert main(["help", command]) == 0
    assert capsys.readouterr().out == 2 * asked


def test_help_needs_no_package(python_modules):
    asked = "".join(f"main.main(['{command}', '--help']); " for command in COMMANDS)
    code = f"import pipeline.__main__ as main; main.main(['-h']); main.main(['ExpAAB', '-h']); {asked}"
    before = python_modules("import argparse, pipeline.errors, dataclasses")
    assert not {name for name in python_modules(code) - before if name not in sys.stdlib_module_names}


@pytest.mark.parametrize("command", ["list", "compare", "shakeup", "doctor", "plan", "log"])
def test_an_unknown_option_of_a_command_is_refused(capsys, command):
    assert "--nonsense" in answer(capsys, command, "ExpAAB", "--nonsense")


def test_a_full_disk_is_not_an_internal_error(capsys, monkeypatch):
    def write(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runs, "list_command", write)
    assert answer(capsys, "list") == "No space left on device: free space, then type the same command"


@pytest.mark.parametrize("command", ["show", "plan"])
def test_a_command_without_a_name_asks_for_the_name_alone(capsys, command):
    message = answer(capsys, command)
    assert message == f"./run.sh {command}: the following arguments are required: NAME; see ./run.sh {command} --help"


def test_an_interrupt_that_an_import_turned_into_an_error_is_an_interrupt(capsys, monkeypatch):
    def load(*_):
        try:
            raise KeyboardInterrupt("asked to end (SIGTERM)")
        except KeyboardInterrupt as interrupt:
            raise RuntimeError("Error calling __set_name__ on 'Field' instance") from interrupt

    monkeypatch.setattr(runs, "list_command", load)
    assert main(["list"]) == 3
    assert capsys.readouterr().err == "stopped: asked to end (SIGTERM); to continue, type the same command\n"


@pytest.mark.parametrize("place", ["worker", "step"])
@pytest.mark.parametrize(("error", "code"), [(UserError, 2), (KeyError, 1), (Stopped, 3)])
def test_after_an_error_data_loading_workers_end_in_order(workshop, monkeypatch, capfd, place, error, code):
    workers = []

    def fail(*_):
        raise error("gone")

    def reported(*arguments):
        workers.extend(multiprocessing.active_children())
        return report_end(*arguments)

    changes = ("DATALOADERS.TRAIN.NUM_WORKERS=1", "SWEEP.ENABLE=false")
    workshop.tiny(*changes)
    monkeypatch.setattr(*((Store, "image") if place == "worker" else (trainer, "train_step")), fail)
    monkeypatch.setattr(command_line, "report_end", reported)
    assert main(["demo", "train", *overrides(workshop.data, *changes)]) == code
    assert "gone" in capfd.readouterr().err
    # Workers that are not told to end are killed by their alarm after ten seconds.
    assert workers and [worker.exitcode for worker in workers] == [0] * len(workers)
