"""Run lengths with a row per object: written, read back, checked, compared and scored."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.config.competition import Convention, MaskCsv, Objects
from pipeline.errors import UserError
from pipeline.segmentation.objects import renumbered
from pipeline.segmentation.submission.check_run_lengths import check_sample
from pipeline.segmentation.submission.compare import compare_submissions
from pipeline.segmentation.submission.score import score_file
from pipeline.submission.formats import format_of
from tests.segmentation.submission.scenes import (
    CLASSES,
    check_submission,
    make_competition,
    sizes_of,
    write,
    write_foreign,
)

SHIPS = replace(make_competition("Airbus Ship"), objects=Objects("components"), score="object_ap")
KINDS = {
    "an id alone": SHIPS,
    "row by row": replace(SHIPS, convention=replace(SHIPS.convention, order="row", base=0, empty="-1")),
    "relative": replace(SHIPS, convention=Convention("column", 0, True, "-1", rows="id")),
    "classes behind ids": replace(make_competition("AeroScapes"), objects=Objects("watershed"), submitted=CLASSES[1:]),
    "classes in a column": replace(
        make_competition("UW-Madison"), objects=Objects("watershed"), submitted=("Tree", "Road")
    ),
    "rows of objects alone": replace(
        make_competition("UW-Madison"),
        objects=Objects("components", empty_rows="image"),
        submitted=("Tree", "Road"),
    ),
}


def maps(classes: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Object maps of up to five objects; objects that touch, in pieces, one inside another."""
    codes = [0, *(256 * number + classes[number % len(classes)] for number in range(1, 6))]
    return npst.arrays(np.int32, npst.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.sampled_from(codes))


