"""The table of epochs, its TensorBoard events and the times beside it."""

from __future__ import annotations

import csv

import pytest

from pipeline.training.history import append_timing, history_row, open_events, write_events, write_history
from pipeline.training.validate import Validation

NAN = float("nan")
FACTS = {"epoch": 1, "phase": "flat", "lr": 0.001, "is_best": 1, "epochs_since_best": 0}
MEANS = {"loss": 0.5, "dice": [0.9, 0.1, 0.5], "iou": [0.8, 0.05, 0.3]}


def row(scored=(0, 1, 2), dataset_iou=(0.6, 0.2, NAN), train=MEANS):
    validation = Validation(0.7, [0.8, 0.2, 1.0], [0.7, 0.1, 1.0], list(dataset_iou), [True] * 3)
    return history_row(FACTS, train, validation, ("Road", "Car", "Boat"), scored)


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def test_means_are_over_the_classes_that_count():
    assert row()["valid_dice"] == pytest.approx(2 / 3) and row()["train_iou"] == pytest.approx(1.15 / 3)
    assert row(scored=(0, 1))["valid_dice"] == pytest.approx(0.5)


def test_miou_leaves_out_classes_never_seen_and_is_empty_when_none_was():
    assert row()["valid_miou"] == pytest.approx(0.4)
    assert row(scored=(2,))["valid_miou"] is None


def test_what_was_not_trained_is_empty(tmp_path):
    write_history(tmp_path / "history.csv", [row(train=None), row()])
    with open(tmp_path / "history.csv") as file:
        before, after = csv.DictReader(file)
    assert before["train_loss"] == before["train_dice_Car"] == "" and after["train_loss"] == "0.5"
    assert list(before)[:4] == ["epoch", "phase", "lr", "train_loss"]


def test_numbers_come_back_from_the_table_to_the_bit(tmp_path):
    value = 0.1 + 0.2
    write_history(tmp_path / "history.csv", [row() | {"valid_loss": value}])
    with open(tmp_path / "history.csv") as file:
        assert float(next(csv.DictReader(file))["valid_loss"]) == value


def test_times_are_kept_per_epoch_and_an_epoch_without_steps_has_none(tmp_path):
    path = tmp_path / "timings.csv"
    append_timing(path, 1, 2.0, 8)
    append_timing(path, 1, 0.0, 0)
    append_timing(path, 2, 4.0, 8)
    assert path.read_text() == "epoch,seconds,samples_per_s\n1,2.00,4.00\n2,4.00,2.00\n"


def write(folder, *rows):
    """Writes rows as one process does."""
    with open_events(folder, rows[0]["epoch"]) as events:
        for one in rows:
            write_events(events, one)


def test_events_have_a_curve_per_score_and_class(tmp_path):
    write(tmp_path, row())
    found = scalars(tmp_path)
    assert found["loss/train"] == [(1, 0.5)] and found["dice/Car/valid"] == [(1, pytest.approx(0.2))]
    assert found["lr"] == [(1, pytest.approx(0.001))] and found["epochs_since_best"] == [(1, 0.0)]


def test_an_epoch_that_is_repeated_replaces_its_events(tmp_path):
    rows = [row() | {"epoch": epoch} for epoch in range(4)]
    write(tmp_path, rows[0], rows[1], rows[2])
    write(tmp_path, rows[2], rows[3])
    assert [step for step, _ in scalars(tmp_path)["loss/valid"]] == [0, 1, 2, 3]
