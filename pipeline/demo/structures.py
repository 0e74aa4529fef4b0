"""Parts of what people build and put up.

Class Construction: houses with tiled roofs, flat-roofed blocks, sheds, jetties. Class Obstacle: lamp posts, bins,
barriers, cones, signs, benches, fences.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pipeline.demo.ground import image_noise, to_uint8
from pipeline.demo.solids import Part, box, dab, disc, level, prism, stroke

TILE_COLOURS = ((158, 78, 56), (134, 66, 52), (176, 104, 74), (96, 84, 80), (84, 88, 96), (122, 96, 78))
SHEET_COLOURS = ((150, 154, 158), (112, 130, 142), (136, 88, 74), (172, 168, 156))
WALL_COLOURS = ((216, 204, 182), (198, 176, 146), (226, 224, 218), (176, 146, 120), (164, 170, 172), (206, 186, 160))
RED, WHITE, GREY, ORANGE = (196, 44, 40), (234, 232, 228), (112, 116, 120), (222, 108, 38)
UPRIGHT = (0, 1, 0), (0, 0, 1)


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
    parts.append(Part(level((-x, x), (-y, y), height), tuple(np.array(wall_colour) * 1.05), layer=1))
    gravel = roof_gravel(rng, np.array([150, 146, 140]) * rng.uniform(0.7, 1.2))
    foot, roof = (level((edge - x, x - edge), (edge - y, y - edge), height) for edge in (0.6, 0.9))
    parts.append(Part(foot, (88, 86, 84), layer=2))  # the parapet shades its foot
    parts.append(Part(roof, (150, 146, 140), texture=gravel, layer=3))
    for _ in range(int(rng.integers(2, 6))):
        at_x, at_y = rng.uniform(-0.7, 0.6) * x, rng.uniform(-0.7, 0.6) * y
        wide, deep, high = rng.uniform(0.8, 2.2), rng.uniform(0.8, 1.6), rng.uniform(0.5, 1.3)
        middle, reach = np.array([at_x + wide / 2, at_y + deep / 2]), np.array([wide, deep]) / 2 + 0.35
        shadow = level(*zip(middle - reach, middle + reach, strict=True), height)
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
    parts = box((-long / 2, long / 2), (-1.2, 1.2), (0, 2.6), tuple(paint))
    return [Part(part.points, part.colour, texture=sheets) for part in parts]


def jetty(rng: np.random.Generator, length: float, width: float) -> list[Part]:
    """Returns a wooden landing stage along +x that begins at x = 0, on posts."""
    wood = np.array([142, 118, 92]) * rng.uniform(0.85, 1.15)
    parts = [Part(level((0, length), (-width / 2, width / 2), 0.7), tuple(wood), texture=planks(rng, wood))]
    for x in np.arange(1, length, 3.0):
        parts += [stroke((x, y, -0.3), (x, y, 1.2), 0.13, wood * 0.6, layer=1) for y in (-width / 2, width / 2)]
    return parts


def lamp_post(rng: np.random.Generator) -> list[Part]:
    """Returns a street lamp, 5 to 6.5 m tall, with an arm over +x."""
    top = rng.uniform(5.0, 6.5)
    parts = [stroke((0, 0, 0), (0, 0, 0.9), 0.16, (84, 88, 92)), stroke((0, 0, 0), (0, 0, top), 0.1, GREY)]
    parts.append(stroke((0, 0, top), (1.3, 0, top + 0.25), 0.07, GREY))
    return [*parts, stroke((1.0, 0, top + 0.2), (1.7, 0, top + 0.25), 0.15, (206, 208, 206))]


def rubbish_bin(rng: np.random.Generator) -> list[Part]:
    """Returns a rubbish bin on the ground: a wheeled one or a round one."""
    colour = ((52, 94, 62), (62, 66, 72), (40, 72, 122), (184, 150, 46))[rng.integers(4)]
    if rng.random() < 0.5:
        lid = tuple(np.array(colour) * 1.25)
        body = box((-0.42, 0.42), (-0.42, 0.42), (0, 1.05), colour)
        return body + box((-0.46, 0.5), (-0.46, 0.46), (1.05, 1.2), lid, layer=1)
    ring = _ring(0.36)
    inside = Part(np.column_stack([ring * 0.66, np.full(8, 0.96)]), (28, 28, 30), layer=1)
    return [*prism(ring, 0, 0.95, colour, tuple(np.array(colour) * 1.2)), inside]


def barrier(rng: np.random.Generator) -> list[Part]:
    """Returns a red and white striped barrier across y, 2 to 3 m wide, on two feet."""
    parts, half = [], rng.uniform(1.0, 1.5)
    edges = np.linspace(-half, half, 8)
    for index, (start, end) in enumerate(pairwise(edges)):
        parts += box((-0.09, 0.09), (start, end), (0.55, 1.0), (RED, WHITE)[index % 2], layer=1)
    for side in (-0.75 * half, 0.75 * half):
        parts += box((-0.4, 0.4), (side - 0.12, side + 0.12), (0, 0.16), (54, 54, 56))
        parts.append(stroke((0, side, 0.1), (0, side, 0.6), 0.07, GREY))
    return parts


def block_wall(rng: np.random.Generator) -> list[Part]:
    """Returns a concrete road block across y, 2 m wide, narrower above."""
    del rng  # all of them leave the same mould
    below = prism(level((-0.32, 0.32), (-1.0, 1.0), 0)[:, :2], 0, 0.35, (150, 148, 142), (170, 168, 162))
    return below + box((-0.12, 0.12), (-1.0, 1.0), (0.35, 0.85), (172, 170, 164), layer=1)


def cone(rng: np.random.Generator) -> list[Part]:
    """Returns a traffic cone with a white band."""
    del rng
    parts = box((-0.3, 0.3), (-0.3, 0.3), (0, 0.08), (44, 42, 42))
    parts += prism(_ring(0.24), 0.08, 0.42, ORANGE, WHITE, shrink=0.7, layer=1)
    parts += prism(_ring(0.165), 0.42, 0.56, WHITE, WHITE, shrink=0.75, layer=2)
    return [*parts, dab((0, 0, 0.68), 0.1, ORANGE, layer=3)]


def sign(rng: np.random.Generator) -> list[Part]:
    """Returns a traffic sign or a notice board that looks towards +x."""
    if rng.random() < 0.5:
        plate = disc((0.06, 0, 2.25), *UPRIGHT, 0.42, RED, two_sided=False, layer=1)
        back = disc((0.0, 0, 2.25), (0, -1, 0), (0, 0, 1), 0.42, (136, 138, 140), two_sided=False, layer=1)
        inner = disc((0.07, 0, 2.25), *UPRIGHT, 0.27, WHITE, two_sided=False, layer=2)
        return [stroke((0, 0, 0), (0, 0, 2.5), 0.07, GREY), plate, back, inner]
    board = box((-0.06, 0.06), (-0.8, 0.8), (1.0, 2.1), (48, 84, 132), layer=1)
    return [*[stroke((0, side, 0), (0, side, 2.1), 0.07, GREY) for side in (-0.7, 0.7)], *board]


def bench(rng: np.random.Generator) -> list[Part]:
    """Returns a wooden bench along y."""
    wood = np.array([136, 96, 62]) * rng.uniform(0.8, 1.15)
    parts = [stroke((x, -0.9, 0.46), (x, 0.9, 0.46), 0.075, wood, layer=1) for x in (-0.2, 0.0, 0.2)]
    parts += [stroke((-0.32, -0.9, z), (-0.32, 0.9, z), 0.07, wood * 0.9, layer=1) for z in (0.68, 0.88)]
    return [*parts, *[stroke((-0.25, side, 0), (-0.28, side, 0.85), 0.06, (52, 52, 54)) for side in (-0.75, 0.75)]]


def fence(rng: np.random.Generator, length: float) -> list[Part]:
    """Returns a post-and-rail fence along x, `length` metres, centred."""
    wood = np.array([148, 126, 100]) * rng.uniform(0.75, 1.15)
    posts = np.linspace(-length / 2, length / 2, max(2, round(length / 2.2)) + 1)
    parts = [stroke((x, 0, 0), (x, 0, 1.2), 0.09, wood * 0.85) for x in posts]
    for z in (0.55, 1.0):
        parts += [stroke((a, 0, z), (b, 0, z), 0.055, wood, layer=1) for a, b in pairwise(posts)]
    return parts


def _ring(radius: float) -> np.ndarray:
    angle = np.arange(8) * (2 * np.pi / 8)
    return radius * np.column_stack([np.cos(angle), np.sin(angle)])


def _walls(rng, width: float, depth: float, height: float, colour, storeys: int) -> list[Part]:
    long = facade(rng, colour, storeys, max(2, round(width / 2.6)))
    short = facade(rng, colour, storeys, max(1, round(depth / 3.2)))
    sides = box((-width / 2, width / 2), (-depth / 2, depth / 2), (0, height), colour)[:4]
    return [Part(side.points, colour, texture=(long, short)[index % 2]) for index, side in enumerate(sides)]


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


STREET = (lamp_post, rubbish_bin, sign, barrier, cone, cone, block_wall)
PARK = (bench, bench, rubbish_bin, lamp_post, sign)
SITE = (barrier, barrier, cone, cone, block_wall, rubbish_bin)
