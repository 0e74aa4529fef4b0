"""From a run's files to a training: where weights come from, what is continued, what is refused at once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pipeline.config.load import load
from pipeline.config.plan import Phase
from pipeline.errors import Stopped, UserError
from pipeline.paths import shown
from pipeline.segmentation.learning import scored_classes
from pipeline.segmentation.networks import num_outputs
from pipeline.training import assemble as assemble_module
from pipeline.training.assemble import assemble, loss_terms, open_data, plan_of
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.inputs import seed_of
from pipeline.training.trainer import train
from tests.tiny import ROAD, executed, run_of, run_stages

pytestmark = pytest.mark.usefixtures("without_drawing")


def gather(loaded, key="key", log=lambda line: None):
    return assemble(replace(run_of(loaded, log), key=key))


def test_outputs_classes_and_seed_follow_the_settings(workshop):
    plain = workshop.tiny()
    assert (num_outputs(plain), scored_classes(plain), seed_of(plain)) == (12, tuple(range(12)), 2)
    other = workshop.tiny("DATASETS.PADDING=class", "DATASETS.CLASSES=[Road, Car]", "EXPERIMENT.SEED=5")
    assert (num_outputs(other), scored_classes(other), seed_of(other)) == (13, (3, ROAD), 5)


def test_a_frozen_part_that_the_network_lacks_is_refused_before_the_first_step(workshop, monkeypatch):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    run_stages(loaded, "tile")
    later = Phase("late", 1, "flat", 0.1, 0.0, freeze=("encoder.layer1",))
    monkeypatch.setattr(assemble_module, "plan_of", lambda *arguments: (*loaded.plan, later))
    with pytest.raises(
        UserError, match=r"FREEZE: the network has no part 'encoder\.layer1'; it has batch_norm, encoder,"
    ):
        gather(loaded)


def test_a_warm_up_longer_than_its_phase_is_refused_before_the_first_step(workshop, monkeypatch):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    run_stages(loaded, "tile")
    slow = Phase("slow", 2, "poly", 0.1, 0.0, warmup_steps=9)
    monkeypatch.setattr(assemble_module, "plan_of", lambda *arguments: (slow,))
    with pytest.raises(UserError, match=r"phase slow warms up for 9 steps but has only 8 \(4 per epoch\)"):
        gather(loaded)


def test_fewer_samples_than_a_batch_are_refused_with_a_size_that_fits(workshop):
    loaded = workshop.tiny("SWEEP.ENABLE=false", "DATALOADERS.TRAIN.BATCH_SIZE=512", "DATALOADERS.TRAIN.DROP_LAST=true")
    run_stages(loaded, "tile")
    with pytest.raises(
        UserError, match=r"BATCH_SIZE is 512, but there are \d+ training samples.*\nSet BATCH_SIZE to \d+"
    ):
        gather(loaded)


def test_auto_takes_the_rate_of_the_sweep(workshop):
    loaded = workshop.tiny("SOLVER.MAX_LR=auto")
    paths, _ = run_stages(loaded, "tile")
    (paths / "lr_sweep.json").write_text(json.dumps({"max_lr": 0.25}))
    assert [phase.max_lr for phase in plan_of(run_of(loaded))] == [0.25, 0.25]


def test_a_sample_is_described_by_image_tile_and_epoch(workshop):
    tiles = "DATASETS.AUGMENTATION.TILE"
    loaded = workshop.tiny(
        f"{tiles}.ENABLE=true", f"{tiles}.WIDTH=32", f"{tiles}.HEIGHT=32", f"{tiles}.SETS=[[64,64,2,2]]"
    )
    run_stages(loaded, "tile")
    data = open_data(run_of(loaded))
    batch = next(iter(data.train_batches(3, 0, True, [])))
    described = {data.describe(key) for key in batch.keys}
    assert all(text.endswith(" of 64x64, epoch 3") and " 32x32+" in text for text in described)


def test_terms_are_those_of_the_validation_and_of_every_phase_each_once():
    plain = load("demo", ("LOSS_FN.MIX=0.5 ce + 0.5 dice", "SOLVER.PLAN=flat_cosine"))
    flat, anneal = plain.plan
    assert loss_terms(plain, plain.plan) == ("ce", "dice")
    phases = (replace(flat, loss="1 lovasz"), replace(anneal, loss="0.3 dice + 0.7 focal"))
    assert loss_terms(plain, phases) == ("ce", "dice", "lovasz", "focal")


def test_a_continued_training_needs_no_encoder_weights(workshop, monkeypatch):
    """Kaggle's second session without the weights attached, or without internet."""
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    paths, _ = run_stages(loaded, "train")
    key = load_checkpoint(paths / "last.ckpt")["state"]["key"]
    monkeypatch.setattr(assemble_module, "load_encoder", lambda *arguments: pytest.fail("asked"))
    assert gather(loaded, key).state.epoch == 2


