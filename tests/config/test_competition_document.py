"""docs/competitions.md describes every key of a competition's file, and its examples are files that work."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path
from typing import get_args

import pytest
import yaml

from pipeline.config.competition import (
    Competition,
    Convention,
    ImageForm,
    MaskCsv,
    Objects,
    ScoreName,
    ScoreOptions,
    Submission,
)
from pipeline.config.load import load_competition
from pipeline.scores import KINDS

REQUIRED = {"TITLE", "CLASSES", "IMAGES", "MASKS", "CSV"}
PER = {"image": "per image", "all": "over all pixels", "volume": "per volume"}
SCHEMAS = (Competition, ImageForm, MaskCsv, Submission, Objects, Convention, ScoreOptions)


@pytest.fixture(scope="module")
def document(project: Path) -> str:
    return (project / "docs" / "competitions.md").read_text()


def tables(document: str) -> list[dict[str, list[str]]]:
    """Returns the cells of each table by the key in its first column."""
    found: list[dict[str, list[str]]] = []
    for line in document.splitlines():
        if line == "|---|---|---|---|":
            found.append({})
        elif found and line.count("|") == 5 and line.startswith("| `"):
            key, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found[-1][key.strip("`")] = cells
    return found


def keys_of(schema: type) -> set[str]:
    return {field.name.upper() for field in dataclasses.fields(schema)}


def test_every_key_has_a_line_with_meaning_default_and_example(document):
    for table, schema in zip(tables(document), SCHEMAS, strict=True):
        assert set(table) == keys_of(schema) - {"NAME"}  # which is the file's
        for key, (meaning, default, example) in table.items():
            assert meaning and example.startswith("`"), key
            assert bool(default) == (key not in REQUIRED), key


def test_the_defaults_are_those_of_the_schema(document):
    for table, schema in zip(tables(document), SCHEMAS, strict=True):
        for field in dataclasses.fields(schema):
            written = table.get(field.name.upper(), ["", "", ""])[1]
            if field.default is dataclasses.MISSING:
                assert field.name == "name" or written == ""
            elif field.default is None:
                assert "`" not in written or written.startswith("as ")
            elif not dataclasses.is_dataclass(field.default):
                default = list(field.default) if isinstance(field.default, tuple) else field.default
                assert yaml.safe_load(written.strip("`")) == default


def test_every_score_has_a_line(document):
    section = document.partition("## Scores\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row[0])) == sorted(get_args(ScoreName))
    for row in rows:
        for name in re.findall(r"`(\w+)`", row[0]):
            assert row[2].strip() == PER[KINDS[name].per], name


def examples(document: str) -> list[tuple[str, str]]:
    """Returns name and text of each example that is a whole competition file."""
    blocks = re.findall(r"(?m)(?:^    .*\n)+", document)
    texts = [textwrap.dedent(block) for block in blocks]
    return [(re.match(r"# configs/competitions/(\w+).yaml", text).group(1), text) for text in texts]


def test_the_examples_are_competitions(document, configs: Path):
    written = dict(examples(document))
    for name, text in written.items():
        (configs / "competitions" / f"{name}.yaml").write_text(text)
        assert len(text.splitlines()) <= 12
    buildings, cells, roads, streets = (load_competition(name) for name in written)
    assert buildings.scored_indices == (1,)
    assert buildings.convention.id_column == buildings.id_column == "img_id"
    assert buildings.mask_values == (0, 255)
    assert (cells.scored_indices, cells.border_index, cells.objects.min_size) == ((1,), 2, 20)
    assert (streets.submission.format, len(streets.submission.values)) == ("png_masks", len(streets.classes))
    assert (roads.mask_values, roads.licence, roads.scored_indices) == ("colors", None, (0, 1, 2, 3, 4))


def test_the_readme_and_the_messages_lead_to_it(project: Path):
    assert "docs/competitions.md" in (project / "README.md").read_text()
