"""The LR sweep: its rates, images and files, and that nothing of training is touched by it."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from pipeline.config.load import load
from pipeline.errors import Stopped, UserError
from pipeline.training import lr_sweep
from pipeline.training.finite import NotFinite
from pipeline.training.lr_sweep import LrSweep, rates, sweep_learning_rates, write_sweep
from pipeline.training.sweep_curve import Point, suggest
from tests.tiny import run_of, run_stages
from tests.training.test_sweep_curve import LRS, curve
from tests.training.toy import OVERFLOWING, StopAt, batch, make

pytestmark = pytest.mark.usefixtures("without_drawing")


def write_losses(points, max_lr, *changes):
    """Writes a sweep of these points, not smoothed; returns the folder and the lines that were logged."""
    lines: list[str] = []
    run = run_of(load("demo", ("SWEEP.SMOOTHING=1", f"SOLVER.MAX_LR={max_lr}", *changes)), lines.append)
    write_sweep(run, points)
    return run.paths, lines


def points_of(losses, repeat=0):
    return [Point(repeat, step, lr, loss, loss) for step, (lr, loss) in enumerate(zip(LRS, losses, strict=False))]


def test_rates_grow_by_the_same_factor_from_start_to_end():
    settings = load("demo", ("SWEEP.START_LR=1e-4", "SWEEP.END_LR=100", "SWEEP.STEPS=61")).config.sweep
    found = rates(settings)
    assert found == pytest.approx(LRS) and found[0] == 1e-4


def test_the_files_hold_both_curves_and_the_band_over_repeats(tmp_path):
    points = (
        points_of(curve(1e-2, 0.3)) + points_of(curve(1e-3, 0.03), repeat=1) + points_of(curve(1e-2, 0.3), repeat=2)
    )
    paths, lines = write_losses(points, 1e-2)
    table = pd.read_csv(paths / "lr_sweep.csv")
    assert len(table) == 3 * 61 and table["repeat"].unique().tolist() == [0, 1, 2]
    facts = json.loads((paths / "lr_sweep.json").read_text())
    low, high = facts["band"]["steep"]
    assert low < facts["suggestions"]["steep"] == pytest.approx(high) and facts["max_lr"] == 1e-2
    assert facts["warnings"] == [] and len(lines) == 1
    assert f"minimum {facts['suggestions']['minimum']:.2g} (" in lines[0]


def test_a_sweep_without_repeats_says_no_span(tmp_path):
    _, lines = write_losses(points_of(curve(1e-2, 0.3)), 1e-2)
    assert "steep 0.0" in lines[0] and "(" not in lines[0]


@pytest.mark.parametrize(("max_lr", "side"), [(10.0, "above"), (1e-4, "below")])
def test_a_rate_far_off_is_warned_of(max_lr, side):
    paths, lines = write_losses(points_of(curve(1e-2, 0.3)), max_lr)
    assert f"lies far {side} the sweep's suggestion" in lines[1]
    assert lines[1].endswith(f"{paths.name}/lr_sweep.png")


def test_auto_takes_two_fifths_of_the_way_across_the_trough(tmp_path):
    losses = curve(1e-2, 0.3)
    paths, _ = write_losses(points_of(losses), "auto")
    facts = json.loads((paths / "lr_sweep.json").read_text())
    assert facts["max_lr"] == facts["suggestions"]["trough"] and facts["is_auto"]
    level = (max(losses[:30]) + min(losses)) / 2
    inside = [math.log(lr) for lr, loss in zip(LRS, losses, strict=True) if loss <= level]
    wanted = inside[0] + 0.4 * (inside[-1] - inside[0])
    assert abs(math.log(facts["max_lr"]) - wanted) < math.log(LRS[1] / LRS[0])


def test_a_rate_that_a_single_repeat_suggests_is_no_reason_to_warn():
    points = (
        points_of(curve(1e-2, 0.3)) + points_of(curve(1e-4, 3e-3), repeat=1) + points_of(curve(1e-2, 0.3), repeat=2)
    )
    _, lines = write_losses(points, 5e-4)
    assert len(lines) == 1


def test_training_is_the_same_to_the_bit_with_and_without_a_sweep_before(workshop):
    with_sweep, _ = run_stages(workshop.tiny(), "train")
    without, _ = run_stages(workshop.tiny("SWEEP.ENABLE=false"), "train")
    assert (with_sweep / "lr_sweep.csv").exists() and not (without / "lr_sweep.csv").exists()
    for name in ("last.ckpt", "best.ckpt", "history.csv"):
        assert (with_sweep / name).read_bytes() == (without / name).read_bytes()


def sweep_of(workshop, *changes, stop=None):
    loaded = workshop.tiny(*changes)
    paths, _ = run_stages(loaded, "tile")
    sweep_learning_rates(run_of(loaded, lambda line: None, stop))
    return pd.read_csv(paths / "lr_sweep.csv")


def test_a_sweep_repeats_itself_and_its_repeats_differ(workshop):
    first = sweep_of(workshop, "SWEEP.REPEATS=2")
    assert first.equals(sweep_of(workshop, "SWEEP.REPEATS=2"))
    zero, one = (first.loc[first["repeat"] == repeat, "valid_loss"].tolist() for repeat in (0, 1))
    assert zero != one


def test_a_sweep_is_done_with_the_experiments_own_optimizer_loss_and_frozen_parts(workshop):
    losses = {
        changes: sweep_of(workshop, *changes)["valid_loss"].tolist()
        for changes in (
            (),
            ("SWEEP.OPTIMIZER=SGD",),
            ("LOSS_FN.WEIGHTS=[1,1,1,9,1,1,1,1,1,9,1,1]",),
            ("SOLVER.PLAN=freeze_then_thaw",),
            ("SOLVER.EMA_DECAY=0.9",),
        )
    }
    assert losses[("SOLVER.EMA_DECAY=0.9",)] == losses[()]  # an average would hide what the rate does
    assert len({tuple(values) for values in losses.values()}) == 4


def test_an_explosion_ends_a_sweep_early(workshop):
    table = sweep_of(workshop, "SWEEP.START_LR=1", "SWEEP.END_LR=1e30", "SWEEP.STEPS=30", "SWEEP.OPTIMIZER=SGD")
    assert 0 < len(table) < 30 and table["valid_loss"].notna().all()


def test_a_sweep_that_begins_too_high_is_refused(workshop):
    with pytest.raises(UserError, match=r"not finite even at SWEEP\.START_LR 1e\+37; lower it, "):
        sweep_of(workshop, "SWEEP.START_LR=1e37", "SWEEP.END_LR=1e38", "SWEEP.OPTIMIZER=SGD")


def test_images_validated_one_by_one_suggest_what_batches_do(workshop):
    settings = ("SWEEP.STEPS=12", "SWEEP.IMAGES=4", "SWEEP.START_LR=1e-3", "SWEEP.END_LR=1", "SWEEP.SMOOTHING=1")
    found = []
    for batch_size in (1, 4):
        table = sweep_of(workshop, *settings, f"DATALOADERS.VALID.BATCH_SIZE={batch_size}")
        found.append(suggest(table["lr"].tolist(), table["valid_loss"].tolist())["trough"])
    assert max(found) / min(found) < 2


def test_a_step_that_the_loss_scaler_leaves_out_is_taken_with_further_batches():
    training = make(has_scaler=True, changes=["SOLVER.OPTIMIZER.NAME=AdamW"])
    learner, asked = training.learner, []
    learner.optimizer.param_groups[0]["lr"] = 0.1

    def batches():
        for number in range(100):
            asked.append(number)
            yield batch(number)

    criterion = training.learning.criterion("1 ce", 0, ())
    sweep = LrSweep(training.run, learner, criterion, training.sums)
    sweep.step(batches(), 0)
    assert len(asked) > 1 and learner.scaler.get_scale() == OVERFLOWING / 2 ** (len(asked) - 1)
    assert training.sums.num_samples() == len(batch(0).images)  # of the step that was taken
    learner.network.segmentation_head.weight.register_hook(lambda grad: grad * float("nan"))
    with pytest.raises(NotFinite, match="at any loss scale"):
        sweep.step(batches(), 0)


def test_a_plan_too_short_for_the_optimizer_is_refused(workshop):
    with pytest.raises(UserError, match=r"Ranger would not move the weights; raise SOLVER\.NUM_EPOCHS"):
        sweep_of(workshop, "SOLVER.PLAN=constant", "DATALOADERS.TRAIN.BATCH_SIZE=8")


def test_rates_of_another_optimizer_are_no_reason_to_warn():
    _, lines = write_losses(points_of(curve(1e-2, 0.3)), 10.0, "SWEEP.OPTIMIZER=SGD")
    assert len(lines) == 1


def test_what_a_gpu_cannot_do_in_a_sweep_is_refused(workshop, monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but ...")

    monkeypatch.setattr(lr_sweep, "train_step", refuse)
    with pytest.raises(UserError, match="no repeatable way to do adaptive_avg_pool2d_backward_cuda"):
        sweep_of(workshop)


def test_a_stop_ends_a_sweep_between_two_steps(workshop):
    with pytest.raises(Stopped, match="the LR sweep begins anew"):
        sweep_of(workshop, stop=StopAt(3))
