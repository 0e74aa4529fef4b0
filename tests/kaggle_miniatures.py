"""Miniatures of further competitions on Kaggle: their folders, names, lists and file types; ellipses as content.

Of each the layout is as the competition's data page describes it; `configs/competitions/` names the source. The images
are small; those of the clouds are larger than the masks to submit, as the real ones are.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from pipeline.config.competition import Convention
from pipeline.segmentation.submission.rle import encode

TINTS = ((90, 20, 10), (10, 90, 30), (10, 20, 110), (70, 80, 0))
COLUMN, ROW = Convention("column", 1), Convention("row", 1)


def scene(
    seed: int, height: int, width: int, num_kinds: int = 1, each: int = 2, may_overlap: bool = False
) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """Returns an image, uint8 [H, W, 3], and of each kind its objects, bool [H, W]: ellipses in its colour."""
    rng = np.random.default_rng(seed)
    image, taken = rng.integers(40, 80, (height, width, 3)), np.zeros((height, width), bool)
    kinds: list[list[np.ndarray]] = []
    for tint in TINTS[:num_kinds]:
        own = []
        for _ in range(each):
            drawn = np.zeros((height, width), np.uint8)
            middle = (int(rng.integers(width // 6, width * 5 // 6)), int(rng.integers(height // 6, height * 5 // 6)))
            axes = (int(rng.integers(width // 14 + 2, width // 6)), int(rng.integers(height // 14 + 2, height // 6)))
            cv2.ellipse(drawn, middle, axes, int(rng.integers(0, 180)), 0, 360, 1, -1)
            mask = (drawn > 0) & (may_overlap | ~taken)
            taken |= mask
            image[mask] += tint
            own += [mask] if mask.any() else []
        kinds.append(own)
    return image.clip(0, 255).astype(np.uint8), kinds


def whole(objects: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the pixels of all objects of a kind, bool [H, W]."""
    return np.logical_or.reduce(objects)


def runs(mask: np.ndarray, convention: Convention) -> str:
    """Returns the run lengths of a mask."""
    return encode(mask.astype(np.uint8), 2, convention)[1]


def write_list(path: Path, header: str, rows: Iterable[Sequence]) -> None:
    """Writes a csv."""
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header.split(","), *rows])


