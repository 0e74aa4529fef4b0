"""A config's name to its resolved values: follow BASE, merge, check, remember where each value was written.

In: `configs/<NAME>.yaml` and `KEY=VALUE` overrides. Out: `Experiment settings` as `Loaded`. Needs no torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.competition import Competition, check_competition, num_scored, scored_classes
from pipeline.config.plan import Phase, load_plan, parse_mix
from pipeline.config.schema import Config
from pipeline.config.tree import Leaf, Tree, build, leaf_origins, merge, override_tree, read_tree
from pipeline.errors import UserError
from pipeline.paths import CONFIGS, PROJECT

# Keys of the original that would do nothing here; to accept them in silence would be a lie.
RETIRED = {
    "DATALOADERS.COPY_PASTE": "copy-paste happens in the training loader's workers, it has no loader of its own",
    "DATALOADERS.VISUALIZE": "the contact sheets have a fixed size",
    "DATALOADERS.VALID.SHUFFLE": "validation visits every picture once, in a fixed order",
    "DATALOADERS.VALID.DROP_LAST": "validation visits every picture once",
}
# What may differ between two machines without making another experiment of it.
MACHINE_KEYS = (
    "RUNTIME",
    "DATASETS.DIRECTORY",
    "DATALOADERS.TRAIN.NUM_WORKERS",
    "DATALOADERS.TRAIN.PIN_MEMORY",
    "DATALOADERS.VALID.NUM_WORKERS",
    "DATALOADERS.VALID.PIN_MEMORY",
    "SOLVER.SAVE_MINUTES",
)
PROVISIONAL_LR = 1e-3  # stands for `MAX_LR: auto` until the sweep has spoken


@dataclass(frozen=True)
class Loaded:
    """A resolved config.

    Attributes:
        name: the config's name, `ExpAAB`.
        run: the run folder's name: the same, or with a suffix when overrides change a value.
        values: resolved values as `{"SOLVER.MAX_LR": 0.001, ...}`.
        origins: `{"SOLVER.MAX_LR": "configs/base.yaml:98", ...}`.
        changed: the keys that overrides changed.
    """

    name: str
    run: str
    config: Config
    competition: Competition
    plan: tuple[Phase, ...]
    values: dict[str, Any]
    origins: dict[str, str]
    changed: tuple[str, ...]


def load(name: str, overrides: tuple[str, ...] = ()) -> Loaded:
    """Returns the resolved config of an experiment.

    Raises:
        UserError: no such config, an unknown key, a wrong value, a contradiction; with origin and cure.
    """
    tree = read_chain(name)
    plain, competition, plan = _resolve(tree)
    if not overrides:
        values = flatten(plain)
        return Loaded(name, name, plain, competition, plan, values, leaf_origins(tree), ())
    for assignment in overrides:
        tree = merge(tree, override_tree(assignment))
    config, competition, plan = _resolve(tree)
    before, values = flatten(plain), flatten(config)
    changed = tuple(key for key in values if values[key] != before[key])
    return Loaded(name, _run_name(name, values, changed), config, competition, plan, values, leaf_origins(tree), changed)


def _run_name(name: str, values: dict[str, Any], changed: tuple[str, ...]) -> str:
    """Returns a folder name of its own for a run that deviates from its config, the same for the same deviation."""
    meaningful = {key: values[key] for key in changed if not is_machine_key(key)}
    if not meaningful:
        return name
    digest = hashlib.sha256(json.dumps(meaningful, sort_keys=True, default=str).encode()).hexdigest()
    return f"{name}-{digest[:6]}"


def is_machine_key(key: str) -> bool:
    """Returns whether a key may differ between machines without changing what is computed."""
    return any(key == prefix or key.startswith(prefix + ".") for prefix in MACHINE_KEYS)


def names() -> list[str]:
    """Returns the names of all experiments, sorted."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "base")


