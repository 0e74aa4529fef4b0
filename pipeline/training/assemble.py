"""From a run's files to a `Training`: data, network, plan, and the state that an earlier process left.

In: `catalog.csv`, `split.csv`, the tile store, `lr_sweep.json` when MAX_LR is auto, `last.ckpt` when there is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.config.competition import mask_code
from pipeline.config.load import Loaded, with_max_lr
from pipeline.config.plan import Phase
from pipeline.data.competition import find_folder
from pipeline.data.dataset import TrainDataset, ValidDataset, class_presence
from pipeline.data.loaders import train_batches, train_loader, valid_batches, valid_loader
from pipeline.data.sampler import EpochSampler, rare_class_shares
from pipeline.data.store import open_store
from pipeline.errors import UserError
from pipeline.model.freeze import freeze
from pipeline.paths import RunPaths, shown
from pipeline.stopping import Stop
from pipeline.training.checkpoint import Damaged, load_checkpoint, load_newest, load_or_refuse, mend_best
from pipeline.training.device import choose_device, make_reproducible
from pipeline.training.finite import FiniteWatch
from pipeline.training.inputs import loss_classes, num_outputs, scored_classes, seed_of, split_rows, tile_store
from pipeline.training.learner import Learner, build_learner
from pipeline.training.state import TrainState
from pipeline.training.step import EpochSums
from pipeline.training.trainer import Training

KEPT = ("history.csv", "best.ckpt", "last.ckpt")  # of a training that another one replaces


@dataclass(frozen=True)
class RunData:
    """Training and validation data of a run, ready to be iterated."""

    train: TrainDataset
    valid: ValidDataset
    sampler: EpochSampler
    train_batches: Callable[[int, int, bool, list[float]], Iterator]
    valid_batches: Callable[[], Iterator]


def open_data(loaded: Loaded, paths: RunPaths, say: Callable[[str], None] = print) -> RunData:
    """Returns the data of a run; needs the stages `prepare` and `tile`."""
    config, competition = loaded.config, loaded.competition
    datasets, loaders = config.datasets, config.dataloaders
    store = open_store(tile_store(paths))
    train_ids = split_rows(paths, "train")["id"].tolist()
    classes = competition.class_names
    train = TrainDataset(store, train_ids, datasets.augmentation, seed_of(loaded), classes, datasets.padding)
    rate = datasets.sampling.rare_class_rate
    shares = rare_class_shares(class_presence(store, train.places, len(classes)), rate, classes) if rate else None
    options = loaders.train
    sampler = EpochSampler(train, options.batch_size, seed_of(loaded), options.shuffle, options.drop_last, shares)
    folder = find_folder(competition, datasets.directory)
    valid = ValidDataset(folder, split_rows(paths, "valid"), mask_code(competition), datasets.padding)
    is_gpu = choose_device(config.runtime.device).type == "cuda"  # pinning memory opens a context on the GPU
    loader = train_loader(train, sampler, options.num_workers, options.pin_memory and is_gpu, say=say)
    options = loaders.valid
    judge = valid_loader(valid, options.batch_size, options.num_workers, options.pin_memory and is_gpu, say=say)

    def batches_of(epoch: int, start_step: int, augment: bool, class_dice: list[float]) -> Iterator:
        if class_dice:
            train.set_class_dice(class_dice)
        return train_batches(loader, epoch, start_step, augment)

    return RunData(train, valid, sampler, batches_of, lambda: valid_batches(judge))


def plan_of(loaded: Loaded, paths: RunPaths) -> tuple[Phase, ...]:
    """Returns the run's plan, with the sweep's suggestion where SOLVER.MAX_LR is auto."""
    if loaded.config.solver.max_lr != "auto":
        return loaded.plan
    return with_max_lr(loaded, json.loads((paths / "lr_sweep.json").read_text())["max_lr"])


def start_learner(loaded: Loaded, find_run: Callable[[str], Path]) -> Learner:
    """Returns the learner at its start, from encoder weights or from EXPERIMENT.LOAD_PREV.

    Args:
        find_run: a run's or config's name, or a file, to the checkpoint meant.
    """
    torch.manual_seed(seed_of(loaded))  # the head's and a random encoder's first weights
    name = loaded.config.experiment.load_prev
    if name is None:
        return build_learner(loaded.config, num_outputs(loaded))
    path = find_run(name)
    previous = load_or_refuse(path, f"EXPERIMENT.LOAD_PREV needs it; train it first: ./run.sh {path.parent.name} train")
    origin = f"EXPERIMENT.LOAD_PREV {name}"
    return build_learner(loaded.config, num_outputs(loaded), previous=previous, origin=origin)


def assemble(
    loaded: Loaded, paths: RunPaths, stop: Stop, key: str, find_run: Callable[[str], Path], say: Callable[[str], None]
) -> Training:
    """Returns a training, new or as an earlier process left it.

    Args:
        key: hash of all that the result depends on; a checkpoint with another key is not continued.
    """
    make_reproducible(loaded.config.solver.reproducible)
    data = open_data(loaded, paths, say)
    plan = plan_of(loaded, paths)
    refuse_long_warmup(loaded, plan, len(data.sampler))
    content = content_to_continue(paths, key, say)
    # What continues needs no weights to start from, which may be out of reach by now.
    learner = (
        start_learner(loaded, find_run)
        if content is None
        else build_learner(loaded.config, num_outputs(loaded), with_weights=False)
    )
    for phase in plan:
        freeze(learner.network, phase.freeze)  # a name without meaning is refused now, not at that phase
    sums = EpochSums(loaded.competition.num_classes, learner.device)
    if content is None:
        _set_aside(paths, say)
        state = TrainState(key)
    else:
        state = restore(content, learner, sums)
        say(f"going on at epoch {state.epoch}, step {state.step}")
    return Training(
        config=loaded.config,
        plan=plan,
        learner=learner,
        state=state,
        paths=paths,
        stop=stop,
        seed=seed_of(loaded),
        classes=loaded.competition.class_names,
        scored=scored_classes(loaded),
        loss_classes=loss_classes(loaded),
        num_outputs=num_outputs(loaded),
        train_batches=data.train_batches,
        valid_batches=data.valid_batches,
        num_valid=len(data.valid),
        describe=lambda sample_key: describe_sample(data.train, sample_key),
        steps_per_epoch=len(data.sampler),
        sums=sums,
        watch=FiniteWatch(lags=learner.device.type == "cuda"),
        say=say,
    )


def refuse_long_warmup(loaded: Loaded, plan: Sequence[Phase], steps_per_epoch: int) -> None:
    """Refuses a plan whose learning rate would never come to MAX_LR, which only the number of steps tells.

    Raises:
        UserError: the phase, its warm-up and its steps.
    """
    for phase in plan:
        num_steps = (phase.curve_epochs or phase.epochs) * steps_per_epoch
        if phase.warmup_steps > num_steps:
            raise UserError(
                f"SOLVER.PLAN {loaded.config.solver.plan}: phase {phase.name} warms up for {phase.warmup_steps} steps, "
                f"but has {num_steps} (an epoch has {steps_per_epoch}); fewer WARMUP_STEPS, or WARMUP in epochs"
            )


def content_to_continue(paths: RunPaths, key: str, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Returns the checkpoint content from which a training goes on, with its best checkpoint in place, or None."""
    newest = load_newest(paths / "last.ckpt", key, say)
    if newest is None or not mend_best(paths / "best.ckpt", newest[0]["state"], newest[1], say):
        return None
    return newest[0]


