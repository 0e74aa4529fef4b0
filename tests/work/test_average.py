"""Averaged weights: adopted where they are better on out-of-fold images, and read by all that predicts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from pipeline.config.load import load
from pipeline.engine.dependence import why_run
from pipeline.errors import Stopped, UserError
from pipeline.files import sha256_file
from pipeline.paths import (
    AVERAGE,
    BEST,
    CANDIDATES,
    CHOSEN,
    CONFIG,
    HISTORY,
    METRICS,
    REPORT,
    SPLIT,
    STREAM,
    TRAIN_CATALOG,
    Folders,
)
from pipeline.report.read import read_columns
from pipeline.report.trained_on import images_trained_on, own_images, trained_on
from pipeline.training.assemble import load_network, open_data
from pipeline.training.averaging import mean_weights
from pipeline.training.candidates import candidate_path, load_candidates
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.learner import validated_weights
from pipeline.work import average as average_module
from pipeline.work.average import Averaging, average
from pipeline.work.average_runs import check_runs
from tests import tiny as tiny_module
from tests.experiments import copy_configs, run_all, use_copy, write_ensemble, write_members
from tests.tiny import executed, run_of, run_paths, run_stages, write_competition

pytestmark = pytest.mark.slow

NUM_SEQUENCES = 30  # of one image each; 6 are for validation
LEARNS = {
    "DATASETS.SPLIT.BY": "slice",
    "SWEEP.ENABLE": False,
    "SOLVER.PLAN": "constant",
    "SOLVER.NUM_EPOCHS": 9,
    "SOLVER.OPTIMIZER.NAME": "AdamW",
    "SOLVER.MAX_LR": 0.03,
    "SOLVER.PATIENCE": 9,
}
SWA = {"AVERAGE.METHOD": "swa", "AVERAGE.COUNT": 3}


@pytest.fixture(scope="module")
def finished(project, tmp_path_factory):
    """The folder of two finished runs of one split: AvgA averages its last epochs, AvgB of another seed does not."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_module, "TRAIN_SEQUENCES", NUM_SEQUENCES)
        patch.setattr(tiny_module, "FRAMES", 1)
        data = write_competition(folder / "data")
    configs = copy_configs(project, folder)
    members = {"AvgA": SWA, "AvgB": {"EXPERIMENT.SEED": 5, "SOLVER.NUM_EPOCHS": 3}}
    write_members(configs, LEARNS | {"DATASETS.DIRECTORY": str(data)}, members)
    write_ensemble(configs, "AvgEns", members, {"COMPETITION": "demo", "DIRECTORY": str(data)})
    run_all(folder, ["AvgA"])
    run_all(folder, ["AvgB"], "train")
    return folder


@pytest.fixture
def runs(finished, tmp_path, monkeypatch) -> Path:
    """This test's own copy of the finished runs."""
    use_copy(monkeypatch, finished, tmp_path, has_tiles=True)
    return tmp_path / "runs"


def facts_of(name: str) -> dict:
    return json.loads((run_paths(name) / AVERAGE).read_text())


def weights(path: Path) -> dict[str, Tensor]:
    return validated_weights(load_checkpoint(path))


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def moved(network: dict[str, Tensor], sign: int, size: float = 0.5) -> dict[str, Tensor]:
    """Returns a network moved by noise in a random direction or in the opposite one; statistics of norms, too."""
    torch.manual_seed(1)
    noise = {name: torch.randn(value.shape) for name, value in network.items() if value.is_floating_point()}
    return {
        name: value + sign * size * noise[name] * (value.std() if value.numel() > 1 else 0.1) * ("var" not in name)
        if name in noise
        else value
        for name, value in network.items()
    }


def write_weights(path: Path, network: dict[str, Tensor]) -> None:
    save_checkpoint(path, load_checkpoint(path) | {"network": network, "ema": None})


def spoil(name: str) -> dict[str, Tensor]:
    """Moves the best epoch's weights one way and those of the two last epochs both ways; returns the unmoved ones.

    Their mean is then a far better network than each of them.
    """
    paths = run_paths(name)
    good = weights(paths / BEST)
    write_weights(paths / BEST, moved(good, 1))
    for epoch, sign in ((8, 1), (9, -1)):
        write_weights(candidate_path(paths / CANDIDATES, epoch), moved(good, sign))
    return good


