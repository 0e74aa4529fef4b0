"""EXPERIMENT.SEED: random is a number of each run folder, drawn once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.drawn_seed import KEY, kept_seed, with_drawn_seed
from pipeline.config.load import load
from pipeline.config.schema import NUM_SEEDS
from pipeline.engine.api import open_run
from pipeline.engine.folder import prepare_folder
from pipeline.errors import UserError
from pipeline.paths import CONFIG, Folders
from pipeline.training.inputs import seed_of


def started(name: str, *overrides: str):
    """Returns an open run whose folder is made, as before its first stage."""
    run = open_run(name, overrides)
    prepare_folder(run)
    return run


def test_a_folder_keeps_the_seed_that_its_run_has_drawn():
    first = started("ExpR03")
    seed = seed_of(first.loaded)
    assert 0 <= seed < NUM_SEEDS
    assert kept_seed(first.paths.folder) == seed
    again = started("ExpR03")
    assert again.loaded.settings == first.loaded.settings  # so that no stage has other settings
    assert again.loaded.settings[KEY] == again.loaded.config.experiment.seed == seed
    assert f'"SEED": {seed}' in (first.paths / CONFIG).read_text()
    assert first.name == "ExpR03"


def test_each_new_folder_draws_another():
    overrides = [(), ("SOLVER.MAX_LR=2e-4",), ("PREDICT.TTA=flip",)]
    seeds = [seed_of(started("ExpR03", *own).loaded) for own in overrides]
    seeds += [seed_of(started(name).loaded) for name in ("ExpR01", "ExpR02")]
    assert len(set(seeds)) == 5  # of 16.8 million, two are equal in one of 1.6 million runs of this test


def test_other_seeds_stay_as_they_are():
    started("ExpR03")
    for name, seed in (("ExpR06", 3407), ("BccdR", None)):
        loaded = load(name)
        assert with_drawn_seed(loaded, Folders.from_environment().run("ExpR03").folder) is loaded
        assert loaded.config.experiment.seed == seed
    fixed = open_run("ExpR03", ("EXPERIMENT.SEED=5",))
    assert seed_of(fixed.loaded) == 5 and fixed.name != "ExpR03"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "# only comments", '{"EXPERIMENT": 3}', '{"EXPERIMENT": {"SEED": true}}']
)
def test_a_folder_without_a_readable_seed_counts_as_new(tmp_path: Path, text):
    (tmp_path / CONFIG).write_text(text)
    assert kept_seed(tmp_path) is None
    assert kept_seed(tmp_path / "absent") is None


def test_another_word_for_a_seed_is_refused():
    with pytest.raises(UserError, match=r"EXPERIMENT\.SEED: found 'radnom'"):
        load("ExpR03", ("EXPERIMENT.SEED=radnom",))
