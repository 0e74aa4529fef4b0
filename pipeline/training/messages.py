"""What training logs: a line per epoch, classes that are never found, and why it cannot continue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.paths import shown
from pipeline.scores import label_of
from pipeline.task import Learning
from pipeline.training.finite import NotFinite
from pipeline.training.state import TrainState
from pipeline.wording import duration

MISSED_AFTER = 5  # validations in a row in which nothing of a class was found, before that is logged


def epoch_line(
    row: Mapping[str, Any], scores: Iterable[str], num_epochs: int, seconds_left: float | None = None
) -> str:
    """Returns a finished epoch's row of `history.csv` in one line.

    Args:
        scores: names of the validation's scores.
        num_epochs: of the whole plan, as if no patience ran out.
        seconds_left: how long the rest of the plan would take then.

    >>> row = {"epoch": 3, "phase": "flat", "lr": 1e-3, "train_loss": 0.5, "valid_loss": 0.41, "valid_iou": 0.52}
    >>> epoch_line(row | {"is_best": 0, "epochs_since_best": 1}, ["iou"], num_epochs=20, seconds_left=130)
    'epoch   3/20  flat  lr 1.0e-03  loss 0.5000  valid loss 0.4100  IoU 0.5200  1 since best  eta 2 min 10 s'
    """
    words = [f"epoch {row['epoch']:>3}/{num_epochs}", row["phase"]]
    if row["epoch"]:
        words += [f"lr {row['lr']:.1e}", f"loss {row['train_loss']:.4f}"]
    words.append(f"valid loss {row['valid_loss']:.4f}")
    words += [f"{label_of(name)} {row[f'valid_{name}']:.4f}" for name in scores if row[f"valid_{name}"] is not None]
    if not row["epoch"]:
        words.append("before training")
    words.append("best" if row["is_best"] else f"{row['epochs_since_best']} since best" if row["epoch"] else "")
    if seconds_left:
        words.append(f"eta {duration(seconds_left)}")
    return "  ".join(word for word in words if word)


def missed_class_lines(state: TrainState, learning: Learning, is_last: bool = False) -> list[str]:
    """Returns a line on scored classes of which nothing is found: once after some validations, and again at the end.

    Such a class may still have a score: each image without it, in which none is found, scores 1.
    """
    counts = {index: state.epochs_without_hit[index] for index in learning.scored}
    missed = [index for index, count in counts.items() if (count > MISSED_AFTER if is_last else count == MISSED_AFTER)]
    if not missed:
        return []
    scores = (f"{learning.class_label} {state.class_scores[index]:.3f}" for index in missed)
    named = ", ".join(f"{learning.classes[index]} ({score})" for index, score in zip(missed, scores, strict=True))
    fewest = min(counts[index] for index in missed)
    return [f"never found in {fewest} validations: {named}; the scores come from images without the class"]


def not_finite_error(
    fault: NotFinite, state: TrainState, max_lr: float, describe: Callable[[Any], str], path: Path
) -> UserError:
    """Returns the message of a training that cannot continue; writes the batch's samples to `path`."""
    epoch, step, keys = fault.position or (state.epoch, state.step, ())
    facts = {"what": fault.what, "epoch": epoch, "step": step, "samples": [describe(key) for key in keys]}
    write_atomic(path, json.dumps(facts, indent=1))
    named = f"the batch is named in {shown(path)}" if keys else f"see {shown(path)}"
    return UserError(
        f"{fault.what} at epoch {epoch}, step {step}. The saved checkpoints are intact; {named}.\n"
        f"Lower SOLVER.MAX_LR (now {max_lr:g}; see the LR sweep), set SOLVER.CLIP_NORM=1, or SOLVER.PRECISION=float32."
    )


def memory_fix(config: Config) -> str:
    """Returns what to type when a step of training does not fit into a GPU's memory."""
    batch_size, accumulate = config.dataloaders.train.batch_size, config.solver.accumulate
    # A batch norm wants two samples.
    num_parts = next((n for n in range(accumulate + 1, batch_size // 2 + 1) if batch_size % n == 0), None)
    if num_parts is None:
        return "A smaller tile or MODEL.ENCODER.NAME needs less."
    return (
        f"Set SOLVER.ACCUMULATE={num_parts}: each batch of {batch_size} is processed in {num_parts} parts, with almost "
        "the same training. Or use a smaller tile or MODEL.ENCODER.NAME."
    )


def validation_memory_fix(config: Config) -> str:
    """Returns what to type when validation images, which are predicted whole, do not fit into a GPU's memory."""
    batch_size = config.dataloaders.valid.batch_size
    if batch_size == 1:
        return "Not one validation image fits as a whole; a smaller MODEL.ENCODER.NAME needs less."
    return f"DATALOADERS.VALID.BATCH_SIZE={max(1, batch_size // 2)} validates fewer images at once."
