"""Procedural textures: value noise at fixed places of the world, roof tiles, facades, planks.

All take a `numpy.random.Generator` and give the same pixels for the same state of it.
"""

from __future__ import annotations

import cv2
import numpy as np

LATTICE = 64  # cells of a noise lattice; it repeats after that many


def lattice(rng: np.random.Generator) -> np.ndarray:
    """Returns a periodic lattice (64, 64) of normal numbers, float32; 1.3 makes up for what interpolation flattens."""
    return 1.3 * rng.standard_normal((LATTICE, LATTICE), dtype=np.float32)


def world_noise(lattice_LL: np.ndarray, corner, scale: float, size: int, wavelength: float) -> np.ndarray:
    """Returns noise (size, size), float32, about -2 to 2, for the square of ground that begins at `corner`.

    The value depends on the place in the world only, so that canvases of different scale agree.

    Args:
        corner: x, y in metres of the first pixel.
        scale: pixels per metre.
        wavelength: metres of one wave, which are two lattice cells.
    """
    cells = (np.arange(size) / scale)[None, :] + np.asarray(corner, float)[:, None]
    x, y = cells / (wavelength / 2)
    across = _interpolate(lattice_LL.T, x).T  # (64, size): first along x on the few rows of the lattice
    return _interpolate(across, y)


def _interpolate(rows_LN: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Returns the periodic rows linearly interpolated at the positions `at`, (len(at), N), contiguous."""
    below = np.floor(at).astype(int)
    share = (at - below).astype(np.float32)[:, None]
    rows = np.ascontiguousarray(rows_LN)
    return rows[below % LATTICE] * (1 - share) + rows[(below + 1) % LATTICE] * share


def image_noise(rng: np.random.Generator, width: int, height: int, cell_px: float) -> np.ndarray:
    """Returns smooth noise (height, width), float32, whose bumps are about `cell_px` wide."""
    rows, columns = max(2, round(height / cell_px)), max(2, round(width / cell_px))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def roof_tiles(rng: np.random.Generator, colour) -> np.ndarray:
    """Returns a roof slope (112, 160, 3), uint8 RGB, from the ridge down: rows of tiles, each with its shadow line."""
    height, width, tile_h, tile_w = 112, 160, 8, 8
    y, x = np.mgrid[:height, :width]
    row, column = y // tile_h, (x + (y // tile_h % 2) * tile_w // 2) // tile_w
    brightness = 1 + 0.11 * rng.standard_normal((height // tile_h + 1, width // tile_w + 2))[row, column]
    brightness *= np.where(y % tile_h >= tile_h - 2, 0.66, 1.0)  # the lower edge shades the next row
    brightness *= 0.92 + 0.16 * np.sin(np.pi * (x % tile_w) / tile_w)  # pantiles are round
    brightness += 0.06 * image_noise(rng, width, height, 30)  # moss and weather
    brightness[:4] *= 1.22  # the ridge catches light
    return to_uint8(np.asarray(colour) * brightness[..., None])


def roof_sheets(rng: np.random.Generator, colour) -> np.ndarray:
    """Returns a corrugated roof slope (112, 160, 3), uint8 RGB, with ribs, seams and rust."""
    y, x = np.mgrid[:112, :160]
    brightness = 0.95 + 0.13 * np.sin(x * (2 * np.pi / 6)) + 0.05 * image_noise(rng, 160, 112, 12)
    brightness[(y % 37) == 0] *= 0.75
    rust = np.clip(image_noise(rng, 160, 112, 22) - 0.9, 0, 0.6)[..., None]
    return to_uint8((np.asarray(colour) * (1 - rust) + np.array([128, 74, 46]) * rust) * brightness[..., None])


def roof_gravel(rng: np.random.Generator, colour) -> np.ndarray:
    """Returns a flat roof (128, 128, 3), uint8 RGB: gravel, stains, seams of the sheeting."""
    x = np.arange(128)
    brightness = 1 + 0.07 * image_noise(rng, 128, 128, 2) + 0.08 * image_noise(rng, 128, 128, 24)
    brightness[:, x % 32 == 0] *= 0.9
    return to_uint8(np.asarray(colour) * brightness[..., None])


def facade(rng: np.random.Generator, colour, storeys: int, columns: int) -> np.ndarray:
    """Returns a wall (28 * storeys, 24 * columns, 3), uint8 RGB, with framed windows that mirror the sky and a door."""
    height, width = 28 * storeys, 24 * columns
    wall = np.asarray(colour) * (1 + 0.05 * image_noise(rng, width, height, 9))[..., None]
    glass = np.array([62, 76, 92]) * rng.uniform(0.7, 1.5, (storeys, columns, 1))
    for storey in range(storeys):
        for column in range(columns):
            top, left = 28 * storey + 7, 24 * column + 6
            wall[top - 1 : top + 15, left - 1 : left + 13] = 0.5 * wall[top, left] + 112
            wall[top : top + 14, left : left + 12] = glass[storey, column]
            wall[top : top + 5, left : left + 12] *= 1.35  # the upper part mirrors more sky
            wall[top : top + 14, left + 6] = 0.5 * wall[top - 2, left] + 100
            wall[top + 15 : top + 17, left - 1 : left + 13] *= 0.7  # the shadow below the sill
    door = 24 * int(rng.integers(columns)) + 5
    wall[height - 24 :, door : door + 13] = np.array([92, 62, 44]) * rng.uniform(0.6, 1.4)
    return to_uint8(wall)


def planks(rng: np.random.Generator, colour) -> np.ndarray:
    """Returns a wooden deck (64, 128, 3), uint8 RGB, boards across."""
    x = np.arange(128)
    boards = 1 + 0.12 * rng.standard_normal(17)[x // 8] - 0.4 * (x % 8 == 0)
    grain = boards[None, :] + 0.05 * image_noise(rng, 128, 64, 4)
    return to_uint8(np.asarray(colour) * grain[..., None])


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Returns `values` clipped to 0-255 as uint8.

    >>> to_uint8(np.array([-3.0, 17.4, 300.0])).tolist()
    [0, 17, 255]
    """
    return np.clip(values, 0, 255).astype(np.uint8)
