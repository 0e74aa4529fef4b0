"""What Optuna proposes in a search, kept in a journal: a file to which every proposal and its result is appended.

In: `Search`, the journal. Out: proposals as overrides. The only file that knows Optuna, which is an optional package.

A sampler's random state is not in the journal. Each proposal therefore has a sampler of its own, seeded with the
search's seed and the proposal's number: a search that was killed continues with the same proposals.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.search import Search, Span, words_of
from pipeline.errors import UserError
from pipeline.optional import install_command
from pipeline.report.search import State

OPTUNA = "optuna>=5,<6"  # as in requirements.txt
AGAIN = "again"  # of a trial that is told a second time, since its first end was an error
SEEDS = 2**32  # NumPy takes a seed below


@dataclass(frozen=True)
class Proposal:
    """One proposal.

    Attributes:
        number: in the journal.
        values: by config key.
        words: the same as overrides.
        state, score: what was told about it; `running`: nothing yet.
    """

    number: int
    values: Mapping[str, Any]
    words: tuple[str, ...]
    state: State
    score: float | None


class Proposals:
    """The proposals of one search, those of earlier processes first.

    Raises:
        UserError: Optuna is not installed, or another version than the journal's.
    """

    def __init__(self, path: Path, search: Search) -> None:
        self.optuna = import_optuna()
        self.search = search
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_cut_line(path)
        journal = importlib.import_module("optuna.storages.journal")
        self.storage = self.optuna.storages.JournalStorage(journal.JournalFileBackend(str(path)))
        self.study = self.optuna.create_study(
            storage=self.storage, study_name=path.stem, direction="maximize", load_if_exists=True
        )
        self.distributions = {key: self._distribution(own) for key, own in search.space.items()}
        self.states: dict[Any, State] = {
            self.optuna.trial.TrialState.COMPLETE: "done",
            self.optuna.trial.TrialState.PRUNED: "pruned",
            self.optuna.trial.TrialState.FAIL: "failed",
            self.optuna.trial.TrialState.RUNNING: "running",
        }

    def all(self) -> list[Proposal]:
        """Returns all proposals; one that a kill has cut off is not among them, and is made again."""
        return [self._proposal(trial) for trial in self._whole_trials()]

    def ask(self) -> Proposal:
        """Returns a new proposal."""
        trials = self.study.get_trials(deepcopy=False)
        asked = [
            one for one in trials if one.params.keys() == self.distributions.keys() and AGAIN not in one.user_attrs
        ]
        seed = (self.search.seed * 1_000_003 + len(asked)) % SEEDS
        samplers = self.optuna.samplers
        is_random = self.search.sampler == "random"
        self.study.sampler = (
            samplers.RandomSampler(seed=seed) if is_random else samplers.TPESampler(seed=seed, constant_liar=True)
        )
        return self._proposal(self.study.ask(self.distributions))

    def tell(self, number: int, state: State, score: float | None, epochs: Mapping[int, float]) -> None:
        """Tells how a proposal ended.

        Args:
            score: of one that is done.
            epochs: of one that is pruned, its score by epoch.
        """
        trial_state = next(own for own, name in self.states.items() if name == state)
        if state == "pruned":
            trial = self.study.get_trials(deepcopy=False)[number]
            for epoch, value in epochs.items():
                self.storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
        self.study.tell(number, score if state == "done" else None, state=trial_state)

    def tell_again(self, values: Mapping[str, Any], score: float) -> None:
        """Tells that a setting is done of which an earlier proposal ended in an error."""
        create, attributes = self.optuna.trial.create_trial, {AGAIN: True}
        self.study.add_trial(
            create(params=dict(values), distributions=self.distributions, value=score, user_attrs=attributes)
        )

    def _whole_trials(self) -> list[Any]:
        return [one for one in self.study.get_trials(deepcopy=False) if one.params.keys() == self.distributions.keys()]

    def _proposal(self, trial: Any) -> Proposal:
        values = {key: trial.params[key] for key in self.distributions}
        state = self.states.get(getattr(trial, "state", None), "running")
        score = trial.value if state == "done" else None
        return Proposal(trial.number, values, words_of(self.search.space, values), state, score)

    def _distribution(self, own: Span | tuple[str, ...]) -> Any:
        distributions = self.optuna.distributions
        if isinstance(own, Span):
            return distributions.FloatDistribution(own.low, own.high, log=own.log, step=own.step)
        return distributions.CategoricalDistribution(own)


def import_optuna() -> Any:
    """Returns Optuna, which prints warnings only.

    Raises:
        UserError: it is not installed, or has another major version.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        missing = "a study with SEARCH needs the package optuna, which is not installed"
        raise UserError(f"{missing}; type: {install_command(OPTUNA)}") from None
    if optuna.__version__.split(".")[0] != "5":
        raise UserError(f"found optuna {optuna.__version__}, expected {OPTUNA}; type: {install_command(OPTUNA)}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _drop_cut_line(path: Path) -> None:
    """Removes what follows the last line break: a kill has cut it off, and Optuna could not read what comes behind."""
    if not path.is_file():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with open(path, "r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
