"""Competitions of boxes through all stages: what is found, what is written, and that nothing runs twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from pipeline.config.load import load, nested
from pipeline.detection import predict
from pipeline.engine.chain import run_chain
from pipeline.errors import UserError
from pipeline.notebook.bundle import open_bundle, write_bundle
from pipeline.paths import RunPaths
from tests.detection.box_competition import (
    ALL_GEOMETRY,
    CLASSES,
    RETINANET,
    SETTINGS,
    YOLOX,
    tiny,
    write_competition,
)
from tests.experiments import copy_configs, use, use_copy, write_ensemble
from tests.predicting_clock import moved_by_predictions
from tests.tiny import draw_nothing, executed, run_of, run_paths, run_stages, write_hidden

A = "DATASETS.AUGMENTATION"
SAMPLES = tuple(f"{key}={value}" for key, value in ALL_GEOMETRY.items())
OF_YOLOX = tuple(f"{key}={value}" for key, value in YOLOX.items())
STAGES = ["prepare", "testset", "tile", "train", "evaluate", "predict", "submit", "report"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_competition(tmp_path_factory.mktemp("boxes") / "data")


def rows_of(path: Path) -> dict[str, str]:
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["ImageID", "PredictionString"]
    return dict(rows)


def check_results(paths: RunPaths, num_test: int = 4) -> dict:
    """Checks that submission and page are there; returns the metrics."""
    assert json.loads((paths / "submission.json").read_text())["checked"]
    assert len(rows_of(paths.submission(".csv"))) == num_test
    page = (paths / "report.html").read_text()
    assert "AP50" in page and "Traceback" not in page
    return json.loads((paths / "metrics.json").read_text())


@pytest.mark.slow
def test_retinanet_finds_squares_and_discs_and_the_second_start_does_nothing(tmp_path, without_drawing):
    more = ("SOLVER.PLAN=one_cycle", "SOLVER.NUM_EPOCHS=40", "SOLVER.MAX_LR=0.006", "SOLVER.MONITOR=valid_ap50")
    flips = tuple(f"{A}.{name}.ENABLE=true" for name in ("VERTICAL_FLIP", "QUARTER_TURN"))
    loaded = tiny(write_competition(tmp_path / "data", 12), *more, *flips)
    paths, lines = run_stages(loaded)
    assert executed(lines) == STAGES
    metrics = check_results(paths)
    assert metrics["scores"]["ap50"]["mean"] > 0.5
    assert metrics["scores"]["ap50"]["mean"] == pytest.approx(metrics["coco"]["ap50"], abs=1e-6)
    assert any(rows_of(paths.submission(".csv")).values())
    _, again = run_stages(loaded)
    assert executed(again) == []
    confusion = (paths / "confusion.csv").read_text().splitlines()
    assert confusion[0].split(",") == ["truth", *CLASSES, "background"]


VARIANTS = {
    "yolox": (*OF_YOLOX, *SAMPLES, "REPORT.EPOCHS=[1]", "PREDICT.TTA=d4", "DECODE.SUPPRESS=fitted"),
    "crops": (
        *(*SAMPLES, f"{A}.RANDOM_CROP.ENABLE=true", f"{A}.RANDOM_CROP.WIDTH=128", f"{A}.RANDOM_CROP.HEIGHT=96"),
        *("DATASETS.INPUT_SCALE=2", "PREDICT.TTA=scales", "PREDICT.DETECTIONS.SUPPRESS=soft_nms", "SWEEP.ENABLE=true"),
        *("SWEEP.STEPS=8", "SWEEP.REPEATS=1", "SWEEP.IMAGES=2", "SOLVER.MAX_LR=auto", "PREDICT.DETECTIONS.SCORE=0.01"),
    ),
    "tiles": (
        *(*SAMPLES, f"{A}.TILE.ENABLE=true", f"{A}.TILE.WIDTH=64", f"{A}.TILE.HEIGHT=32"),
        *(f"{A}.TILE.SETS=[[1.0, 0.25], [0.5, 0.25]]", f"{A}.COARSE_DROPOUT.ENABLE=true", "SOLVER.EMA_DECAY=0.9"),
        *("DATASETS.SAMPLING.RARE_CLASS_RATE=0.1", "AVERAGE.METHOD=swa", "AVERAGE.COUNT=2", "SOLVER.ACCUMULATE=2"),
        *("DATASETS.INPUT_SCALE=0.5", "PREDICT.SCALES=[1, 2]", "PREDICT.SCALE_WEIGHTS=[2, 1]", "REPORT.EPOCHS=[1]"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_the_chain_ends_in_a_checked_submission_and_a_page_with_any_settings(data, name, without_drawing):
    loaded = tiny(data, *VARIANTS[name])
    paths, lines = run_stages(loaded)
    wanted = [*STAGES, *(["sweep"] if name == "crops" else []), *(["average"] if name == "tiles" else [])]
    assert sorted(executed(lines)) == sorted([*wanted, *(["fit"] if name == "yolox" else [])])
    check_results(paths)
    if "REPORT.EPOCHS=[1]" in VARIANTS[name]:
        scenes = json.loads((paths / "scenes" / "epoch_1.json").read_text())
        assert scenes["score"] == "image_ap" and len(scenes["scores"]) == 3
    if name == "yolox":
        assert json.loads((paths / "decode.json").read_text())["rules"] == []  # nothing is gained by an untrained one
    assert executed(run_stages(loaded)[1]) == []


def write_member(configs: Path, data: Path, name: str, index: int, more: dict[str, str]) -> None:
    settings = {key: yaml.safe_load(value) for key, value in (SETTINGS | more).items()}
    settings |= {"DATASETS.DIRECTORY": str(data), "DATASETS.SPLIT.BY": "slice", "DATASETS.SPLIT_INDEX": index}
    settings |= {"EXPERIMENT.PREFIX": name, "SOLVER.PLAN": "constant", "PREDICT.DETECTIONS.SCORE": 0.01}
    (configs / f"{name}.yaml").write_text(yaml.safe_dump({"BASE": "demo"} | nested(settings)))


MEMBERS = {"BoxA": (0, RETINANET), "BoxB": (0, YOLOX), "BoxC": (5, RETINANET)}
ENSEMBLES = {
    "BoxWbf": ({"METHOD": "WBF", "WEIGHTS": [1, 2, 1]}, MEMBERS),
    "BoxNms": ({"METHOD": "NMS"}, MEMBERS),
    "BoxFit": ({"METHOD": "WBF", "WEIGHTS": "fitted"}, ("BoxA", "BoxB")),
}


@pytest.fixture(scope="module")
def members(project, tmp_path_factory) -> Path:
    """A folder with the configs of ensembles, and three members that have learnt a little, on many small sequences."""
    folder = tmp_path_factory.mktemp("members")
    configs, data = copy_configs(project, folder), write_competition(folder / "data", 14)
    for name, (index, more) in MEMBERS.items():
        write_member(configs, data, name, index, more)
    for name, (how, own) in ENSEMBLES.items():
        datasets = {"COMPETITION": "demo_boxes", "DIRECTORY": str(data)}
        write_ensemble(configs, name, own, datasets, how, DECODE={"SUPPRESS": "fitted"})
    with pytest.MonkeyPatch.context() as patch:
        use(patch, folder)
        draw_nothing(patch)
        for name in MEMBERS:
            run_stages(load(name), "predict")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ENSEMBLES)
def test_an_ensemble_of_boxes_ends_in_a_checked_submission_and_a_page(members, tmp_path, monkeypatch, name):
    use_copy(monkeypatch, members, tmp_path, has_tiles=True)
    paths, lines = run_stages(load(name))
    assert executed(lines) == ["predict", "evaluate", "fit", "submit", "report"]
    check_results(paths)
    found = json.loads((paths / "ensemble.json").read_text())
    assert set(found["methods"]) == {"WBF", "NMS"} and found["method"] == name.replace("BoxFit", "BoxWbf")[3:].upper()
    assert found["weights"] == ([[0.25], [0.5], [0.25]] if name == "BoxWbf" else found["weights"])
    assert ("fit" in found) == (name == "BoxFit")
    assert executed(run_stages(load(name))[1]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BoxA", "BoxWbf"])
def test_the_submission_of_a_bundle_of_boxes_is_that_of_the_run_itself(members, tmp_path, monkeypatch, name):
    use_copy(monkeypatch, members, tmp_path, has_tiles=True)
    hidden = write_hidden(tmp_path / "hidden", [f"000009_{number:03d}" for number in range(6)])
    run_stages(load(name), "fit" if name == "BoxWbf" else "evaluate")
    on_hidden = load(name, (f"DATASETS.TEST_DIRECTORY={hidden}",))
    run_stages(on_hidden, "submit")
    wanted = run_paths(on_hidden.run).submission(".csv").read_bytes()
    write_bundle(run_of(load(name)), tmp_path / "elsewhere")
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("SUBMISSIONS_DIR", str(tmp_path / "elsewhere_out"))
    bundled = load(name, (f"DATASETS.TEST_DIRECTORY={hidden}", "SUBMIT.TIME_LIMIT_HOURS=1"))
    run_chain(open_bundle(run_of(bundled)), "submit")
    path = run_paths(bundled.run).submission(".csv")
    assert path.read_bytes() == wanted and any(rows_of(path).values()) and len(rows_of(path)) == 6


@pytest.mark.slow
def test_within_a_time_limit_what_does_not_fit_has_no_boxes_and_the_file_is_valid(data, tmp_path, monkeypatch):
    draw_nothing(monkeypatch)
    hidden, lines = write_hidden(tmp_path / "hidden", [f"000009_{number:03d}" for number in range(20)]), []
    run_stages(tiny(data, "PREDICT.DETECTIONS.SCORE=0"), "evaluate")
    clock = moved_by_predictions(monkeypatch, predict)
    limit = (f"DATASETS.TEST_DIRECTORY={hidden}", f"SUBMIT.TIME_LIMIT_HOURS={150 / 3600}")
    loaded = tiny(data, "PREDICT.DETECTIONS.SCORE=0", *limit)
    run_chain(run_of(loaded, lines.append, clock), "submit")
    rows = rows_of(run_paths(loaded.run).submission(".csv"))
    assert len(rows) == 20 and any("left out" in line or "time limit" in line for line in lines)
    assert 0 < sum(not row for row in rows.values()) < 20


@pytest.mark.slow
def test_the_same_training_twice_ends_with_the_same_bits_in_any_number_of_workers(data, without_drawing):
    changes = (*SAMPLES, "SOLVER.NUM_EPOCHS=1", "RUNTIME.LOG_STEPS=1")
    paths, _ = run_stages(tiny(data, *changes), "train")
    first = (paths / "last.ckpt").read_bytes()
    for workers in ("0", "2"):
        run_stages(tiny(data, *changes, f"DATALOADERS.TRAIN.NUM_WORKERS={workers}"), "train", force=("train",))
        assert (paths / "last.ckpt").read_bytes() == first


def test_an_unknown_option_of_a_network_is_refused_before_anything_is_trained(data, without_drawing):
    with pytest.raises(UserError, match="RetinaNet has no such option"):
        run_stages(tiny(data, "MODEL.OPTIONS={CHANELS: 16}"), "train")
