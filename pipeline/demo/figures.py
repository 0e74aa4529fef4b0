"""Parts of what lives and what moves people: people, animals, trees, bushes; cars, bikes, boats, the other drone."""

from __future__ import annotations

import numpy as np

from pipeline.demo.solids import Part, box, dab, disc, level, prism, stroke

SKIN = ((226, 186, 156), (198, 150, 116), (140, 96, 68), (92, 62, 46))
HAIR = ((40, 30, 24), (74, 50, 32), (26, 24, 24), (166, 132, 82), (150, 148, 146))
CLOTH = (
    *((178, 40, 44), (40, 62, 112), (232, 230, 224), (34, 34, 38), (222, 178, 58), (70, 112, 82), (120, 84, 132)),
    (150, 150, 152),
)
TROUSERS = ((44, 52, 76), (36, 36, 40), (112, 98, 80), (72, 74, 78), (150, 140, 122))
CAR_COLOURS = (  # by how often they are seen: four times, twice, once
    *((226, 226, 224), (146, 150, 154), (52, 54, 58)),
    *((92, 96, 100), (156, 36, 34), (38, 66, 126)),
    *((48, 92, 62), (196, 168, 66), (122, 86, 62)),
)
GLASS, TYRE = (44, 54, 64), (30, 30, 32)
X, Y, Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)


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
    for share in np.linspace(0.12, 0.98, 9):
        wide = radius * (1 - share) + 0.1
        for angle in np.linspace(0, 2 * np.pi, max(4, round(12 * (1 - share))), endpoint=False) + rng.uniform(0, 2):
            normal = np.array([np.cos(angle), np.sin(angle), 0.45]) / 1.1
            colour = needle * rng.uniform(0.78, 1.2)
            at = (0.8 * wide * np.cos(angle), 0.8 * wide * np.sin(angle), height * share)
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


def car(rng: np.random.Generator) -> list[Part]:
    """Returns a hatchback, a saloon, a van or a pickup, about 4 to 5.4 m long."""
    kind = ("hatchback", "saloon", "saloon", "van", "pickup")[rng.integers(5)]
    length, width, roof = {"hatchback": (4.0, 1.76, 1.5), "van": (5.2, 1.98, 2.1)}.get(kind, (4.7, 1.84, 1.48))
    chance = np.repeat([4, 2, 1], 3) / 21
    paint = np.minimum(np.array(CAR_COLOURS[rng.choice(9, p=chance)]) * rng.uniform(0.88, 1.1), 238)
    x, y, belt = length / 2, width / 2, 1.05 if kind == "van" else 0.86
    outline = [(-x + 0.1, -y), (x - 0.5, -y), (x - 0.08, -y + 0.4), (x - 0.08, y - 0.4), (x - 0.5, y), (-x + 0.1, y)]
    parts = prism([*outline, (-x, y - 0.25), (-x, -y + 0.25)], 0.24, belt, tuple(paint * 0.94), tuple(paint))
    back, front = {"hatchback": (-0.47, 0.2), "van": (-0.49, 0.36), "pickup": (-0.12, 0.24)}.get(kind, (-0.36, 0.2))
    parts += _cabin(back * length, front * length, 0.9 * y, belt, roof, paint, steep_back=kind in ("van", "hatchback"))
    if kind == "pickup":
        parts.append(Part(level((-x + 0.2, -0.14 * length), (0.2 - y, y - 0.2), belt), tuple(paint * 0.45), layer=1))
    for at in (-0.31 * length, 0.31 * length):
        for side in (-1, 1):
            axes = ((1, 0, 0), (0, 0, side * -1))  # the normal points away from the car
            parts.append(disc((at, side * (y + 0.01), 0.33), *axes, 0.34, TYRE, two_sided=False, layer=1))
            parts.append(disc((at, side * (y + 0.02), 0.33), *axes, 0.18, (150, 152, 156), two_sided=False, layer=2))
    for side in (-1, 1):
        parts.append(dab((x - 0.12, side * (y - 0.35), 0.66), 0.12, (242, 240, 224), layer=2))
        parts.append(dab((-x + 0.04, side * (y - 0.3), 0.72), 0.11, (168, 24, 22), layer=2))
    return parts


def bike(rng: np.random.Generator) -> list[Part]:
    """Returns a bicycle or, one time in three, a motor scooter."""
    paint = np.array(((186, 40, 38), (42, 84, 156), (32, 34, 36), (218, 214, 206), (58, 128, 84))[rng.integers(5)])
    parts = []
    for at in (-0.55, 0.55):
        parts.append(disc((at, 0, 0.34), X, Z, 0.34, (46, 46, 48)))
        parts.append(disc((at, 0, 0.34), X, Z, 0.24, (122, 122, 120), layer=1))
        parts.append(stroke((at - 0.34, 0, 0.36), (at + 0.34, 0, 0.36), 0.045, (36, 36, 38)))
    if rng.random() < 0.35:
        parts += box((-0.5, 0.05), (-0.17, 0.17), (0.35, 0.75), tuple(paint), layer=1)
        parts.append(stroke((0.4, 0, 0.35), (0.35, 0, 1.0), 0.12, paint, layer=1))
        parts.append(stroke((-0.55, 0, 0.82), (0.05, 0, 0.8), 0.13, (36, 34, 34), layer=1))
    else:
        joints = {"hub": (-0.55, 0, 0.34), "pedal": (-0.05, 0, 0.32), "seat": (-0.22, 0, 0.9), "head": (0.38, 0, 0.88)}
        for start, end in (("hub", "pedal"), ("pedal", "seat"), ("seat", "head"), ("pedal", "head"), ("hub", "seat")):
            parts.append(stroke(joints[start], joints[end], 0.04, paint, layer=1))
        parts.append(stroke((0.38, 0, 0.88), (0.55, 0, 0.34), 0.04, paint, layer=1))
        parts.append(stroke((-0.34, 0, 0.95), (-0.1, 0, 0.95), 0.07, (28, 28, 30), layer=2))
    parts.append(stroke((0.36, -0.3, 1.0), (0.36, 0.3, 1.0), 0.04, (40, 40, 44), layer=2))
    return parts


