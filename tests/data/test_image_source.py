"""Images of any kind: what is read is what was written, whatever file, number format and number of channels."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from pipeline.config.competition import Competition, ImageForm
from pipeline.data.image_facts import measure
from pipeline.data.image_source import ImageSource, to_rgb
from pipeline.errors import UserError
from tests.data.broken import COMPETITION

HEIGHT, WIDTH = 24, 40
RNG = np.random.default_rng(3)
RGB8 = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY8, GREY16 = RGB8[..., 0], RNG.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
RGBN = np.concatenate([RGB8, GREY8[..., None] // 2], axis=2)
FLOATS = RNG.normal(250, 20, (HEIGHT, WIDTH, 5)).astype(np.float32)
CHANNEL_1, CHANNELS_5 = ImageForm(channels=1), ImageForm(channels=5)


def saved(save) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def pil(array: np.ndarray, format: str, **options) -> bytes:
    return saved(lambda file: Image.fromarray(array).save(file, format, **options))


def tiff(array: np.ndarray, **options) -> bytes:
    return saved(lambda file: tifffile.imwrite(file, array, **options))


def npy(array: np.ndarray) -> bytes:
    return saved(lambda file: np.save(file, array))


def encoded(suffix: str, array: np.ndarray) -> bytes:
    return cv2.imencode(suffix, array)[1].tobytes()


def dicom(array: np.ndarray, photometric: str = "MONOCHROME2", **tags) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    bits = array.dtype.itemsize * 8
    facts = {"Rows": array.shape[0], "Columns": array.shape[1], "SamplesPerPixel": 1, "BitsAllocated": bits}
    facts |= {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0, "PixelData": array.tobytes()}
    facts |= {"SOPClassUID": meta.MediaStorageSOPClassUID, "SOPInstanceUID": "1.2.3"}
    for name, value in {**facts, "PhotometricInterpretation": photometric, **tags}.items():
        setattr(dataset, name, value)
    return saved(lambda file: pydicom.dcmwrite(file, dataset, enforce_file_format=True))


PLANES, FIRST = np.moveaxis(RGB8, -1, 0), np.moveaxis(FLOATS, -1, 0)
GREY = np.repeat(GREY8[..., None], 3, axis=2)
FILES = {
    "grey PNG": ("a.png", encoded(".png", GREY8), ImageForm(), GREY),
    "RGBA PNG without alpha": ("a.png", pil(RGBN, "PNG"), ImageForm(bands=(0, 1, 2)), RGB8),
    "RGB PNG by its bands": ("a.png", pil(RGB8, "PNG"), ImageForm(bands=(0, 1, 2)), RGB8),
    "one grey channel": ("a.png", encoded(".png", GREY8), CHANNEL_1, GREY8[..., None]),
    "16-bit PNG": ("a.png", encoded(".png", GREY16), CHANNEL_1, GREY16[..., None]),
    "16-bit TIFF": ("a.tif", encoded(".tif", GREY16), CHANNEL_1, GREY16[..., None]),
    "WebP": ("a.webp", pil(RGB8, "WEBP", lossless=True), ImageForm(), RGB8),
    "JPEG 2000": ("a.jp2", pil(RGB8, "JPEG2000"), ImageForm(), RGB8),
    "tiled TIFF": ("a.tiff", tiff(RGB8, photometric="rgb", tile=(16, 16)), ImageForm(), RGB8),
    "planar TIFF": ("a.tiff", tiff(PLANES, photometric="rgb", planarconfig="separate"), ImageForm(), RGB8),
    "TIFF of five floats": ("a.tif", tiff(FLOATS, photometric="minisblack", planarconfig="contig"), CHANNELS_5, FLOATS),
    "TIFF with infrared": ("a.tif", tiff(RGBN, photometric="rgb"), ImageForm(channels=4), RGBN),
    "bands of a TIFF": ("a.tif", tiff(RGBN, photometric="rgb"), ImageForm(bands=(3, 0, 1)), RGBN[..., [3, 0, 1]]),
    "npy": ("a.npy", npy(FLOATS), CHANNELS_5, FLOATS),
    "npy of doubles": ("a.npy", npy(FLOATS.astype(np.float64)), CHANNELS_5, FLOATS),
    "bands of an npy": ("a.npy", npy(FLOATS), ImageForm(bands=(4, 0)), FLOATS[..., [4, 0]]),
    "frame of an npy": ("a.npy", npy(FLOATS), ImageForm(frame=2, channels=1), FLOATS[..., 2:3]),
    "first axis of an npy": ("a.npy", npy(FIRST), ImageForm(frame=2, channels=1), FLOATS[..., 2:3]),
    "frame of a film in colour": (
        "a.npy",
        npy(np.stack([RGB8 // (n + 1) for n in range(9)])),
        ImageForm(frame=1),
        RGB8 // 2,
    ),
    "named axis of an npy": (
        "a.npy",
        npy(np.stack([GREY16 + n for n in range(99)])),
        ImageForm(frame=98, frame_axis=0, channels=1),
        GREY16[..., None] + np.uint16(98),
    ),
    "floats without a value": (
        "a.npy",
        npy(np.where(FLOATS > 250, np.inf, np.where(FLOATS < 240, np.nan, FLOATS))),
        replace(CHANNELS_5, nan=-7.5),
        np.where((FLOATS > 250) | (FLOATS < 240), np.float32(-7.5), FLOATS),
    ),
    "npz": ("a.npz", saved(lambda file: np.savez_compressed(file, image=GREY16)), CHANNEL_1, GREY16[..., None]),
    "DICOM": ("a.dcm", dicom(GREY16), CHANNEL_1, GREY16[..., None]),
    "DICOM, dark is bright": ("a.dcm", dicom(GREY8, "MONOCHROME1"), CHANNEL_1, (GREY8.max() - GREY8)[..., None]),
}


def competition(form: ImageForm, images: str = "{id}.png", **changes) -> Competition:
    return replace(COMPETITION, image=form, images=images, **changes)


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_is_what_was_written(tmp_path: Path, name):
    file, data, form, wanted = FILES[name]
    (tmp_path / file).write_bytes(data)
    one = competition(form)
    seen = ImageSource(one, tmp_path).inspect(file)
    assert seen.problems == ()
    assert (seen.width, seen.height, seen.counts) == (WIDTH, HEIGHT, wanted.dtype.name)
    source = ImageSource(one, tmp_path, measure(one, tmp_path, [file]))
    found = source.read(file)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)
    shown = source.shown(file)
    assert (shown.dtype, shown.shape) == (np.uint8, (HEIGHT, WIDTH, 3))
    assert source.grey(file).shape == (HEIGHT, WIDTH)


def test_a_window_of_a_dicom_file_is_applied(tmp_path: Path):
    (tmp_path / "a.dcm").write_bytes(dicom(GREY16, WindowCenter=30000, WindowWidth=20000))
    one = competition(CHANNEL_1)
    source = ImageSource(one, tmp_path, measure(one, tmp_path, ["a.dcm"]))
    found, order = source.read("a.dcm")[..., 0], np.argsort(GREY16.ravel())
    inside = (GREY16 > 21000) & (GREY16 < 39000)
    assert (np.diff(found.ravel()[order]) >= 0).all()
    assert np.ptp(found[GREY16 < 19000]) == 0 == np.ptp(found[GREY16 > 41000])
    assert np.corrcoef(found[inside], GREY16[inside])[0, 1] > 0.999


def test_files_are_stacked_in_their_order(tmp_path: Path):
    for band in (1, 2, 3, 4):
        np.save(tmp_path / f"a_{band}.npy", FLOATS[..., band])
    one = replace(COMPETITION, images="{id}_{1..4}.npy")
    cell = "|".join(f"a_{band}.npy" for band in (1, 2, 3, 4))
    assert one.num_channels == 4
    source = ImageSource(one, tmp_path, measure(one, tmp_path, [cell]))
    np.testing.assert_array_equal(source.read(cell), FLOATS[..., 1:5])
    np.save(tmp_path / "a_2.npy", FLOATS[:-1, :, 2])
    assert [problem.kind for problem in source.inspect(cell).problems] == ["files of different sizes"]


def test_three_ordinary_grey_files_are_stacked_as_any_others(tmp_path: Path):
    for channel, name in enumerate("rgb"):
        cv2.imwrite(str(tmp_path / f"a_{name}.png"), RGB8[..., channel])
    one = replace(COMPETITION, images=("{id}_r.png", "{id}_g.png", "{id}_b.png"))
    source = ImageSource(one, tmp_path, measure(one, tmp_path, ["a_r.png|a_g.png|a_b.png"]))
    np.testing.assert_array_equal(source.read("a_r.png|a_g.png|a_b.png"), RGB8)
    assert source.grey("a_r.png|a_g.png|a_b.png").shape == RGB8.shape[:2]


@pytest.mark.parametrize(
    ("form", "data", "kind"),
    [
        (ImageForm(), npy(FLOATS), "number of channels"),
        (ImageForm(bands=(7,)), npy(FLOATS), "image of another form"),
        (ImageForm(frame=9), npy(FLOATS), "image of another form"),
        (ImageForm(frame=0, frame_axis=3), npy(FLOATS), "image of another form"),
        (ImageForm(), npy(np.zeros((2, 3, 4, 5))), "image of another form"),
        (ImageForm(), npy(np.full((4, 5), "a")), "image of another form"),
        (ImageForm(), b"no array", "file damaged"),
        (
            ImageForm(),
            npy(np.where(FLOATS[..., :3] == FLOATS[0, 0, 0], np.nan, FLOATS[..., :3])),
            "pixels without a value",
        ),
    ],
)
def test_what_the_description_does_not_say_is_a_problem(tmp_path: Path, form, data, kind):
    (tmp_path / "a.npy").write_bytes(data)
    assert [problem.kind for problem in ImageSource(competition(form), tmp_path).inspect("a.npy").problems] == [kind]


def test_the_refusal_of_pixels_without_a_value_names_the_key_that_reads_them(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.where(FLOATS > 250, np.nan, FLOATS))
    (problem,) = ImageSource(competition(CHANNELS_5), tmp_path).inspect("a.npy").problems
    assert "IMAGE: {NAN: 0} in configs/competitions/" in problem.fix


@pytest.mark.parametrize("name", ["npy", "npz", "DICOM", "16-bit TIFF", "TIFF of five floats", "JPEG 2000"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of it, too
@pytest.mark.parametrize("length", [0, 4, 9, 60, 150, 300])
def test_a_file_that_is_cut_off_is_damaged_and_no_crash(tmp_path: Path, name, length):
    file, data, form, _ = FILES[name]
    (tmp_path / file).write_bytes(data[:length])
    (problem,) = ImageSource(competition(form), tmp_path).inspect(file).problems
    assert problem.file == file and problem.kind in ("file damaged", "not an image", "file empty")


def test_range_mean_and_deviation_are_measured_or_given(tmp_path: Path):
    np.save(tmp_path / "a.npy", FLOATS)
    facts = measure(competition(CHANNELS_5), tmp_path, ["a.npy"])
    np.testing.assert_allclose((facts["low"], facts["high"]), np.percentile(FLOATS, (0.1, 99.9)), rtol=1e-6)
    scaled = (FLOATS.reshape(-1, 5) - facts["low"]) / (facts["high"] - facts["low"])
    np.testing.assert_allclose(facts["mean"], scaled.mean(0), atol=1e-4)
    np.testing.assert_allclose(facts["std"], scaled.std(0), atol=1e-4)
    given = measure(competition(replace(CHANNELS_5, range=(200.0, 300.0))), tmp_path, ["a.npy"])
    assert (given["low"], given["high"]) == (200.0, 300.0)
    assert to_rgb(np.full((1, 1, 5), 250, np.float32), given).tolist() == [[[127, 127, 127]]]
    cv2.imwrite(str(tmp_path / "a.png"), RGB8)
    assert measure(competition(ImageForm()), tmp_path, ["a.png"])["mean"] is None


def test_another_file_than_was_checked_is_refused_with_what_to_type(tmp_path: Path):
    np.save(tmp_path / "a.npy", FLOATS)
    one = competition(CHANNELS_5)
    source = ImageSource(one, tmp_path, measure(one, tmp_path, ["a.npy"]))
    np.save(tmp_path / "a.npy", (FLOATS * 100).astype(np.uint16))
    with pytest.raises(UserError, match=r"a\.npy does not decode to an image of float32[\s\S]*prepare --force"):
        source.read("a.npy")
    (tmp_path / "a.npy").unlink()
    with pytest.raises(UserError, match=r"a\.npy does not exist"):
        source.read("a.npy")


def test_the_hash_of_an_image_changes_with_its_files_and_its_description(tmp_path: Path):
    np.save(tmp_path / "a.npy", FLOATS)
    first = ImageSource(competition(CHANNELS_5), tmp_path).content("a.npy")
    assert ImageSource(competition(ImageForm(bands=(0, 1))), tmp_path).content("a.npy") != first
    np.save(tmp_path / "a.npy", FLOATS + 1)
    assert ImageSource(competition(CHANNELS_5), tmp_path).content("a.npy") != first
