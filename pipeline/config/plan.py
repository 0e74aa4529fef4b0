"""A training plan as data: phases, and the learning-rate curve of each.

In: a file in `configs/plans/`, and the SOLVER keys that its numbers may name. Out: a tuple of `Phase`, and
`learning_rate`, a pure function of phase and step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import yaml

from pipeline.config.loss_mix import parse_mix
from pipeline.config.plain_yaml import NULLS, compose_file, origin_of, quote
from pipeline.config.schema import Config, Count, CountOrZero, NotNegative, Positive, Solver
from pipeline.config.tree import Leaf, Tree, build, mapping_tree
from pipeline.errors import UserError
from pipeline.wording import did_you_mean

EXAMPLE = "{NAME: flat, EPOCHS: 3, LR: flat}"

# A cycle starts at MAX_LR / 25 and rises for 30 % of its steps: the defaults of fastai and of torch's OneCycleLR.
CYCLE_START_SHARE = 1 / 25
CYCLE_RISE_SHARE = 0.3

# Keys of a phase whose value may be a number or the name of a SOLVER key.
NUMBER_KEYS = (
    *("EPOCHS", "PATIENCE", "MAX_LR", "MIN_LR", "POWER"),
    *("WARMUP", "WARMUP_STEPS", "CURVE_EPOCHS", "CURVE_START", "AFTER"),
)


@dataclass(frozen=True)
class Phase:
    """A part of the training plan: epochs with the same loss, frozen parts and learning-rate curve.

    In a plan's file a phase may have AFTER in place of EPOCHS: the phase before ends after that epoch of the plan, and
    this one goes on in its stead: with the rest of its epochs and of its curve, and all that it does not set itself.
    """

    name: str
    epochs: Count
    lr: Literal["flat", "cosine", "one_cycle", "poly", "linear"]
    max_lr: Positive
    min_lr: NotNegative
    patience: Count | None = None  # the phase ends after so many epochs without a better score
    start_from: Literal["last", "best"] = "last"  # the epoch whose weights and optimizer state to start with
    warmup: NotNegative = 0.0  # epochs of linear warm-up at the beginning of the curve
    warmup_steps: CountOrZero = 0  # the same in steps
    power: Positive = 0.9
    # Length of the curve, warm-up included; None: that of the phase. It is longer where the phase is a part of a curve,
    # e.g. of a polynomial decay over 60 epochs whose power changes at epoch 40.
    curve_epochs: Count | None = None
    curve_start: NotNegative = 0.0  # epochs of the curve before this phase
    freeze: tuple[str, ...] = ()  # what is not trained: `encoder`, `encoder.layer1`, `batch_norm` (with statistics)
    loss: str | None = None  # a loss mix in place of LOSS_FN.MIX
    augment: bool = True


class GivenMix(NamedTuple):
    """A loss mix, and how messages name where it is given."""

    key: str  # the key of the config: that of the mix, or of the plan that has it
    mix: str
    where: str  # "" or the phase of the plan
    part: str  # "" or the key of the phase, for what a message proposes


def given_mixes(config: Config, plan: tuple[Phase, ...]) -> Iterator[GivenMix]:
    """Yields every loss mix by which a config trains: its own, and those of phases that have another."""
    yield GivenMix("LOSS_FN.MIX", config.loss_fn.mix, "", "")
    for phase in plan:
        if phase.loss:
            yield GivenMix("SOLVER.PLAN", phase.loss, f"{config.solver.plan}, phase {phase.name}: ", "LOSS: ")


def learning_rate(phase: Phase, step: int, steps_per_epoch: int) -> float:
    """Returns the learning rate of one optimizer step; `step` is 0-based, from the beginning of the phase.

    Warm-up counts step + 1, so that the rate of the first step is not zero; the curve begins after the warm-up.

    >>> phase = Phase("anneal", epochs=2, lr="cosine", max_lr=1.0, min_lr=0.0)
    >>> [round(learning_rate(phase, step, 2), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    curve_step = phase.curve_start * steps_per_epoch + step
    warmup_steps = phase.warmup_steps or phase.warmup * steps_per_epoch
    if curve_step < warmup_steps:
        return phase.max_lr * min(1.0, (curve_step + 1) / warmup_steps)
    total = (phase.curve_epochs or phase.epochs) * steps_per_epoch - warmup_steps
    return _curve(phase, min((curve_step - warmup_steps) / max(total, 1), 1.0))


def _curve(phase: Phase, position: float) -> float:
    """Returns the rate at `position` in [0, 1] of the phase's curve."""
    high, low = phase.max_lr, phase.min_lr
    if phase.lr == "flat":
        return high
    if phase.lr in ("linear", "poly"):
        return low + (high - low) * (1 - position) ** (phase.power if phase.lr == "poly" else 1)
    if phase.lr == "cosine":
        return _cosine(high, low, position)
    if position < CYCLE_RISE_SHARE:
        return _cosine(high * CYCLE_START_SHARE, high, position / CYCLE_RISE_SHARE)
    return _cosine(high, low, (position - CYCLE_RISE_SHARE) / (1 - CYCLE_RISE_SHARE))


def _cosine(start: float, end: float, position: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * position)) / 2


def load_plan(path: Path, shown: str, solver: Solver, max_lr: float, origins: Mapping[str, str]) -> tuple[Phase, ...]:
    """Returns the phases of a plan file; names of SOLVER keys are replaced by their values.

    `max_lr` is the value of SOLVER.MAX_LR, a number also where the config has `auto`; `origins` says where each key is.

    Raises:
        UserError: the file is not a list of phases, or a phase is invalid; with file and line.
    """
    root = compose_file(path, shown)
    if not isinstance(root, yaml.SequenceNode) or not root.value:
        raise UserError(f"{shown}: expected a list of phases, one per line: - {EXAMPLE}")
    keys = {name.upper(): value for name, value in vars(solver).items()} | {"MAX_LR": max_lr}
    numbers = {key: repr(value) for key, value in keys.items() if type(value) in (int, float)}
    phases: list[Phase] = []
    tree = Tree()
    for node in root.value:
        own = _read_phase(node, shown, numbers, origins)
        if "AFTER" in own:
            phases, own = _cut(phases, tree, own)
        for key in ("MAX_LR", "MIN_LR"):
            own.setdefault(key, _number(key, own.origin, numbers, origins))
        tree, phase = own, build(own, Phase)
        _check_phase(phase, phases, f"{origin_of(shown, node)}: phase {phase.name}")
        phases.append(phase)
    return tuple(phases)


def _read_phase(node: yaml.Node, shown: str, numbers: Mapping[str, str], origins: Mapping[str, str]) -> Tree:
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{origin_of(shown, node)}: found {quote(node)}, expected a phase such as {EXAMPLE}")
    tree = mapping_tree(node, shown)
    for key, value in tree.items():
        word = value.node.value if isinstance(value, Leaf) and isinstance(value.node, yaml.ScalarNode) else ""
        if key in NUMBER_KEYS and word in numbers:
            tree[key] = _number(word, value.origin, numbers, origins)
        elif key in NUMBER_KEYS and word not in NULLS and word.replace("_", "").isalpha():
            hint = did_you_mean(word, numbers, f"the numbers are {', '.join(numbers)}")
            raise UserError(f"{value.origin}: {key}: found {word}, expected a number or a SOLVER key; {hint}")
    return tree


def _number(key: str, origin: str, numbers: Mapping[str, str], origins: Mapping[str, str]) -> Leaf:
    return Leaf(yaml.ScalarNode("", numbers[key]), f"{origin} (SOLVER.{key} of {origins[f'SOLVER.{key}']})")


@dataclass(frozen=True)
class _Cut:
    after: Count


def _cut(phases: list[Phase], before: Tree, own: Tree) -> tuple[list[Phase], Tree]:
    """Returns the phases with the last one ending where AFTER says, and the keys of the one that goes on from there.

    That one goes on with the rest of its epochs, on the rest of its curve, with what it does not set itself.

    Args:
        before: keys of the last phase.
        own: keys of the one with AFTER.
    """
    where = own["AFTER"].origin
    after = build(Tree({"AFTER": own["AFTER"]}, own.origin), _Cut).after
    if given := [key for key in ("EPOCHS", "PATIENCE", "CURVE_EPOCHS", "CURVE_START") if key in own]:
        raise UserError(f"{where}: AFTER takes the rest of the phase before; remove {given[0]}")
    if not phases:
        raise UserError(f"{where}: AFTER needs a phase before it, which ends there; give EPOCHS")
    if tired := [phase.name for phase in phases if phase.patience is not None]:
        why = f"phase {tired[0]} may end earlier by PATIENCE, so nobody knows which epoch that is"
        raise UserError(f"{where}: AFTER {after}: {why}; remove PATIENCE, or give EPOCHS")
    last, end = phases[-1], sum(phase.epochs for phase in phases)
    start = end - last.epochs
    if not start < after < end:
        found = f"the phase before, {last.name}, lasts from after epoch {start} to epoch {end}"
        raise UserError(f"{where}: AFTER {after}: {found}; expected {start + 1} to {end - 1}")
    curve = {"EPOCHS": end - after, "CURVE_EPOCHS": last.curve_epochs or last.epochs}
    curve["CURVE_START"] = last.curve_start + after - start
    merged = Tree({key: value for key, value in before.items() if key not in ("NAME", "START_FROM")}, own.origin)
    merged |= {key: Leaf(yaml.ScalarNode("", repr(value)), where) for key, value in curve.items()}
    merged |= {key: value for key, value in own.items() if key != "AFTER"}
    shortened = replace(last, epochs=after - start, curve_epochs=curve["CURVE_EPOCHS"])
    return [*phases[:-1], shortened], merged


def _check_phase(phase: Phase, earlier: list[Phase], where: str) -> None:
    curve_epochs = phase.curve_epochs or phase.epochs
    if any(phase.name == other.name for other in earlier):
        raise UserError(f"{where}: the name is used twice; each phase needs its own")
    if not earlier and phase.start_from == "best":
        raise UserError(f"{where}: START_FROM: best is not possible in the first phase: nothing was trained before it")
    if phase.min_lr > phase.max_lr:
        raise UserError(f"{where}: MIN_LR {phase.min_lr:g} is above MAX_LR {phase.max_lr:g}")
    if phase.warmup and phase.warmup_steps:
        raise UserError(f"{where}: WARMUP (epochs) and WARMUP_STEPS exclude each other; remove one")
    if phase.lr == "one_cycle" and (phase.warmup or phase.warmup_steps):
        raise UserError(f"{where}: one_cycle has a warm-up of its own; remove WARMUP and WARMUP_STEPS")
    if phase.warmup > curve_epochs:
        raise UserError(f"{where}: WARMUP of {phase.warmup:g} epochs is longer than the {curve_epochs} EPOCHS")
    if phase.curve_start and phase.curve_epochs is None:
        raise UserError(f"{where}: CURVE_START needs CURVE_EPOCHS, the length of the curve; add it")
    if phase.curve_start + phase.epochs > curve_epochs:
        found = f"CURVE_START {phase.curve_start:g} + EPOCHS {phase.epochs}"
        raise UserError(f"{where}: {found} is more than CURVE_EPOCHS {curve_epochs}")
    if len(set(phase.freeze)) < len(phase.freeze):
        raise UserError(f"{where}: FREEZE has a part twice; keep one")
    if phase.loss is not None:
        try:
            parse_mix(phase.loss)
        except UserError as error:
            raise UserError(f"{where}: LOSS: {error}") from None
