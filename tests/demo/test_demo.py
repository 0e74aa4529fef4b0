"""The demo competition: its layout, its classes, its flights, and that it is whole or absent."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.demo.camera import aim, ground_points, project
from pipeline.demo.ground import lattice, world_noise
from pipeline.demo.recipes import CLASSES
from pipeline.demo.write import generate
from pipeline.errors import UserError

SMALL = {"num_train": 9, "num_test": 4, "width": 96, "height": 64}
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """The default flights, at half the default size."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    generate(folder, width=192, height=108)
    return folder


@pytest.fixture(scope="module")
def small_original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "demo"
    generate(folder, **SMALL)
    return folder


@pytest.fixture
def small(small_original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(small_original, tmp_path / "demo"))


def read_ids(folder: Path, subset: str) -> list[str]:
    return pd.read_csv(folder / f"{subset}.csv", dtype=str)["ImageID"].tolist()


def read_masks(folder: Path) -> dict[str, np.ndarray]:
    names = read_ids(folder, "train")
    return {name: cv2.imread(str(folder / f"masks/masks/{name}.png"), cv2.IMREAD_UNCHANGED) for name in names}


def hash_files(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixel_shares(folder: Path) -> np.ndarray:
    counts = sum(np.bincount(mask.ravel(), minlength=len(CLASSES)) for mask in read_masks(folder).values())
    return counts / counts.sum()


def test_the_folder_holds_what_the_csv_files_list_and_no_test_masks(demo):
    train, test = read_ids(demo, "train"), read_ids(demo, "test")
    assert (len(train), len(test)) == (80, 20)
    assert {path.stem for path in (demo / "imgs/imgs").iterdir()} == {*train, *test}
    assert {path.stem for path in (demo / "masks/masks").iterdir()} == set(train)
    assert {path.name for path in demo.iterdir()} == {
        *("imgs", "masks", "train.csv", "test.csv", "sample_submission.csv", "demo.json")
    }


def test_ids_are_flight_and_frame_and_no_flight_is_in_both_subsets(demo):
    train, test = read_ids(demo, "train"), read_ids(demo, "test")
    assert all(re.fullmatch(r"\d{6}_\d{3}", name) for name in train + test)
    assert train == sorted(train) and test == sorted(test) and len({*train, *test}) == 100
    assert not {name[:6] for name in train} & {name[:6] for name in test}


def test_flights_have_four_or_five_frames_numbered_from_one(demo):
    names = pd.Series(read_ids(demo, "train") + read_ids(demo, "test"))
    for _, frames in names.str[7:].groupby(names.str[:6]):
        assert frames.astype(int).tolist() == list(range(1, len(frames) + 1))
        assert len(frames) in (4, 5)


def test_the_sample_submission_has_a_blank_row_for_each_test_image_and_class(demo):
    rows = pd.read_csv(demo / "sample_submission.csv", dtype=str)
    assert rows.columns.tolist() == ["ImageID", "EncodedPixels"]
    assert rows["ImageID"].tolist() == [f"{name}_{index}" for name in read_ids(demo, "test") for index in range(12)]
    assert rows["EncodedPixels"].isna().all()


def test_images_are_rgb_and_masks_are_index_images_of_the_same_size(demo):
    for name, mask in read_masks(demo).items():
        image = cv2.imread(str(demo / f"imgs/imgs/{name}.jpg"), cv2.IMREAD_UNCHANGED)
        assert image.shape == (108, 192, 3)
        assert mask.shape == (108, 192) and mask.dtype == np.uint8 and mask.max() <= 11


def assert_every_class_is_in_two_flights(folder: Path):
    flights = [{name[:6] for name, mask in read_masks(folder).items() if (mask == index).any()} for index in range(12)]
    assert min(len(some) for some in flights) >= 2, dict(zip(CLASSES, map(len, flights), strict=True))


def test_every_class_is_in_at_least_two_training_flights(demo):
    assert_every_class_is_in_two_flights(demo)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_class_is_in_at_least_two_training_flights_for_other_seeds(tmp_path, seed):
    generate(tmp_path / "demo", seed=seed, num_train=72, num_test=1, width=256, height=144)
    assert_every_class_is_in_two_flights(tmp_path / "demo")


def test_classes_are_about_as_unequal_as_in_aeroscapes(demo):
    share = dict(zip(CLASSES, pixel_shares(demo), strict=True))
    assert 0.1 < share["Background"] < 0.3 and 0.25 < share["Vegetation"] < 0.45 and 0.25 < share["Road"] < 0.45
    assert 0.02 < share["Construction"] < 0.1 and 0.02 < share["Sky"] < 0.08
    assert max(share[name] for name in ("Person", "Bike", "Car", "Drone", "Boat", "Animal", "Obstacle")) < 0.02
    assert min(share.values()) > 0


def test_sky_is_above_and_brighter_than_the_ground_under_it(demo):
    for name, mask in read_masks(demo).items():
        if (mask == 11).any():
            grey = cv2.imread(str(demo / f"imgs/imgs/{name}.jpg"), cv2.IMREAD_GRAYSCALE)
            assert np.nonzero(mask == 11)[0].mean() < 0.4 * mask.shape[0]
            assert grey[mask == 11].mean() > grey[mask != 11].mean()


def thumbnail(folder: Path, name: str) -> np.ndarray:
    grey = cv2.imread(str(folder / f"imgs/imgs/{name}.jpg"), cv2.IMREAD_GRAYSCALE)
    small = cv2.resize(grey, (16, 9), interpolation=cv2.INTER_AREA).ravel().astype(float)
    return (small - small.mean()) / small.std()


def test_neighbouring_frames_are_nearly_the_same_and_different_flights_are_not(demo):
    names = sorted(read_ids(demo, "train") + read_ids(demo, "test"))
    flights = np.array([name[:6] for name in names])
    thumbnails = np.stack([thumbnail(demo, name) for name in names])
    likeness = thumbnails @ thumbnails.T / thumbnails.shape[1]
    neighbours = np.diagonal(likeness, 1)[flights[1:] == flights[:-1]]
    strangers = likeness[flights[:, None] != flights[None, :]]
    assert strangers.max() < 0.9 < np.median(neighbours)  # views with a horizon are the most alike of the strangers
    assert np.percentile(strangers, 95) < 0.6 < neighbours.min()


def test_equal_settings_give_equal_bytes_in_another_process_with_other_threads(small_original, tmp_path):
    program = f"from pipeline.demo.write import generate; generate({str(tmp_path / 'again')!r}, **{SMALL})"
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, env=environment, check=True)
    assert hash_files(tmp_path / "again") == hash_files(small_original)


