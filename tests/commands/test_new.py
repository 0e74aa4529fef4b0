"""`./run.sh new FOLDER`: what it writes runs, what is there is not overwritten, and a slip is answered."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline.__main__ import main
from pipeline.config import load as load_module
from pipeline.config.load import load
from pipeline.paths import SPLIT, TRAIN_CATALOG, shown
from tests.detection.discovery import folders as box_folders
from tests.segmentation.discovery import folders


@pytest.fixture
def configs(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of configs that the loader reads: those that a first experiment needs."""
    folder = tmp_path / "configs"
    for name in ("plans", "competitions"):
        shutil.copytree(project / "configs" / name, folder / name)
    for name in ("base.yaml", "CamVidAAA.yaml", "BccdR.yaml"):
        shutil.copy(project / "configs" / name, folder / name)
    monkeypatch.setattr(load_module, "CONFIGS", folder)
    return folder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which competitions are looked for."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("DATA_DIR", str(folder))
    return folder


@pytest.mark.parametrize(
    ("kind", "by", "num_valid"),
    [
        (folders.cars, "sequence", 3),
        (folders.defects, "slice", 2),
        (folders.streets, "given", 4),
        (folders.class_files, "slice", 1),
        (folders.nuclei, "slice", 1),
        (folders.beside, "slice", 1),
        (folders.scans, "sequence", 3),
        (folders.films, "given", 3),
        (folders.volumes, "slice", 1),
        (folders.xrays, "slice", 2),
        (box_folders.coco, "given", 3),
        (box_folders.cells, "given", 2),
        (box_folders.unlisted, "slice", 2),
        (box_folders.wheat, "slice", 2),
        (box_folders.chests, "slice", 2),
        (box_folders.voc, "given", 3),
        (box_folders.yolo, "given", 3),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_new_writes_is_prepared_without_an_edit(kind, by, num_valid, configs, data, tmp_path, capsys):
    folder = data / kind.__name__
    folder.mkdir()
    kind(folder)
    assert main(["new", str(folder)]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    _, command, experiment, stage = line.split()
    assert (command, stage) == ("./run.sh", "prepare")
    assert (configs / f"{experiment}.yaml").is_file() and (configs / f"competitions/{kind.__name__}.yaml").is_file()
    assert main([experiment, stage]) == 0
    assert load(experiment).config.datasets.split.by == by
    run = tmp_path / "runs" / experiment
    assert (pd.read_csv(run / SPLIT)["subset"] == "valid").sum() == num_valid
    assert (pd.read_csv(run / TRAIN_CATALOG)["width"] == folders.WIDTH).all()


def test_a_folder_with_masks_and_boxes_is_described_by_its_masks_and_names_the_boxes(configs, data):
    box_folders.coco(data / "both")
    for path in sorted((data / "both").glob("train2017/*.jpg")):
        folders.write(data / f"both/masks/{path.stem}.png", folders.mask(1))
    assert main(["new", str(data / "both")]) == 0
    text = (configs / "competitions/both.yaml").read_text()
    assert "MASKS: masks/{id}.png" in text and "\nTASK" not in text
    assert (
        "the folder also has boxes; to detect these, write another file with TASK: boxes, BOXES: {COCO: annotations"
        in " ".join(text.replace("\n#  ", "").split())
    )


def test_boxes_that_cannot_be_described_are_a_note_where_there_are_masks(configs, data, capsys):
    box_folders.coco(data / "both")
    for file in (data / "both/annotations").iterdir():
        file.write_text(file.read_text().replace('"name": "tree"', '"name": ""'))
    assert main(["new", str(data / "both")]) == 2  # without masks nothing else can be described
    assert "CLASSES: a class name is empty" in capsys.readouterr().err
    for path in sorted((data / "both").glob("train2017/*.jpg")):
        folders.write(data / f"both/masks/{path.stem}.png", folders.mask(1))
    assert main(["new", str(data / "both")]) == 0
    out = capsys.readouterr().out
    assert "the folder also has boxes, which cannot be described: CLASSES: a class name is empty" in out
    assert "MASKS: masks/{id}.png" in (configs / "competitions/both.yaml").read_text()


def test_a_folder_without_masks_and_boxes_is_told_what_was_looked_for(configs, data, capsys):
    for seed in range(3):
        folders.write(data / f"photos/{seed}.png", folders.photo(seed))
    assert main(["new", str(data / "photos")]) == 2
    message = capsys.readouterr().err
    assert "3 images, {id}.png, but neither masks nor boxes" in message
    assert "no csv with run lengths" in message and "no COCO file (JSON), no XML or text files" in message


def test_what_is_there_is_not_overwritten(configs, data, capsys):
    folders.voc(data / "voc")
    assert main(["new", str(data / "voc")]) == 0
    files = [configs / "competitions/voc.yaml", configs / "VocAAA.yaml"]
    for file in files:
        file.write_text(file.read_text() + "# edited\n")
    capsys.readouterr()
    assert main(["new", str(data / "voc")]) == 2
    message = capsys.readouterr().err
    assert "voc.yaml exists and is not overwritten" in message and f"new {data / 'voc'} --name another_voc" in message
    files[0].unlink()
    assert main(["new", str(data / "voc")]) == 2
    assert "VocAAA.yaml exists" in capsys.readouterr().err and not files[0].exists()
    assert files[1].read_text().endswith("# edited\n")
    assert main(["new", "--name", "another_voc", str(data / "voc")]) == 0
    assert (configs / "competitions/another_voc.yaml").is_file() and (configs / "AnotherVocAAA.yaml").is_file()


def test_a_folder_that_is_not_found_by_its_name_is_named_in_the_experiment(configs, tmp_path, capsys):
    folders.voc(tmp_path / "my pictures")
    assert main(["new", str(tmp_path / "my pictures")]) == 0
    assert load("MyPicturesAAA").config.datasets.directory == str(tmp_path / "my pictures")
    assert main(["MyPicturesAAA", "prepare"]) == 0


def test_a_slug_finds_its_folder_and_a_description_that_is_ready_is_named(configs, data, capsys):
    folder = data / "carvana-image-masking-challenge"
    folder.mkdir()
    folders.cars(folder)
    assert main(["new", str(folder)]) == 0
    assert "carvana.yaml describes this competition already" in capsys.readouterr().out
    loaded = load("CarvanaImageAAA")
    assert loaded.config.datasets.directory is None
    assert loaded.competition.kaggle_slug == "carvana-image-masking-challenge"


def test_large_images_are_cut_into_tiles(configs, data, capsys):
    for seed in range(3):
        picture = folders.photo(seed).repeat(30, 0).repeat(30, 1)
        folders.write(data / f"slides/images/{folders.name_of(seed)}.png", picture)
        folders.write(
            data / f"slides/masks/{folders.name_of(seed)}.png", folders.mask(seed).repeat(30, 0).repeat(30, 1)
        )
    assert main(["new", str(data / "slides")]) == 0
    tile = load("SlidesAAA").config.datasets.augmentation.tile
    assert tile.enable and tile.sets == ((1920, 1440, 4, 3),) and (tile.width, tile.height) == (512, 512)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: FOLDER"),
        (["{data}/voc/JPEGImages/000000000.jpg"], "there is no folder"),
        (["{data}/vok"], "did you mean {data}/voc?"),
        (["voc"], "did you mean {shown}/voc?"),
        (["{data}/list.zip"], "is a file, expected the folder of a competition; unpack it"),
        (["{data}/empty"], "has no image: it is empty"),
        (["{data}/voc", "--name", "a b"], "--name a b cannot be the name of a file here"),
    ],
)
def test_a_slip_is_answered_with_what_to_type(words, message, configs, data, capsys):
    folders.voc(data / "voc")
    (data / "list.zip").touch()
    (data / "empty").mkdir()
    before = sorted(configs.rglob("*"))
    assert main(["new", *(word.format(data=data) for word in words)]) == 2
    assert message.format(data=data, shown=shown(data)) in capsys.readouterr().err
    assert sorted(configs.rglob("*")) == before
