"""Resolves a config by name: follows BASE, merges, checks, and records where each value was written.

In: `configs/<NAME>.yaml` and `KEY=VALUE` overrides. Out: typed settings as `Loaded`. Needs no torch.

An override of an ensemble that does not concern combining, such as PREDICT.TTA=flip or DATASETS.SPLIT.BY=sequence, is
passed on to every member: each then has its own run with that setting, as if it had been typed for the member.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.config.check import check_config
from pipeline.config.check_competition import check_competition
from pipeline.config.check_ranks import RANK_KEYS, ranks_that_count
from pipeline.config.competition import Competition
from pipeline.config.plain_yaml import COMMAND_LINE, NULLS
from pipeline.config.plan import Phase, load_plan
from pipeline.config.schema import Config
from pipeline.config.tree import (
    Leaf,
    Tree,
    build,
    key_of,
    leaf_origins,
    merge,
    override_tree,
    read_tree,
    refuse,
    value_origins,
)
from pipeline.errors import UserError
from pipeline.files import sha256_text
from pipeline.paths import CONFIGS
from pipeline.wording import did_you_mean, is_below

# Keys of the original pipeline that would have no effect here. They are refused, not silently accepted.
RETIRED = {
    "MODEL.ACTIVATION": "networks return logits; loss and decoding apply the activation",
    "DATALOADERS.COPY_PASTE": "copy-paste runs in the workers of the training loader",
    "DATALOADERS.VISUALIZE": "contact sheets have a fixed size",
    "DATALOADERS.VALID.SHUFFLE": "validation reads every image once, in a fixed order",
    "DATALOADERS.VALID.DROP_LAST": "validation reads every image once",
}
# Keys that may differ between machines: they do not change the run folder, and no stage runs again for them.
MACHINE_KEYS = (
    *("RUNTIME", "DATASETS.DIRECTORY", "SOLVER.SAVE_MINUTES"),
    *("DATALOADERS.TRAIN.NUM_WORKERS", "DATALOADERS.TRAIN.PIN_MEMORY"),
    *("DATALOADERS.VALID.NUM_WORKERS", "DATALOADERS.VALID.PIN_MEMORY"),
    "MODEL.ENCODER.ALLOW_REMOTE",  # a permission; what is fetched counts as the files that it is
    "ENSEMBLE.STREAM",  # the result is the same with probability stores and without
    "SUBMIT.FILE",
)
Kind = Literal["config", "plan", "competition", "study"]
FOLDER_OF: dict[Kind, str] = {"config": "", "plan": "plans", "competition": "competitions", "study": "studies"}
# Keys of a competition's description on which no result depends.
ABOUT = ("NAME", "TITLE", "KAGGLE_SLUG", "REPOSITORY", "LICENCE")
LATER = ("BOXES",)  # added when there were finished runs, which stay what they are where such a key is not given
COMBINING_KEYS = ("ENSEMBLE", "DECODE", "SUBMIT")  # of an ensemble, not passed on to its members
PROVISIONAL_LR = 1e-3  # used for `MAX_LR: auto` before the LR sweep has run


@dataclass(frozen=True)
class Loaded:
    """A resolved config."""

    name: str  # of the config, `ExpAAB`
    run: str  # name of the run folder: the same, with a suffix where overrides change a value
    config: Config
    competition: Competition
    plan: tuple[Phase, ...]
    values: dict[str, Any]  # {"SOLVER.MAX_LR": 0.001, ...}
    origins: dict[str, str]  # {"SOLVER.MAX_LR": "configs/base.yaml:98", ...}
    changed: tuple[str, ...]  # the keys that overrides changed
    trusts_code: bool = False  # whether a network of the user's own may be run: --trust-code, never a key of a config

    @property
    def is_ensemble(self) -> bool:
        """Whether the config combines members instead of training a network."""
        return self.config.ensemble.members is not None

    @property
    def is_on_all_images(self) -> bool:
        """Whether the config trains on all images, so that none is left for validation."""
        return self.config.datasets.split.by == "none" and not self.is_ensemble

    @property
    def is_averaged(self) -> bool:
        """Whether a stage of its own decides between the best epoch's weights and a mean of several."""
        return self.config.average.method != "none" and not self.is_ensemble

    @property
    def has_pseudo_labels(self) -> bool:
        """Whether the config trains on pseudo-labelled images too."""
        return self.config.pseudo.teacher is not None and not self.is_ensemble

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that a result may depend on, by key: no machine keys; competition and plan by their content.

        The competition's description is COMPETITION.*, and ABOUT.* for what no result depends on.
        """
        settings = {key: value for key, value in self.values.items() if not is_machine_key(key)}
        settings |= ranks_that_count(self.values)
        settings["SOLVER.PLAN"] = [vars(phase) for phase in self.plan]
        fields = {
            key: value for key, value in flatten(self.competition).items() if key not in LATER or value is not None
        }
        return settings | {("ABOUT." if key in ABOUT else "COMPETITION.") + key: fields[key] for key in fields}

    @property
    def text(self) -> str:
        """The resolved config as it is written into the run's folder: comments and JSON, which is YAML too."""
        lines = [f"# Resolved values of {self.name}."]
        if self.changed:
            lines.append(f"# Overridden on the command line: {', '.join(self.changed)}")
        return "\n".join([*lines, json.dumps(nested(self.values), indent=2)]) + "\n"


