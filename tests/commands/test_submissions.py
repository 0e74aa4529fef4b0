"""What the commands on submissions print."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.config import load as load_module
from pipeline.config.competition import Submission
from pipeline.config.load import competition_names, load_competition
from pipeline.paths import Folders, shown
from pipeline.segmentation.labels import read_mask
from tests.segmentation.submission.scenes import write as write_masks
from tests.submission.loopback import kaggle_at


@pytest.fixture
def camvid(shared_data, tmp_path, monkeypatch):
    """A competition folder with six test images below DATA_DIR."""
    source, folder = shared_data("camvid"), tmp_path / "data" / "camvid"
    test_ids = (source / "test.csv").read_text().split()[1:7]
    train_rows = (source / "train.csv").read_text().split()[:9]
    (folder / "imgs" / "imgs").mkdir(parents=True)
    (folder / "masks" / "masks").mkdir(parents=True)
    (folder / "train.csv").write_text("\n".join(train_rows))
    (folder / "test.csv").write_text("\n".join(["ImageID", *test_ids]))
    train_ids = [row.split(",")[0] for row in train_rows[1:]]
    for image_id in [*train_ids, *test_ids]:
        shutil.copy(source / "imgs" / "imgs" / f"{image_id}.jpg", folder / "imgs" / "imgs")
    for image_id in train_ids:
        shutil.copy(source / "masks" / "masks" / f"{image_id}.png", folder / "masks" / "masks")
    monkeypatch.setenv("DATA_DIR", str(folder.parent))
    return folder, train_ids, test_ids


def write(path, ids, mask_of):
    return str(write_masks(path, {id: mask_of(id) for id in ids}, load_competition("camvid")))


def test_diff_counts_the_images_that_differ(camvid, tmp_path, capsys):
    ids = camvid[2]
    plain = write(tmp_path / "a.csv", ids, lambda id: np.zeros((360, 480), np.uint8))
    other = write(tmp_path / "b.csv", ids, lambda id: np.full((360, 480), id == ids[2], np.uint8))
    assert main(["diff", plain, other, "--competition", "camvid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 of 6 images differ"
    assert [line.split()[0] for line in lines[2:-1]] == [ids[2], ids[2]]
    path = Folders.from_environment().submissions / "diff_a_b.png"
    assert lines[-1] == f"drawn: {shown(path)}"
    assert cv2.imread(str(path)).shape[1] == 1080
    path.unlink()
    assert main(["diff", plain, plain, "--competition", "camvid"]) == 0
    assert capsys.readouterr().out == "0 of 6 images differ\n"
    assert not list(Folders.from_environment().submissions.glob("*"))


def test_diff_draws_images_of_several_files_without_a_header(tmp_path, capsys, monkeypatch):
    competition = load_competition("contrails")
    folder, ids, rng = tmp_path / "data" / competition.kaggle_slug, ["11", "12"], np.random.default_rng(0)
    (folder / "train").mkdir(parents=True)
    for image_id in ids:
        (folder / "test" / image_id).mkdir(parents=True)
        for band in (11, 14, 15):
            film = rng.normal(250, 9, (24, 40, 8)).astype(np.float32)
            np.save(folder / f"test/{image_id}/band_{band}.npy", film)
    (folder / "sample_submission.csv").write_text("record_id,encoded_pixels\n11,1 1\n12,1 1\n")
    monkeypatch.setenv("DATA_DIR", str(folder.parent))
    masks = [{id: np.full((24, 40), id == other, np.uint8) for id in ids} for other in ("11", "12")]
    files = [str(write_masks(tmp_path / f"{n}.csv", own, competition)) for n, own in enumerate(masks)]
    assert main(["diff", *files, "--competition", "contrails"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 of 2 images differ") and "drawn: " in out
    drawn = cv2.imread(str(Folders.from_environment().submissions / "diff_0_1.png"))
    assert drawn.std() > 30  # neither black nor white: floats around 250 are shown by their own range
    (folder / "test/12/band_14.npy").write_bytes(b"")
    (folder / "test/12/band_11.npy").write_bytes(b"")
    assert main(["diff", *files, "--competition", "contrails"]) == 2
    assert "band_11.npy: not an image; `./run.sh NAME prepare` lists every problem" in capsys.readouterr().err


def test_score_names_the_competition_and_every_score(camvid, tmp_path, capsys):
    folder, ids, _ = camvid
    masks = folder / "masks" / "masks"
    path = write(tmp_path / "a.csv", ids, lambda id: read_mask(masks / f"{id}.png"))
    assert main(["score", path, "--masks", str(masks), "--competition", "camvid"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["competition"], found["images"], found["score"]) == ("camvid", len(ids), "dice")
    assert {name: one["mean"] for name, one in found["scores"].items()} == {"dice": 1, "iou": 1, "miou": 1}


def test_a_csv_and_a_zip_of_the_same_masks_do_not_differ_and_score_alike(camvid, tmp_path, capsys):
    folder, ids, test_ids = camvid
    masks = {id: np.full((360, 480), id == test_ids[0], np.uint8) for id in test_ids}
    rows = load_competition("camvid")
    zipped = replace(rows, submission=Submission("png_masks"))
    first = write_masks(tmp_path / "a.csv", masks, rows)
    second = write_masks(tmp_path / "b.zip", masks, zipped)
    assert main(["diff", str(first), str(second)]) == 0
    assert capsys.readouterr() == ("0 of 6 images differ\n", "")
    other = write_masks(tmp_path / "c.zip", {**masks, test_ids[1]: masks[test_ids[0]]}, zipped)
    assert main(["diff", str(first), str(other)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "1 of 6 images differ"
    truth = {id: read_mask(folder / "masks" / "masks" / f"{id}.png") % 11 for id in ids}
    found = []
    for path, competition in ((tmp_path / "d.csv", rows), (tmp_path / "d.zip", zipped)):
        write_masks(path, truth, competition)
        assert main(["score", str(path), "--masks", str(folder / "masks" / "masks")]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]


@pytest.mark.parametrize(("what", "competition"), [("masks", "camvid"), ("boxes", "bccd")])
def test_score_without_labels_is_refused(tmp_path, capsys, what, competition):
    (tmp_path / "a.csv").touch()
    absent = str(tmp_path / "none")
    assert main(["score", str(tmp_path / "a.csv"), f"--{what}", absent, "--competition", competition]) == 2
    message = f"--{what} {absent}: no such file or folder; expected the folder of the true {what}, or the file"
    assert message in capsys.readouterr().err


def test_the_competition_is_that_of_the_origin_beside_the_file(camvid, tmp_path, capsys):
    folder, ids, test_ids = camvid
    masks = str(folder / "masks" / "masks")
    path = write(tmp_path / "a.csv", ids, lambda id: read_mask(f"{masks}/{id}.png"))
    assert main(["score", path, "--masks", masks]) == 0
    assert json.loads(capsys.readouterr().out)["competition"] == "camvid"
    (tmp_path / "a.json").write_text('{"experiment": "CamVidAAA"}')  # as origins were before
    assert main(["score", path, "--masks", masks]) == 0
    assert json.loads(capsys.readouterr().out)["competition"] == "camvid"
    first = write(tmp_path / "b.csv", test_ids, lambda id: np.zeros((360, 480), np.uint8))
    second = shutil.copy(first, tmp_path / "c.csv")  # without an origin
    assert main(["diff", first, str(second)]) == 0
    assert main(["diff", str(second), first]) == 0
    second.with_suffix(".json").write_text('{"competition": "demo"}')
    assert main(["diff", first, str(second)]) == 2
    assert "b.csv is from camvid;" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["", "[1]", '{"experiment": "gone"}', None])
def test_a_competition_that_nothing_names_is_asked_for(tmp_path, capsys, damage):
    path = tmp_path / "a.csv"
    path.touch()
    if damage is not None:
        path.with_suffix(".json").write_text(damage)
    for arguments in (["score", str(path), "--masks", str(tmp_path)], ["diff", str(path), str(path)], ["log"]):
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert f"add --competition NAME, one of {', '.join(competition_names())}" in message


def test_a_missing_file_is_the_first_error(tmp_path, capsys):
    gone = str(tmp_path / "gone.csv")
    for arguments in (["score", gone, "--masks", "nowhere"], ["diff", gone, gone]):
        assert main(arguments) == 2
        assert f"there is no file {gone}; expected a submission" in capsys.readouterr().err


def test_score_compares_the_sizes_of_masks_with_those_of_images_that_are_here(camvid, tmp_path, capsys):
    folder, ids, _ = camvid
    path = write(tmp_path / "a.csv", ids, lambda id: np.zeros((361, 480), np.uint8))
    (tmp_path / "truth").mkdir()
    for id in ids:
        cv2.imwrite(str(tmp_path / "truth" / f"{id}.png"), np.zeros((361, 480), np.uint8))
    assert main(["score", path, "--masks", str(tmp_path / "truth")]) == 2
    assert "480x361, its image 480x360" in capsys.readouterr().err
    shutil.rmtree(folder)  # where the images are not here, the masks are believed
    assert main(["score", path, "--masks", str(tmp_path / "truth")]) == 0
    assert "8 of the 8 images are not here: sizes are those of their masks" in capsys.readouterr().err


def test_score_logs_what_it_leaves_out(camvid, tmp_path, capsys):
    folder, ids, _ = camvid
    masks = folder / "masks" / "masks"
    path = write(tmp_path / "a.csv", ids[1:], lambda id: read_mask(masks / f"{id}.png"))
    assert main(["score", path, "--masks", str(masks)]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["images"] == len(ids) - 1
    assert f"1 of the {len(ids)} masks in" in captured.err


@pytest.fixture
def leaderboard(tmp_path):
    """A Kaggle on this machine, which the installed client talks to."""
    images = {"a": np.zeros((2, 3), np.uint8)}
    path = Folders.from_environment().submissions / "ExpAAB.csv"
    write_masks(path, images, load_competition("aeroscapes"), local_scores={"dice": 0.81234})
    (tmp_path / "kaggle").mkdir()
    with kaggle_at(tmp_path / "kaggle") as server:
        yield server


def test_an_upload_ends_in_the_log_with_both_scores_side_by_side(leaderboard, capsys):
    assert main(["submit", "ExpAAB", "-m", "flat"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[2:] == ["ExpAAB.csv", "0.8123", "0.81", "–", "complete", "flat"]
    assert lines[3] == f"in {shown(Folders.from_environment().submissions / 'log.csv')}"
    assert main(["submit", "ExpAAB", "-m", "flat"]) == 2
    assert "add --again to upload it anyway" in capsys.readouterr().err
    assert main(["submit", "ExpAAB", "-m", "flat", "--again", "RUNTIME.DEVICE=cpu"]) == 0


def test_a_competition_that_wants_png_masks_gets_a_zip(leaderboard, capsys, project, tmp_path, monkeypatch):
    configs = shutil.copytree(project / "configs", tmp_path / "configs")
    monkeypatch.setattr(load_module, "CONFIGS", configs)
    with open(configs / "competitions" / "aeroscapes.yaml", "a") as file:
        file.write("SUBMISSION: {FORMAT: png_masks}\n")
    assert main(["submit", "ExpAAB", "-m", "flat"]) == 2
    assert "there is no ExpAAB.zip in" in capsys.readouterr().err
    images = {"a": np.zeros((2, 3), np.uint8)}
    write_masks(Folders.from_environment().submissions / "ExpAAB.zip", images, load_competition("aeroscapes"))
    assert main(["submit", "ExpAAB", "-m", "flat"]) == 0
    assert [path.name for path in (leaderboard.folder / "uploads").iterdir()] == ["ExpAAB.zip"]


def test_an_upload_is_in_the_log_though_the_network_went_right_after_it(leaderboard, capsys):
    leaderboard.mood = "goes after the upload"
    assert main(["submit", "ExpAAB", "-m", "flat"]) == 0
    out = capsys.readouterr().out
    assert "Is there a network?" in out
    assert out.endswith("its score is still to come: ./run.sh log --competition aeroscapes\n")
    path = Folders.from_environment().submissions / "log.csv"
    before = path.read_bytes()
    assert b"pending" in before
    assert main(["log", "--competition", "aeroscapes"]) == 2
    captured = capsys.readouterr()
    assert "ExpAAB.csv  0.8123" in captured.out
    assert captured.err.endswith(f"{shown(path)} is unchanged.\n")
    assert path.read_bytes() == before
    leaderboard.mood = "good"
    assert main(["log", "--competition", "aeroscapes"]) == 0
    assert path.read_text().count("\n") == 2
    assert "0.81" in path.read_text()


def test_a_log_that_cannot_be_read_is_refused_before_the_upload(leaderboard, capsys):
    (Folders.from_environment().submissions / "log.csv").write_text("my notes\n")
    assert main(["submit", "ExpAAB", "-m", "flat"]) == 2
    assert "move it away to begin a new log" in capsys.readouterr().err
    assert leaderboard.asked == []


def test_the_log_of_a_competition_that_is_not_on_kaggle_is_refused(capsys):
    assert main(["log", "--competition", "camvid"]) == 2
    assert "camvid is not a Kaggle competition" in capsys.readouterr().err
