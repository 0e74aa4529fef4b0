"""A study: settings that are compared, each trained on the same splits with the same seeds, or a search for the best.

In: `configs/studies/NAME.yaml`. Out: `Study`, and the runs that answer it. Needs no torch.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pipeline.config.load import load, read_file
from pipeline.config.plain_yaml import Range
from pipeline.config.ranges import CountOrZero, NotNegative
from pipeline.config.search import SECTION, Search, is_whole, search_problems, tried_values
from pipeline.config.tree import Tree, build, first_repeated, leaf_origins, refuse
from pipeline.errors import UserError
from pipeline.wording import is_below

SPLIT, SEED = "DATASETS.SPLIT_INDEX", "EXPERIMENT.SEED"
UNSCORED = ("DECODE",)
REFERENCE, WINNER = "reference", "winner"  # the settings that a search compares at its end
FIRST_FRESH_SEED = 1000  # far from those that people type, and from the original's


@dataclass(frozen=True)
class Study:
    """Content of a file in `configs/studies/`; docs/studies.md explains each key.

    Attributes:
        base: the config of every setting that names none.
        settings: by name, what is typed for it, `KEY=VALUE` or the name of a config; the first is the reference, which
            all others are compared with.
        grid: by key, its values; every combination is one more setting.
        set_: what is typed for all settings.
        splits: values of DATASETS.SPLIT_INDEX.
        seeds: values of EXPERIMENT.SEED; null: the seed of the original for the split.
        search: values that are searched for the best, instead of settings.
        score: the score that is compared; null: the competition's own.
        equivalent: a difference of up to so much does not matter in practice.
    """

    base: str
    settings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    grid: dict[str, tuple[str, ...]] = field(default_factory=dict)
    search: Search | None = None
    set_: tuple[str, ...] = ()
    splits: tuple[Annotated[int, Range(least=-100, most=19)], ...] = (0,)
    seeds: tuple[CountOrZero | None, ...] = (None,)
    score: str | None = None
    equivalent: NotNegative = 0.005

    @property
    def fresh_seeds(self) -> tuple[int, ...]:
        """The seeds that judge what was searched, none of which the search has used.

        >>> search = Search({"SOLVER.POWER": ("1", "2", "3")}, fresh_seeds=2)
        >>> Study("DemoAAA", search=search, seeds=(None, 1000)).fresh_seeds
        (1001, 1002)
        """
        free = (seed for seed in itertools.count(FIRST_FRESH_SEED) if seed not in self.seeds)
        return tuple(itertools.islice(free, self.search.fresh_seeds if self.search else 0))


@dataclass(frozen=True)
class Training:
    """One run of a study.

    Attributes:
        setting, split, seed: what it answers for.
        config, overrides: what is typed for it.
        run: the name of its run folder.
    """

    setting: str
    split: int
    seed: int | None
    config: str
    overrides: tuple[str, ...]
    run: str


def load_study(name: str) -> tuple[Study, tuple[Training, ...]]:
    """Returns a study and its runs, in order: every setting with the first split and seed, then the next seed.

    Of a search these are the runs of the reference that the best setting is compared with at the end.

    Raises:
        UserError: no such study, a key or value that a study cannot have, fewer than two settings, or a setting that
            is refused as a config; with file and line.
    """
    tree = read_file(name, "study")
    study: Study = build(tree, Study)
    origins = leaf_origins(tree)
    settings = {**study.settings, **_combinations(study)}
    if study.search is not None:
        return study, _check_search(study, tree)
    if len(settings) < 2:
        where = tree["SETTINGS"].origin if "SETTINGS" in tree else tree.origin
        found = f"SETTINGS and GRID define {len(settings) or 'no'} setting{'' if settings else 's'}"
        raise UserError(f"{where}: {found}; a study compares at least two; add more")
    _check_lists(study, origins)
    reference, trainings, first_with = next(iter(settings)), [], {}
    for split, seed, (setting, words) in itertools.product(study.splits, study.seeds, settings.items()):
        where = f"{origins.get(f'SETTINGS.{setting}', tree.origin)}: setting {setting}"
        training = _training(study, setting, words, split, seed, where)
        earlier = first_with.setdefault(training.run, training)
        if earlier is not training:
            raise UserError(f"{where} is the same run as {earlier.setting}; keep one")
        if setting != reference:
            _refuse_unscored(where, study.base, words)
        trainings.append(training)
    return study, tuple(trainings)


def _check_lists(study: Study, origins: Mapping[str, str]) -> None:
    for key, values in (("SPLITS", study.splits), ("SEEDS", study.seeds)):
        if (repeated := first_repeated(values)) is not None or not values:
            refuse(origins, key, f"{repeated} is given twice; keep one" if values else "expected at least one")


def _refuse_unscored(where: str, base: str, words: Sequence[str]) -> None:
    """Refuses a setting of decoding rules alone: the score is that of its reference, whatever the rules are."""
    if words and all(is_below(word.partition("=")[0], UNSCORED) for word in words):
        keys = ", ".join(word.partition("=")[0] for word in words)
        raise UserError(
            f"{where}: {keys} cannot change the score that a study compares, as rules are applied after scoring; to "
            f"see their gain, type: ./run.sh {base} fit {shlex.join(words)}"
        )


def _check_search(study: Study, tree: Tree) -> tuple[Training, ...]:
    """Refuses a search that cannot be, before anything is trained; returns the runs of its reference."""
    origins = leaf_origins(tree)

    def origin_of(key: str) -> str:  # of a group: that of its first key; of a default: that of SEARCH
        return next((origin for leaf, origin in origins.items() if is_below(leaf, (key,))), tree["SEARCH"].origin)

    for key in ("SETTINGS", "GRID"):
        if key in tree:
            raise UserError(f"{tree[key].origin}: a search has no {key}: it proposes the settings itself; remove one")
    for key, why in search_problems(study.search):
        raise UserError(f"{origin_of(key)}: {key}: {why}")
    _check_lists(study, origins)
    reference = trainings_of(study, REFERENCE, (), study.fresh_seeds, f"{tree.origin}: BASE with SET")
    for key, own in study.search.space.items():
        where = f"{origin_of(f'{SECTION}.{key}')}: {SECTION}.{key}"
        for index, text in enumerate(dict.fromkeys(tried_values(own))):
            try:
                _training(study, key, (f"{key}={text}",), study.splits[0], study.seeds[0], f"{where} {text}")
            except UserError as error:
                hint = "; for whole numbers only, add STEP: 1" if is_whole(own) and index > 1 else ""
                raise UserError(f"{error}{hint}") from None
            _refuse_unscored(where, study.base, (f"{key}={text}",))
    return reference


def trainings_of(
    study: Study, setting: str, words: tuple[str, ...], seeds: Sequence[int | None], where: str = "SEARCH"
) -> tuple[Training, ...]:
    """Returns the runs of one setting, with all splits, and the given seeds.

    Raises:
        UserError: the config is refused; the message begins with `where`.
    """
    return tuple(_training(study, setting, words, *one, where) for one in itertools.product(study.splits, seeds))


def _combinations(study: Study) -> dict[str, tuple[str, ...]]:
    """Returns the settings of GRID by name.

    >>> grid = {"SOLVER.MAX_LR": ("0.01",), "SOLVER.POWER": ("1", "2")}
    >>> _combinations(Study("DemoAAA", grid=grid))["MAX_LR=0.01 POWER=2"]
    ('SOLVER.MAX_LR=0.01', 'SOLVER.POWER=2')
    """
    if not study.grid:
        return {}
    rows = itertools.product(*([f"{key}={value}" for value in values] for key, values in study.grid.items()))
    return {" ".join(_short(word) for word in words): words for words in rows}


def _short(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key.rpartition('.')[2]}={value}"


def _training(study: Study, setting: str, words: tuple[str, ...], split: int, seed: int | None, where: str) -> Training:
    configs = [word for word in words if "=" not in word]
    if len(configs) > 1:
        raise UserError(f"{where} names {len(configs)} configs; expected one at most")
    config = configs[0] if configs else study.base
    own = tuple(word for word in words if "=" in word)
    given = {word.partition("=")[0] for word in own}
    for key, instead in ((SPLIT, "SPLITS"), (SEED, "SEEDS")):
        if key in given or any(word.startswith(f"{key}=") for word in study.set_):
            remedy = f"{key} is set by {instead}, for all settings; remove it from the setting or from SET"
            raise UserError(f"{where}: {remedy}")
    common = tuple(word for word in study.set_ if word.partition("=")[0] not in given)
    overrides = (*common, *own, f"{SPLIT}={split}", f"{SEED}={'null' if seed is None else seed}")
    try:
        if load(config).config.ensemble.members is not None:
            raise UserError(f"{config} is an ensemble; a study trains, so name an experiment")
        return Training(setting, split, seed, config, overrides, load(config, overrides).run)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