def save(path: Path, pixels: np.ndarray, **options) -> None:
    """Writes an image of the kind that the suffix says; TIFFs as tifffile does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, pixels, **options)
    else:
        Image.fromarray(pixels).save(path, **options)


def understanding_clouds(data: Path) -> Path:
    """Rows <file>_<pattern>, blank without that pattern; patterns overlap; the sample has 1 1 in each row."""
    folder, names, rows = data / "understanding_cloud_organization", ("Fish", "Flower", "Gravel", "Sugar"), []
    for seed in range(6):
        image, kinds = scene(seed, 420, 630, 4, 1, may_overlap=True)
        name = f"{seed * 7919 + 0x11165:07x}.jpg"
        save(folder / f"train_images/{name}", image, quality=95)
        for index, (pattern, objects) in enumerate(zip(names, kinds, strict=True)):
            rows.append([f"{name}_{pattern}", runs(whole(objects), COLUMN) if (seed + index) % 3 else ""])
    write_list(folder / "train.csv", "Image_Label,EncodedPixels", rows)
    tests = [f"{seed * 104729 + 17:07x}.jpg" for seed in range(3)]
    for seed, name in enumerate(tests):
        save(folder / f"test_images/{name}", scene(100 + seed, 420, 630, 4, 1, may_overlap=True)[0], quality=95)
    sample = [[f"{name}_{pattern}", "1 1"] for name in tests for pattern in names]
    write_list(folder / "sample_submission.csv", "Image_Label,EncodedPixels", sample)
    return folder


def ultrasound_nerve(data: Path) -> Path:
    """Masks beside the images; numbers of patients are names of test images, too; the list has ids in two columns."""
    folder, rows = data / "ultrasound-nerve-segmentation", []
    for patient in range(1, 5):
        for number in range(1, 5):
            image, (objects,) = scene(patient * 10 + number, 84, 116, 1, 1)
            mask = whole(objects) & ((patient + number) % 3 > 0)
            save(folder / f"train/{patient}_{number}.tif", image[..., 0])
            save(folder / f"train/{patient}_{number}_mask.tif", mask.astype(np.uint8) * 255)
            rows.append([patient, number, runs(mask, COLUMN)])
    write_list(folder / "train_masks.csv", "subject,img,pixels", rows)
    for number in range(1, 6):
        save(folder / f"test/{number}.tif", scene(900 + number, 84, 116, 1, 1)[0][..., 0])
    write_list(folder / "sample_submission.csv", "img,pixels", [[number, "1 1"] for number in range(1, 6)])
    return folder


def sartorius_cells(data: Path) -> Path:
    """A row per cell with much beside it, images without labels in another folder, a sample with blank cells."""
    folder, rows = data / "sartorius-cell-instance-segmentation", []
    for seed in range(8):
        image, (objects,) = scene(200 + seed, 104, 140, 1, 5)
        name, kind = f"{seed * 987654321 + 0x81:012x}", ("shsy5y", "astro", "cort")[seed % 3]
        save(folder / f"train/{name}.png", image[..., 0])
        more = [140, 104, kind, "19h58m00s", "2019-06-16", f"{kind}[diff]_E10-4_Vessel-714_Ph_3", "0 days 11:30:00"]
        rows += [[name, runs(mask, ROW), *more] for mask in objects]
    header = "id,annotation,width,height,cell_type,plate_time,sample_date,sample_id,elapsed_timedelta"
    write_list(folder / "train.csv", header, rows)
    tests = [f"{seed * 123456789 + 7:012x}" for seed in range(3)]
    for seed, name in enumerate(tests):
        save(folder / f"test/{name}.png", scene(300 + seed, 104, 140, 1, 5)[0][..., 0])
        save(folder / f"train_semi_supervised/astro[diff]_Ph_{seed}.png", scene(320 + seed, 104, 140, 1)[0][..., 0])
    write_list(folder / "sample_submission.csv", "id,predicted", [[name, ""] for name in tests])
    return folder


def sennet_vessels(data: Path) -> Path:
    """16-bit slices numbered in a folder per kidney, whose name has `_`; labels without images; 1 0 for empty."""
    folder, rows = data / "blood-vessel-segmentation", []
    for number, kidney in enumerate(("kidney_1_dense", "kidney_1_voi", "kidney_2", "kidney_3_sparse")):
        for index in range(4):
            image, (objects,) = scene(400 + 10 * number + index, 90, 120, 1, 3)
            mask = whole(objects) & (index > 0)
            save(folder / f"train/{kidney}/images/{index:04d}.tif", image[..., 0].astype(np.uint16) * 150 + 8000)
            save(folder / f"train/{kidney}/labels/{index:04d}.tif", mask.astype(np.uint8) * 255)
            rows.append([f"{kidney}_{index:04d}", runs(mask, ROW) or "1 0"])
    for index in range(2):
        save(folder / f"train/kidney_3_dense/labels/{index:04d}.tif", np.zeros((90, 120), np.uint8))
        rows.append([f"kidney_3_dense_{index:04d}", "1 0"])
    write_list(folder / "train_rles.csv", "id,rle", rows)
    tests = [(kidney, index) for kidney in ("kidney_5", "kidney_6") for index in range(2)]
    for seed, (kidney, index) in enumerate(tests):
        pixels = scene(480 + seed, 100, 110, 1, 3)[0][..., 0].astype(np.uint16) * 150 + 8000
        save(folder / f"test/{kidney}/images/{index:04d}.tif", pixels)
    write_list(
        folder / "sample_submission.csv", "id,rle", [[f"{kidney}_{index:04d}", "1 0"] for kidney, index in tests]
    )
    return folder


def hubmap_organs(data: Path) -> Path:
    """Square slides of several sizes, outlines in JSON beside the run lengths, a list of test images with more."""
    folder, rows = data / "hubmap-organ-segmentation", []
    for seed in range(8):
        side, name = (96, 104, 120)[seed % 3], str(10044 + seed * 223)
        image, (objects,) = scene(500 + seed, side, side, 1, 3)
        save(folder / f"train_images/{name}.tiff", image, photometric="rgb")
        (folder / "train_annotations").mkdir(exist_ok=True)
        (folder / f"train_annotations/{name}.json").write_text("[[[1, 2], [3, 4]]]")
        organ = ("prostate", "spleen", "lung", "kidney", "largeintestine")[seed % 5]
        rows.append([name, organ, "HPA", side, side, 0.4, 4, runs(whole(objects), COLUMN), 37.0 + seed, "Male"])
    header = "id,organ,data_source,img_height,img_width,pixel_size,tissue_thickness"
    write_list(folder / "train.csv", f"{header},rle,age,sex", rows)
    save(folder / "test_images/10078.tiff", scene(550, 112, 112, 1, 3)[0], photometric="rgb")
    write_list(folder / "test.csv", header, [["10078", "spleen", "Hubmap", 112, 112, 0.4945, 4]])
    write_list(folder / "sample_submission.csv", "id,rle", [["10078", "1 1"]])
    return folder


def imaterialist_fashion(data: Path) -> Path:
    """A row per object, attributes behind the class, images of many sizes; the sample has rows of one class."""
    folder, rows = data / "imaterialist-fashion-2019-FGVC6", []
    labels = (("0", "0_5_7"), ("6", "6_20_115"), ("12_3_45", "12"))
    for seed in range(8):
        height, width = ((120, 90), (100, 140), (128, 96))[seed % 3]
        image, kinds = scene(600 + seed, height, width, 3, 2)
        name = f"{seed * 99991 + 4096:032x}.jpg"
        save(folder / f"train/{name}", image, quality=95)
        for own, objects in zip(labels, kinds, strict=True):
            shown = zip(objects, own, strict=False)
            rows += [[name, runs(mask, COLUMN), height, width, label] for mask, label in shown]
    write_list(folder / "train.csv", "ImageId,EncodedPixels,Height,Width,ClassId", rows)
    tests = [f"{seed * 55555 + 31:032x}.jpg" for seed in range(3)]
    for seed, name in enumerate(tests):
        save(folder / f"test/{name}", scene(660 + seed, 110, 130, 3)[0], quality=95)
    write_list(
        folder / "sample_submission.csv", "ImageId,EncodedPixels,ClassId", [[name, "1 1", "0"] for name in tests]
    )
    return folder


DRAWN: dict[str, Callable[[Path], Path]] = {
    draw.__name__: draw
    for draw in (
        *(understanding_clouds, ultrasound_nerve, sartorius_cells, sennet_vessels, hubmap_organs),
        imaterialist_fashion,
    )
}
