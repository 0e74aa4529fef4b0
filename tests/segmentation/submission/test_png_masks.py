"""PNG masks in a zip: what is stored, and each known way to spoil a zip is refused by name."""

import io
import random
import re
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.config.competition import IGNORE, Submission
from pipeline.errors import UserError
from pipeline.segmentation.submission.zip_masks import read
from pipeline.submission.file import find_hints, require_good
from pipeline.submission.formats import format_of
from tests.damages import cut, flip, zero_page
from tests.segmentation.submission.scenes import (
    check_submission,
    make_competition,
    make_images,
    make_png_competition,
    sizes_of,
    write,
    write_foreign,
)

COMPETITION = make_png_competition()
IMAGES = make_images(3, 4, COMPETITION)
SIZES, IDS = sizes_of(IMAGES), list(IMAGES)
NAME = f"{IDS[1]}.png"


def entries_of(path):
    with zipfile.ZipFile(path) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def stored_in(path, name):
    return np.array(Image.open(io.BytesIO(entries_of(path)[name])))


def write_zip(path, entries):
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in entries:
            zipped.writestr(name, data)
    return path


def png(mask, **options):
    buffer = io.BytesIO()
    Image.fromarray(mask, **options).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("indices", [[0, 1, 2], [2, 4, 3]]),
        ("values", [[7, 0, 255], [255, 3, 11]]),
        ("colours", [[[0, 255, 40], [9, 254, 40], [18, 253, 40]], [[18, 253, 40], [36, 251, 40], [27, 252, 40]]]),
        ("as the masks", [[0, 50, 100], [100, 200, 150]]),
    ],
)
def test_a_zip_holds_what_submission_values_says(tmp_path, kind, wanted):
    path = write(tmp_path / "a.zip", {"a": np.array([[0, 1, 2], [2, 4, 3]], np.uint8)}, make_png_competition(kind))
    assert stored_in(path, "a.png").tolist() == wanted


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("indices, ignored class", 4),
        ("values, ignored value", 255),
        ("colours, ignored class", [36, 251, 40]),
    ],
)
def test_a_pixel_of_no_class_is_stored_as_the_ignored_class_or_value(tmp_path, kind, stored):
    competition = make_png_competition(kind)
    path = write(tmp_path / "a.zip", {"a": np.array([[0, IGNORE]], np.uint8)}, competition)
    assert stored_in(path, "a.png")[0, 1].tolist() == stored
    assert dict(read(path, competition, {"a": (1, 2)}))["a"].tolist() == [[0, IGNORE]]


def test_a_pixel_of_no_class_is_refused_where_nothing_stands_for_it(tmp_path):
    with pytest.raises(
        UserError, match=r"mask of a has pixels of no class.*give IGNORE_INDEX in configs/competitions/t"
    ):
        write(tmp_path / "a.zip", {"a": np.array([[0, IGNORE]], np.uint8)}, COMPETITION)


def test_masks_lie_where_submission_file_says_with_the_same_bytes_on_every_machine(tmp_path):
    path = write(tmp_path / "a.zip", IMAGES, make_png_competition("a folder"))
    with zipfile.ZipFile(path) as zipped:
        found = zipped.infolist()
    assert [entry.filename for entry in found] == [f"results/{image_id}_labels.png" for image_id in IMAGES]
    assert {(entry.date_time, entry.create_system) for entry in found} == {((1980, 1, 1, 0, 0, 0), 3)}
    assert {entry.external_attr >> 16 for entry in found} == {0o100644}


def test_two_images_of_one_name_are_refused(tmp_path):
    competition = make_competition(submission=Submission("png_masks", "{stem}.png"))
    images = dict.fromkeys(["7.jpg", "7.png"], np.zeros((2, 3), np.uint8))
    with pytest.raises(UserError, match=r"calls two images 7.png; write {id} instead of {stem}"):
        write(tmp_path / "a.zip", images, competition)


def test_opencv_and_pillow_read_the_same_masks(tmp_path):
    path = write(tmp_path / "a.zip", IMAGES, COMPETITION)
    for name, data in entries_of(path).items():
        by_cv2 = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(by_cv2, stored_in(path, name)) and np.array_equal(by_cv2, IMAGES[name[:-4]])