def boat(rng: np.random.Generator) -> list[Part]:
    """Returns a rowing boat, a motor boat or a small cabin boat, 4 to 8 m long."""
    kind = ("rowing", "motor", "cabin")[rng.integers(3)]
    length = {"rowing": 4.2, "motor": 5.6, "cabin": 7.6}[kind] * rng.uniform(0.9, 1.1)
    x, y = length / 2, length * 0.165
    outline = [(-x, -0.8 * y), (-0.3 * x, -y), (0.35 * x, -0.86 * y), (0.75 * x, -0.46 * y), (x, 0)]
    outline = np.array([*outline, *[(a, -b) for a, b in outline[-2::-1]]])
    hull = ((234, 232, 226), (148, 40, 36), (38, 72, 118), (144, 98, 58), (44, 98, 92))[rng.integers(5)]
    inside = (176, 142, 98) if kind == "rowing" else (222, 218, 206)
    parts = prism(outline * 0.9, 0, 0.65, hull, (240, 238, 232), shrink=1.1)
    deck = np.column_stack([outline * [0.86, 0.76], np.full(len(outline), 0.66)])
    parts.append(Part(deck, inside, layer=1))
    if kind == "cabin":
        cabin = level((-0.15 * x, 0.45 * x), (-0.62 * y, 0.62 * y), 0.66)[:, :2]
        parts += prism(cabin, 0.66, 1.5, GLASS, (244, 243, 240), shrink=0.86, layer=2)
        parts.append(Part(level((-0.85 * x, -0.25 * x), (-0.55 * y, 0.55 * y), 0.67), (150, 112, 76), layer=2))
    else:
        for at in (-0.45, 0.0, 0.4):
            parts += box((at * x - 0.16, at * x + 0.16), (-0.7 * y, 0.7 * y), (0.6, 0.74), (132, 92, 58), layer=2)
    if kind == "motor":
        parts += box((-x - 0.25, -x + 0.25), (-0.22, 0.22), (0.3, 1.05), (38, 38, 42), layer=3)
        screen = np.array([(0.3, -0.6, 0.7), (0.3, 0.6, 0.7), (0.2, 0.5, 1.15), (0.2, -0.5, 1.15)]) * [x, y, 1]
        parts.append(Part(screen, (86, 112, 126), two_sided=True, layer=3))
    if kind == "rowing":
        for side in (-y, y):
            parts.append(stroke((0, side * 0.8, 0.75), (-0.5, side * 2.1, 0.2), 0.05, (186, 156, 112), layer=3))
    return parts


def drone(rng: np.random.Generator) -> list[Part]:
    """Returns a quadcopter, 1 m across, with rotor discs, body, legs and camera."""
    paint = ((232, 232, 230), (44, 46, 50), (214, 116, 38), (232, 232, 230))[rng.integers(4)]
    parts = box((-0.2, 0.2), (-0.12, 0.12), (-0.06, 0.1), paint, layer=1)
    parts.append(dab((0.16, 0, -0.08), 0.07, (22, 22, 26)))
    for x in (-0.36, 0.36):
        for y in (-0.36, 0.36):
            parts.append(stroke((0, 0, 0), (x, y, 0.04), 0.045, paint))
            parts.append(disc((x, y, 0.1), X, Y, 0.25, (150, 154, 160), corners=16, layer=1))
            parts.append(disc((x, y, 0.105), X, Y, 0.21, (182, 186, 190), corners=16, layer=2))
            turn = rng.uniform(0, np.pi)
            blade = 0.23 * np.array([np.cos(turn), np.sin(turn), 0])
            hub = np.array([x, y, 0.12])
            parts.append(stroke(hub - blade, hub + blade, 0.022, (52, 52, 56), layer=3))
            parts.append(dab(hub, 0.05, (36, 36, 40), layer=3))
    parts += [stroke((-0.18, side * 0.16, -0.2), (0.18, side * 0.16, -0.2), 0.025, (60, 60, 64)) for side in (-1, 1)]
    return parts


def _cabin(back: float, front: float, half: float, belt: float, roof: float, paint, steep_back: bool) -> list[Part]:
    """Returns the glass house of a car and its painted roof and pillars."""
    low = level((back, front), (-half, half), belt)
    high = level((back + (0.15 if steep_back else 0.5), front - 0.62), (-half * 0.82, half * 0.82), roof)
    parts = [Part(np.stack([low[i - 1], low[i], high[i], high[i - 1]]), GLASS, layer=1) for i in (1, 2, 3, 0)]
    parts.append(Part(high, tuple(paint), layer=2))
    parts += [stroke(low[i], high[i], 0.045, paint * 0.9, layer=2) for i in range(4)]
    return parts
