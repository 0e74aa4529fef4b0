"""Small folders of the usual kinds of competitions, drawn: images of noise, masks of rectangles, lists as they come."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

HEIGHT, WIDTH = 48, 64


def photo(seed: int) -> np.ndarray:
    """Returns an image of noise with a bright rectangle, uint8 [48, 64, 3]."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    image[mask(seed) > 0] += 100
    return image


def mask(seed: int, values: Sequence[int] = (0, 1)) -> np.ndarray:
    """Returns a mask whose pixels are one of `values`, all of which occur: uint8 [48, 64]."""
    rng = np.random.default_rng(seed)
    drawn = np.full((HEIGHT, WIDTH), values[0], np.uint8)
    for index, value in enumerate(values[1:]):
        y, x = 3 + rng.integers(0, 5), (index + 1) * WIDTH // (len(values) + 1)
        drawn[y : y + 20 + int(rng.integers(0, 9)), x : x + 6] = value
    return drawn


def write(path: Path, pixels: np.ndarray) -> None:
    """Writes an image or mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes an npy file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def write_dicom(path: Path, grey: np.ndarray) -> None:
    """Writes a grey image of 8 or 16 bits as DICOM, without compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = grey.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation, dataset.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * grey.itemsize
    dataset.HighBit, dataset.PixelData = dataset.BitsStored - 1, grey.tobytes()
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Writes a list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def runs(drawn: np.ndarray) -> str:
    """Returns the run lengths of a mask, down the columns, the first pixel is 1."""
    flat = np.concatenate([[0], (drawn > 0).T.ravel().astype(np.int8), [0]])
    starts, ends = np.flatnonzero(np.diff(flat) == 1), np.flatnonzero(np.diff(flat) == -1)
    return " ".join(f"{start + 1} {end - start}" for start, end in zip(starts, ends, strict=True))


def name_of(seed: int) -> str:
    """Returns a name as competitions give them: 9 hexadecimal digits."""
    return f"{(seed + 1) * 0x9E3779B1 % 16**9:09x}"


def cars(folder: Path) -> None:
    """Carvana's kind: masks of 0 and 1 under names that end otherwise, their run lengths too, views of a car."""
    ids = [f"{name_of(car)}_{view:02d}" for car in range(4) for view in range(1, 4)]
    for seed, name in enumerate(ids):
        write(folder / f"train/{name}.jpg", photo(seed))
        write(folder / f"train_masks/{name}_mask.gif", mask(seed))
    tests = [f"{name_of(99)}_{view:02d}.jpg" for view in range(1, 4)]
    for seed, name in enumerate(tests):
        write(folder / "test" / name, photo(50 + seed))
    write_csv(folder / "train_masks.csv", ["img", "rle"], [(f"{n}.jpg", runs(mask(s))) for s, n in enumerate(ids)])
    write_csv(folder / "sample_submission.csv", ["img", "rle"], [(name, "1 1") for name in tests])


def defects(folder: Path) -> None:
    """Severstal's kind: run lengths with a column of classes, images without a row, two samples."""
    names = [f"{name_of(seed)}.jpg" for seed in range(10)]
    for seed, name in enumerate(names):
        write(folder / "train_images" / name, photo(seed))
        write(folder / "test_images" / f"t{name}", photo(50 + seed))
    rows = [(names[seed], 1 + seed % 3, runs(mask(seed))) for seed in range(7)]
    write_csv(folder / "train.csv", ["ImageId", "ClassId", "EncodedPixels"], rows)
    sample = [(f"t{name}", "1 5", label) for name in names for label in (1, 2, 3)]
    write_csv(folder / "sample_submission.csv", ["ImageId", "EncodedPixels", "ClassId"], sample)
    first = [(f"{name}_{label}", runs) for name, runs, label in sample]
    write_csv(folder / "sample_submission_first_edition.csv", ["ImageId_ClassId", "EncodedPixels"], first)


def clouds(folder: Path) -> None:
    """A row for each image and class, the class by name behind the id."""
    names = [f"{name_of(seed)}.jpg" for seed in range(8)]
    for seed, name in enumerate(names):
        write(folder / "train_images" / name, photo(seed))
        write(folder / "test_images" / f"t{name}", photo(50 + seed))
    kinds = ("Fish", "Flower", "Sugar")
    rows = [
        (f"{name}_{kind}", runs(mask(s)) if kind != "Fish" else "") for s, name in enumerate(names) for kind in kinds
    ]
    write_csv(folder / "train.csv", ["Image_Label", "EncodedPixels"], rows)
    sample = [(f"t{name}_{kind}", "1 1") for name in names for kind in kinds]
    write_csv(folder / "sample_submission.csv", ["Image_Label", "EncodedPixels"], sample)


