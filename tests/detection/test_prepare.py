"""The stage `prepare` on competitions of boxes: from the command line, with a descriptor and its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.config.load import load
from pipeline.paths import CLASSES, LABELS, PLOTS, SPLIT, TRAIN_CATALOG
from pipeline.report.read import read_classes, read_columns
from tests.detection.box_files import CLASSES as NAMES
from tests.detection.box_files import One, coco_content, write, write_image
from tests.tiny import run_paths

LABELLED = {f"{number:02d}": [One(NAMES[number % 2], number, 2, 40, 50)] for number in range(10)}


@pytest.fixture
def folder(configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A competition of boxes in the search path, with its descriptor."""
    text = "TITLE: Small\nTASK: boxes\nCLASSES: [car, tree, red bike]\nIMAGES: images/{id}.png\nTRAIN_CSV: null\n"
    (configs / "competitions/small_boxes.yaml").write_text(f"{text}TEST_CSV: null\nBOXES: {{COCO: train.json}}\n")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    return write(tmp_path / "data/small_boxes", "coco", LABELLED)


WORDS = ("BccdR", "prepare", "DATASETS.COMPETITION=small_boxes", "DATASETS.SPLIT.BY=slice")


def test_it_writes_what_later_stages_read_and_is_skipped_until_a_box_changes(folder, capsys):
    assert main([*WORDS]) == 0
    output = capsys.readouterr().out
    assert "note: no image has a box of red bike; the network cannot learn these classes" in output
    assert "8 training images, 2 validation images" in output
    assert "note: boxes by size: 0 % small (below 32x32 px), 100 % medium, 0 % large (96x96 px or more); " in output
    paths = run_paths(load(WORDS[0], WORDS[2:]).run)
    assert read_columns(paths / TRAIN_CATALOG)["mask"] == ["train.json"] * 10
    assert [row.amount for row in read_classes(paths / CLASSES)] == [5, 5, 0]
    assert len(read_columns(paths / SPLIT)["id"]) == 10 and json.loads((paths / LABELS).read_text()) == {}
    assert sorted(path.name for path in (paths / PLOTS).glob("class_*.png")) == ["class_boxes.png", "class_images.png"]
    assert main([*WORDS]) == 0
    assert "done in" not in capsys.readouterr().out
    write(folder, "coco", LABELLED | {"00": []})
    assert main([*WORDS]) == 0
    assert "images without a box: 1 (first: 00); they are trained as background" in capsys.readouterr().out
    assert [row.amount for row in read_classes(paths / CLASSES)] == [4, 5, 0]


def test_all_that_is_wrong_is_said_at_once(folder, capsys):
    content = coco_content(LABELLED)
    content["annotations"][0]["bbox"][2] = 0
    content["annotations"][1]["category_id"] = 5
    content["annotations"][2]["image_id"] = 4
    (folder / "train.json").write_text(json.dumps(content))
    (folder / "images/05.png").write_bytes(b"")
    write_image(folder, "extra")
    assert main([*WORDS]) == 2
    output = capsys.readouterr()
    text = output.out + output.err
    for part in (
        *("5 problems of 5 kinds", "box without area", "class of a box unknown", "box of no image", "file empty"),
        *("boxes missing", "BAD_BOXES: skip under BOXES in configs/competitions/small_boxes.yaml"),
    ):
        assert part in text.replace("\n            ", " "), part
