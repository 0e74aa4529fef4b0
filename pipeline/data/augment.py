"""What a training sample goes through: flips, shift-scale-rotate, tile or random crop, turn, then colour and noise.

Geometry is one affine warp from the stored image straight into the tile, so only the tile's pixels are computed.
Colour is by albumentations, on the image alone, then noise. Normalising happens after collating, on the device.
Distortions are in `distort.py`, further changes of the image in `filters.py`.
"""

from __future__ import annotations

import math
import os
import random
from dataclasses import dataclass, replace
from statistics import NormalDist

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version when imported

import albumentations as A
import cv2
import numpy as np

from pipeline.config.augmentation import Augmentation, Color, GaussianNoise, RandomCrop
from pipeline.data.beyond import part_beyond
from pipeline.data.images import by_fours
from pipeline.data.tiles import Box

BORDERS = {"reflect_101": cv2.BORDER_REFLECT_101, "constant": cv2.BORDER_CONSTANT}
# A standard normal distribution as 256 equally likely values; cutting its tails at 2.9 costs the division by 0.99.
NORMAL_QUANTILES = np.array([NormalDist().inv_cdf((index + 0.5) / 256) for index in range(256)])
NORMAL_QUANTILES /= NORMAL_QUANTILES.std()
MOST_FLIPPED = 128  # channels that OpenCV flips
MOST_WHOLE_PX = 2**24  # of an image of which all is read where a tile mirrors a part that is far beyond the border


@dataclass(frozen=True)
class Geometry:
    """One draw of flips, shift-scale-rotate and turn; `warped` is false where the second was not drawn.

    Attributes:
        angle: degrees, counter-clockwise as seen on the screen.
        shift_x: share of the image's width; shift_y: of its height.
        zoom: of a random crop: the whole image is enlarged so many times, after all else.
        quarter_turns: by which every part that is cut out is turned about its own centre, counter-clockwise.
    """

    flip: bool = False
    warped: bool = False
    angle: float = 0.0
    scale: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    border: str = "reflect_101"
    flip_vertical: bool = False
    zoom: float = 1.0
    quarter_turns: int = 0


UNCHANGED = Geometry()


def draw_geometry(augmentation: Augmentation, rng: np.random.Generator) -> Geometry:
    """Returns what happens to one sample. Always takes the same number of draws, so settings do not shift others'."""
    flip, rotate = augmentation.horizontal_flip, augmentation.shift_scale_rotate
    upside, turn = augmentation.vertical_flip, augmentation.quarter_turn
    draws = rng.random(6)
    # A generator of its own: what is drawn from `rng` afterwards does not depend on these two.
    more = rng.spawn(1)[0].random(3) if upside.enable or turn.enable else np.ones(3)
    angle, scale, shift_x, shift_y = 2 * draws[2:] - 1
    warped = rotate.enable and draws[1] < rotate.probability
    return Geometry(
        flip=bool(flip.enable and draws[0] < flip.probability),
        warped=bool(warped),
        angle=float(angle * rotate.rotate_limit) if warped else 0.0,
        scale=float(1 + scale * rotate.scale_limit) if warped else 1.0,
        shift_x=float(shift_x * rotate.shift_limit) if warped else 0.0,
        shift_y=float(shift_y * rotate.shift_limit) if warped else 0.0,
        border=rotate.border,
        flip_vertical=bool(upside.enable and more[0] < upside.probability),
        quarter_turns=1 + int(3 * more[2]) if turn.enable and more[1] < turn.probability else 0,
    )


def draw_crop(
    crop: RandomCrop, size: tuple[int, int], rng: np.random.Generator, is_scaled: bool = True
) -> tuple[float, Box]:
    """Returns the zoom of a random crop, and its box in the image that was enlarged by it.

    A factor and its inverse are equally likely. An image that is smaller than the crop lies anywhere in it.

    Args:
        size: (width, height) of the image.
        is_scaled: false for a crop at the image's own scale, where nothing is to be augmented.

    Source: random scale and crop of the DeepLab recipes, Chen et al. 2017, https://arxiv.org/abs/1706.05587.
    """
    draws = rng.random(3)
    low, high = np.log(crop.scale)
    zoom = math.exp(low + (high - low) * draws[0]) if is_scaled else 1.0
    rooms = [max(1, round(side * zoom)) - own for side, own in zip(size, (crop.width, crop.height), strict=True)]
    x, y = (min(0, room) + int(draw * (abs(room) + 1)) for room, draw in zip(rooms, draws[1:], strict=True))
    return zoom, Box(x, y, crop.width, crop.height)


