"""Parts of what lives: people, animals, trees, bushes, hedges."""

from __future__ import annotations

import numpy as np

from pipeline.demo.solids import Part, dab, stroke

SKIN = ((226, 186, 156), (198, 150, 116), (140, 96, 68), (92, 62, 46))
HAIR = ((40, 30, 24), (74, 50, 32), (26, 24, 24), (166, 132, 82), (150, 148, 146))
CLOTH = (
    *((178, 40, 44), (40, 62, 112), (232, 230, 224), (34, 34, 38), (222, 178, 58), (70, 112, 82), (120, 84, 132)),
    (150, 150, 152),
)
TROUSERS = ((44, 52, 76), (36, 36, 40), (112, 98, 80), (72, 74, 78), (150, 140, 122))


def person(rng: np.random.Generator, *, seated: bool = False) -> list[Part]:
    """Returns a walking person, 1.6 to 1.9 m tall, or a seated one (on a bike)."""
    skin, hair = SKIN[rng.integers(len(SKIN))], HAIR[rng.integers(len(HAIR))]
    cloth, legs = CLOTH[rng.integers(len(CLOTH))], TROUSERS[rng.integers(len(TROUSERS))]
    tall = rng.uniform(0.93, 1.08)
    reach = 0.3 if seated else rng.uniform(0.08, 0.28)
    hip, chest, head = 0.9, 1.38, 1.64
    parts = []
    for side, direction in ((-0.1, 1), (0.1, -1)):
        foot = (reach * direction, side, 0.3 if seated else 0.05)
        knee = (reach * direction * 0.4 + 0.1, side, 0.62 if seated else 0.48)
        parts += [stroke((0, side, hip), knee, 0.1, legs), stroke(knee, foot, 0.085, legs)]
        parts.append(stroke(foot, (foot[0] + 0.14, side, foot[2]), 0.06, (36, 32, 30)))
        hand = (0.42, side * 2.4, 1.0) if seated else (-reach * direction * 0.8, side * 3.0, 0.92)
        parts += [stroke((0, side * 2.1, chest), hand, 0.065, cloth), dab(hand, 0.07, skin)]
    lean = 0.2 if seated else 0.02
    parts.append(stroke((0, 0, hip + 0.02), (lean, 0, chest - 0.05), 0.19, cloth))
    parts.append(stroke((lean, -0.17, chest), (lean, 0.17, chest), 0.1, cloth, layer=1))
    parts.append(dab((lean + 0.04, 0, head), 0.135, skin, layer=1))
    parts.append(dab((lean + 0.005, 0, head + 0.05), 0.135, hair, layer=2))
    if rng.random() < 0.3:
        parts.append(stroke((-0.2, 0, 1.1), (-0.18, 0, 1.34), 0.15, CLOTH[rng.integers(len(CLOTH))], layer=1))
    return [Part(np.asarray(part.points) * tall, part.colour, part.radius * 1.08, part.layer) for part in parts]


def animal(rng: np.random.Generator) -> list[Part]:
    """Returns a cow, a horse or a sheep."""
    kind = ("cow", "cow", "horse", "sheep")[rng.integers(4)]
    coat = {
        "cow": ((108, 64, 40), (40, 34, 32), (214, 204, 190)),
        "horse": ((96, 58, 36), (58, 40, 30), (138, 100, 66)),
        "sheep": ((226, 218, 200), (206, 196, 176), (58, 50, 46)),
    }[kind][rng.integers(3)]
    size = {"cow": 1.15, "horse": 1.25, "sheep": 0.75}[kind] * rng.uniform(0.92, 1.08)
    dark = tuple(np.array(coat) * 0.72)
    parts = [stroke((-0.62, 0, 0.98), (0.55, 0, 1.0), 0.36, coat, layer=1)]
    for x, y in ((-0.62, -0.2), (-0.62, 0.2), (0.58, -0.2), (0.58, 0.2)):
        parts.append(stroke((x, y, 0.9), (x + rng.uniform(-0.1, 0.1), y, 0.05), 0.09, dark))
    upright = (1.15, 0, 1.62) if kind == "horse" else (1.28, 0, 1.35)
    nose = (1.28, 0, 0.5) if rng.random() < 0.5 else upright
    parts.append(stroke((0.6, 0, 1.1), nose, 0.19, coat, layer=2))
    parts.append(stroke(nose, (nose[0] + 0.2, 0, nose[2] - 0.14), 0.13, dark, layer=2))
    parts.append(stroke((-0.95, 0, 1.1), (-1.08, 0, 0.5), 0.05, dark))
    if kind == "sheep":
        for _ in range(14):
            wool = (*rng.uniform((-0.75, -0.3), (0.65, 0.3)), 1.12)
            parts.append(dab(wool, 0.24, np.array(coat) * rng.uniform(0.88, 1.05), layer=2))
    else:
        x, z = nose[0] - 0.12, nose[2] + 0.12
        parts.append(stroke((x, -0.22, z), (x, 0.22, z), 0.05, dark, layer=2))
        parts.append(stroke((-0.6, 0, 1.24), (0.5, 0, 1.26), 0.16, np.minimum(np.array(coat) * 1.18, 255), layer=2))
    if kind == "cow" and rng.random() < 0.7:
        patch = (236, 230, 220) if coat[0] < 150 else (62, 46, 38)
        low, high = (-0.7, -0.16, 0.94), (0.55, 0.16, 1.14)  # inside the outline of the trunk from every side
        parts += [dab(rng.uniform(low, high), rng.uniform(0.09, 0.19), patch, layer=3) for _ in range(7)]
    return [Part(np.asarray(part.points) * size, part.colour, part.radius * size, part.layer) for part in parts]


