"""The leakage meter: finds copies, shifted and re-encoded frames, and no more than those."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.load import load_competition
from pipeline.data.leakage import (
    MAX_DISTANCE,
    Signatures,
    alike_pairs,
    correlations,
    difference_hash,
    hamming_distances,
    near_duplicates,
    nearest,
    read_signatures,
)
from pipeline.data.listed import MOST_LISTED, is_capped
from pipeline.data.split import make_split
from pipeline.demo.write import generate
from pipeline.segmentation.task import SEGMENTATION
from tests.data.catalogs import plain_images, train_catalog

SIZE = (160, 120)


def scene(seed: int) -> np.ndarray:
    """Returns an image with large and small structure, uint8 120x160x3."""
    rng = np.random.default_rng(seed)
    large = cv2.resize(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    small = rng.integers(-12, 13, large.shape)
    return np.clip(large + small, 0, 255).astype(np.uint8)


def write(folder: Path, images: dict[str, np.ndarray], valid: set[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Writes images and returns their catalog and split."""
    rows = []
    for id, image in images.items():
        cv2.imwrite(str(folder / f"{id}.jpg"), image)
        rows.append((id, f"{id}.jpg", image.shape[1], image.shape[0]))
    catalog = pd.DataFrame(rows, columns=["id", "image", "width", "height"])
    split = pd.DataFrame({"id": list(images), "subset": ["valid" if id in valid else "train" for id in images]})
    return catalog, split


def leaks(folder: Path, catalog: pd.DataFrame, by: str, index: int) -> pd.DataFrame:
    """Returns the near-duplicates across a split of a catalog."""
    return near_duplicates(
        plain_images(folder), catalog, make_split(catalog, SEGMENTATION.class_presence(catalog), by, index)
    )


def pairs(found: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(found["train_id"], found["valid_id"], strict=True))


def test_an_exact_copy_across_the_split_is_found_at_distance_0(tmp_path: Path):
    images = {f"p{seed}": scene(seed) for seed in range(12)} | {"copy": scene(4)}
    found = near_duplicates(plain_images(tmp_path), *write(tmp_path, images, valid={"copy", "p1"}))
    assert found.to_dict("records") == [{"train_id": "p4", "valid_id": "copy", "distance": 0}]


def test_copies_on_the_same_side_are_no_leak(tmp_path: Path):
    images = {"a": scene(1), "b": scene(1), "c": scene(2)}
    found = near_duplicates(plain_images(tmp_path), *write(tmp_path, images, valid={"c"}))
    assert len(found) == 0
    assert found.columns.tolist() == ["train_id", "valid_id", "distance"]


def test_a_shifted_a_brighter_and_a_smaller_copy_are_found(tmp_path: Path):
    original = scene(3)
    changed = {
        "shifted": np.roll(original, 2, axis=1),
        "brighter": np.clip(original * 0.8 + 40, 0, 255).astype(np.uint8),
        "smaller": cv2.resize(original, (80, 60), interpolation=cv2.INTER_AREA),
        "noisy": np.clip(original + np.random.default_rng(0).normal(0, 10, original.shape), 0, 255).astype(np.uint8),
    }
    images = {f"p{seed}": scene(seed) for seed in range(6)} | changed
    found = near_duplicates(plain_images(tmp_path), *write(tmp_path, images, valid=set(changed)))
    assert pairs(found) == {("p3", name) for name in changed}


def test_different_scenes_raise_no_false_alarm(tmp_path: Path):
    images = {f"p{seed}": scene(seed) for seed in range(60)}
    valid = {f"p{seed}" for seed in range(0, 60, 2)}
    assert len(near_duplicates(plain_images(tmp_path), *write(tmp_path, images, valid))) == 0


def test_blank_images_are_alike_only_at_equal_brightness(tmp_path: Path):
    grey = {level: np.full((60, 80, 3), level, np.uint8) for level in (0, 1, 128)}
    images = {"black": grey[0], "nearly": grey[1], "grey": grey[128]}
    found = near_duplicates(plain_images(tmp_path), *write(tmp_path, images, valid={"nearly"}))
    assert pairs(found) == {("black", "nearly")}


def signatures(prefix: str, bits: np.ndarray, thumbnails: np.ndarray) -> Signatures:
    return Signatures([f"{prefix}{index}" for index in range(len(bits))], bits, thumbnails.astype(np.float32))


def test_of_identical_images_so_many_are_listed_that_the_list_grows_as_their_number():
    blank = [
        signatures(side, np.zeros((num, 64), bool), np.zeros((num, 576))) for side, num in (("t", 6000), ("v", 1500))
    ]
    tracemalloc.start()
    found = alike_pairs(*blank, "train_id")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["valid_id"].value_counts().tolist() == [MOST_LISTED] * 1500 and is_capped(found["valid_id"])
    assert peak < 60e6, "a list of all 9 million pairs takes a gigabyte"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), num_first=st.integers(0, 60), num_valid=st.integers(0, 12), flips=st.integers(0, 14))
