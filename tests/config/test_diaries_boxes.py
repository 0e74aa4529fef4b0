"""Every run of the RetinaNet and the YOLOX diary is here by name, with its settings and what was published.

The table `diaries_boxes.csv` holds the diaries' facts and, of what they do not give, the choices that the configs'
headers name. ExpR09 is a run that the first of them only wished for.
"""

from __future__ import annotations

import csv
import functools
import itertools
import re
from pathlib import Path

import pytest
import torch

from pipeline.config.load import Loaded, load_competition, names
from pipeline.config.load import load as load_anew
from pipeline.config.loss_mix import parse_mix, term_settings
from pipeline.config.members import load_members
from pipeline.config.plan import Phase, learning_rate
from pipeline.report.read import read_header
from pipeline.task import Loss
from pipeline.training.history import StepLog
from pipeline.training.inputs import seed_of

HERE = Path(__file__).parent
CONFIGS = HERE.parent.parent / "configs"
with open(HERE / "diaries_boxes.csv", newline="") as file:
    RUNS = {row["experiment"]: row for row in csv.DictReader(file)}
RETINANETS = [name for name in RUNS if name.startswith("ExpR")]
WANTED = "ExpR09"
STEPS = 666  # of an epoch of the YOLOX diary

load = functools.cache(load_anew)


def section(shared: Path, letter: str) -> str:
    """Returns what the reference says of a diary."""
    text = (shared / "reference" / "diaries.md").read_text()
    return re.search(rf"(?ms)^## {letter}: .*?(?=^## |\Z)", text)[0]


def header_of(name: str) -> str:
    """Returns the comments that open a config, as one line."""
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    return " ".join(line.removeprefix("# ") for line in lines if line.startswith("# "))


def phase_at(plan: tuple[Phase, ...], epoch: int) -> Phase:
    begun = 0
    for phase in plan:
        begun += phase.epochs
        if epoch <= begun:
            return phase
    raise AssertionError(f"the plan ends before epoch {epoch}")


def test_every_run_of_the_diaries_is_there():
    assert len(RUNS) == 10
    assert {name for name in names() if re.fullmatch(r"Exp[RY]\d\d", name)} == RUNS.keys()


def test_the_table_has_each_cell_of_the_reference(shared):
    rows = re.findall(r"(?m)^\| (R\d\d) \|(.*)\|$", section(shared, "R"))
    assert [f"Exp{run}" for run, _ in rows] == [name for name in RETINANETS if name != WANTED]
    for run, cells in rows:
        depth, epochs, lr, seed, of_table, of_diary = (cell.strip() for cell in cells.split("|"))
        row = RUNS[f"Exp{run}"]
        assert row["encoder"] == f"resnet{depth}"
        assert (row["epochs"], row["lr"], row["seed"]) == (epochs, lr, seed)
        assert row["ap_of_table"] == of_table.split()[0]
        found = re.fullmatch(r"(0\.\d+) \((?:AP50 )?(0\.\d+), (?:AP75 )?(0\.\d+)\)", of_diary)
        assert (row["ap_of_diary"], row["ap50"], row["ap75"]) == (found.groups() if found else ("", "", ""))


@pytest.mark.parametrize("name", RUNS)
def test_a_run_has_the_network_the_optimizer_and_the_length_of_the_diary(name):
    row, config, plan = RUNS[name], load(name).config, load(name).plan
    assert (config.model.name, config.model.encoder.name) == (row["network"], row["encoder"])
    assert config.solver.optimizer.name == row["optimizer"]
    assert config.dataloaders.train.batch_size == int(row["batch"])
    assert sum(phase.epochs for phase in plan) == int(row["epochs"])
    assert all(phase.patience is None or phase.patience >= phase.epochs for phase in plan)  # which never ends it
    assert config.solver.max_lr == float(row["lr"])
    assert config.experiment.seed == {"": None, "3407": 3407, "random": "random"}[row["seed"]]
    assert config.solver.monitor == "valid_ap"
    assert not config.sweep.enable


@pytest.mark.parametrize("name", RETINANETS)
def test_a_retinanet_has_the_diarys_prior_loss_batches_and_constant_rate(name):
    config, plan = load(name).config, load(name).plan
    assert config.model.options == {"PRIOR": 0.01}
    mix = dict(parse_mix(config.loss_fn.mix))
    assert mix == {"sigmoid_focal": 1, "smooth_l1": 1}  # their settings are the defaults
    assert term_settings("sigmoid_focal") == {"alpha": 0.25, "gamma": 2}
    assert not config.dataloaders.train.drop_last
    assert {learning_rate(phase, step, 10) for phase in plan for step in range(10)} == {config.solver.max_lr}


def test_the_retinanets_differ_in_depth_epochs_rate_and_seed_alone():
    group: list[Loaded] = [load(name) for name in RETINANETS]
    differing = {key for one in group for key, value in one.values.items() if value != group[0].values[key]}
    keys = {"MODEL.ENCODER.NAME", "SOLVER.NUM_EPOCHS", "SOLVER.MAX_LR", "EXPERIMENT.SEED"}
    assert differing - {"EXPERIMENT.PREFIX", "MODEL.ENCODER.ABBR"} == keys


