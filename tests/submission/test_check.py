"""The checker: good submissions pass, each known way to spoil one is found and named."""

import re
from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.competition import MaskCode
from pipeline.data.images import read_mask
from pipeline.errors import UserError
from pipeline.submission.check import check_submission, require_good
from pipeline.submission.rle import decode_classes, encode
from pipeline.submission.write import write_submission
from tests.submission.scenes import CONVENTIONS, make_competition, make_images, sizes_of

COMPETITION = make_competition()
IMAGES = make_images(7, 6, COMPETITION)
SIZES = sizes_of(IMAGES)
IDS = list(IMAGES)
NUM_CLASSES = len(COMPETITION.classes)


def write(folder, images=IMAGES, competition=COMPETITION):
    return write_submission(folder / "sub.csv", images.items(), list(images), competition, {})


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
            mask_HW = decode_classes([rows[key] for key in keys], *SIZES[image_id], "row", 0)
            rows.update(zip(keys, encode(np.ascontiguousarray(change(mask_HW)), NUM_CLASSES, "row", 0), strict=True))
        return [lines[0], *(f"{key},{text}" for key, text in rows.items())]

    return rewrite


MUTATIONS = {
    "a row is dropped": (lambda lines: [*lines[:4], *lines[5:]], "row 000000_007_3: missing"),
    "an image is dropped": (lambda lines: [*lines[:1], *lines[6:]], "image 000000_007: all its rows are missing"),
    "a class is dropped": (
        lambda lines: [line for line in lines if not line.split(",")[0].endswith("_4")],
        r"class 4 \(Person\): the row of every image is missing",
    ),
    "a row is there twice": (lambda lines: [*lines, lines[3]], r"line 32 \(000000_007_2\): the row is there twice, fi"),
    "two images are swapped": (
        lambda lines: [lines[0], *lines[6:11], *lines[1:6], *lines[11:]],
        r"warning: line 2 \(000001_007_0\): another order than sample_submission.csv, which has 000000_007_0 here",
    ),
    "all images are transposed": (reencoded(IDS, np.transpose), "wrong orientation: read column by column"),
    "one image is transposed": (
        reencoded(IDS[4:5], np.transpose),
        r"line 22 \(000004_007\): wrong orientation, this image",
    ),
    "all runs are one too late": (texts_changed(shifted), "6 of 6 images are unreadable scored from 0 but sound"),
    "one image is one too late": (
        lambda lines: [*lines[:1], *texts_changed(shifted)(lines[:6])[1:], *lines[6:]],
        r"line \d+ \(000000_007_\d\): run \d+ ends at pixel 5760; the last pixel is 5759",
    ),
    "two classes overlap": (replaced(2, "000000_007_1,100 40"), "overlaps line .* pixels of the image are in more"),
    "there is a class too many": (
        replaced(2, lambda line: line.replace("_1,", "_5,")),
        r"line 3 \(000000_007_5\): there is no class '5'; the 5 classes are 0 to 4",
    ),
    "classes count from 1": (
        lambda lines: [lines[0], *(re.sub(r"_(\d),", lambda m: f"_{int(m[1]) + 1},", line) for line in lines[1:])],
        "there is no class '5'",
    ),
    "a run leaves the image": (replaced(2, "000000_007_1,5759 2"), r"line 3 .*ends at pixel 5760; the last pixel"),
    "a number is missing": (replaced(2, lambda line: line + " 4"), r"line 3 \(000000_007_1\): \d+ numbers; starts and"),
    "an id is unknown": (
        replaced(2, "000000_08_1,"),
        r"line 3 \(000000_08_1\): no test image has this id; did you mean 000000_007\?",
    ),
    "the header is wrong": (replaced(0, "ImageId,EncodedPixels"), "line 1: the header is 'ImageId,EncodedPixels'; wa"),
    "the header is missing": (lambda lines: lines[1:], "line 1: the header is '000000_007_0,"),
    "a number is negative": (replaced(2, "000000_007_1,-5 2"), "line 3 .*'-5' is not a whole number"),
    "there is text": (replaced(2, "000000_007_1,none"), "line 3 .*'none' is not a whole number"),
    "a number is a float": (replaced(2, "000000_007_1,5.0 2"), "line 3 .*'5.0' is not a whole number"),
    "runs are separated by semicolons": (texts_changed(lambda text: text.replace(" ", ";")), "is not a whole number"),
    "runs are separated by commas": (texts_changed(lambda text: text.replace(" ", ",")), "cells; wanted 2"),
    "cells are separated by semicolons": (lambda lines: [line.replace(",", ";") for line in lines], "1 cells; wanted"),
    "an empty mask has another word": (texts_changed(lambda text: text or "-1"), "'-1' is not a whole number"),
    "runs go backwards": (replaced(2, "000000_007_1,50 2 10 2"), "starts before run 1"),
    "runs touch": (replaced(2, "000000_007_1,50 2 52 2"), r"run 2 \(start 52\) touches run 1; they are one run"),
    "a run has no length": (replaced(2, "000000_007_1,50 0"), "run 1 has length 0"),
    "an image has a hole": (replaced(1, "000000_007_0,"), r"line 2 \(000000_007\): \d.*% of its pixels are in no cla"),
    "masks are of another size": (
        reencoded(IDS, lambda mask_HW: mask_HW[::2, ::2]),
        "6 of 6 images are covered without a gap up to a pixel and not after it",
    ),
    "every row is empty": (texts_changed(lambda text: ""), "every row is empty"),
    "all rows are missing": (lambda lines: lines[:1], "none of the 30 rows is there"),
    "the file is empty": (lambda lines: [], "the file is empty"),
}


