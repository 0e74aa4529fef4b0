"""A training plan as data: phases between sudden changes, and the curve of the learning rate inside each.

In: a file of `configs/plans/` and the SOLVER keys that its numbers may name. Out: a tuple of `Phase`, and
`learning_rate`, a pure function of phase and step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import yaml

from pipeline.config.coerce import NULLS, NUMBER, nearest, quote
from pipeline.config.plain_yaml import compose_file, place_of
from pipeline.config.schema import Count, CountOrZero, NotNegative, Positive, Solver
from pipeline.config.tree import Leaf, build, mapping_tree
from pipeline.errors import UserError

LOSS_NAMES = ("dice", "jaccard", "ce", "focal", "bitempered", "lovasz", "tversky", "boundary")

# One cycle begins at MAX_LR / 25 and spends 30 % of its steps rising: the defaults of fastai and of torch's OneCycleLR.
CYCLE_START_SHARE = 1 / 25
CYCLE_RISE_SHARE = 0.3

# What a phase may give as a number or as the name of a SOLVER key.
NUMBER_KEYS = (
    *("EPOCHS", "PATIENCE", "MAX_LR", "MIN_LR", "POWER"),
    *("WARMUP", "WARMUP_STEPS", "CURVE_EPOCHS", "CURVE_START"),
)


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs without a sudden change.

    Attributes:
        patience: epochs without a better score that end the phase early.
        start_from: weights and optimizer state of the last epoch, or of the best one so far.
        warmup: epochs of linear warm-up at the curve's beginning; `warmup_steps` counts them in steps instead.
        curve_epochs: length of the curve with its warm-up; the phase's own length unless the phase is a window of a
            longer curve, e.g. of a polynomial decay over 60 epochs whose power is raised at epoch 40.
        curve_start: epochs of that curve that lie before this phase.
        freeze: parts of the network that do not learn: `encoder`, `encoder.layer1`, `batch_norm` (with statistics).
        loss: a mix that replaces LOSS_FN.MIX.
    """

    name: str
    epochs: Count
    lr: Literal["flat", "cosine", "one_cycle", "poly", "linear"]
    max_lr: Positive
    min_lr: NotNegative
    patience: Count | None = None
    start_from: Literal["last", "best"] = "last"
    warmup: NotNegative = 0.0
    warmup_steps: CountOrZero = 0
    power: Positive = 0.9
    curve_epochs: Count | None = None
    curve_start: NotNegative = 0.0
    freeze: tuple[str, ...] = ()
    loss: str | None = None
    augment: bool = True


