"""The words of the command line: the name of a run stands for its config and its overrides."""

from __future__ import annotations

import pytest

from pipeline.__main__ import main
from pipeline.commands.words import with_run_expanded
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


def expanded(*words: str) -> list[str]:
    return with_run_expanded(words, Folders.from_environment().runs)


def test_the_name_of_a_run_stands_for_what_was_typed_for_it(run):
    words = expanded(run, "evaluate", "--force")
    assert words[0] == "DemoAAA" and words[-2:] == ["evaluate", "--force"]
    assert load("DemoAAA", words[1:-2]).run == run
    assert expanded("submit", "-m", "a text", run)[:4] == ["submit", "-m", "a text", "DemoAAA"]


def test_other_words_stay_as_they_are(run):
    for words in (["DemoAAA", "train"], ["why", "DemoAAA-00000000"], [f"EXPERIMENT.LOAD_PREV={run}"], []):
        assert expanded(*words) == words


def test_an_override_that_is_typed_as_well_replaces_that_of_the_run(run):
    config, *overrides = expanded(run, "SOLVER.POWER=3")
    assert load(config, overrides).values["SOLVER.POWER"] == 3.0
    assert load(config, overrides).values["LOSS_FN.MIX"] == "0.5 ce + 0.5 dice"


def test_a_run_whose_config_was_changed_is_refused_by_what_it_is_now(configs, run):
    path = configs / "DemoAAA.yaml"
    path.write_text(path.read_text().replace("MAX_LR: 0.004", "MAX_LR: 0.004\n  POWER: 2"))  # as in the override
    with pytest.raises(
        UserError, match=rf"{run} was made with other values in DemoAAA or base.yaml; now it is DemoAAA-"
    ):
        expanded(run)


def test_commands_on_a_config_take_a_run(run, capsys):
    assert main(["show", run]) == 0
    assert "run name" in capsys.readouterr().out
    assert main(["why", run]) == 0
    assert f"{run}, the run with these settings" in capsys.readouterr().out