def restore(content: dict[str, Any], learner: Learner, sums: EpochSums) -> TrainState:
    """Puts a checkpoint's content into learner and sums; returns the state that belongs to it."""
    learner.load_state_dict(content)
    sums.load_state_dict(content["sums"])
    return TrainState(**content["state"])


def describe_sample(dataset: TrainDataset, key: Any) -> str:
    """Returns which image and tile a sample key stands for, e.g. `000001_001 640x352+320+0 of 1280x720, epoch 3`."""
    place = dataset.places[key.index]
    box = place.box
    scale = f" of {place.scale[0]}x{place.scale[1]}" if place.scale else ""
    return f"{place.image_id} {box.width}x{box.height}+{box.x}+{box.y}{scale}, epoch {key.epoch}"


def _set_aside(paths: RunPaths, say: Callable[[str], None]) -> None:
    """Moves what an earlier training with other settings reached into `replaced/`, and removes what else it left.

    Nothing of it can be taken for this training's, and hours of work are not lost by an edited setting.
    """
    kept = [paths / name for name in KEPT if (paths / name).is_file()]
    if any(_is_trained(path) for path in kept):
        folder = paths / "replaced"
        folder.mkdir(exist_ok=True)
        for path in kept:
            path.replace(folder / path.name)
        say(f"what was trained before is kept in {shown(folder)}, until the next time")
    for path in (*paths.folder.glob("*.ckpt"), *paths.events.glob("events.out.*")):
        path.unlink()
    for name in ("history.csv", "timings.csv", "not_finite.json"):
        (paths / name).unlink(missing_ok=True)


def _is_trained(path: Path) -> bool:
    """Returns whether a file is a checkpoint from beyond the first epoch; anything less replaces nothing."""
    try:
        return path.suffix == ".ckpt" and load_checkpoint(path)["state"]["epoch"] > 0
    except Damaged:
        return False
