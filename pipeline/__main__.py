"""The command line: `./run.sh NAME [STAGE ...] [KEY=VALUE ...]` for experiments, and commands (`commands/table.py`).

Exit codes: 0 done, 2 a mistake of the user's, 3 stopped and resumable, 1 an internal error.
"""

from __future__ import annotations

import errno
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from pipeline.commands.many import WORKERS
from pipeline.commands.run_names import of_run
from pipeline.commands.table import COMMANDS, Parser
from pipeline.commands.words import split_words
from pipeline.engine.process import is_reader_gone, keep_output_going, lost_output, use_utf8
from pipeline.errors import Stopped, UserError
from pipeline.paths import Folders
from pipeline.stages import STAGE_NAMES
from pipeline.terminal import printable_output
from pipeline.wording import hours_of, nearest

EXIT_MISTAKE, EXIT_STOPPED, EXIT_FAULT = 2, 3, 1
EPILOG = """\
`./run.sh demo` runs all stages on a small competition that it generates itself.

commands (./run.sh COMMAND ..., --help for its arguments and an example):
{commands}

exit codes: 0 done, 2 a mistake in config, data or arguments, 3 stopped and resumable, 1 an internal error
folders:    DATA_DIR (competitions), WEIGHTS_DIR (encoder weights), RUNS_DIR, SUBMISSIONS_DIR, SCRATCH_DIR (tile stores)
            STORES_URL (tile stores elsewhere, such as s3://...), STORES_CACHE_GIB (limit of each on this disk)
"""


def experiment_parser() -> Parser:
    """Returns the parser of `./run.sh NAME ...`; its help is that of the whole command line."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    options = Parser(
        prog="./run.sh",
        description="From a competition's images to a checked submission: runs the stages of a config in order, and "
        "skips\nthose whose results are fresh.",
        epilog=EPILOG.format(commands=commands),
    )
    options.add_argument("name", metavar="NAME", help="a config, configs/NAME.yaml, or a run folder")
    # Two arguments for the help; argparse assigns all words to the first, and split_words separates them.
    meaning = f"run up to the last stage named; default: all. In order: {' '.join(STAGE_NAMES)}"
    options.add_argument("stages", metavar="STAGE", nargs="*", help=meaning)
    meaning = "other settings; the run then has a run folder of its own"
    options.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help=meaning)
    meaning = "train on each of N folds, and combine the runs in an ensemble; see docs/folds.md"
    options.add_argument("--folds", metavar="N", type=int, help=meaning)
    options.add_argument("--seeds", metavar="N", type=int, help="train with each of N seeds, and combine the runs")
    options.add_argument("--workers", metavar="N", type=int, help=f"with --folds or --seeds: {WORKERS}")
    options.add_argument("--force", action="store_true", help="run the named stages (or all) again, even if fresh")
    meaning = "predict the images of DIR, such as a hidden test set, and not the competition's test images"
    options.add_argument("--test-dir", metavar="DIR", help=meaning)
    meaning = "such as 8.5h or 50min, of the whole command: leaves out of the submission what does not fit"
    options.add_argument("--time-limit", metavar="TIME", help=meaning)
    meaning = "run the Python file that MODEL.NAME names for a network of your own; no config can say so"
    options.add_argument("--trust-code", action="store_true", help=meaning)
    return options


def main(arguments: Sequence[str]) -> int:
    """Runs one command, with control characters escaped in all that it prints; returns the exit code."""
    with printable_output():
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    try:
        code = dispatch(list(arguments))
    except (Exception, KeyboardInterrupt) as error:
        code = report_end(error, arguments)
    lost = lost_output()
    return code if lost is None or is_reader_gone(lost) else report_lost(lost, code, arguments)


def report_lost(lost: OSError, code: int, arguments: Sequence[str]) -> int:
    """Prints that standard output was lost; returns 2 in place of 0, unless the command's result is in files."""
    print(f"cannot write to standard output: {lost.strerror}; free space, or redirect it elsewhere", file=sys.stderr)
    is_training = bool(arguments) and (arguments[0] not in COMMANDS or arguments[0] == "study")
    return code or (0 if is_training else EXIT_MISTAKE)