def load(name: str, overrides: tuple[str, ...] = (), trusts_code: bool = False) -> Loaded:
    """Returns the resolved config of an experiment.

    Args:
        trusts_code: see `Loaded`.

    Raises:
        UserError: no such config, an unknown key, a wrong value, a contradiction; with origin and remedy.
    """
    tree = read_chain(name)
    config, competition, plan = _resolve(tree)
    values, changed = flatten(config), ()
    if overrides:
        given = override_tree(overrides)
        if "BASE" in given:
            why = f"BASE can be set in a file only (configs/{name}.yaml); write a config with another BASE"
            raise UserError(f"{COMMAND_LINE}: {why}")
        before, tree = values, overlay(tree, given)
        config, competition, plan = _resolve(tree)
        values = flatten(config)
        changed = tuple(key for key in values if values[key] != before[key])
    run = _run_folder(name, values, changed)
    # A run with overrides has its own folder, so it may start from the experiment that it overrides.
    if config.experiment.load_prev in (run, *([run_name(config)] if run == name else [])):
        why = f"{run} cannot start from itself; name an earlier run, or null"
        refuse(leaf_origins(tree), "EXPERIMENT.LOAD_PREV", why)
    origins = value_origins(tree, values)
    return Loaded(name, run, config, competition, plan, values, origins, changed, trusts_code)


def _run_folder(name: str, values: dict[str, Any], changed: tuple[str, ...]) -> str:
    """Returns the run folder's name: the config's, with a hash of the changed values where overrides change any."""
    meaningful = {key: values[key] for key in changed if not is_machine_key(key)}
    meaningful |= ranks_that_count(values) if set(RANK_KEYS) & set(changed) else {}
    if not meaningful:
        return name
    return f"{name}-{sha256_text(json.dumps(meaningful, sort_keys=True, default=str))[:8]}"


@functools.cache  # the table of all runs asks for the same keys run by run
def is_machine_key(key: str) -> bool:
    """Returns whether a key may differ between machines without changing results."""
    return is_below(key, MACHINE_KEYS)


def names(kind: Kind = "config") -> list[str]:
    """Returns the names of all experiments, or of all plans, competitions or studies, sorted."""
    # Not hidden files: editors and macOS create `.#ExpAAB.yaml` and `._ExpAAB.yaml` beside a file.
    files = (path for path in (CONFIGS / FOLDER_OF[kind]).glob("[!.]*.yaml") if path.is_file())
    return sorted(path.stem for path in files if path.stem != "base")


def competition_names() -> list[str]:
    """Returns the names of all competitions in `configs/competitions/`, sorted."""
    return names("competition")


def config_path(name: str, kind: Kind = "config", named_at: str = "") -> Path:
    """Returns the file of a config, plan, competition or study; a path, or a name in another case, is refused.

    Raises:
        UserError: there is none; names the nearest, after `named_at`, the origin of the name.
    """
    folder = CONFIGS / FOLDER_OF[kind]
    known = names(kind)
    if name in known:
        return folder / f"{name}.yaml"
    shown_name = name if len(name) <= 60 else f"{name[:57]}..."
    otherwise = f"known: {', '.join(known)}" if len(known) <= 20 else "`./run.sh list` lists all"
    hint = did_you_mean(Path(name).name.removesuffix(".yaml"), known, otherwise, most=3)
    origin = f"{named_at}: " if named_at else ""
    raise UserError(f"{origin}there is no {kind} {shown_name!r} in {_shown(folder)}/; {hint}")


def _shown(path: Path) -> str:
    return path.relative_to(CONFIGS.parent).as_posix()


def read_chain(name: str) -> Tree:
    """Returns base.yaml, overridden by the chain of BASE parents down to `name`."""
    config_path(name)  # `base` is a parent, not an experiment
    chain: dict[str, Tree] = {}
    named_at = ""  # where a child names its parent; empty for the name that was typed
    while name != "base":
        path = config_path(name, named_at=named_at)
        if name in chain:
            raise UserError(f"{named_at}: circular: {' -> '.join([*chain, name])}; name another parent")
        tree = chain[name] = read_tree(path, _shown(path))
        if not tree:
            raise UserError(f"{_shown(path)}: file is empty; add BASE: and what differs, or remove it")
        name, named_at = _pop_base(tree)
    base = read_tree(CONFIGS / "base.yaml", _shown(CONFIGS / "base.yaml"))
    return functools.reduce(overlay, reversed(chain.values()), base)


