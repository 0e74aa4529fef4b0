"""The check of a competition folder: a good one passes, every kind of damage is named with file and fix."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.config.competition import Competition, Convention, ImageForm
from pipeline.config.load import load_competition
from pipeline.data.catalog import build_test_catalog, read_catalog, write_table
from pipeline.data.problems import BOX_KINDS, KINDS, Problem, format_problems
from pipeline.submission.formats import format_of
from tests.data.broken import (
    COMPETITION,
    HEIGHT,
    IMAGE_BREAKS,
    LIST_BREAKS,
    MASK_BREAKS,
    WIDTH,
    WITH_COLUMN,
    make_good,
    png,
    train_ids,
)
from tests.data.catalogs import notices, train_catalog


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return make_good(tmp_path_factory.mktemp("good") / "little")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "little")


def check_all(competition: Competition, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, list[Problem]]:
    """Returns both catalogs, and everything that is wrong, as `prepare` and `testset` report it."""
    sample = folder / competition.sample_submission if competition.sample_submission else None
    train, problems = train_catalog(competition, folder)
    test, of_test = build_test_catalog(competition, folder)
    if sample:
        of_test += format_of(competition).check_sample(competition, sample, set(test["id"]))
    return train, test, problems + of_test


def _ids(breaks) -> list[str]:
    return [f"{one[-3]}: {one[-2]}" for one in breaks]


def test_a_good_folder_has_no_problems_and_a_row_per_image(good: Path):
    catalog, test, problems = check_all(COMPETITION, good)
    assert problems == []
    assert catalog["id"].tolist() == train_ids(4)
    assert catalog["sequence"].tolist() == ["000001"] * 2 + ["000002"] * 2
    assert catalog["mask"].tolist()[3] == "masks/masks/000002_002.png"
    assert set(catalog["width"]) == {WIDTH} and set(catalog["height"]) == {HEIGHT}
    pixels = catalog.filter(like="pixels_")
    assert pixels.columns.tolist() == ["pixels_0", "pixels_1", "pixels_2", "pixels_ignored"]
    assert pixels.sum(axis=1).tolist() == [WIDTH * HEIGHT] * 4
    mask = cv2.imread(str(good / "masks/masks/000001_001.png"), cv2.IMREAD_UNCHANGED)
    assert pixels.iloc[0].tolist() == np.bincount(mask.ravel(), minlength=4).tolist()
    assert test.to_dict("list") == {
        "id": ["000900_001", "000900_002"],
        "sequence": ["000900"] * 2,
        "image": ["imgs/imgs/000900_001.jpg", "imgs/imgs/000900_002.jpg"],
        "width": [WIDTH] * 2,
        "height": [HEIGHT] * 2,
    }


def test_a_catalog_is_read_back_as_it_was_written(good: Path, tmp_path: Path):
    for catalog in check_all(COMPETITION, good)[:2]:
        write_table(tmp_path / "catalog.csv", catalog)
        pd.testing.assert_frame_equal(read_catalog(tmp_path / "catalog.csv"), catalog)


@pytest.mark.parametrize(("what", "kind", "damage"), IMAGE_BREAKS, ids=_ids(IMAGE_BREAKS))
def test_a_broken_image_is_one_problem_that_names_file_and_fix(what, kind, damage, folder: Path):
    file = "imgs/imgs/000001_002.jpg"
    damage(folder / file)
    *_, problems = check_all(COMPETITION, folder)
    assert [(problem.kind, problem.file) for problem in problems] == [(kind, file)], what
    _shown_with_fix(problems[0])


@pytest.mark.parametrize(
    ("listed", "there", "difference"),
    [
        ("caf\u00e9", "cafe\u0301", "Unicode form"),  # as a list from Windows says it, and as macOS writes it
        ("cafe\u0301", "caf\u00e9", "Unicode form"),
        ("cafe", " cafe", "spaces"),
        ("cafe", "cafe\u200b", "invisible characters"),
        ("cafe", "Cafe", "letter case"),
        ("caf\u00e9", "CAFE\u0301 ", "Unicode form and spaces and letter case"),
        ("cafe_07", "cafe_7", "leading zeros"),
    ],
)
def test_a_file_under_a_name_that_looks_alike_is_told_what_differs(folder: Path, listed, there, difference):
    text = (folder / "train.csv").read_text()
    (folder / "train.csv").write_text(text.replace("000001_002", f"000001_{listed}"), encoding="utf-8")
    for name, kind in (("imgs/imgs", "jpg"), ("masks/masks", "png")):
        (folder / name / f"000001_002.{kind}").rename(folder / name / f"000001_{there}.{kind}")
    *_, problems = check_all(COMPETITION, folder)
    assert [problem.kind for problem in problems] == ["image under another name", "mask under another name"]
    assert problems[0].found == f"there is 000001_{there}.jpg (other {difference})"


def test_a_sample_in_another_unicode_form_is_told_what_differs(folder: Path):
    for name, id in (("test.csv", "caf\u00e9"), ("sample_submission.csv", "cafe\u0301")):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("000900_002", f"000900_{id}"), encoding="utf-8")
    (folder / "imgs/imgs/000900_002.jpg").rename(folder / "imgs/imgs/000900_caf\u00e9.jpg")
    *_, problems = check_all(COMPETITION, folder)
    unknown = [problem.found for problem in problems if problem.kind == "sample row unknown"]
    assert unknown and all(found.endswith("(other Unicode form)") for found in unknown)


def test_a_file_whose_name_is_not_text_is_a_problem(hidden: Path):
    (hidden / "000900_001.jpg").rename(hidden / os.fsdecode(b"000900_caf\xe9.jpg"))
    _, problems = build_test_catalog(COMPETITION, hidden, is_hidden=True)
    assert [(problem.kind, problem.file) for problem in problems] == [("file name not text", "000900_caf\\udce9")]


def test_a_file_whose_name_has_what_separates_names_is_one_problem(hidden: Path):
    (hidden / "a|b.jpg").write_bytes(next(hidden.glob("*.jpg")).read_bytes())
    _, problems = build_test_catalog(COMPETITION, hidden, is_hidden=True)
    assert [(one.kind, one.file, one.found) for one in problems] == [
        ("file name not text", "a|b", "|, which separates names")
    ]


@pytest.mark.parametrize(("what", "kind", "damage"), MASK_BREAKS, ids=_ids(MASK_BREAKS))
def test_a_broken_mask_is_one_problem_that_names_file_and_fix(what, kind, damage, folder: Path):
    file = "masks/masks/000001_002.png"
    damage(folder / file)
    *_, problems = check_all(COMPETITION, folder)
    assert [(problem.kind, problem.file) for problem in problems] == [(kind, file)], what
    _shown_with_fix(problems[0])


@pytest.mark.parametrize(("list_name", "what", "kind", "damage"), LIST_BREAKS, ids=_ids(LIST_BREAKS))
def test_a_broken_list_is_a_problem_that_names_file_and_fix(list_name, what, kind, damage, folder: Path):
    damage(folder / list_name)
    *_, problems = check_all(COMPETITION, folder)
    found = [problem for problem in problems if problem.file == list_name]
    assert [problem.kind for problem in found] == [kind], what
    # What follows from the damage may be named too: an image that is no longer listed, samples without their list.
    assert {problem.kind for problem in problems} <= {kind, "image missing", "mask missing", "sample row missing"}
    _shown_with_fix(found[0])


def test_a_sequence_cell_that_is_empty_or_a_column_that_lacks_is_reported(folder: Path):
    text = (folder / "train.csv").read_text()
    (folder / "train.csv").write_text(text.replace("000002_001,000002", "000002_001, "))
    *_, problems = check_all(WITH_COLUMN, folder)
    assert [(problem.kind, problem.found) for problem in problems] == [("sequence empty", "line 4")]
    (folder / "train.csv").write_text(text.replace("Flight", "flights"))
    *_, problems = check_all(WITH_COLUMN, folder)
    assert problems[0].kind == "column missing"
    assert problems[0].found.endswith("did you mean 'flights'?")


def test_a_missing_folder_is_one_problem_not_one_per_file(folder: Path):
    shutil.rmtree(folder / "masks")
    *_, problems = check_all(COMPETITION, folder)
    assert [(problem.kind, problem.file) for problem in problems] == [("folder missing", "masks/masks")]
    assert "4 masks" in problems[0].found


def test_a_folder_that_may_not_be_listed_is_one_problem(folder: Path, monkeypatch):
    (folder / "masks/masks/000001_001.png").unlink()

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    *_, problems = check_all(COMPETITION, folder)
    assert [(problem.kind, problem.file) for problem in problems] == [("folder unreadable", "masks/masks")]


def test_everything_broken_at_once_is_all_reported_at_once(tmp_path: Path):
    breaks = [("imgs/imgs/{}.jpg", *one) for one in IMAGE_BREAKS] + [
        ("masks/masks/{}.png", *one) for one in MASK_BREAKS
    ]
    folder = make_good(tmp_path / "little", num_train=len(breaks) + 1)
    expected = set()
    for id, (template, _, kind, damage) in zip(train_ids(len(breaks)), breaks, strict=True):
        damage(folder / template.format(id))
        expected.add((kind, template.format(id)))
    with open(folder / "train.csv", "a") as file:
        file.write(",000001\n../x_1,000001\n000001_001,000001\n000001,a,b\n000777-1,000777\n")
    with open(folder / "test.csv", "a") as file:
        file.write("000002_001\n000900_001\n000900_404\n")
    with open(folder / "sample_submission.csv", "a") as file:
        file.write("000900_001_0,\n000900_001_9,\n")
    expected |= {("id empty", "train.csv"), ("id not a file name", "train.csv"), ("id twice", "train.csv")}
    expected |= {("list with uneven rows", "train.csv"), ("id in train and test", "test.csv"), ("id twice", "test.csv")}
    expected |= {("image missing", "imgs/imgs/000900_404.jpg"), ("sample row missing", "sample_submission.csv")}
    expected |= {("sample row unknown", "sample_submission.csv"), ("sample row twice", "sample_submission.csv")}
    expected |= {("sequence not in the id", "train.csv")}
    *_, problems = check_all(COMPETITION, folder)
    assert expected <= {(problem.kind, problem.file) for problem in problems}
    text = format_problems(problems, most_files=1000)
    assert all(file in text for _, file in expected)
    assert len({problem.kind for problem in problems}) >= 38
    assert all(len(line) <= 110 or "/" in line for line in text.splitlines())


def test_the_breaks_cover_the_kinds_of_problems():
    covered = {one[-2] for one in (*IMAGE_BREAKS, *MASK_BREAKS, *LIST_BREAKS)}
    elsewhere = {
        "folder missing",
        "folder unreadable",
        "sequence empty",
        "test folder empty",
        "file name not text",
    }  # tests of their own
    elsewhere |= {"id with a suffix", "mask of 0 and 255", "mask value not in MASK_VALUES", "mask colour not in COLORS"}
    elsewhere |= {
        "region missing",
        "sample without a class",
        "number of channels",
        "image of another form",
        "files of different sizes",
    }
    elsewhere |= {"mask with palette", "no image found", "class unknown", "run lengths do not fit"}
    elsewhere |= {"sample of another form"}  # tests/detection/submission
    elsewhere |= {
        "runs of no image",
        "pixels without a value",
        "mask of other channels",
        "mask of other numbers",
        "list with more than ids",
        "polygons",
        "sample without a class of objects",
    }
    elsewhere |= {"sample not a zip", "sample file unknown"}  # of PNG masks, see tests/submission
    elsewhere |= set(BOX_KINDS)  # see tests/detection
    assert covered | elsewhere == set(KINDS)
    assert len(IMAGE_BREAKS) + len(MASK_BREAKS) + len(LIST_BREAKS) >= 37


def test_what_is_no_mistake_passes(folder: Path):
    """A byte-order mark, spaces, Windows line ends, a PNG or a WebP called .jpg, bytes after a JPEG's end."""
    text = (folder / "train.csv").read_text().replace(",", " , ").replace("\n", "\r\n") + "\r\n\r\n"
    (folder / "train.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    image = cv2.imread(str(folder / "imgs/imgs/000001_001.jpg"))
    (folder / "imgs/imgs/000001_001.jpg").write_bytes(png(image))
    (folder / "imgs/imgs/000001_002.jpg").write_bytes(cv2.imencode(".webp", image)[1].tobytes())
    with open(folder / "imgs/imgs/000002_001.jpg", "ab") as file:
        file.write(b"trailing bytes of a camera")
    catalog, _, problems = check_all(COMPETITION, folder)
    assert problems == []
    assert catalog["id"].tolist() == train_ids(4)


def test_a_value_of_the_ignored_index_outside_the_classes_is_allowed_and_counted(folder: Path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:2] = 255
    (folder / "masks/masks/000001_001.png").write_bytes(png(mask))
    catalog, _, problems = check_all(replace(COMPETITION, ignore_index=255), folder)
    assert problems == []
    assert catalog.loc[0, ["pixels_0", "pixels_3", "pixels_ignored"]].tolist() == [(HEIGHT - 2) * WIDTH, 0, 2 * WIDTH]


def test_hundreds_of_problems_of_a_kind_are_counted_not_listed(tmp_path: Path):
    folder = make_good(tmp_path / "little", num_train=60)
    for id in train_ids(60):
        (folder / f"masks/masks/{id}.png").unlink()
    text = format_problems(check_all(COMPETITION, folder)[2])
    assert "mask missing: 60 times" in text
    assert "... and 52 more" in text
    assert len(text.splitlines()) < 20


def test_notices_name_unlisted_images_absent_classes_and_blank_masks(folder: Path):
    shutil.copy(folder / "imgs/imgs/000001_001.jpg", folder / "imgs/imgs/000077_001.jpg")
    for id in train_ids(4):
        mask = np.full((HEIGHT, WIDTH), 3 if id == "000001_002" else 0, np.uint8)
        (folder / f"masks/masks/{id}.png").write_bytes(png(mask))
    unlisted, classes, blank = notices(COMPETITION, folder)
    assert unlisted.startswith("1 images in imgs/imgs are in no list") and "000077_001.jpg" in unlisted
    assert "Road, Water" in classes
    assert blank == "1 masks hold only ignored pixels (first: 000001_002)"


def test_a_message_names_the_key_to_correct(folder: Path):
    text = (folder / "train.csv").read_text()
    (folder / "train.csv").write_text(text.replace("ImageID", "img").replace("Flight", "flights"))
    (folder / "test.csv").write_text("img\n000900_001\n")
    fixes = {problem.fix.partition(" as ")[2] for problem in check_all(WITH_COLUMN, folder)[2]}
    assert {f"{key} in configs/competitions/little.yaml" for key in ("ID_COLUMN", "SEQUENCE_COLUMN")} <= fixes
    other = replace(COMPETITION, test_csv="list.csv", convention=Convention(value_column="runs"))
    by_file = {problem.file: problem.fix for problem in check_all(other, folder)[2]}
    assert "give its name as TEST_CSV in" in by_file["list.csv"]
    assert "give its name as CONVENTION.VALUE_COLUMN in" in by_file["sample_submission.csv"]
    (folder / "train.csv").write_text(text)
    shutil.rmtree(folder / "masks")
    assert "correct MASKS in" in train_catalog(COMPETITION, folder)[1][-1].fix


def test_the_test_images_are_found_in_a_folder_of_their_own(folder: Path):
    (folder / "test").mkdir()
    for path in sorted((folder / "imgs/imgs").glob("000900_*")):
        path.rename(folder / "test" / f"{path.stem}.jpeg")
    elsewhere = replace(COMPETITION, test_images="test/{id}.jpeg")
    catalog, test, problems = check_all(elsewhere, folder)
    assert problems == []
    assert (catalog["image"].tolist()[3], test["image"].tolist()[0]) == (
        "imgs/imgs/000002_002.jpg",
        "test/000900_001.jpeg",
    )
    assert notices(elsewhere, folder) == []
    shutil.rmtree(folder / "test")
    (problem,) = check_all(elsewhere, folder)[2]
    assert problem.file == "test"
    assert problem.fix == "correct TEST_IMAGES in configs/competitions/little.yaml, or unpack the whole archive"


def test_ids_that_end_in_the_files_suffix_are_told_the_template_for_them(folder: Path):
    for name in ("train.csv", "test.csv"):
        lines = (folder / name).read_text().splitlines()
        rows = [",".join([f"{line.split(',')[0]}.jpg", *line.split(",")[1:]]) for line in lines[1:]]
        (folder / name).write_text("\n".join([lines[0], *rows]))
    for path in sorted((folder / "masks/masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}.jpg.png"))
    with_suffix = replace(COMPETITION, sample_submission=None)
    *_, problems = check_all(with_suffix, folder)
    assert {problem.kind for problem in problems} == {"id with a suffix"} and len(problems) == 6
    assert problems[0].found == "there is 000001_001.jpg"
    assert problems[0].fix == "IMAGES: imgs/imgs/{id} in configs/competitions/little.yaml"
    assert check_all(replace(with_suffix, images="imgs/imgs/{id}"), folder)[2] == []
    for path in sorted((folder / "masks/masks").iterdir()):
        path.rename(path.with_name(path.name.replace(".jpg", "")))
    without = replace(with_suffix, images="imgs/imgs/{id}")
    *_, problems = check_all(without, folder)
    assert {problem.kind for problem in problems} == {"id with a suffix"} and len(problems) == 4
    assert problems[0].fix == "MASKS: masks/masks/{stem}.png in configs/competitions/little.yaml"
    catalog, _, problems = check_all(replace(without, masks="masks/masks/{stem}.png"), folder)
    assert problems == []
    assert (catalog["id"][0], catalog["mask"][0]) == ("000001_001.jpg", "masks/masks/000001_001.png")


def test_the_images_to_predict_may_be_those_of_the_sample_submission(folder: Path):
    (folder / "test.csv").unlink()
    (folder / "sample_submission.csv").write_text("ImageID,rle\n000900_001,1 1\n000900_002,\n")
    convention = Convention(rows="id", value_column="rle")
    described = replace(COMPETITION, test_csv="sample_submission.csv", convention=convention, submitted=None)
    _, test, problems = check_all(described, folder)
    assert problems == []
    assert test["id"].tolist() == ["000900_001", "000900_002"]


def test_images_in_a_folder_each_are_found_by_their_template(tmp_path: Path):
    competition = replace(COMPETITION, images="{id}/image.jpg", sample_submission=None)
    folder = make_good(tmp_path / "little")
    for path in sorted((folder / "imgs/imgs").iterdir()):
        (folder / path.stem).mkdir()
        path.rename(folder / path.stem / "image.jpg")
    assert check_all(competition, folder)[2] == []
    shutil.rmtree(folder / "000001_001")
    assert [problem.file for problem in check_all(competition, folder)[2]] == ["000001_001"]


@pytest.fixture
def hidden(good: Path, tmp_path: Path) -> Path:
    """A folder of images alone: two test images and one that is a training image too."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    for id in ("000900_002", "000900_001", "000001_001"):
        shutil.copy(good / f"imgs/imgs/{id}.jpg", folder)
    return folder


def test_a_hidden_test_set_needs_no_list_and_may_repeat_training_images(hidden: Path):
    (hidden / "notes.txt").write_text("no image")
    catalog, problems = build_test_catalog(COMPETITION, hidden, is_hidden=True)
    assert problems == []
    assert catalog.to_dict("list") == {
        "id": ["000001_001", "000900_001", "000900_002"],
        "sequence": ["000001", "000900", "000900"],
        "image": ["000001_001.jpg", "000900_001.jpg", "000900_002.jpg"],
        "width": [WIDTH] * 3,
        "height": [HEIGHT] * 3,
    }


@pytest.mark.parametrize(
    ("template", "file", "id"),
    [
        ("imgs/{id}_sat.jpg", "7_sat.jpg", "7"),
        ("imgs/{id}.png", "7.jpg", "7"),  # another format than that of the training images
        ("imgs/{id}", "7.jpg", "7.jpg"),
        ("imgs/im_{id}.jpg", "im_7.jpg", "7"),
        ("{id}/image.jpg", "7.jpg", "7"),
    ],
)
def test_the_ids_of_a_hidden_test_set_are_read_from_its_files_by_the_template(good, tmp_path, template, file, id):
    shutil.copy(good / "imgs/imgs/000900_001.jpg", tmp_path / file)
    for described in (replace(COMPETITION, images=template), replace(COMPETITION, test_images=template)):
        catalog, problems = build_test_catalog(described, tmp_path, is_hidden=True)
        assert problems == [] and catalog[["id", "image"]].values.tolist() == [[id, file]]


def test_a_hidden_test_set_with_a_list_is_laid_out_as_the_competition_is(folder: Path, tmp_path: Path):
    for path in (folder / "train.csv", folder / "sample_submission.csv"):
        path.unlink()
    shutil.rmtree(folder / "masks")
    with open(folder / "test.csv", "a") as file:
        file.write("000001_001\n")
    catalog, problems = build_test_catalog(COMPETITION, folder, is_hidden=True)
    assert problems == []
    assert catalog["image"].tolist() == [f"imgs/imgs/{id}.jpg" for id in ("000900_001", "000900_002", "000001_001")]
    (folder / "imgs/imgs/000900_002.jpg").unlink()
    _, problems = build_test_catalog(COMPETITION, folder, is_hidden=True)
    assert [(problem.kind, problem.file) for problem in problems] == [("image missing", "imgs/imgs/000900_002.jpg")]


def test_a_hidden_test_set_is_checked_as_any_other(hidden: Path):
    (hidden / "000900_001.jpg").write_bytes(b"")
    shutil.copy(hidden / "000900_002.jpg", hidden / "000900_002.jpeg")
    _, problems = build_test_catalog(COMPETITION, hidden, is_hidden=True)
    found = [(problem.kind, problem.file) for problem in problems]
    assert found == [("id twice", "000900_002.jpeg"), ("id twice", "000900_002.jpg"), ("file empty", "000900_001.jpg")]


def test_a_folder_without_test_images_is_one_problem(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("no image")
    catalog, (problem,) = build_test_catalog(COMPETITION, tmp_path, is_hidden=True)
    assert catalog.empty and problem.kind == "test folder empty"
    _shown_with_fix(problem)
    assert problem.found.startswith("no test.csv, and no file that ends with ") and ".jpg" in problem.found
    _, (problem,) = build_test_catalog(replace(COMPETITION, test_csv=None), tmp_path, is_hidden=True)
    assert problem.found.startswith("no file that ends with ")


@pytest.mark.parametrize(("name", "num_train", "num_test"), [("camvid", 468, 233), ("dubai_aerial", 56, 16)])
def test_real_competitions_pass(name: str, num_train: int, num_test: int, shared_data):
    competition = load_competition(name)
    catalog, test, problems = check_all(competition, shared_data(name))
    assert problems == []
    assert (len(catalog), len(test)) == (num_train, num_test)
    assert (catalog.filter(like="pixels_").sum(axis=1) == catalog["width"] * catalog["height"]).all()


def _shown_with_fix(problem) -> None:
    text = format_problems([problem])
    assert problem.file in text
    assert "fix:" in text and problem.fix and "{" not in problem.fix.replace("{id}", "")
    assert problem.found and problem.expected


def test_a_hidden_test_set_has_its_stacks_neighbours_and_folders(good: Path, tmp_path: Path):
    grey = cv2.imread(str(good / "imgs/imgs/000900_001.jpg"), cv2.IMREAD_GRAYSCALE)
    names = ("s/a_r.png", "s/a_g.png", "s/b_r.png", "s/b_g.png", "f/7/08.png", "f/7/09.png", "n/s_2.png", "n/s_10.png")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), grey)

    def cells(folder: str, **changes) -> list[str]:
        catalog, problems = build_test_catalog(replace(COMPETITION, **changes), tmp_path / folder, is_hidden=True)
        assert problems == []
        return catalog["image"].tolist()

    assert cells("s", images=("train/{id}_r.png", "train/{id}_g.png")) == ["a_r.png|a_g.png", "b_r.png|b_g.png"]
    assert cells("f", images="train/{id}/{08..09}.png") == ["7/08.png|7/09.png"]
    near = {"image": ImageForm(neighbours=1), "images": "train/{id}.png", "sequence_pattern": r"(\w+)_"}
    assert sorted(cells("n", **near)) == ["s_2.png|s_10.png|s_10.png", "s_2.png|s_2.png|s_10.png"]


def test_a_file_that_a_stack_lacks_is_a_problem(good: Path, tmp_path: Path):
    grey = cv2.imread(str(good / "imgs/imgs/000900_001.jpg"), cv2.IMREAD_GRAYSCALE)
    for name in ("a_t1_x.png", "a_t2_x.png", "b_t1_x.png"):
        cv2.imwrite(str(tmp_path / name), grey)
    (tmp_path / "test.csv").write_text("ImageID\na\nb\n")
    described = replace(COMPETITION, images=("{id}_t1_*.png", "{id}_t2_*.png"), test_csv="test.csv")
    _, problems = build_test_catalog(described, tmp_path, is_hidden=True)
    assert [(problem.kind, problem.file) for problem in problems] == [("image missing", "b_t2_*.png")]


def test_neighbours_need_the_sequence_of_a_test_image_too(folder: Path):
    described = replace(WITH_COLUMN, image=ImageForm(neighbours=1))
    _, problems = build_test_catalog(described, folder, is_hidden=True)
    assert ("column missing", "test.csv") in [(problem.kind, problem.file) for problem in problems]


def test_test_images_have_the_number_format_of_the_training_images(hidden: Path):
    image = cv2.imread(str(hidden / "000900_001.jpg"))
    cv2.imwrite(str(hidden / "000900_003.png"), image.astype(np.uint16) * 16)
    _, problems = build_test_catalog(COMPETITION, hidden, is_hidden=True, number_format="uint8")
    assert [(problem.kind, problem.file) for problem in problems] == [("another number format", "000900_003.png")]
    _, problems = build_test_catalog(COMPETITION, hidden, is_hidden=True, number_format="uint16")
    assert [problem.file for problem in problems] == ["000001_001.jpg", "000900_001.jpg", "000900_002.jpg"]
