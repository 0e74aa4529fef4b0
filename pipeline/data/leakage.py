"""Near-duplicates across a split: training images that show nearly the same as a validation image.

In: images, catalog and split. Out: the table behind leakage.csv. A score on such validation
images measures memory. Two images are near-duplicates when both agree:

- the difference hash, 64 bits: is a cell of the 9x8 brightness grid brighter than its left one; at most 10 differ;
- the normalised correlation of 32x18 thumbnails, at least 0.90; of blank images, which have none, the brightness.

Measured on CamVid's 468 public frames: of 55,977 pairs from different drives none agrees in both (5 in the hash, which
is 9 or more; none in the correlation, which is up to 0.889, and 0.852 within distance 12). In one drive all 100 pairs
up to 0.1 s apart agree, 83 of 446 pairs one second apart, 31 of 406 three seconds apart. On the demo's flights 43 of 62
neighbouring pairs agree and none across flights (distance from 21, correlation to 0.694). On Dubai, whose images do
not overlap, none (distance from 16, correlation to 0.886).
"""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd

from pipeline.data.image_source import ImageSource
from pipeline.data.images import map_files

MAX_DISTANCE = 10
MIN_CORRELATION = 0.90
_HASH_SIZE = (9, 8)
_THUMBNAIL_SIZE = (32, 18)
_MAX_GREY_DIFFERENCE = 2.0  # grey levels; JPEG noise of a blank image stays below
_ROWS_AT_ONCE = 2048  # images compared per step: 2,048 x 10,000 distances are 80 MB


def near_duplicates(images: ImageSource, catalog: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """Returns train_id, valid_id, distance (0 to 10 bits of 64 differ) of all near-duplicate pairs, nearest first."""
    split_rows = catalog.merge(split, on="id")
    is_train = (split_rows["subset"] == "train").to_numpy()
    return near_pairs((images, split_rows[is_train]), (images, split_rows[~is_train]), "train_id")


def near_pairs(
    first: tuple[ImageSource, pd.DataFrame], valid: tuple[ImageSource, pd.DataFrame], first_column: str
) -> pd.DataFrame:
    """Returns the near-duplicates between images and validation images, each with its catalog rows, nearest first.

    Columns: the id of the first, called `first_column`; valid_id; distance.
    """
    (bits, thumbnails), (valid_bits, valid_thumbnails) = _signatures(*first), _signatures(*valid)
    ids, valid_ids = first[1]["id"].tolist(), valid[1]["id"].tolist()
    table = []
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        distances = hamming_distances(bits[start : start + _ROWS_AT_ONCE], valid_bits)
        near, near_valid = np.nonzero(distances <= MAX_DISTANCE)
        alike = _are_alike(thumbnails[start + near], valid_thumbnails[near_valid])
        for row, column in zip(near[alike], near_valid[alike], strict=True):
            table.append((ids[start + row], valid_ids[column], int(distances[row, column])))
    found = pd.DataFrame(table, columns=[first_column, "valid_id", "distance"]).astype({"distance": "int64"})
    return found.sort_values(["distance", "valid_id", first_column], ignore_index=True)


def _signatures(images: ImageSource, catalog: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Returns the difference hashes, bool (N, 64), and the thumbnails, float32 (N, T), of images by catalog rows."""
    rows = list(catalog[["image", "width", "height"]].itertuples(index=False))

    def signature(row) -> tuple[np.ndarray, np.ndarray]:
        with images.alone(row.image):
            return image_signature(images, row.image, row.width, row.height)

    signatures = map_files(signature, rows, "compare")
    bits = np.array([bits for bits, _ in signatures]).reshape(len(rows), 64)
    thumbnails = np.array([thumbnail for _, thumbnail in signatures], np.float32)
    return bits, thumbnails.reshape(len(rows), _THUMBNAIL_SIZE[0] * _THUMBNAIL_SIZE[1])


def image_signature(images: ImageSource, cell: str, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the difference hash (bool [64]) and the thumbnail (uint8 [18*32]) of an image of that size."""
    most = min(width // (2 * _THUMBNAIL_SIZE[0]), height // (2 * _THUMBNAIL_SIZE[1]))
    grey = images.grey(cell, max([reduction for reduction in (1, 2, 4, 8) if reduction <= most], default=1))
    return difference_hash(grey), cv2.resize(grey, _THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA).ravel()


def difference_hash(grey: np.ndarray) -> np.ndarray:
    """Returns bool [64]: a cell of the 8x9 grid of mean brightness is brighter than its left neighbour.

    Source: N. Krawetz, "Kind of Like That", 2013.

    >>> difference_hash(np.tile(np.arange(90, dtype=np.uint8), (80, 1))).all()
    np.True_
    """
    cells = cv2.resize(grey, _HASH_SIZE, interpolation=cv2.INTER_AREA)
    return (cells[:, 1:] > cells[:, :-1]).ravel()


def hamming_distances(first_N64: np.ndarray, second_M64: np.ndarray) -> np.ndarray:
    """Returns the numbers of differing bits, float32 [N, M]; as a matrix product of +1 and -1, which BLAS does fast.

    >>> hamming_distances(np.array([[True, False]]), np.array([[True, False], [False, True]]))
    array([[0., 2.]], dtype=float32)
    """
    first, second = (np.where(bits, np.float32(1), np.float32(-1)) for bits in (first_N64, second_M64))
    return (first.shape[1] - first @ second.T) / 2


def _are_alike(first_PT: np.ndarray, second_PT: np.ndarray) -> np.ndarray:
    """Returns bool [P]: the thumbnails of a pair correlate, or are equally blank."""
    difference = np.abs(first_PT - second_PT).mean(axis=1)
    first, second = (pixels - pixels.mean(axis=1, keepdims=True) for pixels in (first_PT, second_PT))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    correlation = (first * second).sum(axis=1) / np.maximum(norms, 1e-6)
    return (correlation >= MIN_CORRELATION) | (difference <= _MAX_GREY_DIFFERENCE)
