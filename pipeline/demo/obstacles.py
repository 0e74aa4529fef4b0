"""Parts of what stands in the way: lamp posts, bins, barriers, cones, signs, benches, fences. Class Obstacle."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pipeline.demo.solids import Part, box, dab, disc, prism, stroke

RED, WHITE, GREY, ORANGE = (196, 44, 40), (234, 232, 228), (112, 116, 120), (222, 108, 38)
UPRIGHT = (0, 1, 0), (0, 0, 1)


def lamp_post(rng: np.random.Generator) -> list[Part]:
    """Returns a street lamp, 5 to 6.5 m tall, with an arm over +x."""
    height = rng.uniform(5.0, 6.5)
    arm = [
        stroke((0, 0, height), (1.3, 0, height + 0.25), 0.07, GREY),
        stroke((1.0, 0, height + 0.2), (1.7, 0, height + 0.25), 0.15, (206, 208, 206)),
    ]
    return [stroke((0, 0, 0), (0, 0, 0.9), 0.16, (84, 88, 92)), stroke((0, 0, 0), (0, 0, height), 0.1, GREY), *arm]


def rubbish_bin(rng: np.random.Generator) -> list[Part]:
    """Returns a rubbish bin on the ground: a wheeled one or a round one."""
    colour = ((52, 94, 62), (62, 66, 72), (40, 72, 122), (184, 150, 46))[rng.integers(4)]
    if rng.random() < 0.5:
        lid = tuple(np.array(colour) * 1.25)
        return [
            *box((-0.42, 0.42), (-0.42, 0.42), (0, 1.05), colour),
            *box((-0.46, 0.5), (-0.46, 0.46), (1.05, 1.2), lid, layer=1),
        ]
    ring = _ring(0.36, 8)
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
    outline = [(-0.32, -1.0), (0.32, -1.0), (0.32, 1.0), (-0.32, 1.0)]
    return [
        *prism(outline, 0, 0.35, (150, 148, 142), (170, 168, 162)),
        *box((-0.12, 0.12), (-1.0, 1.0), (0.35, 0.85), (172, 170, 164), layer=1),
    ]


def cone(rng: np.random.Generator) -> list[Part]:
    """Returns a traffic cone with a white band."""
    del rng
    foot = box((-0.3, 0.3), (-0.3, 0.3), (0, 0.08), (44, 42, 42))
    body = prism(_ring(0.24, 8), 0.08, 0.42, ORANGE, WHITE, shrink=0.7, layer=1)
    return [
        *foot,
        *body,
        *prism(_ring(0.165, 8), 0.42, 0.56, WHITE, WHITE, shrink=0.75, layer=2),
        dab((0, 0, 0.68), 0.1, ORANGE, layer=3),
    ]


def sign(rng: np.random.Generator) -> list[Part]:
    """Returns a traffic sign or a notice board that looks towards +x."""
    if rng.random() < 0.5:
        plate = disc((0.06, 0, 2.25), *UPRIGHT, 0.42, RED, two_sided=False, layer=1)
        back = disc((0.0, 0, 2.25), (0, -1, 0), (0, 0, 1), 0.42, (136, 138, 140), two_sided=False, layer=1)
        return [
            stroke((0, 0, 0), (0, 0, 2.5), 0.07, GREY),
            plate,
            back,
            disc((0.07, 0, 2.25), *UPRIGHT, 0.27, WHITE, two_sided=False, layer=2),
        ]
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


def _ring(radius: float, corners: int) -> np.ndarray:
    angle = np.arange(corners) * (2 * np.pi / corners)
    return radius * np.column_stack([np.cos(angle), np.sin(angle)])


STREET = (lamp_post, rubbish_bin, sign, barrier, cone, cone, block_wall)
PARK = (bench, bench, rubbish_bin, lamp_post, sign)
SITE = (barrier, barrier, cone, cone, block_wall, rubbish_bin)
