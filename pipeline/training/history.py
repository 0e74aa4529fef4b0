"""The table of epochs: `history.csv` for reading and plotting, TensorBoard events for watching.

Times are kept apart in `timings.csv`: everything in `history.csv` is the same when the run is repeated or resumed.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.files import write_atomic

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def history_row(
    state_values: Mapping[str, Any],
    train: Mapping[str, Any] | None,
    valid: Any,
    classes: Sequence[str],
    scored: Sequence[int],
) -> dict[str, Any]:
    """Returns one row of `history.csv`.

    Args:
        state_values: epoch, phase, lr, is_best, epochs_since_best.
        train: loss, dice and iou (lists per class) of the epoch, or None before training.
        valid: a `Validation`.
        scored: indices of the classes that enter the means (DATASETS.CLASSES).
    """

    def mean(values: Sequence[float]) -> float | None:
        kept = [values[index] for index in scored if not math.isnan(values[index])]
        return sum(kept) / len(kept) if kept else None

    row = {
        "epoch": state_values["epoch"],
        "phase": state_values["phase"],
        "lr": state_values["lr"],
        "train_loss": train["loss"] if train else None,
        "valid_loss": valid.loss,
        "train_dice": mean(train["dice"]) if train else None,
        "train_iou": mean(train["iou"]) if train else None,
        "valid_dice": mean(valid.dice),
        "valid_iou": mean(valid.iou),
        "valid_miou": mean(valid.dataset_iou),
        "is_best": state_values["is_best"],
        "epochs_since_best": state_values["epochs_since_best"],
    }
    for name, dice, iou in zip(classes, valid.dice, valid.iou, strict=True):
        row |= {f"valid_dice_{name}": dice, f"valid_iou_{name}": iou}
    for index, name in enumerate(classes):
        row[f"train_dice_{name}"] = train["dice"][index] if train else None
        row[f"train_iou_{name}"] = train["iou"][index] if train else None
    return row


def write_history(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes all rows, so that the file always agrees with the checkpoint beside it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def append_timing(path: Path, epoch: int, seconds: float, num_samples: int) -> None:
    """Adds a line on how long the training steps of an epoch took; an epoch that was interrupted has several."""
    if num_samples == 0:
        return
    before = path.read_text() if path.exists() else "epoch,seconds,samples_per_s\n"
    write_atomic(path, f"{before}{epoch},{seconds:.2f},{num_samples / max(seconds, 1e-9):.2f}\n")


def open_events(folder: Path, first_epoch: int) -> SummaryWriter:
    """Returns a writer of TensorBoard events; what it writes from `first_epoch` on replaces what was there."""
    from torch.utils.tensorboard import SummaryWriter  # takes a second to import, and only training needs it

    return SummaryWriter(str(folder), purge_step=first_epoch)


def write_events(events: SummaryWriter, row: Mapping[str, Any]) -> None:
    """Adds one row of the history to the TensorBoard events."""
    for key, value in row.items():
        if value is None or key in ("epoch", "phase"):
            continue
        subset, _, quantity = key.partition("_")
        is_split = subset in ("train", "valid")
        name = quantity.replace("dice_", "dice/").replace("iou_", "iou/") if is_split else key
        events.add_scalar(f"{name}/{subset}" if is_split else name, value, row["epoch"])
    events.flush()
