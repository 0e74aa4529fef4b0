"""A config's name resolves to values with origins, or is refused with file, key and remedy."""

from __future__ import annotations

import dataclasses
import gc
import json
import weakref
from pathlib import Path

import pytest

from pipeline.config.load import (
    MACHINE_KEYS,
    RETIRED,
    config_path,
    flatten,
    is_machine_key,
    load,
    load_competition,
    names,
    nested,
    run_name,
    with_max_lr,
)
from pipeline.config.schema import Config
from pipeline.config.tree import build, read_tree
from pipeline.errors import UserError


def refusal(name: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(name, overrides)
    return str(caught.value)


def write(configs: Path, name: str, text: str) -> None:
    (configs / f"{name}.yaml").write_text(text)


def test_a_config_inherits_what_it_does_not_change(configs):
    write(configs, "Mine", "BASE: ExpBAA\nSOLVER:\n  MAX_LR: 5e-5\nLOSS_FN: {WEIGHTS: [1,1,1,1,1,1,1,1,1,1,1,2]}\n")
    mine, parent = load("Mine"), load("ExpBAA")
    assert mine.config.solver.max_lr == 5e-5
    changed = {key for key, value in mine.values.items() if value != parent.values[key]}
    assert changed == {"SOLVER.MAX_LR", "LOSS_FN.WEIGHTS"}
    assert mine.origins["SOLVER.MAX_LR"] == "configs/Mine.yaml:3"
    assert mine.origins["DATASETS.AUGMENTATION.TILE.WIDTH"].startswith("configs/ExpBAA.yaml:")
    assert mine.origins.keys() == mine.values.keys()


def test_options_of_another_architecture_are_not_inherited(configs):
    parent = "MODEL: {NAME: FPN, OPTIONS: {DECODER_DROPOUT: 0.1, DECODER_PYRAMID_CHANNELS: 128}}\n"
    (configs / "ExpZZA.yaml").write_text(parent)
    (configs / "ExpZZB.yaml").write_text("BASE: ExpZZA\nMODEL: {NAME: Unet}\n")
    (configs / "ExpZZC.yaml").write_text("BASE: ExpZZA\nMODEL: {NAME: FPN, OPTIONS: {DECODER_DROPOUT: 0.2}}\n")
    assert load("ExpZZB").config.model.options == {}
    assert load("ExpZZC").config.model.options == {"DECODER_DROPOUT": 0.2, "DECODER_PYRAMID_CHANNELS": 128}
    of_unet = load("ExpZZA", ("MODEL.NAME=Unet", "MODEL.OPTIONS.DECODER_ATTENTION_TYPE=scse"))
    assert of_unet.config.model.options == {"DECODER_ATTENTION_TYPE": "scse"}


def test_a_config_without_base_changes_the_defaults(configs):
    write(configs, "Mine", "SOLVER: {NUM_EPOCHS: 3}\n")
    assert load("Mine").config.solver.num_epochs == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "configs/Mine.yaml: file is empty; add BASE: and what differs, or remove it"),
        ("# words\n", "configs/Mine.yaml: file is empty; add BASE: and what differs, or remove it"),
        ("BASE:\n", "configs/Mine.yaml:1: BASE: expected the name of a config, for example BASE: ExpBAA (or base)"),
        (
            "BASE: [ExpAAA, ExpAAB]\n",
            "configs/Mine.yaml:1: BASE: expected the name of a config, for example BASE: ExpBAA (or base)",
        ),
        (
            "BASE: {A: 1}\n",
            "configs/Mine.yaml:1: BASE: expected the name of a config, for example BASE: ExpBAA (or base)",
        ),
        ("\nBASE: ExpAAZ\n", "configs/Mine.yaml:2: BASE: there is no config 'ExpAAZ' in configs/; did you mean ExpAA"),
        ("BASE: Mine\n", "configs/Mine.yaml:1: BASE: circular: Mine -> Mine; name another parent"),
        ("SOLVER: {MAXLR: 1}\n", "configs/Mine.yaml:1: unknown key SOLVER.MAXLR; did you mean SOLVER.MAX_LR?"),
        ("base: ExpAAA\n", "configs/Mine.yaml:1: unknown key base; did you mean BASE?"),
        ("SOLVER: {MAX_LR: fast}\n", "configs/Mine.yaml:1: SOLVER.MAX_LR: found 'fast', expected a number (above 0)"),
        (
            "SOLVER: {PLAN: one_cylce}\n",
            "configs/Mine.yaml:1: SOLVER.PLAN: there is no plan 'one_cylce' in configs/plans/; did you mean",
        ),
        ("DATASETS: {COMPETITION: CV}\n", "configs/Mine.yaml:1: DATASETS.COMPETITION: there is no competition 'CV' in"),
    ],
)
def test_a_broken_config_is_refused_with_file_and_line(text, message, configs):
    write(configs, "Mine", text)
    assert refusal("Mine").startswith(message)


