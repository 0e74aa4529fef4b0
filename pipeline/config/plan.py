"""A training plan as data: phases between sudden changes, and the curve of the learning rate inside each.

In: a file of `configs/plans/` and the SOLVER keys that its numbers may name. Out: a tuple of `Phase`, and
`learning_rate`, a pure function of phase and step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.config.schema import Count, NotNegative, Positive, Solver
from pipeline.config.tree import Leaf, Tree, build, compose_file, mapping_tree
from pipeline.errors import UserError

LOSS_NAMES = ("dice", "jaccard", "ce", "focal", "lovasz", "tversky", "boundary")

# One cycle begins at MAX_LR / 25 and spends 30 % of its steps rising: the defaults of fastai and of torch's OneCycleLR.
CYCLE_START_SHARE = 1 / 25
CYCLE_RISE_SHARE = 0.3


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs without a sudden change.

    `curve_epochs` and `curve_start` let a phase continue a curve that an earlier phase began, e.g. a polynomial decay
    over 60 epochs whose power is raised at epoch 40.
    """

    name: str
    epochs: Count
    lr: Literal["flat", "cosine", "one_cycle", "poly", "linear"]
    max_lr: Positive
    min_lr: NotNegative
    patience: Count | None = None
    start_from: Literal["last", "best"] = "last"
    warmup: NotNegative = 0.0
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
        step: 0-based, counted from the phase's beginning.
        steps_per_epoch: optimizer steps in an epoch.

    Warm-up counts step + 1, so that the first step is not lost to a rate of zero; the curve begins after it.

    >>> phase = Phase("anneal", epochs=2, lr="cosine", max_lr=1.0, min_lr=0.0)
    >>> [round(learning_rate(phase, step, 2), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    warmup_steps = phase.warmup * steps_per_epoch
    if step < warmup_steps:
        return phase.max_lr * min(1.0, (step + 1) / warmup_steps)
    total = (phase.curve_epochs or phase.epochs) * steps_per_epoch - warmup_steps
    position = (phase.curve_start * steps_per_epoch + step - warmup_steps) / max(total, 1)
    return _curve(phase, min(position, 1.0))


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
    wanted = f'wanted weights and names like "0.7 ce + 0.3 lovasz" of {", ".join(LOSS_NAMES)}'
    mix: dict[str, float] = {}
    for term in text.split("+"):
        words = term.split()
        weight_text, name = words if len(words) == 2 else ("1", words[0] if len(words) == 1 else "")
        try:
            weight = float(weight_text)
        except ValueError:
            weight = math.nan
        if name not in LOSS_NAMES or name in mix or not (0 < weight < math.inf):
            raise UserError(f"loss mix {text!r}: cannot read {term.strip()!r}; {wanted}")
        mix[name] = weight
    return tuple(mix.items())


def load_plan(path: Path, shown: str, solver: Solver, max_lr: float) -> tuple[Phase, ...]:
    """Returns the phases of a plan file, with names of SOLVER keys replaced by their values.

    Args:
        max_lr: what SOLVER.MAX_LR stands for (a number also when the config says `auto`).

    Raises:
        UserError: the file is not a list of phases, or a phase is impossible; with file and line.
    """
    root = compose_file(path, shown)
    if not isinstance(root, yaml.SequenceNode) or not root.value:
        raise UserError(f"{shown}: a plan is a list of phases, one per line: - {{NAME: flat, EPOCHS: 3, LR: flat}}")
    numbers = {name.upper(): value for name, value in vars(solver).items() if isinstance(value, int | float)}
    numbers["MAX_LR"] = max_lr
    phases = tuple(_build_phase(node, shown, numbers) for node in root.value)
    _check_plan(phases, shown)
    return phases


def _build_phase(node: yaml.Node, shown: str, numbers: dict[str, Any]) -> Phase:
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{shown}:{node.start_mark.line + 1}: a phase is a mapping such as {{NAME: flat, EPOCHS: 3}}")
    tree: Tree = mapping_tree(node, shown)
    resolved: Tree = {}
    for key, leaf in tree.items():
        names_a_number = isinstance(leaf, Leaf) and isinstance(leaf.node, yaml.ScalarNode) and leaf.node.value in numbers
        if names_a_number and key not in ("NAME", "LR"):
            number = yaml.ScalarNode("tag:yaml.org,2002:float", repr(numbers[leaf.node.value]))
            leaf = Leaf(number, f"{leaf.origin} (SOLVER.{leaf.node.value})")
        resolved[key] = leaf
    for key in ("MAX_LR", "MIN_LR"):
        default = yaml.ScalarNode("tag:yaml.org,2002:float", repr(numbers[key]))
        resolved.setdefault(key, Leaf(default, f"SOLVER.{key}"))
    return build(resolved, Phase)


def _check_plan(phases: tuple[Phase, ...], shown: str) -> None:
    names = [phase.name for phase in phases]
    for phase in phases:
        where = f"{shown}: phase {phase.name}"
        if names.count(phase.name) > 1:
            raise UserError(f"{where}: the name is used twice")
        if phase.min_lr > phase.max_lr:
            raise UserError(f"{where}: MIN_LR {phase.min_lr:g} is above MAX_LR {phase.max_lr:g}")
        if phase.warmup > phase.epochs:
            raise UserError(f"{where}: WARMUP of {phase.warmup:g} epochs is longer than its {phase.epochs} EPOCHS")
        if phase.curve_start + phase.epochs > (phase.curve_epochs or math.inf):
            raise UserError(f"{where}: CURVE_START + EPOCHS exceed CURVE_EPOCHS {phase.curve_epochs}")
        if phase.loss is not None:
            parse_mix(phase.loss)
    if phases[0].start_from == "best":
        raise UserError(f"{shown}: the first phase cannot START_FROM: best, nothing was trained before it")
