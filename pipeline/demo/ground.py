"""The flat ground of a flight: materials, and square canvases of it at several scales.

In: a layout's shapes, which are (material, polygon in metres) painted in order. Out: canvases that the renderer warps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.demo.recipes import BACKGROUND, ROAD, VEGETATION

LATTICE = 64  # cells of a noise lattice; it repeats after that many
WAVELENGTHS = (0.14, 0.45, 1.5, 6.0, 25.0)  # metres of the noise octaves; then stripes, then joints

# name: class, colour a, colour b, amplitude of each noise octave, of the stripes, of the joints.
# Road and bare soil, roofs and asphalt, water and shaded grass come close in colour on purpose: texture must decide.
MATERIALS = {
    "grass": (VEGETATION, (92, 124, 54), (128, 142, 74), (0.15, 0.08, 0.04, 0.03, 0.03), 0, 0),
    "meadow": (VEGETATION, (108, 122, 66), (142, 142, 92), (0.18, 0.13, 0.07, 0.04, 0.03), 0, 0),
    "wood": (VEGETATION, (44, 66, 34), (80, 98, 48), (0.14, 0.16, 0.18, 0.09, 0.04), 0, 0),
    "crop": (VEGETATION, (88, 120, 52), (126, 140, 62), (0.13, 0.1, 0.04, 0.03, 0.03), 0.2, 0),
    "soil": (BACKGROUND, (140, 116, 88), (168, 146, 114), (0.07, 0.08, 0.06, 0.05, 0.04), 0, 0),
    "plough": (BACKGROUND, (112, 86, 62), (138, 110, 82), (0.08, 0.1, 0.06, 0.05, 0.03), 0.16, 0),
    "sand": (BACKGROUND, (206, 186, 148), (222, 206, 172), (0.04, 0.04, 0.05, 0.04, 0.02), 0, 0),
    "water": (BACKGROUND, (52, 84, 86), (72, 104, 104), (0.04, 0.1, 0.04, 0.03, 0.03), 0.07, 0),
    "shallow": (BACKGROUND, (96, 122, 108), (128, 144, 124), (0.04, 0.07, 0.04, 0.03, 0.03), 0.05, 0),
    "asphalt": (ROAD, (94, 95, 96), (113, 113, 111), (0.1, 0.04, 0.02, 0.025, 0.03), 0, 0),
    "paint": (ROAD, (222, 222, 216), (236, 234, 224), (0.06, 0.04, 0.05, 0, 0), 0, 0),
    "kerb": (ROAD, (168, 166, 160), (184, 181, 174), (0.05, 0.05, 0.02, 0, 0), 0, 0),
    "paving": (ROAD, (158, 148, 138), (180, 171, 160), (0.05, 0.06, 0.03, 0.03, 0.03), 0, 0.2),
    "concrete": (ROAD, (164, 162, 156), (186, 183, 175), (0.04, 0.03, 0.05, 0.05, 0.03), 0, 0.05),
    "gravel": (ROAD, (172, 158, 136), (192, 180, 158), (0.12, 0.07, 0.04, 0.03, 0.03), 0, 0),
    "track": (ROAD, (158, 134, 104), (182, 160, 130), (0.08, 0.07, 0.07, 0.05, 0.03), 0, 0),
    "rut": (ROAD, (128, 106, 82), (150, 128, 100), (0.08, 0.06, 0.06, 0.04, 0.03), 0, 0),
    "patch": (ROAD, (70, 70, 74), (84, 84, 88), (0.07, 0.04, 0.03, 0.02, 0), 0, 0),
}
NAMES = tuple(MATERIALS)
CLASS_OF = np.array([MATERIALS[name][0] for name in NAMES], np.uint8)
SEASONS = {  # factors on the colours of what grows
    "spring": (0.96, 1.08, 0.92),
    "summer": (1.0, 1.0, 1.0),
    "dry": (1.26, 1.1, 1.06),
    "autumn": (1.1, 1.0, 0.92),
    "winter": (1.06, 0.95, 1.02),
}


@dataclass(frozen=True, eq=False)
class Ground:
    """One square canvas: colours (size, size, 3) and materials (size, size), uint8, the first pixel at `corner`."""

    colours: np.ndarray
    materials: np.ndarray
    corner: tuple[float, float]
    scale: float


@dataclass(frozen=True, eq=False)
class Palette:
    """What a flight's materials look like: two colours (M, 3) and seven amplitudes (M, 7) each, and shared noise."""

    first: np.ndarray
    second: np.ndarray
    amplitudes: np.ndarray
    lattices: tuple[np.ndarray, ...]
    stripe_angle: float
    stripe_m: float
    joint_m: float


def choose_palette(rng: np.random.Generator, season: str) -> Palette:
    """Returns a palette for one flight: the season's tint and a random deviation for each material."""
    first, second = (np.array([row[column] for row in MATERIALS.values()], np.float32) for column in (1, 2))
    amplitudes = np.array([(*octaves, *lines) for _, _, _, octaves, *lines in MATERIALS.values()], np.float32)
    brightness = rng.uniform(0.9, 1.1, (len(NAMES), 1))
    hue = 1 + 0.016 * rng.standard_normal((len(NAMES), 3))
    tint = np.where(CLASS_OF[:, None] == VEGETATION, np.array(SEASONS[season]), 1.0)
    factor = (brightness * hue * tint).astype(np.float32)
    return Palette(
        first=first * factor,
        second=second * factor,
        amplitudes=amplitudes * rng.uniform(0.75, 1.3, amplitudes.shape).astype(np.float32),
        lattices=tuple(lattice(rng) for _ in WAVELENGTHS),
        stripe_angle=rng.uniform(0, np.pi),
        stripe_m=rng.uniform(0.7, 1.1),
        joint_m=rng.uniform(0.6, 1.2),
    )


