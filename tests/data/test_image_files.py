"""Files of images by id, and ids of the files there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.image_files import Files, ids_of, label_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = (
        *("train/aachen/aachen_1_left.png", "train/bochum/bochum_2_left.png", "val/ulm/ulm_3_left.png"),
        *("case7/case7_day0/slice_0001_a.png", "case7/case7_day0/slice_0002_b.png", "case8/case7_day0/slice_0003.png"),
        *("masks/7_cell.png", "masks/7_wall.png", "masks/8_cell.png", "deep/a/b/c.png", "deep/d.png"),
        *("x/7/01.tif", "x/7/02.tif", "x/7/03.tif"),
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "train/aachen/folder_9_left.png").mkdir()
    return tmp_path


def test_ids_come_from_the_files_in_their_order_and_folders_are_none(folder):
    assert ids_of(folder, "train/*/{id}_left.png", None) == ["aachen_1", "bochum_2"]
    assert ids_of(folder, "*/*/{id}_left.png", None) == ["aachen_1", "bochum_2", "ulm_3"]
    assert ids_of(folder, "deep/**/{id}.png", None) == ["d", "c"]
    assert ids_of(folder, "nowhere/{id}.png", None) == []


def test_ids_are_put_together_of_the_parts_of_a_path(folder):
    template = "{case}/{case}_{day}/slice_{nr}_*.png"
    assert ids_of(folder, template, "{case}_{day}_slice_{nr}") == ["case7_day0_slice_0001", "case7_day0_slice_0002"]
    files = Files(folder, [template], "{case}_{day}_slice_{nr}")
    assert files.of("case7_day0_slice_0002") == [("case7/case7_day0/slice_0002_b.png", "")]
    assert files.of("case8_day0_slice_0003") == []  # its folder is of another case
    assert files.of("nonsense") == []


def test_an_id_with_several_readings_is_that_of_the_file_that_is_there(tmp_path):
    ids = {
        "kidney_1_dense_0000": "train/kidney_1_dense/images/0000.tif",
        "kidney_2_0001": "train/kidney_2/images/0001.tif",
    }
    for file in ids.values():
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    for template in ("train/{kidney}/images/{nr}.tif", "*/{kidney}/images/{nr}.*"):
        files = Files(tmp_path, [template], "{kidney}_{nr}")
        assert [files.of(image_id) for image_id in ids] == [[(file, "")] for file in ids.values()]
        assert sorted(ids_of(tmp_path, template, "{kidney}_{nr}")) == sorted(ids)
    files = Files(tmp_path, ["train/{kidney}/images/{nr}.tif"], "{kidney}_{nr}")
    absent = "train/kidney_1_dense/images/0009.tif"  # the folder says how the id is meant
    assert files.of("kidney_1_dense_0009") == [(absent, "")]


def test_files_of_a_class_each_come_with_its_name(folder):
    files = Files(folder, ["masks/{id}_{class}.png"])
    assert files.of("7") == [("masks/7_cell.png", "cell"), ("masks/7_wall.png", "wall")]
    assert files.of("9") == []


def test_an_id_is_known_before_its_files_are_searched(tmp_path):
    for name in ("img_1_cat.png", "img_1_big_dog.png", "img_10_cat.png", "1.png", "1_a.png", "10.png", "c1/a_x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = Files(tmp_path, ["{stem}_{class}.png"])
    assert files.of("img_1.jpg") == [("img_1_big_dog.png", "big_dog"), ("img_1_cat.png", "cat")]
    assert files.of("img_10.jpg") == [("img_10_cat.png", "cat")]
    assert [file for file, _ in Files(tmp_path, ["{id}*.png"]).of("1")] == ["1.png", "1_a.png"]
    assert [file for file, _ in Files(tmp_path, ["{id}*.png"]).of("10")] == ["10.png"]
    (tmp_path / "1_id_7.png").touch()
    assert Files(tmp_path, ["{id}_id_*.png"]).of("1") == [("1_id_7.png", "")]  # no number of the id's before the 7
    assert Files(tmp_path, ["{id}_*.png"]).of("c1/a") == [("c1/a_x.png", "")]


def test_a_file_may_be_in_any_of_many_folders_which_are_listed_once(folder, monkeypatch):
    listed = []
    real = __import__("os").scandir
    monkeypatch.setattr("os.scandir", lambda path: listed.append(str(path)) or real(path))
    files = Files(folder, ["*/*/{id}_left.png", "**/{id}.png"])
    assert files.of("ulm_3") == [("val/ulm/ulm_3_left.png", "")]
    assert files.of("c") == [("deep/a/b/c.png", "")]
    assert files.of("aachen_1") == [("train/aachen/aachen_1_left.png", "")]
    assert files.of("folder_9") == []
    assert len(listed) == len(set(listed))


def test_a_template_of_the_id_alone_needs_no_part_of_the_format(tmp_path):
    (tmp_path / "c1_d2.png").touch()
    assert ids_of(tmp_path, "{id}", "{case}_{day}.png") == ["c1_d2.png"]
    assert ids_of(tmp_path, "{case}_{day}.png", "{case}_{day}.png") == ["c1_d2.png"]


def test_a_name_that_needs_no_search_is_given_whether_it_is_there_or_not(folder):
    files = Files(folder, ["x/{id}/{01..02}.tif", "y/{stem}.png"])
    assert files.of("7") == [("x/7/01.tif", ""), ("x/7/02.tif", ""), ("y/7.png", "")]
    assert files.of("a.jpg")[-1] == ("y/a.png", "")


def test_an_id_with_folders_fills_a_template(folder):
    assert Files(folder, ["{id}.png"]).of("train/aachen/aachen_1_left") == [("train/aachen/aachen_1_left.png", "")]


def test_only_folders_that_can_match_are_listed(folder, monkeypatch):
    listed = []
    real = __import__("os").scandir
    monkeypatch.setattr("os.scandir", lambda path: listed.append(Path(path).name) or real(path))
    ids_of(folder, "train/*/{id}_left.png", None)
    assert listed == ["train", "aachen", "bochum"]


def test_the_files_of_a_cell():
    assert (label_files(""), label_files(None), label_files("a.png|b c.png")) == ([], [], ["a.png", "b c.png"])


@pytest.mark.parametrize("image_id", ["a{stem}b", "{stem}", "{id}", "x{class}", "a{stem}/b{id}", "{id}*/**", "{0..2}"])
def test_an_id_is_never_read_as_a_template(tmp_path, image_id):
    file = f"masks/{image_id}_car.png"
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    other = f"masks/{image_id.replace('{', '').replace('}', '').replace('*', 'z')}_car.png"
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).touch()
    for template in ("masks/{id}_car.png", "masks/{id}_*.png", "masks/{stem}_{class}.png"):
        (found,) = Files(tmp_path, [template]).of(image_id)
        assert found[0] == file
