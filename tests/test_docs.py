"""The documents name what exists: folders, files, stages, commands, settings."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from pipeline.commands.table import COMMANDS
from pipeline.config.load import load, names
from pipeline.stages import STAGE_NAMES, STAGES

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "pipeline"
README = (PROJECT / "README.md").read_text()
ARCHITECTURE = (PROJECT / "docs" / "architecture.md").read_text()
DOCUMENTS = [
    "README.md",
    "docs/architecture.md",
    "docs/plans.md",
    "docs/detection.md",
    "docs/repeatability.md",
    "docs/averaging.md",
    "docs/studies.md",
    "docs/board.md",
    "docs/statistics.md",
    "docs/options.md",
    "docs/folds.md",
    "docs/tracking.md",
    "docs/kaggle.md",
    "docs/security.md",
    "docs/pseudo_labels.md",
    "docs/LOG.md",
    "submissions/README.md",
]
STAND_INS = ("NAME", "YOURS", "ExpZZA")  # for a reader's own config or competition
USAGES = (PROJECT / "tests" / "command_line.txt").read_text()


def section(text: str, title: str) -> str:
    """Returns the text below a heading, up to the next."""
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def folders() -> set[str]:
    return {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}


def test_architecture_lists_every_folder_and_top_level_file_of_the_package():
    listed = re.findall(r"^\| `([\w./]+)` \|", section(ARCHITECTURE, "Folders of `pipeline/`"), re.MULTILINE)
    files = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert sorted(listed) == sorted(files | {f"{name}/" for name in folders()})


def test_the_order_of_imports_in_architecture_has_every_folder():
    order = re.search(r"^    (config  .+)$", ARCHITECTURE, re.MULTILINE)[1].split()
    assert sorted(order) == sorted(folders())


def test_the_drawing_has_every_stage_in_order_with_what_it_writes():
    drawing = section(ARCHITECTURE, "How data flows")
    parts = re.split(r"-->  (\w+) +-->", drawing)
    drawn = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert tuple(drawn) == STAGE_NAMES
    assert {(stage.name, name) for stage in STAGES for name in stage.writes if name not in drawn[stage.name]} == set()


def test_the_readme_has_the_stages_in_order():
    assert f"`{' '.join(STAGE_NAMES)}`" in README


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_in_a_document_exists(document):
    text = (PROJECT / document).read_text()
    named = set(re.findall(r"(?<![\w./-])(?:pipeline|configs|docs|tests|submissions)/[\w./*-]*[\w/*]", text))
    named |= {f"{module.replace('.', '/')}.py" for module in re.findall(r"-m (tests(?:\.[a-z_]+)+)\b(?!\.[A-Z])", text)}
    named = {name for name in named if not any(word in name for word in STAND_INS)} - {"submissions/"}
    assert {name for name in named if not any(PROJECT.glob(name.rstrip("/")))} == set()
    links = set(re.findall(r"\]\((?!https:)([\w./-]+)\)", text))
    assert {link for link in links if not (PROJECT / document).parent.joinpath(link).is_file()} == set()


def typed() -> list[list[str]]:
    """Returns the words after `./run.sh` of every command in the README, without comments."""
    lines = re.findall(r"(?:\./|sh )run\.sh ([^`\n]+)", README)
    return [shlex.split(re.split(r" [#>&] ?", line)[0], comments=True) for line in lines]


@pytest.mark.parametrize("words", typed(), ids=" ".join)
def test_every_command_in_the_readme_can_be_typed(words):
    name, *rest = words
    overrides = [word for word in rest if re.match(r"[A-Z_.]+=", word)]
    if name in COMMANDS:
        usage = next(line for line in USAGES.splitlines() if line.split()[1] == name)
    else:
        usage = USAGES.splitlines()[0]
        stages = [word for word in rest if word not in overrides and word.islower() and not word.startswith("-")]
        assert set(stages) <= set(STAGE_NAMES)
        if name not in STAND_INS:
            assert name in names()
            load(name, tuple(overrides))
    assert {word for word in rest if word.startswith("-")} <= set(usage.split())


def test_the_example_for_notebooks_compiles_and_imports_what_exists():
    lines = section(README, "In a notebook").splitlines()
    example = "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    "))
    imports = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.ImportFrom)]
    named = [(node.module, alias.name) for node in imports for alias in node.names]
    assert len(named) == 2
    assert [name for module, name in named if not hasattr(importlib.import_module(module), name)] == []
