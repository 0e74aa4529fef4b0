"""Refuses settings that are valid one by one but contradict each other."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.config.competition import Competition
from pipeline.config.optimizers import UNEVEN, why_refused
from pipeline.config.plain_yaml import COMMAND_LINE
from pipeline.config.plan import Phase, parse_mix
from pipeline.config.schema import STRIDE, Config
from pipeline.config.tree import is_below, refuse
from pipeline.errors import UserError
from pipeline.wording import did_you_mean

NAME_PART = re.compile(r"[A-Za-z0-9_.+-]+")
# The keys that an ensemble's file may set. On the command line other keys are passed on to its members (`ensemble.py`),
# except those that tell the members apart.
ENSEMBLE_KEYS = ("ENSEMBLE", "DECODE", "RUNTIME", "DATASETS.COMPETITION", "DATASETS.DIRECTORY", "EXPERIMENT.PREFIX")
ENSEMBLE_KEYS += ("EXPERIMENT.SUFFIX", "MODEL.ABBR", "MODEL.ENCODER.ABBR")
MEMBER_KEYS = ("EXPERIMENT", "MODEL", "DATASETS.SPLIT_INDEX")


def check_config(config: Config, competition: Competition, plan: tuple[Phase, ...], origins: Mapping[str, str]) -> None:
    """Refuses a config that contradicts itself, its competition or its training plan.

    Args:
        origins: where each value was written, for messages.

    Raises:
        UserError: origin, key, what was found and what was expected.
    """
    _check_names(config, origins)
    _check_classes(config, competition, origins)
    _check_losses(config, plan, origins)
    _check_data(config, origins)
    _check_ensemble(config, competition, origins)
    window = config.predict.window
    if any(side % STRIDE for side in window):
        near = [max(STRIDE, round(side / STRIDE) * STRIDE) for side in window]
        refuse(origins, "PREDICT.WINDOW", f"{list(window)} must be multiples of {STRIDE}, for example {near}")
    sweep, solver = config.sweep, config.solver
    if sweep.end_lr <= sweep.start_lr:
        refuse(origins, "SWEEP.END_LR", f"{sweep.end_lr:g} is not above SWEEP.START_LR {sweep.start_lr:g}")
    if solver.max_lr == "auto" and not sweep.enable:
        refuse(
            origins, "SOLVER.MAX_LR", "auto is the suggestion of the LR sweep, but SWEEP.ENABLE is false; give a number"
        )
    name = solver.optimizer.name
    if why := why_refused(name, solver.optimizer.weight_decay):
        refuse(origins, "SOLVER.OPTIMIZER.NAME", why)
    if solver.max_lr == "auto" and sweep.optimizer == "SGD" and name != "SGD":
        why = f"auto is the suggestion of the LR sweep, but a rate for plain SGD does not suit {name}"
        refuse(origins, "SOLVER.MAX_LR", f"{why}; give a number, or SWEEP.OPTIMIZER: solver")
    if solver.max_lr == "auto" and name in UNEVEN:
        why = f"auto is the suggestion of the LR sweep, but the steps of {name} keep changing at a constant rate"
        refuse(origins, "SOLVER.MAX_LR", f"{why}; give a number")


def _check_names(config: Config, origins: Mapping[str, str]) -> None:
    for key, part in (
        ("EXPERIMENT.PREFIX", config.experiment.prefix),
        ("MODEL.ABBR", config.model.abbr),
        ("MODEL.ENCODER.ABBR", config.model.encoder.abbr),
        ("EXPERIMENT.SUFFIX", config.experiment.suffix),
    ):
        if not NAME_PART.fullmatch(part):
            refuse(origins, key, f"{part!r} is a part of the run name; expected letters, digits and . _ + -")


def _check_classes(config: Config, competition: Competition, origins: Mapping[str, str]) -> None:
    scored = competition.class_names
    for key, chosen in (
        ("DATASETS.CLASSES", config.datasets.classes),
        ("DATASETS.AUGMENTATION.COPY_PASTE.CLASSES", config.datasets.augmentation.copy_paste.classes),
    ):
        if chosen == "all":
            continue
        if not chosen:
            refuse(origins, key, "the list is empty; give all, or a list of names")
        if len(set(chosen)) < len(chosen):
            refuse(origins, key, "a class is given twice; keep one")
        for name in chosen:
            if name not in scored:
                hint = did_you_mean(name, scored, f"its classes are {', '.join(scored)}")
                refuse(origins, key, f"{competition.name} has no class {name}; {hint}")
    submitted = [scored[index] for index in competition.scored_indices]
    if not set(submitted) & set(scored if config.datasets.classes == "all" else config.datasets.classes):
        why = f"none of the scored classes of {competition.name} ({', '.join(submitted)}) is in the list; add one"
        refuse(origins, "DATASETS.CLASSES", why)
    weights = config.loss_fn.weights
    if weights is not None and len(weights) != competition.num_classes:
        why = f"{len(weights)} weights for the {competition.num_classes} classes of {competition.name}"
        refuse(origins, "LOSS_FN.WEIGHTS", f"{why} ({', '.join(scored)}); give one per class, or null")
    if weights is not None and sum(weights) <= 0:
        refuse(origins, "LOSS_FN.WEIGHTS", "all weights are 0; at least one must be above 0")


def _check_losses(config: Config, plan: tuple[Phase, ...], origins: Mapping[str, str]) -> None:
    try:
        config_mix = parse_mix(config.loss_fn.mix)
    except UserError as error:
        refuse(origins, "LOSS_FN.MIX", str(error))
    changes = any(phase.loss and parse_mix(phase.loss) != config_mix for phase in plan)
    if config.solver.monitor == "valid_loss" and changes:
        # The validation loss is that of LOSS_FN.MIX in all phases. While another loss is minimised it may rise although
        # the scores rise: the best weights would then be those from before the change.
        why = "a phase changes the loss, but valid_loss is always that of LOSS_FN.MIX; set SOLVER.MONITOR: valid_dice"
        refuse(origins, "SOLVER.PLAN", f"{config.solver.plan}: {why}")


def _check_data(config: Config, origins: Mapping[str, str]) -> None:
    augmentation = config.datasets.augmentation
    low, high = augmentation.gaussian_noise.var_limit
    if low > high:
        key = "DATASETS.AUGMENTATION.GAUSSIAN_NOISE.VAR_LIMIT"
        refuse(origins, key, f"found [{low:g}, {high:g}], expected [smallest, largest]")
    batch, accumulate = config.dataloaders.train.batch_size, config.solver.accumulate
    if batch % accumulate:
        why = f"DATALOADERS.TRAIN.BATCH_SIZE {batch} cannot be split into {accumulate} equal micro-batches"
        refuse(origins, "SOLVER.ACCUMULATE", why)
    tile, key = augmentation.tile, "DATASETS.AUGMENTATION.TILE.SETS"
    if not tile.enable:
        return
    if not tile.sets:
        refuse(origins, key, "the list is empty; give rows of [image width, image height, columns, rows]")
    for width, height, _, _ in tile.sets:
        if width < tile.width or height < tile.height:
            why = f"a tile of {tile.width}x{tile.height} does not fit into an image of {width}x{height}"
            refuse(origins, key, f"{why}; change TILE.WIDTH, TILE.HEIGHT or that row")


def _check_ensemble(config: Config, competition: Competition, origins: Mapping[str, str]) -> None:
    members, weights = config.ensemble.members, config.ensemble.weights
    if members is None:
        if weights is not None or config.ensemble.method != "AP":
            refuse(origins, "ENSEMBLE.METHOD", "has no effect without ENSEMBLE.MEMBERS; give the members")
        if config.ensemble.stream:
            refuse(origins, "ENSEMBLE.STREAM", "true is for ensembles only; a single run needs its probability store")
        return
    if len(members) < 2:
        refuse(origins, "ENSEMBLE.MEMBERS", f"{len(members)} members; give two or more, or null")
    if len(set(members)) < len(members):
        twice = next(name for name in members if members.count(name) > 1)
        refuse(origins, "ENSEMBLE.MEMBERS", f"{twice} is given twice; to give it more weight use METHOD: WEIGHTED")
    if weights is not None and config.ensemble.method != "WEIGHTED":
        refuse(origins, "ENSEMBLE.WEIGHTS", f"METHOD {config.ensemble.method} has no weights; set METHOD: WEIGHTED")
    if config.decode.offsets == "fitted" and config.ensemble.method not in ("AP", "WEIGHTED"):
        refuse(
            origins,
            "DECODE.OFFSETS",
            f"fitted needs mean probabilities, which METHOD {config.ensemble.method} does not have; set METHOD: AP",
        )
    if isinstance(weights, tuple):
        _check_ensemble_weights(weights, len(members), competition, origins)
    for key, origin in origins.items():
        if origin.startswith("configs/base.yaml"):
            continue
        if origin == COMMAND_LINE and is_below(key, MEMBER_KEYS):
            refuse(origins, key, "differs between members and cannot be set for all; set it in a run of one member")
        if origin != COMMAND_LINE and not is_below(key, ENSEMBLE_KEYS):
            refuse(origins, key, "has no effect in an ensemble: its members have their own settings; remove it")


def _check_ensemble_weights(
    weights: tuple, num_members: int, competition: Competition, origins: Mapping[str, str]
) -> None:
    key = "ENSEMBLE.WEIGHTS"
    if len(weights) != num_members:
        refuse(origins, key, f"{len(weights)} weights for {num_members} members; give one per member, fitted, or null")
    rows = [row if isinstance(row, tuple) else (row,) for row in weights]
    num_classes = competition.num_classes
    if any(len(row) not in (1, num_classes) for row in rows) or len({len(row) for row in rows}) > 1:
        refuse(origins, key, f"expected one number per member, or {num_classes} numbers (one per class) per member")
    for column, values in enumerate(zip(*rows, strict=True)):
        if sum(values) <= 0:
            which = f"of class {competition.class_names[column]} " if len(rows[0]) > 1 else ""
            refuse(origins, key, f"all weights {which}are 0; at least one must be above 0")