def overlay(parent: Tree, child: Tree) -> Tree:
    """Returns `parent` overridden by `child`, without the parent's MODEL.OPTIONS where MODEL.NAME becomes another."""
    before, after = parent.get("MODEL"), child.get("MODEL")
    if isinstance(before, Tree) and isinstance(after, Tree) and "OPTIONS" in before:
        old, new = before.get("NAME"), after.get("NAME")
        if isinstance(old, Leaf) and isinstance(new, Leaf) and old.node.value != new.node.value:
            of_new = Tree({**before, "OPTIONS": Tree(origin=new.origin)}, before.origin)
            parent = Tree({**parent, "MODEL": of_new}, parent.origin)
    return merge(parent, child)


def _pop_base(tree: Tree) -> tuple[str, str]:
    """Returns the name of a config's parent and where it is given."""
    value = tree.pop("BASE", None)
    if value is None:
        return "base", tree.origin
    if not isinstance(value, Leaf) or not isinstance(value.node, yaml.ScalarNode) or value.node.value in NULLS:
        raise UserError(f"{value.origin}: BASE: expected the name of a config, for example BASE: ExpBAA (or base)")
    return value.node.value, f"{value.origin}: BASE"


def _resolve(tree: Tree) -> tuple[Config, Competition, tuple[Phase, ...]]:
    _refuse_retired(tree)
    config: Config = build(tree, Config)
    origins = leaf_origins(tree)
    key = "DATASETS.COMPETITION"
    competition = load_competition(config.datasets.competition, f"{origins[key]}: {key}")
    plan = _load_plan(config, config.solver.max_lr, origins)
    check_config(config, competition, plan, origins)
    return config, competition, plan


def _load_plan(config: Config, max_lr: float | str, origins: Mapping[str, str]) -> tuple[Phase, ...]:
    path = config_path(config.solver.plan, "plan", f"{origins['SOLVER.PLAN']}: SOLVER.PLAN")
    max_lr = PROVISIONAL_LR if isinstance(max_lr, str) else max_lr
    if config.solver.min_lr > max_lr:
        why = f"{config.solver.min_lr:g} is above SOLVER.MAX_LR {max_lr:g}"
        refuse(origins, "SOLVER.MIN_LR", f"{why}; the curves run from MAX_LR down to MIN_LR")
    return load_plan(path, _shown(path), config.solver, max_lr, origins)


def with_max_lr(loaded: Loaded, max_lr: float) -> tuple[Phase, ...]:
    """Returns the plan of a config whose MAX_LR is `auto`, for the rate that the LR sweep suggests."""
    return _load_plan(loaded.config, max_lr, loaded.origins)


def load_competition(name: str, origin: str = COMMAND_LINE) -> Competition:
    """Returns the descriptor of a competition; `origin` is where it is named, for messages.

    Raises:
        UserError: there is no competition of that name, or its descriptor contradicts itself.
    """
    tree = read_file(name, "competition", origin)
    if "NAME" in tree:
        raise UserError(f"{tree['NAME'].origin}: NAME is not a key here: the name is the file's, {name}; remove it")
    tree["NAME"] = Leaf(yaml.ScalarNode("tag:yaml.org,2002:str", name, style="'"), tree.origin)
    competition = build(tree, Competition)
    check_competition(competition, leaf_origins(tree))
    return competition


def read_file(name: str, kind: Kind, named_at: str = "") -> Tree:
    """Returns the mapping in the file of a config, plan, competition or study; see `config_path` and `read_tree`."""
    path = config_path(name, kind, named_at)
    return read_tree(path, _shown(path))


def _refuse_retired(tree: Tree) -> None:
    for key, why in RETIRED.items():
        value: Any = tree
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Tree) else None
        if value is not None:
            raise UserError(f"{value.origin}: {key} has no effect: {why}; remove it")


def run_name(config: Config) -> str:
    """Returns the descriptive run name, e.g. `AAB-FPN-EFF3-CA-FS-NA`."""
    return "-".join([config.experiment.prefix, config.model.abbr, config.model.encoder.abbr, config.experiment.suffix])


def flatten(section: Any, path: str = "") -> dict[str, Any]:
    """Returns a config as `{"SOLVER.MAX_LR": 0.001, ...}` in the schema's order."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        value, here = getattr(section, field.name), path + key_of(field.name)
        values |= flatten(value, f"{here}.") if dataclasses.is_dataclass(value) else {here: value}
    return values


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Returns flat values as nested mappings with the config's own keys.

    >>> nested({"SOLVER.MAX_LR": 0.001, "SOLVER.PLAN": "constant"})
    {'SOLVER': {'MAX_LR': 0.001, 'PLAN': 'constant'}}
    """
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *groups, leaf = key.split(".")
        parent = tree
        for group in groups:
            parent = parent.setdefault(group, {})
        parent[leaf] = value
    return tree
