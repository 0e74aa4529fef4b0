"""Every experiment of the original is here under its own name, with its settings and its published score.

The three tables are copies of the original's facts (`experiments.csv`, `base_defaults.csv`, `results.csv`).
"""

from __future__ import annotations

import csv
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.load import RETIRED, Loaded, flatten, names, read_chain, run_name
from pipeline.config.load import load as load_anew
from pipeline.config.schema import Config
from pipeline.config.tree import build, leaf_origins, read_tree
from pipeline.engine.added import ADDED

HERE = Path(__file__).parent
CONFIGS = HERE.parent.parent / "configs"


@functools.cache
def load(name: str) -> Loaded:
    return load_anew(name)


def rows_of(table: str) -> list[dict[str, str]]:
    with open(HERE / table, newline="") as file:
        return list(csv.DictReader(file))


EXPERIMENTS = {row["experiment"]: row for row in rows_of("experiments.csv")}
RESULTS = {row["experiment"]: row for row in rows_of("results.csv")}
DEFAULTS = {row["key"]: json.loads(row["default"]) for row in rows_of("base_defaults.csv")}
LINES = (HERE / "keys.txt").read_text().split()
KEYS = [line.removeprefix("+") for line in LINES]
LATER = {line[1:] for line in LINES if line.startswith("+")}
OWN_PLAN = {"ExpAAA": "one_cycle", "ExpAAB": "flat_cosine"}  # the original chose between its two loops in the notebook


def is_retired(key: str) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in RETIRED)


def changes_of(name: str) -> dict[str, Any]:
    return json.loads(EXPERIMENTS[name]["changed_keys_against_parent"])


def published_values(name: str) -> dict[str, Any]:
    """The original's value of every key, down the chain of parents."""
    if name == "base":
        return dict(DEFAULTS)
    return published_values(EXPERIMENTS[name]["parent"]) | changes_of(name)


def listed(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    return [listed(item) for item in value] if isinstance(value, tuple) else value


def header_of(name: str) -> list[str]:
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    return lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))]


@pytest.mark.parametrize("table", ["experiments.csv", "base_defaults.csv", "results.csv"])
def test_the_tables_are_the_references(table, shared):
    assert (HERE / table).read_text() == (shared / "reference" / table).read_text()


def test_all_73_experiments_are_there():
    assert len(EXPERIMENTS) == 73
    assert EXPERIMENTS.keys() <= set(names())
    assert {name for name in names() if re.fullmatch("Exp[A-Z]{3}", name)} == EXPERIMENTS.keys()


def test_every_default_of_the_original_is_ours_or_is_retired_with_a_reason():
    ours = flatten(build(read_tree(CONFIGS / "base.yaml", "base.yaml"), Config))
    for key, default in DEFAULTS.items():
        assert (key in ours) != is_retired(key), key
        assert key not in ours or listed(ours[key]) == default, key
    assert all(len(why) > 20 for why in RETIRED.values())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_resolves_to_the_originals_values_key_by_key(name):
    loaded = load(name)
    expected = {key: value for key, value in published_values(name).items() if not is_retired(key)}
    assert {key: listed(loaded.values[key]) for key in expected} == expected
    ours = {key: value for key, value in loaded.values.items() if key not in expected}
    defaults = {key: value for key, value in load("ExpAAB").values.items() if key not in expected}
    assert ours == defaults | {"SOLVER.PLAN": "one_cycle" if name == "ExpAAA" else "flat_cosine"}
    assert (loaded.name, loaded.run, loaded.changed) == (name, name, ())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_file_names_the_originals_parent_and_changes_nothing_else(name):
    tree = read_tree(CONFIGS / f"{name}.yaml", name)
    assert tree.pop("BASE").node.value == EXPERIMENTS[name]["parent"]
    own_plan = {"SOLVER.PLAN"} if name in OWN_PLAN else set()
    assert set(leaf_origins(tree)) == set(changes_of(name)) | own_plan


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_header_has_question_command_run_name_hardware_and_published_score(name):
    question, command, result = (line.removeprefix("# ") for line in _joined(header_of(name)))
    row = EXPERIMENTS[name]
    assert "?" in question
    trained_on = f", trained on a {row['hardware']}" if row["hardware"] else ""
    assert command == f"./run.sh {name}    ({row['run_name']}{trained_on})"
    if name not in RESULTS:
        assert result == "Published: no result."
        return
    scores = {
        key: float(value) for key, value in RESULTS[name].items() if key not in ("experiment", "run_name", "mean_dice")
    }
    weakest, mean = min(scores, key=scores.__getitem__), RESULTS[name]["mean_dice"]
    expected = f"validation Dice {mean} (weakest class {weakest.capitalize()} {scores[weakest]:.3f})"
    assert result.startswith(f"Published: {expected}")