def report_end(error: BaseException, arguments: Sequence[str]) -> int:
    """Prints what ended a command and how to go on; returns the exit code. Called where the exception is handled."""
    interrupt = error  # or what caused the error: Python 3.11 turns one during an import into a RuntimeError
    while interrupt is not None and not isinstance(interrupt, KeyboardInterrupt):
        interrupt = interrupt.__cause__ or interrupt.__context__
    # With --force it would start from the beginning.
    again = "the same command without --force" if "--force" in arguments else "the same command"
    if isinstance(error, UserError):
        words, code = str(error), EXIT_MISTAKE
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f"cannot write {error.filename}: " if error.filename else ""
        words, code = f"{where}{error.strerror}: free space, then type {again}", EXIT_MISTAKE
    elif isinstance(error, Stopped) or interrupt is not None:
        why = str(error if isinstance(error, Stopped) else interrupt) or "Ctrl-C"
        words, code = f"stopped: {why}; to continue, type {again}", EXIT_STOPPED
    else:
        traceback.print_exc()
        ask = "Please report it with the lines above and the output of `./run.sh doctor`."
        words, code = f"\nThis is an internal error. {ask}", EXIT_FAULT
    print(words, file=sys.stderr)
    return code


def dispatch(arguments: list[str]) -> int:
    """Runs the command, or the experiment, that the first word names."""
    if not arguments:
        experiment_parser().print_help()
        return EXIT_MISTAKE
    if arguments[0] == "help":
        arguments = [word for word in arguments[1:2] if word in COMMANDS] + ["--help"]
    name, rest = arguments[0], arguments[1:]
    try:
        return COMMANDS[name].run(rest) if name in COMMANDS else run_experiment(arguments)
    except SystemExit as end:  # argparse has printed the help
        if end.code:
            raise
        return 0


def run_experiment(arguments: Sequence[str]) -> int:
    """Runs the stages of an experiment."""
    name = arguments[0]
    if name not in ("-h", "--help") and (name.startswith("-") or not name.strip()):
        raise UserError(f"{name!r} is not a command or config; ./run.sh -h lists commands, ./run.sh list configs")
    name, of_folder = of_run(name, arguments[1:], Folders.from_environment().runs)
    arguments = [name, *of_folder, *arguments[1:]]
    chosen, unknown = experiment_parser().parse_known_intermixed_args(arguments)

    from pipeline.config.load import names

    if name not in names():
        refuse_slip(name, arguments[1:])
    stages_named, overrides = split_words(name, [*chosen.stages, *chosen.overrides, *unknown], experiment_parser())
    if chosen.folds is not None or chosen.seeds is not None:
        return run_several(chosen, stages_named, overrides)
    if chosen.workers is not None:
        raise UserError(f"--workers {chosen.workers} is for several runs; add --folds 5 or --seeds 3, or leave it out")
    if chosen.test_dir is not None:
        overrides.append(f"DATASETS.TEST_DIRECTORY={chosen.test_dir}")
    if chosen.time_limit is not None:
        if (hours := hours_of(chosen.time_limit)) is None:
            raise UserError(f"--time-limit {chosen.time_limit}: expected a number and h, min or s, for example 8.5h")
        overrides.append(f"SUBMIT.TIME_LIMIT_HOURS={hours:.6g}")
    from pipeline.commands.absent import check_stages
    from pipeline.engine.api import open_run, run_stages
    from pipeline.engine.stopping import Stop
    from pipeline.notebook.bundle import is_bundled, open_bundle
    from pipeline.paths import shown

    stop = Stop()
    opened = open_run(name, overrides, stop=stop, trust_code=chosen.trust_code)
    if is_bundled(opened):
        opened = open_bundle(opened)
    known = [stage.name for stage in opened.stages]
    last = check_stages(stages_named, opened) or known[-1]
    stop.listen()
    if opened.name != name:
        print(f"{name} with other settings runs in {shown(opened.paths.folder)}")
    run_stages(opened, last, (stages_named or known) if chosen.force else ())
    return 0


def run_several(chosen: Any, stages_named: Sequence[str], overrides: Sequence[str]) -> int:
    """Runs an experiment on several folds, or with several seeds."""
    from pipeline.commands.folds import Typed, run_folds

    single = {"--force": chosen.force, "--test-dir": chosen.test_dir, "--time-limit": chosen.time_limit}
    refused = tuple(option for option, value in single.items() if value)
    typed = Typed(chosen.folds, chosen.seeds, chosen.workers, tuple(stages_named), refused, chosen.trust_code)
    return run_folds(chosen.name, overrides, typed)


def refuse_slip(name: str, arguments: Sequence[str]) -> None:
    """Refuses a first word that is a stage or a misspelt command instead of a config.

    Raises:
        UserError: says what to type.
    """
    if name in STAGE_NAMES:
        experiment = next((word for word in arguments if "=" not in word), "NAME")
        raise UserError(f"{name} is a stage; the experiment comes first: ./run.sh {shlex.quote(experiment)} {name}")
    if near := nearest(name, COMMANDS):
        raise UserError(f"there is no command or config {name!r}; did you mean ./run.sh {near[0]}?")


if __name__ == "__main__":
    use_utf8()
    keep_output_going()
    sys.exit(main(sys.argv[1:]))
