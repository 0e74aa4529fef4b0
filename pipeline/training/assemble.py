"""From a run's files to a `Training` (data, network, plan, what an earlier process left), and to what predicts.

In: training catalog, `split.csv`, tile store, `lr_sweep.json` when MAX_LR is auto, `last.ckpt` when there is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.load import Loaded, with_max_lr
from pipeline.config.loss_mix import parse_mix
from pipeline.config.members import member_command
from pipeline.config.plan import Phase
from pipeline.config.schema import pseudo_per_batch
from pipeline.data.loaders import (
    TIME_OUT_S,
    EpochSampler,
    available_workers,
    image_loader,
    rare_class_shares,
    train_batches,
    valid_batches,
)
from pipeline.data.order import distinct_frames, too_large
from pipeline.data.parts import PartSampler
from pipeline.data.positions import storage_ranks
from pipeline.data.remote import LOADER_TIME_OUT_S
from pipeline.data.sampler import PseudoSampler
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.paths import (
    BEST,
    CANDIDATES,
    CHECKPOINTS,
    CLOCK,
    EVENTS,
    HISTORY,
    LAST,
    MEMORY,
    NOT_FINITE,
    PLAN_CHANGES,
    PLAN_FILE,
    REPLACED,
    STEPS,
    SWEEP_FACTS,
    TIMINGS,
    TRACKER,
    shown,
)
from pipeline.task import Batch
from pipeline.training.all_data import settled_plan
from pipeline.training.checkpoint import Damaged, load_checkpoint, load_or_refuse
from pipeline.training.device import choose_device, choose_precision, make_reproducible
from pipeline.training.encoder import load_encoder, measured_scaling
from pipeline.training.finite import FiniteWatch
from pipeline.training.history import with_terms
from pipeline.training.inputs import image_facts, predicting_checkpoint, seed_of, split_rows, valid_folder
from pipeline.training.learner import Learner, build_learner, freeze, validated_weights
from pipeline.training.memory import micro_batches
from pipeline.training.ranks import group
from pipeline.training.resume import content_to_continue, course_of, lasting_key, plan_to_follow
from pipeline.training.scenes import Scenes, remove_all
from pipeline.training.state import TrainState
from pipeline.training.step import EpochSums
from pipeline.training.trainer import RunData, Training
from pipeline.training.transfer import load_previous
from pipeline.training.weights import load_weights

KEPT = (HISTORY, BEST, LAST)  # of a training that another one replaces


def open_data(run: Run) -> RunData:
    """Returns the data of a run; needs the stages `prepare` and `tile`."""
    task, loaded = run.task, run.loaded
    config = loaded.config
    train, options = task.train_data(run), config.dataloaders.train
    sampler = _sampler(loaded, train)
    own = _own_part(sampler, train, config.solver.accumulate)
    is_gpu = choose_device(config.runtime.device).type == "cuda"  # pinning memory opens a context on the GPU
    pins = options.pin_memory and is_gpu
    num_workers = -(-available_workers(options.num_workers, run.log) // group.count())
    is_remote = (train.labelled if loaded.has_pseudo_labels else train).store.is_remote
    time_out_s = LOADER_TIME_OUT_S if is_remote else TIME_OUT_S
    loader = image_loader(train, own, task.collate_train, num_workers, pins, log=run.log, time_out_s=time_out_s)
    if loaded.is_on_all_images:
        valid = validation = ()
    else:
        valid = task.valid_data(run, valid_folder(run), split_rows(run.paths, "valid"))
        options, part = config.dataloaders.valid, (group.rank(), group.count())
        pins = options.pin_memory and is_gpu
        num_workers = -(-available_workers(options.num_workers, run.log) // group.count())
        settings = (num_workers, pins, run.log, part, time_out_s)
        validation = image_loader(valid, options.batch_size, task.collate_valid, *settings)

    def batches_of(epoch: int, start_step: int, augment: bool, class_scores: Sequence[float]) -> Iterator[Batch]:
        if class_scores:
            train.set_class_scores(class_scores)
        batches = train_batches(loader, epoch, start_step, augment)
        if own is sampler:
            return batches
        sampler.begin(epoch, start_step, augment)  # whose keys are those of all ranks, for messages
        return (batch._replace(keys=keys) for batch, keys in zip(batches, sampler, strict=True))

    def validation_batches() -> Iterator[Batch | None]:
        most = max(group.objects_of_all(len(validation)))
        yield from valid_batches(validation)
        yield from [None] * (most - len(validation))

    return RunData(batches_of, validation_batches, len(valid), train.describe, len(sampler))


def _sampler(loaded: Loaded, train: Any) -> EpochSampler | PseudoSampler:
    """Returns the batches of training samples, with pseudo-labelled ones in each where there are some."""
    config, options = loaded.config, loaded.config.dataloaders.train
    per_batch, rate = pseudo_per_batch(config), config.datasets.sampling.rare_class_rate
    labelled = train.labelled if per_batch else train
    shares = rare_class_shares(labelled.class_presence(), rate, loaded.competition.class_names) if rate else None
    window = options.shuffle_window
    ranks = storage_ranks(labelled.store, labelled.positions) if window else None
    settings = (options.batch_size - per_batch, seed_of(loaded), options.shuffle, options.drop_last, shares, ranks)
    if options.drop_last and len(labelled) < settings[0]:
        unit = group.count() * config.solver.accumulate
        raise UserError(too_large(options.batch_size, len(labelled), unit, per_batch))
    sampler = EpochSampler(labelled, *settings, window)
    return PseudoSampler(sampler, train.pseudo, per_batch) if per_batch else sampler


def _own_part(
    sampler: EpochSampler | PseudoSampler, train: Any, accumulate: int
) -> EpochSampler | PseudoSampler | PartSampler:
    """Returns the batches that this process loads: of several ranks its part of each.

    All ranks load the whole batch where its samples depend on each other: blended ones, or frames of several sizes.
    """
    if group.count() == 1 or train.is_by_batch or len(distinct_frames(train.frames())) > 1:
        return sampler
    return PartSampler(sampler, group.rank(), group.count(), accumulate)


def plan_of(run: Run) -> tuple[Phase, ...]:
    """Returns the run's plan, with the sweep's suggestion where SOLVER.MAX_LR is auto, or as SOLVER.FROM settles it."""
    if run.loaded.is_on_all_images:
        return settled_plan(run.loaded, run.folders)
    if run.loaded.config.solver.max_lr != "auto":
        return run.loaded.plan
    return with_max_lr(run.loaded, json.loads((run.paths / SWEEP_FACTS).read_text(encoding="utf-8"))["max_lr"])


def _build_network(run: Run) -> nn.Module:
    """Returns the network of a run, with random weights, for its images as `prepare` measured them.

    A network with a scaling of its own keeps its mean and standard deviation.
    """
    network, facts = run.task.build_network(run.loaded), image_facts(run)
    if facts is not None:
        own, measured = getattr(network, "scaling", None), measured_scaling(facts, run.loaded.config.model.encoder)
        network.scaling = measured if own is None else own._replace(low=measured.low, high=measured.high)
    return network


def start_learner(run: Run) -> Learner:
    """Returns the learner at its start, from encoder weights or from EXPERIMENT.LOAD_PREV."""
    loaded = run.loaded
    torch.manual_seed(seed_of(loaded))  # the head's and a random encoder's first weights
    network = _build_network(run)
    if loaded.config.experiment.load_prev is None:
        load_encoder(network, loaded.config.model.encoder, run.folders.weights, run.log)
    else:
        load_previous(run, network)
    learner = build_learner(loaded.config, network)
    return _remembering(run, learner)


def _remembering(run: Run, learner: Learner) -> Learner:
    """Returns a learner that cuts batches as earlier processes of the run had to, and remembers if it has to again."""
    learner.micro = micro_batches(run.loaded.config, run.paths / MEMORY, learner.device, log=run.log)
    return learner


def predicting_content(run: Run) -> dict[str, Any]:
    """Returns the content of the checkpoint that a run predicts with: its best one, or what `average` chose.

    Raises:
        UserError: the run is not trained, or not averaged; with the command to type.
    """
    path, stage = predicting_checkpoint(run), "average" if run.loaded.is_averaged else "train"
    return load_or_refuse(path, f"{stage} it: {member_command(run.loaded, stage)}")


def load_network(run: Run, weights: Mapping[str, Tensor], origin: str) -> tuple[nn.Module, torch.device, torch.dtype]:
    """Returns a run's network with these weights on its device, the device, and the number format there.

    Args:
        origin: of the weights, for messages.

    Raises:
        UserError: the weights do not fit the network, or the device is not there.
    """
    solver = run.loaded.config.solver
    make_reproducible(solver.reproducible)  # as in training, whichever process predicts
    device = choose_device(run.loaded.config.runtime.device)
    network = _build_network(run)
    load_weights(network, weights, origin)
    return network.to(device), device, choose_precision(solver.precision, device)


def load_predictor(run: Run, content: dict[str, Any]) -> Any:
    """Returns the predictor of a run, with the validated weights of a checkpoint's content, on its device.

    Raises:
        UserError: see `load_network`.
    """
    origin = shown(predicting_checkpoint(run))
    return run.task.make_predictor(run.loaded, *load_network(run, validated_weights(content), origin))


def assemble(run: Run) -> Training:
    """Returns a run's training, new or as an earlier process left it."""
    loaded, log = run.loaded, run.log
    make_reproducible(loaded.config.solver.reproducible)
    data = open_data(run)
    plan = plan_of(run)
    refuse_long_warmup(loaded, plan, data.steps_per_epoch)
    content = content_to_continue(run, course_of(run, plan, data.steps_per_epoch))
    # What continues needs no weights to start from, which may be out of reach by now.
    task = run.task
    if content is None:
        learner = start_learner(run)
    else:
        learner = _remembering(run, build_learner(loaded.config, _build_network(run)))
    for phase in plan:
        freeze(learner.network, phase.freeze)  # a name without meaning is refused now, not at that phase
    learning = task.learning(run, learner.device)
    sums = EpochSums(learning, loss_terms(loaded, plan), learner.device)
    if content is None:
        if group.is_first():
            _set_aside(run)
        state = TrainState(lasting_key(run))
    else:
        state = restore(content, learner, sums)
        log(f"resuming at epoch {state.epoch}, step {state.step}")
    return Training(
        run=run,
        config=loaded.config,
        plan=plan_to_follow(content, plan),
        learner=learner,
        learning=learning,
        state=state,
        seed=seed_of(loaded),
        data=data,
        sums=sums,
        watch=FiniteWatch(lags=learner.device.type == "cuda"),
        scenes=Scenes(run, learning) if group.is_first() else None,
    )


