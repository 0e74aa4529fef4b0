"""An ensemble is a config too: its members are found, its overrides are passed on, contradictions are refused."""

from __future__ import annotations

import shlex

import pytest

from pipeline.config.load import load, names
from pipeline.config.members import load_members, member_command
from pipeline.errors import UserError


def write(configs, name: str, text: str) -> str:
    (configs / f"{name}.yaml").write_text(f"# Is it? ./run.sh {name}\n{text}")
    return name


def test_the_originals_ensemble_has_its_eight_members():
    ensemble = load("Ens01")
    members = load_members(ensemble)
    assert ensemble.is_ensemble
    expected_names = ("ExpBAA", "ExpBAB", "ExpBAC", "ExpBAD", "ExpBAE", "ExpABA", "ExpABB", "ExpABC")
    assert tuple(member.name for member in members) == expected_names
    assert [member.run for member in members] == [member.name for member in members]
    assert ensemble.config.ensemble.method == "AP"


def test_every_ensemble_of_the_project_has_members_of_its_competition():
    ensembles = [loaded for loaded in map(load, names()) if loaded.is_ensemble]
    assert {"EnsAAA", "Ens01", "CamVidEns", "DemoEns"} <= {loaded.name for loaded in ensembles}
    for ensemble in ensembles:
        assert len(load_members(ensemble)) >= 2


def test_an_experiment_has_no_members():
    assert not load("ExpAAB").is_ensemble
    assert load_members(load("ExpAAB")) == ()


def test_overrides_about_combining_stay_and_others_go_on_to_the_members():
    ensemble = load("DemoEns", ("ENSEMBLE.METHOD=MW", "PREDICT.TTA=flip", "DATASETS.SPLIT.BY=sequence"))
    members = load_members(ensemble)
    assert {member.changed for member in members} == {("DATASETS.SPLIT.BY", "PREDICT.TTA")}
    assert {member.config.predict.tta for member in members} == {"flip"}
    assert all(member.run.startswith(f"{member.name}-") for member in members)
    assert member_command(members[0], "train") == "./run.sh DemoAAA DATASETS.SPLIT.BY=sequence PREDICT.TTA=flip train"


def test_a_list_and_a_small_number_reach_the_members_unchanged():
    ensemble = load("DemoEns", ("PREDICT.WINDOW=[320, 192]", "SOLVER.MIN_LR=1e-9"))
    for member in load_members(ensemble):
        assert member.config.predict.window == (320, 192)
        assert member.config.solver.min_lr == 1e-9
        assert "'PREDICT.WINDOW=[320, 192]'" in member_command(member, "train")


def test_a_command_with_any_names_can_be_pasted(configs):
    write(configs, "Exp $x 'a'", "BASE: DemoAAA\n")
    command = member_command(load("Exp $x 'a'", ("PREDICT.WINDOW=[320, 192]",)), "train")
    assert shlex.split(command) == ["./run.sh", "Exp $x 'a'", "PREDICT.WINDOW=[320, 192]", "train"]


def test_where_an_ensemble_runs_does_not_make_other_runs_of_its_members():
    ensemble = load("DemoEns", ("RUNTIME.DEVICE=cpu",))
    members = load_members(ensemble)
    assert [member.run for member in members] == ["DemoAAA", "DemoAAB", "DemoAAC", "DemoAAD", "DemoAAE"]
    assert {member.config.runtime.device for member in members} == {"cpu"}


def test_thresholds_are_moved_where_probabilities_are_summed_only():
    assert load("DemoEns", ("DECODE.OFFSETS=fitted",)).config.decode.offsets == "fitted"
    with pytest.raises(UserError, match=r"DECODE.OFFSETS: .* METHOD MW does not have"):
        load("DemoEns", ("DECODE.OFFSETS=fitted", "ENSEMBLE.METHOD=MW"))


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("DATASETS.SPLIT_INDEX=3", "differs between members and cannot be set for all"),
        ("MODEL.NAME=Unet", "differs between members and cannot be set for all"),
        ("EXPERIMENT.SEED=3", "differs between members and cannot be set for all"),
        ("ENSEMBLE.WEIGHTS=fitted", "METHOD AP has no weights; set METHOD: WEIGHTED"),
        ("ENSEMBLE.MEMBERS=[DemoAAA]", "1 members; give two or more"),
        ("ENSEMBLE.MEMBERS=[DemoAAA, DemoAAA]", "DemoAAA is given twice"),
        ("ENSEMBLE={METHOD: WEIGHTED, WEIGHTS: [1, 2]}", "2 weights for 5 members"),
        ("ENSEMBLE={METHOD: WEIGHTED, WEIGHTS: [0, 0, 0, 0, 0]}", "are 0"),
        ("ENSEMBLE={METHOD: WEIGHTED, WEIGHTS: [[1, 2], [1, 2], [1, 2], [1, 2], [1, 2]]}", "12 numbers"),
        ("ENSEMBLE={METHOD: WEIGHTED, WEIGHTS: [1, -2, 3]}", "outside the allowed range"),
        ("ENSEMBLE.METHOD=mean", "expected one of AP"),
    ],
)
def test_contradictions_in_an_ensemble_are_refused(override, why):
    with pytest.raises(UserError, match=why):
        load("DemoEns", (override,))