def streets(folder: Path) -> None:
    """Cityscapes' kind: subsets, cities, masks of labels beside other drawings of them, no list."""
    for subset, cities in {"train": ("aachen", "bochum"), "val": ("lindau",), "test": ("berlin",)}.items():
        for number, city in enumerate(cities):
            for frame in range(4):
                name, seed = f"{city}_{frame:06d}_000019", 10 * number + frame
                write(folder / f"leftImg8bit/{subset}/{city}/{name}_leftImg8bit.png", photo(seed))
                labels = mask(seed, (7, 23, 26, 33)) if subset != "test" else np.full((HEIGHT, WIDTH), 3, np.uint8)
                stem = folder / f"gtFine/{subset}/{city}/{name}_gtFine"
                write(Path(f"{stem}_labelIds.png"), labels)
                write(Path(f"{stem}_instanceIds.png"), labels)
                write(Path(f"{stem}_color.png"), np.stack([labels, labels * 3, labels * 5], -1))


def land(folder: Path) -> None:
    """LoveDA's kind: subsets in capitals, domains in which names do not repeat, dense values."""
    seed = 0
    for subset, number in {"Train": 4, "Val": 2, "Test": 2}.items():
        for domain in ("Urban", "Rural"):
            for _ in range(number):
                write(folder / f"{subset}/{domain}/images_png/{seed}.png", photo(seed))
                if subset != "Test":
                    write(folder / f"{subset}/{domain}/masks_png/{seed}.png", mask(seed, (0, 1, 2, 3, 4)))
                seed += 1


def class_files(folder: Path) -> None:
    """A mask file for each class that an image has, the class in its name."""
    for seed in range(6):
        write(folder / f"images/{name_of(seed)}.jpg", photo(seed))
        for name in ("road", "tree")[: 1 + seed % 2]:
            write(folder / f"masks/{name_of(seed)}_{name}.png", mask(seed) * 255)


def class_folders(folder: Path) -> None:
    """A folder of masks for each class."""
    for seed in range(6):
        write(folder / f"images/{name_of(seed)}.jpg", photo(seed))
        for name in ("road", "tree"):
            write(folder / f"masks/{name}/{name_of(seed)}.png", mask(seed) * 255)


def voc(folder: Path) -> None:
    """Pascal VOC's kind: palettes of class numbers, 255 for the borders."""
    for seed in range(6):
        write(folder / f"JPEGImages/{name_of(seed)}.jpg", photo(seed))
        picture = Image.fromarray(mask(seed, (0, 1, 2, 255)))
        picture.putpalette([value % 256 for value in range(768)])
        path = folder / f"SegmentationClass/{name_of(seed)}.png"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)


def colored(folder: Path) -> None:
    """Masks in colours, of the images' own suffix."""
    table = np.zeros((3, 3), np.uint8)
    table[1:] = [(60, 16, 152), (226, 169, 41)]
    for seed in range(6):
        write(folder / f"photos/{name_of(seed)}.png", photo(seed))
        write(folder / f"annotations/{name_of(seed)}.png", table[mask(seed, (0, 1, 2))])


def beside(folder: Path) -> None:
    """Images and masks of 0 and 255 in one folder, and both subsets in another."""
    for subset, number in {"training": 6, "testing": 3}.items():
        for seed in range(number):
            write(folder / f"{subset}/{name_of(seed + number)}.png", photo(seed))
            if subset == "training":
                write(folder / f"{subset}/{name_of(seed + number)}_mask.png", mask(seed) * 255)


def one_folder(folder: Path) -> None:
    """AeroScapes' kind: all images in a folder, lists that say which are to be predicted."""
    names = [f"{flight:03d}_{frame:03d}" for flight in range(4) for frame in range(4)]
    for seed, name in enumerate(names):
        write(folder / f"imgs/imgs/{name}.jpg", photo(seed))
        if seed < 12:
            write(folder / f"masks/masks/{name}.png", mask(seed, (0, 1, 2)))
    write_csv(folder / "train.csv", ["ImageID"], [(name,) for name in names[:12]])
    write_csv(folder / "test.csv", ["ImageID"], [(name,) for name in names[12:]])
    sample = [(f"{name}_{label}", "") for name in names[12:] for label in range(3)]
    write_csv(folder / "sample_submission.csv", ["ImageID", "EncodedPixels"], sample)