def affine_matrix(geometry: Geometry, width: int, height: int) -> np.ndarray:
    """Returns the 2x3 matrix that takes a pixel of the whole image to its position in the augmented whole image.

    Flips first, then rotation and scaling about the centre, then the shift, as in the original's albumentations; the
    zoom of a random crop last. Turns are not in it.

    >>> affine_matrix(Geometry(flip=True), 100, 50).tolist()
    [[-1.0, 0.0, 99.0], [0.0, 1.0, 0.0]]
    """
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    cosine = geometry.scale * math.cos(math.radians(geometry.angle))
    sine = geometry.scale * math.sin(math.radians(geometry.angle))
    mirror, upside = -1.0 if geometry.flip else 1.0, -1.0 if geometry.flip_vertical else 1.0
    # x' = cosine * (mirror * (x - center)) + sine * (upside * (y - center)) + center + shift, likewise y'.
    linear = np.array([[cosine * mirror, sine * upside], [-sine * mirror, cosine * upside]])
    center = np.array([center_x, center_y])
    shift = np.array([geometry.shift_x * width, geometry.shift_y * height])
    matrix = np.column_stack([linear, center + shift - linear @ center]) + 0.0  # + 0.0 turns -0.0 into 0.0
    if geometry.zoom != 1:
        matrix *= geometry.zoom
        matrix[:, 2] += (geometry.zoom - 1) / 2  # corners stay corners: x' + 1/2 = zoom * (x + 1/2)
    return matrix


def cut_image(image: np.ndarray, geometry: Geometry, box: Box, black: float = 0) -> np.ndarray:
    """Returns the pixels of `box` in the augmented image: a new array, box.height x box.width x channels.

    Equal to warping the whole image and cutting `box` out of the result. Without a warp it is a copied (and flipped)
    slice. Pixels from beyond the image are mirrored, or `black` where the border is constant. Where quarter turns were
    drawn, it is the turned part of the same centre, moved into the image where it fits there.
    """
    if geometry.quarter_turns:
        own, part = _before_turn(image.shape[:2], geometry, box)
        return _turned(cut_image(image, own, part, black), geometry)
    if not geometry.warped and geometry.zoom == 1:
        return _slice(image, geometry, box, black)
    matrix = _tile_matrix(image, geometry, box)
    part = _source_box(matrix, box, image)
    matrix[:, 2] += matrix[:, :2] @ (part.x, part.y)
    pixels = image[part.y : part.y + part.height, part.x : part.x + part.width]
    if image.shape[2] != 3 or image.dtype == np.float32:
        return by_fours(pixels, lambda four: _warp(four, matrix, geometry, box, cv2.INTER_LINEAR, (black,) * 4))
    # OpenCV 5 warps four channels two to three times faster than three, with the same result; only the pixels that the
    # tile needs are given the fourth.
    four = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)
    return cv2.cvtColor(_warp(four, matrix, geometry, box, cv2.INTER_LINEAR, (black,) * 4), cv2.COLOR_RGBA2RGB)


def cut_label(label: np.ndarray, geometry: Geometry, box: Box, beyond: int) -> np.ndarray:
    """Returns the label plane of `box` in the augmented image: nearest pixel, so no value appears that was not there.

    Args:
        label: uint8, height x width, or height x width x planes.
        beyond: the value outside a constant border, where nothing is known.
    """
    if geometry.quarter_turns:
        own, part = _before_turn(label.shape[:2], geometry, box)
        return _turned(cut_label(label, own, part, beyond), geometry)
    if not geometry.warped and geometry.zoom == 1:
        return _slice(label, geometry, box, beyond)
    if label.ndim == 3:  # OpenCV's nearest pixel of several channels is not always that of one
        planes = map(np.ascontiguousarray, np.moveaxis(label, -1, 0))
        return np.stack([cut_label(plane, geometry, box, beyond) for plane in planes], -1)
    return _warp(label, _tile_matrix(label, geometry, box), geometry, box, cv2.INTER_NEAREST, beyond)


