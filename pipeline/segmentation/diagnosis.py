"""Where the predictions of an image are wrong, and how sure they are: small sums, from which the report draws.

In: an image's predictions, its decoded and its true mask. Out: arrays to be summed over images, and the regions in
which the prediction is confident and the mask says otherwise. `findings.py` sums them up.

- Calibration. Pixels by the probability of what was chosen: of the class of each pixel, or with several classes per
  pixel the probability of every class. A probability is the mean over the members, whatever method combines them.
- Sizes. The connected components of a class in the true mask, by the square root of their area, and what is found.
- Distances. Wrong pixels by their distance to where the true mask changes its value (1: they touch it), and to the
  seams of windows. A pixel is wrong if any of its classes is.
- Suspects. Components of pixels that are wrong with a probability of 0.9 or more, without slivers of two pixels, as
  every mask is unsure along its edges.

Images of more than `BAND_PX` pixels are examined in bands of rows; what crosses the edge of a band counts twice.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", with 20 instead of 15 bins, so that 0.9 is an edge.

Letters: C classes, H rows, W columns, R rows of a band, L layers: one, or one per class where a pixel may have several.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch

from pipeline.config.competition import IGNORE
from pipeline.segmentation.ensemble import mean_probs
from pipeline.segmentation.planes import is_present
from pipeline.segmentation.predict import Prediction

BINS = 20
SIZE_EDGES = (8, 16, 32, 64, 128)  # pixels; the last bin is open
DISTANCE_EDGES = (1, 2, 4, 8, 16, 32)
SEAM_EDGES = (4, 8, 16, 32, 64)
FOUND_SHARE = 0.5  # of its pixels, from which an object counts as found
SURE = 0.9
SLIVER = np.ones((3, 3), np.uint8)  # what is thinner than this is no suspect
LEAST_PX, LEAST_SHARE = 25, 1e-4  # of a suspect, and as a share of the image
MOST_SUSPECTS = 5  # of an image; the largest
SUSPECT = ("top", "left", "height", "width", "pixels", "probability", "label", "predicted")
NOTHING = -1  # in place of a class: the pixel does not have it
BAND_PX = 2**24

EXAMINED = ("calibration", "sizes", "boundary", "seams", "suspects")  # what `examine` returns

Seams = tuple[Sequence[int], Sequence[int]]  # rows and columns at which a window begins or ends


class Layer(NamedTuple):
    """Pixels that are right or wrong, (R, W): of the class of each pixel, or of one class where there may be several.

    Attributes:
        is_wrong, is_scored: bool.
        probs: float32, of what was chosen.
        label, predicted: the classes, or for a plane 1 and 0.
        index: the class of a plane; None: of index masks.
    """

    is_wrong: np.ndarray
    is_scored: np.ndarray
    probs: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    index: int | None


def examine(
    predictions: Sequence[Prediction],
    mask: np.ndarray,
    truth: np.ndarray,
    seams: Seams | None = None,
    with_suspects: bool = True,
) -> dict[str, np.ndarray]:
    """Returns what is to be summed over images, float64, and `suspects`.

    Args:
        predictions: one per member.
        mask: decoded, uint8 (H, W), or planes (H, W, C).
        truth: likewise, `IGNORE` where nothing is scored.
        with_suspects: whether the image was trained on by no network, so that a region may be called suspicious.

    Returns:
        `calibration` (C, BINS, 3): pixels, sum of their probabilities, how many are right (have the class, of planes).
        `sizes` (C, len(SIZE_EDGES) + 1, 4): objects, those found, their pixels, those of the right class.
        `boundary` (len(DISTANCE_EDGES) + 1, 2) and `seams` (len(SEAM_EDGES) + 1, 2): pixels, and those wrong.
        `suspects` (MOST_SUSPECTS, 8): a row each as `SUSPECT` names, the largest first; rows of 0 pixels are none.
    """
    num_classes = len(predictions[0].logits)
    found = {
        "calibration": np.zeros((num_classes, BINS, 3)),
        "sizes": np.zeros((num_classes, len(SIZE_EDGES) + 1, 4)),
        "boundary": np.zeros((len(DISTANCE_EDGES) + 1, 2)),
        "seams": np.zeros((len(SEAM_EDGES) + 1, 2)),
    }
    suspects, least_px = [], max(LEAST_PX, LEAST_SHARE * truth.shape[0] * truth.shape[1])
    for top, bottom, probs in _bands(predictions, mask):
        own_mask, own_truth = mask[top:bottom], truth[top:bottom]
        layers = list(_layers(own_mask, own_truth, probs))
        found["calibration"] += _calibration(layers, probs, num_classes)
        found["sizes"] += _sizes(own_mask, own_truth, num_classes)
        is_scored = np.logical_or.reduce([layer.is_scored for layer in layers])
        is_wrong = np.logical_or.reduce([layer.is_wrong for layer in layers])
        found["boundary"] += _by_distance(_to_boundary(own_truth), DISTANCE_EDGES, is_wrong, is_scored)
        if seams is not None and any(map(len, seams)):
            distance = _to_seams(seams, range(top, bottom), truth.shape[1])
            found["seams"] += _by_distance(distance, SEAM_EDGES, is_wrong, is_scored)
        if with_suspects:
            suspects += [row for layer in layers for row in _suspects(layer, top, least_px)]
    suspects.sort(key=lambda row: -row[4] * row[5])
    kept = np.zeros((MOST_SUSPECTS, len(SUSPECT)))
    kept[: min(len(suspects), MOST_SUSPECTS)] = np.array(suspects[:MOST_SUSPECTS]).reshape(-1, len(SUSPECT))
    return {**found, "suspects": kept}


def _bands(predictions: Sequence[Prediction], mask: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields (first row, row behind the last, probabilities) of bands.

    Probabilities are float32 (R, W) of the class of each pixel, or (C, R, W) of all where there may be several.
    """
    height, width, planes = mask.shape[0], mask.shape[1], mask.shape[2] if mask.ndim == 3 else 1
    num_rows, first, parts = max(1, BAND_PX // (width * planes)), 0, []
    for top, bottom, probs_CRW in mean_probs(predictions):
        if mask.ndim == 2:
            chosen_1RW = torch.from_numpy(mask[None, top:bottom].astype(np.int64))
            parts.append(probs_CRW.gather(0, chosen_1RW)[0].numpy())
        else:
            parts.append(probs_CRW.numpy())
        if bottom - first >= num_rows or bottom == height:
            yield first, bottom, np.concatenate(parts, -2)
            first, parts = bottom, []


def _layers(mask: np.ndarray, truth: np.ndarray, probs: np.ndarray) -> Iterator[Layer]:
    if mask.ndim == 2:
        is_scored = truth != IGNORE
        yield Layer((mask != truth) & is_scored, is_scored, probs, truth, mask, None)
        return
    for index, probs_RW in enumerate(probs):
        is_scored = truth[..., index] != IGNORE
        label, predicted = is_present(truth[..., index]), is_present(mask[..., index])
        sure_RW = np.where(predicted, probs_RW, 1 - probs_RW)
        yield Layer((label != predicted) & is_scored, is_scored, sure_RW, label, predicted, index)


def _calibration(layers: Sequence[Layer], probs: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns pixels, probabilities and right pixels by class and bin."""
    found = np.zeros((num_classes, BINS, 3))
    for layer in layers:
        is_plane = layer.index is not None
        own = (probs[layer.index] if is_plane else probs)[layer.is_scored]
        is_right = layer.label[layer.is_scored] if is_plane else ~layer.is_wrong[layer.is_scored]
        bins = np.minimum((own * BINS).astype(np.int32), BINS - 1)
        if not is_plane:
            bins += layer.predicted[layer.is_scored].astype(np.int32) * BINS
        size = BINS if is_plane else num_classes * BINS
        counts = [np.bincount(bins, weights, size) for weights in (None, own)]
        counts.append(np.bincount(bins[is_right], minlength=size))
        table = np.stack(counts, -1).reshape(-1, BINS, 3)
        found[layer.index if is_plane else slice(None)] += table[0] if is_plane else table
    return found


def _sizes(mask: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns objects, found ones, pixels and right pixels by class and size."""
    found = np.zeros((num_classes, len(SIZE_EDGES) + 1, 4))
    for index in range(num_classes):
        plane = truth == index if truth.ndim == 2 else is_present(truth[..., index])
        rows, columns = (np.flatnonzero(plane.any(axis)) for axis in (1, 0))
        if not rows.size:
            continue
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        own = mask[box] == index if mask.ndim == 2 else is_present(mask[(*box, index)])
        number, numbers, stats, _ = cv2.connectedComponentsWithStats(plane[box].astype(np.uint8), connectivity=8)
        areas = stats[1:, cv2.CC_STAT_AREA]
        hits = np.bincount(numbers[own], minlength=number)[1:]
        bins = np.searchsorted(SIZE_EDGES, np.sqrt(areas))
        columns = (np.ones(len(areas)), hits >= FOUND_SHARE * areas, areas, hits)
        for column, values in enumerate(columns):
            found[index, :, column] = np.bincount(bins, values, len(SIZE_EDGES) + 1)
    return found


def _to_boundary(truth: np.ndarray) -> np.ndarray:
    """Returns the distance of each pixel to where the mask changes, (R, W): 1 for pixels that touch another value."""
    planes = truth if truth.ndim == 2 else np.where(truth == IGNORE, 2, is_present(truth)).astype(np.uint8)
    edge = np.zeros(truth.shape[:2], bool)
    for axis in (0, 1):
        before, after = (np.moveaxis(planes, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        changes = before != after if truth.ndim == 2 else (before != after).any(-1)
        own = np.moveaxis(edge, axis, 0)
        own[:-1] |= changes
        own[1:] |= changes
    return cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5) + 1


def _to_seams(seams: Seams, rows: Sequence[int], width: int) -> np.ndarray:
    """Returns the distance of each pixel to the nearest seam, (R, W): 1 for the pixels on both sides of it."""

    def along(positions: Sequence[int], pixels: Sequence[int]) -> np.ndarray:
        at = np.asarray(pixels)[:, None]
        apart = np.where(at >= np.asarray(positions)[None], at - positions + 1, np.asarray(positions) - at)
        return apart.min(1, initial=np.iinfo(np.int32).max)

    return np.minimum(along(seams[0], rows)[:, None], along(seams[1], range(width))[None])


def _by_distance(distance: np.ndarray, edges: Sequence[int], is_wrong: np.ndarray, is_scored: np.ndarray) -> np.ndarray:
    """Returns pixels and wrong pixels by distance, float64 (bins, 2)."""
    # A table instead of a search for each pixel: distances between two whole numbers count as the larger.
    table = np.searchsorted(edges, np.arange(edges[-1] + 2)).astype(np.uint8)
    bins = table[np.ceil(np.minimum(distance, edges[-1] + 1)).astype(np.int32)]
    counts = [np.bincount(bins[chosen], minlength=len(edges) + 1) for chosen in (is_scored, is_wrong)]
    return np.stack(counts, -1).astype(float)


def _suspects(layer: Layer, top: int, least_px: float) -> Iterator[tuple[float, ...]]:
    """Yields the regions that are wrong with a high probability, as `SUSPECT` names."""
    is_sure = (layer.is_wrong & (layer.probs >= SURE)).astype(np.uint8)
    if np.count_nonzero(is_sure) < least_px:
        return
    opened = cv2.morphologyEx(is_sure, cv2.MORPH_OPEN, SLIVER)
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    order = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:MOST_SUSPECTS]
    for number in order:
        left, first, width, height, area = map(int, stats[number])
        if area < least_px:
            return
        box = (slice(first, first + height), slice(left, left + width))
        is_own = numbers[box] == number
        pairs = layer.label[box][is_own].astype(np.int64) * 256 + layer.predicted[box][is_own]
        label, predicted = divmod(int(np.bincount(pairs).argmax()), 256)
        if layer.index is not None:
            label, predicted = (layer.index if has_it else NOTHING for has_it in (label, predicted))
        yield (top + first, left, height, width, area, float(layer.probs[box][is_own].mean()), label, predicted)
