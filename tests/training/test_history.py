"""The table of epochs, the names of its columns in trackers, and the times beside it."""

from __future__ import annotations

import csv

import pytest
import torch

from pipeline.segmentation.learning import bind
from pipeline.task import Loss, Score, Scores
from pipeline.training.history import (
    StepLog,
    append_timing,
    history_row,
    scalars_of,
    with_terms,
    write_rows,
)
from pipeline.training.step import Means
from pipeline.training.tensorboard import open_tensorboard
from tests.training.toy import make

NAN = float("nan")
FACTS = {"epoch": 1, "phase": "flat", "lr": 0.001, "is_best": 1, "epochs_since_best": 0}
CLASSES = ("Road", "Car", "Boat")
TRAIN_SCORES = Scores({"dice": Score(0.5, [0.9, 0.1, 0.5]), "iou": Score(0.4, [0.8, 0.05, 0.3])}, [], [])
VALID_SCORES = Scores(
    {
        "dice": Score(0.6, [0.8, 0.2, 1.0]),
        "iou": Score(0.55, [0.7, 0.1, 1.0]),
        "miou": Score(0.4, [0.6, 0.2, NAN]),
    },
    [0.8, 0.2, 1.0],
    [True] * 3,
)
MEANS = Means(0.5, {"ce": 0.3, "dice": 0.7}, TRAIN_SCORES)
VALIDATION = Means(0.7, {"ce": 0.6, "dice": 0.8}, VALID_SCORES)


def row(train=MEANS, validation=VALIDATION, terms=("ce",), classes=CLASSES):
    learning = bind(classes, (0, 1, 2), (0, 1, 2), 3, make().config.loss_fn, torch.device("cpu"))
    return history_row(FACTS, train, validation, learning, terms)


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def test_a_row_has_losses_means_and_then_each_class_in_the_order_of_the_classes():
    found = row()
    assert list(found)[:5] == ["epoch", "phase", "lr", "train_loss", "valid_loss"]
    assert [found[f"valid_{name}"] for name in ("dice", "iou", "miou")] == [0.6, 0.55, 0.4]
    assert [found[f"train_{name}"] for name in ("dice", "iou")] == [0.5, 0.4] and "train_miou" not in found
    assert [found[f"valid_iou_{name}"] for name in CLASSES] == [0.7, 0.1, 1.0]
    assert list(found)[-3:] == [f"train_iou_{name}" for name in CLASSES]


@pytest.mark.parametrize("terms", [("ce",), ("ce", "dice"), ("ce", "dice", "focal"), ("focal", "ce")])
def test_a_row_that_gets_other_loss_terms_is_as_if_it_had_been_written_with_them(terms):
    single = Means(0.6, {"ce": 0.6}, VALID_SCORES)
    before = row(train=Means(0.3, {"ce": 0.3}, TRAIN_SCORES), validation=single, terms=("ce",))
    names = dict.fromkeys(terms)
    train = Means(0.3, names | ({"ce": 0.3} if "ce" in terms else {}), TRAIN_SCORES)
    wanted = row(train=train, validation=single, terms=terms)
    found = with_terms(before, ("ce",), terms, "1 ce")
    assert found == wanted and list(found) == list(wanted)
    assert with_terms(found, terms, ("ce",), "1 ce") == before


def test_a_class_without_a_value_is_empty():
    assert row()["valid_miou_Boat"] is None and row()["valid_miou_Car"] == 0.2


def test_each_term_of_a_mix_has_its_columns_and_a_single_term_has_none():
    assert not [name for name in row() if name.startswith(("train_loss_", "valid_loss_"))]
    found = row(terms=("ce", "dice"))
    names = ["train_loss_ce", "valid_loss_ce", "train_loss_dice", "valid_loss_dice"]
    assert list(found)[5:9] == names and [found[name] for name in names] == [0.3, 0.6, 0.7, 0.8]


def test_a_term_that_an_epoch_did_not_use_is_empty():
    found = row(Means(0.5, {"ce": 0.3, "lovasz": None}, TRAIN_SCORES), terms=("ce", "lovasz"))
    assert (found["train_loss_lovasz"], found["valid_loss_lovasz"]) == (None, None)
    assert row(train=None, terms=("ce", "lovasz"))["train_loss_ce"] is None


def test_what_was_not_trained_is_empty(tmp_path):
    write_rows(tmp_path / "history.csv", [row(train=None), row()])
    with open(tmp_path / "history.csv") as file:
        before, after = csv.DictReader(file)
    assert before["train_loss"] == before["train_dice_Car"] == "" and after["train_loss"] == "0.5"
    assert list(before)[:4] == ["epoch", "phase", "lr", "train_loss"]


def test_numbers_come_back_from_the_table_to_the_bit(tmp_path):
    value = 0.1 + 0.2
    write_rows(tmp_path / "history.csv", [row() | {"valid_loss": value}])
    with open(tmp_path / "history.csv") as file:
        assert float(next(csv.DictReader(file))["valid_loss"]) == value