def test_another_seed_gives_other_images(small_original, tmp_path):
    generate(tmp_path / "other", seed=1, **SMALL)
    first, other = hash_files(small_original), hash_files(tmp_path / "other")
    images = [name for name in first if name.startswith("imgs") and name in other]
    assert images and not any(first[name] == other[name] for name in images)


def test_a_folder_of_the_same_settings_is_kept(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    generate(small, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_a_folder_of_other_settings_is_made_anew(small, tmp_path):
    generate(small, **(SMALL | {"num_train": 5}))
    assert len(read_ids(small, "train")) == 5 == len(list((small / "masks/masks").iterdir()))
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "marker"])
def test_a_damaged_folder_is_made_anew(small, small_original, damage):
    victim = small / "demo.json" if damage == "marker" else next((small / "masks/masks").iterdir())
    content = victim.read_bytes()
    flipped = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    if damage == "remove":
        victim.unlink()
    else:
        victim.write_bytes(flipped if damage == "flip" else content[: len(content) // 2])
    generate(small, **SMALL)
    assert hash_files(small) == hash_files(small_original)


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/holiday.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"(?s)holds no demo competition.*Move it away"):
        generate(tmp_path / "demo", **SMALL)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["holiday.jpg"]


def test_an_empty_folder_is_filled(small_original, tmp_path):
    (tmp_path / "demo").mkdir()
    generate(tmp_path / "demo", **SMALL)
    assert hash_files(tmp_path / "demo") == hash_files(small_original)


def test_impossible_settings_are_refused_all_at_once(tmp_path):
    with pytest.raises(UserError, match=r"(?s)num_train = 0: expected 1 or more.*width = 10: expected 64 or more"):
        generate(tmp_path / "demo", num_train=0, width=10)
    assert not list(tmp_path.iterdir())


def kill_while_drawing(folder: Path, num_files: int) -> None:
    """Starts another process that generates and kills it once its draft holds `num_files` files."""
    settings = SMALL | {"num_train": 60}
    program = f"from pipeline.demo.write import generate; generate({str(folder)!r}, **{settings})"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if len(list(folder.parent.glob("demo.tmp-*/*/*/*"))) >= num_files:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("num_files", [1, 30])
def test_killed_half_way_it_leaves_no_folder_and_the_next_run_cleans_up(tmp_path, small_original, num_files):
    kill_while_drawing(tmp_path / "demo", num_files)
    assert not (tmp_path / "demo").exists()
    generate(tmp_path / "demo", **SMALL)
    assert hash_files(tmp_path / "demo") == hash_files(small_original)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_killed_half_way_it_leaves_an_earlier_folder_as_it_was(small, small_original):
    kill_while_drawing(small, 20)
    assert hash_files(small) == hash_files(small_original)


@given(
    yaw=st.floats(-7, 7), pitch=st.floats(0.5, 1.57), roll=st.floats(-0.2, 0.2), altitude=st.floats(2, 60),
    column=st.floats(0, 384), row=st.floats(0, 216),
)  # fmt: skip
def test_the_ground_point_of_a_pixel_is_projected_back_onto_it(yaw, pitch, roll, altitude, column, row):
    camera = aim((3.0, -4.0, altitude), yaw, pitch, roll, 1.2, 384, 216)
    point = ground_points(camera, [[column, row]])
    if np.isfinite(point).all():
        pixel, depth = project(camera, np.column_stack([point, [0.0]]))
        assert depth[0] > 0
        np.testing.assert_allclose(pixel, [[column, row]], atol=1e-3)


@given(x=st.integers(-200, 200), y=st.integers(-200, 200), wavelength=st.floats(2, 30))
def test_ground_noise_depends_on_the_place_only(x, y, wavelength):
    grid = lattice(np.random.default_rng(0))
    fine = world_noise(grid, (x, y), 4.0, 64, wavelength)
    coarse = world_noise(grid, (x, y), 2.0, 32, wavelength)
    moved = world_noise(grid, (x + 1, y + 2), 4.0, 32, wavelength)
    np.testing.assert_allclose(coarse, fine[::2, ::2], atol=1e-4)
    np.testing.assert_allclose(moved, fine[8:40, 4:36], atol=1e-4)
