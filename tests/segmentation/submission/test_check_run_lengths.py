"""The check: good submissions pass, each known way to spoil one is refused, warned of or hinted at by name."""

import re
from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.competition import Convention
from pipeline.config.mask_code import mask_code
from pipeline.errors import UserError
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.submission.check_run_lengths import check_sample
from pipeline.segmentation.submission.rle import decode_classes, encode
from pipeline.segmentation.submission.run_lengths import expected_keys, header_columns
from pipeline.submission.file import find_hints, require_good
from tests.segmentation.submission.scenes import (
    CONVENTIONS,
    check_submission,
    make_competition,
    make_images,
    sizes_of,
    write,
    write_foreign,
)

COMPETITION = make_competition()
IMAGES = make_images(7, 12, COMPETITION)
SIZES = sizes_of(IMAGES)
IDS = list(IMAGES)
NUM_CLASSES = len(COMPETITION.classes)


def sample_of(path):
    """A sample submission: the same rows without runs."""
    sample = path.with_name("sample_submission.csv")
    header, *rows = path.read_text().splitlines()
    sample.write_text("\n".join([header, *(row.split(",")[0] + "," for row in rows)]) + "\n")
    return sample


def spoil(path, change):
    """Rewrites the lines of a submission (without line ends)."""
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")


def replaced(place, line):
    return lambda lines: [*lines[:place], line(lines[place]) if callable(line) else line, *lines[place + 1 :]]


def texts_changed(change):
    """Applies `change(text)` to the run lengths of every row."""

    def rewrite(lines):
        split = [line.split(",") for line in lines[1:]]
        return [lines[0], *(f"{key},{change(text)}" for key, text in split)]

    return rewrite


def shifted(text, places=1):
    numbers = [int(number) for number in text.split()]
    numbers[::2] = [start + places for start in numbers[::2]]
    return " ".join(map(str, numbers))


def reencoded(ids, change):
    """Applies `change(mask_HW)`, written row by row at whatever shape results, to some images."""

    def rewrite(lines):
        rows = dict(line.split(",") for line in lines[1:])
        for image_id in ids:
            keys = [f"{image_id}_{index}" for index in range(NUM_CLASSES)]
            mask_HW = decode_classes([rows[key] for key in keys], *SIZES[image_id], Convention())
            rows.update(
                zip(keys, encode(np.ascontiguousarray(change(mask_HW)), NUM_CLASSES, Convention()), strict=True)
            )
        return [lines[0], *(f"{key},{text}" for key, text in rows.items())]

    return rewrite


def cut_first_run(line):
    key, text = line.split(",")
    start, length, *others = text.split()
    return f"{key},{start} 1 {int(start) + 1} {int(length) - 1} {' '.join(others)}"


FAULTS = {
    "a row is dropped": (lambda lines: [*lines[:4], *lines[5:]], "row 000000_007_3: missing"),
    "an image is dropped": (lambda lines: [*lines[:1], *lines[6:]], "image 000000_007: all its rows are missing"),
    "a class is dropped": (
        lambda lines: [line for line in lines if not line.split(",")[0].endswith("_4")],
        r"class 4 \(Person\): the row of every image is missing",
    ),
    "a row is there twice": (lambda lines: [*lines, lines[3]], r"line 62 \(000000_007_2\): the row appears twice, fir"),
    "all runs are one too late": (
        texts_changed(shifted),
        "12 of 12 images do not fit with BASE: 0, and do with BASE: 1",
    ),
    "one image is one too late": (
        lambda lines: [*lines[:1], *texts_changed(shifted)(lines[:6])[1:], *lines[6:]],
        r"line \d+ \(000000_007_\d\): run \d+ ends at pixel 5760; the last pixel is 5759",
    ),
    "two classes overlap": (replaced(2, "000000_007_1,100 40"), "overlaps line .* pixels of the image are in more"),
    "there is a class too many": (
        replaced(2, lambda line: line.replace("_1,", "_5,")),
        r"line 3 \(000000_007_5\): there is no class '5'; the \d classes are 0, 1, 2",
    ),
    "classes count from 1": (
        lambda lines: [lines[0], *(re.sub(r"_(\d),", lambda m: f"_{int(m[1]) + 1},", line) for line in lines[1:])],
        "there is no class '5'",
    ),
    "a run leaves the image": (replaced(2, "000000_007_1,5759 2"), r"line 3 .*ends at pixel 5760; the last pixel"),
    "a number is missing": (replaced(2, lambda line: line + " 4"), r"line 3 \(000000_007_1\): found \d+ numbers; exp"),
    "an id is unknown": (
        replaced(2, "000000_08_1,"),
        r"line 3 \(000000_08_1\): no test image has this id; did you mean 000000_007\?",
    ),
    "the header is wrong": (replaced(0, "ImageId,EncodedPixels"), "line 1: the header is 'ImageId,EncodedPixels'; ex"),
    "the header is missing": (lambda lines: lines[1:], "line 1: the header is '000000_007_0,"),
    "a number is negative": (replaced(2, "000000_007_1,-5 2"), "line 3 .*'-5' is not a whole number"),
    "there is text": (replaced(2, "000000_007_1,none"), "line 3 .*'none' is not a whole number"),
    "a number is a float": (replaced(2, "000000_007_1,5.0 2"), "line 3 .*'5.0' is not a whole number"),
    "runs are separated by semicolons": (texts_changed(lambda text: text.replace(" ", ";")), "is not a whole number"),
    "runs are separated by commas": (texts_changed(lambda text: text.replace(" ", ",")), "cells; expected 2"),
    "cells are separated by semicolons": (
        lambda lines: [line.replace(",", ";") for line in lines],
        "1 cells; expected",
    ),
    "an empty mask has another word": (texts_changed(lambda text: text or "-1"), "'-1' is not a whole number"),
    "runs go backwards": (replaced(2, "000000_007_1,50 2 10 2"), "starts before run 1"),
    "a run has no length": (replaced(2, "000000_007_1,50 0"), "run 1 has length 0"),
    "all rows are missing": (lambda lines: lines[:1], "all 60 rows are missing"),
    "the file is empty": (lambda lines: [], "the file is empty"),
}