def learning_rate(phase: Phase, step: int, steps_per_epoch: int) -> float:
    """Returns the learning rate of one optimizer step.

    Args:
        phase: the phase that the step belongs to.
        step: 0-based, scored from the phase's beginning.
        steps_per_epoch: optimizer steps in an epoch.

    Warm-up counts step + 1, so that the first step is not lost to a rate of zero; the curve begins after it.

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
    if phase.lr == "linear":
        return low + (high - low) * (1 - position)
    if phase.lr == "poly":
        return low + (high - low) * (1 - position) ** phase.power
    if phase.lr == "cosine":
        return _cosine(high, low, position)
    if position < CYCLE_RISE_SHARE:
        return _cosine(high * CYCLE_START_SHARE, high, position / CYCLE_RISE_SHARE)
    return _cosine(high, low, (position - CYCLE_RISE_SHARE) / (1 - CYCLE_RISE_SHARE))


def _cosine(start: float, end: float, position: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * position)) / 2


def parse_mix(text: str) -> tuple[tuple[str, float], ...]:
    """Returns the losses of a mix with their weights.

    >>> parse_mix("0.7 ce + 0.3 lovasz")
    (('ce', 0.7), ('lovasz', 0.3))

    Raises:
        UserError: an unknown name, a name twice, a weight that is not a positive number.
    """
    mix: dict[str, float] = {}
    for term in text.split("+"):
        words = term.split()
        weight_text, name = words if len(words) == 2 else ("1", words[0] if len(words) == 1 else "")
        weight = float(weight_text) if NUMBER.fullmatch(weight_text) else math.nan
        if name not in LOSS_NAMES or name in mix or not (0 < weight < math.inf):
            near = nearest(name, LOSS_NAMES) if name not in LOSS_NAMES else []
            hint = (
                f"did you mean {near[0]}?"
                if near
                else f'wanted "0.7 ce + 0.3 lovasz" or so, of {", ".join(LOSS_NAMES)}'
            )
            raise UserError(f"cannot read {term.strip()!r} in the loss mix {text!r}; {hint}")
        mix[name] = weight
    return tuple(mix.items())


def load_plan(
    path: Path, shown: str, solver: Solver, max_lr: float, origins: Mapping[str, str] = MappingProxyType({})
) -> tuple[Phase, ...]:
    """Returns the phases of a plan file, with names of SOLVER keys replaced by their values.

    Args:
        shown: the file in messages.
        max_lr: what SOLVER.MAX_LR stands for (a number also when the config says `auto`).
        origins: where the SOLVER keys were written, for messages.

    Raises:
        UserError: the file is not a list of phases, or a phase is impossible; with file and line.
    """
    root = compose_file(path, shown)
    if not isinstance(root, yaml.SequenceNode) or not root.value:
        raise UserError(f"{shown}: a plan is a list of phases, one per line: - {{NAME: flat, EPOCHS: 3, LR: flat}}")
    keys = {name.upper(): value for name, value in vars(solver).items()} | {"MAX_LR": max_lr}
    numbers = {key: repr(value) for key, value in keys.items() if type(value) in (int, float)}
    phases: list[Phase] = []
    for node in root.value:
        phase = _build_phase(node, shown, numbers, origins)
        _check_phase(phase, phases, f"{place_of(shown, node)}: phase {phase.name}")
        phases.append(phase)
    return tuple(phases)


def _build_phase(node: yaml.Node, shown: str, numbers: Mapping[str, str], origins: Mapping[str, str]) -> Phase:
    if not isinstance(node, yaml.MappingNode):
        example = "{NAME: flat, EPOCHS: 3, LR: flat}"
        raise UserError(f"{place_of(shown, node)}: found {quote(node)}, wanted a phase such as {example}")

    def number(key: str, origin: str) -> Leaf:
        named = f"SOLVER.{key}" + (f" of {origins[f'SOLVER.{key}']}" if f"SOLVER.{key}" in origins else "")
        return Leaf(yaml.ScalarNode("", numbers[key]), f"{origin} ({named})")

    tree = mapping_tree(node, shown)
    for key, value in tree.items():
        word = value.node.value if isinstance(value, Leaf) and isinstance(value.node, yaml.ScalarNode) else ""
        if key in NUMBER_KEYS and word in numbers:
            tree[key] = number(word, value.origin)
        elif key in NUMBER_KEYS and word not in NULLS and word.replace("_", "").isalpha():
            hint = (
                f"did you mean {' or '.join(near)}?"
                if (near := nearest(word, numbers))
                else f"there are {', '.join(numbers)}"
            )
            raise UserError(f"{value.origin}: {key}: no number among the SOLVER keys is called {word}; {hint}")
    for key in ("MAX_LR", "MIN_LR"):
        tree.setdefault(key, number(key, tree.origin))
    return build(tree, Phase)


def _check_phase(phase: Phase, earlier: list[Phase], where: str) -> None:
    """Refuses numbers that are each possible but not together."""
    curve_epochs = phase.curve_epochs or phase.epochs
    if any(phase.name == other.name for other in earlier):
        raise UserError(f"{where}: the name is used twice; give each phase its own")
    if not earlier and phase.start_from == "best":
        raise UserError(f"{where}: the first phase cannot START_FROM: best, nothing was trained before it")
    if phase.min_lr > phase.max_lr:
        raise UserError(f"{where}: MIN_LR {phase.min_lr:g} is above MAX_LR {phase.max_lr:g}")
    if phase.warmup and phase.warmup_steps:
        raise UserError(f"{where}: WARMUP counts epochs, WARMUP_STEPS counts steps; give one of them")
    if phase.lr == "one_cycle" and (phase.warmup or phase.warmup_steps):
        raise UserError(f"{where}: one_cycle rises by itself; remove its WARMUP")
    if phase.warmup > curve_epochs:
        raise UserError(f"{where}: WARMUP of {phase.warmup:g} epochs is longer than the {curve_epochs} EPOCHS")
    if phase.curve_start and phase.curve_epochs is None:
        raise UserError(f"{where}: CURVE_START needs CURVE_EPOCHS, the length of the whole curve")
    if phase.curve_start + phase.epochs > curve_epochs:
        raise UserError(
            f"{where}: CURVE_START {phase.curve_start:g} + EPOCHS {phase.epochs} exceed CURVE_EPOCHS {curve_epochs}"
        )
    if len(set(phase.freeze)) < len(phase.freeze):
        raise UserError(f"{where}: FREEZE names a part twice; keep one")
    if phase.loss is not None:
        try:
            parse_mix(phase.loss)
        except UserError as error:
            raise UserError(f"{where}: LOSS: {error}") from None
