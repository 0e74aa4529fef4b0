"""Where roads, paths, fields and water lie: one function for each kind of place, all about (0, 0).

Each takes a random generator and gives a layout; the camera looks at (0, 0) from a direction of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pipeline.demo.shapes import (
    Shape,
    band,
    beside,
    both_lanes,
    countryside,
    crossing_bars,
    curve,
    patch,
    rectangle,
    road,
    turned,
)


@dataclass(frozen=True, eq=False)
class Layout:
    """The first shape is the ground everywhere; `lanes` are lines (N, 2) along which cars drive.

    `slots` are (x, y, heading) where they park; `fences` are (x, y, heading, length) about their
    middle, `jetties` the same from their start.
    """

    shapes: list[Shape]
    lanes: list[np.ndarray] = field(default_factory=list)
    slots: list[tuple[float, float, float]] = field(default_factory=list)
    fences: list[tuple[float, float, float, float]] = field(default_factory=list)
    jetties: list[tuple[float, float, float, float]] = field(default_factory=list)


def street(rng: np.random.Generator) -> Layout:
    """A street between gardens, with footways and drives."""
    centre = curve(rng, rng.uniform(-2, 2), rng.uniform(0, 5))
    width = rng.uniform(6.2, 7.4)
    drives = [
        ("paving", rectangle(x, side * 11, 3.2, 14))
        for x, side in zip(rng.uniform(-40, 40, 5), (1, -1, 1, -1, 1), strict=True)
    ]
    beds = [("soil", patch(rng, *rng.uniform(-30, 30, 2), rng.uniform(1.5, 5))) for _ in range(8)]
    shapes = [("grass", None), *countryside(rng), *beds, *drives, *road(rng, centre, width, rng.uniform(1.8, 3))]
    return Layout(shapes, both_lanes(centre, width))


def crossing(rng: np.random.Generator) -> Layout:
    """Two roads that cross, with pedestrian crossings on each arm."""
    width = rng.uniform(7.0, 8.5)
    first, angle = curve(rng, 0, 0), np.pi / 2 + rng.uniform(-0.2, 0.2)
    second = turned(first, angle)
    corners = [
        (("grass", "soil", "concrete")[rng.integers(3)], rectangle(x * 19, y * 19, 26, 26))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    shapes = [
        ("grass", None),
        *countryside(rng),
        *corners,
        *road(rng, first, width, 3.2),
        *road(rng, second, width, 3.2),
    ]
    shapes += [("asphalt", band(first, width)), ("paint", band(beside(first, 0.0)[:118], 0.16))]
    shapes += [("paint", band(first[123:], 0.16)), ("asphalt", rectangle(0, 0, width + 6, width + 6, angle))]
    for distance in (-width / 2 - 2.6, width / 2 + 2.6):
        shapes += [("paint", bar) for bar in crossing_bars(distance, 0, width, 0)]
        shapes += [
            ("paint", bar) for bar in crossing_bars(distance * np.cos(angle), distance * np.sin(angle), width, angle)
        ]
    return Layout(shapes, both_lanes(first, width) + both_lanes(second, width))


def avenue(rng: np.random.Generator) -> Layout:
    """Two carriageways of two lanes, a green strip between them."""
    centre, lane = curve(rng, rng.uniform(-3, 3), rng.uniform(0, 8)), 3.4
    middle = rng.uniform(3, 5)
    shapes, lanes = [(("grass", "meadow")[rng.integers(2)], None), *countryside(rng)], []
    shapes += [("soil", patch(rng, *rng.uniform(-30, 30, 2), rng.uniform(3, 9))) for _ in range(6)]
    for side in (-1, 1):
        carriageway = beside(centre, side * (middle / 2 + lane + 0.5))
        shapes += road(rng, carriageway, 2 * lane + 1)
        lanes += [
            line if side < 0 else line[::-1] for line in (beside(carriageway, -lane / 2), beside(carriageway, lane / 2))
        ]
    shapes.append((("paving", "gravel")[rng.integers(2)], band(beside(centre, -middle / 2 - 2 * lane - 6), 3.0)))
    return Layout(shapes, lanes)


def park(rng: np.random.Generator) -> Layout:
    """A lawn with two winding paths, a pond and beds."""
    surface = ("gravel", "paving", "concrete")[rng.integers(3)]
    first = curve(rng, rng.uniform(-3, 3), rng.uniform(3, 8))
    second = turned(curve(rng, rng.uniform(-4, 4), rng.uniform(3, 8)), rng.uniform(0.7, 2.2))
    angle = rng.uniform(0, 2 * np.pi)
    pond = patch(rng, 14 * np.cos(angle), 14 * np.sin(angle), rng.uniform(4, 8))
    shore = pond.mean(axis=0) + (pond - pond.mean(axis=0)) * 1.12
    shapes = [
        ("grass", None),
        *countryside(rng),
        *[("meadow", patch(rng, *rng.uniform(-30, 30, 2), rng.uniform(4, 9))) for _ in range(6)],
    ]
    shapes += [("soil", patch(rng, *rng.uniform(-22, 22, 2), rng.uniform(1, 4))) for _ in range(6)]
    shapes += [("shallow", shore), ("water", pond)]
    shapes += [(surface, band(first, rng.uniform(3, 4.5))), (surface, band(second, rng.uniform(2.5, 4)))]
    return Layout(shapes, [])


def campus(rng: np.random.Generator) -> Layout:
    """A paved square with lawns let into it, and a road along its side."""
    surface = ("paving", "concrete")[rng.integers(2)]
    centre = curve(rng, rng.uniform(16, 22), 0)
    shapes = [("grass", None), *countryside(rng, 90), (surface, rectangle(0, -4, 120, 46))]
    for x in np.arange(-48, 49, 16) + rng.uniform(-4, 4):
        for y in (-18, 2):
            if rng.random() < 0.62:
                lawn = rectangle(x, y + rng.uniform(-2, 2), rng.uniform(6, 12), rng.uniform(6, 11))
                rim = lawn.mean(axis=0) + (lawn - lawn.mean(axis=0)) * 1.07
                shapes += [("kerb", rim), (("grass", "grass", "soil")[rng.integers(3)], lawn)]
    return Layout([*shapes, *road(rng, centre, 7, 2.5)], both_lanes(centre, 7))


def car_park(rng: np.random.Generator) -> Layout:
    """Rows of marked bays on asphalt, green islands, a road beside them."""
    shapes, slots = (
        [
            ("grass", None),
            *countryside(rng),
            ("kerb", rectangle(0, 0, 78.5, 46.5)),
            ("asphalt", rectangle(0, 0, 78, 46)),
        ],
        [],
    )
    for y, heading in ((-17, 1), (-6, -1), (-0.4, 1), (10.6, -1), (16.2, 1)):
        for index, x in enumerate(np.arange(-36, 36.1, 2.7)):
            shapes.append(("paint", rectangle(x, y, 0.14, 5.0)))
            if index:
                slots.append((x - 1.35, y, heading * np.pi / 2))
    for x in (-27.2, -2.9, 21.4):
        shapes += [
            ("kerb", rectangle(x, -3.2, 5.3, 10.6)),
            (("grass", "soil")[rng.integers(2)], rectangle(x, -3.2, 4.9, 10.2)),
        ]
        slots = [slot for slot in slots if not (abs(slot[0] - x) < 3.5 and -9 < slot[1] < 3)]
    centre = curve(rng, 33, 0)
    return Layout([*shapes, *road(rng, centre, 7, 2.2)], both_lanes(centre, 7), slots)


def pasture(rng: np.random.Generator) -> Layout:
    """A meadow with worn places and a cart track along a fence."""
    track = curve(rng, rng.uniform(3, 6), rng.uniform(0, 4))
    shapes = [("meadow", None), *countryside(rng, 50)]
    shapes += [
        (("soil", "grass", "soil")[rng.integers(3)], patch(rng, *rng.uniform(-24, 24, 2), rng.uniform(1.5, 6)))
        for _ in range(14)
    ]
    if rng.random() < 0.6:
        shapes += [("track", band(track, 3.6)), *[("rut", band(beside(track, side), 0.55)) for side in (-0.8, 0.8)]]
    line = beside(track, -3.0)
    middle = line[np.abs(line[:, 0]) < 45][::6]
    fences = [(*(a + b) / 2, np.arctan2(*(b - a)[::-1]), np.linalg.norm(b - a)) for a, b in pairwise(middle)]
    return Layout(shapes, [], fences=fences)


def fields(rng: np.random.Generator) -> Layout:
    """Ploughed and sown fields on both sides of a country road."""
    centre = curve(rng, rng.uniform(-3, 3), rng.uniform(0, 6))
    names = [("plough", "crop", "soil", "plough", "meadow")[index] for index in rng.permutation(5)]
    shapes = [(names[0], None), *countryside(rng, 60), (names[1], rectangle(0, 60, 300, 120))]
    shapes += [(names[2], rectangle(rng.uniform(10, 30), -40, 36, 70)), ("meadow", band(centre, 14))]
    if rng.random() < 0.5:
        shapes += [("track", band(centre, 4.4)), *[("rut", band(beside(centre, side), 0.6)) for side in (-0.85, 0.85)]]
        return Layout(shapes, [])
    return Layout([*shapes, *road(rng, centre, 6.4)], both_lanes(centre, 6.4))


def harbour(rng: np.random.Generator) -> Layout:
    """A lake behind a beach or a quay, jetties into the water."""
    shore = curve(rng, rng.uniform(-3, 1), rng.uniform(1, 5))
    beach = ("sand", "concrete")[rng.integers(2)]
    shapes = [("grass", None), *countryside(rng)]
    shapes += [
        (beach, band(beside(shore, -6), 13)),
        (("paving", "gravel")[rng.integers(2)], band(beside(shore, -14), 3.5)),
    ]
    shapes += [("shallow", band(beside(shore, 3), 8)), ("water", band(beside(shore, 203), 400))]
    near = shore[np.abs(shore[:, 0]) < 30]
    feet = near[rng.integers(len(near), size=2)]
    return Layout(
        shapes, [], jetties=[(x, y - 1.5, np.pi / 2 + rng.uniform(-0.2, 0.2), rng.uniform(9, 14)) for x, y in feet]
    )


def riverside(rng: np.random.Generator) -> Layout:
    """A river between sandy banks, a path on one side."""
    centre, width = curve(rng, rng.uniform(4, 8), rng.uniform(2, 6)), rng.uniform(14, 22)
    shapes = [
        ("grass", None),
        *countryside(rng),
        ("meadow", band(centre, width + 16)),
        ("sand", band(centre, width + 4)),
    ]
    shapes += [("shallow", band(centre, width + 1.5)), ("water", band(centre, width))]
    path = beside(centre, -width / 2 - 6)
    foot = centre[np.argmin(np.abs(centre[:, 0] - rng.uniform(-8, 8)))] - [0, width / 2 + 1]
    if rng.random() < 0.6:
        shapes.append((("asphalt", "gravel")[rng.integers(2)], band(path, rng.uniform(3, 4.5))))
    return Layout(shapes, [], jetties=[(*foot, np.pi / 2, 6.5)])


def yard(rng: np.random.Generator) -> Layout:
    """A building site or depot: bare soil, gravel, a concrete road."""
    centre = curve(rng, rng.uniform(-4, 4), rng.uniform(0, 4))
    shapes = [("soil", None), *countryside(rng)]
    shapes += [
        (
            ("sand", "meadow", "plough", "gravel")[rng.integers(4)],
            patch(rng, *rng.uniform(-28, 28, 2), rng.uniform(3, 8)),
        )
        for _ in range(9)
    ]
    shapes += [("concrete", band(centre, 7.0)), *[("rut", band(beside(centre, side), 0.5)) for side in (3.9, 5.4)]]
    return Layout(shapes, both_lanes(centre, 7.0))
