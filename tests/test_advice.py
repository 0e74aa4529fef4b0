"""What messages and documents tell the reader to type exists: keys, options and commands, wherever they stand."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.commands.table import COMMANDS
from pipeline.config.competition import Competition
from pipeline.config.load import RETIRED, load, names
from pipeline.config.search import Search

PROJECT = Path(__file__).resolve().parent.parent
DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
CONFIGS = sorted((PROJECT / "configs").rglob("*.yaml"))
WORD = r"[A-Z][A-Z0-9_]*"
DOTTED = re.compile(rf"(?<![\w./-]){WORD}(?:\.{WORD})+(?![\w/.-]|\()")
ASSIGNED = re.compile(rf"(?<![\w./$?-])({WORD}(?:\.{WORD})*)=(?=[\w\[{{'\"/])")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+\b(?!/)")
TYPED = re.compile(r"\./run\.sh ([A-Za-z_]\w*)([^`\n;#]*)")
OURS = set(re.findall(r"--[a-z-]+", (PROJECT / "tests" / "command_line.txt").read_text())) | {"--help"}


@functools.cache
def messages() -> list[tuple[str, str]]:
    """Returns the texts of the source with their places: no docstrings; f-strings with {} for what is filled in."""
    found = []
    for path in sorted((PROJECT / "pipeline").rglob("*.py")):
        tree = ast.parse(path.read_text())
        inner = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        inner |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) not in inner and isinstance(node, ast.JoinedStr | ast.Constant):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
                found.append((f"{path.relative_to(PROJECT)}:{node.lineno}", text))
    return found


def documents() -> Iterator[tuple[str, str]]:
    for path in (*DOCUMENTS, *CONFIGS):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            yield f"{path.relative_to(PROJECT)}:{number}", line


def keys_of(schema: type, path: str = "") -> Iterator[str]:
    """Yields the dotted keys of a schema, groups too."""
    for name, kind in typing.get_type_hints(schema).items():
        key = f"{path}{name.rstrip('_').upper()}"
        yield key
        for part in (kind, *typing.get_args(kind)):
            if dataclasses.is_dataclass(part):
                yield from keys_of(part, f"{key}.")


KEYS = {*load("demo").values, *keys_of(Competition), *(f"SEARCH.{key}" for key in keys_of(Search))}
# As messages name them: without the groups that are understood, or a group alone.
SHORT = {key.split(".", number)[-1] for key in KEYS for number in range(key.count(".") + 1)}
KNOWN = {end.rsplit(".", number)[0] for end in SHORT for number in range(end.count(".") + 1)}
GONE = {*RETIRED, "DATASETS.UPSCALE"}  # named where they are refused, and in the log
ENVIRONMENT = {
    *("DATA_DIR", "WEIGHTS_DIR", "RUNS_DIR", "SUBMISSIONS_DIR", "SCRATCH_DIR", "STORES_URL", "STORES_CACHE_GIB"),
    *("PYTHON", "LOCKED", "FUZZ_EXAMPLES", "CUDA_VISIBLE_DEVICES", "KEY"),
    *("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
    *("TRACKIO_DIR", "MLFLOW_ALLOW_FILE_STORE", "WANDB_MODE"),
}
STAND_INS = {"NAME", "YOURS", "COMMAND", "ExpZZA", "finds"}  # for the reader's own; "where ./run.sh finds it"


def is_key(word: str) -> bool:
    return word in KNOWN or word.startswith(("COMPETITION.", "MODEL.OPTIONS.")) or word in GONE


@pytest.mark.parametrize("texts", [messages, documents])
def test_every_key_that_is_named_exists(texts):
    assert [(where, word) for where, text in texts() for word in DOTTED.findall(text) if not is_key(word)] == []


@pytest.mark.parametrize("texts", [messages, documents])
def test_every_setting_that_is_proposed_has_a_key_or_is_a_variable_of_the_environment(texts):
    found = [(where, word) for where, text in texts() for word in ASSIGNED.findall(text)]
    assert [(where, word) for where, word in found if not is_key(word) and word not in ENVIRONMENT] == []


@pytest.mark.parametrize("texts", [messages, documents])
def test_every_command_that_is_proposed_exists_with_its_options(texts):
    known = {*COMMANDS, *names(), *STAND_INS}
    typed = [(where, *found) for where, text in texts() for found in TYPED.findall(text)]
    assert [(where, command) for where, command, _ in typed if command not in known] == []
    wrong = [(where, option) for where, _, rest in typed for option in OPTION.findall(rest) if option not in OURS]
    assert wrong == []


def test_every_option_that_a_message_asks_for_exists():
    asked = re.compile(r"\b(?:add|give|type|leave out|with|name its? folder with) (--[a-z][a-z-]+)")
    found = [(where, option) for where, text in messages() for option in asked.findall(text)]
    assert len(found) > 10
    assert [one for one in found if one[1] not in OURS] == []


def test_what_does_not_exist_would_be_seen():
    assert [word for word in DOTTED.findall("set SOLVER.MAX_RATE: 1 or SOLVER.MAX_LR") if not is_key(word)] == [
        "SOLVER.MAX_RATE"
    ]
    assert ASSIGNED.findall("add SOLVER.RATE=3") == ["SOLVER.RATE"]
    assert not is_key("SOLVER.RATE")
    assert TYPED.findall("type: ./run.sh lst --al") == [("lst", " --al")]