def test_circular_parents_are_refused_with_the_whole_chain(configs):
    write(configs, "One", "BASE: Two\n")
    write(configs, "Two", "# words\nBASE: One\n")
    assert refusal("One") == "configs/Two.yaml:2: BASE: circular: One -> Two -> One; name another parent"


def test_a_mistake_in_a_parent_is_named_there(configs):
    write(configs, "One", "BASE: Two\n")
    write(configs, "Two", "SOLVER:\n  POWER: x\n")
    assert refusal("One").startswith("configs/Two.yaml:2: SOLVER.POWER: found 'x'")


def test_a_key_that_the_base_forgets_is_a_clear_refusal(configs):
    text = (configs / "base.yaml").read_text()
    write(configs, "base", text.replace("  POWER: 0.9", "# POWER: 0.9"))
    assert refusal("ExpAAA").endswith("SOLVER.POWER is missing; add it")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ExpAAZ", "did you mean ExpAAA or ExpAAB or ExpAAC?"),
        ("expaab", "did you mean ExpAAB?"),
        ("configs/ExpAAB.yaml", "did you mean ExpAAB?"),
        ("../configs/ExpAAB", "did you mean ExpAAB?"),
        ("base", "did you mean"),
        ("", "`./run.sh list` lists all"),
        ("x" * 5000, "`./run.sh list` lists all"),
        ("a\0b", "`./run.sh list` lists all"),
    ],
)
def test_a_name_without_config_is_refused_with_the_nearest(name, hint):
    message = refusal(name)
    assert message.startswith("there is no config ")
    assert hint in message
    assert len(message) < 200
    with pytest.raises(UserError):
        config_path(name)


