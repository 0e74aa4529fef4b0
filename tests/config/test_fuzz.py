"""Whatever stands in a config or on the command line: a valid config, or a mistake of the user's that is named.

FUZZ_EXAMPLES=10000 ./run.sh test tests/config/test_fuzz.py tries so many of each kind, new ones each time.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipeline.config.load import Loaded, load, names, nested
from pipeline.config.plan import learning_rate
from pipeline.errors import UserError
from tests.mutations import ODD_YAML

HERE = Path(__file__).parent
CONFIGS = HERE.parent.parent / "configs"
KEYS = (HERE / "keys.txt").read_text().replace("+", "").split()
GROUPS = sorted({key.rpartition(".")[0] for key in KEYS})
NAMES = ("ExpAAA", "ExpBAA", "ExpABG", "ExpCAB", "ExpEBD")
FILE = re.compile(r"configs/[\w/.-]+\.yaml")

fuzzed = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "150")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(
    st.sampled_from(ODD_YAML),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(repr),
    st.lists(st.sampled_from(ODD_YAML), max_size=4).map(lambda items: f"[{', '.join(items)}]"),
    TEXT,
)


@st.composite
def mistyped(draw: st.DrawFn) -> str:
    """A key as a hurried person types it."""
    key = draw(st.sampled_from(KEYS))
    place = draw(st.integers(0, len(key) - 1))
    change = draw(st.sampled_from(["drop", "double", "lower", "cut", "swap", "insert"]))
    if change == "drop":
        return key[:place] + key[place + 1 :]
    if change == "double":
        return key[:place] + key[place] + key[place:]
    if change == "lower":
        return key.lower()
    if change == "cut":
        return key.rpartition(".")[2]
    if change == "swap":
        return key[:place] + key[place:][1:2] + key[place : place + 1] + key[place + 2 :]
    return key[:place] + draw(TEXT) + key[place:]


ANY_KEY = st.one_of(st.sampled_from(KEYS), st.sampled_from(KEYS), st.sampled_from(GROUPS), mistyped(), TEXT)


def check(name: str, overrides: tuple[str, ...] = (), keys: tuple[str, ...] = ()) -> None:
    """Loads; either the result is whole, or a `UserError` names a key or a file."""
    try:
        loaded = load(name, overrides)
    except UserError as error:
        message = str(error)
        words = [part for key in keys for part in key.split(".") if part]
        is_named = FILE.search(message) or any(key in message for key in KEYS) or any(word in message for word in words)
        assert is_named or "KEY=VALUE" in message, message
        assert len(message) < 5000
        message.encode()  # can be printed
    else:
        check_whole(loaded)


def check_whole(loaded: Loaded) -> None:
    assert list(loaded.values) == KEYS
    assert loaded.origins.keys() == loaded.values.keys()
    assert nested(loaded.values)
    for phase in loaded.plan:
        for step in (0, 1, 7, 10**6):
            rate = learning_rate(phase, step, 10)
            assert math.isfinite(rate)
            assert 0 <= rate <= phase.max_lr * (1 + 1e-12)


@fuzzed
@given(st.sampled_from(NAMES), st.lists(st.tuples(ANY_KEY, VALUES), min_size=1, max_size=3))
def test_any_overrides_give_a_config_or_a_named_mistake(module_configs, name, pairs):
    overrides = tuple(f"{key}={value}" for key, value in pairs)
    check(name, overrides, tuple(override.partition("=")[0] for override in overrides))


def nested_lines(key: str, value: str) -> str:
    """A dotted key as indented lines."""
    *groups, last = key.split(".")
    lines = [f"{'  ' * depth}{group}:" for depth, group in enumerate(groups)]
    return "\n".join([*lines, f"{'  ' * len(groups)}{last}: {value}"]) + "\n"


@fuzzed
@given(st.sampled_from(["base", *NAMES]), st.lists(st.tuples(ANY_KEY, VALUES), max_size=3))
def test_any_lines_in_a_config_give_a_config_or_a_named_mistake(module_configs, parent, pairs):
    text = f"BASE: {parent}\n" + "".join(nested_lines(key, value) for key, value in pairs)
    (module_configs / "Fuzz.yaml").write_text(text, encoding="utf-8", newline="")
    check("Fuzz", keys=tuple(key for key, _ in pairs))


@st.composite
def damaged(draw: st.DrawFn, text: str) -> bytes:
    """A file after a few accidents of an editor or a disk."""
    content = text.encode()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        end = min(len(content), place + draw(st.integers(1, 30)))
        lines = content.split(b"\n")
        line = draw(st.integers(0, len(lines) - 1))
        accident = draw(st.sampled_from(["cut", "lose", "insert", "double", "drop", "indent", "replace", "swap"]))
        if accident == "cut":
            content = content[:place]
        elif accident == "lose":
            content = content[:place] + content[end:]
        elif accident == "insert":
            content = content[:place] + draw(st.binary(min_size=1, max_size=4)) + content[place:]
        elif accident == "double":
            content = b"\n".join([*lines[: line + 1], *lines[line:]])
        elif accident == "drop":
            content = b"\n".join([*lines[:line], *lines[line + 1 :]])
        elif accident == "indent":
            lines[line] = draw(st.sampled_from([b" ", b"  ", b"\t"])) + lines[line]
            content = b"\n".join(lines)
        elif accident == "replace":
            key = lines[line].partition(b":")[0]
            lines[line] = key + b": " + draw(VALUES).encode()
            content = b"\n".join(lines)
        else:
            other = draw(st.integers(0, len(lines) - 1))
            lines[line], lines[other] = lines[other], lines[line]
            content = b"\n".join(lines)
    return content


@st.composite
def damaged_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """One of the project's own files, damaged: its path below configs/ and its content."""
    path = draw(
        st.sampled_from(
            [
                *("ExpBAA.yaml", "ExpABG.yaml", "ExpCAB.yaml", "base.yaml", "competitions/aeroscapes.yaml"),
                *(
                    "competitions/camvid.yaml",
                    "plans/flat_cosine.yaml",
                    "plans/yolox_frozen.yaml",
                    "plans/poly_warmup.yaml",
                ),
            ]
        )
    )
    return path, draw(damaged((CONFIGS / path).read_text()))


@fuzzed
@given(damaged_files())
def test_a_damaged_file_gives_a_config_or_a_named_mistake(module_configs, damaged_file):
    path, content = damaged_file
    whole = (module_configs / path).read_bytes()
    (module_configs / path).write_bytes(content)
    name = Path(path).stem if path.startswith("Exp") else "ExpBAA"
    overrides = (f"SOLVER.PLAN={Path(path).stem}",) if path.startswith("plans/") else ()
    overrides += (f"DATASETS.COMPETITION={Path(path).stem}",) if path.startswith("competitions/") else ()
    try:
        check(name, overrides)
    finally:
        (module_configs / path).write_bytes(whole)


@fuzzed
@given(st.binary(max_size=60) | TEXT.map(str.encode) | st.sampled_from(ODD_YAML).map(str.encode))
def test_any_bytes_as_a_config_give_a_config_or_a_named_mistake(module_configs, content):
    (module_configs / "Fuzz.yaml").write_bytes(content)
    check("Fuzz")


@fuzzed
@given(TEXT | st.sampled_from(ODD_YAML))
def test_any_name_that_is_no_configs_is_a_mistake(name):
    assume(name not in names())
    with pytest.raises(UserError, match="there is no config"):
        load(name)
