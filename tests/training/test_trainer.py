"""The loop: rates, patience, revert, stops at every step, and nothing saved that is not finite."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from pipeline.config.optimizers import OURS
from pipeline.config.plan import learning_rate
from pipeline.errors import Stopped, UserError
from pipeline.task import Loss
from pipeline.training import trainer
from pipeline.training.checkpoint import load_checkpoint, previous_of
from pipeline.training.state import advance
from pipeline.training.trainer import begin, begin_epoch, step_seed, train, train_epoch
from tests.long.poison import CHANGES, POISONS, faults_of, poison_loss
from tests.training.toy import (
    CLASSES,
    NUM_VALID_BATCHES,
    STEPS,
    StopAt,
    history,
    make,
    results,
    run,
    script,
)

# How often a stop is asked about: at each step, each validation batch and the epoch's end.
BEFORE, EPOCH = NUM_VALID_BATCHES + 1, STEPS + NUM_VALID_BATCHES + 1
IN_VALIDATION = BEFORE + STEPS
FALLING = [9, 8, 7, 6, 5, 4]
TIRED = [9, 7, 8, 8.5, 6.5, 6]  # best at epoch 1, patience 2 ends the flat phase after epoch 3


def finite(paths) -> bool:
    """Returns whether every number of every checkpoint of a run is finite."""

    def tensors(content):
        values = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
        return [content] if isinstance(content, torch.Tensor) else [t for value in values for t in tensors(value)]

    contents = [load_checkpoint(path) for path in paths.folder.glob("*.ckpt")]
    return all(bool(torch.isfinite(tensor.double()).all()) for tensor in tensors(contents))


def resume_until_done(name: str, **options):
    """Trains in many processes, each stopped at its second question; returns the run's paths."""
    for _ in range(100):
        try:
            return run(name, stop=StopAt(2), **options)
        except Stopped:
            continue
    raise AssertionError("the training does not get on")


def record_rates(training) -> list[list[float]]:
    rates: list[list[float]] = []
    optimizer = training.learner.optimizer
    optimizer.register_step_pre_hook(lambda *_: rates.append([group["lr"] for group in optimizer.param_groups]))
    return rates


def test_every_step_has_the_rate_of_the_plan_also_after_the_revert(monkeypatch):
    script(monkeypatch, TIRED)
    training = make()
    rates = record_rates(training)
    train(training)
    flat, anneal = training.plan
    steps = [(flat, step) for step in range(3 * STEPS)] + [(anneal, step) for step in range(2 * STEPS)]
    assert [rate for (rate,) in rates] == [learning_rate(phase, step, STEPS) for phase, step in steps]
    assert [float(row["lr"] or 0) for row in history(training.run.paths)][1:] == [
        rates[i][0] for i in (3, 7, 11, 15, 19)
    ]


def test_the_encoder_has_its_share_of_the_rate_and_history_the_plans(monkeypatch):
    script(monkeypatch, FALLING)
    training = make(changes=["SOLVER.OPTIMIZER.ENCODER_LR_FACTOR=0.1"])
    rates = record_rates(training)
    train(training)
    assert all(encoder == rest * 0.1 for rest, encoder in rates)
    assert float(history(training.run.paths)[1]["lr"]) == rates[0][0] == 0.05


def test_annealing_starts_from_the_best_weights_and_optimizer_state(monkeypatch):
    script(monkeypatch, TIRED)
    flat, anneal = make().plan
    run(plan=[flat])
    lines: list[str] = []
    training = make(plan=[flat, anneal], log=lines.append)
    last = [value.clone() for value in training.learner.network.state_dict().values()]
    begin_epoch(training, advance(training.plan, training.state))
    best = load_checkpoint(training.run.paths / "best.ckpt")
    assert best["state"]["epoch"] == 1 and "phase anneal: back to the best weights, of epoch 1" in lines
    found = training.learner.state_dict()
    assert all(map(torch.equal, found["network"].values(), best["network"].values()))
    assert not all(map(torch.equal, found["network"].values(), last))
    for place, moments in best["optimizer"]["state"].items():
        assert torch.equal(found["optimizer"]["state"][place]["slow"], moments["slow"])
        assert found["optimizer"]["state"][place]["step"] == moments["step"] == STEPS