def test_temporary_files_of_editors_are_not_configs(configs):
    write(configs, ".#ExpAAB", "x")
    write(configs, "._ExpAAC", "x")
    (configs / "ExpFolder.yaml").mkdir()
    assert "ExpFolder" not in names()
    assert not [name for name in names() if name.startswith(".")]
    assert "base" not in names()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["SOLVER.MAX_LR=5e-4"], {"SOLVER.MAX_LR": 5e-4}),
        (["SOLVER={MAX_LR: 5e-4, POWER: 2}"], {"SOLVER.MAX_LR": 5e-4, "SOLVER.POWER": 2.0}),
        (["LOSS_FN.MIX=0.7 ce + 0.3 lovasz"], {"LOSS_FN.MIX": "0.7 ce + 0.3 lovasz"}),
        (
            ["DATASETS.AUGMENTATION.TILE.SETS=[[640, 360, 2, 2]]"],
            {"DATASETS.AUGMENTATION.TILE.SETS": ((640, 360, 2, 2),)},
        ),
        (["EXPERIMENT.LOAD_PREV="], {}),
        (["MODEL.ENCODER.WEIGHTS=None"], {"MODEL.ENCODER.WEIGHTS": None}),
        (["SOLVER.MAX_LR=auto", "RUNTIME.DEVICE=cpu"], {"SOLVER.MAX_LR": "auto", "RUNTIME.DEVICE": "cpu"}),
    ],
)
def test_overrides_change_their_keys_and_nothing_else(overrides, words):
    before, after = load("ExpAAB"), load("ExpAAB", tuple(overrides))
    assert after.values == before.values | words
    assert set(after.changed) == set(words)
    assert all(after.origins[key] == "command line" for key in words)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SOLVER.MAXLR=1"], "command line: unknown key SOLVER.MAXLR; did you mean SOLVER.MAX_LR?"),
        (["MODEL.DEPTH=5"], "command line: unknown key MODEL.DEPTH; the keys of this group are NAME, ABBR, ENCODER"),
        (["solver.max_lr=1"], "command line: unknown key solver.max_lr; did you mean SOLVER.MAX_LR?"),
        (["MAX_LR=1"], "command line: unknown key MAX_LR; did you mean SOLVER.MAX_LR?"),
        (["SOLVER.MAX_LR=fast"], "command line: SOLVER.MAX_LR: found 'fast', expected a number (above 0) or auto"),
        (["SOLVER.MAX_LR="], "command line: SOLVER.MAX_LR: found nothing, expected a number (above 0) or auto"),
        (["SOLVER=1"], "command line: SOLVER: found '1', expected a group of keys: "),
        (["SOLVER.MAX_LR={A: 1}"], "command line: SOLVER.MAX_LR: found a group of keys, expected one value"),
        (["MODEL.NAME=UNett"], "command line: MODEL.NAME: found 'UNett', expected one of Unet, UnetPlusPlus, MAnet, "),
        (["BASE=ExpAAC"], "command line: BASE can be set in a file only ("),
        (["SOLVER.PLAN=../plans/constant"], "command line: SOLVER.PLAN: there is no plan '../plans/constant'"),
        (["SOLVER.PLAN=/etc/passwd"], "command line: SOLVER.PLAN: there is no plan '/etc/passwd'"),
        (["DATASETS.COMPETITION=" + "x" * 5000], "command line: DATASETS.COMPETITION: there is no competition 'xxx"),
        (["EXPERIMENT.SEED=99999999"], "command line: EXPERIMENT.SEED: 99999999 is outside the allowed range"),
    ],
)
def test_a_mistake_on_the_command_line_is_refused(overrides, message):
    assert refusal("ExpAAB", *overrides).startswith(message)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("SOLVER.MAX_LR=1e-3",),  # what it is anyway
        ("SOLVER={}",),
        ("RUNTIME.DEVICE=cpu", "DATALOADERS.TRAIN.NUM_WORKERS=0", "SOLVER.SAVE_MINUTES=1"),
        ("DATASETS.DIRECTORY=/elsewhere",),
        ("RUNTIME.RANKS=2",),
        ("RUNTIME.SYNC_BATCH_NORM=false",),  # of one rank
    ],
)
def test_overrides_that_change_no_result_keep_the_run_folder(overrides):
    assert load("ExpAAB", overrides).run == "ExpAAB"


def test_a_deviating_run_gets_a_folder_of_its_own_and_the_same_each_time():
    run = load("ExpAAB", ("SOLVER.MAX_LR=5e-4", "SOLVER.POWER=2")).run
    assert run.startswith("ExpAAB-")
    assert run == load("ExpAAB", ("SOLVER.POWER=2.0", "SOLVER.MAX_LR=0.0005", "RUNTIME.DEVICE=cpu")).run
    assert run == load("ExpAAB", ("SOLVER={POWER: 2, MAX_LR: 5e-4}",)).run
    others = {load("ExpAAB", (f"SOLVER.MAX_LR={rate}",)).run for rate in (1e-4, 2e-4, 3e-4, 5e-4)}
    assert len(others | {run, "ExpAAB"}) == 6


def test_ranks_with_batch_norms_of_their_own_are_another_result():
    own = {ranks: load("ExpAAB", ("RUNTIME.SYNC_BATCH_NORM=false", f"RUNTIME.RANKS={ranks}")) for ranks in (1, 2)}
    assert own[1].run == "ExpAAB" and "RUNTIME.RANKS" not in own[1].settings
    assert own[2].run.startswith("ExpAAB-") and own[2].settings["RUNTIME.RANKS"] == 2
    assert "RUNTIME.RANKS" not in load("ExpAAB", ("RUNTIME.RANKS=2",)).settings


