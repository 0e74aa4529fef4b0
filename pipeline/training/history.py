"""What a training writes and logs: `history.csv` and a line per epoch, `steps.csv` within epochs.

Times are kept apart in `timings.csv`: everything in the other two is the same when the run is repeated or resumed.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.loss_mix import parse_mix
from pipeline.files import append_text, write_atomic
from pipeline.paths import PLAN_CHANGES, RunPaths
from pipeline.scores import label_of
from pipeline.task import Learning, Loss, Scores
from pipeline.training.state import TrainState
from pipeline.wording import duration

if TYPE_CHECKING:
    from pipeline.training.step import Means

MISSED_AFTER = 5  # validations in a row in which nothing of a class was found, before that is logged


def history_row(
    facts: Mapping[str, Any], train: Means | None, valid: Means, learning: Learning, terms: Sequence[str]
) -> dict[str, Any]:
    """Returns one row of `history.csv`.

    Args:
        facts: epoch, phase, lr, is_best, epochs_since_best.
        train: of the epoch's samples, or None before training.
        terms: names of the loss terms that the plan uses; with a single one, it is the loss.
    """
    row = {name: facts[name] for name in ("epoch", "phase", "lr")}
    row |= {"train_loss": train.loss if train else None, "valid_loss": None if math.isnan(valid.loss) else valid.loss}
    for name in terms if len(terms) > 1 else ():
        row[f"train_loss_{name}"] = train.terms[name] if train else None
        row[f"valid_loss_{name}"] = valid.terms.get(name)
    samples = train.scores if train else learning.sample_scores([math.nan] * learning.num_sums)
    row |= {f"train_{name}": score.mean for name, score in samples.by_name.items()}
    row |= {f"valid_{name}": score.mean for name, score in valid.scores.by_name.items()}
    row |= {name: facts[name] for name in ("is_best", "epochs_since_best")}
    row |= _class_columns("valid", valid.scores, learning.classes)
    return row | _class_columns("train", samples, learning.classes)


def with_terms(row: Mapping[str, Any], before: Sequence[str], terms: Sequence[str], mix: str) -> dict[str, Any]:
    """Returns a row of the history with the columns of other loss terms, as `history_row` would have written it.

    A new term was not computed in that epoch, and has no value.

    Args:
        before: the terms of the row.
        mix: LOSS_FN.MIX; a single term has no column of its own, and is the loss over its weight.

    >>> row = {"lr": 0.1, "train_loss": 0.5, "valid_loss": 0.4, "train_score": 0.6}
    >>> with_terms(row, ["ce"], ["ce", "focal"], "1 ce")["train_loss_ce"]
    0.5
    """
    values = (
        {f"{subset}_loss_{name}": None for name in terms for subset in ("train", "valid")} if len(terms) > 1 else {}
    )
    if len(before) == 1:
        weight = dict(parse_mix(mix)).get(before[0], 1.0)
        single = {f"{subset}_loss_{before[0]}": row[f"{subset}_loss"] for subset in ("train", "valid")}
        values |= {key: value and value / weight for key, value in single.items() if key in values}
    own = {f"{subset}_loss_{name}" for name in before for subset in ("train", "valid")}
    values |= {key: row[key] for key in values if key in row}
    kept = {key: value for key, value in row.items() if key not in own}
    keys = list(kept)
    end = keys.index("valid_loss") + 1
    return {key: kept[key] for key in keys[:end]} | values | {key: kept[key] for key in keys[end:]}


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
    if row["valid_loss"] is None:  # trained on all images
        return "  ".join([*words, *([f"eta {duration(seconds_left)}"] if seconds_left else []), "no validation"])
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
    has_scores = any(state.class_scores[index] for index in missed)
    why = "; the scores come from images without the class" if has_scores else ""
    return [f"never found in {fewest} validations: {named}{why}"]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a whole table at once, so that `history.csv` always agrees with the checkpoint beside it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def write_changes(paths: RunPaths, state: TrainState) -> None:
    """Writes what was changed in the plan on the way, by the user or by the clock, if anything was."""
    if state.changes:
        write_rows(paths / PLAN_CHANGES, [change | {"what": "; ".join(change["what"])} for change in state.changes])


class StepLog:
    """Appends to `steps.csv`: epoch, step, lr, loss and its terms, every RUNTIME.LOG_STEPS steps of the training.

    A run that is resumed drops the lines of the steps that it repeats, so the file is the same as without a stop.
    """

    def __init__(
        self, path: Path, every: int, terms: Sequence[str], steps_per_epoch: int, epoch: int, step: int
    ) -> None:
        self.path, self.every, self.steps_per_epoch = path, every, steps_per_epoch
        self.terms = [name for name in terms if len(terms) > 1]
        # What follows the last line break is a line that a kill or a power cut has cut off.
        lines = path.read_text(encoding="utf-8").split("\n")[1:-1] if path.is_file() else []
        kept = [line for line in lines if _is_before(line, epoch, step)]
        columns = ["epoch", "step", "lr", "loss", *self.terms]
        if (
            kept and (before := path.read_text(encoding="utf-8").split("\n")[0].split(",")) != columns
        ):  # the plan has changed
            cells = (dict(zip(before, line.split(","), strict=True)) for line in kept)
            kept = [",".join(row.get(name, "") for name in columns) for row in cells]
        header = ",".join(columns)
        if every:
            write_atomic(path, "\n".join([header, *kept]) + "\n")

    def add(self, epoch: int, step: int, lr: float, loss: Loss) -> None:
        """Adds a finished step, counted from 1 within its epoch, if it is logged; that waits for a GPU."""
        if not self.every or ((epoch - 1) * self.steps_per_epoch + step) % self.every:
            return
        terms = [repr(float(loss.terms[name])) if name in loss.terms else "" for name in self.terms]
        append_text(self.path, ",".join([str(epoch), str(step), repr(lr), repr(float(loss.total)), *terms]) + "\n")


def append_timing(path: Path, epoch: int, seconds: float, num_samples: int) -> None:
    """Adds a line on how long the training steps of an epoch took; an epoch that was interrupted has several."""
    if num_samples == 0:
        return
    before = path.read_text(encoding="utf-8") if path.exists() else "epoch,seconds,samples_per_s\n"
    write_atomic(path, f"{before}{epoch},{seconds:.2f},{num_samples / max(seconds, 1e-9):.2f}\n")


def scalars_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a row of the history by the names that trackers show.

    >>> scalars_of({"epoch": 0, "phase": "flat", "lr": None, "train_loss": None, "valid_loss": 0.5})
    {'loss/valid': 0.5}
    """
    return {
        scalar_name(column, row): value
        for column, value in row.items()
        if value is not None and column not in ("epoch", "phase")
    }


