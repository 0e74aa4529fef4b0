"""Copy-paste: all pixels of a few classes of another training image laid over a sample.

The caller decides whether to paste and from where; here classes are chosen and pixels blended. The image's seam is
softened by a Gaussian (sigma 1), computed only in the box around the pasted pixels; the mask's stays hard.

Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021;
classes in place of instances as in the original course project.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from pipeline.config.competition import IGNORE
from pipeline.data.augment import has_colors
from pipeline.data.tiles import Box
from pipeline.segmentation.labels import count_values
from pipeline.segmentation.planes import HALF, count_planes

SIGMA = 1.0
RADIUS = 3  # pixels; what a Gaussian of sigma 1 has beyond is worth less than a twentieth of a grey level
MARGIN = RADIUS + 1  # with one more, mirroring at the box's edge reaches no pasted pixel: equal to the whole frame


def choose_classes(
    areas: np.ndarray,
    allowed: Sequence[int],
    max_classes: int,
    max_area: float,
    rng: np.random.Generator,
    weights: np.ndarray | None = None,
) -> list[int]:
    """Returns 1 to `max_classes` classes to paste, or none when no class fits.

    Args:
        areas: pixels of each class in the source, as from `count_classes`.
        allowed: class indices that may be pasted; the ignored value never is.
        max_area: pixels that all of them together may cover; a class too large is passed over for the next.
        weights: relative chance of each class to come first (0 = never); None for equal chances.
    """
    candidates = np.array([index for index in allowed if areas[index] > 0 and index != IGNORE], np.int64)
    chances = np.ones(len(candidates)) if weights is None else np.asarray(weights, np.float64)[candidates]
    candidates, chances = candidates[chances > 0], chances[chances > 0]
    if len(candidates) == 0:
        return []
    num_wanted = rng.integers(1, min(max_classes, len(candidates)) + 1)
    # The order of exponential clocks with these rates is drawing without replacement in proportion to the weights.
    order = np.argsort(rng.exponential(size=len(candidates)) / chances, kind="stable")
    chosen: list[int] = []
    for index in candidates[order]:
        if len(chosen) < num_wanted and areas[[*chosen, index]].sum() <= max_area:
            chosen.append(int(index))
    return chosen


def dice_weights(class_dice: np.ndarray, epoch: int, delay: int) -> np.ndarray | None:
    """Returns 1 - validation Dice per class, or None (equal chances) before `delay` epochs have passed.

    `epoch` counts from 1, so epoch - 1 have passed when it begins. A class without a Dice yet (NaN) weighs 1.

    >>> dice_weights(np.array([0.75, np.nan]), epoch=2, delay=1).tolist()
    [0.25, 1.0]
    """
    if epoch - 1 < delay or np.isnan(class_dice).all():
        return None
    return np.clip(1 - np.nan_to_num(class_dice, nan=0.0), 0, 1)


def keep_occurrence(chosen: Sequence[int], mask: np.ndarray, source_mask: np.ndarray, areas: np.ndarray) -> list[int]:
    """Returns as many of the chosen classes, from the first on, as leave the set of classes on `mask` unchanged.

    Under a metric that scores 1 where prediction and truth both lack a class, the share of images that show it is
    part of what a network learns. A pasted class must be there already (the caller allows no other), and what lies
    below the pasted pixels must not vanish; then every class keeps its share exactly, not only on average.

    Args:
        mask: the sample's mask before pasting; `areas`: its `count_classes`.
    """
    kept = list(chosen)
    while kept:
        pasted = pasted_pixels(source_mask, kept)
        vanishing = (areas > 0) & (count_classes(mask, pasted) == areas)
        vanishing[[*kept, IGNORE]] = False
        appearing = (areas == 0) & (count_classes(source_mask, pasted) > 0)  # of planes, classes that overlap these
        appearing[IGNORE] = False
        if not (vanishing | appearing).any():
            break
        kept.pop()
    return kept


def overlap(source: Box, size: tuple[int, int], rng: np.random.Generator) -> tuple[Box, Box]:
    """Returns which part of `source` goes where in a frame of (height, width): random where their sizes differ."""
    height, width = min(source.height, size[0]), min(source.width, size[1])
    x, y = (int(rng.integers(room + 1)) for room in (source.width - width, source.height - height))
    place_x, place_y = (int(rng.integers(room + 1)) for room in (size[1] - width, size[0] - height))
    return Box(source.x + x, source.y + y, width, height), Box(place_x, place_y, width, height)


def count_classes(mask: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    """Returns the pixels of each class, int64 [256], of an index mask or of planes."""
    return (count_values if mask.ndim == 2 else count_planes)(mask, inside)


def pasted_pixels(source_mask: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Returns 255 where the source shows one of the classes, else 0: uint8, HxW."""
    if not classes:
        return np.zeros(source_mask.shape[:2], np.uint8)
    # A comparison per class runs in vector registers, a look-up table does not.
    if source_mask.ndim == 2:
        shown = [cv2.inRange(source_mask, index, index) for index in classes]
    else:
        shown = [cv2.inRange(np.ascontiguousarray(source_mask[..., index]), HALF, IGNORE - 1) for index in classes]
    for other in shown[1:]:
        cv2.bitwise_or(shown[0], other, dst=shown[0])
    return shown[0]