WARNINGS = {
    "two images are swapped": (
        lambda lines: [lines[0], *lines[6:11], *lines[1:6], *lines[11:]],
        r"warning: line 2 \(000001_007_0\): another order than sample_submission.csv, which has 000000_007_0 here",
    ),
    "runs touch": (
        replaced(1, cut_first_run),
        r"warning: 1 rows have runs that touch .* line 2 \(000000_007_0\): run 2 \(start \d+\) touches run 1",
    ),
    "every row is empty": (texts_changed(lambda text: ""), "warning: no class has a single pixel in any image"),
}

HINTS = {
    "all images are transposed": (
        reencoded(IDS, np.transpose),
        "12 of 12 images are clearly smoother read column by c",
    ),
    "masks are of another size": (
        reencoded(IDS, lambda mask_HW: mask_HW[::2, ::2]),
        "12 of 12 images are covered without a gap up to a pixel and not after it",
    ),
    "an image has a hole": (
        replaced(1, "000000_007_0,"),
        r"\d\.\d+% of all pixels are in no class, in 1 of 12 images, such as 000000_007",
    ),
}


def spoilt(folder, change):
    """A submission of another program that was good before `change`, and the sample submission."""
    path = write_foreign(folder / "sub.csv", IMAGES, COMPETITION)
    sample = sample_of(path)
    assert check_submission(path, COMPETITION, SIZES, sample) == find_hints(path, COMPETITION, SIZES) == []
    spoil(path, change)
    return path, sample


def is_refused(folder, name):
    """Whether a submission that is spoilt so is refused for that reason."""
    change, message = FAULTS[name]
    path, sample = spoilt(folder, change)
    try:
        require_good(path, COMPETITION, SIZES, sample, num_shown=100)
    except UserError as error:
        return bool(re.search(message, str(error)))
    return False


def is_warned_of(folder, name):
    """Whether it passes with that warning alone."""
    change, message = WARNINGS[name]
    path, sample = spoilt(folder, change)
    return bool(re.search(message, "\n".join(require_good(path, COMPETITION, SIZES, sample))))


def is_hinted_at(folder, name):
    """Whether it passes, and there is that hint."""
    change, message = HINTS[name]
    path, sample = spoilt(folder, change)
    assert require_good(path, COMPETITION, SIZES, sample) == []
    return bool(re.search(message, "\n".join(find_hints(path, COMPETITION, SIZES))))


@pytest.mark.parametrize("name", FAULTS)
def test_a_submission_is_refused_when(tmp_path, name):
    assert is_refused(tmp_path, name)


@pytest.mark.parametrize("name", WARNINGS)
def test_there_is_a_warning_when(tmp_path, name):
    assert is_warned_of(tmp_path, name)


@pytest.mark.parametrize("name", HINTS)
def test_there_is_a_hint_when(tmp_path, name):
    assert is_hinted_at(tmp_path, name)


def problems_of_good(folder, convention, seed, whole):
    """The problems and hints of a good submission of drawn images, as if from another program; there should be none."""
    competition = make_competition(convention)
    images = make_images(seed, 12, competition, whole)
    path = write_foreign(folder / "sub.csv", images, competition)
    problems = check_submission(path, competition, sizes_of(images), sample_of_any(path))
    return problems + find_hints(path, competition, sizes_of(images))


@pytest.mark.parametrize("name", CONVENTIONS)
@pytest.mark.parametrize("whole", [True, False])
def test_good_submissions_pass_under_every_convention(tmp_path, name, whole):
    for seed in range(10):  # 10 seeds x 10 conventions x 2 = 200 good submissions
        assert problems_of_good(tmp_path, name, seed, whole) == []


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize(("name", "num_classes", "stride"), [("camvid", 12, 12), ("dubai_aerial", 6, 4)])
def test_real_masks_pass(shared_data, tmp_path, name, num_classes, stride, order):
    competition = make_competition(
        replace(CONVENTIONS["AeroScapes"], order=order),
        classes=tuple("abcdefghijkl"[:num_classes]), ignore_index=num_classes - 1,
    )  # fmt: skip
    folder = shared_data(name) / "masks" / "masks"
    images = {path.stem: read_mask(path, mask_code(competition)) for path in sorted(folder.glob("*.png"))[::stride]}
    path = write_foreign(tmp_path / "sub.csv", images, competition)
    assert require_good(path, competition, sizes_of(images)) == find_hints(path, competition, sizes_of(images)) == []


