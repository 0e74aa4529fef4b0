"""The table of what changed between two submissions."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.competition import Submission
from pipeline.errors import UserError
from pipeline.segmentation.submission.compare import COLUMNS, compare_submissions
from tests.segmentation.submission.scenes import make_competition, make_images, sizes_of, write

COMPETITION = make_competition()


def test_the_most_changed_image_comes_first_and_each_class_has_its_gains_and_losses(tmp_path):
    first = {name: np.zeros((4, 5), np.uint8) for name in "abc"}
    second = {name: mask_HW.copy() for name, mask_HW in first.items()}
    second["a"][0, 0] = 4
    second["c"][0, :4] = 1
    second["c"][1, :2] = 2
    table = compare_submissions(
        write(tmp_path / "1.csv", first, COMPETITION),
        write(tmp_path / "2.csv", second, COMPETITION),
        COMPETITION,
        sizes_of(first),
    )
    assert table.values.tolist() == [
        ["c", 0.3, "Background", 20, 14, 0, 6, 28 / 34],
        ["c", 0.3, "Road", 0, 4, 4, 0, 0.0],
        ["c", 0.3, "Tree", 0, 2, 2, 0, 0.0],
        ["a", 0.05, "Background", 20, 19, 0, 1, 38 / 39],
        ["a", 0.05, "Person", 0, 1, 1, 0, 0.0],
    ]


def test_equal_submissions_have_an_empty_table(tmp_path):
    images = make_images(0, 3, COMPETITION)
    path = write(tmp_path / "1.csv", images, COMPETITION)
    table = compare_submissions(path, path, COMPETITION, sizes_of(images))
    assert list(table.columns) == COLUMNS
    assert table.empty


@pytest.mark.parametrize("left_out", [0, 2])
def test_submissions_of_other_images_are_refused(tmp_path, left_out):
    images = make_images(0, 3, COMPETITION)
    ids = list(images)
    fewer = {image_id: images[image_id] for image_id in ids if image_id != ids[left_out]}
    whole, part = write(tmp_path / "1.csv", images, COMPETITION), write(tmp_path / "2.csv", fewer, COMPETITION)
    with pytest.raises(UserError, match="only one of them has 0000"):
        compare_submissions(whole, part, COMPETITION, sizes_of(images))
    with pytest.raises(UserError, match="only one of them has 0000"):
        compare_submissions(part, whole, COMPETITION, sizes_of(images))


@pytest.mark.parametrize("convention", ["AeroScapes", "Airbus Ship"])
def test_a_csv_is_compared_with_a_zip_over_the_scored_classes(tmp_path, convention):
    """With one row per image the csv holds no background, which the zip has."""
    by_rows = make_competition(convention)
    by_masks = replace(by_rows, submission=Submission("png_masks"))
    images = make_images(0, 3, by_rows)
    changed = {image_id: mask_HW.copy() for image_id, mask_HW in images.items()}
    changed["000001_000"][:2, :3] = (changed["000001_000"][0, 0] + 1) % len(by_rows.classes)
    path, same, other = (
        write(tmp_path / "1.csv", images, by_rows),
        write(tmp_path / "2.zip", images, by_masks),
        write(tmp_path / "3.zip", changed, by_masks),
    )
    for competition in (by_rows, by_masks):
        assert compare_submissions(path, same, competition, sizes_of(images)).empty
        table, turned = (
            compare_submissions(*files, competition, sizes_of(images)) for files in ((path, other), (other, path))
        )
        assert set(table["id"]) == {"000001_000"}
        assert table["gained_px"].tolist() == turned["lost_px"].tolist()
        assert (table["gained_px"] + table["lost_px"]).sum() > 0
