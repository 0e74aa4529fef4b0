"""The name of a run on the command line stands for its config and its overrides."""

from __future__ import annotations

import pytest

from pipeline.__main__ import main
from pipeline.commands.run_names import of_run
from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.paths import CONFIG, Folders

OVERRIDES = ("SOLVER.POWER=2", "LOSS_FN.MIX=0.5 ce + 0.5 dice", "DATASETS.AUGMENTATION.TILE.SETS=[[384, 216, 3, 2]]")


@pytest.fixture
def run() -> str:
    """A run of DemoAAA with overrides, as it stands after its start."""
    loaded = load("DemoAAA", OVERRIDES)
    folder = Folders.from_environment().run(loaded.run).folder
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(loaded.text)
    return loaded.run


def of(name: str, *words: str) -> tuple[str, list[str]]:
    return of_run(name, words, Folders.from_environment().runs)


def test_the_name_of_a_run_stands_for_what_was_typed_for_it(run):
    config, overrides = of(run, "evaluate")
    assert config == "DemoAAA" and load(config, overrides).run == run


def test_other_names_stay_as_they_are(run):
    for name in ("DemoAAA", "DemoAAA-00000000", "x" * 3000 + "-00000000", ""):
        assert of(name) == (name, [])


def test_an_override_that_is_typed_as_well_replaces_that_of_the_run(run):
    config, overrides = of(run, "SOLVER.POWER=3")
    found = load(config, [*overrides, "SOLVER.POWER=3"]).values
    assert (found["SOLVER.POWER"], found["LOSS_FN.MIX"]) == (3.0, "0.5 ce + 0.5 dice")
    tile = "DATASETS.AUGMENTATION.TILE={ENABLE: false}"  # a group replaces what the run has below it
    config, overrides = of(run, tile)
    assert load(config, [*overrides, tile]).values["DATASETS.AUGMENTATION.TILE.SETS"] != [[384, 216, 3, 2]]


def test_settings_of_the_machine_stay_where_it_would_be_another_run_without_them(tmp_path):
    overrides = ["RUNTIME.RANKS=2", "RUNTIME.SYNC_BATCH_NORM=false", "DATALOADERS.TRAIN.DROP_LAST=true"]
    overrides += [f"DATASETS.DIRECTORY={tmp_path}", "RUNTIME.TIME_BUDGET_HOURS=3"]
    loaded = load("DemoAAA", overrides)
    folder = Folders.from_environment().run(loaded.run).folder
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(loaded.text)
    config, own = of(loaded.run)
    assert load(config, own).run == loaded.run and "RUNTIME.RANKS=2" in own
    assert f'DATASETS.DIRECTORY="{tmp_path}"' in own and not [word for word in own if "TIME_BUDGET" in word]


def test_a_run_whose_config_was_changed_is_refused_by_what_it_is_now(configs, run):
    path = configs / "DemoAAA.yaml"
    path.write_text(path.read_text().replace("MAX_LR: 0.004", "MAX_LR: 0.004\n  POWER: 2"))  # as in the override
    changed = rf"{run} was made with other values in DemoAAA or base.yaml; .* the run is DemoAAA-"
    with pytest.raises(UserError, match=changed):
        of(run)


def test_commands_on_a_config_take_a_run(run, capsys):
    assert main(["show", run]) == 0
    assert "run name" in capsys.readouterr().out
    assert main(["why", run]) == 0
    assert f"{run}, the run with these settings" in capsys.readouterr().out