def loss_terms(loaded: Loaded, plan: Sequence[Phase]) -> tuple[str, ...]:
    """Returns the names of the loss terms that validation and the phases of a plan use, in order of first use.

    That of an auxiliary head, which only training has, comes last.
    """
    mixes = [loaded.config.loss_fn.mix, *(phase.loss for phase in plan if phase.loss)]
    of_head = ["aux"] if loaded.config.model.aux_weight else []
    return tuple(dict.fromkeys([name for mix in mixes for name, _ in parse_mix(mix)] + of_head))


def refuse_long_warmup(loaded: Loaded, plan: Sequence[Phase], steps_per_epoch: int) -> None:
    """Refuses a plan whose learning rate would never reach MAX_LR; whether it does depends on the number of steps.

    Raises:
        UserError: the phase, its warm-up and its steps.
    """
    for phase in plan:
        num_steps = (phase.curve_epochs or phase.epochs) * steps_per_epoch
        if phase.warmup_steps > num_steps:
            raise UserError(
                f"SOLVER.PLAN {loaded.config.solver.plan}: phase {phase.name} warms up for {phase.warmup_steps} steps "
                f"but has only {num_steps} ({steps_per_epoch} per epoch); lower WARMUP_STEPS, or give WARMUP in epochs"
            )


