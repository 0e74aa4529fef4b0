"""Every competition's form comes from its settings alone: what is written, to the byte, and read."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.load import load_competition
from pipeline.detection.boxes import make_detections
from pipeline.submission.file import require_good
from pipeline.submission.formats import format_of
from tests.detection.submission.scenes import read, write

HEAD = "TITLE: Test\nTASK: boxes\nIMAGES: images/{id}.jpg\n"
LAST = make_detections([[10.25, 20, 60.5, 50], [0, 0, 200, 100]], [0.9, 0.25], [0, -1])

COMPETITIONS = {
    "global_wheat": (
        """
        CLASSES: [wheat]
        BOXES: {CSV: train.csv, BOX_COLUMN: bbox, ORDER: xywh}
        ID_COLUMN: image_id
        BOX_CONVENTION: {FIELDS: [score, left, top, width, height], DECIMALS: 0}
        """,
        "image_id,PredictionString\na,0.9 10 20 50 30 0.25 0 0 200 100\nb,\n",
    ),
    "vinbigdata": (
        """
        CLASSES: [Aortic enlargement, Atelectasis, Calcification]
        BOXES: {CSV: train.csv, CLASS_COLUMN: class_id, COLUMNS: [x_min, y_min, x_max, y_max]}
        ID_COLUMN: image_id
        BOX_CONVENTION: {EMPTY: 14 1 0 0 1 1, DECIMALS: 1}
        """,
        "image_id,PredictionString\na,0 0.9 10.2 20 60.5 50 2 0.25 0 0 200 100\nb,14 1 0 0 1 1\n",
    ),
    "open_images": (
        """
        CLASSES: [Car, Bus, Person]
        CLASS_LABELS: [/m/0k4j, /m/01bjv, /m/01g317]
        BOXES: {CSV: train.csv, CLASS_COLUMN: LabelName, COLUMNS: [XMin, YMin, XMax, YMax], NORMALISED: true}
        ID_COLUMN: ImageId
        BOX_CONVENTION: {NORMALISED: true}
        """,
        "ImageId,PredictionString\na,/m/0k4j 0.9 0.05125 0.2 0.3025 0.5 /m/01g317 0.25 0 0 1 1\nb,\n",
    ),
    "rsna_pneumonia": (
        """
        CLASSES: [opacity]
        BOXES: {CSV: train.csv, COLUMNS: [x, y, width, height], ORDER: xywh}
        ID_COLUMN: patientId
        BOX_CONVENTION: {FIELDS: [score, left, top, width, height]}
        """,
        "patientId,PredictionString\na,0.9 10.25 20 50.25 30 0.25 0 0 200 100\nb,\n",
    ),
    "bccd": (
        """
        CLASSES: [RBC, WBC, Platelets]
        CLASS_LABELS: names
        BOXES: {COCO: train.json}
        """,
        "ImageID,PredictionString\na,RBC 0.9 10.25 20 60.5 50 Platelets 0.25 0 0 200 100\nb,\n",
    ),
    "coco": (
        """
        CLASSES: [person, bicycle, stop sign]
        CLASS_LABELS: [1, 2, 13]
        BOXES: {COCO: train.json}
        SUBMISSION: {FORMAT: coco_results}
        """,
        '[\n{"image_id": "a", "category_id": 1, "bbox": [10.25, 20, 50.25, 30], "score": 0.9}, '
        '{"image_id": "a", "category_id": 13, "bbox": [0, 0, 200, 100], "score": 0.25}\n]\n',
    ),
    "nuimages": (
        """
        CLASSES: [car, truck, human]
        CLASS_LABELS: names
        BOXES: {NUSCENES: image_annotations.json}
        SUBMISSION: {FORMAT: nuscenes_boxes}
        BOX_CONVENTION: {META: {use_camera: true, use_lidar: false}, CLASS_KEY: detection_name}
        """,
        '{"meta": {"use_camera": true, "use_lidar": false}, "results": {\n'
        '"a": [{"bbox_corners": [10.25, 20, 60.5, 50], "detection_name": "car", "score": 0.9}, '
        '{"bbox_corners": [0, 0, 200, 100], "detection_name": "human", "score": 0.25}],\n"b": []\n}}\n',
    ),
}
every_competition = pytest.mark.parametrize("name", COMPETITIONS)


def load(name: str, configs: Path):
    settings = "\n".join(line.strip() for line in COMPETITIONS[name][0].splitlines())
    (configs / "competitions" / f"{name}.yaml").write_text(HEAD + settings)
    return load_competition(name)


def found_in(competition):
    last = len(competition.classes) - 1
    return {"a": LAST._replace(classes=np.array([0, last])), "b": make_detections([], [], [])}


@every_competition
def test_a_submission_is_written_as_the_settings_say_and_read_back(name, configs, tmp_path):
    competition = load(name, configs)
    found, sizes = found_in(competition), {"a": (100, 200), "b": (50, 60)}
    path = write(tmp_path / f"s{format_of(competition).suffix}", found, competition, sizes)
    assert path.read_text() == COMPETITIONS[name][1]
    assert require_good(path, competition, sizes) == []
    again = read(path, competition, sizes)
    assert list(again) == ["a", "b"] and not len(again["b"].scores)
    assert again["a"].classes.tolist() == found["a"].classes.tolist()
    assert again["a"].scores == pytest.approx([0.9, 0.25])
    coarsest = 0.5 * 10.0 ** -min(competition.box_convention.most_decimals, 2)
    assert np.abs(again["a"].xyxy - found["a"].xyxy).max() <= coarsest + 1e-6


@every_competition
def test_the_other_settings_do_not_read_it(name, configs, tmp_path):
    """A text is not taken for one of another form: at least one of the others differs in the file or refuses it."""
    competition = load(name, configs)
    found, sizes = found_in(competition), {"a": (100, 200), "b": (50, 60)}
    path = write(tmp_path / f"s{format_of(competition).suffix}", found, competition, sizes)
    others = [load(other, configs) for other in COMPETITIONS if other != name]
    same_suffix = [other for other in others if format_of(other).suffix == path.suffix]
    problems = [format_of(other).check(path, other, sizes, None) for other in same_suffix]
    assert all(any(not one.startswith("warning") for one in own) for own in problems)


def test_numbers_of_images_are_those_that_their_ids_end_with(configs, tmp_path):
    competition = load("coco", configs)
    text = (configs / "competitions" / "coco.yaml").read_text() + "BOX_CONVENTION: {IMAGE_ID: number}\n"
    (configs / "competitions" / "coco.yaml").write_text(text)
    competition = load_competition("coco")
    found = {"val/000000397133": LAST.keep([0]), "val/COCO_2014_000000000009": LAST.keep([0])}
    path = write(tmp_path / "s.json", found, competition, dict.fromkeys(found, (100, 200)))
    assert [entry["image_id"] for entry in json.loads(path.read_text())] == [397133, 9]
    assert list(read(path, competition, dict.fromkeys(found, (100, 200)))) == list(found)


def test_the_sample_submission_of_blood_cells_is_as_its_settings_say(shared_data):
    competition, folder = load_competition("bccd"), shared_data("bccd")
    sample = folder / competition.sample_submission
    ids = (folder / "test.csv").read_text().split()[1:]
    assert format_of(competition).check_sample(competition, sample, set(ids)) == []
    found = dict(format_of(competition).read(sample, competition, dict.fromkeys(ids, (480, 640))))
    assert list(found) == ids
    assert found[ids[0]].xyxy.tolist() == [[10, 10, 60, 60]] and found[ids[0]].classes.tolist() == [0]
