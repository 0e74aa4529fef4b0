"""Every run of the Cityscapes and the aerial diary is here by name, with its settings epoch by epoch and its score.

The table `diaries.csv` holds the diaries' facts and, of what they do not give, the choices that the configs' headers
name. `46: 2` is a value of 2 after epoch 46.
"""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import Loaded, names
from pipeline.config.load import load as load_anew
from pipeline.config.loss_mix import parse_mix, term_parts
from pipeline.config.plan import Phase
from pipeline.report.read import read_header

HERE = Path(__file__).parent
CONFIGS = HERE.parent.parent / "configs"
FROZEN = ("encoder.bn1", *(f"encoder.layer{number}" for number in (1, 2, 3, 4)))
with open(HERE / "diaries.csv", newline="") as file:
    RUNS = {row["experiment"]: row for row in csv.DictReader(file)}
CITYSCAPES = [name for name in RUNS if name.startswith("ExpC")]
# Of each group of runs, the keys in which they differ.
GROUPS = {
    "ExpC0[1-8]": {"LOSS_FN.MIX", "SOLVER.PLAN", "SOLVER.MAX_LR"},
    "ExpU0[1-6]": {"LOSS_FN.MIX"},
    "ExpU0[7-9]": {"LOSS_FN.MIX", "MODEL.OPTIONS", "SOLVER.NUM_EPOCHS", "SOLVER.PATIENCE", "REPORT.EPOCHS"},
}

load = functools.cache(load_anew)


def at_epoch(text: str, epoch: int) -> str:
    """Returns the value that a cell such as `0.9; 28: 1.2` has in an epoch, counted from 1."""
    value, *changes = text.split("; ")
    for change in changes:
        after, _, new = change.partition(": ")
        value = new if epoch > int(after) else value
    return value


def phase_at(plan: tuple[Phase, ...], epoch: int) -> Phase:
    begun = 0
    for phase in plan:
        begun += phase.epochs
        if epoch <= begun:
            return phase
    raise AssertionError(f"the plan ends before epoch {epoch}")


def weights_of(mix: str) -> dict[tuple[str, tuple[Any, ...]], float]:
    """Returns the weight of each loss with its settings, apart from the pixels on which it is computed."""
    terms = [(term_parts(name), weight) for name, weight in parse_mix(mix)]
    return {
        (loss, tuple((word, value) for word, value in settings.items() if word != "stride")): weight
        for (loss, settings), weight in terms
    }


def reference(shared: Path) -> dict[str, list[str]]:
    """Returns the cells of each row C: loss, weights, LR, what else, and mIoU."""
    rows = re.findall(r"(?m)^\| (C\d\d) \|(.*)\|$", (shared / "reference" / "diaries.md").read_text())
    return {f"Exp{run}": [cell.strip() for cell in cells.split("|")] for run, cells in rows}


def test_every_run_of_the_diaries_is_there():
    assert (len(CITYSCAPES), len(RUNS)) == (8, 17)
    assert {name for name in names() if re.fullmatch(r"Exp[CU]\d\d", name)} == RUNS.keys()


def test_the_table_has_the_losses_weights_rates_and_scores_of_the_reference(shared):
    found = reference(shared)
    assert list(found) == CITYSCAPES
    for name, (losses, weights, lr, extra, miou) in found.items():
        row = RUNS[name]
        mix = {loss: weight for (loss, _), weight in weights_of(at_epoch(row["loss"], 1)).items()}
        assert list(mix) == losses.lower().split(" + ")
        if "/" in weights:
            assert list(mix.values()) == [float(weight) for weight in weights.split("/")]
        assert row["lr"] == (lr if re.fullmatch(r"\de-4", lr) else "")
        assert row["warmup_steps"] == ("500" if "warm-up" in extra else "0")
        assert row["published"] == miou