def test_a_frozen_part_stays_as_it_was_until_it_thaws():
    training = make(changes=["SOLVER.PLAN=freeze_then_thaw", "SOLVER.NUM_EPOCHS=1"])
    start = [value.clone() for value in training.learner.network.encoder.state_dict().values()]
    seen = []
    training.learner.optimizer.register_step_post_hook(
        lambda *_: seen.append(all(map(torch.equal, training.learner.network.encoder.state_dict().values(), start)))
    )
    train(training)
    assert seen == [True] * 3 * STEPS + [False] * STEPS


def test_the_training_scores_of_an_epoch_are_of_that_epoch_alone(monkeypatch):
    script(monkeypatch, FALLING)
    training = make()

    def criterion(logits, mask):
        return Loss(logits.sum() * 0 + training.state.epoch, {})

    training.learning = replace(training.learning, criterion=lambda *arguments: criterion)
    train(training)
    assert [row["train_loss"] for row in history(training.run.paths)] == ["", "0.0", "1.0", "2.0", "3.0", "4.0"]


# Scripted scores of which each has its best epoch; the loss falls all the time.
RISING_THEN_NOT = {
    "dice": [0.1, 0.5, 0.4, 0.45, 0.2, 0.3],
    "iou": [0.1, 0.2, 0.5, 0.4, 0.45, 0.3],
    "miou": [0.1, 0.2, 0.3, 0.5, 0.4, 0.45],
}


@pytest.mark.parametrize(("score", "best_epochs"), [("dice", [1]), ("iou", [1, 2]), ("miou", [1, 2, 3])])
def test_best_is_chosen_by_the_score_that_is_monitored(monkeypatch, score, best_epochs):
    script(monkeypatch, [5, 4, 3, 2, 1, 0], **RISING_THEN_NOT)
    paths = run(changes=[f"SOLVER.MONITOR=valid_{score}"])
    rows = history(paths)
    assert [int(row["epoch"]) for row in rows if row["is_best"] == "1"] == best_epochs
    best = load_checkpoint(paths / "best.ckpt")["state"]
    assert (best["epoch"], best["best"]) == (best_epochs[-1], 1 - RISING_THEN_NOT[score][best_epochs[-1]])
    assert [float(row[f"valid_{score}"]) for row in rows] == RISING_THEN_NOT[score][: len(rows)]


def test_a_score_without_a_value_counts_as_zero(monkeypatch):
    script(monkeypatch, FALLING, miou=[None, None, 0.1, None, 0.2, 0.1])
    paths = run(changes=["SOLVER.MONITOR=valid_miou"])
    assert [row["epoch"] for row in history(paths) if row["is_best"] == "1"] == ["1", "2", "4"]
    assert history(paths)[1]["valid_miou"] == ""


@pytest.mark.parametrize("score", ["iou", "miou"])
def test_an_early_stop_by_a_score_survives_a_stop_at_every_step(monkeypatch, score):
    changes = [f"SOLVER.MONITOR=valid_{score}"]
    scores = {score: [0.1, 0.5, 0.4, 0.3, 0.6, 0.7]}  # patience 2 ends the flat phase after epoch 3
    script(monkeypatch, FALLING, **scores)
    expected = results(run("whole", changes=changes))
    script(monkeypatch, FALLING, **scores)
    paths = resume_until_done("stopped", changes=changes)
    assert results(paths) == expected
    assert [row["phase"] for row in history(paths)] == ["flat"] * 4 + ["anneal"] * 2


def test_a_score_that_the_task_does_not_have_is_refused_with_those_it_has(monkeypatch):
    script(monkeypatch, FALLING)
    training = make(changes=["SOLVER.MONITOR=valid_miou"])
    plain = trainer.validate

    def without_miou(*arguments):
        validation = plain(*arguments)
        validation.scores.by_name.pop("miou")
        return validation

    monkeypatch.setattr(trainer, "validate", without_miou)
    with pytest.raises(UserError, match=r"^SOLVER\.MONITOR valid_miou: the scores are dice, iou; name one of them$"):
        train(training)


# A real run: at random weights everything is background, which a Dice loss prefers to the first objects found.
UNTRAINED_LOSS, UNTRAINED_DICE = [0.599, 0.609, 0.62, 0.63, 0.64, 0.65], [0.0, 0.46, 0.4, 0.3, 0.2, 0.1]