def test_a_training_that_was_interrupted_is_not_asked_for_the_weights_it_began_with(workshop, monkeypatch):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    paths, _ = run_stages(loaded, "train")
    (paths.markers / "train.json").unlink()
    monkeypatch.setattr(assemble_module, "start_learner", lambda *arguments: pytest.fail("asked"))
    _, lines = run_stages(loaded, "train")
    assert executed(lines) == ["train"]


def test_a_start_that_fails_leaves_what_an_earlier_training_left(workshop, monkeypatch):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    paths, _ = run_stages(loaded, "train")

    def refuse(*arguments):
        raise UserError("no weights here")

    monkeypatch.setattr(assemble_module, "start_learner", refuse)
    with pytest.raises(UserError, match="no weights here"):
        gather(loaded, "another key")
    assert (paths / "best.ckpt").exists() and (paths / "history.csv").exists()


def test_a_training_of_other_settings_is_set_aside_and_leaves_nothing_in_the_way(workshop):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    paths, _ = run_stages(loaded, "train")
    before = {name: (paths / name).read_bytes() for name in ("best.ckpt", "last.ckpt", "history.csv")}
    lines: list[str] = []
    training = gather(loaded, "another key", lines.append)
    assert training.state.history == []
    left = {path.name for path in paths.folder.iterdir()}
    assert not left & {*before, "previous-last.ckpt", "timings.csv", "steps.csv"}
    assert {path.name: path.read_bytes() for path in (paths / "replaced").iterdir()} == before
    assert lines[-1] == f"the earlier training is kept in {shown(paths / 'replaced')} until it is replaced again"


def test_a_training_that_was_only_begun_does_not_replace_what_is_kept(workshop):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    paths, _ = run_stages(loaded, "train")
    before = (paths / "last.ckpt").read_bytes()
    gather(loaded, "another key")
    begun = workshop.tiny("SWEEP.ENABLE=false", "SOLVER.SAVE_MINUTES=0")
    training = gather(begun, "another key")
    training.run.stop.reason = "the test says so"
    with pytest.raises(Stopped):
        train(training)
    assert load_checkpoint(paths / "last.ckpt")["state"]["epoch"] == 0
    gather(loaded, "a third key")
    assert (paths / "replaced" / "last.ckpt").read_bytes() == before


def test_a_run_may_start_from_an_earlier_one(workshop):
    first, _ = run_stages(workshop.tiny("SWEEP.ENABLE=false"), "train")
    loaded = workshop.tiny(f"EXPERIMENT.LOAD_PREV={first / 'best.ckpt'}", "SOLVER.MAX_LR=1e-6", "SWEEP.ENABLE=false")
    second, _ = run_stages(loaded, "train")
    before, after = (load_checkpoint(paths / "best.ckpt")["state"] for paths in (first, second))
    assert after["history"][0]["valid_loss"] == before["best"]


def test_an_earlier_run_of_another_architecture_is_refused_by_the_first_mismatch(workshop):
    first, _ = run_stages(workshop.tiny("SWEEP.ENABLE=false"), "train")
    name = f"EXPERIMENT.LOAD_PREV={first / 'best.ckpt'}"
    with pytest.raises(UserError, match=r"best\.ckpt does not fit this network: it has no decoder\.p5\.weight"):
        run_stages(workshop.tiny(name, "MODEL.NAME=FPN", "SWEEP.ENABLE=false"), "train")


def test_a_finished_training_needs_its_last_checkpoint_no_more(workshop):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    paths, _ = run_stages(loaded, "train")
    (paths / "last.ckpt").unlink()
    assert executed(run_stages(loaded, "train")[1]) == []


@pytest.mark.parametrize("name", ["best.ckpt", "history.csv"])
def test_a_removed_product_of_training_comes_back_the_same(workshop, name):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    paths, _ = run_stages(loaded, "train")
    before = {path: (paths / path).read_bytes() for path in ("best.ckpt", "last.ckpt", "history.csv")}
    (paths / name).unlink()
    _, lines = run_stages(loaded, "train")
    assert executed(lines) == ["train"] and f"({name} is gone or was changed)" in "\n".join(lines)
    assert {path: (paths / path).read_bytes() for path in before} == before
