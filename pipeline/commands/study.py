"""The command `study`: trains the settings of a study in turn, or searches, and prints a table that compares them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from pipeline.commands.many import WORKERS, check_workers, exit_code, print_errors
from pipeline.commands.table import Parser
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.paths import STUDIES, Folders, shown

if TYPE_CHECKING:
    from pipeline.config.study import Training

LAST_STAGE = "evaluate"


def study_command(options: Parser, arguments: Sequence[str]) -> int:
    """Trains what is missing of a study, then prints its table; returns 2 where a run is refused, 1 where one fails."""
    options.add_argument("name", metavar="NAME", help="a study: configs/studies/NAME.yaml")
    options.add_argument("--workers", metavar="N", type=int, default=1, help=WORKERS)
    meaning = "train only the settings with this name; * matches any text, e.g. 'ce*'"
    options.add_argument("--only", metavar="SETTING", help=meaning)
    options.add_argument("--table", action="store_true", help="train nothing, print the results so far")
    chosen = options.parse_args(arguments)

    from pipeline.config.study import load_study
    from pipeline.engine.api import Request, run_many
    from pipeline.engine.stopping import Stop
    from pipeline.report.study import read_findings

    check_workers(options.prog, chosen.workers)
    study, trainings = load_study(chosen.name)
    if study.search is not None:
        from pipeline.commands.search import search_command

        if chosen.only is not None:
            raise UserError(f"{options.prog}: --only {chosen.only}: it does not apply to a search; leave it out")
        return search_command(chosen.name, study, chosen.workers, chosen.table)
    folders = Folders.from_environment()
    wanted = [one for one in trainings if chosen.only is None or fnmatch(one.setting, chosen.only)]
    if not wanted:
        names = ", ".join(dict.fromkeys(one.setting for one in trainings))
        raise UserError(f"{options.prog}: no setting is called {chosen.only!r}; there are: {names}")
    stop, outcomes = Stop(), []
    if not chosen.table:
        stop.listen()
        requests = [Request(one.config, one.overrides, _label(one)) for one in wanted]
        outcomes = run_many(requests, LAST_STAGE, folders, chosen.workers, stop=stop)
    findings = read_findings(study, trainings, folders.runs)
    path = folders.runs / STUDIES / f"{chosen.name}.csv"
    write_atomic(path, findings.csv)
    print(f"\n{findings}\ntable: {shown(path)}")
    print_errors(outcomes)
    return exit_code(outcomes, stop)


def _label(training: Training) -> str:
    seed = "" if training.seed is None else f", seed {training.seed}"
    return f"{training.setting}, split {training.split}{seed}"
