"""Images above WHOLE_PX go through all stages by region and in windows, and come to what whole images come to."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.config import load as load_module
from pipeline.config.load import load
from pipeline.data.csv_file import long_cells
from pipeline.paths import METRICS, REPORT, SCENE_LIST, TEST_PROBS, TILES, VALID_PROBS, Folders, scene_file
from pipeline.prediction.store import PredictionStore
from pipeline.segmentation.predict import decode, unpack
from pipeline.segmentation.submission.rle import decode_classes
from tests.long.gigapixel import CONVENTION, SETTINGS, SLUG, write_competition
from tests.tiny import draw_nothing, run_stages

pytestmark = pytest.mark.slow

SIDE = 1060
CHANGES = {
    "DATASETS.AUGMENTATION.TILE.SETS": "[[1.0, 0.0]]",
    "DATALOADERS.TRAIN.NUM_WORKERS": "0",
    "DATALOADERS.VALID.NUM_WORKERS": "0",
    "SOLVER.PLAN": "constant",
    "SWEEP.STEPS": "8",
    "SWEEP.REPEATS": "1",
    "REPORT.EPOCHS": "[0, 1]",
}
LARGE, WHOLE, WITHIN = "LargeKidney", "WholeKidney", "WithinTheLimit"


@pytest.fixture(scope="module")
def runs(project, tmp_path_factory):
    """The paths of two runs on the same images: by region and in windows, and as wholes."""
    folder = tmp_path_factory.mktemp("large")
    shutil.copytree(project / "configs", folder / "configs")
    description = (folder / "configs" / "competitions" / "hubmap_kidney.yaml").read_text()
    write_competition(folder, SIDE)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_module, "CONFIGS", folder / "configs")
        draw_nothing(patch)
        for name, limit in ((LARGE, 10**6), (WHOLE, 10**8)):
            text = f"{description}\nIMAGE: {{WHOLE_PX: {limit}}}\n"
            (folder / "configs" / "competitions" / "hubmap_kidney.yaml").write_text(text)
            for variable in ("RUNS_DIR", "SUBMISSIONS_DIR", "SCRATCH_DIR"):
                patch.setenv(variable, str(folder / name / variable.lower()))
            patch.setenv("DATA_DIR", str(folder))
            settings = SETTINGS | CHANGES
            overrides = tuple(f"{key}={value}" for key, value in settings.items())
            loaded = load("demo", overrides)
            paths, lines = run_stages(loaded, "report")
            found[name] = (paths, lines, Folders.from_environment(), loaded)
            if name == LARGE:
                within = (*overrides, "SUBMIT.TIME_LIMIT_HOURS=1")
                limited, _ = run_stages(load("demo", within), "submit")
    return found | {WITHIN: (limited, [], found[LARGE][2], None)}


def predicted(runs, name: str, folder: str) -> dict[str, np.ndarray]:
    store = PredictionStore(runs[name][0] / folder, unpack)
    return {image_id: decode(store[image_id]) for image_id in store}


@pytest.mark.parametrize("probs", [VALID_PROBS, TEST_PROBS])
def test_predictions_in_windows_are_nearly_those_of_the_whole_image(runs, probs):
    large, whole = (predicted(runs, name, probs) for name in (LARGE, WHOLE))
    assert large.keys() == whole.keys()
    for image_id, mask in large.items():
        assert mask.shape == whole[image_id].shape == (SIDE, SIDE)
        assert (mask == whole[image_id]).mean() > 0.97  # of a network that has hardly learnt anything


def test_scores_are_nearly_the_same(runs):
    scores = [json.loads((runs[name][0] / METRICS).read_text())["scores"]["dice"]["mean"] for name in (LARGE, WHOLE)]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)


def test_both_train_on_the_same_tiles(runs):
    tiles = [json.loads((runs[name][0] / TILES).read_text()) for name in (LARGE, WHOLE)]
    assert tiles[0]["samples_per_epoch"] == tiles[1]["samples_per_epoch"] == 25  # 5 x 5 tiles of 256
    pairs = zip((LARGE, WHOLE), tiles, strict=True)
    bytes_of = [(runs[name][2].tiles / own["store"] / "images.bin").read_bytes() for name, own in pairs]
    assert bytes_of[0] == bytes_of[1]


def test_within_a_time_limit_the_windows_are_joined_too(runs):
    files = [paths.submission(".csv").read_bytes() for paths, *_ in (runs[LARGE], runs[WITHIN])]
    assert files[0] == files[1]


def test_the_submission_decodes_to_what_was_predicted_in_windows(runs):
    path = runs[LARGE][0].submission(".csv")
    with open(path) as file, long_cells():
        (row,) = csv.DictReader(file)
    submitted = decode_classes([row["predicted"]], SIDE, SIDE, CONVENTION) == 0
    np.testing.assert_array_equal(submitted, predicted(runs, LARGE, TEST_PROBS)["c"] == 1)


def test_the_competitions_files_are_of_three_kinds(runs):
    root = Path(runs[LARGE][2].data[0]) / SLUG
    kinds = []
    for file in ("train/a.tiff", "train/b.tiff", "test/c.tiff"):
        with tifffile.TiffFile(root / file) as tiff:
            page = tiff.pages[0]
            kinds.append((page.is_tiled, int(page.planarconfig), int(page.compression)))
    assert kinds == [(True, 1, 8), (True, 2, 8), (False, 1, 1)]


def test_of_large_images_windows_are_shown_at_the_chosen_epochs(runs):
    """In one run three cores of one image, in the other the image."""
    windows, whole = (json.loads((runs[name][0] / SCENE_LIST).read_text()) for name in (LARGE, WHOLE))
    assert len(windows) == 3 and len({tuple(own["window"]) for own in windows}) == 3
    assert len(whole) == 1 and whole[0]["window"] is None
    paths = runs[LARGE][0]
    for number, own in enumerate(windows, start=1):
        _, _, height, width = own["window"]
        for moment in ("image", "label", "epoch_0", "epoch_1", "best"):
            with Image.open(paths / scene_file(number, moment)) as shown:
                assert shown.width / shown.height == pytest.approx(width / height, rel=0.02)
    assert f"{windows[0]['id']}, window at row" in (paths / REPORT).read_text()
