"""Finding a competition's folder, and reading its lists as text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.competition import Competition
from pipeline.data.competition import Listed, find_folder, list_images
from pipeline.data.csv_file import read_csv
from pipeline.errors import UserError
from pipeline.paths import shown
from tests.data.broken import COMPETITION, WITH_COLUMN, make_good, train_ids


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    """The three folders to look in, of which only DATA_DIR exists."""
    roots = {"env": tmp_path / "env", "project": tmp_path / "project/data", "kaggle": tmp_path / "kaggle"}
    roots["env"].mkdir()
    return roots


def find(roots: dict[str, Path], competition: Competition = COMPETITION, directory: str | None = None) -> Path:
    return find_folder(competition, list(roots.values()), directory)


@pytest.mark.parametrize("below", ["little", "little-competition", "competitions/little-competition"])
@pytest.mark.parametrize("root", ["env", "project", "kaggle"])
def test_a_folder_is_found_by_name_or_slug_also_one_level_down(root: str, below: str, roots):
    folder = make_good(roots[root] / below)
    assert find(roots) == folder


def test_data_dir_comes_before_the_other_places(roots):
    make_good(roots["kaggle"] / "little")
    make_good(roots["project"] / "little")
    folder = make_good(roots["env"] / "little-competition")
    assert find(roots) == folder


def test_a_folder_without_lists_gives_way_to_a_complete_one(roots):
    (roots["env"] / "little").mkdir()
    folder = make_good(roots["kaggle"] / "little")
    assert find(roots) == folder


def test_an_explicit_directory_is_taken_alone(roots, tmp_path: Path):
    make_good(roots["env"] / "little")
    folder = make_good(tmp_path / "elsewhere")
    assert find(roots, directory=str(folder)) == folder
    with pytest.raises(UserError, match=r"no folder .*nowhere[\s\S]*train\.csv"):
        find(roots, directory=str(tmp_path / "nowhere"))


def test_nothing_found_says_where_it_looked_and_how_to_get_it(roots):
    with pytest.raises(UserError) as caught:
        find(roots)
    message = str(caught.value)
    assert all(shown(root) in message for root in roots.values())
    assert "'little' or 'little-competition'" in message
    assert "./run.sh download little" in message
    assert "DATA_DIR=" in message
    assert message.count("no such folder") == 2
    without_source = replace(COMPETITION, kaggle_slug=None)
    with pytest.raises(UserError) as caught:
        find(roots, without_source)
    assert "download" not in str(caught.value)


def test_a_competition_without_a_list_is_looked_for_by_the_folder_of_its_images(roots, tmp_path: Path):
    without_list = replace(COMPETITION, train_csv=None, images="photos/{id}.jpg")
    with pytest.raises(UserError, match="Searched for a folder called 'little' or 'little-competition'") as caught:
        find(roots, without_list)
    assert "which is itself" not in str(caught.value)
    (roots["env"] / "photos").mkdir()
    with pytest.raises(UserError, match=f"itself a competition's folder: .*DATA_DIR={tmp_path}"):
        find(roots, without_list)
    (roots["env"] / "little").mkdir()
    with pytest.raises(UserError, match="it has no photos"):
        find(roots, without_list)
    with pytest.raises(UserError, match="Name the folder that holds photos"):
        find(roots, without_list, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="Name the folder that holds the images"):
        find(roots, replace(without_list, images="{id}.jpg"), str(tmp_path / "nowhere"))


def test_data_dir_that_is_a_file_is_told(roots):
    roots["env"].rmdir()
    roots["env"].write_text("")
    with pytest.raises(UserError, match=r"env   \(a file, not a folder\)"):
        find(roots)


def test_data_dir_that_is_itself_the_competition_is_told(roots):
    make_good(roots["env"] / "x").rename(roots["env"].with_name("whole"))
    roots["env"].rmdir()
    roots["env"].with_name("whole").rename(roots["env"])
    with pytest.raises(UserError, match=f"DATA_DIR={roots['env'].parent}"):
        find(roots)


def test_a_folder_without_its_list_is_told_apart(roots):
    folder = roots["env"] / "little"
    folder.mkdir()
    with pytest.raises(
        UserError, match=r"has no train\.csv[\s\S]*It holds: nothing[\s\S]*Move it away.*download little"
    ):
        find(roots)
    (folder / "labels.csv").touch()
    with pytest.raises(UserError, match=r"give it as TRAIN_CSV in configs/competitions/little\.yaml"):
        find(roots)
    (folder / "labels.csv").unlink()
    (folder / "little.zip").touch()
    with pytest.raises(UserError, match=r"It holds: little\.zip[\s\S]*unzip .*little\.zip"):
        find(roots)
    make_good(folder / "inner")
    with pytest.raises(UserError, match=r"inner/, little\.zip[\s\S]*one level up[\s\S]*DATASETS\.DIRECTORY=.*inner"):
        find(roots)


def test_a_folder_that_may_not_be_listed_is_told(roots, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (roots["env"] / "little").mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"cannot be listed: Permission denied[\s\S]*chmod u\+rx"):
        find(roots)


def test_ids_stay_text(tmp_path: Path):
    (tmp_path / "train.csv").write_text('\ufeffImageID , Flight\n 007_1 ,NA\n1e5_1,00\nNA_1,"a, b"\n\ntrue_1,nan\n')
    listed, problems = list_images(WITH_COLUMN, tmp_path, "train")
    assert problems == []
    assert listed == [
        *(Listed("007_1", "NA", ""), Listed("1e5_1", "00", "")),
        *(Listed("NA_1", "a, b", ""), Listed("true_1", "nan", "")),
    ]


def test_sequences_come_from_the_column_or_from_the_pattern(tmp_path: Path):
    make_good(tmp_path / "little")
    by_pattern, _ = list_images(COMPETITION, tmp_path / "little", "train")
    by_column, _ = list_images(WITH_COLUMN, tmp_path / "little", "train")
    assert by_pattern == by_column == [Listed(id, id[:6], "") for id in train_ids(4)]
    test, problems = list_images(WITH_COLUMN, tmp_path / "little", "test")
    assert [listed.sequence for listed in test] == ["", ""]  # a test list need not name sequences
    assert problems == []
    plain = replace(COMPETITION, sequence_pattern=None)
    assert {listed.sequence for listed in list_images(plain, tmp_path / "little", "train")[0]} == {""}


def test_a_text_list_has_an_id_in_each_line_and_no_header(tmp_path: Path):
    lists = replace(COMPETITION, sequence_pattern=None, train_csv="sets/train.txt", valid_csv="sets/val.txt")
    lists = replace(lists, test_csv="sets/test.txt")
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets/train.txt").write_text("\ufeff2007_000032\r\n 007 \n\n")
    (tmp_path / "sets/val.txt").write_text("aachen/NA")
    (tmp_path / "sets/test.txt").write_text("1e5\n")
    listed, problems = list_images(lists, tmp_path, "train")
    assert problems == []
    assert listed == [Listed("2007_000032", "", "train"), Listed("007", "", "train"), Listed("aachen/NA", "", "valid")]
    assert list_images(lists, tmp_path, "test") == ([Listed("1e5", "", "")], [])


def test_a_text_list_with_more_than_ids_is_refused_by_its_lines(tmp_path: Path):
    lists = replace(COMPETITION, sequence_pattern=None, train_csv="train.txt")
    (tmp_path / "train.txt").write_text("a\na\nb -1\nImageID,Flight\n../c\n")
    listed, problems = list_images(lists, tmp_path, "train")
    assert [one.id for one in listed] == ["a"]
    assert [(problem.kind, problem.found) for problem in problems] == [
        ("list with more than ids", "line 3: 'b -1'"),
        ("list with more than ids", "line 4: 'ImageID,Flight'"),
        ("id twice", "a in lines 1 and 2"),
        ("id not a file name", "line 5: '../c'"),
    ]
    (tmp_path / "train.txt").write_text("\n")
    assert [problem.kind for problem in list_images(lists, tmp_path, "train")[1]] == ["list empty"]
    (tmp_path / "train.txt").unlink()
    (problem,) = list_images(lists, tmp_path, "train")[1]
    assert problem.kind == "list missing" and "TRAIN_CSV" in problem.fix


def test_a_pattern_of_ids_says_which_files_are_images_and_which_validate(tmp_path: Path):
    for name in ("austin1", "austin12", "tyrol-w5", "austin1_mask", "austin12_mask"):
        (tmp_path / f"{name}.png").touch()
    plain = replace(COMPETITION, sequence_pattern=None, train_csv=None, images="{id}.png", masks="{id}_mask.png")
    assert len(list_images(plain, tmp_path, "train")[0]) == 5
    beside = replace(plain, id_pattern="[0-9]$", valid_pattern="^[a-z-]+[1-5]$")
    listed, problems = list_images(beside, tmp_path, "train")
    assert problems == []
    assert listed == [Listed("austin1", "", "valid"), Listed("austin12", "", "train"), Listed("tyrol-w5", "", "valid")]
    (problem,) = list_images(replace(beside, id_pattern="^x"), tmp_path, "train")[1]
    assert problem.kind == "no image found"


def test_the_first_of_two_equal_ids_is_kept(tmp_path: Path):
    (tmp_path / "train.csv").write_text("ImageID,Flight\na_1,x\na_1,y\nb_1,z\n")
    listed, problems = list_images(WITH_COLUMN, tmp_path, "train")
    assert listed == [Listed("a_1", "x", ""), Listed("b_1", "z", "")]
    assert [(problem.kind, problem.found) for problem in problems] == [("id twice", "a_1 in lines 2 and 3")]


_NEARLY_CSV = st.text('aI_mgeD1,;"\n\r\t ', max_size=80).map(str.encode)


@given(data=st.one_of(st.binary(max_size=300), _NEARLY_CSV), header=st.booleans())
def test_no_bytes_of_a_list_raise(data: bytes, header: bool, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "list.csv"
    path.write_bytes(b"ImageID,Flight\n" * header + data)
    rows, problems = read_csv(path, "list.csv", {"ImageID": "ID_COLUMN"}, "little", "TRAIN_CSV")
    assert rows or problems
    assert all(row["ImageID"] == row["ImageID"].strip() for _, row in rows)


def test_a_very_long_cell_is_read(tmp_path: Path):
    (tmp_path / "sample.csv").write_text(f"ImageID,EncodedPixels\na_0,{'1 2 ' * 50_000}\n")
    rows, problems = read_csv(tmp_path / "sample.csv", "sample.csv", {"ImageID": "ID_COLUMN"}, "little", "TEST_CSV")
    assert problems == []
    assert len(rows[0][1]["EncodedPixels"]) == 199_999
