"""Miniatures of public benchmarks: their real folders, names, file types and stored values; rectangles as content.

Of each the layout is as the organisers' page or development kit describes it; `configs/competitions/` names the source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

GEO_SCALE = (33550, "d", 3, (0.3, 0.3, 0.0), True)  # tag of a GeoTIFF: metres of a pixel
ISAID_COLORS = ((0, 0, 0), (0, 0, 63), (0, 127, 255), (0, 100, 155))  # unlabeled, ship, plane, harbor


def scene(seed: int, height: int, width: int, values: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image, uint8 [H, W, 3], and its mask, uint8 [H, W]: the first of the values, and bars of others."""
    rng = np.random.default_rng(seed)
    mask = np.full((height, width), values[0], np.uint8)
    for index, value in enumerate(values[1:]):
        left = index * width // max(1, len(values) - 1)
        mask[height // 4 + index : height * 3 // 4, left : left + width // len(values)] = value
    image = rng.integers(0, 60, (height, width, 3)) + (mask[..., None] * np.array([37, 91, 53])) % 190
    return image.astype(np.uint8), mask


def voc_palette() -> list[int]:
    """Returns the palette of VOC's masks: the bits of a number, three by three, are the highest bits of its colour."""
    return [
        sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3))
        for index in range(256)
        for channel in range(3)
    ]


def save(path: Path, image: Image.Image | np.ndarray, **options) -> None:
    """Writes an image file of the kind that its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)


def ade20k(data: Path) -> Path:
    """ADEChallengeData2016 and release_test: JPEGs of many sizes, grey masks of 0 to 150."""
    folder, num = data / "ADEChallengeData2016", {"train": ("training", 6), "val": ("validation", 3)}
    for short, (subset, count) in num.items():
        for number in range(1, count + 1):
            size = ((64, 96), (80, 64))[number % 2]
            image, mask = scene(number, *size, (1, 3, 0, 150 if number % 2 else 13))
            save(folder / f"images/{subset}/ADE_{short}_{number:08d}.jpg", image)
            save(folder / f"annotations/{subset}/ADE_{short}_{number:08d}.png", mask)
    for number in range(1, 4):
        save(data / f"release_test/testing/ADE_test_{number:08d}.jpg", scene(number, 64, 96, (1, 3))[0])
    (folder / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n1\t0.1576\t11664\t1172\twall\n")
    (folder / "sceneCategories.txt").write_text("ADE_train_00000001 airport_terminal\n")
    return folder


def pascal_voc_2012(data: Path) -> Path:
    """VOCdevkit/VOC2012: lists of ids, palette masks with a void border, images that no list of the task has."""
    folder = data / "VOCdevkit/VOC2012"
    names = [f"2007_{number:06d}" for number in (27, 32, 39, 63, 68, 121, 170, 241, 250)]
    for number, name in enumerate(names):
        image, mask = scene(number, 60, 90, (0, 1, 15 + number % 6))
        mask[14:16] = 255
        save(folder / f"JPEGImages/{name}.jpg", image)
        for kind in ("SegmentationClass", "SegmentationObject"):
            picture = Image.fromarray(mask)
            picture.putpalette(voc_palette())
            save(folder / f"{kind}/{name}.png", picture)
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / f"Annotations/{name}.xml").write_text("<annotation/>\n")
    for number in range(4):
        image = scene(number, 60, 90, (0, 1))[0]
        save(folder / f"JPEGImages/2008_{number:06d}.jpg", image)
        save(data / f"VOCtest/2008_{100 + number:06d}.jpg", image)
    lists = {"train": names[:6], "val": names[6:], "trainval": names}
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    (folder / "ImageSets/Main").mkdir(parents=True)
    for name, ids in lists.items():
        (folder / f"ImageSets/Segmentation/{name}.txt").write_text("".join(f"{id}\n" for id in ids))
        (folder / f"ImageSets/Main/aeroplane_{name}.txt").write_text("".join(f"{id} -1\n" for id in ids))
    return folder


def coco_stuff(data: Path) -> Path:
    """COCO 2017 with stuffthingmaps: grey masks of 0 to 181 with gaps, 255 for unlabeled; some images are grey."""
    folder = data / "cocostuff"
    for subset, numbers in {"train2017": (9, 25, 30, 34, 36, 42), "val2017": (139, 285, 632)}.items():
        for number in numbers:
            image, mask = scene(number, 64, 80, (156, 0, 12, 181 if number % 2 else 91))
            mask[:5] = 255
            picture = Image.fromarray(image).convert("L") if number == 42 else image
            save(folder / f"images/{subset}/{number:012d}.jpg", picture)
            save(folder / f"annotations/{subset}/{number:012d}.png", mask)
        (folder / f"annotations/instances_{subset}.json").write_text("{}\n")
    for number in (1, 16, 19):
        save(data / f"test2017/{number:012d}.jpg", scene(number, 64, 80, (156, 0))[0])
    return folder


def inria_aerial(data: Path) -> Path:
    """AerialImageDataset: GeoTIFFs, masks of 0 and 255 with LZW; images 1 to 5 of a city are for validation."""
    folder = data / "AerialImageDataset"
    cities = {"train": ("austin", "tyrol-w"), "test": ("bellingham", "tyrol-e")}
    for subset, names in cities.items():
        (folder / f"{subset}/images").mkdir(parents=True)
        for name in names:
            for number in (1, 2, 5, 6, 7, 10, 15) if subset == "train" else (1, 2):
                image, mask = scene(number, 96, 96, (0, 255))
                path = folder / f"{subset}/images/{name}{number}.tif"
                tifffile.imwrite(path, image, photometric="rgb", extratags=[GEO_SCALE])
                if subset == "train":
                    save(folder / f"train/gt/{name}{number}.tif", mask, compression="tiff_lzw")
    return folder


def isaid(data: Path) -> Path:
    """iSAID as its development kit wants it: both kinds of masks, in colours, beside the images; many sizes."""
    folder = data / "iSAID"
    for subset, numbers in {"train": (2, 5, 8, 10, 11, 12), "val": (3, 4, 7), "test": (6, 9)}.items():
        for number in numbers:
            size = ((64, 96), (112, 80), (96, 96))[number % 3]
            image, mask = scene(number, *size, (0, 1, 2, 3))
            stem = f"{folder}/{subset}/images/P{number:04d}"
            save(Path(f"{stem}.png"), Image.fromarray(image).convert("L") if number == 8 else image)
            if subset != "test":
                save(Path(f"{stem}_instance_color_RGB.png"), np.array(ISAID_COLORS, np.uint8)[mask])
                save(Path(f"{stem}_instance_id_RGB.png"), np.stack([mask * 3, mask, mask * 7], -1))
    return folder


DRAWN: dict[str, Callable[[Path], Path]] = {
    draw.__name__: draw for draw in (ade20k, pascal_voc_2012, coco_stuff, inria_aerial, isaid)
}
