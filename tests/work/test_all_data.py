"""A run on all images: its length, rate and thresholds come from a run with a validation, and it has no score."""

from __future__ import annotations

import json

import pytest
import torch

from pipeline.commands.absent import why_absent
from pipeline.config.load import load
from pipeline.config.members import load_members
from pipeline.engine.chain import run_chain
from pipeline.errors import Stopped, UserError
from pipeline.paths import BEST, DECODE, HISTORY, LAST, METRICS, REPORT, SPLIT, SUBMISSION, SWEEP_FACTS, Folders
from pipeline.report.compare import compare_runs
from pipeline.report.read import read_columns
from pipeline.report.shakeup import read_scores
from pipeline.report.table import experiment_table
from pipeline.stages import STAGES
from pipeline.training.all_data import epochs_to_best, settled_plan
from pipeline.training.checkpoint import load_checkpoint
from tests.tiny import draw_nothing, executed, run_of, run_paths, run_stages, tiny, write_competition

COMMON = (
    *("DATASETS.AUGMENTATION.COPY_PASTE.VARIANT=random", "DECODE.SUPPRESS=fitted", "SOLVER.NUM_EPOCHS=2"),
    *("SOLVER.MAX_LR=auto", "SOLVER.ANN_EPOCHS=2"),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The tiny competition, and a run on it that is trained, scored and fitted."""
    folder = tmp_path_factory.mktemp("source")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("RUNS_DIR", "SUBMISSIONS_DIR", "SCRATCH_DIR"):
            monkeypatch.setenv(name, str(folder / name))
        draw_nothing(monkeypatch)
        data = write_competition(folder / "data")
        paths, _ = run_stages(tiny(data, *COMMON), "fit")
    return folder, data, paths.name


@pytest.fixture
def whole(source, monkeypatch):
    """`whole(CHANGE, ...)`: the resolved config that trains on all images by that run."""
    folder, data, name = source
    for variable in ("RUNS_DIR", "SUBMISSIONS_DIR", "SCRATCH_DIR"):
        monkeypatch.setenv(variable, str(folder / variable))
    draw_nothing(monkeypatch)
    return lambda *changes: tiny(data, *COMMON, "DATASETS.SPLIT.BY=none", f"SOLVER.FROM={name}", *changes)


def test_a_run_on_all_images_goes_through_the_chain_and_says_everywhere_that_it_has_no_score(whole, source):
    loaded = whole()
    paths, lines = run_stages(loaded)
    assert executed(lines) == ["prepare", "tile", "train", "fit", "predict", "submit", "report"]
    assert "testset   reused from" in "\n".join(lines)
    other = run_paths(source[2])
    assert set(read_columns(paths / SPLIT)["subset"]) == {"train"}
    # As long as the other run was on the way to its best weights, with its rate and its thresholds.
    history = read_columns(other / HISTORY)
    wanted = epochs_to_best(history, {"anneal"})
    own = read_columns(paths / HISTORY)
    assert {phase: own["phase"][1:].count(phase) for phase in dict.fromkeys(own["phase"][1:])} == wanted
    assert float(own["lr"][1]) == json.loads((other / SWEEP_FACTS).read_text())["max_lr"]
    assert (paths / DECODE).read_bytes() == (other / DECODE).read_bytes()
    assert set(own["valid_loss"]) == set(own["valid_dice"]) == {""} and all(own["train_loss"][1:])
    best, last = (load_checkpoint(paths / name)["network"] for name in (BEST, LAST))
    assert all(torch.equal(best[key], last[key]) for key in best)
    text = "\n".join(lines)
    assert "none for validation: this run gets no score of its own" in text
    assert "note: no local score:" in text and "no validation" in text and "warning" not in text
    origin = json.loads((Folders.from_environment().submissions / f"{paths.name}.json").read_text())
    assert origin["local_score"] is None and origin["local_scores"] == {} and origin["split_by"] == "none"
    assert origin["no_local_score"].endswith(f"its epochs are those of {source[2]}")
    assert not (paths / METRICS).exists() and json.loads((paths / SUBMISSION).read_text())["checked"]
    page = (paths / REPORT).read_text()
    assert "No score: this run was trained on all images" in page and "Score per class" not in page
    assert executed(run_stages(loaded)[1]) == []
    runs = paths.folder.parent
    assert "reported, all images" in experiment_table(runs, STAGES, [paths.name.removeprefix("demo")], width=200)
    note = f"{paths.name} was trained on all images (DATASETS.SPLIT.BY: none) and has no score of its own"
    assert note in str(compare_runs([source[2], paths.name], runs))
    with pytest.raises(UserError, match="has no score of its own"):
        read_scores({name: runs / name for name in (source[2], paths.name)})


def test_a_run_on_all_images_that_is_stopped_goes_on_to_the_same_bits(whole):
    loaded = whole("SOLVER.SAVE_MINUTES=0")
    paths, _ = run_stages(loaded, "train", force=("train",))
    expected = {name: (paths / name).read_bytes() for name in (BEST, LAST, HISTORY)}
    run = run_of(loaded, lambda line: stop(line))

    def stop(line: str) -> None:
        if line.startswith("epoch   1"):
            run.stop.reason = "the test says so"

    with pytest.raises(Stopped):
        run_chain(run, "train", ("train",))
    run_stages(loaded, "train")
    assert {name: (paths / name).read_bytes() for name in expected} == expected


def test_scores_of_an_earlier_state_of_the_run_are_removed(whole):
    loaded = whole("SOLVER.POWER=3")
    paths = run_paths(loaded.run)
    paths.markers.mkdir(parents=True)
    for path in (paths / METRICS, paths.marker("evaluate")):
        path.write_text("{}")
    run_stages(loaded, "train")
    assert not (paths / METRICS).exists() and not paths.marker("evaluate").exists()


def test_the_length_is_that_of_the_way_to_the_best_weights():
    phases = ["flat"] * 5 + ["anneal"] * 3
    best_at = {1: {"flat": 1}, 4: {"flat": 4}, 6: {"flat": 2, "anneal": 2}}
    for last, wanted in best_at.items():
        is_best = ["1" if (epoch in (2, last) and epoch <= last) or epoch == 1 else "0" for epoch in range(8)]
        assert epochs_to_best({"phase": phases, "is_best": is_best}, {"anneal"}) == wanted
    assert epochs_to_best({"phase": phases, "is_best": ["0"] * 7 + ["1"]}, ()) == {"flat": 4, "anneal": 3}
    with pytest.raises(UserError, match="no epoch of X is marked as its best"):
        epochs_to_best({"phase": phases, "is_best": ["1"] + ["0"] * 7}, (), "X")


def test_a_cut_annealing_stays_on_its_curve(whole):
    loaded = whole("SOLVER.MAX_LR=0.01")
    plan = settled_plan(loaded, Folders.from_environment())
    assert all(phase.curve_epochs >= phase.epochs and phase.patience is None for phase in plan)
    assert {phase.start_from for phase in plan} == {"last"} and {phase.max_lr for phase in plan} == {0.01}
    by_name = {phase.name: phase for phase in loaded.plan}
    assert [phase.curve_epochs for phase in plan] == [by_name[phase.name].epochs for phase in plan]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["SOLVER.FROM=null"], "DATASETS.SPLIT.BY: none leaves no validation that says when to stop; name a run"),
        (["DATASETS.SPLIT.BY=slice"], "SOLVER.FROM: has an effect with DATASETS.SPLIT.BY none only, found slice"),
        (["LOSS_FN.ADAPTIVE.ENABLE=true"], "LOSS_FN.ADAPTIVE.ENABLE: true needs the validation Dice"),
        (["DATASETS.AUGMENTATION.COPY_PASTE.VARIANT=weighted"], "COPY_PASTE.VARIANT: weighted needs the validation"),
    ],
)
def test_what_needs_a_validation_is_refused(whole, changes, message):
    with pytest.raises(UserError) as caught:
        whole(*changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["SOLVER.FROM=nobody"], r"^SOLVER\.FROM: nobody is not trained .*; no config and no run has this name$"),
        (["SOLVER.FROM=ExpAAA"], r"^SOLVER\.FROM: ExpAAA is not trained .*; train .*: \./run\.sh ExpAAA evaluate$"),
        (["SOLVER.PLAN=constant"], r"^SOLVER\.FROM: .* has the phases flat, anneal, this plan constant; use the same"),
        (["DECODE.OFFSETS=fitted"], r"^DECODE\.OFFSETS: found fitted, but .* has none; set the same"),
    ],
)
def test_a_run_to_take_from_that_does_not_fit_is_refused_before_anything_runs(whole, changes, message):
    lines: list[str] = []
    run = run_of(whole(*changes), lines.append)
    with pytest.raises(UserError, match=message):
        run_chain(run, "report")
    assert executed(lines) == []


def test_a_run_on_all_images_is_no_source_and_no_member(whole, source):
    loaded = whole()
    paths, _ = run_stages(loaded, "train")
    with pytest.raises(UserError, match=r"^SOLVER\.FROM: .* was itself trained on all images"):
        run_stages(whole(f"SOLVER.FROM={paths.name}", "SOLVER.POWER=2"), "train")
    members = load("DemoEns", ("DATASETS.SPLIT.BY=none", "SOLVER.FROM=demo"))
    with pytest.raises(UserError, match=r"is trained on all images .* so no image is out of fold for it"):
        load_members(members)
    assert why_absent("evaluate", loaded) == "DATASETS.SPLIT.BY is none: no image is left for validation"
    assert "SOLVER.FROM" in why_absent("sweep", loaded)