def test_times_are_kept_per_epoch_and_an_epoch_without_steps_has_none(tmp_path):
    path = tmp_path / "timings.csv"
    append_timing(path, 1, 2.0, 8)
    append_timing(path, 1, 0.0, 0)
    append_timing(path, 2, 4.0, 8)
    assert path.read_text() == "epoch,seconds,samples_per_s\n1,2.00,4.00\n2,4.00,2.00\n"


def loss(**terms: float) -> Loss:
    return Loss(torch.tensor(0.5), {name: torch.tensor(value) for name, value in terms.items()})


def test_every_nth_step_of_a_training_is_logged_with_the_terms_of_its_loss(tmp_path):
    log = StepLog(tmp_path / "steps.csv", every=2, terms=("ce", "lovasz"), steps_per_epoch=3, epoch=1, step=0)
    for epoch, step in ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)):
        log.add(epoch, step, 0.1, loss(ce=step / 4))
    assert (tmp_path / "steps.csv").read_text() == (
        "epoch,step,lr,loss,ce,lovasz\n1,2,0.1,0.5,0.5,\n2,1,0.1,0.5,0.25,\n2,3,0.1,0.5,0.75,\n"
    )


def test_a_single_term_adds_no_column_to_the_steps_and_every_0_writes_no_file(tmp_path):
    for name, every in (("steps.csv", 1), ("none.csv", 0)):
        log = StepLog(tmp_path / name, every, terms=("ce",), steps_per_epoch=4, epoch=1, step=0)
        log.add(1, 1, 0.1, loss(ce=0.25))
    assert (tmp_path / "steps.csv").read_text() == "epoch,step,lr,loss\n1,1,0.1,0.5\n"
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize("end", ["", "2,3,0.1,0.5\n2,4,0.1,0.5\n", "2,20", "2,2,0.", "\0\0\0\n"])
def test_a_resumed_log_drops_steps_that_are_repeated_and_lines_that_were_cut_off(tmp_path, end):
    kept = "epoch,step,lr,loss\n1,4,0.1,0.5\n2,2,0.1,0.5\n"
    (tmp_path / "steps.csv").write_text(kept + end)
    StepLog(tmp_path / "steps.csv", every=1, terms=("ce",), steps_per_epoch=4, epoch=2, step=2)
    assert (tmp_path / "steps.csv").read_text() == kept


def write(folder, *rows):
    """Writes rows as one process does."""
    tracker = open_tensorboard(folder, rows[0]["epoch"])
    for one in rows:
        tracker.log(one["epoch"], scalars_of(one), {})
    tracker.close(True)


def test_events_have_a_curve_per_score_and_class(tmp_path):
    write(tmp_path, row())
    found = scalars(tmp_path)
    assert found["loss/train"] == [(1, 0.5)] and found["dice/Car/valid"] == [(1, pytest.approx(0.2))]
    assert found["lr"] == [(1, pytest.approx(0.001))] and found["epochs_since_best"] == [(1, 0.0)]


def test_events_have_a_curve_per_term_and_of_scores_and_classes_of_any_name(tmp_path):
    scores = Scores({"hit_rate": Score(0.5, [0.25, 0.75, 1.0])}, [], [])
    validation = Means(0.7, {"ce": 0.6, "dice": 0.8}, scores)
    write(tmp_path, row(validation=validation, terms=("ce", "dice"), classes=("Road", "side_walk", "Boat")))
    found = scalars(tmp_path)
    assert found["loss/ce/valid"] == [(1, pytest.approx(0.6))] and found["loss/dice/train"] == [(1, pytest.approx(0.7))]
    assert found["hit_rate/valid"] == [(1, 0.5)] and found["hit_rate/side_walk/valid"] == [(1, 0.75)]


def test_an_epoch_that_is_repeated_replaces_its_events(tmp_path):
    rows = [row() | {"epoch": epoch} for epoch in range(4)]
    write(tmp_path, rows[0], rows[1], rows[2])
    write(tmp_path, rows[2], rows[3])
    assert [step for step, _ in scalars(tmp_path)["loss/valid"]] == [0, 1, 2, 3]


def test_steps_that_were_logged_with_other_terms_keep_their_columns(tmp_path):
    path = tmp_path / "steps.csv"
    log = StepLog(path, 1, ("ce", "dice"), 4, 1, 0)
    log.add(1, 1, 0.1, Loss(torch.tensor(0.5), {"ce": torch.tensor(0.25), "dice": torch.tensor(0.75)}))
    StepLog(path, 1, ("ce", "focal", "dice"), 4, 1, 1)
    assert path.read_text() == "epoch,step,lr,loss,ce,focal,dice\n1,1,0.1,0.5,0.25,,0.75\n"