def paint_materials(shapes, corner, scale: float, size: int) -> np.ndarray:
    """Returns the index of the material at each pixel (size, size), uint8; the first shape is the base everywhere."""
    canvas = np.full((size, size), NAMES.index(shapes[0][0]), np.uint8)
    for name, polygon in shapes[1:]:
        pixels = (np.asarray(polygon) - corner) * scale
        if (pixels.max(axis=0) < 0).any() or (pixels.min(axis=0) > size).any():
            continue
        fixed_point = np.clip(pixels * 16, -(2**26), 2**26).astype(np.int32)  # 4 fractional bits
        cv2.fillPoly(canvas, [fixed_point], NAMES.index(name), lineType=cv2.LINE_8, shift=4)
    return canvas


def paint_ground(shapes, palette: Palette, centre, radius_m: float, size: int) -> Ground:
    """Returns the canvas of the square of ground around `centre` that reaches `radius_m` to each side."""
    scale = size / (2 * radius_m)
    corner = (centre[0] - radius_m, centre[1] - radius_m)
    materials = paint_materials(shapes, corner, scale, size)
    blend = np.full((size, size), 0.5, np.float32)
    brightness = np.ones((size, size), np.float32)
    for index, wavelength in enumerate(WAVELENGTHS):
        if wavelength * scale < 1.4:  # finer than the canvas can show
            continue
        noise = world_noise(palette.lattices[index], corner, scale, size, wavelength)
        brightness += noise * cv2.LUT(materials, _table(palette.amplitudes[:, index]))
        if wavelength in (1.5, 6.0):
            blend += 0.22 * noise
    brightness += _lines(palette, materials, corner, scale, size)
    colours = cv2.LUT(cv2.merge([materials] * 3), _table(palette.first))
    change = cv2.LUT(cv2.merge([materials] * 3), _table(palette.second - palette.first))
    colours += change * np.clip(blend, 0, 1)[..., None]
    return Ground(to_uint8(colours * np.maximum(brightness, 0.1)[..., None]), materials, corner, scale)


def material_at(grounds: Sequence[Ground], points_N2: np.ndarray) -> np.ndarray:
    """Returns the material (N,) at ground points in metres, from the first canvas that has them, else -1."""
    found = np.full(len(points_N2), -1)
    for ground in grounds:
        pixels = np.floor((np.nan_to_num(points_N2, nan=1e9) - ground.corner) * ground.scale).astype(int)
        inside = ((pixels >= 0) & (pixels < len(ground.materials))).all(axis=1) & (found < 0)
        found[inside] = ground.materials[pixels[inside, 1], pixels[inside, 0]]
    return found


def _lines(palette: Palette, materials: np.ndarray, corner, scale: float, size: int) -> np.ndarray:
    """Returns the brightness (size, size) that furrows, rows of crop, ripples and joints add."""
    x = (corner[0] + np.arange(size, dtype=np.float32) / scale)[None, :]
    y = (corner[1] + np.arange(size, dtype=np.float32) / scale)[:, None]
    total = np.zeros((size, size), np.float32)
    if palette.stripe_m * scale > 2.5 and (table := palette.amplitudes[:, 5])[np.unique(materials)].any():
        along = x * np.float32(np.cos(palette.stripe_angle)) + y * np.float32(np.sin(palette.stripe_angle))
        waver = 0.7 * world_noise(palette.lattices[2], corner, scale, size, WAVELENGTHS[2])
        total += np.sin(along * np.float32(2 * np.pi / palette.stripe_m) + waver) * cv2.LUT(materials, _table(table))
    if palette.joint_m * scale > 5 and (table := palette.amplitudes[:, 6])[np.unique(materials)].any():
        row = np.floor(y / palette.joint_m)
        joint = ((x / palette.joint_m + 0.5 * (row % 2)) % 1 < 0.08) | ((y / palette.joint_m) % 1 < 0.08)
        total -= joint * cv2.LUT(materials, _table(table))
    return total


def _table(values: np.ndarray) -> np.ndarray:
    """Returns `values` (M,) or (M, 3) as a look-up table of 256 rows."""
    values = values.reshape(len(values), -1).astype(np.float32)
    table = np.zeros((1, 256, values.shape[1]), np.float32)
    table[0, : len(values)] = values
    return table


def lattice(rng: np.random.Generator) -> np.ndarray:
    """Returns a periodic lattice (64, 64) of normal numbers, float32; 1.3 makes up for what interpolation flattens."""
    return 1.3 * rng.standard_normal((LATTICE, LATTICE), dtype=np.float32)


def world_noise(lattice_LL: np.ndarray, corner, scale: float, size: int, wavelength: float) -> np.ndarray:
    """Returns noise (size, size), float32, about -2 to 2, for the square of ground that begins at `corner` (metres).

    The value depends on the position in the world only, so that canvases of different `scale` (pixels per metre) agree.
    One wave, `wavelength` metres, is two lattice cells.
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


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Returns `values` clipped to 0-255 as uint8.

    >>> to_uint8(np.array([-3.0, 17.4, 300.0])).tolist()
    [0, 17, 255]
    """
    return np.clip(values, 0, 255).astype(np.uint8)