def tree(rng: np.random.Generator, radius: float, leaf, *, bare: float = 0.0) -> list[Part]:
    """Returns a broad-leaved tree: a crown of `radius` metres made of lobes, each of them of shaded dabs.

    `leaf` is RGB in full light, `bare` the share of the leaves that have fallen.
    """
    height = radius * rng.uniform(1.3, 1.7) + 0.9
    parts = [stroke((0, 0, 0), (0, 0, height * 0.7), 0.06 * radius + 0.06, (86, 70, 54))]
    lobes = rng.normal(size=(9, 3))
    lobes *= (rng.uniform(0.45, 0.68, 9) / np.linalg.norm(lobes, axis=1))[:, None]
    lobes[:, 2] = np.abs(lobes[:, 2]) * 0.9
    for lobe in np.concatenate([lobes, [[0, 0, 0.25]]]):
        centre = np.array([0, 0, height * 0.58]) + radius * lobe
        shade = rng.uniform(0.86, 1.12)
        branch = np.array([0, 0, height * 0.45])
        parts.append(stroke(branch, branch + (centre - branch) * 1.15, 0.05 * radius, (96, 80, 64)))
        normals = rng.normal(size=(round(24 * (1 - bare)), 3))
        normals[:, 2] = np.abs(normals[:, 2]) * 1.1 - 0.35
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        for normal in normals:
            outward = normal + lobe  # leaves on the outside of the crown look away from its middle
            colour = np.asarray(leaf) * shade * rng.uniform(0.8, 1.16)
            size = rng.uniform(0.06, 0.14) * radius
            parts.append(dab(centre + 0.34 * radius * normal, size, colour, normal=outward / np.linalg.norm(outward)))
    return parts


def conifer(rng: np.random.Generator, radius: float) -> list[Part]:
    """Returns a fir: a cone of dabs, dark green in every season."""
    needle = np.array([72, 98, 62]) * rng.uniform(0.85, 1.15, (1, 3))[0]
    height = radius * rng.uniform(3.0, 4.0)
    parts = [stroke((0, 0, 0), (0, 0, height * 0.3), 0.16, (82, 66, 50))]
    for level in np.linspace(0.12, 0.98, 9):
        wide = radius * (1 - level) + 0.1
        for angle in np.linspace(0, 2 * np.pi, max(4, round(12 * (1 - level))), endpoint=False) + rng.uniform(0, 2):
            normal = np.array([np.cos(angle), np.sin(angle), 0.45]) / 1.1
            colour = needle * rng.uniform(0.78, 1.2)
            at = (0.8 * wide * np.cos(angle), 0.8 * wide * np.sin(angle), height * level)
            parts.append(dab(at, 0.3 * wide + 0.1 * radius, colour, normal=tuple(normal)))
    return parts


def bush(rng: np.random.Generator, radius: float, leaf) -> list[Part]:
    """Returns a bush: a low heap of shaded dabs."""
    parts = []
    for _ in range(26):
        normal = rng.normal(size=3)
        normal[2] = abs(normal[2])
        normal /= np.linalg.norm(normal)
        colour = np.asarray(leaf) * rng.uniform(0.7, 1.2)
        at = normal * radius * [0.8, 0.8, 0.7]
        parts.append(dab(at, rng.uniform(0.2, 0.34) * radius, colour, normal=tuple(normal)))
    return parts