def test_a_member_is_a_run_as_it_is_typed_and_an_override_of_the_ensemble_replaces_its_own(configs):
    members = "['DemoAAA', \"DemoAAA PREDICT.TTA=flip 'LOSS_FN.MIX=0.5 ce + 0.5 dice'\"]"
    name = write(configs, "EnsZ", f"DATASETS: {{COMPETITION: demo}}\nENSEMBLE:\n  MEMBERS: {members}\n")
    plain, other = load_members(load(name))
    typed = load("DemoAAA", ("PREDICT.TTA=flip", "LOSS_FN.MIX=0.5 ce + 0.5 dice"))
    assert (plain.run, other.run) == ("DemoAAA", typed.run)
    plain, other = load_members(load(name, ("PREDICT.TTA=d4",)))
    assert {member.config.predict.tta for member in (plain, other)} == {"d4"}
    assert other.config.loss_fn.mix == "0.5 ce + 0.5 dice"


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ("[ExpBAA, ExpBAA SOLVER.POWR=2]", "member ExpBAA SOLVER.POWR=2: command line: unknown key SOLVER.POWR"),
        ("[ExpBAA, ExpBAA train]", "member ExpBAA train: 'train': an override is written KEY=VALUE"),
        ('[ExpBAA, "ExpBAA \'A=1"]', "No closing quotation in .*; write what is typed behind ./run.sh"),
        ("[ExpBAA, ExpBAA SOLVER.POWER=0.9]", "ExpBAA SOLVER.POWER=0.9 is the same run as ExpBAA; keep one"),
        (
            "[ExpBAA, ExpBAB-1a2b3c4d]",
            "is a run folder; a member is written as its run was typed, such as ExpBAB",
        ),
        ("[ExpBAA, ExpBAZ]", r"EnsZ.yaml:3: ENSEMBLE.MEMBERS: member ExpBAZ: there is no config .*did you mean ExpBA"),
        ("[ExpBAA, EnsAAA]", "EnsAAA is an ensemble; give its members"),
        ("[ExpBAA, demo]", "demo is from the competition demo, EnsZ from aeroscapes"),
    ],
)
def test_members_that_cannot_be_combined_are_refused_by_name(configs, members, why):
    name = write(configs, "EnsZ", f"ENSEMBLE:\n  MEMBERS: {members}\n")
    with pytest.raises(UserError, match=why):
        load_members(load(name))


def test_a_setting_without_effect_in_an_ensemble_is_refused(configs):
    name = write(configs, "EnsZ", "SOLVER:\n  MAX_LR: 0.1\nENSEMBLE:\n  MEMBERS: [ExpBAA, ExpBAB]\n")
    with pytest.raises(UserError, match=r"EnsZ.yaml:3: SOLVER.MAX_LR: has no effect in an ensemble"):
        load(name)


def test_a_method_without_members_is_refused():
    with pytest.raises(UserError, match=r"has no effect without ENSEMBLE.MEMBERS"):
        load("ExpAAB", ("ENSEMBLE.METHOD=MW",))
    with pytest.raises(UserError, match=r"ENSEMBLE.STREAM: true is for ensembles only"):
        load("ExpAAB", ("ENSEMBLE.STREAM=true",))


def test_weights_may_be_a_number_or_a_list_of_numbers_per_member(configs):
    name = write(configs, "EnsZ", "ENSEMBLE:\n  MEMBERS: [ExpBAA, ExpBAB]\n  METHOD: WEIGHTED\n  WEIGHTS: [1, 3]\n")
    assert load(name).config.ensemble.weights == (1.0, 3.0)
    rows = [[index + 1 for index in range(12)], [1] * 12]
    assert load(name, (f"ENSEMBLE.WEIGHTS={rows}",)).config.ensemble.weights[0][11] == 12.0