def test_a_run_that_averages_says_everywhere_which_weights_predicted(runs):
    paths, facts = run_paths("AvgA"), facts_of("AvgA")
    assert facts["method"] == "swa" and facts["images"] == facts["gain"]["num_groups"] == 6
    assert [one["name"] for one in facts["networks"]] == ["epoch 7", "epoch 8", "epoch 9"]
    assert facts["adopted"] == (facts["gain"]["low"] > 0)
    metrics = json.loads((paths / METRICS).read_text())
    # What was compared is what `evaluate` measures, as PREDICT asks for nothing else here.
    wanted = facts["averaged" if facts["adopted"] else "best"]
    assert metrics["scores"]["dice"]["mean"] == pytest.approx(wanted, abs=1e-9)
    assert metrics["checkpoint"]["sha256"] == sha256_file(paths / CHOSEN)
    assert facts["adopted"] != same(weights(paths / CHOSEN), weights(paths / BEST))
    page = (paths / REPORT).read_text()
    assert "Averaged weights" in page and f"The run predicts with: {facts['weights']}." in page
    assert executed(run_stages(load("AvgA"))[1]) == ["submit"], "whose folder is this test's own"
    origin = Folders.from_environment().submissions / "AvgA.json"
    assert json.loads(origin.read_text())["weights"] == facts["weights"]


