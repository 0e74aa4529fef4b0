"""Parts of what people build: houses with tiled roofs, flat-roofed blocks, sheds, jetties. Class Construction."""

from __future__ import annotations

import numpy as np

from pipeline.demo.noise import facade, planks, roof_gravel, roof_sheets, roof_tiles
from pipeline.demo.solids import Part, box, prism, stroke

TILE_COLOURS = ((158, 78, 56), (134, 66, 52), (176, 104, 74), (96, 84, 80), (84, 88, 96), (122, 96, 78))
SHEET_COLOURS = ((150, 154, 158), (112, 130, 142), (136, 88, 74), (172, 168, 156))
WALL_COLOURS = ((216, 204, 182), (198, 176, 146), (226, 224, 218), (176, 146, 120), (164, 170, 172), (206, 186, 160))


def house(rng: np.random.Generator, width: float, depth: float) -> list[Part]:
    """Returns a house with a gable roof: `width` along the ridge (x), `depth` across, metres."""
    storeys = int(rng.integers(1, 3))
    height, rise, overhang = 2.7 * storeys + 0.3, depth * rng.uniform(0.26, 0.42), 0.45
    wall_colour = WALL_COLOURS[rng.integers(len(WALL_COLOURS))]
    colour = np.array(TILE_COLOURS[rng.integers(len(TILE_COLOURS))]) * rng.uniform(0.85, 1.15)
    slope = roof_tiles(rng, colour)
    x, y, eave = width / 2 + overhang, depth / 2 + overhang, height - 0.2
    top = height + rise
    south = np.array([[-x, -y, eave], [x, -y, eave], [x, 0, top], [-x, 0, top]])
    north = np.array([[x, y, eave], [-x, y, eave], [-x, 0, top], [x, 0, top]])
    east = np.array([[width / 2, -depth / 2, height], [width / 2, depth / 2, height], [width / 2, 0, top - 0.3]])
    parts = _walls(rng, width, depth, height, wall_colour, storeys)
    parts += [Part(east, wall_colour), Part(east[[1, 0, 2]] * [-1, 1, 1], wall_colour)]
    parts += [Part(south, colour, texture=slope, layer=1), Part(north, colour, texture=slope, layer=1)]
    parts.append(stroke((-x, 0, top), (x, 0, top), 0.13, colour * 1.15, layer=2))
    for edge in (-x, x):  # the verge boards draw the outline of the roof
        parts += [stroke((edge, side, eave), (edge, 0, top), 0.09, (206, 202, 194), layer=2) for side in (-y, y)]
    if rng.random() < 0.6:
        at = rng.uniform(-0.35, 0.3) * width
        parts += box((at, at + 0.8), (0.2, 0.9), (height + rise * 0.4, top + 0.7), (142, 92, 76), layer=3)
    if rng.random() < 0.45:
        parts += _panels(south, rng)
    return parts


def block(rng: np.random.Generator, width: float, depth: float) -> list[Part]:
    """Returns a flat-roofed building with a parapet, machines and skylights on the roof."""
    storeys = int(rng.integers(1, 4))
    height = 3.0 * storeys + 0.6
    wall_colour = WALL_COLOURS[rng.integers(len(WALL_COLOURS))]
    parts = _walls(rng, width, depth, height, wall_colour, storeys)
    x, y = width / 2, depth / 2
    parts.append(Part(_level(x, y, height), tuple(np.array(wall_colour) * 1.05), layer=1))
    gravel = roof_gravel(rng, np.array([150, 146, 140]) * rng.uniform(0.7, 1.2))
    parts.append(Part(_level(x - 0.6, y - 0.6, height), (88, 86, 84), layer=2))  # the parapet shades its foot
    parts.append(Part(_level(x - 0.9, y - 0.9, height), (150, 146, 140), texture=gravel, layer=3))
    for _ in range(int(rng.integers(2, 6))):
        at_x, at_y = rng.uniform(-0.7, 0.6) * x, rng.uniform(-0.7, 0.6) * y
        wide, deep, high = rng.uniform(0.8, 2.2), rng.uniform(0.8, 1.6), rng.uniform(0.5, 1.3)
        shadow = _level(wide / 2 + 0.35, deep / 2 + 0.35, height, at_x + wide / 2, at_y + deep / 2)
        parts.append(Part(shadow, (84, 82, 80), layer=4))
        grey = (168, 172, 174) if rng.random() < 0.6 else (86, 106, 120)
        parts += box((at_x, at_x + wide), (at_y, at_y + deep), (height, height + high), grey, layer=5)
    return parts


