"""The scores that a competition can have, by name, with the label that people read.

A competition's own score is SCORE in its file; SOLVER.MONITOR is `valid_loss` or `valid_` and one of these names.
"""

from __future__ import annotations

LOSS = "valid_loss"
LABELS = {"dice": "Dice", "iou": "IoU", "miou": "mIoU"}


def label_of(score: str) -> str:
    """Returns the label of a score; one that has none is shown by its name.

    >>> label_of("miou"), label_of("accuracy")
    ('mIoU', 'accuracy')
    """
    return LABELS.get(score, score)


def score_of(monitor: str) -> str | None:
    """Returns the score that SOLVER.MONITOR watches, or None for the validation loss.

    >>> score_of("valid_dice"), score_of("valid_loss")
    ('dice', None)
    """
    return None if monitor == LOSS else monitor.removeprefix("valid_")


def monitor_label(monitor: str) -> str:
    """Returns what SOLVER.MONITOR watches, for messages.

    >>> monitor_label("valid_miou"), monitor_label("valid_loss")
    ('validation mIoU', 'validation loss')
    """
    name = score_of(monitor)
    return f"validation {label_of(name) if name else 'loss'}"
