"""Where roads, paths, fields and water lie: one function for each kind of place, all about (0, 0).

Each takes a random generator and gives a layout; the camera looks at (0, 0) from a direction of its own. Shapes are in
metres: curves, bands along them, dashes, patches, whole roads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

Shape = tuple[str, np.ndarray | None]  # material and polygon (N, 2); None: the whole ground, for a layout's first shape

FAR_M = 1500.0  # how far roads go on: beyond the horizon that a drone sees


@dataclass(frozen=True, eq=False)
class Layout:
    """What a flight shows on the ground, and where things may be."""

    shapes: list[Shape]  # painted in order, the first one everywhere
    lanes: list[np.ndarray] = field(default_factory=list)  # lines (N, 2) along which cars drive
    slots: list[tuple[float, float, float]] = field(default_factory=list)  # x, y, heading of a parked car
    fences: list[tuple[float, float, float, float]] = field(default_factory=list)  # x, y of the middle, heading, length
    jetties: list[tuple[float, float, float, float]] = field(default_factory=list)  # x, y of the start, heading, length


def street(rng: np.random.Generator) -> Layout:
    """A street between gardens, with footways and drives."""
    centre = curve(rng, rng.uniform(-2, 2), rng.uniform(0, 5))
    width = rng.uniform(6.2, 7.4)
    sides = zip(rng.uniform(-40, 40, 5), (1, -1, 1, -1, 1), strict=True)
    drives = [("paving", rectangle(x, side * 11, 3.2, 14)) for x, side in sides]
    beds = patches(rng, 8, ("soil",), 30, (1.5, 5))
    shapes = [("grass", None), *countryside(rng), *beds, *drives, *road(rng, centre, width, rng.uniform(1.8, 3))]
    return Layout(shapes, both_lanes(centre, width))


def crossing(rng: np.random.Generator) -> Layout:
    """Two roads that cross, with pedestrian crossings on each arm."""
    width = rng.uniform(7.0, 8.5)
    first, angle = curve(rng, 0, 0), np.pi / 2 + rng.uniform(-0.2, 0.2)
    second = turned(first, angle)
    corners = []
    for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        corners.append((("grass", "soil", "concrete")[rng.integers(3)], rectangle(x * 19, y * 19, 26, 26)))
    shapes = [("grass", None), *countryside(rng), *corners]
    shapes += [*road(rng, first, width, 3.2), *road(rng, second, width, 3.2)]
    shapes += [("asphalt", band(first, width)), ("paint", band(beside(first, 0.0)[:118], 0.16))]
    shapes += [("paint", band(first[123:], 0.16)), ("asphalt", rectangle(0, 0, width + 6, width + 6, angle))]
    for distance in (-width / 2 - 2.6, width / 2 + 2.6):
        for x, y, turn in ((distance, 0, 0), (distance * np.cos(angle), distance * np.sin(angle), angle)):
            bars = [rectangle(0, side, 3.0, 0.5) for side in np.arange(-width / 2 + 0.5, width / 2 - 0.2, 1.0)]
            shapes += [("paint", turned(bar, turn, (x, y))) for bar in bars]
    return Layout(shapes, both_lanes(first, width) + both_lanes(second, width))


def avenue(rng: np.random.Generator) -> Layout:
    """Two carriageways of two lanes, a green strip between them."""
    centre, lane = curve(rng, rng.uniform(-3, 3), rng.uniform(0, 8)), 3.4
    middle = rng.uniform(3, 5)
    shapes, lanes = [(("grass", "meadow")[rng.integers(2)], None), *countryside(rng)], []
    shapes += patches(rng, 6, ("soil",), 30, (3, 9))
    for side in (-1, 1):
        carriageway = beside(centre, side * (middle / 2 + lane + 0.5))
        shapes += road(rng, carriageway, 2 * lane + 1)
        lanes += [beside(carriageway, away)[:: -1 if side > 0 else 1] for away in (-lane / 2, lane / 2)]
    shapes.append((("paving", "gravel")[rng.integers(2)], band(beside(centre, -middle / 2 - 2 * lane - 6), 3.0)))
    return Layout(shapes, lanes)


def park(rng: np.random.Generator) -> Layout:
    """A lawn with two winding paths, a pond and beds."""
    surface = ("gravel", "paving", "concrete")[rng.integers(3)]
    first = curve(rng, rng.uniform(-3, 3), rng.uniform(3, 8))
    second = turned(curve(rng, rng.uniform(-4, 4), rng.uniform(3, 8)), rng.uniform(0.7, 2.2))
    angle = rng.uniform(0, 2 * np.pi)
    pond = patch(rng, 14 * np.cos(angle), 14 * np.sin(angle), rng.uniform(4, 8))
    shapes = [("grass", None), *countryside(rng), *patches(rng, 6, ("meadow",), 30, (4, 9))]
    shapes += [*patches(rng, 6, ("soil",), 22, (1, 4)), ("shallow", rim(pond, 1.12)), ("water", pond)]
    return Layout([*shapes, (surface, band(first, rng.uniform(3, 4.5))), (surface, band(second, rng.uniform(2.5, 4)))])


def campus(rng: np.random.Generator) -> Layout:
    """A paved square with lawns let into it, and a road along its side."""
    surface = ("paving", "concrete")[rng.integers(2)]
    centre = curve(rng, rng.uniform(16, 22), 0)
    shapes = [("grass", None), *countryside(rng, 90), (surface, rectangle(0, -4, 120, 46))]
    for x in np.arange(-48, 49, 16) + rng.uniform(-4, 4):
        for y in (-18, 2):
            if rng.random() < 0.62:
                lawn = rectangle(x, y + rng.uniform(-2, 2), rng.uniform(6, 12), rng.uniform(6, 11))
                shapes += [("kerb", rim(lawn, 1.07)), (("grass", "grass", "soil")[rng.integers(3)], lawn)]
    return Layout([*shapes, *road(rng, centre, 7, 2.5)], both_lanes(centre, 7))


def car_park(rng: np.random.Generator) -> Layout:
    """Rows of marked bays on asphalt, green islands, a road beside them."""
    shapes, slots = [("grass", None), *countryside(rng)], []
    shapes += [("kerb", rectangle(0, 0, 78.5, 46.5)), ("asphalt", rectangle(0, 0, 78, 46))]
    for y, heading in ((-17, 1), (-6, -1), (-0.4, 1), (10.6, -1), (16.2, 1)):
        for index, x in enumerate(np.arange(-36, 36.1, 2.7)):
            shapes.append(("paint", rectangle(x, y, 0.14, 5.0)))
            if index:
                slots.append((x - 1.35, y, heading * np.pi / 2))
    for x in (-27.2, -2.9, 21.4):
        shapes.append(("kerb", rectangle(x, -3.2, 5.3, 10.6)))
        shapes.append((("grass", "soil")[rng.integers(2)], rectangle(x, -3.2, 4.9, 10.2)))
        slots = [slot for slot in slots if not (abs(slot[0] - x) < 3.5 and -9 < slot[1] < 3)]
    centre = curve(rng, 33, 0)
    return Layout([*shapes, *road(rng, centre, 7, 2.2)], both_lanes(centre, 7), slots)


def pasture(rng: np.random.Generator) -> Layout:
    """A meadow with worn places and a cart track along a fence."""
    track = curve(rng, rng.uniform(3, 6), rng.uniform(0, 4))
    shapes = [("meadow", None), *countryside(rng, 50)]
    shapes += patches(rng, 14, ("soil", "grass", "soil"), 24, (1.5, 6))
    if rng.random() < 0.6:
        shapes += [("track", band(track, 3.6)), *ruts(track, 0.55, (-0.8, 0.8))]
    line = beside(track, -3.0)
    middle = line[np.abs(line[:, 0]) < 45][::6]
    fences = [(*(a + b) / 2, np.arctan2(*(b - a)[::-1]), np.linalg.norm(b - a)) for a, b in pairwise(middle)]
    return Layout(shapes, fences=fences)


def fields(rng: np.random.Generator) -> Layout:
    """Ploughed and sown fields on both sides of a country road."""
    centre = curve(rng, rng.uniform(-3, 3), rng.uniform(0, 6))
    names = [("plough", "crop", "soil", "plough", "meadow")[index] for index in rng.permutation(5)]
    shapes = [(names[0], None), *countryside(rng, 60), (names[1], rectangle(0, 60, 300, 120))]
    shapes += [(names[2], rectangle(rng.uniform(10, 30), -40, 36, 70)), ("meadow", band(centre, 14))]
    if rng.random() < 0.5:
        return Layout([*shapes, ("track", band(centre, 4.4)), *ruts(centre, 0.6, (-0.85, 0.85))])
    return Layout([*shapes, *road(rng, centre, 6.4)], both_lanes(centre, 6.4))


def harbour(rng: np.random.Generator) -> Layout:
    """A lake behind a beach or a quay, jetties into the water."""
    shore = curve(rng, rng.uniform(-3, 1), rng.uniform(1, 5))
    beach = ("sand", "concrete")[rng.integers(2)]
    shapes = [("grass", None), *countryside(rng), (beach, band(beside(shore, -6), 13))]
    shapes.append((("paving", "gravel")[rng.integers(2)], band(beside(shore, -14), 3.5)))
    shapes += [("shallow", band(beside(shore, 3), 8)), ("water", band(beside(shore, 203), 400))]
    near = shore[np.abs(shore[:, 0]) < 30]
    feet = near[rng.integers(len(near), size=2)]
    jetties = [(x, y - 1.5, np.pi / 2 + rng.uniform(-0.2, 0.2), rng.uniform(9, 14)) for x, y in feet]
    return Layout(shapes, jetties=jetties)


def riverside(rng: np.random.Generator) -> Layout:
    """A river between sandy banks, a path on one side."""
    centre, width = curve(rng, rng.uniform(4, 8), rng.uniform(2, 6)), rng.uniform(14, 22)
    shapes = [("grass", None), *countryside(rng)]
    for name, more in (("meadow", 16), ("sand", 4), ("shallow", 1.5), ("water", 0)):
        shapes.append((name, band(centre, width + more)))
    path = beside(centre, -width / 2 - 6)
    foot = centre[np.argmin(np.abs(centre[:, 0] - rng.uniform(-8, 8)))] - [0, width / 2 + 1]
    if rng.random() < 0.6:
        shapes.append((("asphalt", "gravel")[rng.integers(2)], band(path, rng.uniform(3, 4.5))))
    return Layout(shapes, jetties=[(*foot, np.pi / 2, 6.5)])


def yard(rng: np.random.Generator) -> Layout:
    """A building site or depot: bare soil, gravel, a concrete road."""
    centre = curve(rng, rng.uniform(-4, 4), rng.uniform(0, 4))
    shapes = [("soil", None), *countryside(rng)]
    shapes += patches(rng, 9, ("sand", "meadow", "plough", "gravel"), 28, (3, 8))
    shapes += [("concrete", band(centre, 7.0)), *ruts(centre, 0.5, (3.9, 5.4))]
    return Layout(shapes, both_lanes(centre, 7.0))


def curve(rng: np.random.Generator, offset: float, bend: float) -> np.ndarray:
    """Returns a line (N, 2) along x that winds `bend` metres about y = `offset`, fine near 0 and coarse far away."""
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


def patches(rng: np.random.Generator, num: int, materials, reach: float, radii) -> list[Shape]:
    """Returns patches of random materials at most `reach` metres from (0, 0) in x and y; `radii` are (low, high)."""
    return [
        (materials[rng.integers(len(materials))], patch(rng, *rng.uniform(-reach, reach, 2), rng.uniform(*radii)))
        for _ in range(num)
    ]


def rim(polygon_N2: np.ndarray, factor: float) -> np.ndarray:
    """Returns a polygon enlarged about its middle."""
    middle = polygon_N2.mean(axis=0)
    return middle + (polygon_N2 - middle) * factor


def ruts(line_N2: np.ndarray, width: float, sides) -> list[Shape]:
    """Returns what wheels leave at some distances beside a line."""
    return [("rut", band(beside(line_N2, side), width)) for side in sides]


def rectangle(x: float, y: float, width: float, depth: float, angle: float = 0.0) -> np.ndarray:
    """Returns the corners of a rectangle centred on (x, y)."""
    half = np.array([[-width, -depth], [width, -depth], [width, depth], [-width, depth]]) / 2
    return turned(half, angle, (x, y))


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