def test_an_untrained_network_is_measured_but_never_kept(monkeypatch):
    script(monkeypatch, UNTRAINED_LOSS, dice=UNTRAINED_DICE)
    lines: list[str] = []
    paths = run(log=lines.append)
    best = load_checkpoint(paths / "best.ckpt")["state"]
    assert (best["epoch"], best["best"], best["best_epoch"]) == (1, 0.609, 1)
    rows = history(paths)
    assert [row["is_best"] for row in rows] == ["0", "1", *"0" * (len(rows) - 2)]
    assert [row["epochs_since_best"] for row in rows[:3]] == ["0", "0", "1"]
    assert (rows[0]["valid_loss"], rows[0]["valid_dice"]) == ("0.599", "0.0")
    assert next(line for line in lines if line.startswith("epoch   0/")).endswith("before training")
    assert lines[-1] == (
        "warning: No epoch reached the validation loss of the untrained network (0.5990); the best is 0.6090, "
        "of epoch 1."
    )


def test_before_the_first_epoch_has_ended_there_is_no_best_checkpoint(monkeypatch):
    script(monkeypatch, UNTRAINED_LOSS)
    with pytest.raises(Stopped):
        run(stop=StopAt(BEFORE))
    training = make()
    assert training.state.history and not (training.run.paths / "best.ckpt").exists()


def test_a_trained_network_is_kept_until_an_epoch_improves_on_it_and_that_is_said(monkeypatch):
    changes = ["EXPERIMENT.LOAD_PREV=ExpBAA"]
    script(monkeypatch, UNTRAINED_LOSS)
    lines: list[str] = []
    paths = run(changes=changes, log=lines.append)
    assert load_checkpoint(paths / "best.ckpt")["state"]["epoch"] == 0
    assert [row["phase"] for row in history(paths)] == ["flat"] * 3 + ["anneal"] * 2
    assert "phase anneal: back to the best weights, of epoch 0" in lines
    kept = "(validation loss 0.5990), which is kept."
    assert lines[-1] == f"warning: No epoch improved on the network of EXPERIMENT.LOAD_PREV ExpBAA {kept}"
    script(monkeypatch, FALLING)
    lines.clear()
    run("better", changes=changes, log=lines.append)
    assert not any(line.startswith("warning") for line in lines)


@pytest.mark.parametrize("changes", [(), ("EXPERIMENT.LOAD_PREV=ExpBAA",)], ids=["untrained", "trained"])
def test_a_training_that_never_beats_its_start_survives_a_stop_at_every_step(monkeypatch, changes):
    script(monkeypatch, UNTRAINED_LOSS)
    expected = results(run("whole", changes=changes))
    script(monkeypatch, UNTRAINED_LOSS)
    assert results(resume_until_done("stopped", changes=changes)) == expected


def test_training_learns_the_toy():
    rows = history(run(changes=["SOLVER.OPTIMIZER.NAME=AdamW", "SOLVER.NUM_EPOCHS=6"]))
    assert float(rows[-1]["valid_loss"]) < 0.7 * float(rows[0]["valid_loss"])


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("SOLVER.OPTIMIZER.NAME=AdamW", "SOLVER.PLAN=one_cycle", "SOLVER.EMA_DECAY=0.9"),
        ("SOLVER.OPTIMIZER.NAME=SGD", "SOLVER.ACCUMULATE=2", "SOLVER.CLIP_NORM=0.5", "SOLVER.PLAN=poly_warmup"),
        ("SOLVER.OPTIMIZER.NAME=RAdam", "LOSS_FN.ADAPTIVE.ENABLE=true", "SOLVER.OPTIMIZER.ENCODER_LR_FACTOR=0.3"),
        ("SOLVER.PLAN=freeze_then_thaw", "SOLVER.NUM_EPOCHS=2"),
        ("SOLVER.PLAN=freeze_then_thaw", "SOLVER.NUM_EPOCHS=2", "SOLVER.OPTIMIZER.NAME=SGD"),
        ("SOLVER.OPTIMIZER.NAME=Adam", "SOLVER.OPTIMIZER.ENCODER_LR_DECAY=0.5"),
    ],
    ids=["ranger", "adamw-ema", "sgd-accumulate", "radam-adaptive", "frozen", "sgd-frozen", "adam-layers"],
)
def test_a_training_stopped_at_every_step_ends_with_the_same_bits(changes):
    expected = results(run("whole", changes=changes))
    stops = 0
    while True:
        try:
            paths = run("stopped", changes=changes, stop=StopAt(2))
            break
        except Stopped:
            stops += 1
    assert stops >= 8
    assert results(paths) == expected


