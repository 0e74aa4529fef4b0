"""Elastic, grid and optical distortion of a sample that is cut out already: image and label by the same map.

The maps are drawn by albumentations; here they are applied, since an image may have any number of channels and number
format, and a label any number of planes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import albumentations as A
import cv2
import numpy as np

from pipeline.config.augmentation import Augmentation, Elastic
from pipeline.data.augment import BORDERS, set_generators
from pipeline.data.images import by_fours
from pipeline.data.streams import ELASTIC, GRID_DISTORTION, OPTICAL_DISTORTION

COARSE_SIGMA = 4  # pixels: a field with this smoothness is as good when it is enlarged bilinearly

Size = tuple[int, int]  # height, width
Maps = tuple[np.ndarray, np.ndarray]  # float32 (H, W): the x, and the y, of the pixel that each pixel comes from


class Distortion(NamedTuple):
    """A distortion that is switched on: its stream, the share of samples, and (size, generator) to its maps."""

    stream: int
    probability: float
    draw: Callable[[Size, np.random.Generator], Maps]


def distortions(augmentation: Augmentation) -> tuple[Distortion, ...]:
    """Returns the distortions that are switched on, in the order in which they are applied."""
    elastic, grid, lens = augmentation.elastic, augmentation.grid_distortion, augmentation.optical_distortion
    by_grid = A.GridDistortion(num_steps=grid.steps, distort_limit=(-grid.limit, grid.limit))
    by_lens = A.OpticalDistortion(distort_limit=(-lens.limit, lens.limit))
    rows = (
        (elastic, ELASTIC, partial(_elastic_maps, elastic)),
        (grid, GRID_DISTORTION, partial(_library_maps, by_grid)),
        (lens, OPTICAL_DISTORTION, partial(_library_maps, by_lens)),
    )
    return tuple(Distortion(stream, own.probability, draw) for own, stream, draw in rows if own.enable)


def apply_distortions(
    chosen: tuple[Distortion, ...],
    image: np.ndarray,
    label: np.ndarray,
    rng_of: Callable[[int], np.random.Generator],
    border: str,
    beyond: tuple[float, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns image (H, W, C) and label (H, W) or (H, W, planes) after the distortions that are drawn.

    Args:
        rng_of: the generator of a stream.
        border: what comes from outside: `reflect_101`, or `constant`.
        beyond: the values of image and label there.
    """
    for maps in drawn_maps(chosen, label.shape[:2], rng_of):
        image = remap_image(image, maps, border, beyond[0])
        nearest = partial(_remap, maps, cv2.INTER_NEAREST, border, beyond[1])
        label = nearest(label) if label.ndim == 2 else _by_plane(label, nearest)
    return image, label


def remap_image(image: np.ndarray, maps: Maps, border: str, black: float) -> np.ndarray:
    """Returns an image (H, W, C) whose pixels come from where the maps say, `black` beyond a constant border."""
    return by_fours(image, partial(_remap, maps, cv2.INTER_LINEAR, border, (black,) * 4))


def drawn_maps(
    chosen: tuple[Distortion, ...], size: Size, rng_of: Callable[[int], np.random.Generator]
) -> Iterator[Maps]:
    """Yields the maps of the distortions that are drawn for a sample of a size (height, width)."""
    for one in chosen:
        rng = rng_of(one.stream)
        if rng.random() < one.probability:
            yield one.draw(size, rng)


def _remap(maps: Maps, interpolation: int, border: str, beyond, array: np.ndarray) -> np.ndarray:
    return cv2.remap(array, *maps, interpolation, borderMode=BORDERS[border], borderValue=beyond)


def _by_plane(label: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    planes = map(np.ascontiguousarray, np.moveaxis(label, -1, 0))
    return np.stack([change(plane) for plane in planes], -1)


def _library_maps(transform: A.DualTransform, size: Size, rng: np.random.Generator) -> Maps:
    set_generators(transform, rng)
    drawn = transform.get_params_dependent_on_data({"shape": size}, {})
    return drawn["map_x"].astype(np.float32), drawn["map_y"].astype(np.float32)


def _elastic_maps(settings: Elastic, size: Size, rng: np.random.Generator) -> Maps:
    """Returns the maps of a smooth random field, drawn at a lower resolution, which takes a fraction of the time.

    Noise between -1 and 1 that a Gaussian has smoothed has the deviation 1 / (2 sqrt(3 pi) sigma).

    Source: Simard et al. 2003, "Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis".
    """
    factor = max(1, int(settings.sigma / COARSE_SIGMA))
    sigma = settings.sigma / factor
    margin = math.ceil(3 * sigma)  # the library repeats the noise of the edge, which moves the edge by far more
    coarse_size = [max(2, round(side / factor)) for side in size]
    height, width = (side + 2 * margin for side in coarse_size)
    alpha = 2 * math.sqrt(3 * math.pi) * sigma * settings.shift / factor
    library = A.ElasticTransform(alpha=alpha, sigma=sigma, noise_distribution="uniform")
    coarse = _library_maps(library, (height, width), rng)
    inside = np.s_[margin : height - margin, margin : width - margin]
    moved = [(found - own)[inside] for found, own in zip(coarse, _grid((height, width)), strict=True)]
    own_x, own_y = _grid(size)
    x, y = (cv2.resize(field, size[::-1]) * factor for field in moved)
    return own_x + x, own_y + y


def _grid(size: Size) -> list[np.ndarray]:
    """Returns the maps that move nothing."""
    return np.meshgrid(np.arange(size[1], dtype=np.float32), np.arange(size[0], dtype=np.float32))
