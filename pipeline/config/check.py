"""Refuses settings that are valid one by one but contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain

from pipeline.config.architectures import why_encoder_does_not_fit, why_not_named
from pipeline.config.check_augmentation import augmentation_problems
from pipeline.config.check_box_settings import OF_MEMBERS, box_problems
from pipeline.config.check_pseudo import pseudo_problems
from pipeline.config.check_ranks import rank_problems
from pipeline.config.competition import OF_BOXES, OF_VOLUMES, Competition
from pipeline.config.component_rules import parse_components
from pipeline.config.loss_mix import parse_mix, term_parts
from pipeline.config.optimizers import UNEVEN, why_refused
from pipeline.config.plain_yaml import COMMAND_LINE
from pipeline.config.plan import Phase, given_mixes
from pipeline.config.schema import STRIDE, TTA_SCALES, Config, Predict
from pipeline.config.tree import Problems, first_repeated, refuse
from pipeline.errors import UserError
from pipeline.wording import did_you_mean, is_below

NAME_PART = re.compile(r"[A-Za-z0-9_.+-]+")
# The keys that an ensemble's file may set. On the command line other keys are passed on to its members (`load.py`),
# except those that tell the members apart.
ENSEMBLE_KEYS = ("ENSEMBLE", "DECODE", "SUBMIT", "RUNTIME", "DATASETS.COMPETITION", "DATASETS.DIRECTORY")
ENSEMBLE_KEYS += ("EXPERIMENT.PREFIX", "EXPERIMENT.SUFFIX", "MODEL.ABBR", "MODEL.ENCODER.ABBR")
MEMBER_KEYS = ("EXPERIMENT", "MODEL", "DATASETS.SPLIT_INDEX")
FOLDED = ("kfold", "stratified", "sequence")  # the kinds of split that have a number of folds


def check_config(config: Config, competition: Competition, plan: tuple[Phase, ...], origins: Mapping[str, str]) -> None:
    """Refuses a config that contradicts itself, its competition or its training plan.

    Raises:
        UserError: origin, key, what was found and what was expected.
    """
    of_data = (_classes(config, competition), _losses(config, competition, plan), _data(config, competition))
    of_data += (augmentation_problems(config), pseudo_problems(config, competition, plan))
    of_data += (rank_problems(config), box_problems(config, competition, plan))
    of_members = (
        _split(config),
        _all_data(config),
        _average(config, plan),
        _report(config, plan),
        _monitor(config, competition),
        _ensemble(config, competition, origins),
        _decode(config, competition),
    )
    of_names = (_names(config), _model(config, competition))
    for key, why in chain(*of_names, *of_data, *of_members, _window_and_rates(config)):
        refuse(origins, key, why)


def _names(config: Config) -> Problems:
    for key, part in (
        ("EXPERIMENT.PREFIX", config.experiment.prefix),
        ("MODEL.ABBR", config.model.abbr),
        ("MODEL.ENCODER.ABBR", config.model.encoder.abbr),
        ("EXPERIMENT.SUFFIX", config.experiment.suffix),
    ):
        if not NAME_PART.fullmatch(part):
            yield key, f"{part!r} is a part of the run name; expected letters, digits and . _ + -"
    if config.experiment.load_part != "all" and config.experiment.load_prev is None:
        yield (
            "EXPERIMENT.LOAD_PART",
            "has an effect with EXPERIMENT.LOAD_PREV only; name a run there, or set all",
        )


def _model(config: Config, competition: Competition) -> Problems:
    model, encoder = config.model, config.model.encoder
    if config.ensemble.members is not None:  # which has no network of its own
        return
    if why := why_not_named(model.name, competition.has_boxes):
        yield "MODEL.NAME", why
    if why := why_encoder_does_not_fit(model.name, encoder.name, encoder.weights):
        yield "MODEL.ENCODER.NAME", why
    if encoder.image_size is not None and any(side % STRIDE for side in encoder.image_size):
        found = f"{list(encoder.image_size)} must be multiples of {STRIDE}"
        yield "MODEL.ENCODER.IMAGE_SIZE", f"{found}, for example {_near(encoder.image_size)}"


def _near(size: tuple[int, int]) -> list[int]:
    return [max(STRIDE, round(side / STRIDE) * STRIDE) for side in size]


def _classes(config: Config, competition: Competition) -> Problems:
    scored = competition.class_names
    for key, chosen in (
        ("DATASETS.CLASSES", config.datasets.classes),
        ("DATASETS.AUGMENTATION.COPY_PASTE.CLASSES", config.datasets.augmentation.copy_paste.classes),
    ):
        if chosen == "all":
            continue
        if not chosen:
            yield key, "the list is empty; give all, or a list of names"
        if len(set(chosen)) < len(chosen):
            yield key, "a class is given twice; keep one"
        for name in chosen:
            if name not in scored:
                hint = did_you_mean(name, scored, f"its classes are {', '.join(scored)}")
                yield key, f"{competition.name} has no class {name}; {hint}"
    submitted = [scored[index] for index in competition.scored_indices]
    if not set(submitted) & set(scored if config.datasets.classes == "all" else config.datasets.classes):
        found = f"none of the scored classes of {competition.name} ({', '.join(submitted)}) is in the list"
        yield "DATASETS.CLASSES", f"{found}; add one"
    weights = config.loss_fn.weights
    if isinstance(weights, tuple) and len(weights) != competition.num_classes:
        found = f"{len(weights)} weights for the {competition.num_classes} classes of {competition.name}"
        yield "LOSS_FN.WEIGHTS", f"{found} ({', '.join(scored)}); give one per class, or null"
    if isinstance(weights, tuple) and sum(weights) <= 0:
        yield "LOSS_FN.WEIGHTS", "all weights are 0; at least one must be above 0"


def _losses(config: Config, competition: Competition, plan: tuple[Phase, ...]) -> Problems:
    try:
        config_mix = parse_mix(config.loss_fn.mix)
    except UserError as error:
        yield "LOSS_FN.MIX", str(error)
        return
    for given in given_mixes(config, plan):
        names = [term_parts(name)[0] for name, _ in parse_mix(given.mix)]
        if "bitempered" in names and competition.is_multilabel:
            why = f"{given.where}bitempered needs one class per pixel, but LABELS is multilabel"
            yield given.key, f"{why}; write bce or focal instead"
    changes = any(phase.loss and parse_mix(phase.loss) != config_mix for phase in plan)
    if config.solver.monitor == "valid_loss" and changes:
        # The validation loss is that of LOSS_FN.MIX in all phases. While another loss is minimised it may rise although
        # the scores rise: the best weights would then be those from before the change.
        score = "valid_ap" if competition.has_boxes else "valid_dice"
        why = f"a phase changes the loss, but valid_loss is always that of LOSS_FN.MIX; set SOLVER.MONITOR: {score}"
        yield "SOLVER.PLAN", f"{config.solver.plan}: {why}"


def _monitor(config: Config, competition: Competition) -> Problems:
    score = config.solver.monitor.removeprefix("valid_")
    if score == "pixel_accuracy" and competition.is_multilabel:
        yield "SOLVER.MONITOR", "pixel_accuracy is for one class per pixel, and LABELS is multilabel; set valid_dice"
    if config.solver.monitor != "valid_loss" and competition.has_boxes != (score in OF_BOXES):
        what, own = ("boxes", "valid_ap") if competition.has_boxes else ("masks", "valid_dice")
        yield (
            "SOLVER.MONITOR",
            f"{competition.name} has {what}, but {score} is not a score for {what}; set {own} or valid_loss",
        )
    if score in OF_VOLUMES:
        why = f"{score} needs whole volumes, but training validates single images; set valid_{OF_VOLUMES[score]}"
        yield "SOLVER.MONITOR", why


def _data(config: Config, competition: Competition) -> Problems:
    if config.datasets.padding == "class" and competition.is_multilabel:
        yield "DATASETS.PADDING", "class needs one class per pixel, but LABELS is multilabel; write ignore or reflect"
    batch, accumulate = config.dataloaders.train.batch_size, config.solver.accumulate
    if batch % accumulate:
        found = f"DATALOADERS.TRAIN.BATCH_SIZE {batch} cannot be split into {accumulate} equal micro-batches"
        yield "SOLVER.ACCUMULATE", found


def _split(config: Config) -> Problems:
    datasets, folds = config.datasets, config.datasets.split.folds
    if folds is None or config.ensemble.members is not None:
        return
    by, index = datasets.split.by, datasets.split_index
    if by not in FOLDED:
        found = f"{folds} has an effect with SPLIT.BY {', '.join(FOLDED[:-1])} and {FOLDED[-1]} only, found {by}"
        yield "DATASETS.SPLIT.FOLDS", f"{found}; set null, or another SPLIT.BY"
    elif by == "sequence" and index >= folds:
        why = f"{index}, but SPLIT.FOLDS divides the sequences into {folds} folds"
        yield "DATASETS.SPLIT_INDEX", f"{why}; give 0 to {folds - 1}"


def _all_data(config: Config) -> Problems:
    """Training on all images: what needs a validation is refused."""
    name, by = config.solver.from_, config.datasets.split.by
    if config.ensemble.members is not None:
        return
    if by != "none":
        if name is not None:
            why = f"has an effect with DATASETS.SPLIT.BY none only, found {by}"
            yield "SOLVER.FROM", f"{why}; remove it, or set DATASETS.SPLIT.BY: none"
        return
    if name is None:
        why = "none leaves no validation that says when to stop; name a run that had one, such as SOLVER.FROM: ExpBAA"
        yield "DATASETS.SPLIT.BY", why
    if config.loss_fn.adaptive.enable:
        yield "LOSS_FN.ADAPTIVE.ENABLE", "true needs the validation Dice, which SPLIT.BY none does not have; set false"
    paste = config.datasets.augmentation.copy_paste
    if paste.enable and paste.variant == "weighted":
        why = "weighted needs the validation Dice, which SPLIT.BY none does not have; set random"
        yield "DATASETS.AUGMENTATION.COPY_PASTE.VARIANT", why


def _average(config: Config, plan: tuple[Phase, ...]) -> Problems:
    average = config.average
    if config.ensemble.members is not None:
        return
    if average.method == "none":
        if average.runs is not None:
            yield "AVERAGE.RUNS", "has an effect with AVERAGE.METHOD greedy only; set METHOD: greedy, or RUNS: null"
        return
    if config.datasets.split.by == "none":
        why = f"{average.method} must prove its gain on validation images, which SPLIT.BY none does not have"
        yield "AVERAGE.METHOD", f"{why}; set none, or average in the run that SOLVER.FROM names"
    if average.method == "greedy":
        if not average.runs:
            yield "AVERAGE.RUNS", "greedy needs other runs of the same network; name them, such as [ExpAAB, ExpAAC]"
        elif (twice := first_repeated(average.runs)) is not None:
            yield "AVERAGE.RUNS", f"{twice} is given twice; name it once"
        return
    if average.runs is not None:
        why = f"METHOD {average.method} averages epochs of this run alone"
        yield "AVERAGE.RUNS", f"{why}; set METHOD: greedy, or RUNS: null"
    num_epochs = sum(phase.epochs for phase in plan)
    if average.count > num_epochs:
        found = f"{average.count}, but SOLVER.PLAN {config.solver.plan} has {num_epochs} epochs at most"
        fewer = f"give {num_epochs} or fewer, or " if num_epochs > 1 else ""  # a mean has two or more
        yield "AVERAGE.COUNT", f"{found}; {fewer}set METHOD: none"


def _report(config: Config, plan: tuple[Phase, ...]) -> Problems:
    epochs, most = config.report.epochs, sum(phase.epochs for phase in plan)
    if not epochs or config.ensemble.members is not None:
        return
    if config.datasets.split.by == "none":
        yield "REPORT.EPOCHS", "shows validation images, which SPLIT.BY none does not have; set []"
    if (twice := first_repeated(epochs)) is not None:
        yield "REPORT.EPOCHS", f"{twice} is given twice; keep one"
    if max(epochs) > most:
        why = f"{max(epochs)} is never reached: the plan ends after epoch {most} at the latest"
        yield "REPORT.EPOCHS", f"{why}; name epochs from 0 to {most}"


def _decode(config: Config, competition: Competition) -> Problems:
    if config.decode.objects == "fitted" and not competition.has_objects:
        yield "DECODE.OBJECTS", f"fitted needs OBJECTS, which {competition.name} does not have; set none"
    if config.decode.components not in ("none", "fitted"):
        try:
            parse_components(config.decode.components, competition.class_names, competition.scored_indices)
        except UserError as error:
            yield "DECODE.COMPONENTS", str(error)


def _ensemble(config: Config, competition: Competition, origins: Mapping[str, str]) -> Problems:
    members, weights, method = config.ensemble.members, config.ensemble.weights, config.ensemble.method
    if members is None:
        if weights is not None or method != "AP":
            yield "ENSEMBLE.METHOD", "has no effect without ENSEMBLE.MEMBERS; give the members"
        if config.ensemble.stream:
            yield "ENSEMBLE.STREAM", "true is for ensembles only; a single run needs its probability store"
        return
    if config.ensemble.stream and config.submit.time_limit_hours is not None:
        why = "true predicts image by image, but SUBMIT.TIME_LIMIT_HOURS member by member"
        yield "ENSEMBLE.STREAM", f"{why}; remove one of the two"
    if len(members) < 2:
        yield "ENSEMBLE.MEMBERS", f"{len(members)} members; give two or more, or null"
    if (twice := first_repeated(members)) is not None:
        yield "ENSEMBLE.MEMBERS", f"{twice} is given twice; to give it more weight use METHOD: WEIGHTED"
    if weights is not None and method not in ("WEIGHTED", *OF_MEMBERS):
        yield "ENSEMBLE.WEIGHTS", f"METHOD {method} has no weights; set METHOD: WEIGHTED"
    if config.decode.offsets == "fitted" and method not in ("AP", "WEIGHTED"):
        found = f"fitted needs mean probabilities, which METHOD {method} does not have"
        yield "DECODE.OFFSETS", f"{found}; set ENSEMBLE.METHOD: AP"
    if isinstance(weights, tuple):
        for why in _ensemble_weights(weights, len(members), competition):
            yield "ENSEMBLE.WEIGHTS", why
    for key, origin in origins.items():
        if origin == COMMAND_LINE and is_below(key, MEMBER_KEYS):
            yield key, "differs between members and cannot be set for all; set it in a run of one member"
        elif not origin.startswith(("configs/base.yaml", COMMAND_LINE)) and not is_below(key, ENSEMBLE_KEYS):
            yield key, "has no effect in an ensemble: its members have their own settings; remove it"


def _ensemble_weights(weights: tuple, num_members: int, competition: Competition) -> Iterator[str]:
    if len(weights) != num_members:
        yield f"{len(weights)} weights for {num_members} members; give one per member, fitted, or null"
    rows = [row if isinstance(row, tuple) else (row,) for row in weights]
    num_classes = competition.num_classes
    if any(len(row) not in (1, num_classes) for row in rows) or len({len(row) for row in rows}) > 1:
        yield f"expected one number per member, or {num_classes} numbers (one per class) per member"
    for column, values in enumerate(zip(*rows, strict=True)):
        if sum(values) <= 0:
            which = f"of class {competition.class_names[column]} " if len(rows[0]) > 1 else ""
            yield f"all weights {which}are 0; at least one must be above 0"


def _scales(predict: Predict) -> Problems:
    scales, weights = predict.scales, predict.scale_weights
    if scales is not None and predict.tta == "scales":
        why = f"TTA: scales already means SCALES: {list(TTA_SCALES)} without flips; set SCALES: null, or TTA: none"
        yield "PREDICT.SCALES", why
    if scales is not None and (not scales or len(set(scales)) < len(scales)):
        yield "PREDICT.SCALES", f"found {list(scales)}, expected different factors such as [1.0, 1.5], or null"
    if weights is not None and len(weights) != len(predict.sizes):
        found = f"{len(weights)} weights for the scales {', '.join(f'{scale:g}' for scale in predict.sizes)}"
        yield "PREDICT.SCALE_WEIGHTS", f"{found}; give one per scale, or null"


def _window_and_rates(config: Config) -> Problems:
    yield from _scales(config.predict)
    window, sweep, solver = config.predict.window, config.sweep, config.solver
    if any(side % STRIDE for side in window):
        yield "PREDICT.WINDOW", f"{list(window)} must be multiples of {STRIDE}, for example {_near(window)}"
    if sweep.end_lr <= sweep.start_lr:
        yield "SWEEP.END_LR", f"{sweep.end_lr:g} is not above SWEEP.START_LR {sweep.start_lr:g}"
    suggested = "auto is the suggestion of the LR sweep, but"
    if solver.max_lr == "auto" and not sweep.enable and solver.from_ is None:
        yield "SOLVER.MAX_LR", f"{suggested} SWEEP.ENABLE is false; give a number"
    name = solver.optimizer.name
    if why := why_refused(name, solver.optimizer.weight_decay):
        yield "SOLVER.OPTIMIZER.NAME", why
    if solver.checkpoint_encoder and solver.compile:
        yield "SOLVER.CHECKPOINT_ENCODER", "true is not for compiled networks; set SOLVER.COMPILE: false"
    if solver.max_lr == "auto" and sweep.optimizer == "SGD" and name != "SGD":
        why = f"{suggested} a rate for plain SGD does not suit {name}"
        yield "SOLVER.MAX_LR", f"{why}; give a number" + ("" if name in UNEVEN else ", or SWEEP.OPTIMIZER: solver")
    if solver.max_lr == "auto" and name in UNEVEN:
        yield "SOLVER.MAX_LR", f"{suggested} the steps of {name} keep changing at a constant rate; give a number"
