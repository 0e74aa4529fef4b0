"""What training says: a line per epoch, classes that are never found, and why it cannot go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.paths import shown
from pipeline.training.finite import NotFinite
from pipeline.training.state import TrainState

DEAD_AFTER = 5  # validations in a row without a single pixel found before a class is called dead


def epoch_line(row: dict[str, Any]) -> str:
    """Returns a finished epoch's row of `history.csv` in one line."""
    train = f"train loss {row['train_loss']:.4f}  " if row["train_loss"] is not None else ""
    mark = "best" if row["is_best"] else f"{row['epochs_since_best']} since best" if row["epoch"] else "before training"
    return (
        f"epoch {row['epoch']:>3} {row['phase']:<8} {train}valid loss {row['valid_loss']:.4f}  "
        f"Dice {row['valid_dice']:.4f}  mIoU {_number(row['valid_miou'])}  {mark}"
    )


def dead_class_lines(
    state: TrainState, classes: Sequence[str], scored: Sequence[int], is_last: bool = False
) -> list[str]:
    """Returns a line on the classes that count and are never found: once when that has lasted, and again at the end.

    Such a class still has a Dice: 1 in every image without it, unless it is falsely found there.

    >>> state = TrainState("", class_dice=[0.9, 0.452], epochs_without_hit=[0, 5])
    >>> dead_class_lines(state, ["Road", "Construction"], [0, 1])[0][:60]
    'dead class Construction (Dice 0.452): not a pixel of it foun'
    """
    counts = {index: state.epochs_without_hit[index] for index in scored}
    dead = [index for index, count in counts.items() if (count > DEAD_AFTER if is_last else count == DEAD_AFTER)]
    if not dead:
        return []
    named = ", ".join(f"{classes[index]} (Dice {state.class_dice[index]:.3f})" for index in dead)
    plural, whose, them = ("es", "their", "them") if len(dead) > 1 else ("", "its", "it")
    fewest = min(counts[index] for index in dead)
    return [
        f"dead class{plural} {named}: not a pixel of {them} found in {fewest} validations; "
        f"{whose} Dice comes from images without {them} alone"
    ]


def not_finite_error(
    fault: NotFinite, state: TrainState, max_lr: float, describe: Callable[[Any], str], path: Path
) -> UserError:
    """Returns what to tell about a training that cannot go on; writes the batch's samples to `path`."""
    epoch, step, keys = fault.place or (state.epoch, state.step, ())
    facts = {"what": fault.what, "epoch": epoch, "step": step, "samples": [describe(key) for key in keys]}
    write_atomic(path, json.dumps(facts, indent=1))
    named = f"the batch is named in {shown(path)}" if keys else f"see {shown(path)}"
    return UserError(
        f"{fault.what}, epoch {epoch}, step {step}; nothing broken was saved, {named}.\n"
        f"Lower SOLVER.MAX_LR (now {max_lr:g}; see the LR sweep), set SOLVER.CLIP_NORM=1, or SOLVER.PRECISION=float32."
    )


def memory_cure(config: Config) -> str:
    """Returns what to type when a step of training does not fit into a GPU's memory."""
    batch_size, accumulate = config.dataloaders.train.batch_size, config.solver.accumulate
    # A batch norm wants two samples.
    num_parts = next((n for n in range(accumulate + 1, batch_size // 2 + 1) if batch_size % n == 0), None)
    if num_parts is None:
        return "A smaller tile or MODEL.ENCODER.NAME needs less."
    return (
        f"SOLVER.ACCUMULATE={num_parts} puts each batch of {batch_size} through in {num_parts} parts and trains almost "
        f"the same; a smaller tile or MODEL.ENCODER.NAME needs less, too."
    )


def validation_memory_cure(config: Config) -> str:
    """Returns what to type when validation images, which are looked at whole, do not fit into a GPU's memory."""
    batch_size = config.dataloaders.valid.batch_size
    if batch_size == 1:
        return "Not one validation image fits as a whole; a smaller MODEL.ENCODER.NAME needs less."
    return f"DATALOADERS.VALID.BATCH_SIZE={max(1, batch_size // 2)} looks at fewer validation images at once."


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