@pytest.mark.parametrize("has_scaler", [False, True])
@pytest.mark.parametrize("optimizer", OURS)
def test_early_stop_and_revert_survive_a_stop_at_every_step(monkeypatch, optimizer, has_scaler):
    """The long form, with every plan and with averaged weights: `python -m tests.long.cuts`."""
    options = {"changes": [f"SOLVER.OPTIMIZER.NAME={optimizer}"], "has_scaler": has_scaler}
    script(monkeypatch, TIRED)
    expected = results(run("whole", **options))
    script(monkeypatch, TIRED)
    paths = resume_until_done("stopped", **options)
    assert results(paths) == expected
    assert [row["phase"] for row in history(paths)] == ["flat"] * 4 + ["anneal"] * 2


@pytest.mark.parametrize("count", [0, IN_VALIDATION, IN_VALIDATION + 1])
def test_a_stop_in_validation_does_not_wait_for_its_end(count):
    training = make(stop=StopAt(count))
    with pytest.raises(Stopped, match="the test says so; saved at epoch 0, step"):
        train(training)
    state = load_checkpoint(training.run.paths / "last.ckpt")["state"]
    assert (state["step"], len(state["history"])) == ((STEPS, 1) if count else (0, 0))
    assert results(run()) == results(run("whole"))


@pytest.mark.parametrize("count", range(BEFORE, BEFORE + 2 * EPOCH))
def test_where_a_stop_says_that_it_saved_there_it_did(count):
    training = make(stop=StopAt(count))
    with pytest.raises(Stopped) as stopped:
        train(training)
    state = load_checkpoint(training.run.paths / "last.ckpt")["state"]
    assert str(stopped.value).endswith(f"saved at epoch {state['epoch']}, step {state['step']}")


def test_averaged_weights_are_not_saved_as_the_networks_own_by_a_stop_in_validation():
    changes = ["SOLVER.EMA_DECAY=0.9"]
    training = make(changes=changes, stop=StopAt(IN_VALIDATION))
    with pytest.raises(Stopped):
        train(training)
    content = load_checkpoint(training.run.paths / "last.ckpt")
    name = "segmentation_head.weight"
    assert not torch.equal(content["network"][name], content["ema"]["weights"][name])
    assert torch.equal(content["network"][name], training.learner.network.state_dict()[name])


def test_a_kill_before_history_is_written_loses_no_row(monkeypatch):
    expected = results(run("whole"))
    plain_record = trainer.record

    def killed(training):
        if training.state.history[-1]["epoch"] == 5:
            raise KeyboardInterrupt
        plain_record(training)

    monkeypatch.setattr(trainer, "record", killed)
    with pytest.raises(KeyboardInterrupt):
        run("killed")
    monkeypatch.setattr(trainer, "record", plain_record)
    assert results(run("killed")) == expected


def test_a_kill_between_last_and_best_is_mended(monkeypatch):
    changes = ["SOLVER.OPTIMIZER.NAME=AdamW"]
    expected = results(run("whole", changes=changes))
    plain_replace = trainer.replace_best

    def killed(path, source):
        if load_checkpoint(source)["state"]["epoch"] == 2:
            raise KeyboardInterrupt
        plain_replace(path, source)

    monkeypatch.setattr(trainer, "replace_best", killed)
    with pytest.raises(KeyboardInterrupt):
        run("killed", changes=changes)
    monkeypatch.setattr(trainer, "replace_best", plain_replace)
    assert make("killed", changes=changes).state.epoch == 2
    assert results(run("killed", changes=changes)) == expected


@pytest.mark.parametrize("damage", ["last.ckpt", "best.ckpt"])
def test_after_damage_to_a_checkpoint_training_still_ends_with_the_same_bits(monkeypatch, damage):
    """A new best in the first epoch after a revert is the worst case: `best.ckpt` is then newer than what is left."""
    script(monkeypatch, TIRED)
    expected = results(run("whole"))
    script(monkeypatch, TIRED)
    with pytest.raises(Stopped):
        run("damaged", stop=StopAt(BEFORE + 4 * EPOCH - 1))
    path = make("damaged").run.paths / damage
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    lines: list[str] = []
    training = make("damaged", log=lines.append)
    assert any("is damaged" in line for line in lines) or training.state.epoch == 0
    rest = training.state.epoch + 1 if training.state.history else 0
    script(monkeypatch, TIRED[rest:])
    train(training)
    assert results(training.run.paths) == expected