def part_matrix(size: tuple[int, int], geometry: Geometry, box: Box) -> np.ndarray:
    """Returns the 2x3 matrix that takes a point of the stored image to its position in what `cut_image` returns.

    Points are counted from the corner of the first pixel: 0.5 is the middle of that pixel.

    Args:
        size: (height, width) of the stored image.

    >>> part_matrix((50, 100), Geometry(flip=True), Box(0, 10, 100, 20)).tolist()
    [[-1.0, 0.0, 100.0], [0.0, 1.0, -10.0]]
    """
    height, width = size
    own, part = _before_turn(size, geometry, box)
    matrix = affine_matrix(own, width, height)
    matrix[:, 2] += 0.5 - matrix[:, :2] @ (0.5, 0.5) - (part.x, part.y)  # middles of pixels to corners
    for turn in range(geometry.quarter_turns):  # counter-clockwise: (x, y) becomes (y, width - x)
        side = part.width if turn % 2 == 0 else part.height
        matrix = np.array([matrix[1], [0.0, 0.0, side] - matrix[0]])
    return matrix + 0.0


def _before_turn(size: tuple[int, int], geometry: Geometry, box: Box) -> tuple[Geometry, Box]:
    """Returns the geometry without its turn, and the part that fills `box` once it is turned."""
    own = replace(geometry, quarter_turns=0)
    if geometry.quarter_turns % 2 == 0:
        return own, box
    x, y = box.x + (box.width - box.height) // 2, box.y + (box.height - box.width) // 2
    room_x, room_y = (round(side * geometry.zoom) for side in (size[1], size[0]))
    x, y = _moved_inside(x, box.height, room_x), _moved_inside(y, box.width, room_y)
    return own, Box(x, y, box.height, box.width)


def _moved_inside(start: int, length: int, room: int) -> int:
    """Returns where a part starts so that it is inside, or around the middle of what is smaller."""
    return (room - length) // 2 if length > room else min(max(start, 0), room - length)


def _turned(part: np.ndarray, geometry: Geometry) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(part, geometry.quarter_turns))


def _slice(array: np.ndarray, geometry: Geometry, box: Box, beyond: float) -> np.ndarray:
    height, width = array.shape[:2]
    if box.x < 0 or box.y < 0 or box.x + box.width > width or box.y + box.height > height:
        return _slice_beyond(array, geometry, box, beyond)
    x = width - box.x - box.width if geometry.flip else box.x
    y = height - box.y - box.height if geometry.flip_vertical else box.y
    part = array[y : y + box.height, x : x + box.width]
    if not (geometry.flip or geometry.flip_vertical):
        return part.copy()
    if part[0, 0].size > MOST_FLIPPED:
        return part[:: -1 if geometry.flip_vertical else 1, :: -1 if geometry.flip else 1].copy()
    code = -1 if geometry.flip and geometry.flip_vertical else 1 if geometry.flip else 0
    return cv2.flip(part, code).reshape(part.shape)


def _slice_beyond(array: np.ndarray, geometry: Geometry, box: Box, beyond: float) -> np.ndarray:
    """Returns a slice that is partly outside the array: mirrored there, or `beyond`."""
    left, top = max(0, -box.x), max(0, -box.y)
    right = max(0, box.x + box.width - array.shape[1])
    bottom = max(0, box.y + box.height - array.shape[0])
    inside = Box(box.x + left, box.y + top, box.width - left - right, box.height - top - bottom)
    mirrors = geometry.border == "reflect_101"
    if inside.width <= 0 or inside.height <= 0:
        return part_beyond(array, box, (geometry.flip_vertical, geometry.flip), None if mirrors else beyond)
    around = ((top, bottom), (left, right), (0, 0))[: array.ndim]
    options = {"mode": "reflect"} if mirrors else {"mode": "constant", "constant_values": beyond}
    return np.pad(_slice(array, geometry, inside, beyond), around, **options)


def _tile_matrix(array: np.ndarray, geometry: Geometry, box: Box) -> np.ndarray:
    """Returns the 2x3 matrix from the whole image into the tile."""
    matrix = affine_matrix(geometry, array.shape[1], array.shape[0])
    matrix[:, 2] -= (box.x, box.y)
    return matrix


