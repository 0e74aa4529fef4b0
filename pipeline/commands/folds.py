"""`--folds` and `--seeds`: trains one config several times, prints a table, and combines the runs in an ensemble."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.commands.absent import NO_TEST, check_stages
from pipeline.commands.many import Workers, choose_workers, exit_code, print_errors
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.paths import ENSEMBLE, REPORT, STUDIES, Folders, shown

if TYPE_CHECKING:
    from pipeline.config.folds import Folds
    from pipeline.config.study import Training
    from pipeline.engine.api import Outcome
    from pipeline.engine.run import Run
    from pipeline.engine.stopping import Stop

SPLIT_STAGE, LAST_STAGE = "prepare", "evaluate"


@dataclass(frozen=True)
class Typed:
    """What was typed beside NAME and KEY=VALUE.

    Attributes:
        num_folds, num_seeds, workers: None: without the option.
        stages: empty: the runs are evaluated and combined; else they end with the last of these, and that is all.
        refused: options that are for one run alone.
    """

    num_folds: int | None
    num_seeds: int | None
    workers: int | None = None
    stages: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    trust_code: bool = False


def run_folds(name: str, overrides: Sequence[str], typed: Typed) -> int:
    """Trains a config on each fold with each seed; returns 2 where a run is refused, 1 where one fails.

    Raises:
        UserError: see `load_folds` and `check_folds`.
        Stopped: a run was stopped; the same command continues.
    """
    from pipeline.config.folds import load_folds
    from pipeline.engine.api import open_run
    from pipeline.engine.stopping import Stop
    from pipeline.report.folds import check_folds
    from pipeline.stages import has_test

    folds = load_folds(name, overrides, typed.num_folds, typed.num_seeds, not typed.stages, typed.trust_code)
    if typed.refused:
        why = "is for one run, and --folds and --seeds make several"
        raise UserError(
            f"{typed.refused[0]} {why}; leave it out, and give it to ./run.sh {shlex.quote(folds.ensemble)} afterwards"
        )
    folders, stop = Folders.from_environment(), Stop()
    runs = {one: open_run(name, one.overrides, folders, None, stop, typed.trust_code) for one in folds.trainings}
    loaded = runs[folds.trainings[0]].loaded
    last = check_stages(typed.stages, runs[folds.trainings[0]]) or LAST_STAGE
    if folds.combining and not has_test(loaded):
        raise UserError(f"{folds.combining[0]} has no effect: there will be no ensemble, as {NO_TEST}; leave it out")
    stop.listen()
    ranks = [run.loaded.config.runtime.ranks for run in runs.values()]
    workers = choose_workers("./run.sh", typed.workers, ranks)
    many = _Many(folds, typed, workers, folders, stop, {one: _label(folds, one, run) for one, run in runs.items()})
    outcomes = many.run(folds.first, SPLIT_STAGE)
    if any(outcome.state != "done" for outcome in outcomes):
        print_errors(outcomes)
        return exit_code(outcomes, stop)
    check_folds(folds, [runs[one] for one in folds.first])
    is_combined = not typed.stages and has_test(loaded)
    if is_combined:
        write_ensemble(folds, typed.trust_code)
    outcomes = many.run(folds.trainings, last)
    is_combined = is_combined and all(outcome.state == "done" for outcome in outcomes)
    outcomes += [many.combine()] if is_combined else []
    print_table(folds, runs, folders)
    if is_combined and outcomes[-1].state == "done":
        print(f"\n{ensemble_words(folds, folders.run(outcomes[-1].run).name, folders)}")
    elif not typed.stages and not has_test(loaded):
        print(f"\nno ensemble: an ensemble combines predictions of test images, and {NO_TEST}")
    print_errors(outcomes)
    return exit_code(outcomes, stop)


@dataclass(frozen=True)
class _Many:
    """Runs trainings, and the ensemble of them, under the labels of their lines."""

    folds: Folds
    typed: Typed
    workers: Workers
    folders: Folders
    stop: Stop
    labels: Mapping[Training, str]

    def run(self, trainings: Sequence[Training], last_stage: str) -> list[Outcome]:
        """Runs trainings up to a stage."""
        from pipeline.engine.api import Request, run_many

        requests = [Request(one.config, one.overrides, self.labels[one]) for one in trainings]
        own = {"trust_code": self.typed.trust_code, "stop": self.stop, "cards": self.workers.cards}
        return run_many(requests, last_stage, self.folders, self.workers.number, **own)

    def combine(self) -> Outcome:
        """Runs the ensemble, in this process."""
        from pipeline.engine.api import Request, run_many

        request = Request(self.folds.ensemble, (*self.folds.combining, *self.folds.machine), "ensemble")
        return run_many([request], None, self.folders, trust_code=self.typed.trust_code, stop=self.stop)[0]


def _label(folds: Folds, training: Training, run: Run) -> str:
    """Returns what begins the lines of a run: its fold where there are several, and its seed likewise."""
    from pipeline.training.inputs import seed_of

    fold = [f"fold {training.split}"] if folds.num_folds else []
    seed = [f"seed {seed_of(run.loaded)}"] if folds.num_seeds > 1 else []
    return ", ".join([*fold, *seed])


def write_ensemble(folds: Folds, trust_code: bool) -> None:
    """Writes the ensemble's file where there is none, and refuses what was typed for it and cannot be.

    Raises:
        UserError: ENSEMBLE, DECODE or SUBMIT contradict each other; a new file is removed again.
    """
    from pipeline.config.folds import ensemble_text
    from pipeline.config.load import load
    from pipeline.config.members import load_members

    is_new = not folds.path.is_file()
    if is_new:
        write_atomic(folds.path, ensemble_text(folds))
    try:
        load_members(load(folds.ensemble, (*folds.combining, *folds.machine), trust_code))
    except UserError:
        if is_new:
            folds.path.unlink()
        raise


def print_table(folds: Folds, runs: Mapping[Training, Run], folders: Folders) -> None:
    """Prints the table of the runs, and writes it with all digits; nothing before the first is evaluated."""
    from pipeline.report.folds import read_fold_findings
    from pipeline.training.inputs import seed_of

    findings = read_fold_findings(folds, [seed_of(run.loaded) for run in runs.values()], folders.runs)
    if findings.own.done:
        path = folders.runs / STUDIES / f"{folds.ensemble}.csv"
        write_atomic(path, findings.csv)
        print(f"\n{findings}\ntable: {shown(path)}")


def ensemble_words(folds: Folds, run_name: str, folders: Folders) -> str:
    """Returns the ensemble's score, its files, and how it is run again."""
    from pipeline.config.load import load_competition
    from pipeline.report.read import read_json, read_metrics
    from pipeline.submission.formats import format_of

    paths = folders.run(run_name)
    metrics, held_out = read_metrics(paths.folder), read_json(paths / ENSEMBLE)["held_out"]
    scores = [score for score in (metrics.main, metrics.scores.get("miou")) if score and score.mean is not None]
    words = ", ".join(dict.fromkeys(f"{score.label} {score.mean:.4f}" for score in scores))
    least, most = held_out["least"], held_out["most"]
    members = f"{least} member{'' if least == 1 else 's'}" if least == most else f"{least} to {most} members"
    file = paths.submission(format_of(load_competition(folds.competition)).suffix)
    otherwise = f"ENSEMBLE.METHOD={'NMS' if folds.method == 'WBF' else 'GEO'}"
    lines = [
        f"ensemble {run_name}: {words} (each image by {members} not trained on it)",
        f"submission: {shown(file)}, page: {shown(paths / REPORT)}",
        f"config: {shown(folds.path)}; to combine the runs by another method: "
        f"./run.sh {shlex.quote(folds.ensemble)} {otherwise}",
    ]
    return "\n".join(lines)
