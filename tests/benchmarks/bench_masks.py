"""Masks from run lengths in a csv against PNG files of the same masks: reading them, building the store, an epoch.

    python -m tests.benchmarks.bench_masks

48 images of 800x320 with four classes, as Severstal halves. An epoch is all training samples at their own size from the
store, then all validation images and masks from their files; both ways must give the same masks.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.config.competition import Competition, Convention, MaskCsv
from pipeline.config.load import load
from pipeline.data.build_store import build_store
from pipeline.data.image_source import ImageSource
from pipeline.data.loaders import SampleKey
from pipeline.data.store import open_store
from pipeline.segmentation.mask_facts import find_facts
from pipeline.segmentation.mask_source import MaskSource
from pipeline.segmentation.samples import whole_images
from pipeline.segmentation.submission.rle import encode
from pipeline.segmentation.train_samples import TrainDataset
from tests.benchmarks.timing import alternate, show
from tests.data.catalogs import train_catalog

HEIGHT, WIDTH, NUM_IMAGES, NUM_ROUNDS = 320, 800, 48, 7
CONVENTION = Convention("column", 1)
CSV = MaskCsv("train.csv", class_column="class", order="column", base=1, relative=False)
PNG = Competition(
    name="steel",
    title="Steel",
    classes=("back", "a", "b", "c", "d"),
    images="images/{id}.jpg",
    masks="masks/{id}.png",
    id_column="id",
    train_csv=None,
    test_csv=None,
)
RUNS = replace(PNG, masks=CSV, class_labels="names")


def write(folder: Path) -> None:
    """Writes images, PNG masks and a csv of run lengths."""
    rng, rows = np.random.default_rng(1), ["id,class,rle"]
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(NUM_IMAGES):
        image_id, mask = f"i{number:03d}", np.zeros((HEIGHT, WIDTH), np.uint8)
        for index in range(1, 5):
            for _ in range(3):
                center, axes = rng.integers(0, (WIDTH, HEIGHT)), rng.integers(8, 60, 2)
                cv2.ellipse(mask, list(map(int, center)), list(map(int, axes)), 0, 0, 360, index, -1)
        image = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 3)
        cv2.imwrite(str(folder / f"images/{image_id}.jpg"), image)
        cv2.imwrite(str(folder / f"masks/{image_id}.png"), mask)
        texts = encode(mask, 5, CONVENTION)
        rows += [f"{image_id},{name},{text}" for name, text in zip(PNG.classes[1:], texts[1:], strict=True) if text]
    (folder / "train.csv").write_text("\n".join(rows) + "\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        augmentation = load("demo", ("DATASETS.AUGMENTATION.TILE.ENABLE=false",)).config.datasets.augmentation
        reading, building, epochs, masks = {}, {}, {}, {}
        for label, competition in (("PNG files", PNG), ("run lengths in a csv", RUNS)):
            images, catalog = ImageSource(competition, folder), train_catalog(competition, folder)[0]
            source = MaskSource(competition, folder, find_facts(competition, folder))
            rows = list(catalog.itertuples())
            masks[label] = [source.read(row) for row in rows]
            store = build_store(images, catalog, None, folder / "tiles", source, lambda line: None)
            train = TrainDataset(open_store(store), catalog["id"].tolist(), augmentation, 0, competition.class_names)
            valid = whole_images(catalog, images.read, source.read)

            def read(source=source, rows=rows) -> None:
                for row in rows:
                    source.read(row)

            def build(images=images, catalog=catalog, source=source, competition=competition) -> None:
                with tempfile.TemporaryDirectory() as target:
                    build_store(images, catalog, None, target, source, lambda line: None)

            def epoch(train=train, valid=valid) -> None:
                for index in range(len(train)):
                    train[SampleKey(1, index)]
                for index in range(len(valid)):
                    valid[index]

            reading[label], building[label], epochs[label] = read, build, epoch
        first, second = masks.values()
        assert all(map(np.array_equal, first, second))
        bar = "run lengths at least x1 of PNG files in an epoch"
        for title, ways in (("read the masks", reading), ("build the store", building), ("an epoch", epochs)):
            show(f"{title}, {NUM_IMAGES} images of {WIDTH}x{HEIGHT}", alternate(ways, NUM_ROUNDS), bar)


if __name__ == "__main__":
    main()
