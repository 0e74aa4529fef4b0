"""What the commands on submissions print."""

import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.config.load import load_competition
from pipeline.data.pictures import read_mask
from pipeline.paths import shown, submissions_folder
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


class Leaderboard:
    """Kaggle's client as far as it is needed here; `is_reachable` is asked before every answer."""

    def __init__(self, is_reachable=lambda: True):
        self.uploads, self.is_reachable = [], is_reachable

    def competition_submissions(self, slug):
        if not self.is_reachable():
            raise ConnectionError("Failed to resolve 'api.kaggle.com'")
        return self.uploads

    def competition_submit(self, path, message, slug):
        facts = {"ref": 7, "date": "2026-01-02 03:04:05", "description": message, "file_name": "ExpAAB.csv"}
        scores = {"status": "complete", "public_score": "0.81", "private_score": ""}
        self.uploads.append(SimpleNamespace(**facts, **scores))
        return SimpleNamespace(message="Successfully submitted", ref=7)


@pytest.fixture
def leaderboard(monkeypatch):
    client = Leaderboard()
    for module in ("kaggle", "log"):
        monkeypatch.setattr(f"pipeline.submission.{module}.connect", lambda *within: client)
    competition = load_competition("aeroscapes")
    masks = [("a", np.zeros((2, 3), np.uint8))]
    write_submission(submissions_folder() / "ExpAAB.csv", masks, ["a"], competition, {"local_dice": 0.81234})
    return client


def test_an_upload_ends_in_the_log_with_both_scores_side_by_side(leaderboard, capsys):
    assert main(["submit", "ExpAAB", "-m", "flat"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[2:] == ["ExpAAB.csv", "0.8123", "0.81", "–", "complete", "flat"]
    assert lines[3] == f"in {shown(submissions_folder() / 'log.csv')}"
    assert main(["submit", "ExpAAB", "-m", "flat"]) == 2
    assert "add --again if it is meant" in capsys.readouterr().err
    assert main(["submit", "ExpAAB", "-m", "flat", "--again", "RUNTIME.DEVICE=cpu"]) == 0


def test_an_upload_is_in_the_log_though_the_network_went_right_after_it(leaderboard, capsys):
    leaderboard.is_reachable = lambda: not leaderboard.uploads
    assert main(["submit", "ExpAAB", "-m", "flat"]) == 0
    out = capsys.readouterr().out
    assert "Is there a network?" in out
    assert out.endswith("its score is still to come: ./run.sh log --competition aeroscapes\n")
    path = submissions_folder() / "log.csv"
    before = path.read_bytes()
    assert b"pending" in before
    assert main(["log"]) == 2
    captured = capsys.readouterr()
    assert "ExpAAB.csv  0.8123" in captured.out
    assert captured.err.endswith(f"{shown(path)} is as it was.\n")
    assert path.read_bytes() == before
    leaderboard.is_reachable = lambda: True
    assert main(["log"]) == 0
    assert path.read_text().count("\n") == 2
    assert "0.81" in path.read_text()


def test_a_log_that_cannot_be_read_is_refused_before_the_upload(leaderboard, capsys):
    (submissions_folder() / "log.csv").write_text("my notes\n")
    assert main(["submit", "ExpAAB", "-m", "flat"]) == 2
    assert "move it away to begin a new log" in capsys.readouterr().err
    assert leaderboard.uploads == []


def test_the_log_of_a_competition_that_is_not_on_kaggle_is_refused(capsys):
    assert main(["log", "--competition", "camvid"]) == 2
    assert "camvid is not a Kaggle competition" in capsys.readouterr().err
