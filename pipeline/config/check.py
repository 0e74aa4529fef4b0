"""Refuses settings that are each possible but not together."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.config.coerce import nearest
from pipeline.config.competition import Competition
from pipeline.config.optimizers import UNEVEN, why_refused
from pipeline.config.plain_yaml import COMMAND_LINE
from pipeline.config.plan import Phase, parse_mix
from pipeline.config.schema import STRIDE, Config
from pipeline.errors import UserError

NAME_PART = re.compile(r"[A-Za-z0-9_.+-]+")
# What an ensemble's file may say; on the command line other keys go on to its members, see `ensemble.py`.
OF_ENSEMBLE = ("ENSEMBLE", "DECODE", "RUNTIME", "DATASETS.COMPETITION", "DATASETS.DIRECTORY", "EXPERIMENT.PREFIX")
OF_ENSEMBLE += ("EXPERIMENT.SUFFIX", "MODEL.ABBR", "MODEL.ENCODER.ABBR")
OF_EACH_MEMBER = ("EXPERIMENT", "MODEL", "DATASETS.SPLIT_INDEX")  # one value for all would make them alike


def check_config(config: Config, competition: Competition, plan: tuple[Phase, ...], origins: Mapping[str, str]) -> None:
    """Refuses a config that contradicts itself, its competition or its plan.

    Args:
        origins: where each value was written, for messages.

    Raises:
        UserError: origin, key, what was found and what was wanted.
    """
    _check_names(config, origins)
    _check_classes(config, competition, origins)
    _check_losses(config, plan, origins)
    _check_data(config, origins)
    _check_ensemble(config, competition, origins)
    window = config.predict.window
    if any(side % STRIDE for side in window):
        near = [max(STRIDE, round(side / STRIDE) * STRIDE) for side in window]
        _refuse(origins, "PREDICT.WINDOW", f"{list(window)} are no multiples of {STRIDE}, as networks want; try {near}")
    sweep, solver = config.sweep, config.solver
    if sweep.end_lr <= sweep.start_lr:
        _refuse(origins, "SWEEP.END_LR", f"{sweep.end_lr:g} is not above SWEEP.START_LR {sweep.start_lr:g}")
    if solver.max_lr == "auto" and not sweep.enable:
        _refuse(
            origins, "SOLVER.MAX_LR", "auto takes the LR sweep's suggestion, but SWEEP.ENABLE is false; give a number"
        )
    name = solver.optimizer.name
    if why := why_refused(name, solver.optimizer.weight_decay):
        _refuse(origins, "SOLVER.OPTIMIZER.NAME", why)
    if solver.max_lr == "auto" and sweep.optimizer == "SGD" and name != "SGD":
        why = f"auto takes the sweep's suggestion, but plain SGD's rate means other steps in {name}"
        _refuse(origins, "SOLVER.MAX_LR", f"{why}; give a number, or SWEEP.OPTIMIZER: solver")
    if solver.max_lr == "auto" and name in UNEVEN:
        why = f"auto takes the sweep's suggestion, but the steps of {name} change for thousands of steps at one rate"
        _refuse(origins, "SOLVER.MAX_LR", f"{why}; give a number")


def _refuse(origins: Mapping[str, str], key: str, why: str) -> None:
    raise UserError(f"{origins.get(key, 'config')}: {key}: {why}")


def _check_names(config: Config, origins: Mapping[str, str]) -> None:
    for key, part in (
        ("EXPERIMENT.PREFIX", config.experiment.prefix),
        ("MODEL.ABBR", config.model.abbr),
        ("MODEL.ENCODER.ABBR", config.model.encoder.abbr),
        ("EXPERIMENT.SUFFIX", config.experiment.suffix),
    ):
        if not NAME_PART.fullmatch(part):
            _refuse(origins, key, f"{part!r} becomes a part of the run name; wanted letters, digits and . _ + -")


def _check_classes(config: Config, competition: Competition, origins: Mapping[str, str]) -> None:
    scored = competition.class_names
    for key, chosen in (
        ("DATASETS.CLASSES", config.datasets.classes),
        ("DATASETS.AUGMENTATION.COPY_PASTE.CLASSES", config.datasets.augmentation.copy_paste.classes),
    ):
        if chosen == "all":
            continue
        if not chosen:
            _refuse(origins, key, "an empty list; give all, or the names that are wanted")
        if len(set(chosen)) < len(chosen):
            _refuse(origins, key, "a class is named twice; keep one")
        for name in chosen:
            if name not in scored:
                near = nearest(name, scored)
                hint = f"did you mean {near[0]}?" if near else f"its classes: {', '.join(scored)}"
                _refuse(origins, key, f"{competition.name} has no class {name}; {hint}")
    submitted = [scored[index] for index in competition.scored_indices]
    if not set(submitted) & set(scored if config.datasets.classes == "all" else config.datasets.classes):
        why = f"{competition.name} scores {', '.join(submitted)} alone, of which none is here; add it, or give all"
        _refuse(origins, "DATASETS.CLASSES", why)
    weights = config.loss_fn.weights
    if weights is not None and len(weights) != competition.num_classes:
        wanted = f"{competition.name} has {competition.num_classes} classes ({', '.join(scored)})"
        _refuse(origins, "LOSS_FN.WEIGHTS", f"{len(weights)} weights, but {wanted}; give one each, or null")
    if weights is not None and sum(weights) <= 0:
        _refuse(origins, "LOSS_FN.WEIGHTS", "all are 0; at least one must be above")


def _check_losses(config: Config, plan: tuple[Phase, ...], origins: Mapping[str, str]) -> None:
    try:
        own_mix = parse_mix(config.loss_fn.mix)
    except UserError as error:
        _refuse(origins, "LOSS_FN.MIX", str(error))
    changes = any(phase.loss and parse_mix(phase.loss) != own_mix for phase in plan)
    if config.solver.monitor == "valid_loss" and changes:
        # One loss judges the whole plan. Under another one it may rise while the scores rise, too: the best weights
        # would be those from before the change, and that phase for nothing.
        why = "a phase of it changes the loss, while LOSS_FN.MIX judges every epoch; set SOLVER.MONITOR: valid_dice"
        _refuse(origins, "SOLVER.PLAN", f"{config.solver.plan}: {why}")


def _check_data(config: Config, origins: Mapping[str, str]) -> None:
    augmentation = config.datasets.augmentation
    low, high = augmentation.gaussian_noise.var_limit
    if low > high:
        key = "DATASETS.AUGMENTATION.GAUSSIAN_NOISE.VAR_LIMIT"
        _refuse(origins, key, f"[{low:g}, {high:g}] goes down; wanted [smallest, largest]")
    batch, accumulate = config.dataloaders.train.batch_size, config.solver.accumulate
    if batch % accumulate:
        why = f"DATALOADERS.TRAIN.BATCH_SIZE {batch} cannot be cut into {accumulate} equal micro-batches"
        _refuse(origins, "SOLVER.ACCUMULATE", why)
    tile, key = augmentation.tile, "DATASETS.AUGMENTATION.TILE.SETS"
    if not tile.enable:
        return
    if not tile.sets:
        _refuse(origins, key, "an empty list; give rows of [image width, image height, columns, rows]")
    for width, height, _, _ in tile.sets:
        if width < tile.width or height < tile.height:
            why = f"a tile of {tile.width}x{tile.height} does not fit an image of {width}x{height}"
            _refuse(origins, key, f"{why}; change TILE.WIDTH, TILE.HEIGHT or that row")


def _check_ensemble(config: Config, competition: Competition, origins: Mapping[str, str]) -> None:
    members, weights = config.ensemble.members, config.ensemble.weights
    if members is None:
        if weights is not None or config.ensemble.method != "AP":
            _refuse(origins, "ENSEMBLE.METHOD", "nothing is combined without ENSEMBLE.MEMBERS; name them")
        if config.ensemble.stream:
            _refuse(origins, "ENSEMBLE.STREAM", "is for an ensemble; a single run needs its store, or name MEMBERS")
        return
    if len(members) < 2:
        _refuse(origins, "ENSEMBLE.MEMBERS", f"{len(members)} members; two at least can be combined, or null")
    if len(set(members)) < len(members):
        twice = next(name for name in members if members.count(name) > 1)
        _refuse(origins, "ENSEMBLE.MEMBERS", f"{twice} is named twice; for a heavier vote use METHOD: WEIGHTED")
    if weights is not None and config.ensemble.method != "WEIGHTED":
        _refuse(origins, "ENSEMBLE.WEIGHTS", f"METHOD {config.ensemble.method} takes none; set METHOD: WEIGHTED")
    if config.decode.offsets == "fitted" and config.ensemble.method not in ("AP", "WEIGHTED"):
        _refuse(
            origins,
            "DECODE.OFFSETS",
            f"moves thresholds of mean probabilities, METHOD {config.ensemble.method} has none",
        )
    if isinstance(weights, tuple):
        _check_ensemble_weights(weights, len(members), competition, origins)
    for key, origin in origins.items():
        if origin.startswith("configs/base.yaml"):
            continue
        if origin == COMMAND_LINE and is_below(key, OF_EACH_MEMBER):
            _refuse(origins, key, "is each member's own; change it in a run of that member")
        if origin != COMMAND_LINE and not is_below(key, OF_ENSEMBLE):
            _refuse(origins, key, "does nothing in an ensemble, its members have their own; remove it")


def _check_ensemble_weights(
    weights: tuple, num_members: int, competition: Competition, origins: Mapping[str, str]
) -> None:
    key = "ENSEMBLE.WEIGHTS"
    if len(weights) != num_members:
        _refuse(origins, key, f"{len(weights)} weights for {num_members} members; give one each, fitted, or null")
    rows = [row if isinstance(row, tuple) else (row,) for row in weights]
    num_classes = competition.num_classes
    if any(len(row) not in (1, num_classes) for row in rows) or len({len(row) for row in rows}) > 1:
        _refuse(origins, key, f"wanted one number per member, or {num_classes} numbers, a class each, per member")
    for column, values in enumerate(zip(*rows, strict=True)):
        if sum(values) <= 0:
            what = f"of class {competition.class_names[column]} " if len(rows[0]) > 1 else ""
            _refuse(origins, key, f"all weights {what}are 0; at least one must be above")


def is_below(key: str, prefixes: tuple[str, ...]) -> bool:
    """Returns whether a dotted key is one of the prefixes or lies below one."""
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
