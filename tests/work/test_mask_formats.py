"""A run whose competition wants TIFF masks or arrays: submitted, checked, scored and compared by the commands."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pipeline.__main__ import main
from pipeline.config import load as load_module
from pipeline.config.load import load
from pipeline.data.catalog import read_catalog
from pipeline.paths import SUBMISSION, TEST_CATALOG, TEST_PROBS
from pipeline.prediction.store import PredictionStore
from pipeline.segmentation.predict import decode, unpack
from tests.tiny import SIDE, draw_nothing, overrides, run_paths, run_stages, write_competition

pytestmark = pytest.mark.slow

FORMS = {"tiff_masks": ".zip", "npz": ".npz"}


def masks_in(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    with zipfile.ZipFile(path) as zipped:
        return {name[:-4]: tifffile.imread(io.BytesIO(zipped.read(name))) for name in zipped.namelist()}


@pytest.fixture(params=FORMS)
def form(request, project, tmp_path, monkeypatch) -> str:
    """The demo competition, in this format."""
    shutil.copytree(project / "configs", tmp_path / "configs")
    with open(tmp_path / "configs" / "competitions" / "demo.yaml", "a") as file:
        file.write(f"SUBMISSION: {{FORMAT: {request.param}}}\n")
    path = tmp_path / "configs" / "competitions" / "demo.yaml"
    path.write_text(path.read_text().replace("SAMPLE_SUBMISSION", "# SAMPLE_SUBMISSION"))
    monkeypatch.setattr(load_module, "CONFIGS", tmp_path / "configs")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    write_competition(tmp_path / "data" / "demo")
    draw_nothing(monkeypatch)
    return request.param


def test_the_file_holds_the_predictions_and_every_command_reads_it(form, tmp_path, capsys):
    changes = overrides(tmp_path / "data" / "demo", "SWEEP.ENABLE=false", "SOLVER.PLAN=constant")
    paths, _ = run_stages(load("demo", changes))
    path, store = paths.submission(FORMS[form]), PredictionStore(paths / TEST_PROBS, unpack)
    assert json.loads((paths / SUBMISSION).read_text())["checked"]
    assert {name: mask.tolist() for name, mask in masks_in(path).items()} == {
        image_id: decode(store[image_id]).tolist() for image_id in store
    }
    masks = tmp_path / "truth"
    masks.mkdir()
    for source in (tmp_path / "data" / "demo" / "masks" / "masks").glob("000001_*.png"):
        shutil.copy(source, masks / source.name.replace("000001", "000004"))  # of the test images' ids
    capsys.readouterr()
    assert main(["score", str(path), "--masks", str(masks)]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 4
    second = path.with_name(f"other{path.suffix}")
    shutil.copy(path, second)
    assert main(["diff", str(path), str(second), "--competition", "demo"]) == 0
    assert "0 of 4 images differ" in capsys.readouterr().out


def test_with_too_little_time_it_is_still_a_file_of_every_image(form, tmp_path):
    changes = overrides(tmp_path / "data" / "demo", "SWEEP.ENABLE=false", "SOLVER.PLAN=constant")
    loaded = load("demo", (*changes, "SUBMIT.TIME_LIMIT_HOURS=0.0001"))
    run_stages(loaded, "submit")
    paths = run_paths(loaded.run)
    found = masks_in(paths.submission(FORMS[form]))
    assert list(found) == read_catalog(paths / TEST_CATALOG)["id"].tolist()
    assert all(mask.shape == (SIDE, SIDE) and not mask.any() for mask in found.values())
    shortened = json.loads(paths.submission(".json").read_text())["shortened"]
    assert "4 of 4 images were not predicted and are empty" in shortened
