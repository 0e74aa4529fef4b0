"""What the commands that are not stages print."""

import json
import shutil

import cv2
import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.config.load import load_competition
from pipeline.data.pictures import read_mask
from pipeline.paths import shown, submissions_folder
from pipeline.report import rates
from pipeline.submission.write import write_submission


@pytest.fixture
def camvid(shared_data, tmp_path, monkeypatch):
    """A competition folder with six test pictures below DATA_DIR."""
    source, folder = shared_data("camvid"), tmp_path / "data" / "camvid"
    test_ids = (source / "test.csv").read_text().split()[1:7]
    train_rows = (source / "train.csv").read_text().split()[:9]
    (folder / "imgs" / "imgs").mkdir(parents=True)
    (folder / "masks" / "masks").mkdir(parents=True)
    (folder / "train.csv").write_text("\n".join(train_rows))
    (folder / "test.csv").write_text("\n".join(["ImageID", *test_ids]))
    train_ids = [row.split(",")[0] for row in train_rows[1:]]
    for picture_id in [*train_ids, *test_ids]:
        shutil.copy(source / "imgs" / "imgs" / f"{picture_id}.jpg", folder / "imgs" / "imgs")
    for picture_id in train_ids:
        shutil.copy(source / "masks" / "masks" / f"{picture_id}.png", folder / "masks" / "masks")
    monkeypatch.setenv("DATA_DIR", str(folder.parent))
    return folder, train_ids, test_ids


def write(path, ids, mask_of):
    return str(write_submission(path, ((id, mask_of(id)) for id in ids), ids, load_competition("camvid"), {}))


def test_diff_says_how_many_pictures_differ(camvid, tmp_path, capsys):
    ids = camvid[2]
    plain = write(tmp_path / "a.csv", ids, lambda id: np.zeros((360, 480), np.uint8))
    other = write(tmp_path / "b.csv", ids, lambda id: np.full((360, 480), id == ids[2], np.uint8))
    assert main(["diff", plain, other, "--competition", "camvid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 of 6 pictures differ"
    assert [line.split()[0] for line in lines[2:-1]] == [ids[2], ids[2]]
    path = submissions_folder() / "diff_a_b.png"
    assert lines[-1] == f"drawn: {shown(path)}"
    assert cv2.imread(str(path)).shape[1] == 1080
    path.unlink()
    assert main(["diff", plain, plain, "--competition", "camvid"]) == 0
    assert capsys.readouterr().out == "0 of 6 pictures differ\n"
    assert not list(submissions_folder().glob("*"))


def test_score_says_of_which_competition_it_is(camvid, tmp_path, capsys):
    folder, ids, _ = camvid
    masks = folder / "masks" / "masks"
    path = write(tmp_path / "a.csv", ids, lambda id: read_mask(masks / f"{id}.png"))
    assert main(["score", path, "--masks", str(masks), "--competition", "camvid"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["competition"], found["pictures"], found["dice"]["mean"]) == ("camvid", len(ids), 1)


def test_score_wants_a_folder_of_masks(tmp_path, capsys):
    assert main(["score", "a.csv", "--masks", str(tmp_path / "none"), "--competition", "camvid"]) == 2
    assert "no such folder; wanted the folder of the index masks" in capsys.readouterr().err


def test_show_names_the_folder_of_the_runs_in_use(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    assert main(["show", "ExpAAB"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(f"folder {shown(tmp_path / 'ExpAAB')}")


def test_the_plan_of_an_ensemble_is_that_of_its_members(capsys):
    assert main(["plan", "EnsAAA"]) == 2
    assert capsys.readouterr().err.strip().endswith("a member's: ./run.sh plan ExpBAA")


def test_a_plan_picture_says_of_what_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    titles = []
    draw = rates.draw_plan
    monkeypatch.setattr(rates, "draw_plan", lambda *args, title: titles.append(title) or draw(*args, title=title))
    assert main(["plan", "ExpAAB"]) == 0
    assert titles == ["ExpAAB: flat_cosine"]
    assert "drawn:" in capsys.readouterr().out


def test_a_download_does_not_take_half_a_folder_for_the_whole(tmp_path, monkeypatch, capsys):
    (tmp_path / "camvid").mkdir()
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert main(["download", "camvid"]) == 2
    assert capsys.readouterr().err.strip().endswith("has no train.csv; move it away and start again")
    (tmp_path / "camvid" / "train.csv").touch()
    assert main(["download", "camvid"]) == 0
    assert "is there already; remove it to fetch it anew" in capsys.readouterr().out


def test_a_plan_says_what_it_assumes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    assert main(["plan", "ExpAAA", "SOLVER.PLAN=cityscapes_poly", "SOLVER.MAX_LR=auto"]) == 0
    out = capsys.readouterr().out
    assert "as if an epoch had 40" in out
    assert "SOLVER.MAX_LR is auto: drawn for 0.001" in out
    folder = next(tmp_path.glob("ExpAAA-*"))
    (folder / "tiles.json").write_text('{"samples_per_epoch": 2100}')
    assert main(["plan", "ExpAAA", "SOLVER.PLAN=cityscapes_poly", "SOLVER.MAX_LR=auto"]) == 0
    assert "as if" not in capsys.readouterr().out