def _source_box(matrix: np.ndarray, box: Box, image: np.ndarray) -> Box:
    """Returns the part of the image from which every pixel of the tile comes, mirrored ones included."""
    size = np.array([image.shape[1], image.shape[0]])
    right, bottom = box.width - 1, box.height - 1
    corners = cv2.invertAffineTransform(matrix) @ [[0, right, 0, right], [0, 0, bottom, bottom], [1, 1, 1, 1]]
    first, last = np.floor(corners.min(1)).astype(int) - 1, np.ceil(corners.max(1)).astype(int) + 2
    mirrored_last, mirrored_first = np.minimum(1 - first, size), np.maximum(2 * size - 2 - last, 0)
    beyond = np.maximum(np.maximum(-first, last - size), 0)
    is_before, is_behind = first < 0, last > size
    first, last = np.maximum(first, 0), np.minimum(last, size)
    if (beyond >= last - first).any():  # the mirror reaches further in than the tile does
        if image.shape[0] * image.shape[1] > MOST_WHOLE_PX and not (is_before & is_behind).any():
            last = np.where(is_before, np.maximum(last, mirrored_last), np.where(is_behind, size, last))
            first = np.where(is_behind, np.minimum(first, mirrored_first), np.where(is_before, 0, first))
        else:
            first, last = np.zeros(2, int), size
    return Box(*map(int, first), *map(int, last - first))


def _warp(
    array: np.ndarray, matrix: np.ndarray, geometry: Geometry, box: Box, interpolation: int, beyond
) -> np.ndarray:
    size, border = (box.width, box.height), BORDERS[geometry.border]
    return cv2.warpAffine(array, matrix, size, flags=interpolation, borderMode=border, borderValue=beyond)


def color_chain(color: Color) -> A.Compose | None:
    """Returns one of CLAHE, brightness/contrast and hue/saturation/value as a chain for images, None when off."""
    if not color.enable:
        return None
    clahe, brightness, hue = color.clahe, color.brightness_contrast, color.hue_saturation_value
    # Measured: image * (1 + contrast) + brightness * 255 (or * the image's mean), as in 2021; the library's
    # documentation of `brightness_by_max` differs.
    contrast = {name: getattr(brightness, name) for name in ("brightness_limit", "contrast_limit", "brightness_by_max")}
    shifts = {name: getattr(hue, name) for name in ("hue_shift_limit", "sat_shift_limit", "val_shift_limit")}
    options = (
        (clahe, A.CLAHE, {"clip_limit": (1.0, clahe.clip_limit), "tile_grid_size": (8, 8)}),
        (brightness, A.RandomBrightnessContrast, contrast),
        (hue, A.HueSaturationValue, shifts),
    )
    drawn = [make(p=own.probability, **limits) for own, make, limits in options if own.enable and own.probability > 0]
    return A.Compose([A.OneOf(drawn, p=color.probability)], strict=True) if drawn else None


def has_colors(image: np.ndarray) -> bool:
    """Returns whether an image is of 8 bits in colour, for which changes of hue and brightness are defined here."""
    return image.dtype == np.uint8 and image.shape[2] == 3


def apply_color(chain: A.Compose | None, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the image with colours drawn from `rng` alone; what is no 8-bit image in colour stays as it is."""
    if chain is None or not has_colors(image):
        return image
    return run_chain(chain, image, rng)


def run_chain(chain: A.Compose, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns what a chain of albumentations makes of an image, drawing from `rng` alone."""
    set_generators(chain, rng)
    return chain(image=image)["image"]


def set_generators(transform: A.Compose | A.BasicTransform, rng: np.random.Generator) -> None:
    """Makes a transform or a chain draw from `rng` alone."""
    # One pair of generators for the whole chain. `set_random_seed` would hand every transform a generator of the same
    # seed: what is drawn first in one would decide what is drawn first in the others.
    transform.set_random_state(rng, random.Random(int(rng.integers(2**63))))


def apply_noise(noise: GaussianNoise, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns an 8-bit image with Gaussian noise of its own in every pixel and channel; others stay as they are.

    The variance is drawn evenly from `var_limit`, in grey levels squared. Noise is a whole number of grey levels, so a
    random byte that picks one of 256 equally likely quantiles is enough: 5 times faster than albumentations'
    `GaussNoise`, which also cuts the fraction off and so loses a fifth of the variance at 10.
    """
    if not (noise.enable and rng.random() < noise.probability) or image.dtype != np.uint8:
        return image
    deviation = math.sqrt(rng.uniform(*noise.var_limit))
    levels = np.rint(noise.mean + deviation * NORMAL_QUANTILES).astype(np.int16)
    random_bytes = rng.bit_generator.random_raw(-(-image.size // 8)).view(np.uint8)[: image.size]
    drawn = cv2.LUT(random_bytes.reshape(len(image), -1), levels).reshape(image.shape)
    return cv2.add(image, drawn, dtype=cv2.CV_8U)  # saturates at 0 and 255