def test_machine_keys_are_keys():
    keys = load("ExpAAB").values
    for prefix in MACHINE_KEYS:
        assert any(key == prefix or key.startswith(f"{prefix}.") for key in keys), prefix
    assert is_machine_key("RUNTIME.DEVICE")
    assert not is_machine_key("SOLVER.PRECISION")


@pytest.mark.parametrize("key", RETIRED)
def test_a_retired_key_is_refused_with_the_reason(key, configs):
    assert refusal("ExpAAB", f"{key}=false") == f"command line: {key} has no effect: {RETIRED[key]}; remove it"
    *groups, last = key.split(".")
    write(configs, "Mine", "BASE: ExpAAB\n" + ": {".join([*groups, last]) + ": {}" + "}" * len(groups) + "\n")
    assert refusal("Mine").startswith(f"configs/Mine.yaml:2: {key} has no effect")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["DATASETS.CLASSES=[car]"], "DATASETS.CLASSES: aeroscapes has no class car; did you mean Car?"),
        (["DATASETS.CLASSES=[Xyz]"], "DATASETS.CLASSES: aeroscapes has no class Xyz; its classes are Backgr"),
        (
            ["DATASETS.AUGMENTATION.COPY_PASTE.CLASSES=[car]"],
            "DATASETS.AUGMENTATION.COPY_PASTE.CLASSES: aeroscapes has",
        ),
        (["DATASETS.CLASSES=[]"], "DATASETS.CLASSES: the list is empty; give all"),
        (["DATASETS.CLASSES=[Car, Car]"], "DATASETS.CLASSES: a class is given twice"),
        (["DATASETS.COMPETITION=camvid", "DATASETS.CLASSES=[Void]"], "DATASETS.CLASSES: camvid has no class Void"),
        (["LOSS_FN.WEIGHTS=[1, 2]"], "LOSS_FN.WEIGHTS: 2 weights for the 12 classes of aeroscapes"),
        (["LOSS_FN.WEIGHTS=[0,0,0,0,0,0,0,0,0,0,0,0]"], "LOSS_FN.WEIGHTS: all weights are 0"),
        (["LOSS_FN.MIX=0.7 CE"], "LOSS_FN.MIX: cannot read '0.7 CE' in the loss mix '0.7 CE'; did you mean ce?"),
        (["SOLVER.MIN_LR=0.5"], "SOLVER.MIN_LR: 0.5 is above SOLVER.MAX_LR 0.001"),
        (
            ["SOLVER.MAX_LR=auto", "SWEEP.ENABLE=false"],
            "SOLVER.MAX_LR: auto is the suggestion of the LR sweep, but SWEEP.ENABLE",
        ),
        (
            ["SOLVER.MAX_LR=auto", "SWEEP.OPTIMIZER=SGD"],
            "SOLVER.MAX_LR: auto is the suggestion of the LR sweep, but a rate",
        ),
        (["SOLVER.OPTIMIZER.NAME=adamw"], "SOLVER.OPTIMIZER.NAME: no optimizer is called adamw; did you mean AdamW or"),
        (["SOLVER.OPTIMIZER.NAME=timm.adahessian"], "SOLVER.OPTIMIZER.NAME: timm.adahessian needs second derivatives"),
        (
            ["SOLVER.OPTIMIZER={NAME: torch_optimizer.SGDW, WEIGHT_DECAY: 0.1}"],
            "SOLVER.OPTIMIZER.NAME: torch_optimizer.SGDW subtracts the same number from every weight",
        ),
        (
            ["SOLVER.MAX_LR=auto", "SOLVER.OPTIMIZER.NAME=timm.adagrad"],
            "SOLVER.MAX_LR: auto is the suggestion of the LR sweep, but the steps of timm.adagrad keep",
        ),
        (
            ["PREDICT.WINDOW=[100, 90]"],
            "PREDICT.WINDOW: [100, 90] must be multiples of 32",
        ),
        (
            ["PREDICT={TTA: scales, SCALES: [0.5, 1.0]}"],
            "PREDICT.SCALES: TTA: scales already means SCALES: [0.75, 1.0, 1.25]",
        ),
        (["PREDICT.SCALES=[1.0, 1.0]"], "PREDICT.SCALES: found [1.0, 1.0], expected different factors such as"),
        (["PREDICT.SCALES=[]"], "PREDICT.SCALES: found [], expected different factors such as"),
        (["PREDICT.SCALES=[5]"], "PREDICT.SCALES: item 1: 5.0 is outside the allowed range (at least 0.1, at most 4)"),
        (["PREDICT.SCALE_WEIGHTS=[1, 2]"], "PREDICT.SCALE_WEIGHTS: 2 weights for the scales 1; give one per scale"),
        (
            ["DATASETS.INPUT_SCALE=0.2"],
            "DATASETS.INPUT_SCALE: 0.2 is outside the allowed range (at least 0.25, at most 4)",
        ),
        (["DECODE.COMPONENTS=largest(Cra)"], "DECODE.COMPONENTS: cannot read 'largest(Cra)'; there is no class 'Cra'"),
        (
            ["DECODE.COMPONENTS=fitted + largest(Car)"],
            "DECODE.COMPONENTS: cannot read 'fitted'; fitted cannot be combined with rules; write DECODE.COMPONENTS:",
        ),
        (
            ["DECODE.COMPONENTS=largest(high=1)"],
            "DECODE.COMPONENTS: cannot read 'largest(high=1)'; largest needs a class first, or all: largest(CLASS",
        ),
        (
            ["LOSS_FN.MIX=1 dice + -1 ce"],
            "LOSS_FN.MIX: cannot read '-1 ce' in the loss mix '1 dice + -1 ce'; the weight '-1' is not a number",
        ),
        (["DECODE.COMPONENTS=fited"], "DECODE.COMPONENTS: cannot read 'fited'; did you mean fitted?"),
        (["LOSS_FN.WEIGHTS=inverted"], "LOSS_FN.WEIGHTS: found 'inverted', expected"),
        (["SWEEP.END_LR=1e-5"], "SWEEP.END_LR: 1e-05 is not above SWEEP.START_LR 0.0001"),
        (["SOLVER.ACCUMULATE=3"], "SOLVER.ACCUMULATE: DATALOADERS.TRAIN.BATCH_SIZE 2 cannot be split into 3"),
        (
            ["RUNTIME.RANKS=3"],
            "RUNTIME.RANKS: DATALOADERS.TRAIN.BATCH_SIZE 2 cannot be divided equally among 3 ranks; set it to 3, or",
        ),
        (
            ["RUNTIME.RANKS=2", "SOLVER.ACCUMULATE=4", "DATALOADERS.TRAIN.BATCH_SIZE=20"],
            "RUNTIME.RANKS: DATALOADERS.TRAIN.BATCH_SIZE 20 cannot be divided equally among 2 ranks of 4 micro-batches "
            "each (SOLVER.ACCUMULATE); set it to 16, or RUNTIME.RANKS: 1",
        ),
        (
            ["RUNTIME.RANKS=2", "DATALOADERS.TRAIN.DROP_LAST=false"],
            "RUNTIME.RANKS: 2 ranks need batches of one size; set DATALOADERS.TRAIN.DROP_LAST: true, or",
        ),
        (
            ["RUNTIME.RANKS=auto", "RUNTIME.SYNC_BATCH_NORM=false"],
            "RUNTIME.RANKS: auto with RUNTIME.SYNC_BATCH_NORM false: the result would depend on how many GPUs",
        ),
        (["SOLVER.PLAN=cityscapes_freeze"], "SOLVER.PLAN: cityscapes_freeze: a phase changes the loss"),
        (["DATASETS.AUGMENTATION.TILE={ENABLE: true, SETS: []}"], "DATASETS.AUGMENTATION.TILE.SETS: the list is empty"),
        (
            ["DATASETS.AUGMENTATION.TILE={ENABLE: true, WIDTH: 640, HEIGHT: 352, SETS: [[640, 350, 1, 1]]}"],
            "DATASETS.AUGMENTATION.TILE.SETS: a tile of 640x352 does not fit into an image of 640x350",
        ),
        (
            ["DATASETS.AUGMENTATION.TILE.SETS=[[1280, 720, 0, 3]]"],
            "DATASETS.AUGMENTATION.TILE.SETS: item 1: item 3: 0 is outside the allowed range (at least 1)",
        ),
        (
            ["DATASETS.SPLIT_INDEX=20"],
            "DATASETS.SPLIT_INDEX: 20 is outside the allowed range (at least -100, at most",
        ),
        (
            ["DATASETS.SPLIT_INDEX=-101"],
            "DATASETS.SPLIT_INDEX: -101 is outside the allowed range (at least -100, at most",
        ),
        (
            ["DATASETS.AUGMENTATION.GAUSSIAN_NOISE={VAR_LIMIT: [9, 1]}"],
            "DATASETS.AUGMENTATION.GAUSSIAN_NOISE.VAR_LIMIT: found [9, 1], expected [smallest, largest]",
        ),
        (
            ["DATASETS.AUGMENTATION.RANDOM_CROP={SCALE: [2.0, 0.5]}"],
            "DATASETS.AUGMENTATION.RANDOM_CROP.SCALE: found [2, 0.5], expected [smallest, largest]",
        ),
        (
            ["DATASETS.AUGMENTATION={TILE: {ENABLE: true}, RANDOM_CROP: {ENABLE: true}}"],
            "DATASETS.AUGMENTATION.RANDOM_CROP.ENABLE: true chooses what is cut out of an image, and so does TILE",
        ),
        (
            ["DATASETS.AUGMENTATION.MIX_UP.ENABLE=true", "DATALOADERS.TRAIN.BATCH_SIZE=1"],
            "DATASETS.AUGMENTATION.MIX_UP.ENABLE: true blends the samples of a batch, but",
        ),
        (["SOLVER.OPTIMIZER.NAME=SAM"], "SOLVER.OPTIMIZER.NAME: SAM needs two forward and backward passes"),
        (
            ["SOLVER.CHECKPOINT_ENCODER=true", "SOLVER.COMPILE=true"],
            "SOLVER.CHECKPOINT_ENCODER: true is not for compiled networks; set SOLVER.COMPILE: false",
        ),
        (["EXPERIMENT.PREFIX=a/b"], "EXPERIMENT.PREFIX: 'a/b' is a part of the run name"),
        (["EXPERIMENT.SUFFIX=''"], "EXPERIMENT.SUFFIX: '' is a part of the run name"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides, message):
    assert refusal("ExpAAB", *overrides).startswith(f"command line: {message}")