def paste(
    image: np.ndarray,
    mask: np.ndarray,
    source_mask: np.ndarray,
    classes: Sequence[int],
    read_source: Callable[[Box], np.ndarray],
    frame: Box | None = None,
) -> None:
    """Lays all pixels of `classes` over image (uint8, HxWx3) and mask, both contiguous, in place.

    Of planes, pasted pixels get all classes of the source: what the sample showed there is not to be seen any more.

    Args:
        mask: uint8, HxW, or planes, HxWxC.
        source_mask: uint8, like `mask`.
        read_source: returns the source image's pixels in a box, so that the rest need not be computed.
        frame: where the source lies when it is smaller than the sample; None when it covers all of it.
    """
    frame = frame or Box(0, 0, mask.shape[1], mask.shape[0])
    pasted = pasted_pixels(source_mask, classes)
    x, y, width, height = cv2.boundingRect(pasted)
    if width == 0:
        return
    top, bottom = max(frame.y, y - MARGIN), min(frame.y + frame.height, y + height + MARGIN)
    left, right = max(frame.x, x - MARGIN), min(frame.x + frame.width, x + width + MARGIN)
    box = Box(left, top, right - left, bottom - top)
    inside = np.s_[top:bottom, left:right]
    if mask.ndim == 2:
        cv2.copyTo(source_mask[inside], pasted[inside], mask[inside])
    else:
        is_pasted = pasted[inside] > 0
        mask[inside][is_pasted] = source_mask[inside][is_pasted]
    _blend(image, read_source(box), pasted[inside], box)


def _blend(image: np.ndarray, source: np.ndarray, pasted: np.ndarray, box: Box) -> None:
    """Lays `source` over `box` of the image; only pixels along the seam have to be mixed, the rest is copied."""
    alpha = cv2.GaussianBlur(pasted, (2 * RADIUS + 1, 2 * RADIUS + 1), SIGMA)
    in_box = np.flatnonzero(alpha - np.uint8(1) < 254)  # 0 wraps to 255: neither fully below nor fully above
    row = in_box // box.width
    in_image = in_box + row * (image.shape[1] - box.width) + box.y * image.shape[1] + box.x
    pixels, channels = image.reshape(-1, image.shape[2]), image.shape[2]
    others = source.reshape(-1, channels).take(in_box, 0)
    inside = np.s_[box.y : box.y + box.height, box.x : box.x + box.width]
    if has_colors(image):
        share = alpha.take(in_box).astype(np.uint16)[:, None]
        mixed = (others * share + pixels.take(in_image, 0) * (255 - share) + 127) // 255
        cv2.copyTo(source, pasted, image[inside])
    else:
        share = alpha.take(in_box).astype(np.float32)[:, None] / 255
        mixed = others * share + pixels.take(in_image, 0) * (1 - share)
        image[inside][pasted > 0] = source[pasted > 0]
    pixels[in_image] = mixed