def config_path(name: str) -> Path:
    """Returns the file of a config.

    Raises:
        UserError: there is none; names the nearest.
    """
    path = CONFIGS / f"{name}.yaml"
    if name == "base" or not path.is_file() or "/" in name:
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "`./run.sh list` shows all."
        raise UserError(f"there is no config {name!r} in configs/; {hint}")
    return path


def read_chain(name: str) -> Tree:
    """Returns base.yaml overridden by the chain of BASE parents down to `name`."""
    chain: list[Tree] = []
    seen: list[str] = []
    while name != "base":
        path = config_path(name) if not seen else _parent_path(name, seen[-1])
        if name in seen:
            raise UserError(f"configs/{seen[-1]}.yaml: BASE goes in a circle: {' -> '.join([*seen, name])}")
        seen.append(name)
        tree = read_tree(path, f"configs/{path.name}")
        chain.append(tree)
        name = _pop_base(tree)
    tree = read_tree(CONFIGS / "base.yaml", "configs/base.yaml")
    for child in reversed(chain):
        tree = merge(tree, child)
    return tree


def _parent_path(name: str, child: str) -> Path:
    try:
        return config_path(name)
    except UserError as error:
        raise UserError(f"configs/{child}.yaml: BASE: {error}") from None


def _pop_base(tree: Tree) -> str:
    leaf = tree.pop("BASE", None)
    if leaf is None:
        return "base"
    if not isinstance(leaf, Leaf) or not isinstance(leaf.node, yaml.ScalarNode) or not leaf.node.value:
        raise UserError(f"{getattr(leaf, 'origin', 'BASE')}: BASE names one parent, for example BASE: ExpBAA")
    return leaf.node.value


def _resolve(tree: Tree) -> tuple[Config, Competition, tuple[Phase, ...]]:
    _refuse_retired(tree)
    config: Config = build(tree, Config)
    origins = leaf_origins(tree)
    competition = load_competition(config.datasets.competition, origins["DATASETS.COMPETITION"])
    plan_path = CONFIGS / "plans" / f"{config.solver.plan}.yaml"
    _require_named(plan_path, origins["SOLVER.PLAN"], "SOLVER.PLAN")
    max_lr = PROVISIONAL_LR if config.solver.max_lr == "auto" else config.solver.max_lr
    plan = load_plan(plan_path, f"configs/plans/{plan_path.name}", config.solver, max_lr)
    _check_config(config, competition, plan, origins)
    return config, competition, plan


def with_max_lr(loaded: Loaded, max_lr: float) -> tuple[Phase, ...]:
    """Returns the plan of a config whose MAX_LR is `auto`, with the rate that the sweep suggested."""
    name = loaded.config.solver.plan
    return load_plan(CONFIGS / "plans" / f"{name}.yaml", f"configs/plans/{name}.yaml", loaded.config.solver, max_lr)


def load_competition(name: str, origin: str = "command line") -> Competition:
    """Returns the descriptor of a competition.

    Raises:
        UserError: there is none of that name, or it contradicts itself.
    """
    path = CONFIGS / "competitions" / f"{name}.yaml"
    _require_named(path, origin, "DATASETS.COMPETITION")
    shown = f"configs/competitions/{path.name}"
    tree = read_tree(path, shown)
    tree["NAME"] = Leaf(yaml.ScalarNode("tag:yaml.org,2002:str", name), shown)
    competition = build(tree, Competition)
    check_competition(competition, shown)
    return competition


