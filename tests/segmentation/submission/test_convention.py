"""Every known convention is detected from data alone, by a user with its own files; what data leave open is refused."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.config.competition import Convention, Submission
from pipeline.errors import UserError
from pipeline.segmentation.submission.convention import (
    convention_text,
    detect_rows,
    detect_runs,
    find_convention,
)
from tests.segmentation.submission.scenes import (
    CONVENTIONS,
    encode_binary,
    make_competition,
    make_images,
    make_scene,
    write,
)

names = pytest.mark.parametrize("name", CONVENTIONS)


def write_sample(folder, name, ids):
    """A sample submission with empty masks only."""
    images = {image_id: np.full((4, 5), 255, np.uint8) for image_id in ids}
    return write(folder / "sample_submission.csv", images, make_competition(name))


def train_rows(name, num_images=8, shape=(48, 80)):
    convention = CONVENTIONS[name]
    rng = np.random.default_rng(5)
    masks = [make_scene(rng, *shape, 3) == 1 for _ in range(num_images)] + [np.zeros(shape, bool)]
    return [([encode_binary(mask_HW, convention)], mask_HW) for mask_HW in masks]


@names
def test_each_known_convention_is_found_from_sample_and_training_rows(tmp_path, name):
    ids = ["000001_001", "000001_002"]
    sample = detect_rows(write_sample(tmp_path, name, ids), ids)
    assert Convention(**(detect_runs(train_rows(name)) | sample)) == CONVENTIONS[name]


def test_a_few_rows_of_a_faulty_encoder_do_not_hide_the_convention():
    rows = train_rows("Airbus Ship", num_images=20)
    rows[3] = ([rows[3][0][0].rpartition(" ")[0] + " 1"], rows[3][1])
    assert detect_runs(rows) == {"order": "column", "base": 1, "relative": False, "empty": ""}


def test_rows_of_other_masks_are_refused():
    rows = train_rows("Airbus Ship")
    texts, masks = zip(*rows, strict=True)
    with pytest.raises(UserError, match="no convention decodes the 8 rows that are not empty"):
        detect_runs(list(zip(texts, [*masks[1:8], masks[0], masks[8]], strict=True)))


def test_rows_that_fit_two_conventions_are_refused_with_both():
    mask_HW = np.eye(3, dtype=bool)
    with pytest.raises(
        UserError, match=r"2 conventions decode 1 rows to their masks: row by row, .*; column by column"
    ):
        detect_runs([(["1 1 5 1 9 1"], mask_HW)])


def test_columns_in_another_order_and_classes_by_name_are_read_from_the_sample(tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text("ImageId,EncodedPixels,ClassId\na,1 409600,1\na,1 409600,2\nb,1 409600,1\nb,1 409600,2\n")
    found = detect_rows(path, ["a", "b"])
    assert (found["class_column"], found["value_column"], found["class_base"]) == ("ClassId", "EncodedPixels", 1)
    assert "class_base" not in detect_rows(path, ["a", "b"], labels=("0", "1", "2"))
    path.write_text("id,class,predicted\na,liver,\na,lung,\n")
    assert detect_rows(path, ["a"], labels=("back", "liver", "lung"))["class_column"] == "class"
    with pytest.raises(UserError, match="CLASS_LABELS says what the classes are called"):
        detect_rows(path, ["a"])
    path.write_text("id,class,predicted\n")
    assert detect_rows(path, ["a"]) == {}


def test_rows_with_gaps_or_strange_names_are_refused(tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text("id,rle\na_0,\na_2,\n")
    with pytest.raises(UserError, match=r"class numbers \[0, 2\] have gaps"):
        detect_rows(path, ["a"])
    path.write_text("id,rle\na-0,\na-1,\n")
    with pytest.raises(UserError, match="neither <id>, <id>_<class>"):
        detect_rows(path, ["a"])
    path.write_text("id\n")
    with pytest.raises(UserError, match="two or three columns"):
        detect_rows(path, ["a"])


def test_only_as_many_masks_are_read_as_are_decoded(tmp_path):
    rows = train_rows("Airbus Ship", num_images=205, shape=(12, 20))[:-1]
    (tmp_path / "masks").mkdir()
    for number, (_, mask_HW) in enumerate(rows[:200]):  # the others have no file, so that reading one would fail
        cv2.imwrite(str(tmp_path / f"masks/{number}.png"), mask_HW.astype(np.uint8))
    runs = tmp_path / "runs.csv"
    runs.write_text("ImageId,EncodedPixels\n" + "".join(f"{number},{own}\n" for number, ((own,), _) in enumerate(rows)))
    competition = replace(make_competition("Airbus Ship"), classes=("Sea", "Ship"), colors=((0, 0, 0), (9, 9, 9)))
    found = find_convention(competition, tmp_path, runs, [str(number) for number in range(205)], [])
    assert (found.order, found.base, found.relative) == ("column", 1, False)


@pytest.mark.parametrize("name", ["camvid", "dubai_aerial"])
def test_real_samples_are_read(shared_data, name):
    folder = shared_data(name)
    ids = (folder / "test.csv").read_text().split()[1:]
    found = detect_rows(folder / "sample_submission.csv", ids)
    assert (found["rows"], found["class_base"], found["empty"]) == ("id_class", 0, "")
    assert (found["id_column"], found["value_column"]) == ("ImageID", "EncodedPixels")


TEST_IDS = ["900000_001", "900000_002"]


def write_folder(folder, competition, with_sample=True):
    """Masks, run lengths of the training images, and a sample submission; returns the training images."""
    (folder / "masks").mkdir()
    images = make_images(3, 12, competition)
    for image_id, mask_HW in images.items():
        cv2.imwrite(str(folder / "masks" / f"{image_id}.png"), mask_HW)
    write(folder / "runs.csv", images, competition)
    if with_sample:
        nothing = {image_id: np.full((4, 5), 255, np.uint8) for image_id in TEST_IDS}
        write(folder / "sample_submission.csv", nothing, competition)
    return images


@pytest.mark.parametrize("with_sample", [True, False])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_known_convention_is_found_in_the_competitions_files(tmp_path, name, with_sample):
    competition = make_competition(name)
    train = write_folder(tmp_path, competition, with_sample)
    described = competition if not with_sample else replace(competition, convention=Convention())
    found = find_convention(described, tmp_path, tmp_path / "runs.csv", train, TEST_IDS)
    wanted = CONVENTIONS[name]
    assert (found.order, found.base, found.relative) == (wanted.order, wanted.base, wanted.relative)
    if with_sample:
        assert found == wanted


def test_a_sample_and_training_rows_that_write_empty_masks_otherwise_are_refused(tmp_path):
    competition = make_competition("SIIM Pneumothorax")
    train, sample = write_folder(tmp_path, competition), tmp_path / "sample_submission.csv"
    header, *rows = (tmp_path / "runs.csv").read_text().splitlines()
    empty = next(iter(train))
    cv2.imwrite(str(tmp_path / "masks" / f"{empty}.png"), np.zeros_like(train[empty]))
    rows = [f"{empty},-1" if row.startswith(f"{empty},") else row for row in rows]
    (tmp_path / "runs.csv").write_text("\n".join([header, *rows]))
    text = sample.read_text()
    sample.write_text(text.replace(",-1", ",0 1"))
    assert find_convention(competition, tmp_path, tmp_path / "runs.csv", train, TEST_IDS).empty == "-1"
    sample.write_text(text.replace(",-1", ",-"))
    with pytest.raises(UserError, match="empty masks are '-1' in the training rows but '-' in the sample"):
        find_convention(competition, tmp_path, tmp_path / "runs.csv", train, TEST_IDS)


def test_a_class_in_a_column_of_its_own_and_a_files_ending_are_understood(tmp_path):
    competition = make_competition("Severstal")
    train = write_folder(tmp_path, competition)
    _, *rows = (tmp_path / "runs.csv").read_text().splitlines()
    split = [row.replace("_", ";").rpartition(",") for row in rows]
    moved = []
    for key, _, text in split:
        sequence, frame, number = key.split(";")
        moved.append(f"{sequence}_{frame}.jpg,{number},{text}")
    (tmp_path / "runs.csv").write_text("\n".join(["ImageId,ClassId,EncodedPixels", *moved]))
    assert find_convention(competition, tmp_path, tmp_path / "runs.csv", train, TEST_IDS) == CONVENTIONS["Severstal"]


def test_what_the_descriptor_says_otherwise_is_marked():
    competition = make_competition("AeroScapes")
    assert "needs no CONVENTION" in convention_text(CONVENTIONS["AeroScapes"], competition)
    lines = convention_text(CONVENTIONS["SIIM Pneumothorax"], competition).splitlines()
    assert "  ORDER: column    # the file has row" in lines
    assert '  EMPTY: "-1"    # the file has ""' in lines
    assert convention_text(CONVENTIONS["Carvana"], make_competition("Carvana")).endswith("already says this.")


@pytest.mark.parametrize("content", ["", "a\n", "a,b\nx,0 1\n", "ImageID,EncodedPixels\n000000_003_0,0 1,2\n"])
def test_a_file_that_has_no_such_rows_is_refused(tmp_path, content):
    competition = make_competition()
    train = write_folder(tmp_path, competition)
    (tmp_path / "runs.csv").write_text(content)
    with pytest.raises(UserError, match=r"runs.csv: (expected a header|line 2 .* names no image)"):
        find_convention(competition, tmp_path, tmp_path / "runs.csv", train, TEST_IDS)


def test_the_command_prints_what_to_write_into_the_descriptor(tmp_path, monkeypatch, capsys):
    from pipeline.config.load import load_competition
    from tests.tiny import write_competition

    folder = write_competition(tmp_path / "data" / "demo")
    competition = load_competition("demo")
    masks = sorted((folder / "masks" / "masks").iterdir())
    images = {path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in masks}
    write(tmp_path / "runs.csv", images, competition)
    monkeypatch.setenv("DATA_DIR", str(folder.parent))
    assert main(["convention", "demo", str(tmp_path / "runs.csv")]) == 0
    assert "needs no CONVENTION" in capsys.readouterr().out
    assert main(["convention", "demo", str(tmp_path / "none.csv")]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert json.loads((tmp_path / "runs.json").read_text())["images"] == len(images)


def test_a_competition_that_wants_png_masks_has_no_convention_to_find(tmp_path):
    competition = make_competition(submission=Submission("png_masks"))
    with pytest.raises(UserError, match=r"submissions to test hold no run lengths: SUBMISSION.FORMAT is png_masks"):
        find_convention(competition, tmp_path, tmp_path / "runs.csv", [], [])