def test_an_optimizer_of_a_library_is_a_setting_like_any_other():
    overrides = ("SOLVER.OPTIMIZER={NAME: torch_optimizer.SGDW, WEIGHT_DECAY: 0}", "SWEEP.OPTIMIZER=SGD")
    assert load("ExpAAB", overrides).config.solver.optimizer.name == "torch_optimizer.SGDW"
    assert load("ExpAAB", ("SOLVER.OPTIMIZER.NAME=timm.adagrad",)).config.solver.max_lr == 0.001


def test_a_contradiction_is_named_where_the_value_stands_that_was_not_overridden():
    tile = refusal("ExpAAB", "DATASETS.AUGMENTATION.TILE={ENABLE: true, WIDTH: 1300}")
    assert tile.startswith("configs/base.yaml:")
    assert "DATASETS.AUGMENTATION.TILE.SETS: a tile of 1300x224 does not fit into an image of 1280x720" in tile
    warmup = refusal("ExpAAB", "SOLVER.PLAN=poly_warmup", "SOLVER.WARMUP_EPOCHS=200")
    assert warmup == "configs/plans/poly_warmup.yaml:2: phase poly: WARMUP of 200 epochs is longer than the 100 EPOCHS"


def test_a_run_cannot_start_from_itself_but_a_deviating_one_can_start_from_its_experiment(configs):
    for name in ("Mine", "AAB-FPN-EFF3-CA-FS-NA"):
        write(configs, "Mine", f"BASE: ExpAAB\nEXPERIMENT: {{LOAD_PREV: {name}}}\n")
        assert refusal("Mine").startswith("configs/Mine.yaml:2: EXPERIMENT.LOAD_PREV: Mine cannot start from itself")
    for name in ("ExpAAB", "AAB-FPN-EFF3-CA-FS-NA"):
        tuned = load("ExpAAB", (f"EXPERIMENT.LOAD_PREV={name}", "SOLVER.MAX_LR=5e-5"))
        assert tuned.config.experiment.load_prev == name
        assert tuned.run != "ExpAAB"


