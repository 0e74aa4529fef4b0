"""TIFF masks in a zip and arrays in an npz: written, checked, scored and compared, and read by other libraries."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.config.check_competition import check_competition
from pipeline.config.competition import IGNORE, Submission
from pipeline.errors import UserError
from pipeline.segmentation.labels import empty_mask
from pipeline.segmentation.submission.compare import compare_submissions
from pipeline.segmentation.submission.score import score_file
from pipeline.submission.file import require_good
from pipeline.submission.formats import format_of, format_of_file
from tests.segmentation.submission.scenes import (
    COLORS,
    PNG_KINDS,
    check_submission,
    make_competition,
    make_images,
    sizes_of,
    write,
    write_foreign,
)

SUFFIX = {"tiff_masks": ".zip", "npz": ".npz"}
FORMS = tuple(SUFFIX)
STORED = [kind for kind in PNG_KINDS if kind != "a folder"]


def competition_of(form: str, kind: str = "indices", **changes):
    """The same as `make_png_competition`, in another format."""
    keys = dict(PNG_KINDS[kind])
    submission = Submission(form, changes.pop("file", None), keys.pop("values", None))
    return make_competition(submission=submission, colors=COLORS, **keys, **changes)


def read_by_others(path, form: str) -> dict[str, np.ndarray]:
    """What tifffile or NumPy find in a file, by the name of the mask without its suffix."""
    if form == "npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    with zipfile.ZipFile(path) as zipped:
        return {name.removesuffix(".tif"): tifffile.imread(io.BytesIO(zipped.read(name))) for name in zipped.namelist()}


def expected(mask: np.ndarray, kind: str) -> np.ndarray:
    """The stored values of an index mask, RGB for colours."""
    keys = PNG_KINDS[kind]
    stored = keys.get("values", keys.get("mask_values", tuple(range(5))))
    table = np.array(COLORS if stored == "colors" else range(5) if stored == "indices" else stored, np.uint8)
    return table[mask]


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("form", FORMS)
def test_other_libraries_read_what_submission_values_says(tmp_path, form, kind):
    competition = competition_of(form, kind)
    images = make_images(3, 4, competition)
    path = write(tmp_path / f"a{SUFFIX[form]}", images, competition)
    found = read_by_others(path, form)
    assert list(found) == list(images)
    for image_id, mask in images.items():
        assert found[image_id].dtype == np.uint8
        assert np.array_equal(found[image_id], expected(mask, kind))
    assert check_submission(path, competition, sizes_of(images)) == []
    again = dict(format_of(competition).read(path, competition, sizes_of(images)))
    ignored = competition.ignore_index if competition.ignore_index in range(5) else None
    for image_id, mask in images.items():
        assert np.array_equal(again[image_id], np.where(mask == ignored, IGNORE, mask) if ignored else mask)


def test_inria_gets_compressed_tiffs_of_0_and_255_under_the_names_of_its_images(tmp_path):
    competition = replace(
        make_competition("Carvana", mask_values=(0, 255), images="images/{id}.tif"),
        submission=Submission("tiff_masks", "{id}.tif"),
    )
    mask = np.zeros((500, 700), np.uint8)
    cv2.circle(mask, (300, 200), 90, 1, -1)
    path = write(tmp_path / "a.zip", {"bellingham1": mask}, competition)
    with zipfile.ZipFile(path) as zipped:
        assert zipped.namelist() == ["bellingham1.tif"]
        data = zipped.read("bellingham1.tif")
    assert len(data) < mask.size / 20
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        (page,) = tiff.pages
        assert page.compression.name == "ADOBE_DEFLATE" and page.dtype == np.uint8 and page.shape == mask.shape
    assert np.unique(np.array(Image.open(io.BytesIO(data)))).tolist() == [0, 255]


@pytest.mark.parametrize("form", FORMS)
def test_names_are_those_of_submission_file_and_bytes_are_the_same_each_time(tmp_path, form):
    ending = {"tiff_masks": ".tif", "npz": ".npy"}[form]
    competition = competition_of(form, file=f"results/{{id}}_labels{ending}")
    images = make_images(4, 3, competition)
    path, twin = (write(tmp_path / f"{name}{SUFFIX[form]}", images, competition) for name in "ab")
    assert path.read_bytes() == twin.read_bytes()
    assert list(read_by_others(path, form)) == [f"results/{image_id}_labels" for image_id in images]
    assert format_of(competition).list_ids(path, competition) == list(images)
    with pytest.raises(UserError, match=r"SUBMISSION.FILE.*end with .*write for example \{id\}\.(tif|npy)"):
        check_competition(competition_of(form, file="{id}.png"), {})


@pytest.mark.parametrize("form", FORMS)
def test_it_is_scored_and_compared_like_run_lengths_of_the_same_masks(tmp_path, form):
    competition, by_rows = competition_of(form), make_competition()
    truth = make_images(5, 3, competition)
    guess = {image_id: np.roll(mask, 3, 1) for image_id, mask in truth.items()}
    (tmp_path / "masks").mkdir()
    for image_id, mask in truth.items():
        cv2.imwrite(str(tmp_path / "masks" / f"{image_id}.png"), mask)
    path, rows = write(tmp_path / f"a{SUFFIX[form]}", guess, competition), write(tmp_path / "rows.csv", guess, by_rows)
    assert score_file(path, tmp_path / "masks", competition) == score_file(rows, tmp_path / "masks", by_rows)
    assert not len(compare_submissions(path, rows, competition, sizes_of(truth)))
    right = write(tmp_path / f"b{SUFFIX[form]}", truth, competition)
    changed = compare_submissions(path, right, competition, sizes_of(truth))
    assert changed["id"].nunique() == 3
    assert json.loads(path.with_suffix(".json").read_text())["format"] == form


def spoiled(form: str, name: str, data: bytes, tmp_path):
    """A submission whose first file is another one; the images, the competition and the path."""
    competition = competition_of(form)
    images = make_images(6, 2, competition)
    path = write_foreign(tmp_path / f"a{SUFFIX[form]}", images, competition)
    with zipfile.ZipFile(path) as zipped:
        entries = {entry: zipped.read(entry) for entry in zipped.namelist()}
    first = next(iter(entries))
    with zipfile.ZipFile(path, "w") as zipped:
        for entry, content in entries.items():
            zipped.writestr(name if entry == first and name else entry, data if entry == first else content)
    return images, competition, path


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def tiff(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


GOOD = np.zeros((60, 96), np.uint8)
FAULTS = {
    "a TIFF of 16 bits": ("tiff_masks", tiff(GOOD.astype(np.uint16)), "16-bit greyscale TIFF; expected an 8-bit"),
    "a TIFF of colours": ("tiff_masks", tiff(np.zeros((60, 96, 3), np.uint8), photometric="rgb"), "RGB TIFF; expected"),
    "a TIFF of two pages": ("tiff_masks", tiff(np.zeros((2, 60, 96), np.uint8)), "TIFF; expected"),
    "a TIFF of another size": ("tiff_masks", tiff(GOOD[:, :90]), "90x60 pixels, its image 96x60"),
    "a PNG": ("tiff_masks", cv2.imencode(".png", GOOD)[1].tobytes(), "8-bit greyscale PNG; expected an 8-bit"),
    "half a TIFF": ("tiff_masks", tiff(GOOD + 1)[:200], "not an image|damaged|cannot be decoded"),
    "an unknown value in a TIFF": ("tiff_masks", tiff(GOOD + 9), "values 9 in 5,760 pixels"),
    "an array of floats": ("npz", npy(GOOD.astype(np.float32)), r"an array \(60, 96\) of float32; expected integers"),
    "an array of planes": ("npz", npy(np.zeros((5, 60, 96), np.uint8)), r"an array \(5, 60, 96\) of uint8"),
    "an array turned": ("npz", npy(GOOD.reshape(-1)[:90]), r"an array \(90,\) of uint8"),
    "an array of another size": ("npz", npy(GOOD[:50]), "96x50 pixels, its image 96x60"),
    "objects": ("npz", npy(np.array([{1: 2}], object)), "not a NumPy array"),
    "half an array": ("npz", npy(GOOD)[:100], "not a NumPy array"),
    "an unknown value in an array": ("npz", npy(GOOD + 9), "values 9 in 5,760 pixels"),
}


@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")  # of Pillow
@pytest.mark.parametrize("name", FAULTS)
def test_a_file_is_refused_that_is(tmp_path, name):
    form, data, words = FAULTS[name]
    images, competition, path = spoiled(form, "", data, tmp_path)
    with pytest.raises(UserError, match=words):
        require_good(path, competition, sizes_of(images))
    with pytest.raises(UserError, match=words):
        list(format_of_file(path, competition).read(path, competition, sizes_of(images)))


def test_arrays_of_other_programs_may_be_of_any_integers_or_have_axes_of_one(tmp_path):
    for data in (npy(GOOD.astype(np.int64)), npy(GOOD[None]), npy(GOOD.astype(bool))):
        images, competition, path = spoiled("npz", "", data, tmp_path)
        assert check_submission(path, competition, sizes_of(images)) == []


@pytest.mark.parametrize(("form", "ending"), [("tiff_masks", "tif"), ("npz", "npy")])
def test_unknown_and_missing_names_are_listed(tmp_path, form, ending):
    data = tiff(GOOD) if form == "tiff_masks" else npy(GOOD)
    images, competition, path = spoiled(form, f"other.{ending}", data, tmp_path)
    problems = check_submission(path, competition, sizes_of(images))
    assert any(problem.startswith(f"other.{ending}: no test image") for problem in problems)
    assert any(problem.endswith(f".{ending}: missing") for problem in problems)


@pytest.mark.parametrize("form", FORMS)
def test_an_image_that_was_not_predicted_has_a_valid_mask(tmp_path, form):
    for kind in STORED:
        competition = competition_of(form, kind)
        mask = empty_mask(competition, (6, 9))
        assert mask.shape == (6, 9) and set(np.unique(mask)) == ({IGNORE} if competition.ignore_index else {0})
        write(tmp_path / f"a{SUFFIX[form]}", {"a": mask}, competition)