def test_another_way_to_predict_neither_trains_nor_averages_anew(runs, finished, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for path in (finished / "data/imgs/imgs").glob(f"{NUM_SEQUENCES + 1:06d}_*.jpg"):
        shutil.copy(path, hidden / f"hidden_{path.name}")
    for change in ("PREDICT.TTA=flip", "SUBMIT.TIME_LIMIT_HOURS=1", f"DATASETS.TEST_DIRECTORY={hidden}"):
        paths, lines = run_stages(load("AvgA", (change,)))
        assert not {"train", "average"} & set(executed(lines)) and "submit" in executed(lines)
        assert (paths / CHOSEN).read_bytes() == (run_paths("AvgA") / CHOSEN).read_bytes()


def test_other_weights_are_scored_and_predict_anew(runs):
    spoil("AvgA")
    run = run_of(load("AvgA"))
    average(run)
    for stage in ("evaluate", "predict"):
        assert why_run(run.stage(stage), run) == "chosen.ckpt changed"


def test_a_better_mean_is_adopted_and_is_the_mean_with_statistics_of_its_own(runs):
    good, lines = spoil("AvgA"), []
    run, paths = run_of(load("AvgA"), lines.append), run_paths("AvgA")
    epochs = list(load_candidates(paths, (7, 8, 9), load_checkpoint(paths / BEST)["state"]["key"]))
    before = {path.name: path.read_bytes() for path in (paths / BEST, *(paths / CANDIDATES).iterdir())}
    average(run)
    facts = facts_of("AvgA")
    assert facts["adopted"] and facts["gain"]["low"] > 0 and facts["averaged"] > facts["best"] + 0.05
    assert facts["weights"] == "mean of epochs 7, 8, 9"
    assert lines[0].startswith("mean of epochs 7, 8, 9: Dice 0.") and lines[0].endswith("): better; adopted")
    assert facts["verdict"] == "better"
    found, mean = weights(paths / CHOSEN), mean_weights(epochs)
    names = {name for name in found if "running" in name or "tracked" in name}
    assert all(torch.equal(found[name], mean.weights[name]) for name in found.keys() - names)
    assert facts["renewed_norms"] == len([name for name in names if "mean" in name]) > 10
    # The statistics are those of one pass over the samples of the best epoch, layer by layer from the first on.
    network, _, _ = load_network(run, mean.weights, "the mean")
    inputs = []
    network.encoder.model.conv_stem.register_forward_hook(lambda module, arguments, output: inputs.append(output))
    state = load_checkpoint(paths / BEST)["state"]
    with torch.no_grad():
        for batch in open_data(run).train_batches(state["epoch"], 0, True, state["class_scores"]):
            network.eval()(normalise(batch.images, scaling_of(network, run.loaded.config.model.encoder)))
    wanted = torch.stack([batch.mean((0, 2, 3)) for batch in inputs]).mean(0)
    assert torch.allclose(found["encoder.model.bn1.running_mean"], wanted, atol=1e-5)
    assert len(good) == len(found) and not (paths / STREAM).exists()
    after = {path.name: path.read_bytes() for path in (paths / BEST, *(paths / CANDIDATES).iterdir())}
    assert after == before, "what training wrote stays"
    run_stages(load("AvgA"), "evaluate", stages=(run.stage("evaluate"),))
    metrics = json.loads((paths / METRICS).read_text())
    assert metrics["scores"]["dice"]["mean"] == pytest.approx(facts["averaged"], abs=1e-9)
    assert metrics["checkpoint"] == {
        "epoch": None,
        "valid_loss": None,
        "sha256": sha256_file(paths / CHOSEN),
        "parameters": sum(own.numel() for own in load_network(run, found, "the mean")[0].parameters()),
        "weights": "mean of epochs 7, 8, 9",
    }


def test_a_mean_that_is_not_better_leaves_the_best_epoch(runs):
    paths, good, lines = run_paths("AvgA"), weights(run_paths("AvgA") / BEST), []
    for epoch in (8, 9):
        write_weights(candidate_path(paths / CANDIDATES, epoch), moved(good, 1))
    average(run_of(load("AvgA"), lines.append))
    facts = facts_of("AvgA")
    assert not facts["adopted"] and facts["averaged"] < facts["best"] and facts["weights"].endswith("the best one")
    assert (paths / CHOSEN).read_bytes() == (paths / BEST).read_bytes()
    assert f"): {facts['verdict']}; the weights of epoch" in lines[0] and facts["verdict"] != "better"


def edit_column(path: Path, column: str, value: str) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table[column] = value
    table.to_csv(path, index=False)


def test_with_one_sequence_nothing_is_proven_and_the_best_epoch_stays(runs):
    spoil("AvgA")
    paths, lines = run_paths("AvgA"), []
    edit_column(paths / TRAIN_CATALOG, "sequence", "one")
    average(run_of(load("AvgA"), lines.append))
    facts = facts_of("AvgA")
    assert facts["averaged"] > facts["best"] and not facts["adopted"]
    assert facts["gain"]["low"] is None and facts["gain"]["num_groups"] == 1
    assert "(no interval): one sequence: nothing can be concluded; the weights of epoch" in lines[0]
    assert (paths / CHOSEN).read_bytes() == (paths / BEST).read_bytes()


def test_images_that_the_run_was_trained_on_prove_nothing(runs, finished, monkeypatch):
    spoil("AvgA")
    run, lines = run_of(load("AvgA"), print), []
    monkeypatch.setattr(average_module, "own_images", lambda run: None)
    average(replace(run, log=lines.append))
    assert lines == [f"not averaged: no validation image is out of fold for this run; the weights of {best()} stay"]
    valid = [row for row in zip(*read_columns(run.paths / SPLIT).values(), strict=True) if row[1] == "valid"]
    monkeypatch.setattr(average_module, "own_images", lambda run: {image_id for image_id, *_ in valid[:2]})
    average(run)
    assert facts_of("AvgA")["images"] == 4


def best() -> str:
    return f"epoch {load_checkpoint(run_paths('AvgA') / BEST)['state']['best_epoch']}"


def test_a_stage_that_is_stopped_goes_on_with_what_was_scored_to_the_same_bits(runs, monkeypatch):
    spoil("AvgA")
    run, paths = replace(run_of(load("AvgA")), key="key"), run_paths("AvgA")
    average(run)
    wanted = {name: (paths / name).read_bytes() for name in (CHOSEN, AVERAGE)}
    for name in wanted:
        (paths / name).unlink()
    plain, scored = Averaging._score, []

    def score(self, weights, name):
        if len(scored) == 1:
            self.run.stop.reason = "the test says so"
        scored.append(name)
        return plain(self, weights, name)

    monkeypatch.setattr(Averaging, "_score", score)
    with pytest.raises(Stopped, match="while weights are averaged; scores kept: 1"):
        average(run)
    assert not (paths / CHOSEN).exists() and (paths / STREAM / AVERAGE).is_file()
    run.stop.reason = None
    average(run)
    assert len(scored) == 3 and scored[2] == scored[1], "the first network is not scored again"
    assert {name: (paths / name).read_bytes() for name in wanted} == wanted


def test_a_damaged_epoch_is_refused_with_the_way_out(runs):
    path = candidate_path(run_paths("AvgA") / CANDIDATES, 8)
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"epoch_0008\.ckpt is damaged.*`train --force`, or set AVERAGE.METHOD: none"):
        run_stages(load("AvgA"), "average")