def test_images_of_the_retinanet_diary_have_its_five_classes_and_coco_files():
    competition = load("ExpR01").competition
    assert competition.classes == ("cat", "dog", "bus", "car", "bird")
    assert (competition.boxes.kind, competition.submission.format) == ("coco", "coco_results")
    assert load("ExpR01").config.datasets.split.by == "given"
    assert competition.boxes.valid_coco and competition.valid_images


@pytest.mark.parametrize("name", RETINANETS)
def test_a_header_quotes_both_scores_of_a_retinanet(name):
    header, row, text = read_header(CONFIGS / f"{name}.yaml"), RUNS[name], header_of(name)
    assert header.question.endswith("?")
    if name == WANTED:
        assert header.published is None and "Published: no result." in text
        return
    assert (header.published, header.published_label) == (float(row["ap_of_table"]), "AP")
    if row["ap_of_diary"]:
        of_diary = f"AP {row['ap_of_diary']} in the diary (AP50 {row['ap50']}, AP75 {row['ap75']})"
        assert of_diary in text and "nobody says why" in text
    else:
        assert "he diary gives none" in text


def test_the_header_of_the_first_says_that_the_test_score_means_nothing():
    assert re.search(
        r"AP of 0\.073 on test images; it means nothing, as their annotations were fabricated", header_of("ExpR01")
    )


def test_a_yolox_trains_by_the_plan_of_its_diary_epoch_by_epoch():
    loaded = load("ExpY01")
    for epoch in range(1, 31):
        phase, is_clean = phase_at(loaded.plan, epoch), epoch > 22
        assert phase.freeze == ("encoder", "neck")
        assert phase.augment is not is_clean
        terms = dict(parse_mix(phase.loss or loaded.config.loss_fn.mix))
        assert terms == {"iou": 5, "conf": 1, "cls": 1} | ({"l1": 1} if is_clean else {})
    cosine, clean = loaded.plan
    rising = [learning_rate(cosine, step, STEPS) for step in (0, 998, 1997)]
    assert rising == pytest.approx([3e-4 / (3 * STEPS), 1.5e-4, 3e-4])
    falling = [learning_rate(cosine, step, STEPS) for step in range(3 * STEPS, 22 * STEPS)]
    falling += [learning_rate(clean, step, STEPS) for step in range(8 * STEPS)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(falling))
    assert falling[0] == pytest.approx(3e-4) and 0 < falling[-1] < 1e-8


def test_a_yolox_sees_strong_augmentation_and_starts_from_cocos_weights():
    config, augmentation = load("ExpY01").config, load("ExpY01").config.datasets.augmentation
    assert config.model.encoder.weights == "coco"
    strong = (augmentation.mosaic, augmentation.horizontal_flip, augmentation.shift_scale_rotate, augmentation.color)
    assert all(one.enable for one in strong)
    assert 32 * STEPS == 21_312  # the images of the header, with DROP_LAST
    assert config.dataloaders.train.drop_last


def test_steps_csv_of_a_yolox_has_the_iterations_whose_losses_were_published(tmp_path):
    every = load("ExpY01").config.runtime.log_steps
    log = StepLog(tmp_path / "steps.csv", every, (), STEPS, 1, 0)
    for step in range(1, 51):
        log.add(1, step, 3e-4, Loss(torch.tensor(10.7), {}))
    lines = (tmp_path / "steps.csv").read_text().splitlines()[1:]
    assert {"1,1", "1,50"} <= {",".join(line.split(",")[:2]) for line in lines}


def test_headers_name_how_batches_are_made_and_what_yolox_does_besides():
    header = header_of("ExpR01")
    name, path = re.search(r"`(\w+)` in (\S+\.py)", header).groups()
    assert f"def {name}(" in (CONFIGS.parent / path).read_text()
    assert "input size every 10 steps" in header_of("ExpY01") and "grey (114)" in header_of("ExpY01")


def test_the_header_of_a_yolox_has_each_published_loss(shared):
    (line,) = re.findall(r"(?m)^Loss terms .*$", section(shared, "Y"))
    losses = re.findall(r"\d+\.\d+(?:e-4)?|5e-4", line)
    assert len(losses) == 14
    header = header_of("ExpY01")
    assert {loss for loss in losses if loss not in header} == set()
    assert read_header(CONFIGS / "ExpY01.yaml").published is None


def test_seven_classes_of_nuscenes_are_named_by_its_categories_and_all_others_are_left_out():
    competition = load_competition("nuscenes_seven")
    assert competition.num_classes == 7
    assert competition.boxes.names["bus"] == ("vehicle.bus.bendy", "vehicle.bus.rigid")
    assert competition.boxes.names["ignore"] == "others"
    assert (competition.boxes.kind, competition.submission.format) == ("nuscenes", "nuscenes_boxes")
    assert re.match(competition.sequence_pattern, "n015-2018-07-24-11-22-45+0800__CAM_FRONT__15324")[1].endswith(
        "+0800"
    )


def test_the_ensemble_of_blood_cells_fuses_three_seeds_of_one_run():
    ensemble = load("BccdEns")
    members = load_members(ensemble)
    assert ensemble.config.ensemble.method == "WBF"
    assert [member.name for member in members] == ["BccdR"] * 3
    assert [seed_of(member) for member in members] == [2, 1, 3]
