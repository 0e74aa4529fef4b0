"""A competition whose classes overlap, from its files to a checked submission: training, ensemble, `score`, `diff`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.__main__ import main
from pipeline.config.load import load
from pipeline.paths import (
    AVERAGE,
    CONFUSION,
    DECODE,
    DIAGNOSIS,
    PANELS,
    PER_IMAGE,
    PSEUDO_LABELS,
    REPORT,
    SCENE_LIST,
    TEST_PROBS,
    VALID_PROBS,
    scene_file,
    scene_scores,
)
from pipeline.prediction.store import PredictionStore
from pipeline.segmentation.planes import is_present
from pipeline.segmentation.predict import decode, full_logits, unpack
from pipeline.segmentation.pseudo_labels import read_label
from pipeline.training.assemble import open_data
from tests.experiments import copy_configs, run_all, use, write_ensemble, write_members
from tests.tiny import draw_nothing, run_of, run_paths, run_stages

pytestmark = pytest.mark.slow

SIDE, NUM_TRAIN, NUM_TEST = 64, 36, 6
CLASSES = ("disc", "bar")
MEMBERS = {"OverA": 0, "OverB": 3}
DESCRIPTION = """
TITLE: Discs and bars that overlap
CLASSES: [disc, bar]
LABELS: multilabel
IMAGES: images/{id}.png
MASKS: {CSV: train.csv, CLASS_COLUMN: class, ORDER: row, BASE: 1, RELATIVE: false}
CLASS_LABELS: names
ID_COLUMN: id
TRAIN_CSV: null
TEST_CSV: sample.csv
TEST_IMAGES: test/{id}.png
SAMPLE_SUBMISSION: sample.csv
SEQUENCE_PATTERN: "^(s[0-9]+)_"
SCORE: dice
CONVENTION: {ROWS: id+class, ORDER: row, BASE: 1, CLASS_COLUMN: class, VALUE_COLUMN: rle}
"""
MASKS = "MASKS: masks/{id}.npy"


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image (RGB) of a reddish disc and a bluish bar that overlap, and where each is: bool (H, W, 2)."""
    masks = np.zeros((SIDE, SIDE, 2), np.uint8)
    planes = [np.zeros((SIDE, SIDE), np.uint8) for _ in CLASSES]
    x, y = map(int, rng.integers(20, 44, 2))
    if rng.random() < 0.8:
        cv2.circle(planes[0], (x, y), int(rng.integers(10, 16)), 1, -1)
    if rng.random() < 0.8:
        cv2.rectangle(planes[1], (x - 20, y - 5), (x + 20, y + 5), 1, -1)
    masks = np.stack(planes, -1)
    image = 60 + masks[..., :1] * np.array([150, 0, 0]) + masks[..., 1:] * np.array([0, 0, 150])
    return (image + rng.integers(-12, 13, image.shape)).clip(0, 255).astype(np.uint8), masks > 0


def runs_of(mask: np.ndarray) -> str:
    """Returns run lengths in row order from 1, written plainly."""
    edges = np.flatnonzero(np.diff(np.pad(mask.ravel().astype(int), 1)))
    return " ".join(f"{first + 1} {last - first}" for first, last in zip(edges[::2], edges[1::2], strict=True))


def read_runs(text: str) -> np.ndarray:
    flat = np.zeros(SIDE * SIDE, bool)
    numbers = list(map(int, text.split()))
    for first, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[first - 1 : first - 1 + length] = True
    return flat.reshape(SIDE, SIDE)


