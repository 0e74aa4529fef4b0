"""What the stages read outside the run's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.config import load as load_module
from pipeline.config.load import load
from pipeline.errors import UserError
from tests.miniatures import ade20k
from tests.segmentation.discovery.folders import mask, photo, write
from tests.tiny import executed, run_paths, run_stages, tiny, write_competition

DISTRICTS = """
TITLE: Districts
CLASSES: [Background, House]
IMAGES: "{id}.png"
MASKS: masks/{id}.png
TRAIN_CSV: train.txt
TEST_CSV: null
"""


@pytest.fixture
def configs(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's configs in a folder of this test."""
    shutil.copytree(project / "configs", tmp_path / "configs")
    monkeypatch.setattr(load_module, "CONFIGS", tmp_path / "configs")
    return tmp_path / "configs"


def test_what_decides_freshness_needs_no_network_library(python_modules):
    loaded = python_modules("import pipeline.work.inputs")
    assert not loaded & {"torch", "timm", "huggingface_hub", "segmentation_models_pytorch"}


def test_a_skipped_tile_stage_starts_without_heavy_packages(tmp_path, python_modules):
    (tmp_path / "runs" / "Some").mkdir(parents=True)
    (tmp_path / "runs" / "Some" / "tiles.json").write_text(json.dumps({"store": "abc"}))
    loaded = python_modules(
        "from types import SimpleNamespace\n"
        "from pipeline.paths import Folders\n"
        "from pipeline.work.inputs import lacks_tiles\n"
        "folders = Folders.from_environment()\n"
        "loaded = SimpleNamespace(has_pseudo_labels=False)\n"
        "assert lacks_tiles(SimpleNamespace(paths=folders.run('Some'), folders=folders, loaded=loaded))"
    )
    assert not loaded & {"torch", "pandas", "cv2", "segmentation_models_pytorch", "timm"}


def test_prepare_runs_again_where_a_file_of_an_id_with_folders_changed(configs, tmp_path):
    (configs / "competitions/districts.yaml").write_text(DISTRICTS)
    folder, ids = (
        tmp_path / "districts",
        [f"{city}/east/{number}" for city in ("aachen", "bonn") for number in range(4)],
    )
    for seed, image_id in enumerate(ids):
        write(folder / f"{image_id}.png", photo(seed))
        write(folder / f"masks/{image_id}.png", mask(seed))
    (folder / "train.txt").write_text("\n".join(ids))
    loaded = load("demo", ("DATASETS.COMPETITION=districts", f"DATASETS.DIRECTORY={folder}", "DATASETS.SPLIT.BY=slice"))

    def runs_again() -> bool:
        return executed(run_stages(loaded, "prepare")[1]) == ["prepare"]

    assert runs_again() and not runs_again()
    write(folder / "aachen/east/3.png", photo(50))
    assert runs_again() and not runs_again()
    write(folder / "masks/bonn/east/0.png", mask(50))
    assert runs_again() and not runs_again()
    write(folder / "bonn/east/new.png", photo(51))  # in no list, which `prepare` notes
    assert runs_again() and not runs_again()
    (folder / "train.txt").write_text("\n".join(ids[:-1]))
    assert runs_again() and not runs_again()


def test_an_ensemble_of_a_competition_without_test_images_names_how_to_give_some(configs, tmp_path):
    folder = ade20k(tmp_path / "data")
    for name in ("OneAAA", "TwoAAA"):
        (configs / f"{name}.yaml").write_text(
            f"# A member. ./run.sh {name}\nBASE: demo\nEXPERIMENT: {{PREFIX: {name}}}\n"
            f"DATASETS: {{COMPETITION: ade20k, DIRECTORY: {folder}, SPLIT: {{BY: given}}}}\n"
        )
    (configs / "BothEns.yaml").write_text(
        f"# Both. ./run.sh BothEns\nDATASETS: {{COMPETITION: ade20k, DIRECTORY: {folder}}}\n"
        "ENSEMBLE: {MEMBERS: [OneAAA, TwoAAA]}\n"
    )
    with pytest.raises(UserError, match="OneAAA, TwoAAA: the competition has no test images") as caught:
        run_stages(load("BothEns"), "predict")
    assert "TEST_IMAGES or TEST_CSV in its file, or a folder with --test-dir FOLDER" in str(caught.value)
    tests = tmp_path / "data/release_test/testing"
    with pytest.raises(UserError, match="2 of 2 members cannot predict yet") as caught:
        run_stages(load("BothEns", (f"DATASETS.TEST_DIRECTORY={tests}",)), "predict")
    assert "not trained; type: ./run.sh" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "stage", "wanted"), [("SCRATCH_DIR", "tile", "tiles: "), ("SUBMISSIONS_DIR", "submit", "a_file: ")]
)
def test_a_place_that_cannot_be_written_is_named_before_the_first_stage(tmp_path, monkeypatch, variable, stage, wanted):
    (tmp_path / "a_file").write_text("x")
    monkeypatch.setenv(variable, str(tmp_path / "a_file"))
    loaded = tiny(write_competition(tmp_path / "data"))
    with pytest.raises(UserError) as refused:
        run_stages(loaded, stage)
    assert f"{wanted}Not a directory; " in str(refused.value) and f"or set {variable} to a" in str(refused.value)
    assert not run_paths(loaded.run).folder.exists()