def restore(content: dict[str, Any], learner: Learner, sums: EpochSums) -> TrainState:
    """Puts a checkpoint's content into learner and sums; returns the state that belongs to it.

    Where a changed plan has other terms of the loss, sums and history get those of today's plan.
    """
    learner.load_state_dict(content)
    state, terms = TrainState(**content["state"]), tuple(content["terms"])
    sums.load_state_dict(content["sums"], terms)
    if terms != sums.terms:
        state.history = [with_terms(row, terms, sums.terms, learner.config.loss_fn.mix) for row in state.history]
    return state


def _set_aside(run: Run) -> None:
    """Moves what an earlier training with other settings reached into `replaced/`, and removes what else it left.

    Nothing of it can be taken for this training's, and hours of work are not lost by an edited setting.
    """
    paths = run.paths
    kept = [paths / name for name in KEPT if (paths / name).is_file()]
    if any(_is_trained(path) for path in kept):
        folder = paths / REPLACED
        folder.mkdir(exist_ok=True)
        for path in kept:
            path.replace(folder / path.name)
        run.log(f"the earlier training is kept in {shown(folder)} until it is replaced again")
    kept_epochs = (paths / CANDIDATES).glob(CHECKPOINTS)
    for path in (*kept_epochs, *paths.folder.glob(CHECKPOINTS), *(paths / EVENTS).glob("events.out.*")):
        path.unlink()
    remove_all(run)
    for name in (HISTORY, TIMINGS, STEPS, NOT_FINITE, PLAN_CHANGES, CLOCK, PLAN_FILE, TRACKER):
        (paths / name).unlink(missing_ok=True)


def _is_trained(path: Path) -> bool:
    """Returns whether a file is a checkpoint from beyond the first epoch; anything less replaces nothing."""
    try:
        return path.suffix == ".ckpt" and load_checkpoint(path)["state"]["epoch"] > 0
    except Damaged:
        return False