def _require_named(path: Path, origin: str, key: str) -> None:
    if path.is_file() and path.parent in (CONFIGS / "plans", CONFIGS / "competitions"):
        return
    known = sorted(other.stem for other in path.parent.glob("*.yaml"))
    near = difflib.get_close_matches(path.stem, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    raise UserError(f"{origin}: {key}: there is no {path.relative_to(PROJECT)}; {hint}")


def _refuse_retired(tree: Tree) -> None:
    for key, why in RETIRED.items():
        value: Any = tree
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            origin = value.origin if isinstance(value, Leaf) else next(iter(leaf_origins(value).values()), "config")
            raise UserError(f"{origin}: {key} does nothing any more: {why}; remove it")


def _check_config(config: Config, competition: Competition, plan: tuple[Phase, ...], origins: dict[str, str]) -> None:
    """Refuses settings that are each possible but not together."""

    def refuse(key: str, why: str) -> None:
        raise UserError(f"{origins.get(key, 'config')}: {key}: {why}")

    scored = scored_classes(competition)
    augmentation = config.datasets.augmentation
    for key, chosen in (
        ("DATASETS.CLASSES", config.datasets.classes),
        ("DATASETS.AUGMENTATION.COPY_PASTE.CLASSES", augmentation.copy_paste.classes),
    ):
        unknown = [name for name in chosen if name not in scored] if chosen != "all" else []
        if unknown or not chosen:
            refuse(key, f"{', '.join(unknown) or 'an empty list'}: not a class of {competition.name} ({', '.join(scored)})")
    weights = config.loss_fn.weights
    if weights is not None and len(weights) != num_scored(competition):
        refuse("LOSS_FN.WEIGHTS", f"{len(weights)} weights for the {num_scored(competition)} classes of {competition.name}")
    if weights is not None and sum(weights) <= 0:
        refuse("LOSS_FN.WEIGHTS", "at least one weight must be above 0")
    try:
        parse_mix(config.loss_fn.mix)
    except UserError as error:
        refuse("LOSS_FN.MIX", str(error))
    if config.solver.monitor == "valid_loss" and any(phase.loss for phase in plan):
        refuse("SOLVER.PLAN", "a phase changes the loss, so validation losses cannot be compared; set SOLVER.MONITOR: valid_dice")
    if config.sweep.end_lr <= config.sweep.start_lr:
        refuse("SWEEP.END_LR", f"{config.sweep.end_lr:g} is not above START_LR {config.sweep.start_lr:g}")
    if config.solver.max_lr == "auto" and not config.sweep.enable:
        refuse("SOLVER.MAX_LR", "auto takes the LR sweep's suggestion, but SWEEP.ENABLE is false")
    low, high = augmentation.gaussian_noise.var_limit
    if low > high:
        refuse("DATASETS.AUGMENTATION.GAUSSIAN_NOISE.VAR_LIMIT", f"[{low:g}, {high:g}]: the first is the smaller one")
    batch, accumulate = config.dataloaders.train.batch_size, config.solver.accumulate
    if batch % accumulate:
        refuse("SOLVER.ACCUMULATE", f"BATCH_SIZE {batch} cannot be cut into {accumulate} equal micro-batches")
    _check_tiles(config, refuse)


def _check_tiles(config: Config, refuse) -> None:
    tile = config.datasets.augmentation.tile
    if not tile.enable:
        return
    key = "DATASETS.AUGMENTATION.TILE"
    if not tile.sets:
        refuse(f"{key}.SETS", "an empty list; give rows of [picture width, picture height, columns, rows]")
    for row in tile.sets:
        if row[0] < tile.width or row[1] < tile.height:
            refuse(f"{key}.SETS", f"a tile of {tile.width}x{tile.height} does not fit a picture of {row[0]}x{row[1]}")


def run_name(config: Config) -> str:
    """Returns the run name for people, e.g. `AAB-FPN-EFF3-CA-FS-NA`."""
    return "-".join([config.experiment.prefix, config.model.abbr, config.model.encoder.abbr, config.experiment.suffix])


def flatten(section: Any, path: str = "") -> dict[str, Any]:
    """Returns a config as `{"SOLVER.MAX_LR": 0.001, ...}` in the schema's order."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        value, key = getattr(section, field.name), field.name.upper()
        here = f"{path}.{key}" if path else key
        values |= flatten(value, here) if dataclasses.is_dataclass(value) else {here: value}
    return values


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Returns flat values as nested mappings with the config's own keys.

    >>> nested({"SOLVER.MAX_LR": 0.001, "SOLVER.PLAN": "constant"})
    {'SOLVER': {'MAX_LR': 0.001, 'PLAN': 'constant'}}
    """
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *groups, leaf = key.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = value
    return tree


