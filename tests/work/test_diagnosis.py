"""What `evaluate` leaves for the report: sums that agree with the scores, files that no stage depends on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from pipeline.config.stage_inputs import DIAGNOSED
from pipeline.engine.dependence import why_run
from pipeline.paths import CONFUSION, DIAGNOSIS, GALLERY, GALLERY_LIST, PANELS, SIGNATURES, SUSPICIOUS, gallery_file
from pipeline.segmentation.findings import UNKNOWN
from pipeline.training.inputs import split_rows
from tests.report.test_page import read
from tests.tiny import SIDE, executed, run_of, run_stages

SECTIONS = {"#gallery", "#suspicious", "#errors", "#calibration"}


@pytest.fixture
def evaluated(workshop, without_drawing):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    paths, _ = run_stages(loaded, "report")
    return loaded, paths


def facts_of(paths) -> dict:
    return json.loads((paths / DIAGNOSIS).read_text())


def confusion_of(paths) -> np.ndarray:
    return pd.read_csv(paths / CONFUSION).iloc[:, 1:].to_numpy()


def test_the_sums_are_those_of_the_confusion_matrix(evaluated):
    _, paths = evaluated
    facts, confusion = facts_of(paths), confusion_of(paths)
    calibration = {name: np.array(facts["calibration"][name]) for name in ("pixels", "probability", "right")}
    assert calibration["pixels"].sum(1).tolist() == confusion.sum(0).tolist()
    assert calibration["right"].sum(1).tolist() == confusion.diagonal().tolist()
    assert (calibration["probability"] <= calibration["pixels"] + 1e-3).all()
    sizes = np.array(facts["sizes"]["counts"]).sum(1)
    assert sizes[:, 2].tolist() == confusion.sum(1).tolist() and sizes[:, 3].tolist() == confusion.diagonal().tolist()
    boundary = np.array(facts["boundary"]["counts"]).sum(0)
    assert boundary.tolist() == [confusion.sum(), confusion.sum() - confusion.diagonal().sum()]
    assert facts["images"] == 4 and facts["seams"] is None and facts["cut"] == 0


def test_every_validation_image_is_in_the_gallery_and_the_list_has_its_wrong_pixels(evaluated):
    _, paths = evaluated
    listed, rows = pd.read_csv(paths / GALLERY_LIST, dtype={"id": str}), split_rows(paths, "valid")
    assert listed["id"].tolist() == rows["id"].tolist()
    confusion = confusion_of(paths)
    wrong = 1 - confusion.diagonal().sum() / confusion.sum()
    assert listed["wrong"].mean() == pytest.approx(wrong, abs=1e-5), "all images have the same size"
    names = {gallery_file(number, is_thumb) for number in listed["number"] for is_thumb in (False, True)}
    assert {f"{GALLERY}/{path.name}" for path in (paths / GALLERY).iterdir()} == {*names, GALLERY_LIST}


def test_the_page_has_the_sections_and_shows_the_files_beside_it(evaluated):
    _, paths = evaluated
    reader = read(paths / "report.html")
    assert reader.faults == [] and set(reader.values("href")) >= SECTIONS
    sources = [address for address in reader.values("src") if not address.startswith("data:")]
    assert len(sources) >= 4 and all((paths / address).is_file() for address in sources)


def test_a_run_that_was_evaluated_before_there_were_such_files_is_fresh_and_opens_without_them(evaluated):
    loaded, paths = evaluated
    for name in (*DIAGNOSED, SIGNATURES):
        path = paths / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)  # one is of boxes
    run = run_of(loaded)
    assert [stage.name for stage in run.stages if why_run(stage, run)] == ["report"]
    _, lines = run_stages(loaded, "report")
    assert executed(lines) == ["report"]
    reader = read(paths / "report.html")
    assert reader.faults == [] and not set(reader.values("href")) & SECTIONS
    assert "<script" not in (paths / "report.html").read_text()


def test_evaluating_anew_replaces_them(evaluated):
    loaded, paths = evaluated
    before = {name: (paths / name).read_bytes() for name in (DIAGNOSIS, SUSPICIOUS, GALLERY_LIST)}
    (paths / GALLERY / "stale.webp").write_bytes(b"")
    run_stages(loaded, "evaluate", force=("evaluate",))
    assert {name: (paths / name).read_bytes() for name in before} == before
    assert not (paths / GALLERY / "stale.webp").exists()


def test_windows_have_seams_where_their_settings_say(workshop, without_drawing):
    loaded = workshop.tiny("SWEEP.ENABLE=false", "PREDICT.MODE=window", "PREDICT.WINDOW=[64,32]", "PREDICT.OVERLAP=0")
    paths, _ = run_stages(loaded, "report")
    counts = np.array(facts_of(paths)["seams"]["counts"])
    assert counts[0, 0] == 4 * SIDE * 8, "four pixels on both sides of the one seam, in four images"
    assert counts[:, 0].sum() == confusion_of(paths).sum()
    assert "seam of windows" in " ".join(read(paths / "report.html").values("alt"))


@pytest.mark.parametrize("is_known", [True, False])
def test_masks_are_called_suspicious_only_where_no_weights_were_trained_on_the_image(
    workshop, without_drawing, tmp_path, is_known
):
    earlier = workshop.tiny("SWEEP.ENABLE=false", "DATASETS.SPLIT_INDEX=1")  # trains on what the later one validates
    paths, _ = run_stages(earlier, "train")
    name = paths.name
    if not is_known:
        name = str(tmp_path / "weights.ckpt")
        shutil.copy(paths / "best.ckpt", name)
    later = workshop.tiny("SWEEP.ENABLE=false", f"EXPERIMENT.LOAD_PREV={name}")
    paths, _ = run_stages(later, "report")
    found = facts_of(paths)["suspects"]
    assert (found["images"], found["left_out"], found["regions"]) == (0, 4, 0)
    assert found["reason"] == (None if is_known else UNKNOWN)
    words = read(paths / "report.html").words
    assert ("4 images left out, because the initial weights were trained on them" in words) == is_known
    assert (f"Not searched: {UNKNOWN}" in words) != is_known


def test_the_training_images_most_like_the_worst_are_beside_them(workshop, without_drawing):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    run_stages(loaded, "prepare", force=("prepare",))
    paths, _ = run_stages(loaded, "report")
    panels = sorted((paths / PANELS).glob("near_*.png"))
    worst = sorted((paths / PANELS).glob("worst_*.png"))
    assert panels and [path.name.replace("near", "worst") for path in panels] == [path.name for path in worst]
    assert "Training images most like the worst" in read(paths / "report.html").words
