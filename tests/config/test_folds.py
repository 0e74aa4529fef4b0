"""`--folds` and `--seeds` as configs: which runs they ask for, the ensemble that is written for them, and refusals."""

from __future__ import annotations

import pytest

from pipeline.config.folds import ensemble_text, load_folds
from pipeline.config.load import load
from pipeline.config.members import load_members
from pipeline.errors import UserError


def test_every_fold_is_trained_with_the_first_seed_before_the_next_seed_begins():
    folds = load_folds("DemoAAA", ["DATASETS.SPLIT.BY=kfold"], 3, 2)
    assert [(one.split, one.seed) for one in folds.trainings] == [
        *((0, None), (1, None), (2, None)),
        *((0, 100), (1, 100), (2, 100)),
    ]
    assert folds.first == folds.trainings[:3]
    last = load("DemoAAA", folds.trainings[-1].overrides)
    datasets = last.config.datasets
    assert (datasets.split.by, datasets.split.folds, datasets.split_index) == ("kfold", 3, 2)
    assert last.config.experiment.seed == 100 and last.run == folds.trainings[-1].run


def test_runs_that_are_there_already_are_not_trained_under_another_name():
    (first, *_) = load_folds("ExpBAA", [], 5, None).trainings
    assert first.run == "ExpBAA"  # its own slice with its own seed
    of_seeds = load_folds("ExpBAA", [], None, 3).trainings
    assert [(one.run == "ExpBAA", one.split) for one in of_seeds] == [(True, 0), (False, 0), (False, 0)]
    usual = load_folds("DemoAAA", ["DATASETS.SPLIT.BY=kfold"], 5, None).trainings
    assert [one.run for one in usual] == [
        load("DemoAAA", ("DATASETS.SPLIT.BY=kfold", f"DATASETS.SPLIT_INDEX={index}")).run for index in range(5)
    ]
    assert {one.run for one in usual} < {
        one.run for one in load_folds("DemoAAA", ["DATASETS.SPLIT.BY=kfold"], 5, 2).trainings
    }


def test_one_seed_per_fold_is_what_folds_alone_are():
    assert load_folds("demo", [], 3, 1) == load_folds("demo", [], 3, None)


def test_further_seeds_differ_from_that_of_the_config(configs):
    (configs / "Mine.yaml").write_text("# Q?\n# ./run.sh Mine\nBASE: demo\nEXPERIMENT: {SEED: 100}\n")
    assert [one.seed for one in load_folds("Mine", [], None, 3).trainings] == [None, 101, 102]


def test_the_written_ensemble_has_the_runs_as_its_members(configs):
    words = ["SOLVER.MAX_LR=0.002", "LOSS_FN.MIX=0.5 ce + 0.5 dice", "RUNTIME.DEVICE=cpu", "ENSEMBLE.METHOD=GEO"]
    folds = load_folds("demo", words, 3, 2)
    assert folds.ensemble == f"{load('demo', tuple(words[:2])).run}-3folds2seeds"
    assert (folds.combining, folds.machine) == (("ENSEMBLE.METHOD=GEO",), ("RUNTIME.DEVICE=cpu",))
    text = ensemble_text(folds)
    folds.path.write_text(text)
    ensemble = load(folds.ensemble, (*folds.combining, *folds.machine))
    members = load_members(ensemble)
    assert [member.run for member in members] == [one.run for one in folds.trainings]
    assert {member.config.solver.max_lr for member in members} == {0.002}
    assert {member.config.runtime.device for member in members} == {"cpu"} and "RUNTIME" not in text
    assert ensemble.competition.name == "demo" and ensemble.config.ensemble.method == "GEO"
    assert text.startswith("# What do 3 folds and 2 seeds of demo gain together?\n# ./run.sh demo-")
    assert {member.config.loss_fn.mix for member in members} == {"0.5 ce + 0.5 dice"}


def test_runs_with_boxes_are_combined_by_a_method_for_boxes(configs):
    folds = load_folds("BccdR", (), None, 2)
    folds.path.write_text(ensemble_text(folds))
    ensemble = load(folds.ensemble)
    assert ensemble.config.ensemble.method == folds.method == "WBF"
    assert [member.run for member in load_members(ensemble)] == [one.run for one in folds.trainings]


def test_a_decoding_that_the_config_sets_is_that_of_the_ensemble(configs):
    (configs / "Mine.yaml").write_text("# Q?\n# ./run.sh Mine\nBASE: demo\nDECODE: {SUPPRESS: fitted}\n")
    folds = load_folds("Mine", [], 3, None)
    folds.path.write_text(ensemble_text(folds))
    decode = load(folds.ensemble).config.decode
    assert (decode.suppress, decode.offsets) == ("fitted", "none")


