"""Studies as files: which runs they ask for, in which order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.config.study import load_study
from pipeline.errors import UserError

TWO = "SETTINGS:\n  plain: []\n  steep: [SOLVER.POWER=2]\n"


def write(configs: Path, text: str) -> None:
    (configs / "studies" / "mine.yaml").write_text(text)


def test_every_setting_is_trained_once_before_the_next_split(configs):
    write(configs, f"BASE: DemoAAA\n{TWO}SPLITS: [0, 3]\nSEEDS: [null, 7]\nSET: [SOLVER.NUM_EPOCHS=2]\n")
    study, trainings = load_study("mine")
    assert study.equivalent == 0.005 and study.score is None
    wanted = [(name, split, seed) for split in (0, 3) for seed in (None, 7) for name in ("plain", "steep")]
    assert [(one.setting, one.split, one.seed) for one in trainings] == wanted
    last = load(trainings[-1].config, trainings[-1].overrides)
    assert last.run == trainings[-1].run and last.config.experiment.seed == 7
    assert (last.config.solver.power, last.config.solver.num_epochs, last.config.datasets.split_index) == (2.0, 2, 3)
    assert len({one.run for one in trainings}) == 8


def test_a_setting_may_be_a_config_and_overrides_what_all_have(configs):
    write(configs, "BASE: DemoAAA\nSETTINGS:\n  a: []\n  b: [DemoAAB, SOLVER.POWER=3]\nSET: [SOLVER.POWER=2]\n")
    _, (first, second) = load_study("mine")
    assert (first.config, second.config) == ("DemoAAA", "DemoAAB")
    assert load(second.config, second.overrides).config.solver.power == 3.0


def test_a_grid_is_every_combination(configs):
    write(configs, "BASE: DemoAAA\nGRID: {SOLVER.MAX_LR: [0.001, 5e-4], SOLVER.POWER: [1, 2]}\n")
    _, trainings = load_study("mine")
    assert [one.setting for one in trainings][:2] == ["MAX_LR=0.001 POWER=1", "MAX_LR=0.001 POWER=2"]
    assert load(trainings[2].config, trainings[2].overrides).config.solver.max_lr == 5e-4
    assert len(trainings) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{TWO}", "studies/mine.yaml:1: BASE is missing; add it"),
        (
            "BASE: DemoAAA\nSETTINGS: {a: []}\n",
            "mine.yaml:2: SETTINGS and GRID define 1 setting; a study compares at least",
        ),
        ("BASE: DemoAAA\n", "mine.yaml:1: SETTINGS and GRID define no settings"),
        ("BASE: DemoAAA\nSETTINGS: {a: [], b: []}\n", "setting b is the same run as a; keep one"),
        (f"BASE: DemoAAA\n{TWO}SPLITS: [1, 1]\n", "SPLITS: 1 is given twice; keep one"),
        (f"BASE: DemoAAA\n{TWO}SEEDS: []\n", "SEEDS: expected at least one"),
        ("BASE: DemoAAA\nSETTINGS: {a: [], b: [SOLVER.POWR=2]}\n", "mine.yaml:2: setting b: .*unknown key SOLVER.POWR"),
        ("BASE: DemoAAA\nSETTINGS: {a: [], b: [DemoEns]}\n", "setting b: DemoEns is an ensemble; a study trains, so"),
        (
            "BASE: DemoAAA\nSETTINGS: {a: [], b: [DemoAAB, DemoAAC]}\n",
            "setting b names 2 configs; expected one at most",
        ),
        (
            "BASE: DemoAAA\nSETTINGS: {a: [], b: [EXPERIMENT.SEED=3]}\n",
            "setting b: EXPERIMENT.SEED is set by SEEDS, for all",
        ),
        ("BASE: DemoZZZ\nSETTINGS: {a: [], b: [SOLVER.POWER=2]}\n", "setting a: there is no config 'DemoZZZ'"),
        (f"BASE: DemoAAA\n{TWO}SPLITZ: [1]\n", "mine.yaml:5: unknown key SPLITZ; did you mean SPLITS"),
    ],
)
def test_a_study_that_cannot_be_is_refused_with_file_and_line(configs, text, message):
    write(configs, text)
    with pytest.raises(UserError, match=message):
        load_study("mine")


def test_an_unknown_study_is_refused_with_the_nearest():
    with pytest.raises(
        UserError, match=r"there is no study 'demo_loses' in configs/studies/; did you mean demo_losses"
    ):
        load_study("demo_loses")


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml")), ids=str)
def test_every_study_can_be_run_and_opens_with_its_question_and_command(path):
    question, command, *_ = path.read_text().splitlines()
    assert question.startswith("# ") and question.endswith("?")
    assert command.startswith(f"# ./run.sh study {path.stem}") or command.endswith(f"./run.sh study {path.stem}")
    assert load_study(path.stem)[1]