def test_another_count_trains_anew_and_leaves_no_epoch_of_before(runs, finished):
    config = finished / "configs" / "AvgA.yaml"
    text = config.read_text()
    try:
        config.write_text(text.replace("COUNT: 3", "COUNT: 2").replace("NUM_EPOCHS: 9", "NUM_EPOCHS: 4"))
        paths, lines = run_stages(load("AvgA"), "average")
    finally:
        config.write_text(text)
    assert any("AVERAGE.COUNT changed (3 -> 2)" in line or "the earlier training is kept" in line for line in lines)
    assert sorted(path.name for path in (paths / CANDIDATES).iterdir()) == [f"epoch_{n:04d}.ckpt" for n in (2, 3, 4)]
    assert facts_of("AvgA")["weights"].split(",")[0] in ("mean of epochs 3", "epoch 1", "epoch 2", "epoch 3", "epoch 4")


def greedy(*names: str) -> tuple[str, ...]:
    return ("AVERAGE.METHOD=greedy", f"AVERAGE.RUNS=[{', '.join(names)}]")


def copy_run(name: str, network: dict[str, Tensor]) -> None:
    """Makes another run of AvgB's settings with these weights."""
    paths = run_paths(name)
    shutil.copytree(run_paths("AvgB").folder, paths.folder)
    write_weights(paths / BEST, network)


def test_a_soup_of_runs_takes_those_that_help_and_trains_nothing(runs):
    paths = run_paths("AvgB")
    good = weights(run_paths("AvgA") / BEST)
    write_weights(paths / BEST, moved(good, 1))
    copy_run("Opposite", moved(good, -1))
    copy_run("Random", moved(good, 1, size=4.0))
    loaded = load("AvgB", greedy("Random", "Opposite"))
    shutil.copytree(paths.folder, run_paths(loaded.run).folder)
    found, _ = run_stages(loaded, "average", stages=(run_of(loaded).stage("average"),))
    facts = facts_of(loaded.run)
    assert facts["adopted"] and facts["runs"] == ["Opposite"]
    assert facts["weights"] == f"greedy mean of {loaded.run}, Opposite"
    used = {one["name"]: one["is_used"] for one in facts["networks"]}
    assert used == {loaded.run: True, "Random": False, "Opposite": True}
    assert facts["averaged"] > max(one["score"] for one in facts["networks"])
    assert facts["in_sample"] == pytest.approx(facts["averaged"] - facts["best"])
    mean = mean_weights([moved(good, 1), moved(good, -1)]).weights
    name = "encoder.model.conv_stem.weight"
    assert torch.equal(weights(found / CHOSEN)[name], mean[name])
    # Whoever starts from the soup has seen what all of its runs have seen.
    edit_column(run_paths("Opposite") / SPLIT, "subset", "train")
    write_config(run_paths("Later").folder, {"EXPERIMENT": {"LOAD_PREV": str(found / CHOSEN)}})
    (run_paths("Later") / SPLIT).write_text("id,subset\n")
    seen = images_trained_on(run_paths("Later"), "demo", Folders.from_environment())
    assert len(seen) == NUM_SEQUENCES and len(images_trained_on(found, "demo", Folders.from_environment())) < 30
    # So has the soup as a member of an ensemble, or as a teacher.
    assert len(trained_on(run_of(loaded))) == NUM_SEQUENCES and len(own_images(run_of(loaded))) < 30


def test_a_better_run_that_no_mean_improves_predicts_alone_and_is_called_no_mean(runs):
    good = weights(run_paths("AvgA") / BEST)
    write_weights(run_paths("AvgB") / BEST, moved(good, 1, size=4.0))
    copy_run("Good", good)
    loaded = load("AvgB", greedy("Good"))
    shutil.copytree(run_paths("AvgB").folder, run_paths(loaded.run).folder)
    run_stages(loaded, "average", stages=(run_of(loaded).stage("average"),))
    facts = facts_of(loaded.run)
    assert facts["runs"] == ["Good"] and facts["weights"] == "the weights of Good alone"
    assert facts["words"].startswith("the weights of Good alone: Dice 0.")


