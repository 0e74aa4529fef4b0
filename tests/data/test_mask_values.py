"""Masks that store other values than class indices are used as they lie; what they cannot mean is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.config.competition import IGNORE, Competition, mask_code
from pipeline.data.catalog import build_train_catalog
from pipeline.segmentation.samples import ValidDataset
from pipeline.segmentation.padding import crop
from pipeline.segmentation.labels import read_mask
from pipeline.data.store import build_store, open_store
from tests.data.broken import COMPETITION, HEIGHT, WIDTH, encoded, make_good, png, train_ids

BINARY = replace(
    COMPETITION, classes=("Land", "Road"), colors=((0, 0, 0), (200, 10, 10)), ignore_index=None, sample_submission=None
)
IN_COLORS = replace(COMPETITION, mask_values="colors")
FILE = "masks/masks/000001_002.png"


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


def found_in(competition: Competition, folder: Path) -> list[tuple[str, str, str, str]]:
    _, problems = build_train_catalog(competition, folder)
    return [(problem.kind, problem.file, problem.found, problem.cure) for problem in problems]


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
    plain, _ = build_train_catalog(COMPETITION, folder)
    masks = store_masks(folder, store)
    catalog, problems = build_train_catalog(competition, folder)
    assert problems == []
    assert catalog.equals(plain)  # the pixels of each class too
    code = mask_code(competition)
    tiles = open_store(build_store(folder, catalog, None, tmp_path / "tiles", code, log=lambda line: None))
    for item, (id, mask) in zip(ValidDataset(folder, catalog, code), masks.items(), strict=True):
        wanted = np.where(mask == 3, IGNORE, mask)  # the last class is ignored
        assert (tiles.mask(id) == wanted).all()
        assert (crop(item.mask, item.offset, item.size) == wanted).all()
        assert (read_mask(folder / f"masks/masks/{id}.png", code) == wanted).all()


def test_another_meaning_of_the_same_files_is_another_store(tmp_path: Path):
    folder = make_good(tmp_path / "little")
    catalog, _ = build_train_catalog(COMPETITION, folder)
    orders = (
        COMPETITION,
        replace(COMPETITION, mask_values=(0, 1, 2, 3)),
        replace(COMPETITION, mask_values=(1, 0, 2, 3)),
    )
    stores = {build_store(folder, catalog, None, tmp_path, mask_code(one), log=lambda line: None) for one in orders}
    assert len(stores) == 3


def test_masks_of_0_and_255_are_led_to_their_key(tmp_path: Path):
    folder = make_good(tmp_path / "little")
    store_masks(folder, lambda mask: png((mask > 1).astype(np.uint8) * 255))
    problems = found_in(BINARY, folder)
    assert {kind for kind, *_ in problems} == {"mask of 0 and 255"} and len(problems) == 4
    assert problems[0][3] == "MASK_VALUES: [0, 255] in configs/competitions/little.yaml reads them as they are"
    assert found_in(replace(BINARY, mask_values=(0, 255)), folder) == []


def test_masks_of_one_bit_are_led_to_their_key(tmp_path: Path):
    folder = make_good(tmp_path / "little")
    store_masks(folder, lambda mask: encoded(Image.fromarray((mask > 1).astype(np.uint8) * 255), "PNG", "1"))
    problems = found_in(BINARY, folder)
    assert {kind for kind, *_ in problems} == {"mask of less than 8 bits"}
    assert "MASK_VALUES: [0, 255]" in problems[0][3]
    assert found_in(replace(BINARY, mask_values=(0, 255)), folder) == []


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_masks_in_colours_are_led_to_their_key(tmp_path: Path, mode: str):
    folder = make_good(tmp_path / "little")
    store_masks(folder, lambda mask: encoded(Image.fromarray(in_colors(mask)), "PNG", mode))
    problems = found_in(COMPETITION, folder)
    assert {kind for kind, *_ in problems} == {"mask with palette" if mode == "P" else "RGB mask"}
    assert "MASK_VALUES: colors in configs/competitions/little.yaml reads them by COLORS" in problems[0][3]


def test_a_value_that_is_not_listed_is_named_with_file_and_cure(tmp_path: Path):
    folder = make_good(tmp_path / "little")
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[0, :3] = 254
    (folder / FILE).write_bytes(png(mask))
    problems = found_in(replace(COMPETITION, mask_values=(0, 1, 255, 3)), folder)
    assert {kind for kind, *_ in problems} == {"mask value not in MASK_VALUES"}
    assert {file: found for _, file, found, _ in problems}[FILE] == "value 254 in 3 pixels"
    assert problems[0][3] == "mend MASK_VALUES in configs/competitions/little.yaml, or the file"


def test_a_colour_that_no_class_has_is_named_with_file_and_cure(tmp_path: Path):
    folder = make_good(tmp_path / "little")
    store_masks(folder, lambda mask: encoded(Image.fromarray(in_colors(mask)), "PNG"))
    image = np.array(Image.open(folder / FILE))
    image[0, :4], image[0, 4] = (1, 2, 3), (250, 0, 4)
    Image.fromarray(image).save(folder / FILE)
    ((kind, file, found, cure),) = found_in(IN_COLORS, folder)
    assert (kind, file) == ("mask colour not in COLORS", FILE)
    assert found == "colours [1, 2, 3], [250, 0, 4] in 5 pixels"
    assert "mend COLORS in configs/competitions/little.yaml" in cure and "IGNORE_INDEX" in cure


@pytest.mark.parametrize("competition", [IN_COLORS, replace(COMPETITION, mask_values=(0, 1, 2, 3))])
def test_masks_of_16_bits_or_in_a_lossy_format_are_refused_still(tmp_path: Path, competition):
    folder = make_good(tmp_path / "little")
    store_masks(folder, lambda mask: encoded(Image.fromarray(in_colors(mask)), "JPEG"))
    assert {kind for kind, *_ in found_in(competition, folder)} == {"mask not a PNG"}
    store_masks(folder, lambda mask: png(np.zeros((HEIGHT, WIDTH), np.uint16)))
    assert {kind for kind, *_ in found_in(competition, folder)} == {"16-bit mask"}
