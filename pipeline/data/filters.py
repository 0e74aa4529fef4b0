"""Gamma, blur, sharpening and coarse dropout of a sample's image, of any number format and number of channels.

By albumentations, which knows images of 8 bits and floats from 0 to 1. Others are scaled to that by what is black and
white, and back; what is beyond both is added again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import albumentations as A
import numpy as np

from pipeline.config.augmentation import Augmentation, CoarseDropout, Random
from pipeline.config.competition import IGNORE
from pipeline.data.augment import run_chain, set_generators
from pipeline.data.streams import BLUR, COARSE_DROPOUT, GAMMA, SHARPEN


class Filter(NamedTuple):
    """A change of the image that is switched on: its stream, the share of samples, and the chain of one transform."""

    stream: int
    probability: float
    chain: A.Compose


def filters(augmentation: Augmentation) -> tuple[Filter, ...]:
    """Returns gamma, blur and sharpening as far as they are switched on, in the order in which they are applied."""
    gamma, blur, sharpen = augmentation.gamma, augmentation.blur, augmentation.sharpen
    percent = tuple(100 * limit for limit in gamma.limit)
    rows = (
        (gamma, GAMMA, A.RandomGamma(gamma_limit=percent, p=1)),
        (blur, BLUR, A.GaussianBlur(blur_limit=0, sigma_limit=blur.sigma, p=1)),  # 0: the kernel follows sigma
        # A lightness of 1 keeps the mean brightness.
        (sharpen, SHARPEN, A.Sharpen(alpha=sharpen.alpha, lightness=(1.0, 1.0), p=1)),
    )
    return tuple(
        Filter(stream, own.probability, A.Compose([one], strict=True)) for own, stream, one in rows if own.enable
    )


def apply_filters(
    chosen: tuple[Filter, ...],
    image: np.ndarray,
    rng_of: Callable[[int], np.random.Generator],
    low: float = 0,
    high: float = 255,
) -> np.ndarray:
    """Returns the image (H, W, C), in its own number format, after the filters that are drawn.

    Args:
        rng_of: the generator of a stream.
        low: the value of a black pixel; `high` of a white one. They matter for images that are not of 8 bits.
    """
    for one in chosen:
        rng = rng_of(one.stream)
        if rng.random() < one.probability:
            image = _filtered(one.chain, image, rng, low, high)
    return image


def _filtered(chain: A.Compose, image: np.ndarray, rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    if image.dtype == np.uint8:
        return run_chain(chain, image, rng)
    wide = image.astype(np.float32)
    inside = np.clip(wide, low, high)
    unit = run_chain(chain, (inside - low) / (high - low), rng)
    wide += np.clip(unit, 0, 1) * (high - low) + low - inside
    if image.dtype.kind == "f":
        return wide.astype(image.dtype)
    limits = np.iinfo(image.dtype)
    return np.clip(np.rint(wide), limits.min, limits.max).astype(image.dtype)


def drawn(settings: Random, stream: int, rng_of: Callable[[int], np.random.Generator]) -> np.random.Generator | None:
    """Returns the generator of a step of augmentation that is on and drawn for this sample, else None."""
    if not settings.enable:
        return None
    rng = rng_of(stream)
    return rng if rng.random() < settings.probability else None


def apply_dropout(
    settings: CoarseDropout,
    image: np.ndarray,
    label: np.ndarray,
    rng_of: Callable[[int], np.random.Generator],
    black: float = 0,
) -> None:
    """Blackens rectangles of an image where they are drawn, in place; LABEL ignore sets the label there to `IGNORE`.

    Source: DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552, with several rectangles.
    """
    if not settings.enable or (rng := rng_of(COARSE_DROPOUT)).random() >= settings.probability:
        return
    size = {"hole_height_range": settings.size, "hole_width_range": settings.size}
    library = A.CoarseDropout(num_holes_range=settings.holes, **size)
    set_generators(library, rng)
    for left, top, right, bottom in library.get_params_dependent_on_data({"shape": image.shape}, {})["holes"]:
        image[top:bottom, left:right] = black
        if settings.label == "ignore":
            label[top:bottom, left:right] = IGNORE
