"""Parts of what moves people: cars, bikes, boats, and the other drone in the air."""

from __future__ import annotations

import numpy as np

from pipeline.demo.solids import Part, box, dab, disc, level, prism, stroke

CAR_COLOURS = (  # by how often they are seen: four times, twice, once
    *((226, 226, 224), (146, 150, 154), (52, 54, 58)),
    *((92, 96, 100), (156, 36, 34), (38, 66, 126)),
    *((48, 92, 62), (196, 168, 66), (122, 86, 62)),
)
GLASS, TYRE = (44, 54, 64), (30, 30, 32)
X, Y, Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)


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
