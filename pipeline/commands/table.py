"""The commands that are not stages, as a table: what `./run.sh -h` lists, and where the function of each is.

A command's options and their help are in its function, which is imported only when it is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

RUNS, SUBMISSIONS = "pipeline.commands.runs", "pipeline.commands.submissions"


@dataclass(frozen=True)
class Command:
    """One command: `module` has its function, `<name>_command`; `example` is an example of its arguments."""

    name: str
    module: str
    summary: str
    example: str

    def run(self, arguments: list[str]) -> int:
        """Runs the command; returns the exit code."""
        return getattr(import_module(self.module), f"{self.name}_command")(arguments)


# fmt: off
TABLE = (
    Command("list", RUNS, "list configs with question, state and score", "copy-paste"),
    Command("show", RUNS, "print every value of a config and the file that set it", "ExpAAB SOLVER.MAX_LR=5e-4"),
    Command("plan", RUNS, "print the phases of a training plan, plot its rate", "ExpAAB SOLVER.PLAN=one_cycle"),
    Command("compare", RUNS, "compare settings, scores and curves of runs", "ExpAAB ExpAAC"),
    Command("shakeup", RUNS, "test which scores differ by more than chance, choose finals", "ExpAAB ExpAAC EnsAAA"),
    Command("score", SUBMISSIONS, "score a submission file against masks", "submissions/ExpAAB.csv --masks truth"),
    Command("diff", SUBMISSIONS, "print and draw where two submissions differ most", "ExpAAB.csv ExpAAC.csv"),
    Command("submit", SUBMISSIONS, "upload a run's submission to Kaggle", 'ExpAAB -m "flat, then cosine"'),
    Command("log", SUBMISSIONS, "print the scores of all uploads, local and on Kaggle", "--competition aeroscapes"),
    Command("convention", SUBMISSIONS, "find out how a competition writes run lengths", "aeroscapes train_runs.csv"),
    Command("download", RUNS, "download a competition's data or an encoder's weights", "camvid"),
    Command("doctor", RUNS, "print what this machine has and lacks, and how to fix it", ""),
    Command("test", RUNS, "run the tests with pytest", "tests/data -x"),
)
# fmt: on
COMMANDS = {command.name: command for command in TABLE}