def problems_when(folder, name):
    """What the checker says of a good submission, and of it spoilt in a way that has a name."""
    path = write(folder)
    sample = sample_of(path)
    before = check_submission(path, COMPETITION, SIZES, sample)
    spoil(path, MUTATIONS[name][0])
    return before, check_submission(path, COMPETITION, SIZES, sample)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_submission_is_found_out_when(tmp_path, name):
    before, after = problems_when(tmp_path, name)
    assert before == []
    assert any(re.search(MUTATIONS[name][1], problem) for problem in after), after


def problems_of_good(folder, convention, seed, whole):
    """What the checker says of a good submission of drawn images; nothing, it is to be hoped."""
    competition = make_competition(convention)
    images = make_images(seed, 5, competition, whole)
    path = write_submission(folder / "sub.csv", images.items(), list(images), competition, {})
    return check_submission(path, competition, sizes_of(images), sample_of_any(path))


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
    images = {path.stem: read_mask(path, MaskCode(num_classes - 1)) for path in sorted(folder.glob("*.png"))[::stride]}
    warnings = require_good(write(tmp_path, images, competition), competition, sizes_of(images))
    assert all("of all pixels are in no class" in warning for warning in warnings)  # those of the ignored class
    other = replace(
        competition, convention=replace(competition.convention, order="row" if order != "row" else "column")
    )
    problems = check_submission(tmp_path / "sub.csv", other, sizes_of(images))
    assert any(f"wrong orientation: read {order} by {order}" in problem for problem in problems)


def sample_of_any(path):
    sample = path.with_name("sample.csv")
    lines = [line.split(",") for line in path.read_text().splitlines()]
    sample.write_text("\n".join([",".join(lines[0]), *(",".join([*cells[:-1], ""]) for cells in lines[1:])]) + "\n")
    return sample


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_finds_the_transposed_file(tmp_path, name):
    convention = CONVENTIONS[name]
    competition = make_competition(name)
    turned = {image_id: mask_HW.T.copy() for image_id, mask_HW in make_images(1, 6, competition, False).items()}
    path = write_submission(tmp_path / "sub.csv", turned.items(), list(turned), competition, {})
    sizes = {image_id: mask_HW.shape[::-1] for image_id, mask_HW in turned.items()}
    problems = check_submission(path, competition, sizes)
    assert any("wrong orientation" in problem for problem in problems), convention


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("order", ["row", "column"])
def test_a_wrong_base_shows_even_when_no_run_leaves_its_image(tmp_path, base, order):
    """With things cut by the left and right (or upper and lower) border, but nothing in the corners."""
    wanted, written = (
        make_competition(CONVENTIONS["Airbus Ship"].__class__(order, b, False, "", "id", "rle", "id", None, 0))
        for b in (base, 1 - base)
    )
    images = {}
    for number in range(4):
        mask_HW = np.zeros((60, 90), np.uint8)
        mask_HW[10 + number : 40, :30] = mask_HW[20:50, 70:] = 1
        mask_HW[:20, 35:60] = mask_HW[55:, 40 + number : 65] = 1
        images[f"p{number}"] = mask_HW
    path = write_submission(tmp_path / "sub.csv", images.items(), list(images), written, {})
    assert check_submission(path, written, sizes_of(images)) == []
    late_or_early = "late" if base == 0 else "early"
    problems = check_submission(path, wanted, sizes_of(images))
    assert len(problems) == 1
    assert f"all images lie 1 pixel too {late_or_early}" in problems[0]