def nameless() -> zipfile.ZipInfo:
    """Returns a member of which a reader sees no name: it ends at the first NUL."""
    member = zipfile.ZipInfo("a")
    member.filename = "\0a"
    return member


MASK = IMAGES[IDS[1]]
FAULTS = {
    "a mask is missing": (lambda files: files[:1] + files[2:], f"{NAME}: missing"),
    "all masks are missing": (lambda files: [], f"all 4 masks are missing, from {IDS[0]}.png on"),
    "a name is unknown": (lambda files: [*files, ("000009_03.png", b"")], r"000009_03.png: no test image .*; did"),
    "a name is empty": (lambda files: [*files, (nameless(), b"")], "a file without a name: no test image has a mask"),
    "a name is there twice": (lambda files: [*files, files[1]], f"{NAME}: the file is there twice"),
    "masks lie in a folder": (lambda files: [(f"m/{name}", data) for name, data in files], "no test image has a mask"),
    "a mask is of another size": ([MASK[1:]], f"{NAME}: 54x71 pixels, its image 54x72"),
    "a mask is turned": ([MASK.T.copy()], f"{NAME}: 72x54 pixels, its image 54x72"),
    "a value is outside the classes": ([np.where(MASK == 1, 9, MASK)], rf"{NAME}: values 9 in [\d,]+ pixels; ex"),
    "a mask is RGB": ([np.dstack([MASK] * 3)], f"{NAME}: 8-bit RGB PNG; expected an 8-bit greyscale PNG"),
    "a mask has 16 bits": ([MASK.astype(np.uint16)], f"{NAME}: 16-bit greyscale PNG; expected an 8-bit greyscale"),
    "a mask is no image": ([b"nothing"], f"{NAME}: not an image"),
    "a mask is empty": ([b""], f"{NAME}: file empty"),
    "a mask is cut off": ([png(MASK)[:-30]], f"{NAME}: file truncated"),
    "a mask is larger than any PNG": ([bytes(2**21)], f"{NAME}: 2,097,152 bytes, more than a PNG of 54x72 pixels"),
}  # fmt: skip


def spoilt(folder, change):
    """A zip of another program, with one mask replaced or the list of its files changed."""
    path = write_foreign(folder / "a.zip", IMAGES, COMPETITION)
    assert check_submission(path, COMPETITION, SIZES, path) == find_hints(path, COMPETITION, SIZES) == []
    files = list(entries_of(path).items())
    if callable(change):
        files = change(files)
    else:
        (content,) = change
        files[1] = (NAME, png(content.astype(content.dtype)) if isinstance(content, np.ndarray) else content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *arguments, **options: None)  # zipfile warns of a double name
        return write_zip(path, files)


def is_refused(folder, name):
    """Whether a zip that is spoilt so is refused for that reason, by the check and by reading it."""
    change, message = FAULTS[name]
    path = spoilt(folder, change)
    with pytest.raises(UserError) as caught:
        require_good(path, COMPETITION, SIZES)
    if "missing" not in name:
        with pytest.raises(UserError, match=re.escape(str(path))):
            list(read(path, COMPETITION, SIZES))
    return bool(re.search(message, str(caught.value)))


@pytest.mark.parametrize("name", FAULTS)
def test_a_zip_is_refused_when(tmp_path, name):
    assert is_refused(tmp_path, name)


def count_undetected(folder, times, seed):
    """How many of so many damaged zips are neither refused nor read as the very masks that were written."""
    rng = random.Random(seed)
    whole = write(folder / "a.zip", IMAGES, COMPETITION).read_bytes()
    path, num_refused, num_wrong = folder / "b.zip", 0, 0
    for damage in (cut, flip, zero_page):
        for _ in range(times):
            path.write_bytes(damage(whole, rng))
            try:
                require_good(path, COMPETITION, SIZES)
            except UserError:
                num_refused += 1
                continue
            found = dict(read(path, COMPETITION, SIZES))
            num_wrong += not all(np.array_equal(found[image_id], IMAGES[image_id]) for image_id in IMAGES)
    return num_refused, num_wrong