def test_the_list_holds_the_nearest_of_all_pairs_that_are_alike(seed: int, num_first: int, num_valid: int, flips: int):
    rng = np.random.default_rng(seed)
    scenes = rng.integers(0, 256, (2, 576))
    first, valid = (
        signatures(side, rng.random((num, 64)) < flips / 64, np.clip(scenes[rng.integers(0, 2, num)], 3, 250))
        for side, num in (("t", num_first), ("v", num_valid))
    )
    found = alike_pairs(first, valid, "train_id")
    for index, valid_id in enumerate(valid.ids):
        distances = hamming_distances(first.bits, valid.bits[index : index + 1])[:, 0]
        alike = correlations(first.thumbnails, valid.thumbnails[index : index + 1]) > 0.9
        expected = sorted(distances[alike & (distances <= MAX_DISTANCE)].tolist())[:MOST_LISTED]
        own = found[found["valid_id"] == valid_id]
        assert own["distance"].tolist() == expected and own["train_id"].is_unique


def test_images_outside_a_quick_split_take_no_part(tmp_path: Path):
    catalog, split = write(tmp_path, {"a": scene(1), "b": scene(1), "c": scene(1)}, valid={"c"})
    assert pairs(near_duplicates(plain_images(tmp_path), catalog, split[split["id"] != "b"])) == {("a", "c")}


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), num_first=st.integers(1, 20), num_second=st.integers(1, 20))
def test_distances_are_the_numbers_of_differing_bits(seed: int, num_first: int, num_second: int):
    rng = np.random.default_rng(seed)
    first, second = rng.random((num_first, 64)) < 0.5, rng.random((num_second, 64)) < 0.5
    expected = (first[:, None] != second[None]).sum(axis=2)
    np.testing.assert_array_equal(hamming_distances(first, second), expected)


def test_the_hash_ignores_brightness_and_size():
    grey = cv2.cvtColor(scene(8), cv2.COLOR_BGR2GRAY)
    larger = cv2.resize(grey, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    assert (difference_hash(grey) != difference_hash(larger)).sum() == 0
    assert (difference_hash(grey) != difference_hash((grey // 2 + 60).astype(np.uint8))).sum() <= 2


def test_camvid_leaks_by_slice_and_not_by_sequence(shared_data):
    folder = shared_data("camvid")
    catalog, _ = train_catalog(load_competition("camvid"), folder)
    by_slice = leaks(folder, catalog, "slice", 0)
    assert len(by_slice) > 200
    assert by_slice["valid_id"].nunique() > 30
    sequence_of = dict(zip(catalog["id"], catalog["sequence"], strict=True))
    assert (by_slice["train_id"].map(sequence_of) == by_slice["valid_id"].map(sequence_of)).all()
    for index in (0, 1):
        assert len(leaks(folder, catalog, "sequence", index)) == 0


@pytest.mark.parametrize("by", ["slice", "sequence"])
def test_dubai_has_no_overlapping_images(by: str, shared_data):
    folder = shared_data("dubai_aerial")
    catalog, _ = train_catalog(load_competition("dubai_aerial"), folder)
    assert len(leaks(folder, catalog, by, 0)) == 0


@pytest.mark.slow
def test_the_demo_leaks_by_slice_and_not_by_sequence(tmp_path: Path):
    generate(tmp_path / "demo", num_train=40, num_test=4, width=192, height=108)
    catalog, problems = train_catalog(load_competition("demo"), tmp_path / "demo")
    assert problems == []
    assert len(leaks(tmp_path / "demo", catalog, "slice", 0)) >= 3
    for index in range(5):
        assert len(leaks(tmp_path / "demo", catalog, "sequence", index)) == 0


def test_the_signatures_that_are_kept_give_the_nearest_images(tmp_path):
    images = {name: scene(seed) for seed, name in enumerate(("a", "b", "c", "d"))}
    images["nearly a"] = images["a"] // 2 + 40  # darker and flatter, but the same
    kept = tmp_path / "signatures.npz"
    near_duplicates(plain_images(tmp_path), *write(tmp_path, images, valid={"nearly a"}), kept)
    found = read_signatures(kept)
    assert set(found.ids) == set(images)
    (first, likeness), (_, other) = nearest(found, "nearly a", {"a", "b", "c"}, 2)
    assert first == "a" and likeness > 0.95 > other
    assert nearest(found, "a", set(images), 9)[0][0] == "nearly a", "never itself"
    assert read_signatures(tmp_path / "absent.npz") is None
    whole = kept.read_bytes()
    for size in range(0, len(whole), 97):  # damaged: the page goes without neighbours
        kept.write_bytes(whole[:size])
        assert read_signatures(kept) is None
    kept.write_bytes(bytes(byte ^ 255 for byte in whole))
    assert read_signatures(kept) is None
