"""Outlines for painting the ground, in metres: curves, bands along them, dashes, patches, whole roads.

A shape is (name of the material, polygon (N, 2)); a layout paints its shapes in order.
"""

from __future__ import annotations

import numpy as np

Shape = tuple[str, np.ndarray | None]  # None: the whole ground, for the first shape of a layout

FAR_M = 1500.0  # how far roads go on: beyond the horizon that a drone sees


def curve(rng: np.random.Generator, offset: float, bend: float) -> np.ndarray:
    """Returns a winding line (N, 2) along x through (0, about offset), fine near 0 and coarse far away.

    Args:
        bend: how far it strays to the sides, metres.
    """
    x = FAR_M * np.sinh(np.linspace(-5.5, 5.5, 241)) / np.sinh(5.5)
    wave, phase = rng.uniform(45, 90), rng.uniform(0, 2 * np.pi)
    return np.column_stack([x, offset + bend * (np.sin(x / wave + phase) - np.sin(phase))])


def turned(points_N2, angle: float, shift=(0.0, 0.0)) -> np.ndarray:
    """Returns points turned counter-clockwise by `angle` radians about (0, 0), then moved.

    >>> turned([[1.0, 0.0]], np.pi / 2, (0, 1)).round(6).tolist()
    [[0.0, 2.0]]
    """
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(points_N2, float) @ np.array([[cosine, sine], [-sine, cosine]]) + shift


def beside(line_N2: np.ndarray, distance: float) -> np.ndarray:
    """Returns the line moved to its left by `distance` metres.

    >>> beside(np.array([[0.0, 0], [1, 0], [2, 0]]), 0.5).tolist()
    [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]
    """
    direction = np.gradient(line_N2, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return line_N2 + distance * np.column_stack([-direction[:, 1], direction[:, 0]])


def band(line_N2: np.ndarray, width: float) -> np.ndarray:
    """Returns the polygon that reaches `width` / 2 to both sides of the line."""
    return np.concatenate([beside(line_N2, width / 2), beside(line_N2, -width / 2)[::-1]])


def dashes(line_N2: np.ndarray, width: float, length: float, gap: float, reach: float = 140.0) -> list[np.ndarray]:
    """Returns the dashes of a broken line, as polygons, up to `reach` metres from x, y = 0."""
    near = line_N2[np.linalg.norm(line_N2, axis=1) < reach + 30]
    travelled = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(near, axis=0), axis=1))])
    polygons = []
    for start in np.arange(0, travelled[-1] - length, length + gap):
        at = np.linspace(start, start + length, 3)
        piece = np.column_stack([np.interp(at, travelled, near[:, 0]), np.interp(at, travelled, near[:, 1])])
        polygons.append(band(piece, width))
    return polygons


def patch(rng: np.random.Generator, x: float, y: float, radius: float, *, corners: int = 40) -> np.ndarray:
    """Returns a closed, irregular, round outline about (x, y)."""
    angle = np.arange(corners) * (2 * np.pi / corners)
    away = np.ones(corners)
    for wave in (2, 3, 5):
        away += rng.uniform(0.05, 0.4 / wave) * np.sin(wave * angle + rng.uniform(0, 2 * np.pi))
    return np.column_stack([x + radius * away * np.cos(angle), y + radius * away * np.sin(angle)])


def rectangle(x: float, y: float, width: float, depth: float, angle: float = 0.0) -> np.ndarray:
    """Returns the corners of a rectangle centred on (x, y)."""
    half = np.array([[-width, -depth], [width, -depth], [width, depth], [-width, depth]]) / 2
    return turned(half, angle, (x, y))


def crossing_bars(x: float, y: float, road_width: float, angle: float) -> list[np.ndarray]:
    """Returns the bars of a pedestrian crossing over a road that runs along `angle`."""
    across = np.arange(-road_width / 2 + 0.5, road_width / 2 - 0.2, 1.0)
    return [turned(rectangle(0, side, 3.0, 0.5), angle, (x, y)) for side in across]


def road(rng: np.random.Generator, centre: np.ndarray, width: float, pavement: float = 0.0) -> list[Shape]:
    """Returns a two-lane road with markings, repaired patches and, if `pavement` > 0, kerbs and footways."""
    shapes = []
    if pavement:
        shapes.append((("paving", "concrete")[rng.integers(2)], band(centre, width + 2 * pavement)))
        shapes.append(("kerb", band(centre, width + 0.4)))
    shapes.append(("asphalt", band(centre, width)))
    near = centre[np.abs(centre[:, 0]) < 60]
    for _ in range(5):
        x, y = near[rng.integers(len(near))] + rng.uniform(-0.3, 0.3, 2) * width
        shapes.append(("patch", rectangle(x, y, rng.uniform(0.8, 3.5), rng.uniform(0.6, 1.6), rng.uniform(0, 0.4))))
    shapes += [("paint", polygon) for polygon in dashes(centre, 0.16, 3.0, 3.5)]
    if not pavement:
        shapes += [("paint", band(beside(centre, side * (width / 2 - 0.3)), 0.14)) for side in (-1, 1)]
    return shapes


def both_lanes(centre: np.ndarray, width: float) -> list[np.ndarray]:
    """Returns the lines that cars follow on a two-lane road, one for each direction, traffic on the right."""
    return [beside(centre, -width / 4), beside(centre, width / 4)[::-1]]


def countryside(rng: np.random.Generator, near_m: float = 70.0) -> list[Shape]:
    """Returns fields and woods that begin `near_m` metres away."""
    shapes = []
    for _ in range(70):
        distance, angle = near_m * np.exp(rng.uniform(0.5, 2.8)), rng.uniform(0, 2 * np.pi)
        radius = distance * rng.uniform(0.15, 0.36)
        name = ("wood", "wood", "crop", "meadow", "plough", "grass")[rng.integers(6)]
        shapes.append((name, patch(rng, distance * np.cos(angle), distance * np.sin(angle), radius)))
    return shapes
