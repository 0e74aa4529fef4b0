"""The command line: `./run.sh NAME [STAGE] [KEY=VALUE ...]` and a few commands of its own.

Exit codes: 0 done, 2 a mistake of the user's, 3 stopped but resumable, 1 a fault of ours.
"""

from __future__ import annotations

import difflib
import errno
import os
import sys
import traceback
from collections.abc import Sequence

from pipeline.errors import Stopped, UserError
from pipeline.stages import STAGE_NAMES

HELP = """\
./run.sh - from a competition's images to a checked submission

  ./run.sh demo                       the whole chain on a small competition that it draws itself, two minutes
  ./run.sh NAME                       every stage of configs/NAME.yaml; what is still fresh is skipped
  ./run.sh NAME STAGE ...             up to the last stage named
  ./run.sh NAME KEY=VALUE ...         the same with other settings, in a run folder of its own
      --force                         do the named stages (or all) again even when fresh

  ./run.sh list [WORD ...]            every config, or those with all the words: question, state, score
  ./run.sh show NAME [KEY=VALUE ...]  every resolved value and the file it came from; --json for programs
  ./run.sh plan NAME [KEY=VALUE ...]  draws the learning rate over the epochs
  ./run.sh compare NAME NAME ...      settings that differ, and scores, of several runs
  ./run.sh shakeup NAME NAME ...      how far submissions must lie apart to differ truly; which two to choose as finals
  ./run.sh score FILE.csv --masks DIR local score of any submission file
  ./run.sh diff ONE.csv TWO.csv       where two submissions differ most, in words and as an image
  ./run.sh submit NAME -m "MESSAGE"   uploads submissions/NAME.csv to Kaggle; --again: the same content once more
  ./run.sh log --competition NAME     local, public and private scores of all uploads, kept beside them
  ./run.sh convention NAME RUNS.csv   how a competition writes its runs, found in its training rows and masks
  ./run.sh download NAME              fetches a competition's data, or an encoder's weights
  ./run.sh doctor                     what this machine has, what is missing, and how to mend it
  ./run.sh test [PYTEST ARGUMENT ...] the tests
  ./run.sh COMMAND --help             one command with its options and an example

Stages, in order: {stages}
Exit codes: 0 done, 2 a mistake in config, data or arguments, 3 stopped but resumable, 1 a fault of ours
Folders: DATA_DIR (competitions), WEIGHTS_DIR (encoder weights), RUNS_DIR, SUBMISSIONS_DIR, SCRATCH_DIR (tile stores)
"""
ON_SUBMISSIONS = ("score", "diff", "submit", "log", "convention")
COMMANDS = ("list", "show", "plan", "compare", "shakeup", *ON_SUBMISSIONS, "download", "doctor", "test")
EXIT_MISTAKE, EXIT_STOPPED, EXIT_FAULT = 2, 3, 1


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    try:
        return dispatch(list(arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_MISTAKE
    except Stopped as stopped:
        print(f"stopped: {stopped}; {again(arguments)} goes on from here", file=sys.stderr)
        return EXIT_STOPPED
    except KeyboardInterrupt as interrupt:
        return report_interrupt(interrupt, arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `./run.sh list | head`
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return report_unforeseen(error, arguments)
        print(f"{error.strerror}: free space, then start the same command again", file=sys.stderr)
        return EXIT_MISTAKE
    except Exception as error:
        return report_unforeseen(error, arguments)


def report_unforeseen(error: Exception, arguments: Sequence[str]) -> int:
    """Prints an interrupt in another's clothes as what it is, and anything else as our fault; returns the exit code."""
    interrupt = interrupt_behind(error)
    return report_fault() if interrupt is None else report_interrupt(interrupt, arguments)


def interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """Returns the interrupt that an error was made of: Python 3.11 turns one that meets an import into a RuntimeError.

    >>> interrupt_behind(ValueError("no number")) is None
    True
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def report_interrupt(interrupt: KeyboardInterrupt, arguments: Sequence[str]) -> int:
    """Prints what ended the run; returns the exit code."""
    print(f"stopped: {interrupt or 'Ctrl-C'}; nothing is broken, {again(arguments)} goes on", file=sys.stderr)
    return EXIT_STOPPED


def again(arguments: Sequence[str]) -> str:
    """Returns what to type to go on; `--force` would begin anew.

    >>> again(["ExpAAB", "--force"])
    'the same command without --force'
    """
    return "the same command without --force" if "--force" in arguments else "the same command"


def report_fault() -> int:
    """Prints the exception at hand and what to do with it; returns the exit code."""
    traceback.print_exc()
    print(
        "\nThis is a fault of ours, not of yours. Please report it with the lines above and `./run.sh doctor`.",
        file=sys.stderr,
    )
    return EXIT_FAULT


def dispatch(arguments: list[str]) -> int:
    """Chooses what to do by the first word."""
    is_asked = arguments[:1] == ["help"] or (arguments[:1] != ["test"] and bool({"-h", "--help"} & set(arguments)))
    if is_asked or not arguments:
        print_help(arguments[1:] if arguments[:1] == ["help"] else arguments)
        return 0 if arguments else EXIT_MISTAKE
    name, rest = arguments[0], arguments[1:]
    if name in COMMANDS:
        from pipeline.commands import runs, submissions

        return getattr(submissions if name in ON_SUBMISSIONS else runs, f"{name}_command")(rest)
    return run_experiment(name, rest)


def print_help(words: Sequence[str]) -> None:
    """Prints how the command among the first words is typed, or else all that there is."""
    from pipeline.commands.usage import USAGE

    print(USAGE.get(words[0] if words else "") or HELP.format(stages=" ".join(STAGE_NAMES)), end="")


def run_experiment(name: str, arguments: Sequence[str]) -> int:
    """Runs the stages of an experiment."""
    from pipeline.config.load import names

    if name not in names():
        refuse_slip(name, arguments)
    stages_named, overrides, is_forced = split_arguments(name, arguments)
    from pipeline.engine.api import open_run, run
    from pipeline.engine.stopping import Stop
    from pipeline.paths import shown

    stop = Stop()
    opened = open_run(name, overrides, stop=stop)
    known = [stage.name for stage in opened.stages]
    absent = [stage for stage in stages_named if stage not in known]
    if absent:
        config = opened.loaded.config
        why = "SWEEP.ENABLE is false" if config.ensemble.members is None else "an ensemble trains nothing"
        raise UserError(f"{name} has no stage {absent[0]} ({why}); it has {' '.join(known)}")
    stop.listen()
    last = max(stages_named, key=known.index) if stages_named else known[-1]
    if opened.name != name:
        print(f"{name} with other settings runs in {shown(opened.paths.folder)}")
    run(name, overrides, last, stop=stop, force=(stages_named or known) if is_forced else ())
    return 0


def refuse_slip(name: str, arguments: Sequence[str]) -> None:
    """Refuses a first word that is plainly no config's name but a stage, an option or a misspelt command.

    Raises:
        UserError: it is one of these; says what to type.
    """
    if name in STAGE_NAMES:
        experiment = next((word for word in arguments if "=" not in word), "NAME")
        raise UserError(f"{name} is a stage; the experiment comes first: ./run.sh {experiment} {name}")
    if name.startswith("-") or not name.strip():
        raise UserError(f"{name!r} is no command and no config; ./run.sh -h shows what there is")
    near = difflib.get_close_matches(name.lower(), COMMANDS, n=1, cutoff=0.7)
    if near:
        raise UserError(f"there is no command and no config {name!r}; did you mean ./run.sh {near[0]}?")


def split_arguments(name: str, arguments: Sequence[str]) -> tuple[list[str], list[str], bool]:
    """Returns the stages, overrides and `--force` among an experiment's arguments.

    Raises:
        UserError: a word that is none of these; names the nearest.
    """
    stages, overrides, is_forced = [], [], False
    for argument in arguments:
        if argument == "--force":
            is_forced = True
        elif argument in STAGE_NAMES:
            stages.append(argument)
        elif "=" in argument and not argument.startswith("-"):
            overrides.append(argument)
        else:
            near = difflib.get_close_matches(argument, [*STAGE_NAMES, "--force"], n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"stages: {' '.join(STAGE_NAMES)}; settings: KEY=VALUE"
            if "." in argument and argument.isupper():
                hint = f"a setting is written {argument}=VALUE, without a space"
            if argument.startswith("-") and "=" in argument:
                hint = f"a setting is written without dashes: {argument.lstrip('-')}"
            raise UserError(f"{name} {argument}: neither a stage nor a setting; {hint}")
    return stages, overrides, is_forced


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
