"""The command `study`: trains the settings of a study in turn, and prints a table that compares them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from pipeline.commands.table import Parser
from pipeline.errors import Stopped, UserError
from pipeline.files import write_atomic
from pipeline.paths import STUDIES, Folders, shown

if TYPE_CHECKING:
    from pipeline.config.study import Training

LAST_STAGE = "evaluate"


def study_command(options: Parser, arguments: Sequence[str]) -> int:
    """Trains what is missing of a study, then prints its table; returns 2 where a run is refused, 1 where one fails."""
    options.add_argument("name", metavar="NAME", help="a study: configs/studies/NAME.yaml")
    meaning = "how many runs to train at a time, each in its own process; default: 1"
    options.add_argument("--workers", metavar="N", type=int, default=1, help=meaning)
    meaning = "train only the settings with this name; * matches any text, e.g. 'ce*'"
    options.add_argument("--only", metavar="SETTING", help=meaning)
    options.add_argument("--table", action="store_true", help="train nothing, print the results so far")
    chosen = options.parse_args(arguments)

    from pipeline.config.study import load_study
    from pipeline.engine.api import Request, run_many
    from pipeline.engine.stopping import Stop
    from pipeline.report.study import read_findings

    if chosen.workers < 1:
        raise UserError(f"{options.prog}: --workers {chosen.workers}: expected at least 1")
    study, trainings = load_study(chosen.name)
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
    broken = [outcome for outcome in outcomes if outcome.state in ("refused", "failed")]
    labels_by_message: dict[str, list[str]] = {}
    for outcome in broken:
        labels_by_message.setdefault(f"{outcome.state}: {outcome.message}", []).append(outcome.request.label)
    for message, labels in labels_by_message.items():
        others = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        print(f"\n{labels[0]}{others}: {message}")
    if broken:
        print(f"\n{len(broken)} of {len(wanted)} runs ended in an error; the same command tries them again")
    if any(outcome.state == "stopped" for outcome in outcomes):
        raise Stopped("Ctrl-C" if stop.reason is None else stop.reason)
    states = {outcome.state for outcome in outcomes}
    return 1 if "failed" in states else 2 if "refused" in states else 0


def _label(training: Training) -> str:
    seed = "" if training.seed is None else f", seed {training.seed}"
    return f"{training.setting}, split {training.split}{seed}"
