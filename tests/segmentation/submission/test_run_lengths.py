"""How rows are named and read back."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.competition import IGNORE
from pipeline.data.csv_file import read_cells, write_line
from pipeline.errors import UserError
from pipeline.segmentation.submission.run_lengths import EXPECTED, expected_keys, list_ids, read
from tests.segmentation.submission.scenes import (
    CONVENTIONS,
    check_submission,
    make_competition,
    make_images,
    sizes_of,
    write,
)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("AeroScapes", [("000001_001_0",), ("000001_001_1",)]),
        ("Severstal", [("000001_001_1",), ("000001_001_2",)]),
        ("UW-Madison", [("000001_001", "0"), ("000001_001", "1")]),
        ("Airbus Ship", [("000001_001",), ("000001_002",)]),
    ],
)
def test_rows_are_named_as_the_convention_says(name, keys):
    assert list(expected_keys(["000001_001", "000001_002"], make_competition(name)))[:2] == keys


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), min_size=2, max_size=3))
def test_a_written_line_is_read_back_as_it_was(cells):
    line = write_line(cells)
    if "\0" not in line:  # Python 3.10 cannot read it
        assert next(csv.reader([line], strict=True)) == cells


@pytest.mark.parametrize("name", CONVENTIONS)
def test_masks_come_back_from_the_file_they_were_written_to(tmp_path, name):
    competition = make_competition(name)
    images = make_images(3, 4, competition)
    masks = dict(read(write(tmp_path / "a.csv", images, competition), competition, sizes_of(images)))
    assert list(masks) == list(images)
    for image_id, mask_HW in images.items():
        wanted_HW = mask_HW if CONVENTIONS[name].rows != "id" else np.where(mask_HW == 1, 1, IGNORE)
        assert np.array_equal(masks[image_id], wanted_HW)


def test_a_row_of_more_than_128_kib_is_read(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("ImageID,EncodedPixels\na_0," + "1 1 " * 100_000 + "\n")
    assert [line for line, _ in read_cells(path, EXPECTED)] == [1, 2]
    assert csv.field_size_limit() == 131_072


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,pixels\na_0,\n", "the first line is 'id,pixels'; expected 'ImageID,EncodedPixels'"),
        (b"", "the file is empty; expected"),
        (b"ImageID,EncodedPixels\na_0,0 1,3\n", "line 2 has 3 cells; expected 2"),
        (
            b"ImageID,EncodedPixels\nb_0,0 1\n",
            "line 2 \\(b_0\\): no row of the 1 images .* such as .*another competition",
        ),
        (b"ImageID,EncodedPixels\na_7,0 1\n", "line 2 \\(a_7\\): no row of the 1 images"),
        (b"ImageID,EncodedPixels\na_0,0 1\na_0,\n", "line 3 \\(a_0\\): the row appears twice"),
        (b"ImageID,EncodedPixels\na_0,0 1\na_1,0 x\n", "line 3 \\(a_1\\): 'x' is not a whole number"),
        (b"ImageID,EncodedPixels\na_0,0 2\na_1,1 2\n", "rows from line 2 \\(a_0\\) on: classes 0 and 1 both have"),
        (b"ImageID,EncodedPixels\n\xff\xfe,\n", "not a csv file of UTF-8"),
        (b'ImageID,EncodedPixels\n"a_0,\n', "not a csv file"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_line_and_row(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(read(path, make_competition(), {"a": (2, 3)}))


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none\.csv"):
        list(read_cells(tmp_path / "none.csv", EXPECTED))


def test_labels_with_an_underscore_are_told_from_the_ids(tmp_path):
    competition = make_competition("AeroScapes", class_labels=("sky", "wet_road", "road"), classes=("a", "b", "c"))
    competition = replace(competition, colors=competition.colors[:3], submitted=None, ignore_index=None)
    images = {f"7_{number}": np.full((4, 5), number, np.uint8) for number in range(3)}
    path = write(tmp_path / "a.csv", images, competition)
    assert path.read_text().splitlines()[2] == "7_0_wet_road,"
    assert list_ids(path, competition) == ["7_0", "7_1", "7_2"]
    path.write_text(path.read_text().replace("7_0_wet_road", "7_0_dry_road"))
    (problem, *_) = check_submission(path, competition, sizes_of(images))
    assert "there is no class" in problem or "no test image has this id" in problem
