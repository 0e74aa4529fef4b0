"""Every known convention is detected from data alone, and what data leave open is refused."""

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.segmentation.submission.convention import detect_rows, detect_runs, join_convention
from tests.segmentation.submission.scenes import CONVENTIONS, encode_binary, make_competition, make_scene, write

names = pytest.mark.parametrize("name", CONVENTIONS)


def write_sample(folder, name, ids):
    """A sample submission with empty masks only."""
    images = {image_id: np.full((4, 5), 255, np.uint8) for image_id in ids}
    return write(folder / "sample_submission.csv", images, make_competition(name))


def train_rows(name, num_images=8, shape=(48, 80)):
    convention = CONVENTIONS[name]
    rng = np.random.default_rng(5)
    masks = [make_scene(rng, *shape, 3) == 1 for _ in range(num_images)] + [np.zeros(shape, bool)]
    return [(encode_binary(mask_HW, convention), mask_HW) for mask_HW in masks]


@names
def test_each_known_convention_is_found_from_sample_and_training_rows(tmp_path, name):
    ids = ["000001_001", "000001_002"]
    sample = detect_rows(write_sample(tmp_path, name, ids), ids)
    assert join_convention(sample, detect_runs(train_rows(name))) == CONVENTIONS[name]


def test_a_few_rows_of_a_faulty_encoder_do_not_hide_the_convention():
    rows = train_rows("Airbus Ship", num_images=20)
    rows[3] = (rows[3][0].rpartition(" ")[0] + " 1", rows[3][1])
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
        detect_runs([("1 1 5 1 9 1", mask_HW)])


def test_rows_with_gaps_or_strange_names_are_refused(tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text("id,rle\na_0,\na_2,\n")
    with pytest.raises(UserError, match=r"class numbers \[0, 2\] have gaps"):
        detect_rows(path, ["a"])
    path.write_text("id,rle\na-0,\na-1,\n")
    with pytest.raises(UserError, match="neither <id>, <id>_<class number>"):
        detect_rows(path, ["a"])
    path.write_text("id\n")
    with pytest.raises(UserError, match="two or three columns"):
        detect_rows(path, ["a"])


@pytest.mark.parametrize("name", ["camvid", "dubai_aerial"])
def test_real_samples_are_read(shared_data, name):
    folder = shared_data(name)
    ids = (folder / "test.csv").read_text().split()[1:]
    found = detect_rows(folder / "sample_submission.csv", ids)
    assert (found["rows"], found["class_base"], found["empty"]) == ("id_class", 0, "")
    assert (found["id_column"], found["value_column"]) == ("ImageID", "EncodedPixels")
