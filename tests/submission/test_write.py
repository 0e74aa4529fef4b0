"""The submission file and its origin."""

import hashlib
import json
import random

import numpy as np
import pandas as pd
import pytest

from pipeline.config.competition import IGNORE
from pipeline.errors import UserError
from pipeline.submission.check import check_submission
from pipeline.submission.write import image_lines, is_own, write_submission
from tests.submission.scenes import CONVENTIONS, make_competition, make_images, sizes_of


def test_a_small_submission_is_written_to_the_byte(tmp_path):
    mask_HW = np.array([[0, 0, 1], [1, 4, 4]], np.uint8)
    path = write_submission(tmp_path / "sub" / "Exp.csv", [("a", mask_HW)], ["a"], make_competition(), {})
    assert path.read_bytes() == b"ImageID,EncodedPixels\na_0,0 2\na_1,2 2\na_2,\na_3,\na_4,4 2\n"


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_csv_is_the_same_in_whatever_order_the_masks_come(tmp_path, name):
    competition = make_competition(name)
    images = make_images(1, 9, competition)
    ids = list(images)
    shuffled = random.Random(0).sample(ids, len(ids))
    first = write_submission(tmp_path / "first.csv", images.items(), ids, competition, {})
    second = write_submission(
        tmp_path / "second.csv", ((image_id, images[image_id]) for image_id in shuffled), ids, competition, {}
    )
    assert first.read_bytes() == second.read_bytes()
    assert b"\r" not in first.read_bytes()
    assert check_submission(first, competition, sizes_of(images)) == []


def test_an_ignored_last_class_has_empty_rows(tmp_path):
    competition = make_competition(ignore_index=4)
    mask_HW = np.array([[0, 3, IGNORE, 4]], np.uint8)
    path = write_submission(tmp_path / "a.csv", [("a", mask_HW)], ["a"], competition, {})
    assert path.read_text().splitlines()[1:] == ["a_0,0 1", "a_1,", "a_2,", "a_3,1 1", "a_4,"]


def test_pandas_reads_what_was_written(tmp_path):
    competition = make_competition("UW-Madison")
    images = make_images(2, 3, competition)
    path = write_submission(tmp_path / "a.csv", images.items(), list(images), competition, {})
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(table.columns) == ["id", "class", "predicted"]
    assert table["class"].tolist() == list("01234") * 3


def test_the_origin_names_the_content_and_keeps_what_was_given(tmp_path):
    images = make_images(1, 2, make_competition())
    path = write_submission(tmp_path / "a.csv", images.items(), list(images), make_competition(), {"local_dice": 0.5})
    origin = json.loads((tmp_path / "a.json").read_text())
    assert origin["csv_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (origin["rows"], origin["local_dice"]) == (10, 0.5)
    assert origin["created_utc"].endswith("+00:00")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "1 of 3 images have no mask, such as c"),
        (["a", "b", "b", "c"], "image b came twice"),
        (["a", "b", "c", "d"], "image d came twice or is not among the 3"),
    ],
)
def test_missing_double_and_unknown_images_are_refused_and_the_old_file_stays(tmp_path, names, message):
    (tmp_path / "a.csv").write_text("old")
    (tmp_path / "a.json").write_text("{}")
    masks = ((name, np.zeros((2, 3), np.uint8)) for name in names)
    with pytest.raises(UserError, match=message):
        write_submission(tmp_path / "a.csv", masks, ["a", "b", "c"], make_competition(), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json"]
    assert (tmp_path / "a.csv").read_text() == "old"


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"the mask of a is \(2, 3\).*its image is \(3, 2\)"):
        write_submission(
            tmp_path / "a.csv", [("a", np.zeros((2, 3), np.uint8))], ["a"], make_competition(), {}, {"a": (3, 2)}
        )


def test_a_file_that_does_not_read_back_as_its_masks_is_not_kept(tmp_path, monkeypatch):
    """A writer that turns an image, or leaves one out, is found by decoding what it wrote."""
    images = make_images(1, 3, make_competition())
    ids = list(images)

    def write():
        write_submission(tmp_path / "a.csv", images.items(), ids, make_competition(), {})

    def turned(image_id, mask_HW, competition):
        mask_HW = mask_HW[::-1].copy() if image_id == ids[1] else mask_HW
        return image_lines(image_id, mask_HW, competition)

    monkeypatch.setattr("pipeline.submission.write.image_lines", turned)
    with pytest.raises(RuntimeError, match=f"{ids[1]} does not read back as the mask that was written"):
        write()
    monkeypatch.setattr("pipeline.submission.write.image_lines", lambda image_id, *rest: "" * (image_id == ids[2]))
    with pytest.raises(RuntimeError, match="3 images do not read back"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_our_own_while_its_origin_names_its_content(tmp_path):
    path = write_submission(tmp_path / "a.csv", [("a", np.zeros((2, 3), np.uint8))], ["a"], make_competition(), {})
    assert is_own(path)
    path.write_text(path.read_text() + "\n")
    assert not is_own(path)
    path.with_suffix(".json").write_text("[")
    assert not is_own(path)