@pytest.mark.parametrize("name", RUNS)
def test_a_run_has_the_network_the_optimizer_and_the_length_of_the_diary(name):
    row, config, plan = RUNS[name], load(name).config, load(name).plan
    assert (config.model.name, config.model.encoder.name) == (row["network"], row["encoder"])
    assert config.model.options.get("USE_NORM") == {"true": True, "false": False, "": None}[row["batch_norm"]]
    assert config.solver.optimizer.name == row["optimizer"]
    assert config.dataloaders.train.batch_size == int(row["batch"])
    assert sum(phase.epochs for phase in plan) == int(row["epochs"])
    assert all(phase.patience in (None, phase.epochs) for phase in plan)  # which never ends it
    assert config.solver.monitor == "valid_miou"
    if row["lr"]:
        assert config.solver.max_lr == float(row["lr"])


@pytest.mark.parametrize("name", RUNS)
def test_every_epoch_has_the_diarys_loss_power_warm_up_and_frozen_parts(name):
    row, loaded = RUNS[name], load(name)
    for epoch in range(1, int(row["epochs"]) + 1):
        phase = phase_at(loaded.plan, epoch)
        assert weights_of(phase.loss or loaded.config.loss_fn.mix) == weights_of(at_epoch(row["loss"], epoch)), epoch
        is_frozen = row["frozen_after"] != "" and epoch > int(row["frozen_after"])
        assert phase.freeze == (FROZEN if is_frozen else ()), epoch
        assert (phase.warmup_steps, phase.warmup) == (int(row["warmup_steps"]), 0)
        assert phase.lr == ("poly" if row["power"] else "flat")
        assert not row["power"] or phase.power == float(at_epoch(row["power"], epoch)), epoch


@pytest.mark.parametrize("name", CITYSCAPES)
def test_a_curve_is_one_over_all_epochs_whatever_changes_on_the_way(name):
    plan, begun = load(name).plan, 0
    for phase in plan:
        assert (phase.curve_start, phase.curve_epochs or phase.epochs) == (begun, 67)
        assert (phase.max_lr, phase.min_lr) == (load(name).config.solver.max_lr, 0)
        begun += phase.epochs


@pytest.mark.parametrize("name", CITYSCAPES)
def test_where_the_cityscapes_diary_is_silent_it_is_the_papers_recipe(name):
    config = load(name).config
    optimizer, crop = config.solver.optimizer, config.datasets.augmentation.random_crop
    assert (optimizer.momentum, optimizer.weight_decay, optimizer.head_lr_factor) == (0.9, 5e-4, 10)
    assert (crop.enable, crop.width, crop.height, crop.scale) == (True, 321, 321, (0.5, 1.5))
    assert config.datasets.augmentation.horizontal_flip.enable
    assert (config.datasets.competition, config.datasets.split.by) == ("cityscapes", "given")
    steps = config.solver.num_epochs * (2975 * crop.per_image // config.dataloaders.train.batch_size)
    assert abs(steps - 20_000) < 297  # nearer than an epoch
    for mix in {config.loss_fn.mix, *(phase.loss for phase in load(name).plan if phase.loss)}:
        strides = {loss: settings.get("stride") for loss, settings in (term_parts(term) for term, _ in parse_mix(mix))}
        assert all((stride == 8) == (loss in ("ce", "focal")) for loss, stride in strides.items())


def test_aerial_tiles_have_four_classes_of_the_values_0_to_3():
    competition = load("ExpU01").competition
    assert (competition.num_classes, competition.mask_values, competition.ignore_index) == (4, None, None)
    assert load("ExpU07").config.model.options == {"ENCODER_DEPTH": 4, "FIRST_CHANNELS": 64, "USE_NORM": False}


@pytest.mark.parametrize(("pattern", "keys"), GROUPS.items())
def test_the_runs_of_a_comparison_differ_in_nothing_else(pattern, keys):
    group: list[Loaded] = [load(name) for name in RUNS if re.fullmatch(pattern, name)]
    differing = {key for one in group for key, value in one.values.items() if value != group[0].values[key]}
    assert differing - {"EXPERIMENT.PREFIX"} == keys


@pytest.mark.parametrize("name", RUNS)
def test_a_header_has_the_published_score_where_there_is_one(name):
    header, miou = read_header(CONFIGS / f"{name}.yaml"), RUNS[name]["published"]
    assert header.question.endswith("?")
    expected = (pytest.approx(float(miou) / 100, abs=1e-9), "mIoU") if miou else (None, "")
    assert (header.published, header.published_label) == expected