def test_a_mix_written_otherwise_is_no_other_loss(configs):
    (configs / "plans" / "mine.yaml").write_text("- {NAME: a, EPOCHS: 1, LR: flat, LOSS: dice}\n")
    assert load("ExpAAB", ("SOLVER.PLAN=mine",)).plan[0].loss == "dice"  # LOSS_FN.MIX is 1 dice


def test_tiles_that_are_switched_off_need_not_fit():
    assert load("ExpAAB", ("DATASETS.AUGMENTATION.TILE.WIDTH=9999",)).config.datasets.augmentation.tile.width == 9999


def test_auto_waits_for_the_sweep_and_then_takes_its_rate():
    loaded = load("ExpAAB", ("SOLVER.MAX_LR=auto",))
    assert loaded.config.solver.max_lr == "auto"
    assert [phase.max_lr for phase in with_max_lr(loaded, 0.02)] == [0.02, 0.02]


@pytest.mark.parametrize("name", ["ExpAAA", "ExpBAA", "ExpABG", "ExpCAB", "ExpEBD"])
def test_resolved_values_written_as_json_read_back_as_the_same_config(name, tmp_path):
    loaded = load(name)
    path = tmp_path / "config.yaml"
    path.write_text("# Resolved values.\n" + json.dumps(nested(loaded.values), indent=2))
    assert build(read_tree(path, "config.yaml"), Config) == loaded.config