def listed_beside(folder: Path) -> None:
    """Images, two kinds of masks and a list of the images in one folder; a list of others for validation."""
    for seed in range(8):
        write(folder / f"data/{name_of(seed)}.png", photo(seed))
        write(folder / f"data/{name_of(seed)}_mask.png", mask(seed))
        write(folder / f"data/{name_of(seed)}_mask_color.png", np.stack([mask(seed) * 9] * 3, -1))
    (folder / "data/train.txt").write_text("".join(f"{name_of(seed)}\n" for seed in range(6)))
    (folder / "data/val.txt").write_text("".join(f"{name_of(seed)}\n" for seed in (6, 7)))


def nuclei(folder: Path) -> None:
    """The Data Science Bowl's kind: a folder for each image, in it a file for each object."""
    for seed in range(6):
        name = name_of(seed)
        write(folder / f"stage1_train/{name}/images/{name}.png", photo(seed))
        for index in range(2):
            write(
                folder / f"stage1_train/{name}/masks/{name_of(100 + 10 * seed + index)}.png", mask(seed + index) * 255
            )
    objects = [(name_of(seed), runs(mask(seed + index))) for seed in range(6) for index in range(2)]
    write_csv(folder / "stage1_train_labels.csv", ["ImageId", "EncodedPixels"], objects)
    for seed in range(3):
        name = name_of(seed + 40)
        write(folder / f"stage1_test/{name}/images/{name}.png", photo(seed))
    sample = [(name_of(seed + 40), "1 1") for seed in range(3)]
    write_csv(folder / "stage1_sample_submission.csv", ["ImageId", "EncodedPixels"], sample)


def glued(folder: Path) -> None:
    """SegNet's kind of CamVid: a subset and what it holds in one word, the same suffix for both."""
    for subset, number in {"train": 6, "val": 3, "test": 3}.items():
        for seed in range(number):
            write(folder / f"{subset}/{subset}{seed:05d}.png", photo(seed))
            write(folder / f"{subset}annot/{subset}{seed:05d}.png", mask(seed, (0, 1, 2, 3)))


def organs(folder: Path) -> None:
    """HuBMAP's second kind: a wide list of facts, of which none is a class."""
    ids = [str(10000 + 77 * seed) for seed in range(8)]
    for seed, name in enumerate(ids):
        write(folder / f"train_images/{name}.tiff", photo(seed))
    write(folder / "test_images/10078.tiff", photo(50))
    header = ["id", "organ", "img_height", "rle", "age"]
    rows = [(name, ("lung", "spleen")[s % 2], HEIGHT, runs(mask(s)), 30 + s % 3) for s, name in enumerate(ids)]
    write_csv(folder / "train.csv", header, rows)
    write_csv(folder / "test.csv", ["id", "organ", "img_height"], [("10078", "lung", HEIGHT)])
    write_csv(folder / "sample_submission.csv", ["id", "rle"], [("10078", "12 34")])


def prefixes(folder: Path) -> None:
    """Images and masks whose names begin otherwise, in two folders."""
    for seed in range(6):
        write(folder / f"data/image/image_{seed:03d}.png", photo(seed))
        write(folder / f"data/mask/mask_{seed:03d}.png", mask(seed) * 255)


def slices(folder: Path) -> None:
    """UW-Madison's kind: ids of parts of the path, classes by name, a sample without rows."""
    rows = []
    for case in (2, 15):
        for day in (0, 16):
            for number in range(1, 4):
                stem = f"train/case{case}/case{case}_day{day}/scans/slice_{number:04d}"
                write(folder / f"{stem}_64_48_1.50.png", photo(number + day))
                for name in ("bowel", "stomach"):
                    rows.append((f"case{case}_day{day}_slice_{number:04d}", name, runs(mask(number + day))))
    write_csv(folder / "train.csv", ["id", "class", "segmentation"], rows)
    write_csv(folder / "sample_submission.csv", ["id", "class", "predicted"], [])


