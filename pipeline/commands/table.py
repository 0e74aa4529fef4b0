"""The commands that are not stages, as a table: what `./run.sh -h` lists and where each command is.

A command's options and their help are in its function, which is imported only when it is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Command:
    """One command: its line in the list of commands, the function that runs it, an example of what to type."""

    summary: str
    function: str  # module:function; the function takes the arguments and returns the exit code
    example: str

    def run(self, arguments: list[str]) -> int:
        """Runs the command; returns the exit code."""
        module, name = self.function.split(":")
        return getattr(import_module(module), name)(arguments)


RUNS, SUBMISSIONS = "pipeline.commands.runs", "pipeline.commands.submissions"
COMMANDS = {
    "list": Command("list configs with question, state and score", f"{RUNS}:list_command", "list copy-paste"),
    "show": Command(
        "print every resolved value of a config, and the file that set it",
        f"{RUNS}:show_command",
        "show ExpAAB SOLVER.MAX_LR=5e-4",
    ),
    "plan": Command(
        "print the phases of a config's training plan, and plot its learning rate over the epochs",
        f"{RUNS}:plan_command",
        "plan ExpAAB SOLVER.PLAN=one_cycle",
    ),
    "compare": Command(
        "print the settings in which runs differ, and their scores; plot scores and curves",
        f"{RUNS}:compare_command",
        "compare ExpAAB ExpAAC",
    ),
    "shakeup": Command(
        "estimate which scores differ by more than chance, and which two submissions to choose as finals",
        f"{RUNS}:shakeup_command",
        "shakeup ExpAAB ExpAAC EnsAAA",
    ),
    "score": Command(
        "score a submission file against masks",
        f"{SUBMISSIONS}:score_command",
        "score submissions/ExpAAB.csv --masks truth --competition aeroscapes",
    ),
    "diff": Command(
        "print and draw where two submissions differ most",
        f"{SUBMISSIONS}:diff_command",
        "diff submissions/ExpAAB.csv submissions/ExpAAC.csv",
    ),
    "submit": Command(
        "upload a run's submission to Kaggle, and add it to submissions/log.csv",
        f"{SUBMISSIONS}:submit_command",
        'submit ExpAAB -m "flat, then cosine"',
    ),
    "log": Command(
        "fetch the scores of all uploads from Kaggle, and print them beside the local ones",
        f"{SUBMISSIONS}:log_command",
        "log --competition aeroscapes",
    ),
    "convention": Command(
        "find out how a competition writes run lengths, from its training rows and masks",
        f"{SUBMISSIONS}:convention_command",
        "convention aeroscapes train_runs.csv",
    ),
    "download": Command(
        "download a competition's data or an encoder's weights", f"{RUNS}:download_command", "download camvid"
    ),
    "doctor": Command(
        "print what this machine has, what is missing, and how to fix it", f"{RUNS}:doctor_command", "doctor"
    ),
    "test": Command("run the tests with pytest", f"{RUNS}:test_command", "test tests/data -x"),
}