def sample_of_any(path):
    sample = path.with_name("sample.csv")
    lines = [line.split(",") for line in path.read_text().splitlines()]
    sample.write_text("\n".join([",".join(lines[0]), *(",".join([*cells[:-1], ""]) for cells in lines[1:])]) + "\n")
    return sample


def test_a_sample_that_contradicts_the_descriptor_is_named(tmp_path):
    path = write(tmp_path / "sub.csv", IMAGES, COMPETITION)
    sample = sample_of(path)
    spoil(sample, lambda lines: ["id,rle", *lines[2:]])
    problems = check_submission(path, COMPETITION, SIZES, sample)
    assert any("sample_submission.csv, line 1: the header is 'id,rle'" in problem for problem in problems)
    assert any(problem.startswith("warning: sample_submission.csv lacks 1 rows of the test im") for problem in problems)
    spoil(sample, lambda lines: [*lines, "other_0,"])
    problems = check_submission(path, COMPETITION, SIZES, sample)
    assert any("sample_submission.csv: 1 rows are not of the test images" in problem for problem in problems)


def test_a_sample_that_cannot_be_read_is_a_warning(tmp_path):
    (warning,) = require_good(
        write(tmp_path / "sub.csv", IMAGES, COMPETITION), COMPETITION, SIZES, tmp_path / "none.csv"
    )
    assert warning.startswith("warning: not compared with the sample submission: cannot read")


def test_files_that_are_no_csv_are_a_problem_not_a_crash(tmp_path):
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(256)))
    assert "UTF-8" in check_submission(binary, COMPETITION, SIZES)[0]
    assert "cannot read" in check_submission(tmp_path / "none.csv", COMPETITION, SIZES)[0]


def test_a_submission_that_is_not_good_is_refused_with_its_first_problems(tmp_path):
    path = write(tmp_path / "sub.csv", IMAGES, COMPETITION)
    sample = sample_of(path)
    assert require_good(path, COMPETITION, SIZES, sample) == []
    spoil(path, lambda lines: [lines[0], *(line + " x" for line in lines[1:])])
    with pytest.raises(UserError) as caught:
        require_good(path, COMPETITION, SIZES, sample, num_shown=3)
    message = str(caught.value)
    assert "60 problems" in message
    assert "   1  line 2 (000000_007_0): 'x' is not a whole number" in message
    assert "and 57 more" in message


def test_warnings_alone_refuse_nothing(tmp_path):
    path = write(tmp_path / "sub.csv", IMAGES, COMPETITION)
    sample = sample_of(path)
    spoil(path, lambda lines: [lines[0], *lines[:0:-1]])
    assert [problem[:8] for problem in require_good(path, COMPETITION, SIZES, sample)] == ["warning:"]


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("AeroScapes", lambda rows: [*rows, "c_0,"], [("sample row unknown", "line 10: c_0")]),
        ("AeroScapes", lambda rows: [*rows, "a_9,"], [("sample row unknown", "line 10: a_9")]),
        ("AeroScapes", lambda rows: [*rows, rows[0]], [("sample row twice", "a_0 in lines 2 and 10")]),
        ("AeroScapes", lambda rows: rows[:-2], [("sample row missing", "b: no row for class 2, 3")]),
        ("AeroScapes", lambda rows: rows[:4], [("sample row missing", "b: no row")]),
        ("Severstal", lambda rows: [*rows[1:4], *rows[5:]], [("sample without a class", "no row of Background")]),
        ("UW-Madison", lambda rows: rows[:-1], [("sample row missing", "b: no row for class 3")]),
        ("UW-Madison", lambda rows: [*rows, "b,4,", "b,7,"], [
            ("sample row unknown", "line 10: b, 4"), ("sample row unknown", "line 11: b, 7")]),
        ("Carvana", lambda rows: [*rows, "a,"], [("sample row twice", "a in lines 2 and 4")]),
        ("Carvana", lambda rows: rows[1:], [("sample row missing", "a: no row")]),
    ],
)  # fmt: skip
def test_the_sample_is_checked_before_anything_is_trained(tmp_path, name, change, found):
    competition, sample = make_competition(name), tmp_path / "sample.csv"
    if competition.convention.rows != "id":
        competition = replace(competition, submitted=competition.classes[:4])
    header, keys = header_columns(competition.convention), list(expected_keys("ab", competition))
    rows = [",".join([*key, ""]) for key in keys]
    for lines, wanted in ((rows, []), (change(rows), found)):
        sample.write_text("\n".join([",".join(header), *lines]) + "\n")
        problems = check_sample(competition, sample, {"a", "b"})
        assert [(problem.kind, problem.found) for problem in problems] == wanted
