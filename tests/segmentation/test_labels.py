"""Masks: class indices, other grey values or colours are read as they are stored; any other value is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.config.competition import IGNORE, Competition
from pipeline.config.mask_code import MaskCode, mask_code
from pipeline.data.problems import Problem
from pipeline.data.store import open_store
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.segmentation.inspect_mask import inspect_mask
from pipeline.segmentation.labels import class_indices, count_values, read_mask
from pipeline.segmentation.task import SEGMENTATION
from tests.data.broken import COMPETITION, HEIGHT, IMAGE, MASK, WIDTH, encoded, make_good, png, train_ids
from tests.data.catalogs import train_catalog
from tests.segmentation.masks import crop
from tests.tiny import run_of, tiny

BINARY = replace(
    COMPETITION,
    classes=("Land", "Road"),
    colors=((0, 0, 0), (200, 10, 10)),
    ignore_index=None,
    sample_submission=None,
    submitted=None,
)
IN_COLORS = replace(COMPETITION, mask_values="colors")
FILE = "masks/masks/000001_002.png"
COLORS = ((0, 0, 0), (255, 0, 0), (0, 0, 255), (9, 9, 9))  # RGB, one per value of MASK and one more
COLORED_MASK = np.array(COLORS, np.uint8)[MASK]
STORES = {
    "grey values": (png(MASK * 100), MaskCode({0: 0, 100: 1, 200: 2})),
    "RGB": (encoded(Image.fromarray(COLORED_MASK), "PNG"), MaskCode(colors=COLORS)),
    "RGBA": (encoded(Image.fromarray(COLORED_MASK), "PNG", "RGBA"), MaskCode(colors=COLORS)),
    "palette": (encoded(Image.fromarray(COLORED_MASK).quantize(4), "PNG"), MaskCode(colors=COLORS)),
    "grey as colours": (png(MASK * 100), MaskCode(colors=((0, 0, 0), (100, 100, 100), (200, 200, 200)))),
}  # fmt: skip


def test_a_mask_keeps_its_indices_and_the_ignored_one_becomes_255(tmp_path: Path):
    (tmp_path / "m.png").write_bytes(png(MASK))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), MASK)
    np.testing.assert_array_equal(
        read_mask(tmp_path / "m.png", MaskCode({0: 0, 1: 1, 2: IGNORE})), np.where(MASK == 2, IGNORE, MASK)
    )
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", MaskCode({0: 0, 1: 1, 2: 2, IGNORE: IGNORE})), MASK)


@pytest.mark.parametrize("data", [png(IMAGE), b"text", b""], ids=["colours", "text", "empty"])
def test_what_is_no_index_mask_is_refused(data: bytes, tmp_path: Path):
    (tmp_path / "m.png").write_bytes(data)
    with pytest.raises(UserError, match=r"m\.png does not decode to a mask of one value per pixel[\s\S]*prepare"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("name", STORES)
def test_a_mask_is_read_by_what_it_stores(name: str, tmp_path: Path):
    data, code = STORES[name]
    (tmp_path / "m.png").write_bytes(data)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", code), MASK)
    values = {value: IGNORE if index == 2 else index for value, index in code.values.items()}
    ignoring = replace(code, values=values, ignored_color=2)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", ignoring), np.where(MASK == 2, IGNORE, MASK))


def test_a_mask_of_one_bit_is_read_as_0_and_255(tmp_path: Path):
    (tmp_path / "m.png").write_bytes(encoded(Image.fromarray((MASK > 0).astype(np.uint8) * 255), "PNG", "1"))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", MaskCode({0: 0, 255: 1})), MASK > 0)


def test_a_stored_value_beyond_the_classes_counts_nowhere(tmp_path: Path):
    (tmp_path / "m.png").write_bytes(png(MASK * 100))
    read = read_mask(tmp_path / "m.png", MaskCode({0: 0, 100: 1, 200: IGNORE}))
    np.testing.assert_array_equal(read, np.where(MASK == 2, IGNORE, MASK))


@pytest.mark.parametrize("code", [MaskCode({0: 0, 100: 1}), MaskCode(colors=COLORS[:2])], ids=["values", "colours"])
def test_a_value_of_no_class_is_refused_by_the_reader_too(code: MaskCode, tmp_path: Path):
    (tmp_path / "m.png").write_bytes(png(MASK * 100))
    with pytest.raises(UserError, match=r"m\.png does not decode to .* alone"):
        read_mask(tmp_path / "m.png", code)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_any_values_and_colours_are_read_back_as_their_classes(data, seed: int):
    rng, num_classes = np.random.default_rng(seed), data.draw(st.integers(2, 254))
    indices = rng.integers(0, num_classes, (5, 7), dtype=np.uint8)
    values = tuple(rng.permutation(256)[:num_classes].tolist())
    assert (
        class_indices(np.array(values, np.uint8)[indices], MaskCode(dict(zip(values, range(num_classes), strict=True))))
        == indices
    ).all()
    codes = rng.choice(2**24, num_classes, replace=False)
    colors = tuple((int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in codes)
    stored = np.array(colors, np.uint8)[:, ::-1][indices]
    assert (class_indices(np.ascontiguousarray(stored), MaskCode(colors=colors)) == indices).all()


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_values_are_counted_as_numpy_counts_them(height: int, width: int, seed: int):
    mask = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    np.testing.assert_array_equal(count_values(mask), np.bincount(mask.ravel(), minlength=256))


def test_values_are_counted_exactly_beyond_the_range_of_float32():
    mask = np.zeros((5000, 5000), np.uint8)
    mask[0, 0] = 7
    counts = count_values(mask)
    assert counts[0] == 24_999_999
    assert counts[7] == 1


def store_masks(folder: Path, store) -> dict[str, np.ndarray]:
    """Stores every mask of a folder in another way; returns their class indices by id."""
    masks = {}
    for id in train_ids(4):
        path = folder / f"masks/masks/{id}.png"
        masks[id] = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        path.write_bytes(store(masks[id]))
    return masks


def in_colors(mask: np.ndarray) -> np.ndarray:
    return np.array(COMPETITION.colors, np.uint8)[mask]


def catalog_of(competition: Competition, folder: Path) -> tuple[pd.DataFrame, list[Problem]]:
    return train_catalog(competition, folder)


def run_with(competition: Competition, folder: Path) -> Run:
    """Returns a run on a competition in `folder`, whose store holds images at their own size."""
    return run_of(replace(tiny(folder), competition=competition), lambda line: None)


def found_in(competition: Competition, folder: Path) -> list[tuple[str, str, str, str]]:
    _, problems = catalog_of(competition, folder)
    return [(problem.kind, problem.file, problem.found, problem.fix) for problem in problems]


@pytest.mark.parametrize(
    ("competition", "store"),
    [
        (
            replace(COMPETITION, mask_values=(10, 0, 255, 7)),
            lambda mask: png(np.array([10, 0, 255, 7], np.uint8)[mask]),
        ),
        (IN_COLORS, lambda mask: encoded(Image.fromarray(in_colors(mask)), "PNG")),
        (IN_COLORS, lambda mask: encoded(Image.fromarray(in_colors(mask)), "PNG", "RGBA")),
        (IN_COLORS, lambda mask: encoded(Image.fromarray(in_colors(mask)).quantize(4), "PNG")),
    ],
    ids=["grey values", "RGB", "RGBA", "palette"],
)
def test_catalog_tile_store_and_validation_see_the_same_classes(competition, store, tmp_path: Path):
    folder = make_good(tmp_path / "little")
    plain, _ = catalog_of(COMPETITION, folder)
    masks = store_masks(folder, store)
    catalog, problems = catalog_of(competition, folder)
    assert problems == []
    assert catalog.equals(plain)  # the pixels of each class too
    code, run = mask_code(competition), run_with(competition, folder)
    tiles = open_store(SEGMENTATION.build_store(run, catalog))
    valid = SEGMENTATION.valid_data(run, folder, catalog)
    for index, (id, mask) in enumerate(masks.items()):
        (_, framed, frame), wanted = valid[index], np.where(mask == 3, IGNORE, mask)  # the last class is ignored
        assert (tiles.label(id) == wanted).all()
        assert (crop(framed, frame.offset, frame.size) == wanted).all()
        assert (read_mask(folder / f"masks/masks/{id}.png", code) == wanted).all()


def test_another_meaning_of_the_same_files_is_another_store(tmp_path: Path):
    folder = make_good(tmp_path / "little")
    catalog, _ = catalog_of(COMPETITION, folder)
    orders = (
        COMPETITION,
        replace(COMPETITION, mask_values=(1, 0, 2, 3)),
        replace(COMPETITION, ignore_index=None),
    )
    stores = {SEGMENTATION.build_store(run_with(one, folder), catalog) for one in orders}
    assert len(stores) == 3


def test_masks_of_0_and_255_name_the_key_that_reads_them(tmp_path: Path):
    folder = make_good(tmp_path / "little")
    store_masks(folder, lambda mask: png((mask > 1).astype(np.uint8) * 255))
    problems = found_in(BINARY, folder)
    assert {kind for kind, *_ in problems} == {"mask of 0 and 255"} and len(problems) == 4
    assert problems[0][3] == "MASK_VALUES: [0, 255] in configs/competitions/little.yaml reads them as they are"
    assert found_in(replace(BINARY, mask_values=(0, 255)), folder) == []


def test_masks_of_one_bit_name_the_key_that_reads_them(tmp_path: Path):
    folder = make_good(tmp_path / "little")
    store_masks(folder, lambda mask: encoded(Image.fromarray((mask > 1).astype(np.uint8) * 255), "PNG", "1"))
    problems = found_in(BINARY, folder)
    assert {kind for kind, *_ in problems} == {"mask of 0 and 255"}
    assert "MASK_VALUES: [0, 255]" in problems[0][3]
    assert found_in(replace(BINARY, mask_values=(0, 255)), folder) == []


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_masks_in_colours_name_the_key_that_reads_them(tmp_path: Path, mode: str):
    folder = make_good(tmp_path / "little")
    store_masks(folder, lambda mask: encoded(Image.fromarray(in_colors(mask)), "PNG", mode))
    problems = found_in(COMPETITION, folder)
    assert {kind for kind, *_ in problems} == {"mask with palette" if mode == "P" else "RGB mask"}
    assert "MASK_VALUES: colors in configs/competitions/little.yaml reads them by COLORS" in problems[0][3]


def test_a_value_that_is_not_listed_is_named_with_file_and_remedy(tmp_path: Path):
    folder = make_good(tmp_path / "little")
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[0, :3] = 254
    (folder / FILE).write_bytes(png(mask))
    problems = found_in(replace(COMPETITION, mask_values=(0, 1, 255, 3)), folder)
    assert {kind for kind, *_ in problems} == {"mask value not in MASK_VALUES"}
    assert {file: found for _, file, found, _ in problems}[FILE] == "value 254 in 3 pixels"
    assert problems[0][3].startswith("correct MASK_VALUES in configs/competitions/little.yaml, or the file")


def test_a_colour_that_no_class_has_is_named_with_file_and_remedy(tmp_path: Path):
    folder = make_good(tmp_path / "little")
    store_masks(folder, lambda mask: encoded(Image.fromarray(in_colors(mask)), "PNG"))
    image = np.array(Image.open(folder / FILE))
    image[0, :4], image[0, 4] = (1, 2, 3), (250, 0, 4)
    Image.fromarray(image).save(folder / FILE)
    ((kind, file, found, cure),) = found_in(IN_COLORS, folder)
    assert (kind, file) == ("mask colour not in COLORS", FILE)
    assert found == "colours [1, 2, 3], [250, 0, 4] in 5 pixels"
    assert "correct COLORS in configs/competitions/little.yaml" in cure and "IGNORE_INDEX" in cure


@pytest.mark.parametrize("competition", [IN_COLORS, replace(COMPETITION, mask_values=(0, 1, 2, 3))])
def test_masks_in_a_lossy_format_are_refused(tmp_path: Path, competition):
    folder = make_good(tmp_path / "little")
    store_masks(folder, lambda mask: encoded(Image.fromarray(in_colors(mask)), "JPEG"))
    assert {kind for kind, *_ in found_in(competition, folder)} == {"lossy mask"}


def test_a_mask_of_fractions_is_not_called_damaged(tmp_path):
    path = tmp_path / "mask.tif"
    for suffix, values, found in ((".tif", [0, 0.5], "float32 with the value 0.5"), (".npy", [0, 1.0], None)):
        path = path.with_suffix(suffix)
        mask = np.tile(np.float32(values), (HEIGHT, WIDTH // 2))
        np.save(path, mask) if suffix == ".npy" else tifffile.imwrite(path, mask)
        seen, _ = inspect_mask(path, path.name, COMPETITION, mask_code(COMPETITION))
        assert [(one.kind, one.found) for one in seen.problems] == ([("mask with fractions", found)] if found else [])