def test_images_that_fold_alike_in_both_orders_raise_no_alarm(tmp_path):
    rng = np.random.default_rng(0)
    images = {
        "noise": rng.integers(NUM_CLASSES, size=(40, 160), dtype=np.uint8),
        "tall noise": rng.integers(NUM_CLASSES, size=(160, 40), dtype=np.uint8),
        "layers": np.repeat(np.arange(40, dtype=np.uint8)[:, None] % NUM_CLASSES, 170, axis=1),
        "stripes": np.repeat(np.arange(170, dtype=np.uint8)[None] % NUM_CLASSES, 40, axis=0),
        "one class": np.full((40, 170), 2, np.uint8),
        "square": make_images(0, 1, COMPETITION)["000000_000"][:60, :60].T.copy(),
    }
    assert check_submission(write(tmp_path, images), COMPETITION, sizes_of(images)) == []


def test_a_small_share_of_uncovered_pixels_everywhere_is_a_warning(tmp_path):
    images = {image_id: mask_HW.copy() for image_id, mask_HW in IMAGES.items()}
    for mask_HW in images.values():
        mask_HW[10:13, 10:20] = 255
    problems = check_submission(write(tmp_path, images), COMPETITION, SIZES)
    assert len(problems) == 1
    assert re.search(r"^warning: 0\.\d+% of all pixels are in no class, in 6 of 6 images", problems[0])


def test_a_sample_that_contradicts_the_descriptor_is_named(tmp_path):
    path = write(tmp_path)
    sample = sample_of(path)
    spoil(sample, lambda lines: ["id,rle", *lines[2:]])
    problems = check_submission(path, COMPETITION, SIZES, sample)
    assert any("sample_submission.csv, line 1: the header is 'id,rle'" in problem for problem in problems)
    assert any("1 rows differ" in problem and "000000_007_0 (missing in the sample)" in problem for problem in problems)


def test_files_that_are_no_csv_are_a_problem_not_a_crash(tmp_path):
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(256)))
    assert "UTF-8" in check_submission(binary, COMPETITION, SIZES)[0]
    assert "cannot read" in check_submission(tmp_path / "none.csv", COMPETITION, SIZES)[0]


def test_a_submission_that_is_not_good_is_refused_with_its_first_problems(tmp_path):
    path = write(tmp_path)
    sample = sample_of(path)
    assert require_good(path, COMPETITION, SIZES, sample) == []
    spoil(path, lambda lines: [lines[0], *(line + " x" for line in lines[1:])])
    with pytest.raises(UserError) as caught:
        require_good(path, COMPETITION, SIZES, sample, num_shown=3)
    message = str(caught.value)
    assert "30 problems" in message
    assert "   1  line 2 (000000_007_0): 'x' is not a whole number" in message
    assert "and 27 more" in message


def test_warnings_alone_refuse_nothing(tmp_path):
    path = write(tmp_path)
    sample = sample_of(path)
    spoil(path, lambda lines: [lines[0], *lines[:0:-1]])
    assert [problem[:8] for problem in require_good(path, COMPETITION, SIZES, sample)] == ["warning:"]
