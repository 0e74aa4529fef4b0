"""A study that searches: trains what Optuna proposes, then the best setting and the reference with fresh seeds.

Called by the command `study`. In: `Study` with SEARCH. Out: journal and table of trials, the table of the study.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.many import Workers, exit_code, print_errors
from pipeline.config.load import load
from pipeline.config.study import Study, Training, trainings_of
from pipeline.engine.api import Outcome, Request, print_line, run_each, run_many
from pipeline.engine.folder import locked_by
from pipeline.errors import UserError
from pipeline.files import sha256_text, write_atomic
from pipeline.paths import HISTORY, STUDIES, Folders, search_file, shown
from pipeline.report.read import read_columns
from pipeline.report.search import (
    State,
    Trial,
    best_trial,
    fresh_trainings,
    read_floors,
    read_search_findings,
    read_trials,
    write_trials,
)
from pipeline.report.trainings import compared_score, read_trained, summary
from pipeline.scores import per_image_score

if TYPE_CHECKING:
    from pipeline.commands.proposals import Proposal, Proposals
    from pipeline.engine.stopping import Floors, Stop

LAST_STAGE = "evaluate"
MOST_REPEATS = 5  # proposals per trial: a sampler that is sure proposes the same again and again
MOST_FAILED = 3  # first trials that end in errors, before the search ends: what is wrong then is not their values
KEY_LENGTH = 8


def search_command(name: str, study: Study, workers: Workers, table_only: bool, budget_s: float | None = None) -> int:
    """Trains what is missing of a search, then prints its table; exit codes as of `study_command`."""
    from pipeline.engine.stopping import Stop

    folders, stop, outcomes = Folders.from_environment(), Stop(), []
    score = _score(study, folders)
    files = SearchFiles.of(name, study, folders)
    if not table_only:
        stop.listen()
        if budget_s is not None:
            stop.set_budget(budget_s)
        with _locked(files.journal, name):
            outcomes = _search(study, score, files, folders, workers, stop)
    findings = read_search_findings(study, read_trials(files.trials), folders.runs)
    print(f"\n{findings}")
    if findings.csv:
        write_atomic(files.table, findings.csv)
        print(f"\ntable: {shown(files.table)}")
    if findings.trials:
        print(f"trials: {shown(files.trials)}")
    print_errors(outcomes)
    return exit_code(outcomes, stop)


@dataclass(frozen=True)
class SearchFiles:
    """The files of a search. What changes its scores changes the names of journal and trials: that is another search.

    Attributes:
        journal: of Optuna.
        trials: the same for readers, and for `--table` without Optuna.
        table: of the winner and the reference.
    """

    journal: Path
    trials: Path
    table: Path

    @classmethod
    def of(cls, name: str, study: Study, folders: Folders) -> SearchFiles:
        """Returns those of a study; how many trials and fresh seeds it has makes no difference."""
        search, settings = study.search, load(study.base, study.set_).settings
        parts = (search.space, search.sampler, search.seed, search.prune, study.splits, study.seeds, study.score)
        key = sha256_text(repr((study.base, sorted(settings.items()), parts)))[:KEY_LENGTH]
        paths = (folders.runs / search_file(name, key, suffix) for suffix in (".journal", ".csv"))
        return cls(*paths, folders.runs / STUDIES / f"{name}.csv")


def _locked(journal: Path, name: str) -> Any:
    return locked_by(journal.with_suffix(".lock"), f"the search {name}")


def _score(study: Study, folders: Folders) -> str:
    score = study.score or per_image_score(load(study.base, study.set_).competition.score)
    return compared_score(score, (), folders.runs)


def _search(
    study: Study, score: str, files: SearchFiles, folders: Folders, workers: Workers, stop: Stop
) -> list[Outcome]:
    from pipeline.commands.proposals import Proposals

    searcher = Searcher(study, score, files, folders, Proposals(files.journal, study.search))
    run_each(searcher.propose, searcher.note, LAST_STAGE, folders, workers.number, stop, workers.cards)
    winner = best_trial(searcher.trials)
    if winner is None or not searcher.is_finished or stop.requested:
        return searcher.outcomes
    print_line(f"trial {winner.number} is the best; it and the reference are trained again with new seeds")
    final = fresh_trainings(study, winner)
    requests = [Request(one.config, one.overrides, f"{one.setting}{_place(study, one)}") for one in final]
    own = {"workers": workers.number, "stop": stop, "cards": workers.cards}
    return searcher.outcomes + run_many(requests, LAST_STAGE, folders, **own)


@dataclass
class _Open:
    """One setting and what is known of it so far.

    Attributes:
        first: its proposal; `untold`: numbers of the proposals of this setting whose end is not told yet.
        waiting: runs that have not begun; `num_running`: runs that have not ended.
        pruned: the run that was, if any.
    """

    first: Proposal
    state: State
    score: float | None
    untold: list[int] = field(default_factory=list)
    trainings: tuple[Training, ...] = ()
    waiting: list[Training] = field(default_factory=list)
    num_running: int = 0
    pruned: Training | None = None


class Searcher:
    """Which run of a search is next, and what the runs say about the trials.

    Attributes:
        outcomes: of all runs of this process.
        is_ended: whether nothing more is proposed: a run was stopped, or the first trials all ended in errors.
    """

    def __init__(self, study: Study, score: str, files: SearchFiles, folders: Folders, proposals: Proposals) -> None:
        self.study, self.score, self.files, self.folders, self.proposals = study, score, files, folders, proposals
        self.outcomes: list[Outcome] = []
        self.is_ended = False
        self.settings: dict[tuple[str, ...], _Open] = {}
        self.num_proposals = 0
        self.running: dict[tuple[str, ...], tuple[_Open, Training]] = {}  # by overrides
        for proposal in proposals.all():
            self._add(proposal)
        for one in self.settings.values():
            if one.state in ("running", "failed"):  # what ended in an error is tried again
                self._begin(one)
            else:
                self._tell(one)
        self._write()

    @property
    def trials(self) -> list[Trial]:
        """The settings so far, in the order in which they were first proposed."""
        return [Trial(one.first.number, one.state, one.score, words) for words, one in self.settings.items()]

    @property
    def is_finished(self) -> bool:
        """Whether no trial is left to be run."""
        return self._has_enough and not any(one.state == "running" for one in self.settings.values())

    @property
    def _has_enough(self) -> bool:
        most = self.study.search.trials
        return len(self.settings) >= most or self.num_proposals >= MOST_REPEATS * most

    def propose(self) -> Request | None:
        """Returns the next run: of a trial that has begun, else of a new one; None where there is none for now."""
        while not self.is_ended:
            for one in self.settings.values():
                if one.state == "running" and one.waiting:
                    return self._request(one, one.waiting.pop(0))
            if self._has_enough:
                return None
            self._propose_setting()
            if self._has_enough and len(self.settings) < self.study.search.trials:
                print_line(
                    f"{self.num_proposals} proposals gave only {len(self.settings)} different settings; the search ends"
                )
        return None

    def note(self, outcome: Outcome) -> None:
        """Takes how a run ended; tells Optuna where its trial is finished by that."""
        self.outcomes.append(outcome)
        one, training = self.running.pop(outcome.request.overrides)
        one.num_running -= 1
        if outcome.state == "stopped":
            self.is_ended = True  # the trial stays open, and the same command continues it
            return
        if outcome.state != "done":
            one.waiting.clear()
        if outcome.state == "pruned":
            one.pruned = training
            repeat = shlex.join(["./run.sh", training.config, *training.overrides])
            print_line(f"{outcome.request.label}: {outcome.message}; to train it without pruning, type: {repeat}")
        elif outcome.state in ("refused", "failed"):
            one.state = "failed"
        if not one.num_running and not one.waiting:
            self._finish(one)

    def _add(self, proposal: Proposal) -> bool:
        """Adds a proposal to its setting; returns whether the setting is new."""
        self.num_proposals += 1
        is_new = proposal.words not in self.settings
        one = self.settings.setdefault(proposal.words, _Open(proposal, "running", None))
        if proposal.state == "running":
            one.untold.append(proposal.number)
        elif is_new or one.state in ("running", "failed"):
            one.state, one.score = proposal.state, proposal.score
        return is_new

    def _propose_setting(self) -> None:
        proposal = self.proposals.ask()
        is_new = self._add(proposal)
        one = self.settings[proposal.words]
        if is_new:
            self._begin(one)
        elif one.state != "running":  # trained before: the same values have the same score
            self._tell(one)
        self._write()

    def _begin(self, one: _Open) -> None:
        one.state, one.score = "running", None
        try:
            one.trainings = trainings_of(self.study, "", one.first.words, self.study.seeds, "SEARCH.SPACE")
        except UserError as error:  # two values that cannot be together
            request = Request(self.study.base, one.first.words, f"trial {one.first.number}")
            self.outcomes.append(Outcome(request, self.study.base, "refused", str(error)))
            one.state = "failed"
            self._finish(one)
        one.waiting = list(one.trainings)

    def _request(self, one: _Open, training: Training) -> Request:
        label = f"trial {one.first.number}{_place(self.study, training)}"
        print_line(f"{label}: {' '.join(one.first.words)}")
        self.running[training.overrides] = (one, training)
        one.num_running += 1
        floors = self._floors(training) if self.study.search.prune else None
        return Request(training.config, training.overrides, label, floors)

    def _floors(self, training: Training) -> Floors | None:
        """Returns what a training must reach, from those of finished trials on the same split with the same seed."""
        plan = load(training.config, training.overrides).plan
        earlier = []
        for other in self.settings.values():
            if other.state == "done":
                other.trainings = other.trainings or trainings_of(self.study, "", other.first.words, self.study.seeds)
                earlier += [one for one in other.trainings if (one.split, one.seed) == (training.split, training.seed)]
        return read_floors(earlier, self.folders.runs, self.score, sum(phase.epochs for phase in plan))

    def _finish(self, one: _Open) -> None:
        if one.state != "failed":
            trained = [read_trained(training, self.folders.runs, self.score) for training in one.trainings]
            one.state, one.score = ("pruned", None) if one.pruned else ("done", summary(trained).score)
        if one.state == "done" and not one.untold:  # its proposal was told as an error by an earlier process
            self.proposals.tell_again(one.first.values, one.score)
        self._tell(one)
        self._write()
        states = [other.state for other in self.settings.values() if other.state != "running"]
        if len(states) == MOST_FAILED and set(states) == {"failed"}:
            print_line(f"the first {MOST_FAILED} trials ended in errors, so the search ends here")
            self.is_ended = True

    def _tell(self, one: _Open) -> None:
        """Tells Optuna how a setting ended, for each proposal of it whose end it does not know."""
        epochs = self._epochs(one.pruned) if one.pruned else {}
        for number in one.untold:
            self.proposals.tell(number, one.state, one.score, epochs)
        one.untold.clear()

    def _epochs(self, training: Training) -> Mapping[int, float]:
        history = read_columns(self.folders.runs / training.run / HISTORY) or {}
        values: Sequence[str] = history.get(f"valid_{self.score}", ())
        return {int(epoch): float(value or 0) for epoch, value in zip(history.get("epoch", ()), values, strict=True)}

    def _write(self) -> None:
        write_atomic(self.files.trials, write_trials(self.trials))


def _place(study: Study, training: Training) -> str:
    """Returns split and seed of a run, for its label, where there are several."""
    split = f", split {training.split}" if len(study.splits) > 1 else ""
    seed = f", seed {training.seed}" if training.seed is not None else ""
    return split + seed