def test_damaged_zips_are_refused_or_hold_the_same_masks(tmp_path):
    num_refused, num_wrong = count_undetected(tmp_path, 60, seed=1)
    assert num_wrong == 0
    assert num_refused > 150  # the others are flips in dates and the like, which no mask hangs on


def test_a_file_that_is_no_zip_is_named(tmp_path):
    (tmp_path / "a.zip").write_text("id,rle\n")
    assert (
        "a.zip is not a whole zip: File is not a zip file"
        in check_submission(tmp_path / "a.zip", COMPETITION, SIZES)[0]
    )
    assert "cannot read" in check_submission(tmp_path / "none.zip", COMPETITION, SIZES)[0]


def test_a_zip_of_one_class_alone_is_a_warning(tmp_path):
    images = {image_id: np.zeros_like(mask_HW) for image_id, mask_HW in IMAGES.items()}
    path = write(tmp_path / "a.zip", images, COMPETITION)
    assert require_good(path, COMPETITION, SIZES) == ["warning: every pixel of every image is Background"]


def test_the_sample_is_compared_by_names_and_kind(tmp_path):
    path = write(tmp_path / "a.zip", IMAGES, COMPETITION)
    files = list(entries_of(path).items())
    sample = tmp_path / "sample.zip"

    def warnings_with(entries):
        return require_good(path, COMPETITION, SIZES, write_zip(sample, entries))

    assert warnings_with(files) == []
    assert warnings_with(files[:3]) == [f"warning: sample.zip lacks 1 of 4 masks, such as {IDS[3]}.png"]
    (warning,) = warnings_with([(name, png(np.zeros((2, 2, 3), np.uint8))) for name, _ in files])
    assert warning.startswith(f"warning: sample.zip is of another kind: {IDS[0]}.png: 8-bit RGB PNG; expected an 8-bit")
    with pytest.raises(UserError, match=r"sample.zip: 1 files are of no test image, such as x.png"):
        warnings_with([*files, ("x.png", b"")])
    sample.write_text("no zip")
    (warning,) = require_good(path, COMPETITION, SIZES, sample)
    assert warning.startswith("warning: not compared with the sample submission")


def test_the_sample_is_checked_before_anything_is_trained(tmp_path):
    competition, sample = make_png_competition(), tmp_path / "sample.zip"

    def kinds():
        problems = format_of(competition).check_sample(competition, sample, set(IDS))
        return [(problem.kind, problem.found) for problem in problems]

    assert kinds()[0][0] == "sample not a zip"
    write_zip(sample, [(f"{image_id}.png", b"") for image_id in IDS[:2]])
    assert kinds() == []
    write_zip(sample, [(f"labels/{IDS[0]}.png", b"")])
    assert kinds() == [("sample file unknown", f"labels/{IDS[0]}.png")]


def test_ids_are_read_from_the_names(tmp_path):
    competition = make_png_competition("a folder")
    form = format_of(competition)
    assert form.list_ids(write(tmp_path / "a.zip", IMAGES, competition), competition) == IDS
    with pytest.raises(
        UserError, match=r"the name results/x.png does not match SUBMISSION.FILE; expected files such as "
    ):
        form.list_ids(write_zip(tmp_path / "b.zip", [("results/x.png", b"")]), competition)
    with pytest.raises(UserError, match=r"no files; expected files such as results/<id>_labels.png"):
        form.list_ids(write_zip(tmp_path / "c.zip", []), competition)


def test_encrypted_and_unknown_compressions_are_refused(tmp_path):
    whole = write(tmp_path / "a.zip", IMAGES, COMPETITION).read_bytes()
    central = whole.index(b"PK\1\2")
    for name, offset, value in (("encrypted", 8, 1), ("compressed in an unknown way", 10, 99)):
        data = bytearray(whole)
        data[central + offset] = value
        path = tmp_path / f"{name}.zip"
        path.write_bytes(data)
        assert "cannot be unpacked" in check_submission(path, COMPETITION, SIZES)[0], name