def scalar_name(column: str, columns: Collection[str]) -> str:
    """Returns the name in trackers of a column of the history: a chart per score and class, a curve per subset.

    Args:
        columns: all of the history; `train_iou_Road` belongs to the score `iou` where there is a `train_iou`.

    >>> columns = ["lr", "train_loss", "train_loss_ce", "train_iou", "train_iou_Road"]
    >>> [scalar_name(column, columns) for column in columns]
    ['lr', 'loss/train', 'loss/ce/train', 'iou/train', 'iou/Road/train']
    """
    subset, _, quantity = column.partition("_")
    if subset not in ("train", "valid"):
        return column
    ends = [index for index, letter in enumerate(quantity) if letter == "_"]
    end = next((end for end in ends if f"{subset}_{quantity[:end]}" in columns), None)
    return f"{quantity if end is None else f'{quantity[:end]}/{quantity[end + 1 :]}'}/{subset}"


def _class_columns(subset: str, scores: Scores, classes: Sequence[str]) -> dict[str, float | None]:
    return {
        f"{subset}_{name}_{one}": None if math.isnan(value) else value
        for name, score in scores.by_name.items()
        for one, value in zip(classes, score.classes, strict=True)
    }


def _is_before(line: str, epoch: int, step: int) -> bool:
    """Returns whether a line of `steps.csv` is of a step that is not repeated."""
    try:
        found = tuple(map(int, line.split(",")[:2]))
    except ValueError:
        return False
    return found <= (epoch, step) if len(found) == 2 else False
