"""What a notebook runs: a run, the runs of `--folds` and `--seeds`, those of a study, or a prediction.

In: a name and overrides as they are typed. Out: `Subject`: the words for the session, and the runs whose settings say
what must be in the notebook's pack.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.config.load import names
from pipeline.config.members import overrides_of
from pipeline.config.study import Study, Training, load_study, trainings_of
from pipeline.engine.api import open_run
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.paths import KAGGLE, Folders
from pipeline.stages import has_test
from pipeline.submission.formats import format_of
from pipeline.wording import did_you_mean, is_below

if TYPE_CHECKING:
    from pipeline.config.competition import Competition
    from pipeline.config.folds import Folds

Kind = Literal["train", "study", "predict"]
ENCODER = ("MODEL.ENCODER",)
OPTUNA = "optuna"


@dataclass(frozen=True)
class Subject:
    """What a notebook runs.

    Attributes:
        kind: the function of `session.py` that the notebook calls.
        name: of the notebook: that of the run, of the ensemble of the runs, or of the study.
        typed: behind `./run.sh kaggle`.
        words: behind `./run.sh` in the session.
        runs: what is trained, or what predicts. Of a search: the reference, with each encoder that is searched.
        folds: of `--folds` and `--seeds`.
        packages: optional packages that it needs.
    """

    kind: Kind
    name: str
    typed: tuple[str, ...]
    words: tuple[str, ...]
    runs: tuple[Run, ...]
    folds: Folds | None = None
    packages: tuple[str, ...] = ()

    @property
    def competition(self) -> Competition:
        """The competition of its runs."""
        return self.runs[0].loaded.competition

    @property
    def folders(self) -> Folders:
        """The folders of this machine."""
        return self.runs[0].folders


def is_study(name: str) -> bool:
    """Returns whether a name is that of a study.

    Raises:
        UserError: it is the name of neither a study nor a config, or of both.
    """
    configs, studies = names(), names("study")
    if name in configs and name in studies:
        raise UserError(f"{name} is both a config and a study; rename configs/studies/{name}.yaml")
    if name not in configs and name not in studies:
        hint = did_you_mean(name, [*configs, *studies], "`./run.sh list` lists all configs", most=3)
        raise UserError(f"there is no config or study {name!r}; {hint}")
    return name in studies


def subject_of_run(name: str, overrides: Sequence[str], predicts: bool, trust_code: bool) -> Subject:
    """Returns the training of one run, or its prediction.

    Raises:
        UserError: a setting that is refused, or an ensemble that is to be trained.
    """
    run = open_run(name, overrides, trust_code=trust_code)
    loaded = run.loaded
    if loaded.is_ensemble and not predicts:
        raise UserError(f"{loaded.name} is an ensemble and trains nothing; add --predict, or name one of its members")
    words = (loaded.name, *overrides_of(loaded), _submission_word(run), *_trust(trust_code))
    typed = (loaded.name, *overrides, *(["--predict"] if predicts else []))
    return Subject("predict" if predicts else "train", run.name, typed, words, (run,))


def subject_of_folds(
    name: str, overrides: Sequence[str], num_folds: int | None, num_seeds: int | None, trust_code: bool
) -> Subject:
    """Returns the training of a config on each of several folds, with each of several seeds.

    Raises:
        UserError: see `load_folds`.
    """
    from pipeline.config.folds import load_folds

    folds = load_folds(name, overrides, num_folds, num_seeds, trusts_code=trust_code)
    runs = tuple(open_run(name, one.overrides, trust_code=trust_code) for one in folds.trainings)
    counts = {"--folds": num_folds, "--seeds": num_seeds}
    typed = (name, *(word for option, count in counts.items() if count for word in (option, str(count))), *overrides)
    file = [_submission_word(runs[0])] if has_test(runs[0].loaded) else []
    return Subject("train", folds.ensemble, typed, (*typed, *file, *_trust(trust_code)), runs, folds)


def subject_of_study(name: str) -> Subject:
    """Returns the training of what is missing of a study.

    Raises:
        UserError: the study is refused, has several competitions, or its data in a folder that Kaggle does not have.
    """
    study, trainings = load_study(name)
    if study.search is not None:
        trainings = (*trainings, *_with_each_encoder(study))
    runs = tuple(open_run(one.config, one.overrides) for one in trainings)
    if len(found := sorted({run.loaded.competition.name for run in runs})) > 1:
        raise UserError(f"study {name}: its settings use the competitions {', '.join(found)}; a notebook takes one")
    for run in runs:
        own = run.loaded.config.datasets.directory
        if own is not None and not own.startswith(f"{KAGGLE}/"):
            raise UserError(
                f"study {name}: DATASETS.DIRECTORY is {own}, which the notebook does not have. Leave it out of the "
                "study, and set DATA_DIR on this machine instead"
            )
    return Subject("study", name, (name,), ("study", name), runs, packages=(OPTUNA,) if study.search else ())


def _with_each_encoder(study: Study) -> list[Training]:
    """Returns one run of a search for each combination of the encoder's settings that it may propose."""
    space = {key: own for key, own in study.search.space.items() if is_below(key, ENCODER) and isinstance(own, tuple)}
    if not space:
        return []
    combinations = itertools.product(*([f"{key}={value}" for value in own] for key, own in space.items()))
    return [trainings_of(study, shlex.join(words), words, study.seeds[:1])[0] for words in combinations]


def _submission_word(run: Run) -> str:
    return f"SUBMIT.FILE={KAGGLE}/working/submission{format_of(run.loaded.competition).suffix}"


def _trust(trust_code: bool) -> list[str]:
    return ["--trust-code"] if trust_code else []
