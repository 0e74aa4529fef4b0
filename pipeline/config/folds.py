"""One config trained on each of several folds, with each of several seeds, and the ensemble of these runs.

    ./run.sh ExpBAA --folds 5 --seeds 3

In: the config and what was typed for it. Out: `Folds`. Needs no torch.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count, islice, product
from pathlib import Path

from pipeline.config import load as configs
from pipeline.config.check import FOLDED
from pipeline.config.load import COMBINING_KEYS, Loaded, is_machine_key, load, nested
from pipeline.config.study import SEED, SPLIT, Training
from pipeline.config.tree import leaf_origins, override_tree
from pipeline.errors import UserError
from pipeline.paths import shown
from pipeline.wording import is_below

FOLDS, MEMBERS = "DATASETS.SPLIT.FOLDS", "ENSEMBLE.MEMBERS"
SHARED = ("DECODE", "DATASETS.DIRECTORY")  # what the ensemble of the runs needs of their config
MOST = 20  # SPLIT_INDEX goes from 0 to 19
USUAL = 5  # folds of kfold and stratified where FOLDS is null, and slices that share no image
FIRST_SEED = 100  # of the further ones; the splits of the original have 2 to 71


@dataclass(frozen=True)
class Folds:
    """What `--folds` and `--seeds` ask for.

    Attributes:
        trainings: in order: each fold with the first seed, then each with the next; `seed` is None for that of the
            config.
        num_folds: None: all seeds train on the config's own split.
        ensemble: the name of the config that combines them; `members`: what is written for its members.
        method: ENSEMBLE.METHOD of that config.
        combining: what was typed for the ensemble alone; `machine`: what holds for this machine.
        shared: values of DECODE, and the folder of the data, that the config sets.
        typed: the command.
    """

    name: str
    competition: str
    by: str
    trainings: tuple[Training, ...]
    num_folds: int | None
    num_seeds: int
    ensemble: str
    method: str
    members: tuple[str, ...]
    combining: tuple[str, ...]
    machine: tuple[str, ...]
    shared: dict[str, object]
    typed: str

    @property
    def first(self) -> tuple[Training, ...]:
        """The trainings with the first seed: one of each split."""
        return self.trainings[: self.num_folds or 1]

    @property
    def path(self) -> Path:
        """The file of the ensemble."""
        return configs.CONFIGS / f"{self.ensemble}.yaml"


def load_folds(
    name: str,
    overrides: Sequence[str],
    num_folds: int | None,
    num_seeds: int | None,
    is_combined: bool = True,
    trusts_code: bool = False,
) -> Folds:
    """Returns the runs of a config on each of `num_folds` folds with each of `num_seeds` seeds.

    Args:
        num_folds: None: the config's own split alone.
        num_seeds: None: the config's own seed alone.
        is_combined: whether the runs are combined; then overrides of ENSEMBLE, DECODE and SUBMIT are the ensemble's.

    Raises:
        UserError: impossible numbers, an ensemble, a split without folds, an override of what the options set, or an
            ensemble's file that has other members.
    """
    _check_numbers(name, num_folds, num_seeds)
    _check_overrides(overrides, num_folds)
    combining, own = _parted(overrides, lambda key: is_combined and is_below(key, COMBINING_KEYS))
    machine, words = _parted(own, is_machine_key)
    loaded = load(name, words, trusts_code)
    _check_kind(loaded)
    num_seeds = num_seeds or 1
    of_folds = () if num_folds is None else _fold_words(loaded, num_folds)
    splits = range(num_folds) if num_folds else (loaded.config.datasets.split_index,)
    trainings, members = [], []
    for seed, split in product(_seeds(loaded, num_seeds), splits):
        given = (*words, *of_folds, *([f"{SPLIT}={split}"] if num_folds else []))
        given = given if seed is None else (*given, f"{SEED}={seed}")
        run = load(name, (*given, *machine), trusts_code).run
        trainings.append(Training(name, split, seed, name, (*given, *machine), run))
        members.append(shlex.join([name, *given]))
    counts = {"folds": num_folds, "seeds": num_seeds if num_seeds > 1 else None}
    counts = {what: number for what, number in counts.items() if number}
    options = [f"--{what} {number}" for what, number in counts.items()]
    folds = Folds(
        name=name,
        competition=loaded.competition.name,
        by=loaded.config.datasets.split.by,
        trainings=tuple(trainings),
        num_folds=num_folds,
        num_seeds=num_seeds,
        ensemble=f"{loaded.run}-{''.join(f'{number}{what}' for what, number in counts.items())}",
        method="WBF" if loaded.competition.has_boxes else "AP",
        members=tuple(members),
        combining=combining,
        machine=machine,
        shared={key: value for key, value in loaded.values.items() if _is_shared(loaded, key)},
        typed=shlex.join(["./run.sh", name, *options, *words]),
    )
    _check_file(folds)
    return folds


def _is_shared(loaded: Loaded, key: str) -> bool:
    """Returns whether the ensemble of a config's runs needs the value of a key, and the config sets it."""
    return is_below(key, SHARED) and not loaded.origins[key].startswith("configs/base.yaml")


