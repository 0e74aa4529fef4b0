"""The commands that are not stages, as a table: what `./run.sh -h` lists, and where the function of each is.

A command's options and their help are in its function, which is imported only when it is run. Standard library only.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.config.competition import Competition

RUNS, SUBMISSIONS, NEW = "pipeline.commands.runs", "pipeline.commands.submissions", "pipeline.commands.new"
STUDY, WHY = "pipeline.commands.study", "pipeline.commands.why"
KAGGLE = "pipeline.commands.kaggle"
BOARD, WATCH = "pipeline.commands.board", "pipeline.commands.watch"
EXPORT = "pipeline.commands.export"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit code 2, like every other mistake of the user's."""

    def __init__(self, **options: Any) -> None:
        # Raw: descriptions and examples are printed as they are written.
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")

    def parse_args(self, *arguments: Any) -> Any:
        """Returns the arguments; options may stand before, between and after the others.

        The name of a run, where a config is expected, stands for its config and overrides.
        """
        found = self.parse_intermixed_args(*arguments)
        if hasattr(found, "name") and hasattr(found, "overrides"):
            from pipeline.commands.run_names import of_run
            from pipeline.paths import Folders

            typed = [*found.overrides, *getattr(found, "stages", ())]
            found.name, own = of_run(found.name, typed, Folders.from_environment().runs)
            found.overrides = [*own, *found.overrides]
        return found

    def options(self) -> list[str]:
        """Returns the options as they are typed, `--help` among them."""
        return [option for action in self._actions for option in action.option_strings]


@dataclass(frozen=True)
class Command:
    """One command: `module` has its function, `<name>_command`; `example` is an example of its arguments."""

    name: str
    module: str
    summary: str
    example: str

    def run(self, arguments: list[str]) -> int:
        """Runs the command; returns the exit code, 0 where its function returns none."""
        prog, description = f"./run.sh {self.name}", f"{self.summary[0].upper()}{self.summary[1:]}."
        options = Parser(prog=prog, description=description, epilog=f"example: {prog} {self.example}".rstrip())
        return getattr(import_module(self.module), f"{self.name}_command")(options, arguments) or 0


# fmt: off
TABLE = (
    Command("list", RUNS, "list configs with question, state and score", "copy-paste"),
    Command("show", RUNS, "print every value of a config and the file that set it", "ExpAAB SOLVER.MAX_LR=5e-4"),
    Command("why", WHY, "print why a stage would run, and what has changed since", "ExpAAB evaluate PREDICT.TTA=flip"),
    Command("plan", RUNS, "print the phases of a training plan, plot its rate", "ExpAAB SOLVER.PLAN=one_cycle"),
    Command("table", RUNS, "print scores by class and costs of all runs, with files", "--competition camvid --classes"),
    Command("board", BOARD, "write one page over all runs: scores, curves, and what each answered", ""),
    Command("watch", WATCH, "print what runs are doing, or serve the board while they run", "--serve"),
    Command("compare", RUNS, "compare settings, scores and curves of runs", "'ExpAA*' ExpABA --page"),
    Command("study", STUDY, "train settings on the same splits and seeds, say which is better", "demo_losses"),
    Command("shakeup", RUNS, "test which scores differ by more than chance, choose finals", "ExpAAB ExpAAC EnsAAA"),
    Command("score", SUBMISSIONS, "score a submission against masks or boxes", "submissions/ExpAAB.csv --masks truth"),
    Command("diff", SUBMISSIONS, "print and draw where two submissions differ most", "ExpAAB.csv ExpAAC.csv"),
    Command("submit", SUBMISSIONS, "upload a run's submission to Kaggle", 'ExpAAB -m "flat, then cosine"'),
    Command("log", SUBMISSIONS, "print the scores of all uploads, local and on Kaggle", "--competition aeroscapes"),
    Command("kaggle", KAGGLE, "make a notebook for Kaggle that trains or predicts, and push it", "ExpAAB --push"),
    Command("convention", SUBMISSIONS, "find out how a competition writes run lengths", "aeroscapes train_runs.csv"),
    Command("export", EXPORT, "write a trained network as ONNX, and for segmentation_models_pytorch", "ExpAAB"),
    Command("download", RUNS, "download a competition's data or an encoder's weights", "camvid"),
    Command("new", NEW, "describe a competition by its folder, with a first experiment", "data/my-competition"),
    Command("doctor", RUNS, "print what this machine has and lacks, and how to fix it", ""),
    Command("test", RUNS, "run the tests with pytest", "tests/data -x"),
)
# fmt: on
COMMANDS = {command.name: command for command in TABLE}


def add_config(options: Parser, what: str = "a config, configs/NAME.yaml, or a run folder") -> None:
    """Adds the arguments NAME, with `what` as its help, and KEY=VALUE; they are read as `name` and `overrides`."""
    options.add_argument("name", metavar="NAME", help=what)
    meaning = "other settings; the run folder is then that of a run with these settings"
    options.add_argument("overrides", metavar="KEY=VALUE", nargs="*", default=(), help=meaning)


def add_competition(options: Parser, note: str) -> None:
    """Adds the option `--competition`; `note` ends its help."""
    options.add_argument("--competition", metavar="NAME", help=f"configs/competitions/NAME.yaml; {note}")


def chosen_competition(options: Parser, given: str | None, files: Sequence[Path] = ()) -> Competition:
    """Returns the competition `given`, or else the one that the .json beside a submission names.

    Raises:
        UserError: a file does not exist, no competition is named, or two files are from different ones.
    """
    from pipeline.config.load import competition_names, load_competition
    from pipeline.submission.file import origin_path

    for file in files:
        if not file.is_file():
            raise UserError(f"{options.prog}: there is no file {file}; expected a submission")
    if given is not None:
        return load_competition(given)
    found = {file: name for file in files if (name := _competition_beside(file)) is not None}
    if len(set(found.values())) > 1:
        pairs = "; ".join(f"{file} is from {name}" for file, name in found.items())
        raise UserError(f"{options.prog}: {pairs}. To treat both as one competition's, add --competition NAME")
    if not found:
        origins = " or ".join(str(origin_path(file)) for file in files)
        why = f"no {origins} names the competition" if files else "no competition is named"
        raise UserError(f"{options.prog}: {why}; add --competition NAME, one of {', '.join(competition_names())}")
    return load_competition(next(iter(found.values())))


def _competition_beside(csv_path: Path) -> str | None:
    """Returns the competition in the .json beside a submission: its own entry, or that of its experiment's config."""
    from pipeline.config.load import load
    from pipeline.submission.file import read_origin

    try:
        origin = read_origin(csv_path)
        if "competition" in origin:
            return str(origin["competition"])
        return load(str(origin["experiment"])).competition.name  # written before origins named it
    except (KeyError, UserError):
        return None
