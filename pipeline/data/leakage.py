"""Near-duplicates across a split: training images that show nearly the same as a validation image.

In: images, catalog and split. Out: the table behind leakage.csv; for any image the nearest of others. A score on such
validation images measures memory. Two images are near-duplicates when both agree:

- the difference hash, 64 bits: is a cell of the 9x8 brightness grid brighter than its left one; at most 10 differ;
- the normalised correlation of 32x18 thumbnails, at least 0.90; of blank images, which have none, the brightness.

Measured on CamVid's 468 public frames: of 55,977 pairs from different drives none agrees in both (5 in the hash, which
is 9 or more; none in the correlation, which is up to 0.889, and 0.852 within distance 12). In one drive all 100 pairs
up to 0.1 s apart agree, 83 of 446 pairs one second apart, 31 of 406 three seconds apart. On the demo's flights 43 of 62
neighbouring pairs agree and none across flights (distance from 21, correlation to 0.694). On Dubai, whose images do
not overlap, none (distance from 16, correlation to 0.886).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from pipeline.data.image_source import ImageSource
from pipeline.data.images import map_files
from pipeline.data.listed import MOST_LISTED
from pipeline.files import DAMAGED_ARCHIVE, atomic_path

MAX_DISTANCE = 10
MIN_CORRELATION = 0.90
_HASH_SIZE = (9, 8)
_THUMBNAIL_SIZE = (32, 18)
_THUMBNAIL_PIXELS = 32 * 18
_MAX_GREY_DIFFERENCE = 2.0  # grey levels; JPEG noise of a blank image stays below
_DISTANCES_AT_ONCE = 2**22  # 16 MB
_PAIRS_AT_ONCE = 512  # whose thumbnails are compared: 1 MB


class Signatures(NamedTuple):
    """What images are compared by: difference hashes, bool (N, 64), and thumbnails, float32 (N, T), by id."""

    ids: list[str]
    bits: np.ndarray
    thumbnails: np.ndarray

    def where(self, is_chosen: np.ndarray) -> Signatures:
        """Returns those of some of the images, bool (N,)."""
        ids = [image_id for image_id, is_own in zip(self.ids, is_chosen, strict=True) if is_own]
        return Signatures(ids, self.bits[is_chosen], self.thumbnails[is_chosen])


def near_duplicates(
    images: ImageSource, catalog: pd.DataFrame, split: pd.DataFrame, kept: Path | None = None
) -> pd.DataFrame:
    """Returns train_id, valid_id, distance (0 to 10 bits of 64 differ) of near-duplicate pairs; see `alike_pairs`.

    Args:
        kept: the file that gets the signatures of all images, for `read_signatures`.
    """
    split_rows = catalog.merge(split, on="id")
    is_train = (split_rows["subset"] == "train").to_numpy()
    found = signatures_of(images, split_rows)
    if kept is not None:
        write_signatures(kept, found)
    return alike_pairs(found.where(is_train), found.where(~is_train), "train_id")


def near_pairs(
    first: tuple[ImageSource, pd.DataFrame], valid: tuple[ImageSource, pd.DataFrame], first_column: str
) -> pd.DataFrame:
    """Returns the near-duplicates between images and validation images, each with its catalog rows; `alike_pairs`."""
    return alike_pairs(signatures_of(*first), signatures_of(*valid), first_column)


def alike_pairs(first: Signatures, valid: Signatures, first_column: str) -> pd.DataFrame:
    """Returns the near-duplicates between images and validation images, nearest first.

    Of each validation image the nearest `MOST_LISTED` are listed; identical validation images are compared once.
    Columns: the id of the first, called `first_column`; valid_id; distance.
    """
    looks = np.hstack([valid.bits, valid.thumbnails]).astype(np.uint8)
    _, rows, look_of = np.unique(looks, axis=0, return_index=True, return_inverse=True)
    listed = list(_nearest_alike(first, valid.bits[rows], valid.thumbnails[rows]))
    table = [
        (first.ids[row], valid_id, distance)
        for valid_id, look in zip(valid.ids, look_of.ravel(), strict=True)
        for row, distance in listed[look]
    ]
    found = pd.DataFrame(table, columns=[first_column, "valid_id", "distance"]).astype({"distance": "int64"})
    return found.sort_values(["distance", "valid_id", first_column], ignore_index=True)


def _nearest_alike(
    first: Signatures, bits_M64: np.ndarray, thumbnails_MT: np.ndarray
) -> Iterator[list[tuple[int, int]]]:
    """Yields for each of M images the nearest `MOST_LISTED` of the first that it is like: rows and distances."""
    step = max(1, _DISTANCES_AT_ONCE // max(1, len(first.ids)))
    for start in range(0, len(bits_M64), step):
        distances_MN = hamming_distances(bits_M64[start : start + step], first.bits).astype(np.uint8)
        for distances, thumbnail in zip(distances_MN, thumbnails_MT[start : start + step], strict=True):
            near = np.flatnonzero(distances <= MAX_DISTANCE)
            near = near[np.argsort(distances[near], kind="stable")]
            found: list[int] = []
            for place in range(0, len(near), _PAIRS_AT_ONCE):
                chosen = near[place : place + _PAIRS_AT_ONCE]
                found += chosen[_are_alike(first.thumbnails[chosen], thumbnail[None])].tolist()
                if len(found) >= MOST_LISTED:
                    break
            yield [(row, int(distances[row])) for row in found[:MOST_LISTED]]


def nearest(signatures: Signatures, image_id: str, ids: Collection[str], count: int) -> list[tuple[str, float]]:
    """Returns those of `ids` whose thumbnails correlate most with that of an image, with the correlation.

    >>> thumbnails = np.float32([[1, 2, 3], [2, 4, 6], [3, 2, 1]])
    >>> nearest(Signatures(["a", "b", "c"], np.zeros((3, 64), bool), thumbnails), "a", {"b", "c"}, 1)
    [('b', 1.0)]
    """
    own = signatures.thumbnails[signatures.ids.index(image_id)]
    chosen = signatures.where(np.array([other in ids and other != image_id for other in signatures.ids], bool))
    found = correlations(np.broadcast_to(own, chosen.thumbnails.shape), chosen.thumbnails)
    order = np.argsort(-found, kind="stable")[:count]
    return [(chosen.ids[row], round(float(found[row]), 4)) for row in order]


def write_signatures(path: Path, signatures: Signatures) -> None:
    """Writes signatures, some 650 bytes an image."""
    with atomic_path(path) as written, open(written, "wb") as file:
        thumbnails = signatures.thumbnails.astype(np.uint8)
        np.savez(file, ids=np.array(signatures.ids, str), bits=signatures.bits, thumbnails=thumbnails)


def read_signatures(path: Path) -> Signatures | None:
    """Returns what `write_signatures` wrote, or None where there is no such file, or a damaged one."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as found:
            return Signatures(found["ids"].tolist(), found["bits"], found["thumbnails"].astype(np.float32))
    except (*DAMAGED_ARCHIVE, OSError):
        return None