def test_the_folder_of_the_data_that_the_config_names_is_that_of_the_ensemble(configs):
    (configs / "Mine.yaml").write_text("# Q?\n# ./run.sh Mine\nBASE: demo\nDATASETS: {DIRECTORY: /somewhere}\n")
    folds = load_folds("Mine", [], 3, None)
    folds.path.write_text(ensemble_text(folds))
    assert load(folds.ensemble).config.datasets.directory == "/somewhere"


def test_an_edited_ensemble_is_kept_and_one_with_other_members_refused(configs):
    folds = load_folds("demo", [], 3, None)
    text = ensemble_text(folds)
    folds.path.write_text(f"{text}  METHOD: GEO\n")
    assert load_folds("demo", [], 3, None) == folds
    folds.path.write_text("\n".join(line for line in text.splitlines() if "INDEX=1" not in line) + "\n")
    with pytest.raises(UserError, match=r"demo-3folds.yaml exists and has other members .* ./run.sh demo-3folds"):
        load_folds("demo", [], 3, None)


def test_where_a_stage_is_named_all_overrides_are_those_of_the_runs():
    folds = load_folds("demo", ["DECODE.OFFSETS=fitted"], 3, None, is_combined=False)
    assert folds.combining == ()
    assert load("demo", folds.trainings[0].overrides).config.decode.offsets == "fitted"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", [], 1, None), "--folds 1: expected 2 to 20, such as ./run.sh demo --folds 5"),
        (("demo", [], 50, None), "--folds 50: expected 2 to 20"),
        (("demo", [], None, 1), "--seeds 1: one seed is an ordinary run, ./run.sh demo; expected 2 to 20"),
        (("demo", [], 3, 0), "--seeds 0: expected 2 to 20"),
        (
            ("DemoEns", [], 5, None),
            "DemoEns is an ensemble, which trains nothing; name an experiment: ./run.sh D",
        ),
        (
            ("ExpBAA", [], 3, None),
            "so there are exactly 5 folds; type --folds 5, or --folds 3 DATASETS.SPLIT.B",
        ),
        (
            ("demo", ["DATASETS.SPLIT_INDEX=2"], 3, None),
            "DATASETS.SPLIT_INDEX cannot be overridden here: --folds",
        ),
        (("demo", ["DATASETS={SPLIT_INDEX: 2}"], 3, None), "DATASETS.SPLIT_INDEX cannot be overridden here"),
        (("demo", ["EXPERIMENT.SEED=2"], 3, None), "EXPERIMENT.SEED cannot be overridden here: the first seed"),
        (("demo", ["EXPERIMENT.SEED=2"], None, 2), "EXPERIMENT.SEED cannot be overridden here"),
        (("demo", ["DATASETS.SPLIT.FOLDS=4"], 3, None), "DATASETS.SPLIT.FOLDS cannot be overridden here"),
        (("demo", ["ENSEMBLE.MEMBERS=[demo]"], 3, None), "the runs of this command are the members"),
        (
            ("demo", ["DATASETS.SPLIT.BY=none", "SOLVER.FROM=DemoAAA"], 3, None),
            "no image would be out of fold; use the run in its SOLVER.FROM: ./run.sh DemoAAA --folds 5",
        ),
        (("demo", ["SOLVER.MAXLR=1"], 3, None), "unknown key SOLVER.MAXLR"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_type(arguments, message):
    with pytest.raises(UserError) as refusal:
        load_folds(*arguments)
    assert message in str(refusal.value)


def test_a_quick_try_has_no_folds(configs):
    (configs / "Quick.yaml").write_text("# Q?\n# ./run.sh Quick\nBASE: demo\nDATASETS: {SPLIT_INDEX: -10}\n")
    with pytest.raises(UserError, match=r"Quick.yaml:4: DATASETS.SPLIT_INDEX is -10, a quick try on 10 %"):
        load_folds("Quick", [], 3, None)
    assert [one.split for one in load_folds("Quick", [], None, 2).trainings] == [-10, -10]


def test_another_split_has_its_own_index_with_several_seeds():
    assert {one.split for one in load_folds("demo", ["DATASETS.SPLIT_INDEX=3"], None, 2).trainings} == {3}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "DATASETS.SPLIT.BY=slice",
            "3 has an effect with SPLIT.BY kfold, stratified and sequence only, found slice",
        ),
        (
            "DATASETS.SPLIT_INDEX=3",
            "3, but SPLIT.FOLDS divides the sequences into 3 folds; give 0 to 2",
        ),
    ],
)
def test_a_number_of_folds_without_effect_is_refused(override, message):
    with pytest.raises(UserError, match=message):
        load("demo", ("DATASETS.SPLIT.FOLDS=3", override))
