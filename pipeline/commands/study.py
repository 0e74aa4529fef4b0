"""The command `study`: trains the settings of a study in turn, or searches, and prints a table that compares them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from pipeline.commands.many import WORKERS, choose_workers, exit_code, has_cards, print_errors
from pipeline.commands.table import Parser
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.paths import STUDIES, Folders, shown
from pipeline.wording import hours_of

if TYPE_CHECKING:
    from pipeline.config.study import Training

LAST_STAGE = "evaluate"


def study_command(options: Parser, arguments: Sequence[str]) -> int:
    """Trains what is missing of a study, then prints its table; returns 2 where a run is refused, 1 where one fails."""
    _add_options(options)
    chosen = options.parse_args(arguments)

    from pipeline.commands.at_once import AtOnce, free_bytes, runs_for_cores
    from pipeline.commands.packing import Packer, Planned
    from pipeline.config.load import load
    from pipeline.config.study import load_study
    from pipeline.data.images import num_cores
    from pipeline.engine.api import Request, print_line, run_each
    from pipeline.engine.clusters import open_pool, parse_where
    from pipeline.engine.session import budget_seconds
    from pipeline.engine.stopping import Stop
    from pipeline.report.study import read_findings

    given = chosen.time_limit
    if given is not None and hours_of(given) is None:
        raise UserError(f"{options.prog}: --time-limit {given}: expected a number and h, min or s, for example 11.5h")
    study, trainings = load_study(chosen.name)
    runtimes = [load(one.config, one.overrides).config.runtime for one in trainings]
    workers = choose_workers(options.prog, chosen.workers, [one.ranks for one in runtimes])
    folders = Folders.from_environment().absolute()  # jobs on a cluster work in another folder
    budgets = [budget_seconds(one.time_budget_hours, folders.runs) for one in runtimes]
    budget_s = hours_of(given) * 3600 if given else max(filter(None, budgets), default=None)
    if study.search is not None:
        from pipeline.commands.search import search_command

        if chosen.only is not None:
            raise UserError(f"{options.prog}: --only {chosen.only}: it does not apply to a search; leave it out")
        if chosen.on is not None:
            raise UserError(f"{options.prog}: --on {chosen.on}: a search runs on this machine only; leave it out")
        return search_command(chosen.name, study, workers, chosen.table, budget_s)
    wanted = [one for one in trainings if chosen.only is None or fnmatch(one.setting, chosen.only)]
    if not wanted:
        names = ", ".join(dict.fromkeys(one.setting for one in trainings))
        raise UserError(f"{options.prog}: no setting is called {chosen.only!r}; there are: {names}")
    stop, outcomes = Stop(), []
    if not chosen.table:
        stop.listen()
        if budget_s is not None:
            stop.set_budget(budget_s)
        planned = [Planned(one, Request(one.config, one.overrides, _label(one))) for one in wanted]
        packer = Packer(planned, folders.runs, stop, print_line, LAST_STAGE)
        cluster = None if chosen.on is None else open_pool(parse_where(chosen.on), folders)
        number = workers.number if cluster is None else chosen.workers or len(planned)
        proposer = packer
        if chosen.workers is None and cluster is None:
            number = min(number if has_cards() else runs_for_cores(num_cores()), len(planned))
            proposer = AtOnce(packer, wanted, folders.runs, number, has_cards(), print_line, free_bytes())
        run_each(proposer.propose, proposer.note, LAST_STAGE, folders, number, stop, workers.cards, cluster)
        outcomes = packer.finish()
    findings = read_findings(study, trainings, folders.runs)
    path = folders.runs / STUDIES / f"{chosen.name}.csv"
    write_atomic(path, findings.csv)
    print(f"\n{findings}\ntable: {shown(path)}")
    print_errors(outcomes)
    return exit_code(outcomes, stop)


def _add_options(options: Parser) -> None:
    options.add_argument("name", metavar="NAME", help="a study: configs/studies/NAME.yaml")
    meaning = f"{WORKERS}; without GPUs, as many as cores and memory allow"
    options.add_argument("--workers", metavar="N", type=int, help=meaning)
    meaning = "end within this time, such as 11.5h; runs that would not end in it are left for the next start"
    options.add_argument("--time-limit", metavar="TIME", help=meaning)
    meaning = "run on a cluster: ray, ray:HOST:PORT, slurm, slurm:partition=NAME,minutes=240"
    options.add_argument("--on", metavar="CLUSTER", help=meaning)
    meaning = "train only the settings with this name; * matches any text, e.g. 'ce*'"
    options.add_argument("--only", metavar="SETTING", help=meaning)
    options.add_argument("--table", action="store_true", help="train nothing, print the results so far")


def _label(training: Training) -> str:
    seed = "" if training.seed is None else f", seed {training.seed}"
    return f"{training.setting}, split {training.split}{seed}"