def test_saving_every_step_keeps_the_step_before(monkeypatch):
    script(monkeypatch, FALLING)
    training = make(changes=["SOLVER.SAVE_MINUTES=0"])
    begin(training)
    begin_epoch(training, training.plan[0])
    train_epoch(training, training.plan[0])
    last = training.run.paths / "last.ckpt"
    assert [load_checkpoint(path)["state"]["step"] for path in (last, previous_of(last))] == [STEPS, STEPS - 1]


def test_between_epochs_nothing_is_saved_before_it_is_due(monkeypatch):
    script(monkeypatch, FALLING)
    training = make(changes=["SOLVER.SAVE_MINUTES=60"])
    begin(training)
    begin_epoch(training, training.plan[0])
    train_epoch(training, training.plan[0])
    assert load_checkpoint(training.run.paths / "last.ckpt")["state"]["step"] == 0


@pytest.mark.parametrize("lags", [False, True])
def test_a_loss_that_is_not_finite_stops_names_the_batch_and_saves_nothing_broken(monkeypatch, lags):
    training = make(lags=lags, changes=["SOLVER.SAVE_MINUTES=0"])
    poison_loss(training, lambda: (training.state.epoch, training.state.step) == (1, 2), monkeypatch)
    with pytest.raises(UserError, match=r"not finite at epoch 1, step 2.*\n.*Lower SOLVER.MAX_LR \(now 0.05"):
        train(training)
    assert json.loads((training.run.paths / "not_finite.json").read_text())["samples"] == ["epoch 2 sample 2"]
    assert finite(training.run.paths)
    state = load_checkpoint(training.run.paths / "last.ckpt")["state"]
    assert (state["epoch"], state["step"]) == (1, 2)


@pytest.mark.parametrize("lags", [False, True])
def test_a_gradient_that_is_not_finite_is_noticed_at_its_own_batch(lags):
    training = make(lags=lags, changes=["SOLVER.SAVE_MINUTES=0"])

    def spoil(gradient):
        return gradient / 0 if (training.state.epoch, training.state.step) == (0, 3) else gradient

    training.learner.network.segmentation_head.weight.register_hook(spoil)
    with pytest.raises(UserError, match="epoch 0, step 3"):
        train(training)
    assert json.loads((training.run.paths / "not_finite.json").read_text())["samples"] == ["epoch 1 sample 3"]
    assert finite(training.run.paths)


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("lags", [False, True])
def test_nothing_poisoned_is_saved_at_whichever_step_it_comes(poison, lags):
    """Each training goes on from where the one before was refused. The long form: `python -m tests.long.poison`."""
    for step in range(STEPS):
        assert faults_of(poison, (1, step), lags, has_scaler=False, changes=[*CHANGES, "SOLVER.SAVE_MINUTES=0"]) == []


def test_gradients_that_overflow_at_every_loss_scale_end_training():
    changes = ["SOLVER.NUM_EPOCHS=12", "SOLVER.PATIENCE=12"]
    training = make(changes=changes, has_scaler=True)
    training.learner.network.segmentation_head.weight.register_hook(lambda grad: grad * float("nan"))
    with pytest.raises(UserError, match="the gradient is not finite at any loss scale"):
        train(training)
    state = load_checkpoint(training.run.paths / "last.ckpt")["state"]
    assert state["epoch"] * STEPS < 40  # halvings


def test_a_batch_norm_that_gets_one_image_is_refused_with_a_remedy(monkeypatch):
    training = make(changes=["DATALOADERS.TRAIN.BATCH_SIZE=4", "SOLVER.ACCUMULATE=4"])
    pooled = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.BatchNorm2d(3))
    training.learner.network.forward = lambda image: image + pooled(image)
    with pytest.raises(UserError, match=r"needs at least two images per forward pass\.\nRaise DATALOADERS"):
        train(training)


@pytest.mark.parametrize("optimizer", ["Ranger", "AdamW", "SGD", "RAdam"])
def test_a_rate_far_too_high_never_leaves_a_checkpoint_that_is_not_finite(optimizer):
    changes = [f"SOLVER.OPTIMIZER.NAME={optimizer}", "SOLVER.MAX_LR=1e30", "SOLVER.SAVE_MINUTES=0"]
    training = make(changes=changes)
    with pytest.raises(UserError, match="The saved checkpoints are intact"):
        train(training)
    assert finite(training.run.paths)