def table(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


@settings(max_examples=60)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_what_is_read_is_what_was_written_whatever_the_numbers_were(tmp_path_factory, kind, data):
    competition = KINDS[kind]
    drawn = data.draw(st.lists(maps(competition.scored_indices), min_size=1, max_size=3))
    images = {f"{number}.jpg": objects for number, objects in enumerate(drawn)}
    path = write(tmp_path_factory.mktemp("rows") / "a.csv", images, competition)
    assert [line for line in check_submission(path, competition, sizes_of(images)) if "warning" not in line] == []
    found = dict(format_of(competition).read(path, competition, sizes_of(images)))
    for image_id, objects in images.items():
        wanted = renumbered(objects)
        assert (found[image_id] == np.where(wanted == 0, 255, wanted)).all()
        rows = [row for row in table(path)[1:] if row[0].startswith(image_id)]
        num_objects = len(np.unique(wanted[wanted > 0]))
        empty = sum(not (objects % 256 == index).any() for index in competition.submitted_indices)
        if competition.objects.empty_rows == "image":
            empty = num_objects == 0
        assert len(rows) == num_objects + empty


def two_ships() -> np.ndarray:
    """Two that touch, and a third one above them to the right: their first pixels are in the rows 2, 4 and 4."""
    objects = np.zeros((12, 20), np.int32)
    objects[4:8, 2:6], objects[4:8, 6:10], objects[2:4, 12:16] = 1281, 257, 769
    return objects


def test_rows_are_in_the_order_of_images_then_of_the_top_left_pixels(tmp_path):
    images = {"b.jpg": two_ships(), "a.jpg": np.zeros((12, 20), np.int32)}
    path = write(tmp_path / "a.csv", images, SHIPS)
    ids, texts = zip(*table(path)[1:], strict=True)
    assert ids == ("b.jpg", "b.jpg", "b.jpg", "a.jpg")
    firsts = [int(text.split()[0]) - 1 for text in texts[:3]]  # down the columns, from 1
    assert [(first % 12, first // 12) for first in firsts] == [(2, 12), (4, 2), (4, 6)]
    assert texts[3] == ""


FAULTS = {
    "overlaps": (lambda rows: [*rows, ["b.jpg", "29 3"]], "3 pixels of the image are in more than one object"),
    "a row twice": (lambda rows: [*rows, rows[1]], "line 6 (b.jpg): overlaps line 2 (b.jpg)"),
    "empty beside objects": (lambda rows: [*rows, ["b.jpg", ""]], "line 6 (b.jpg): empty, though there are rows of"),
    "empty twice": (lambda rows: [*rows, ["a.jpg", ""]], "line 5 (a.jpg): empty, though there are rows of objects"),
    "an image missing": (lambda rows: rows[:-1], "image a.jpg: all its rows are missing"),
    "another image": (lambda rows: [*rows, ["c.jpg", "1 2"]], "line 6 (c.jpg): no test image has this id"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_rows_of_objects_is_found_with_its_line(tmp_path, fault):
    images = {"b.jpg": two_ships(), "a.jpg": np.zeros((12, 20), np.int32)}
    path = write_foreign(tmp_path / "a.csv", images, SHIPS)
    change, wanted = FAULTS[fault]
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(change(rows))
    assert any(wanted in line for line in check_submission(path, SHIPS, sizes_of(images)))
    without_objects = replace(SHIPS, objects=Objects())
    assert any("appears twice" in line for line in check_submission(path, without_objects, sizes_of(images)))


def test_a_sample_may_have_several_rows_of_an_image(tmp_path):
    sample = tmp_path / "sample.csv"
    sample.write_text("ImageId,EncodedPixels\na.jpg,1 2\na.jpg,5 2\nb.jpg,1 2\n")
    assert check_sample(SHIPS, sample, {"a.jpg", "b.jpg"}) == []
    (problem,) = check_sample(replace(SHIPS, objects=Objects()), sample, {"a.jpg", "b.jpg"})
    assert problem.kind == "sample row twice"
    images = {"a.jpg": two_ships(), "b.jpg": two_ships()}
    path = write(tmp_path / "a.csv", images, SHIPS)
    assert check_submission(path, SHIPS, sizes_of(images), sample) == []


def test_an_image_has_rows_of_its_objects_and_one_empty_row_only_without_any(tmp_path):
    competition = KINDS["rows of objects alone"]
    objects = np.zeros((4, 5), np.int32)
    objects[1:3, 1:3] = 256 + CLASSES.index("Tree")
    images = {"a.jpg": objects, "b.jpg": np.zeros((4, 5), np.int32)}
    path = write(tmp_path / "a.csv", images, competition)
    labels = [competition.label_texts[CLASSES.index(name)] for name in ("Tree", "Road")]
    text = "7 2 12 2"  # row by row, from 1
    assert table(path) == [["id", "class", "predicted"], ["a.jpg", labels[0], text], ["b.jpg", labels[0], ""]]
    sample = tmp_path / "sample.csv"
    sample.write_text(f"id,class,predicted\na.jpg,{labels[1]},1 2\nb.jpg,{labels[1]},1 2\n")
    assert check_sample(competition, sample, set(images)) == []
    assert check_submission(path, competition, sizes_of(images), sample) == []
    (problem,) = check_sample(competition, sample, {*images, "c.jpg"})
    assert problem.found == "c.jpg: no row"
    (problem,) = check_sample(replace(competition, objects=Objects("components")), sample, set(images))
    assert problem.found == "no row of Tree" and problem.fix.startswith("where an image has rows of its objects only")
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:2], f"a.jpg,{labels[1]},", ""]))
    assert check_submission(path, competition, sizes_of(images)) == [
        f"line 3 (a.jpg,{labels[1]}): empty, though there are rows of objects; remove it",
        "image b.jpg: all its rows are missing",
    ]


def test_objects_that_overlap_are_refused_when_a_file_is_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ImageId,EncodedPixels\na.jpg,1 5\na.jpg,4 9\n")
    with pytest.raises(UserError, match=r"rows from line 2 \(a.jpg\) on: objects 1 and 2 both have the pixel x 0, y 3"):
        list(format_of(SHIPS).read(path, SHIPS, {"a.jpg": (12, 20)}))


def test_two_submissions_that_differ_in_how_pixels_are_parted_do_differ(tmp_path):
    parted = two_ships()
    merged = np.where(parted == 1281, 257, parted).astype(np.int32)
    moved = np.where(parted == 769, 0, parted).astype(np.int32)
    files = [write(tmp_path / f"{name}.csv", {"a.jpg": one, "b.jpg": parted}, SHIPS) for name, one in
             {"parted": parted, "merged": merged, "moved": moved}.items()]  # fmt: skip
    sizes = {"a.jpg": parted.shape, "b.jpg": parted.shape}
    assert len(compare_submissions(files[0], files[0], SHIPS, sizes)) == 0
    (row,) = compare_submissions(files[0], files[1], SHIPS, sizes).to_dict("records")
    assert (row["id"], row["gained_px"], row["lost_px"], row["dice"]) == ("a.jpg", 0, 0, 1.0)
    assert (row["first_objects"], row["second_objects"], row["same_objects"]) == (3, 2, 1)
    assert row["image_changed_share"] == pytest.approx(32 / 240)
    (row,) = compare_submissions(files[0], files[2], SHIPS, sizes).to_dict("records")
    assert (row["lost_px"], row["first_objects"], row["second_objects"], row["same_objects"]) == (8, 3, 2, 2)


def test_a_file_is_scored_by_the_objects_that_mask_files_number(tmp_path):
    true = two_ships()
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), (true // 256 * 300).astype(np.uint16))
    merged = np.where(true == 1281, 257, true).astype(np.int32)
    numbered = replace(SHIPS, masks="masks/{stem}.png", mask_values="objects")
    whole = replace(SHIPS, masks="masks/{stem}.png", mask_values={"Background": (0,), "Road": "others"})
    for objects, competition, wanted in (
        (true, numbered, 1.0),
        (merged, numbered, 1 / 4),  # of two and three objects one is a hit
        (true, whole, 1 / 4),  # in a mask without numbers, objects that touch are one
        (merged, whole, 1.0),
    ):
        path = write(tmp_path / "a.csv", {"a.jpg": objects}, competition)
        scores = score_file(path, tmp_path / "masks", competition)["scores"]
        assert scores["object_ap"]["mean"] == pytest.approx(wanted)
        assert scores["dice"]["mean"] == 1.0


def test_a_file_is_scored_by_the_rows_of_the_labels(tmp_path):
    true = two_ships()
    merged = np.where(true == 1281, 257, true).astype(np.int32)
    labels = write_foreign(tmp_path / "labels.csv", {"a.jpg": true, "b.jpg": true * 0}, SHIPS)
    by_rows = replace(SHIPS, masks=MaskCsv("train.csv"), id_column="ImageId")
    path = write(tmp_path / "a.csv", {"a.jpg": merged, "b.jpg": true * 0}, SHIPS)
    lines: list[str] = []

    def sizes_of_images(ids):
        return dict.fromkeys(ids, (12, 20))

    scores = score_file(path, labels, by_rows, sizes_of_images, lines.append)["scores"]
    assert scores["object_ap"]["mean"] == pytest.approx((1 / 4 + 1) / 2)
    assert lines[0] == f"1 of the 2 images have no run lengths in {labels} and count as empty"
    with pytest.raises(UserError, match=r"the size of a.jpg in .* is not known"):
        score_file(path, labels, by_rows)
    with pytest.raises(UserError, match="is a file, but test has its masks in files; name their folder"):
        score_file(path, labels, SHIPS, sizes_of_images)
    labels.write_text("ImageId,EncodedPixels\nc.jpg,1 2\n")
    with pytest.raises(UserError, match=r"no run lengths for any of the 2 images .*, such as a.jpg"):
        score_file(path, labels, by_rows, sizes_of_images)