def signatures_of(images: ImageSource, catalog: pd.DataFrame) -> Signatures:
    """Returns the signatures of images by catalog rows."""
    rows = list(catalog[["image", "width", "height"]].itertuples(index=False))

    def signature(row) -> tuple[np.ndarray, np.ndarray]:
        with images.alone(row.image):
            return image_signature(images, row.image, row.width, row.height)

    signatures = map_files(signature, rows, "compare")
    bits = np.array([bits for bits, _ in signatures], bool).reshape(len(rows), 64)
    thumbnails = np.array([thumbnail for _, thumbnail in signatures], np.float32)
    return Signatures(catalog["id"].tolist(), bits, thumbnails.reshape(len(rows), -1 if rows else _THUMBNAIL_PIXELS))


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


def correlations(first_PT: np.ndarray, second_PT: np.ndarray) -> np.ndarray:
    """Returns the normalised correlation of the thumbnails of each pair, float32 (P,); 0 where one is blank."""
    first, second = (pixels - pixels.mean(axis=1, keepdims=True) for pixels in (first_PT, second_PT))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / np.maximum(norms, 1e-6)


def _are_alike(first_PT: np.ndarray, second_PT: np.ndarray) -> np.ndarray:
    """Returns bool [P]: the thumbnails of a pair correlate, or are equally blank."""
    difference = np.abs(first_PT - second_PT).mean(axis=1)
    return (correlations(first_PT, second_PT) >= MIN_CORRELATION) | (difference <= _MAX_GREY_DIFFERENCE)