def _joined(lines: list[str]) -> list[str]:
    """A question or result may go on in the next line; the command stands on its own."""
    command = next(index for index, line in enumerate(lines) if line.startswith("# ./run.sh "))
    parts = lines[:command], [lines[command]], lines[command + 1 :]
    return ["# " + " ".join(line.removeprefix("# ") for line in part) for part in parts]


def test_54_scores_are_published():
    assert len(RESULTS) == 54
    assert RESULTS.keys() <= EXPERIMENTS.keys()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_run_name_for_people_is_the_originals(name):
    assert run_name(load(name).config) == EXPERIMENTS[name]["run_name"]


def test_no_two_configs_share_a_run_name():
    run_names = [run_name(load(name).config) for name in names()]
    assert len(set(run_names)) == len(run_names)


def test_every_earlier_run_that_an_experiment_starts_from_is_another_experiments():
    run_names = {row["run_name"] for row in EXPERIMENTS.values()}
    starts = {name: load(name).config.experiment.load_prev for name in EXPERIMENTS}
    assert all(start in run_names for start in starts.values() if start is not None)
    assert starts["ExpBBC"] == "BAC-FPN-EFF3-CA-T1-DA"


def test_only_the_first_experiment_trains_one_cycle():
    plans = {name: load(name).config.solver.plan for name in EXPERIMENTS}
    assert plans.pop("ExpAAA") == "one_cycle"
    assert set(plans.values()) == {"flat_cosine"}


def test_every_key_of_the_base_says_what_it_is():
    lines = (CONFIGS / "base.yaml").read_text().splitlines()
    origins = leaf_origins(read_tree(CONFIGS / "base.yaml", "base.yaml"))
    silent = [key for key, origin in origins.items() if " # " not in lines[int(origin.rpartition(":")[2]) - 1]]
    assert silent == []


def test_every_config_opens_with_a_question_and_its_command():
    for name in names():
        header = " ".join(header_of(name))
        assert "?" in header, name
        assert f"./run.sh {name}" in header, name


def test_every_plan_and_competition_opens_with_what_it_is():
    for path in [*CONFIGS.glob("plans/*.yaml"), *CONFIGS.glob("competitions/*.yaml")]:
        assert path.read_text().startswith("# "), path.name


def test_the_list_of_config_keys_is_frozen():
    found = list(load("ExpAAA").values)
    assert found == KEYS, (
        "The config keys changed. If that is meant, change tests/config/keys.txt with them (users' configs may name "
        "these keys). Write a new one with a + and add it to pipeline/engine/added.py, so that finished runs stay "
        f"valid:\nnew: {sorted(set(found) - set(KEYS))}\ngone: {sorted(set(KEYS) - set(found))}"
    )


def test_each_key_that_was_added_later_has_the_value_of_before():
    assert {key for key in ADDED if not key.startswith("COMPETITION.")} == LATER


def test_no_file_of_the_original_needs_yaml_beyond_plain_values():
    for path in CONFIGS.rglob("*.yaml"):
        assert yaml.safe_load(path.read_text()) is not None, path.name  # other programs can read them too


def test_a_chain_goes_from_the_base_to_the_experiment():
    origins = leaf_origins(read_chain("ExpBBC"))
    assert origins["SOLVER.MAX_LR"] == "configs/ExpBBC.yaml:10"
    assert origins["DATASETS.SPLIT_INDEX"].startswith("configs/ExpBAC.yaml:")
    assert origins["DATASETS.AUGMENTATION.TILE.WIDTH"].startswith("configs/ExpBAA.yaml:")
    assert origins["DATASETS.AUGMENTATION.COLOR.ENABLE"].startswith("configs/ExpAAC.yaml:")
    assert origins["SOLVER.PLAN"].startswith("configs/ExpAAB.yaml:")
    assert origins["SOLVER.POWER"].startswith("configs/base.yaml:")