def shed(rng: np.random.Generator, width: float, depth: float) -> list[Part]:
    """Returns a low building with a corrugated roof that slopes one way."""
    height = rng.uniform(2.3, 3.4)
    colour = np.array(SHEET_COLOURS[rng.integers(len(SHEET_COLOURS))]) * rng.uniform(0.85, 1.1)
    parts = _walls(rng, width, depth, height, tuple(colour * 0.8), 1)
    x, y = width / 2 + 0.3, depth / 2 + 0.3
    roof = np.array([[-x, -y, height], [x, -y, height], [x, y, height + 0.9], [-x, y, height + 0.9]])
    low, back, front, side = height + 0.02, depth / 2, -depth / 2, width / 2
    east = np.array([[side, front, low], [side, back, low], [side, back, low + 0.85]])  # walls up to the slope
    north = np.array([[side, back, low], [-side, back, low], [-side, back, low + 0.85], [side, back, low + 0.85]])
    parts += [Part(face, tuple(colour * 0.8)) for face in (east, east[[1, 0, 2]] * [-1, 1, 1], north)]
    parts.append(Part(roof, tuple(colour), texture=roof_sheets(rng, colour), layer=1))
    return parts


def container(rng: np.random.Generator, width: float, depth: float) -> list[Part]:
    """Returns a shipping container; `width` and `depth` only choose between a short and a long one."""
    long, colour = (6.0 if width < 9 else 12.0), ((152, 62, 46), (52, 92, 128), (96, 122, 74), (176, 132, 56))
    paint = np.array(colour[rng.integers(len(colour))]) * rng.uniform(0.85, 1.15)
    sheets = roof_sheets(rng, paint)
    outline = [(-long / 2, -1.2), (long / 2, -1.2), (long / 2, 1.2), (-long / 2, 1.2)]
    parts = prism(outline, 0, 2.6, tuple(paint), tuple(paint))
    return [Part(part.points, part.colour, texture=sheets) for part in parts]


def jetty(rng: np.random.Generator, length: float, width: float) -> list[Part]:
    """Returns a wooden landing stage along +x that begins at x = 0, on posts."""
    wood = np.array([142, 118, 92]) * rng.uniform(0.85, 1.15)
    parts = [Part(_level(length / 2, width / 2, 0.7, length / 2), tuple(wood), texture=planks(rng, wood))]
    parts += [
        stroke((x, side * width / 2, -0.3), (x, side * width / 2, 1.2), 0.13, wood * 0.6, layer=1)
        for x in np.arange(1, length, 3.0)
        for side in (-1, 1)
    ]
    return parts


def _walls(rng, width: float, depth: float, height: float, colour, storeys: int) -> list[Part]:
    outline = [(-width / 2, -depth / 2), (width / 2, -depth / 2), (width / 2, depth / 2), (-width / 2, depth / 2)]
    long = facade(rng, colour, storeys, max(2, round(width / 2.6)))
    short = facade(rng, colour, storeys, max(1, round(depth / 3.2)))
    sides = prism(outline, 0, height, colour, colour)[:4]
    return [Part(side.points, colour, texture=(long, short)[index % 2]) for index, side in enumerate(sides)]


def _level(x: float, y: float, z: float, middle_x: float = 0.0, middle_y: float = 0.0) -> np.ndarray:
    """Returns the corners of a level rectangle that reaches x and y to each side of its middle."""
    return np.array([[-x, -y, z], [x, -y, z], [x, y, z], [-x, y, z]]) + np.array([middle_x, middle_y, 0])


def _panels(slope: np.ndarray, rng: np.random.Generator) -> list[Part]:
    """Returns a field of solar panels that lies on a roof slope of four corners."""
    below, along, up = slope[0], slope[1] - slope[0], slope[3] - slope[0]
    left, right = sorted(rng.uniform(0.1, 0.9, 2))
    columns = max(2, round((right - left) * np.linalg.norm(along) / 1.1))
    step, parts = (right - left) / columns, []
    for column in range(columns):
        for row in (0.3, 0.58):
            corners = [(0.04, 0.02), (0.96, 0.02), (0.96, 0.25), (0.04, 0.25)]
            quad = [below + along * (left + (column + u) * step) + up * (row + v) for u, v in corners]
            parts.append(Part(np.array(quad) + np.array([0, 0, 0.05]), (38, 48, 76), layer=2))
    return parts