def test_flat_and_nested_values_are_the_same_values():
    values = load("ExpBAA").values

    def flat(tree: dict, path: str = "") -> dict:
        items = {}
        for key, value in tree.items():
            here = f"{path}.{key}" if path else key
            items |= flat(value, here) if isinstance(value, dict) and value else {here: value}
        return items

    assert flat(nested(values)) == values
    assert list(flatten(load("ExpBAA").config)) == list(values)


def test_a_config_cannot_be_changed_after_loading():
    loaded = load("ExpAAA")
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.config.solver.max_lr = 1.0
    assert run_name(loaded.config) == "AAA-FPN-EFF3-1C-FS-NA"


def test_a_missing_competition_is_refused_with_where_it_was_named():
    with pytest.raises(
        UserError, match=r"^command line: there is no competition 'camvdi' in .*; did you mean camvid\?"
    ):
        load_competition("camvdi")


def test_the_loader_starts_without_heavy_packages(python_modules):
    loaded = python_modules("import pipeline.config.load as load; load.load('ExpBBC')")
    assert not loaded & {"torch", "numpy", "cv2", "pandas", "albumentations", "matplotlib", "scipy"}


def test_a_loaded_config_does_not_hold_on_to_whoever_called_for_it():
    """A cycle through an exception would keep the caller's variables, a network or loader workers among them."""

    class Held:
        pass

    def caller() -> weakref.ref:
        held = Held()
        load("demo", ("SOLVER.MAX_LR=auto", "SOLVER.CLIP_NORM=null"))
        return weakref.ref(held)

    gc.disable()
    try:
        assert caller()() is None
    finally:
        gc.enable()