def write_config(folder: Path, changes: dict) -> None:
    """Writes a resolved config like AvgB's with other values."""
    lines = (run_paths("AvgB") / CONFIG).read_text().splitlines()
    tree = json.loads("\n".join(line for line in lines if not line.startswith("#")))
    for group, values in changes.items():
        tree[group] |= values
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(tree))


def test_a_soup_of_real_runs_is_honest_about_each(runs):
    loaded = load("AvgB", greedy("AvgA"))
    paths, lines = run_stages(loaded, "average")
    assert "train" not in executed(lines), "the training of AvgB is reused"
    assert any(line.startswith("note: AvgA has the seed 2 and this run 5, so their decoders") for line in lines)
    facts = facts_of(loaded.run)
    assert {one["name"] for one in facts["networks"]} == {loaded.run, "AvgA"} and facts["in_sample"] >= 0
    assert len(facts["by_fold"]) == 5 and facts["adopted"] == (facts["gain"]["low"] > 0)
    assert (paths / CHOSEN).is_file()


def test_too_few_sequences_choose_no_soup(runs):
    loaded, lines = load("AvgB", greedy("AvgA")), []
    shutil.copytree(run_paths("AvgB").folder, run_paths(loaded.run).folder)
    edit_column(run_paths(loaded.run) / TRAIN_CATALOG, "sequence", "one")
    average(run_of(loaded, lines.append))
    assert "choosing needs 4 out-of-fold sequences or more, found 1; the weights of epoch" in lines[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "seen",
            "was trained on 6 of the 6 validation images of this run, such as 0000.*so they cannot be used to choose",
        ),
        ({"MODEL": {"NAME": "FPN"}}, "has MODEL.NAME FPN, this run Linknet; weights are averaged of one architecture"),
        ({"EXPERIMENT": {"LOAD_PREV": "elsewhere/best.ckpt"}}, "started from weights of unknown origin"),
        ("classes", "has the classes A, this run Background, Person"),
        ("untrained", "is not trained .*RUNS takes the names of run folders below"),
    ],
)
def test_runs_that_cannot_be_averaged_are_refused_before_anything_is_spent(runs, change, message):
    if change != "untrained":
        shutil.copytree(run_paths("AvgA").folder, run_paths("Other").folder)
    if change == "seen":
        edit_column(run_paths("Other") / SPLIT, "subset", "train")
    elif change == "classes":
        (run_paths("Other") / "classes.csv").write_text("name\nA\n")
    elif change != "untrained":
        write_config(run_paths("Other").folder, change)
    loaded = load("AvgB", greedy("Other"))
    with pytest.raises(UserError, match=f"AVERAGE.RUNS: Other {message}"):
        run_stages(loaded, "average")
    itself = replace(loaded.config.average, runs=(loaded.run,))
    with pytest.raises(UserError, match=f"{loaded.run} is this run itself"):
        check_runs(run_of(replace(loaded, config=replace(loaded.config, average=itself))))


def test_an_ensemble_asks_for_members_that_are_averaged_and_predicts_with_what_was_chosen(runs):
    paths = run_paths("AvgA")
    for name in (CHOSEN, ".stages/average.json"):
        (paths / name).unlink()
    with pytest.raises(UserError, match=r"AvgA  not averaged: .*; type: ./run.sh AvgA average"):
        run_stages(load("AvgEns"))
    run_stages(load("AvgA"), "average")
    found, _ = run_stages(load("AvgEns"), "submit")
    members = json.loads((found / "members.json").read_text())
    assert [member.get("weights") for member in members] == [facts_of("AvgA")["weights"], None]
    assert members[0]["checkpoint_sha256"] == sha256_file(paths / CHOSEN)
    origin = json.loads((Folders.from_environment().submissions / f"{found.name}.json").read_text())
    assert origin["weights"] == f"AvgA: {facts_of('AvgA')['weights']}"


def test_the_history_names_the_epochs_that_best_averages(runs):
    loaded = load("AvgA")
    wanted = replace(loaded.config, average=replace(loaded.config.average, method="best"))
    losses = [float(value) for value in read_columns(run_paths("AvgA") / HISTORY)["valid_loss"]]
    found = Averaging(run_of(replace(loaded, config=wanted))).epochs
    assert list(found) == sorted((np.argsort(losses[1:], kind="stable") + 1)[:3].tolist())
    assert trained_on(run_of(loaded))
