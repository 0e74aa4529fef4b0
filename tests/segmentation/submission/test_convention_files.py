"""A competition's convention, found by a user with its own files and one command."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.config.competition import Convention, Submission
from pipeline.errors import UserError
from pipeline.segmentation.submission.convention import convention_text, find_convention
from tests.segmentation.submission.scenes import CONVENTIONS, make_competition, make_images, write

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
    assert "  ORDER: column    # now row" in lines
    assert '  EMPTY: "-1"    # now ""' in lines
    assert convention_text(CONVENTIONS["Carvana"], make_competition("Carvana")).endswith(
        "This is the CONVENTION that it has."
    )


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