def ensemble_text(folds: Folds) -> str:
    """Returns the file of the ensemble, which an editor may change afterwards."""
    what = [f"{folds.num_folds} folds"] if folds.num_folds else []
    what += [f"{folds.num_seeds} seeds"] if folds.num_seeds > 1 else []
    tree = {"EXPERIMENT.PREFIX": folds.ensemble, "EXPERIMENT.SUFFIX": folds.method}
    tree["DATASETS.COMPETITION"] = folds.competition
    lines = [
        f"# What do {' and '.join(what)} of {folds.name} gain together?",
        f"# {shlex.join(['./run.sh', folds.ensemble])}    "
        f"(its members must be trained: {folds.typed}, which wrote this file)",
        "# Published: no result.",
        "BASE: base",
        *_yaml_lines(nested(tree | folds.shared)),
        "ENSEMBLE:",
        *([] if folds.method == "AP" else [f"  METHOD: {folds.method}"]),
        "  MEMBERS:                      # each as it is typed behind ./run.sh",
        *(f"    - {json.dumps(member, ensure_ascii=False)}" for member in folds.members),
    ]
    return "\n".join(lines) + "\n"


def _yaml_lines(tree: dict[str, object], indent: str = "") -> list[str]:
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_yaml_lines(value, f"{indent}  ")]
        else:
            lines.append(f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}")
    return lines


def _check_numbers(name: str, num_folds: int | None, num_seeds: int | None) -> None:
    if num_folds is not None and not 2 <= num_folds <= MOST:
        raise UserError(f"--folds {num_folds}: expected 2 to {MOST}, such as ./run.sh {shlex.quote(name)} --folds 5")
    if num_seeds is not None and not 1 <= num_seeds <= MOST:
        raise UserError(f"--seeds {num_seeds}: expected 2 to {MOST}, such as ./run.sh {shlex.quote(name)} --seeds 3")
    if num_seeds == 1 and num_folds is None:
        raise UserError(f"--seeds 1: one seed is an ordinary run, ./run.sh {shlex.quote(name)}; expected 2 to {MOST}")


def _check_kind(loaded: Loaded) -> None:
    """Refuses what is no training with a validation."""
    if loaded.is_ensemble:
        one = shlex.split(loaded.config.ensemble.members[0])[0]
        what = f"{loaded.name} is an ensemble, which trains nothing"
        raise UserError(f"{what}; name an experiment: ./run.sh {shlex.quote(one)} --folds 5")
    if loaded.is_on_all_images:
        why = "trains on all images (DATASETS.SPLIT.BY: none), so no image would be out of fold"
        remedy = f"use the run in its SOLVER.FROM: ./run.sh {shlex.quote(loaded.config.solver.from_)} --folds 5"
        raise UserError(f"{loaded.name} {why}; {remedy}")


def _check_overrides(overrides: Sequence[str], num_folds: int | None) -> None:
    keys = _keys(overrides)
    why_not = {
        MEMBERS: "the runs of this command are the members; leave it out, or write an ensemble of your own",
        SEED: "the first seed is the config's, and --seeds 3 adds two; leave it out, or set it in a config of its own",
    }
    if num_folds is not None:
        why_not |= {
            SPLIT: f"--folds runs SPLIT_INDEX 0 to {num_folds - 1}; leave out this override, or --folds",
            FOLDS: f"--folds {num_folds} already sets the number of folds; leave it out",
        }
    for key, why in why_not.items():
        if key in keys:
            raise UserError(f"{key} cannot be overridden here: {why}")


def _fold_words(loaded: Loaded, num_folds: int) -> tuple[str, ...]:
    """Returns the overrides that make the split one of `num_folds` folds; none where it is already."""
    datasets, by = loaded.config.datasets, loaded.config.datasets.split.by
    if datasets.split_index < 0:
        found = f"{SPLIT} is {datasets.split_index}, a quick try on {-datasets.split_index} % of the images"
        raise UserError(f"{loaded.origins[SPLIT]}: {found}, but --folds trains on all; set it to 0")
    if by == "slice" and num_folds != USUAL:
        found = f"with DATASETS.SPLIT.BY slice a fold is 20 % of the images, so there are exactly {USUAL} folds"
        kfold = f"--folds {num_folds} DATASETS.SPLIT.BY=kfold"
        raise UserError(f"--folds {num_folds}: {found}; type --folds {USUAL}, or {kfold}")
    usual = datasets.split.folds or (None if by == "sequence" else USUAL)
    return () if by not in FOLDED or usual == num_folds else (f"{FOLDS}={num_folds}",)


def _seeds(loaded: Loaded, num_seeds: int) -> list[int | None]:
    """Returns the config's own seed, as None, then others that no split has by itself."""
    own = loaded.config.experiment.seed
    return [None, *islice((seed for seed in count(FIRST_SEED) if seed != own), num_seeds - 1)]


def _check_file(folds: Folds) -> None:
    """Refuses an ensemble's file that somebody has given other members."""
    if folds.path.is_file() and load(folds.ensemble).config.ensemble.members != folds.members:
        found = f"{shown(folds.path)} exists and has other members than the runs of this command"
        raise UserError(f"{found}; rename or remove it. To use it as it is: ./run.sh {shlex.quote(folds.ensemble)}")


def _parted(words: Sequence[str], belongs: Callable[[str], bool]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the overrides of which every key belongs, and the others."""
    own = tuple(word for word in words if all(map(belongs, _keys([word]))))
    return own, tuple(word for word in words if word not in own)


def _keys(words: Sequence[str]) -> list[str]:
    return list(leaf_origins(override_tree(words)))
