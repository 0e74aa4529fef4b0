"""docs/competitions.md describes every key of a competition's file, and its examples are files that work."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import textwrap
import types
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml

from pipeline.config.box_convention import BoxConvention
from pipeline.config.box_form import BoxForm
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
from pipeline.segmentation.labels import read_mask

REQUIRED = {"TITLE", "CLASSES", "IMAGES", "MASKS.CSV"}
PER = {"image": "per image", "all": "over all pixels", "volume": "per volume"}  # of masks
PATHS = {MaskCsv: "MASKS."}
SCHEMAS = (Competition, ImageForm, MaskCsv, BoxForm, Submission, Objects, Convention, BoxConvention, ScoreOptions)


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
            assert bool(default) == (f"{PATHS.get(schema, '')}{key}" not in REQUIRED), key


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
            is_of_all_boxes = (KINDS[name].needs, KINDS[name].per) == ("boxes", "all")
            per = "over all boxes" if is_of_all_boxes else PER[KINDS[name].per]
            assert row[2].strip() == per, name


def examples(document: str) -> list[tuple[str, str]]:
    """Returns name and text of each example that is a whole competition file."""
    blocks = re.findall(r"(?m)(?:^    .*\n)+", re.sub(r"(?ms)^```.*?^```$", "", document))
    texts = [textwrap.dedent(block) for block in blocks]
    return [(re.match(r"# configs/competitions/(\w+).yaml", text).group(1), text) for text in texts]


def test_the_examples_are_competitions(document, configs: Path):
    written = dict(examples(document))
    for name, text in written.items():
        (configs / "competitions" / f"{name}.yaml").write_text(text)
        assert len(text.splitlines()) <= 12
    buildings, cells, wheat, roads, streets = (load_competition(name) for name in written)
    assert buildings.scored_indices == (1,)
    assert buildings.convention.id_column == buildings.id_column == "img_id"
    assert buildings.mask_values == (0, 255)
    assert (cells.scored_indices, cells.border_index, cells.objects.min_size) == ((1,), 2, 20)
    assert (wheat.boxes.kind, wheat.boxes.order, wheat.score, wheat.scored_indices) == ("csv", "xywh", "ap", (0,))
    assert (streets.submission.format, len(streets.submission.values)) == ("png_masks", len(streets.classes))
    assert (roads.mask_values, roads.licence, roads.scored_indices) == ("colors", None, (0, 1, 2, 3, 4))


def scripts(document: str) -> list[str]:
    """Returns the examples in Python: for polygons, for volumes."""
    return re.findall(r"(?ms)^```python\n(.*?)^```$", document)


def test_the_lines_for_polygons_draw_each_class(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "annotations").mkdir()
    square, far = [2, 1, 5, 1, 5, 3, 2, 3], [8, 0, 9, 0, 9, 1, 8, 1]
    annotations = [
        {"image_id": 7, "category_id": 30, "segmentation": [square]},
        {"image_id": 7, "category_id": 20, "segmentation": [far]},
    ]
    images = [{"id": 7, "file_name": "a/7.jpg", "height": 6, "width": 10}]
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 20}, {"id": 30}]}
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(coco))
    exec(compile(scripts(document)[0], "polygons", "exec"), {})
    wanted = np.zeros((6, 10), np.uint8)
    wanted[1:4, 2:6], wanted[0:2, 8:10] = 2, 1
    assert (read_mask(tmp_path / "masks/a/7.png") == wanted).all()


def test_the_lines_for_volumes_save_each_slice_with_its_mask(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)

    class Stored:  # as nibabel, which the project does without
        def __init__(self, path):
            self.dataobj = volume if str(path).startswith("imagesTr") else (volume > 11).astype(np.int16)

        def get_fdata(self, dtype):
            return self.dataobj.astype(dtype)

    monkeypatch.setitem(sys.modules, "nibabel", types.SimpleNamespace(load=Stored))
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr/la_003.nii.gz").touch()
    exec(compile(scripts(document)[1], "volumes", "exec"), {})
    for z in range(4):
        assert (np.load(tmp_path / f"slices/la_003_{z:04d}.npy") == volume[:, :, z]).all()
        assert (read_mask(tmp_path / f"slices/la_003_{z:04d}_mask.png") == (volume[:, :, z] > 11)).all()


def test_the_readme_and_the_messages_lead_to_it(project: Path):
    assert "docs/competitions.md" in (project / "README.md").read_text()