def test_a_validation_loss_that_is_not_finite_stops_also_where_dice_is_watched(monkeypatch):
    script(monkeypatch, [1.0, float("inf")])
    training = make(changes=["SOLVER.MONITOR=valid_dice"])
    with pytest.raises(UserError, match="the validation loss is not finite at epoch 0, step 4"):
        train(training)
    assert load_checkpoint(training.run.paths / "last.ckpt")["state"]["epoch"] == 0


def test_weights_that_are_not_finite_are_not_saved(monkeypatch):
    script(monkeypatch, FALLING)
    training = make()
    training.learner.network.encoder[1].running_var.fill_(float("inf"))
    with pytest.raises(UserError, match=r"network\.encoder\.1\.running_var is not finite"):
        train(training)
    assert not list(training.run.paths.folder.glob("*.ckpt"))


def test_an_operation_that_cuda_cannot_repeat_is_named(monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but you set ...")

    monkeypatch.setattr(trainer, "train_step", refuse)
    with pytest.raises(UserError, match="no repeatable way to do cumsum_cuda_kernel"):
        run()


def test_too_little_gpu_memory_is_refused_with_a_remedy_and_the_last_checkpoint_stays(monkeypatch):
    def refuse(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.81 GiB.")

    monkeypatch.setattr(trainer, "train_step", refuse)
    with pytest.raises(UserError) as told:
        run()
    first, second, *_ = str(told.value).splitlines()
    assert first == "the GPU's memory is too small."
    assert second.startswith("Not one sample fits. A smaller tile or MODEL.ENCODER.NAME needs less, and so does")
    assert load_checkpoint(make().run.paths / "last.ckpt")["state"]["epoch"] == 0


@pytest.mark.parametrize(
    ("batch_size", "remedy"),
    [(8, r"VALID\.BATCH_SIZE=4 validates fewer"), (1, "A single validation image does not fit")],
)
def test_validation_images_that_do_not_fit_into_a_gpus_memory_are_refused_with_a_remedy_of_their_own(
    monkeypatch, batch_size, remedy
):
    def refuse(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.81 GiB.")

    monkeypatch.setattr(trainer, "validate", refuse)
    with pytest.raises(UserError, match=remedy):
        run(changes=[f"DATALOADERS.VALID.BATCH_SIZE={batch_size}"])


def test_another_fault_passes_through_as_it_is(monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("something else")

    monkeypatch.setattr(trainer, "train_step", refuse)
    with pytest.raises(RuntimeError, match="something else"):
        run()


def test_a_class_never_found_is_logged_once_and_again_at_the_end(monkeypatch):
    script(monkeypatch, FALLING)
    plain = trainer.validate

    def never_a_car(*arguments):
        validation = plain(*arguments)
        return replace(validation, scores=replace(validation.scores, has_hit=[True, True, False]))

    monkeypatch.setattr(trainer, "validate", never_a_car)
    lines: list[str] = []
    run(log=lines.append)
    missed = [line for line in lines if line.startswith("never found")]
    behind = "validations: Car (Dice 0.500); the scores come from images without the class"
    assert missed == [f"never found in 5 {behind}", f"never found in 6 {behind}"]


def test_the_seed_of_a_step_is_its_own():
    seeds = {step_seed(seed, epoch, step) for seed in (0, 71) for epoch in (0, 1, 99) for step in (0, 1, 665)}
    assert len(seeds) == 18 and max(seeds) < 2**63


def test_the_running_means_are_asked_for_only_where_a_bar_shows_them(monkeypatch):
    training = make()
    asked = []
    plain = training.sums.means
    monkeypatch.setattr(training.sums, "means", lambda: asked.append(1) or plain())
    train(training)
    assert len(asked) == 5  # once an epoch: a GPU would have to be waited for


def test_history_has_a_row_per_epoch_and_a_column_per_class():
    rows = history(run())
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(len(rows))]
    assert rows[0]["train_loss"] == "" and rows[0]["lr"] == ""
    for name in CLASSES:
        assert 0 <= float(rows[1][f"train_dice_{name}"]) <= 1 and 0 <= float(rows[1][f"valid_iou_{name}"]) <= 1