def layers(folder: Path) -> None:
    """Vesuvius' kind: the id is a folder with a file for each layer, masks, their runs, regions of test images, too."""
    for subset, names in {"train": "123", "test": "ab"}.items():
        for seed, name in enumerate(names):
            for layer in range(3):
                path = folder / f"{subset}/{name}/surface_volume/{layer:02d}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), photo(seed + layer)[..., 0].astype(np.uint16) * 100)
            write(folder / f"{subset}/{name}/mask.png", mask(seed + 7) > 0)
            if subset == "train":
                write(folder / f"{subset}/{name}/inklabels.png", mask(seed) > 0)
                by_row = runs(mask(seed).T)
                write_csv(folder / f"{subset}/{name}/inklabels_rle.csv", ["Id", "Predicted"], [(name, by_row)])
    write_csv(folder / "sample_submission.csv", ["Id", "Predicted"], [("a", "1 1 5 1"), ("b", "1 1 5 1")])


def scans(folder: Path) -> None:
    """Slices of 16 bits whose ids are a scan and a number, classes that overlap."""
    rows = []
    for seed, name in enumerate(f"scan{scan}_{number:03d}" for scan in range(3) for number in range(1, 4)):
        write(folder / f"train/{name}.png", photo(seed)[..., 0].astype(np.uint16) * 100)
        rows += [(name, "lung", runs(mask(seed))), (name, "tumour", runs(mask(seed)) if seed % 3 == 0 else "")]
    write_csv(folder / "train.csv", ["id", "class", "rle"], rows)
    write_csv(folder / "sample_submission.csv", ["id", "class", "predicted"], [])


def films(folder: Path) -> None:
    """Contrails' kind: a folder for each image, a file for each band, in it the frames of a film, all as npy."""
    names = {"train": range(6), "validation": range(6, 9), "test": range(9, 11)}
    for subset, seeds in names.items():
        for seed in seeds:
            grey = photo(seed)[..., 0].astype(np.float32) + 200
            for band in (8, 9, 10, 11):
                film = np.stack([grey + 10 * band + frame for frame in range(5)], axis=-1)
                write_array(folder / f"{subset}/{name_of(seed)}/band_{band:02d}.npy", film)
            if subset != "test":
                write_array(
                    folder / f"{subset}/{name_of(seed)}/pixel_masks.npy", mask(seed)[..., None].astype(np.int32)
                )
    sample = [(name_of(seed), "1 1 3 2") for seed in names["test"]]
    write_csv(folder / "sample_submission.csv", ["record_id", "encoded_pixels"], sample)


def volumes(folder: Path) -> None:
    """A folder for each image, in it more layers than are stacked."""
    for seed in range(4):
        for layer in range(21):
            path = folder / f"train/{name_of(seed)}/layers/{layer:02d}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), photo(seed)[..., 0].astype(np.uint16) * 100 + layer)
        write(folder / f"train/{name_of(seed)}/ink_labels.png", mask(seed) * 255)
    write_csv(folder / "train.csv", ["Id"], [(name_of(seed),) for seed in range(4)])


def xrays(folder: Path) -> None:
    """SIIM's kind: DICOM files two folders deep, a row per region, -1 for none."""
    names = [f"1.2.276.{seed + 10}.{1000 - seed}" for seed in range(8)]
    for seed, name in enumerate(names):
        write_dicom(folder / f"dicom-images-train/9.8.{seed}/9.9.{seed}/{name}.dcm", photo(seed)[..., 0])
    write_dicom(folder / "dicom-images-test/9.8.50/9.9.50/1.2.276.99.1.dcm", photo(50)[..., 0])
    rows = [(name, " " + (runs(mask(seed)) if seed % 3 else "-1")) for seed, name in enumerate(names)]
    write_csv(folder / "train-rle.csv", ["ImageId", " EncodedPixels"], rows)
    write_csv(folder / "sample_submission.csv", ["ImageId", "EncodedPixels"], [("1.2.276.99.1", "-1")])


def satellites(folder: Path) -> None:
    """Images of six bands in one file, as npy, and masks beside them, as npy, too."""
    for seed in range(6):
        bands = np.concatenate([photo(seed), photo(seed + 1)], axis=-1).astype(np.uint16) * 30
        write_array(folder / f"x/{name_of(seed)}.npy", bands)
        write_array(folder / f"y/{name_of(seed)}.npy", mask(seed))


KINDS: tuple[Callable[[Path], None], ...] = (
    *(cars, defects, clouds, streets, land, class_files, class_folders, voc, colored, beside, one_folder),
    *(listed_beside, nuclei),
    *(slices, layers, glued, organs, prefixes, scans, films, volumes, xrays, satellites),
)