def write_shapes(folder: Path) -> dict[str, np.ndarray]:
    """Writes the competition; returns the true masks of its test images."""
    rng, truth = np.random.default_rng(11), {}
    rows, sample = ["id,class,rle"], ["id,class,rle"]
    for name, number in (("images", NUM_TRAIN), ("test", NUM_TEST)):
        (folder / name).mkdir(parents=True)
        for index in range(number):
            image_id = f"s{index % 6}_{name}{index:02d}"
            image, masks = draw(rng)
            cv2.imwrite(str(folder / name / f"{image_id}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            if name == "images":
                rows += [f"{image_id},{own},{runs_of(masks[..., c])}" for c, own in enumerate(CLASSES)]
            else:
                truth[image_id] = masks
                sample += [f"{image_id},{own}," for own in CLASSES]
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    (folder / "sample.csv").write_text("\n".join(sample) + "\n")
    return truth


@pytest.fixture(scope="module")
def done(project, tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """Two members and their ensemble, all stages done, and the truth of the test images."""
    folder = tmp_path_factory.mktemp("overlaps")
    (copy_configs(project, folder) / "competitions" / "shapes.yaml").write_text(f"# Shapes.{DESCRIPTION}")
    truth = write_shapes(folder / "data" / "shapes")
    shared = {"DATASETS.COMPETITION": "shapes", "DATASETS.SPLIT.BY": "sequence"}
    shared |= {"SOLVER.PLAN": "constant", "SOLVER.NUM_EPOCHS": 8, "SOLVER.MAX_LR": 0.01}
    shared |= {"SOLVER.OPTIMIZER.NAME": "AdamW"}
    shared |= {"LOSS_FN.MIX": "0.5 bce + 0.5 dice", "SOLVER.MONITOR": "valid_dice", "REPORT.EPOCHS": [1]}
    shared |= {"DATASETS.AUGMENTATION.SHIFT_SCALE_ROTATE.ENABLE": True}
    own = {name: {"DATASETS.SPLIT_INDEX": index} for name, index in MEMBERS.items()}
    own["OverB"] |= {"PREDICT.TTA": "flip", "PREDICT.TTA_SPACE": "probs"}
    write_members(folder / "configs", shared, own)
    how, decode = {"METHOD": "WEIGHTED", "WEIGHTS": "fitted"}, {"SUPPRESS": "fitted", "OFFSETS": "fitted"}
    write_ensemble(folder / "configs", "OverEns", MEMBERS, {"COMPETITION": "shapes"}, how, DECODE=decode)
    run_all(folder, (*MEMBERS, "OverEns"))
    return folder, truth


@pytest.fixture
def shapes(done, monkeypatch) -> tuple[Path, dict[str, np.ndarray]]:
    use(monkeypatch, done[0])
    return done


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def metrics_of(name: str) -> dict:
    return json.loads((run_paths(name) / "metrics.json").read_text())


@pytest.mark.parametrize("name", [*MEMBERS, "OverEns"])
def test_overlapping_classes_are_learnt_and_scored_each_alone(shapes, name):
    metrics = metrics_of(name)
    assert metrics["scores"]["dice"]["mean"] > 0.6 > metrics["majority"]["scores"]["dice"]
    assert metrics["majority"]["class"] == "no class"
    assert list(metrics["scores"]["dice"]["classes"]) == list(CLASSES)
    assert list(pd.read_csv(run_paths(name) / CONFUSION)) == ["truth", "found", "missed", "false"]


@pytest.mark.parametrize("name", [*MEMBERS, "OverEns"])
def test_the_page_examines_each_of_overlapping_classes_alone(shapes, name):
    facts, counts = json.loads((run_paths(name) / DIAGNOSIS).read_text()), pd.read_csv(run_paths(name) / CONFUSION)
    calibration, sizes = facts["calibration"], np.array(facts["sizes"]["counts"]).sum(1)
    assert calibration["of"] == "each class"
    assert np.array(calibration["pixels"]).sum(1).tolist() == [metrics_of(name)["images"] * SIDE**2] * 2
    has_class = (counts["found"] + counts["missed"]).tolist()
    assert np.array(calibration["right"]).sum(1).tolist() == has_class == sizes[:, 2].tolist()
    assert sizes[:, 3].tolist() == counts["found"].tolist()
    page = (run_paths(name) / REPORT).read_text()
    assert all(f'id="{anchor}"' in page for anchor in ("gallery", "suspicious", "errors", "calibration"))
    assert len(list((run_paths(name) / PANELS).glob("*.png"))) >= 3
    page = (run_paths(name) / "report.html").read_text()
    assert "Score per class" in page and "Confusion between classes" not in page


def test_the_scores_are_those_of_the_stored_predictions_counted_plainly(shapes):
    folder, _ = shapes
    rows = pd.read_csv(folder / "data" / "shapes" / "train.csv", keep_default_na=False)
    text_of = {(row.id, row[1]): row.rle for row in rows.itertuples(index=False)}
    store, dice = PredictionStore(run_paths("OverB") / VALID_PROBS, unpack), []
    for image_id in store:
        predicted = is_present(decode(store[image_id]))
        truth = np.stack([read_runs(text_of[image_id, name]) for name in CLASSES], -1)
        both, areas = (predicted & truth).sum((0, 1)), predicted.sum((0, 1)) + truth.sum((0, 1))
        dice.append(np.where(areas > 0, 2 * both / np.maximum(areas, 1), 1.0))
    assert metrics_of("OverB")["scores"]["dice"]["mean"] == pytest.approx(np.mean(dice), abs=1e-12)


def test_the_submission_has_overlapping_rows_that_are_near_the_truth(shapes):
    _, truth = shapes
    with open(run_paths("OverEns").submission(".csv"), newline="") as file:
        rows = {(row["id"], row["class"]): read_runs(row["rle"]) for row in csv.DictReader(file)}
    assert rows.keys() == {(image_id, name) for image_id in truth for name in CLASSES}
    found = np.stack([np.stack([rows[image_id, name] for name in CLASSES], -1) for image_id in truth])
    wanted = np.stack(list(truth.values()))
    assert found.all(-1).sum() > 0.5 * wanted.all(-1).sum() > 0  # pixels of both classes
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.65


def test_the_images_of_the_kept_weights_show_overlapping_classes_with_their_score(shapes):
    paths = run_paths("OverA")
    facts = json.loads((paths / scene_scores("best")).read_text())
    scores = pd.read_csv(paths / PER_IMAGE).set_index("id")["dice"]
    ids = [own["id"] for own in json.loads((paths / SCENE_LIST).read_text())]
    assert facts["scores"] == pytest.approx([scores[one] for one in ids], abs=1e-6)
    label, found = (pixels(paths / scene_file(1, moment)) for moment in ("label", "best"))
    assert label.shape == found.shape == (SIDE, SIDE, 3)
    assert np.abs(label.astype(int) - found).mean() < 40 < label.max()  # the network has learnt most of it


def test_score_and_diff_take_it(shapes, capsys):
    folder, truth = shapes
    (folder / "truth").mkdir(exist_ok=True)
    for image_id, planes in truth.items():
        np.save(folder / "truth" / f"{image_id}.npy", planes)
    first, second = (str(run_paths(name).submission(".csv")) for name in ("OverEns", "OverA"))
    text = (folder / "configs" / "competitions" / "shapes.yaml").read_text()
    files = text.replace("MASKS: {CSV: train.csv, CLASS_COLUMN: class, ORDER: row, BASE: 1, RELATIVE: false}", MASKS)
    (folder / "configs" / "competitions" / "shape_files.yaml").write_text(files)
    assert main(["score", first, "--masks", str(folder / "truth"), "--competition", "shape_files"]) == 0
    said = capsys.readouterr().out
    assert main(["diff", first, second, "--competition", "shapes"]) == 0
    assert "disc" in said and "disc" in capsys.readouterr().out


def test_thresholds_and_weights_are_fitted_out_of_fold_and_said(shapes):
    facts = json.loads((run_paths("OverEns") / DECODE).read_text())
    assert set(facts["thresholds"]["of"]) <= set(CLASSES)
    assert "thresholds" in facts["thresholds"]["words"] or "threshold" in facts["thresholds"]["words"]
    origin = json.loads(run_paths("OverEns").submission(".csv").with_suffix(".json").read_text())
    assert "thresholds" in origin


def test_within_a_time_limit_overlapping_rows_are_the_same(shapes, monkeypatch):
    draw_nothing(monkeypatch)
    limited, _ = run_stages(load("OverA", ("SUBMIT.TIME_LIMIT_HOURS=1",)), "submit")
    assert limited.submission(".csv").read_bytes() == run_paths("OverA").submission(".csv").read_bytes()


def test_a_mean_of_weights_is_compared_by_the_same_scores(shapes, monkeypatch):
    draw_nothing(monkeypatch)
    changes = ("SOLVER.NUM_EPOCHS=2", "AVERAGE.METHOD=swa", "AVERAGE.COUNT=2")
    paths, _ = run_stages(load("OverA", changes), "evaluate")
    facts = json.loads((paths / AVERAGE).read_text())
    wanted = facts["averaged" if facts["adopted"] else "best"]
    assert metrics_of(paths.name)["scores"]["dice"]["mean"] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_pseudo_labels_of_overlapping_classes_are_learnt_each_alone(shapes, monkeypatch, kind):
    draw_nothing(monkeypatch)
    changes = ("PSEUDO.TEACHER=OverA", "PSEUDO.SHARE=0.5", "PSEUDO.CONFIDENCE=0.8", f"PSEUDO.LABELS={kind}")
    loaded = load("OverA", (*changes, "SOLVER.NUM_EPOCHS=2"))
    paths, _ = run_stages(loaded)
    stored, teacher = (
        PredictionStore(paths / PSEUDO_LABELS, read_label),
        PredictionStore(run_paths("OverA") / TEST_PROBS, unpack),
    )
    for image_id in stored:
        probs = full_logits(teacher[image_id]).sigmoid().movedim(0, -1).numpy()
        label, sureness = stored[image_id], np.maximum(probs, 1 - probs)
        assert label.shape == (SIDE, SIDE, 2)
        assert ((label == 255) == (sureness < 0.8))[np.abs(sureness - 0.8) > 1e-5].all()
        wanted = 240 * (probs if kind == "soft" else probs >= 0.5)
        assert np.abs(label - wanted)[label != 255].max() <= (1 if kind == "soft" else 0)
    batch = next(iter(open_data(run_of(loaded, lambda line: None)).train_batches(1, 0, True, ())))
    assert batch.labels.shape[-1] == 2 and batch.labels.shape[0] == 2
    assert json.loads((paths / "submission.json").read_text())["checked"]
