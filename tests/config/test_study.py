"""Studies as files: which runs they ask for, in which order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.load import load
from pipeline.config.plain_yaml import NUMBER
from pipeline.config.search import Span, text_of
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
        (
            "BASE: DemoAAA\nSETTINGS: {a: [], b: [DECODE.COMPONENTS=fitted]}\n",
            "setting b: DECODE.COMPONENTS cannot change the score that a study compares, as rules are applied after "
            r"scoring; to see their gain, type: \./run\.sh DemoAAA fit DECODE\.COMPONENTS=fitted",
        ),
        ("BASE: DemoAAA\nGRID: {DECODE.SUPPRESS: [none, fitted]}\n", "setting SUPPRESS=fitted: DECODE.SUPPRESS cannot"),
        (
            "BASE: DemoAAA\nSEARCH: {SPACE: {DECODE.SUPPRESS: [none, fitted]}, TRIALS: 1}\n",
            "SEARCH.SPACE.DECODE.SUPPRESS: DECODE.SUPPRESS cannot change the score",
        ),
        ("BASE: DemoZZZ\nSETTINGS: {a: [], b: [SOLVER.POWER=2]}\n", "setting a: there is no config 'DemoZZZ'"),
        (f"BASE: DemoAAA\n{TWO}SPLITZ: [1]\n", "mine.yaml:5: unknown key SPLITZ; did you mean SPLITS"),
    ],
)
def test_a_study_that_cannot_be_is_refused_with_file_and_line(configs, text, message):
    write(configs, text)
    with pytest.raises(UserError, match=message):
        load_study("mine")


SEARCH = "BASE: DemoAAA\nSEARCH:\n  SPACE:\n    "
POWER = "SOLVER.POWER: {LOW: 1, HIGH: 4}\n"


def test_a_search_asks_for_its_reference_with_seeds_that_it_does_not_use(configs):
    write(configs, f"{SEARCH}{POWER}  TRIALS: 5\nSET: [SOLVER.POWER=2]\nSEEDS: [1000, null]\nSPLITS: [0, 3]\n")
    study, trainings = load_study("mine")
    assert (study.search.trials, study.search.sampler, study.search.prune) == (5, "tpe", False)
    assert [(one.split, one.seed) for one in trainings] == [
        (split, seed) for split in (0, 3) for seed in range(1001, 1004)
    ]
    assert {one.setting for one in trainings} == {"reference"} and "SOLVER.POWER=2" in trainings[0].overrides


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("SOLVER.POWER: {LOW: 4, HIGH: 4}\n", r"mine.yaml:4: SEARCH.SPACE.SOLVER.POWER.LOW: 4 is not below HIGH 4"),
        ("SOLVER.MAX_LR: {LOW: 0, HIGH: 1, LOG: true}\n", "LOW: 0 with LOG: true; expected above 0"),
        ("SOLVER.MAX_LR: {LOW: 0, HIGH: 1, SCALE: log}\n", "mine.yaml:4: unknown key SEARCH.SPACE.SOLVER.MAX_LR.SCALE"),
        ("SOLVER.MAX_LR: {low: 0, high: 1}\n", "SOLVER.MAX_LR.low; did you mean SEARCH.SPACE.SOLVER.MAX_LR.LOW"),
        ("SOLVER.MAX_LR: {LOW: 0.1}\n", "SEARCH.SPACE.SOLVER.MAX_LR.HIGH is missing; add it"),
        ("SOLVER.MAX_LR: 0.1\n", "SEARCH.SPACE.SOLVER.MAX_LR: found '0.1', expected a list in brackets"),
        ("SOLVER.MAX_LR: {LOW: 0.01234, HIGH: 1}\n", "LOW: found 0.01234; expected at most 3 digits.*: 0.0123"),
        ("SOLVER.MAX_LR: [0.1]\n", "SOLVER.MAX_LR: found 1 values, 1 different; expected at least two, each once"),
        ("SOLVER.POWER: {LOW: 1, HIGH: 4, STEP: 2}\n", "HIGH: 4 is not LOW 1 and a whole number of STEPs 2"),
        (
            "SOLVER.MAX_LR: {LOW: 1, HIGH: 8, LOG: true, STEP: 1}\n",
            "with LOG: true there are no steps; list the values",
        ),
        (
            "SOLVER.MAX_LRR: {LOW: 1, HIGH: 8}\n",
            "mine.yaml:4: SEARCH.SPACE.SOLVER.MAX_LRR 1: .*unknown key SOLVER.MAX_LRR",
        ),
        (
            "SOLVER.NUM_EPOCHS: {LOW: 2, HIGH: 8}\n",
            "SOLVER.NUM_EPOCHS 2.08: .*expected an integer.*; for whole numbers only, add STEP: 1",
        ),
        (
            "SOLVER.POWER: [1, 2, much]\n  TRIALS: 2\n",
            "SEARCH.SPACE.SOLVER.POWER much: .*found 'much', expected a number",
        ),
        ("SOLVER.MAX_LR: {LOW: -1, HIGH: 8}\n", "SEARCH.SPACE.SOLVER.MAX_LR -1: .*MAX_LR"),
        ("EXPERIMENT.SEED: [1, 2, 3]\n  TRIALS: 2\n", "EXPERIMENT.SEED is set by SEEDS, for all settings"),
        (f"{POWER}  TRIAL: 3\n", "mine.yaml:5: unknown key SEARCH.TRIAL; did you mean SEARCH.TRIALS"),
        (f"{POWER}  FRESH_SEEDS: 1\n", "SEARCH.FRESH_SEEDS: 1 is outside the allowed range"),
        (f"{POWER}  SAMPLER: tpee\n", "SEARCH.SAMPLER: found 'tpee', expected one of tpe, random; did you mean tpe"),
        ("SOLVER.POWER: [1, 2, 3]\n", "SEARCH.TRIALS: 30, but SPACE has 3 settings in all; use GRID instead"),
        (
            f"{POWER}GRID: {{SOLVER.POWER: [1, 2]}}\n",
            "mine.yaml:5: a search has no GRID: it proposes the settings itself",
        ),
        (f"{POWER}SEEDS: [1, 1]\n", "SEEDS: 1 is given twice; keep one"),
        (f"{POWER}SET: [SOLVER.POWR=1]\n", "BASE with SET: .*unknown key SOLVER.POWR"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_anything_is_trained(configs, space, message):
    write(configs, SEARCH + space)
    with pytest.raises(UserError, match=message):
        load_study("mine")


@given(
    low=st.integers(1, 999),
    factor=st.integers(2, 5000),
    exponent=st.integers(-6, 2),
    share=st.floats(0, 1),
    log=st.booleans(),
)
def test_a_typed_value_is_inside_its_range_and_a_number_of_the_config(low, factor, exponent, share, log):
    low, high = (float(f"{value:.3g}") for value in (low * 10.0**exponent, low * factor * 10.0**exponent))
    span = Span(low, high, log)
    inside = low * (high / low) ** share if log else low + share * (high - low)
    text = text_of(span, inside)
    assert NUMBER.fullmatch(text) and low <= float(text) <= high and text_of(span, float(text)) == text


def test_steps_are_typed_as_they_are_written():
    assert [text_of(Span(0.1, 0.7, step=0.2), 0.1 + index * 0.2) for index in range(4)] == ["0.1", "0.3", "0.5", "0.7"]
    assert [text_of(Span(16, 4096, step=16), value) for value in (16.0, 1040.0, 4096.0)] == ["16", "1040", "4096"]


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
