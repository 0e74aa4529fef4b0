"""What `./run.sh new` makes of images of other kinds: what it writes reads them, and says what else could be taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from pipeline.config.competition import ImageForm
from pipeline.data.competition import list_files
from pipeline.data.discovery.draft import Draft
from pipeline.data.discovery.folder import image_sizes
from pipeline.data.image_facts import measure
from pipeline.data.image_source import ImageSource
from pipeline.segmentation.discovery.describe import describe_folder
from tests.segmentation.discovery import folders
from tests.segmentation.discovery.folders import (
    HEIGHT,
    WIDTH,
    mask,
    name_of,
    photo,
    runs,
    write,
    write_array,
    write_csv,
)


def notes_of(draft: Draft, certainty: str) -> str:
    return "\n".join(note.text for note in draft.notes if note.certainty == certainty)


def read_all(draft: Draft, folder: Path) -> dict[str, np.ndarray]:
    """Returns the images for training by id, as the pipeline reads them by the description."""
    competition = draft.competition()
    listed = list_files(competition, folder, "train")[0]
    source = ImageSource(competition, folder, measure(competition, folder, [cell for _, cell in listed]))
    return {one.id: source.read(cell) for one, cell in listed}


FIRST = photo(0)[..., 0]


@pytest.mark.parametrize(
    ("kind", "form", "images", "first", "guess"),
    [
        (folders.scans, ImageForm(), "train/{id}", FIRST.astype(np.uint16)[..., None].repeat(3, 2) * 100, "NEIGHBOURS"),
        (
            folders.films,
            ImageForm(frame=2),
            "train/{id}/band_{08..11}.npy",
            np.stack([FIRST.astype(np.float32) + 200 + 10 * band + 2 for band in (8, 9, 10, 11)], -1),
            "5 images in a file, of which the one in the middle is taken",
        ),
        (
            folders.volumes,
            ImageForm(),
            "train/{id}/layers/{02..17}.tif",
            np.stack([FIRST.astype(np.uint16) * 100 + layer for layer in range(2, 18)], -1),
            "an image has 21 files, layers or bands, of which the 16 in the middle",
        ),
        (folders.xrays, ImageForm(), "dicom-images-train/*/*/{id}.dcm", FIRST[..., None].repeat(3, 2), ""),
        (
            folders.satellites,
            ImageForm(bands=(0, 1, 2)),
            "x/{id}.npy",
            photo(0).astype(np.uint16) * 30,
            "6 channels in a file, of which the first three",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_images_are_read_by_what_is_written(kind: Callable, form, images, first, guess, tmp_path: Path):
    kind(tmp_path)
    draft, found = describe_folder(tmp_path, "drawn")
    competition = draft.competition()
    assert competition.image == form and competition.images.removesuffix(".png") == images.removesuffix(".png")
    read = read_all(draft, tmp_path)
    shapes = {(HEIGHT, WIDTH, competition.num_channels)}
    assert {image.shape for image in read.values()} == shapes and next(iter(read.values())).dtype == first.dtype
    assert any(np.array_equal(image, first) for image in read.values())
    assert guess in notes_of(draft, "GUESS")
    assert "cannot be used" not in notes_of(draft, "COULD NOT TELL")
    assert set(image_sizes(tmp_path, found.ids.images, 9)) == {(WIDTH, HEIGHT)}


def test_layers_with_a_number_between_them_that_is_absent_are_a_list(tmp_path: Path):
    folders.volumes(tmp_path)
    for path in tmp_path.glob("train/*/layers/05.tif"):
        path.unlink()
    draft = describe_folder(tmp_path, "gap")[0]
    numbers = [2, 3, 4, *range(6, 19)]
    assert draft.competition().images == tuple(f"train/{{id}}/layers/{number:02d}.tif" for number in numbers)
    assert {image.shape[2] for image in read_all(draft, tmp_path).values()} == {16}


@pytest.mark.parametrize(
    ("shape", "form", "channels"),
    [
        ((HEIGHT, WIDTH), ImageForm(), 3),
        ((HEIGHT, WIDTH, 2), ImageForm(channels=2), 2),
        ((HEIGHT, WIDTH, 3), ImageForm(), 3),
        ((7, HEIGHT, WIDTH), ImageForm(frame=3), 3),
        ((2, HEIGHT, WIDTH, 5), ImageForm(frame=1, bands=(0, 1, 2)), 3),
        ((9, HEIGHT, WIDTH, 3), ImageForm(frame=4), 3),
        ((70, HEIGHT, WIDTH), ImageForm(frame=35, frame_axis=0), 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", ["npy", "tif"])
def test_an_array_of_any_axes_becomes_channels(shape, form, channels, suffix, tmp_path: Path):
    rng = np.random.default_rng(0)
    for seed in range(4):
        array = rng.integers(0, 4000, shape, dtype=np.uint16)
        path = tmp_path / f"images/{name_of(seed)}.{suffix}"
        if suffix == "npy":
            write_array(path, array)
        else:
            path.parent.mkdir(exist_ok=True)
            planes = {"planarconfig": "contig"} if shape[-1] < WIDTH else {}
            tifffile.imwrite(path, array, photometric="minisblack", **planes)
        write(tmp_path / f"masks/{name_of(seed)}.png", mask(seed))
    draft = describe_folder(tmp_path, "arrays")[0]
    assert draft.competition().image == form
    assert {image.shape for image in read_all(draft, tmp_path).values()} == {(HEIGHT, WIDTH, channels)}


def test_images_that_no_key_reads_are_said_to_be_open(tmp_path: Path):
    for seed in range(4):
        write_array(tmp_path / f"images/{name_of(seed)}.npy", np.zeros((2, 9, HEIGHT, WIDTH, 3), np.uint8))
        write(tmp_path / f"masks/{name_of(seed)}.png", mask(seed))
    draft = describe_folder(tmp_path, "clips")[0]
    assert "cannot be used as they are (shapes (2, 9, 48, 64, 3))" in notes_of(draft, "COULD NOT TELL")
    for seed in range(4):
        opaque = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
        (tmp_path / f"images/{name_of(seed)}.npy").unlink()
        write(tmp_path / f"images/{name_of(seed)}.png", np.concatenate([photo(seed), opaque], axis=-1))
    assert "image with alpha, such as images/" in notes_of(describe_folder(tmp_path, "alpha")[0], "COULD NOT TELL")


def test_a_fourth_channel_of_a_tiff_is_left_out(tmp_path: Path):
    for seed in range(4):
        path = tmp_path / f"images/{name_of(seed)}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, np.concatenate([photo(seed), photo(9)[..., :1]], axis=-1), photometric="rgb")
        write(tmp_path / f"masks/{name_of(seed)}.png", mask(seed))
    draft = describe_folder(tmp_path, "infrared")[0]
    assert np.array_equal(read_all(draft, tmp_path)[name_of(2)], photo(2))
    assert "4 channels in a file, of which the first three" in notes_of(draft, "GUESS")


def test_bands_of_another_name_are_named(tmp_path: Path):
    for seed in range(4):
        for band in ("B02", "B03", "B8A"):
            write_array(tmp_path / f"train/{name_of(seed)}/{band}.npy", photo(seed)[..., 0])
        write(tmp_path / f"train/{name_of(seed)}/label.png", mask(seed))
    write_csv(tmp_path / "train.csv", ["Id"], [(name_of(seed),) for seed in range(4)])
    draft = describe_folder(tmp_path, "bands")[0]
    assert draft.competition().images == "train/{id}/B{02..03}.npy"
    assert "an image also has B8A.npy, not used" in notes_of(draft, "GUESS")


def test_stacked_files_in_colour_have_all_their_channels(tmp_path: Path):
    for seed in range(4):
        for number in range(3):
            write(tmp_path / f"train/{name_of(seed)}/shot_{number}.png", photo(seed + number))
        write(tmp_path / f"train/{name_of(seed)}/label.png", mask(seed))
    write_csv(tmp_path / "train.csv", ["Id"], [(name_of(seed),) for seed in range(4)])
    draft = describe_folder(tmp_path, "shots")[0]
    assert draft.competition().image == ImageForm(channels=9)
    wanted = np.concatenate([photo(1), photo(2), photo(3)], axis=-1)
    assert np.array_equal(read_all(draft, tmp_path)[name_of(1)], wanted)


def test_classes_that_overlap_in_a_list_are_counted(tmp_path: Path):
    folders.scans(tmp_path)
    draft = describe_folder(tmp_path, "scans")[0]
    assert "classes overlap in 3 of 9 images" in notes_of(draft, "SURE")
    rows = [(f"scan{scan}_{number:03d}", "lung", runs(mask(number))) for scan in range(3) for number in range(1, 4)]
    rows += [(name, "tumour", runs(np.roll(mask(1), 24, axis=1))) for name, _, _ in rows]
    write_csv(tmp_path / "train.csv", ["id", "class", "rle"], rows)
    assert "classes overlap" not in describe_folder(tmp_path, "scans")[0].text


def test_damaged_images_do_not_change_what_the_others_are(tmp_path: Path):
    folders.films(tmp_path)
    whole = describe_folder(tmp_path, "films")[0].competition()
    (tmp_path / f"train/{name_of(0)}/band_08.npy").write_bytes(b"\x93NUMPY")
    assert describe_folder(tmp_path, "films")[0].competition() == whole
    for path in tmp_path.glob("*/*/band_*.npy"):
        path.write_bytes(b"")
    assert "the images cannot be used as they are: file damaged" in notes_of(
        describe_folder(tmp_path, "films")[0], "COULD NOT TELL"
    )


def test_ordinary_images_need_no_word(tmp_path: Path):
    folders.voc(tmp_path)
    draft = describe_folder(tmp_path, "voc")[0]
    assert [note for note in draft.notes if note.key == "IMAGE"] == []
    for path in tmp_path.glob("JPEGImages/*.jpg"):
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    assert "images are grey and repeated as three channels" in notes_of(describe_folder(tmp_path, "voc")[0], "SURE")
