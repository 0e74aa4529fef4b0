"""Things that stand on the ground, as lists of simple parts: flat faces, round dabs, thick strokes.

Builders make parts around (0, 0, 0) with the front towards +x; `place` turns, shades and flattens them for drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Part:
    """A face (3 or more points, counter-clockwise from outside), a stroke (2 points) or a dab (1 point).

    A texture needs a face of four points: below left, below right, above right, above left. Higher layers are drawn
    later, so that a chimney stays on top of its roof.
    """

    points: np.ndarray
    colour: tuple[float, float, float]
    radius: float = 0.0
    layer: int = 0
    two_sided: bool = False
    texture: np.ndarray | None = None
    normal: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Light:
    """The sun: unit vector towards it, shares of ambient and direct light, strength and blur of shadows, tint, haze."""

    direction: np.ndarray
    ambient: float
    diffuse: float
    shadow: float
    softness: float
    tint: np.ndarray
    haze: np.ndarray
    haze_m: float


@dataclass(frozen=True, eq=False)
class Thing:
    """A placed object of one class, its parts flattened: V points, P parts that begin at `starts`."""

    class_index: int
    points: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    colours: np.ndarray
    radii: np.ndarray
    normals: np.ndarray
    layers: np.ndarray
    textures: tuple[np.ndarray | None, ...]
    origin: np.ndarray
    step: np.ndarray
    reach: float


def place(light: Light, parts, class_index: int, origin, heading: float, step=(0.0, 0.0)) -> Thing:
    """Returns the parts at `origin` (x, y, z), turned by `heading` radians, moving `step` metres (x, y) a frame."""
    cosine, sine = np.cos(heading), np.sin(heading)
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])  # for row vectors
    points = [np.asarray(part.points, float) @ turn for part in parts]
    normals = np.stack([_normal(part, moved, turn) for part, moved in zip(parts, points, strict=True)])
    shades = np.array([brightness(light, normal) for normal in normals])
    colours = np.array([part.colour for part in parts], float) * shades[:, None]
    sizes = np.array([len(moved) for moved in points])
    flat = np.concatenate(points)
    return Thing(
        class_index=class_index,
        points=flat,
        starts=np.concatenate([[0], np.cumsum(sizes)[:-1]]),
        sizes=sizes,
        colours=colours,
        radii=np.array([part.radius for part in parts]),
        normals=np.where(np.array([part.two_sided for part in parts])[:, None], 0.0, normals),
        layers=np.array([part.layer for part in parts]),
        textures=tuple(_shaded(part.texture, shade, class_index) for part, shade in zip(parts, shades, strict=True)),
        origin=np.asarray(origin, float),
        step=np.array([*step, 0.0]),
        reach=float(np.sqrt((flat**2).sum(axis=1).max())),
    )


def brightness(light: Light, normal) -> float:
    """Returns how bright a surface is, relative to level ground; surfaces without direction (0, 0, 0) get 0.9."""
    if not np.any(normal):
        return 0.9
    facing = max(0.0, float(np.dot(normal, light.direction)))
    sky = 0.8 + 0.2 * normal[2]  # walls and undersides see less of the sky
    return (light.ambient * sky + light.diffuse * facing) / (light.ambient + light.diffuse * light.direction[2])


def prism(outline_K2, low: float, high: float, side, top, *, shrink: float = 1.0, layer: int = 0) -> list[Part]:
    """Returns an upright body over a counter-clockwise outline, its top shrunk towards the middle, without a floor.

    >>> len(prism([(0, 0), (1, 0), (1, 1), (0, 1)], 0, 1, (9, 9, 9), (9, 9, 9)))
    5
    """
    outline = np.asarray(outline_K2, float)
    middle = outline.mean(axis=0)
    below = np.column_stack([outline, np.full(len(outline), low)])
    above = np.column_stack([middle + (outline - middle) * shrink, np.full(len(outline), high)])
    sides = [
        Part(np.stack([below[i], below[j], above[j], above[i]]), side, layer=layer)
        for i, j in zip(range(len(outline)), [*range(1, len(outline)), 0], strict=True)
    ]
    return [*sides, Part(above, top, layer=layer)]


def box(x, y, z, colour, *, layer: int = 0) -> list[Part]:
    """Returns an upright box; x, y, z are (low, high) pairs in metres."""
    return prism(level(x, y, z[0])[:, :2], z[0], z[1], colour, colour, layer=layer)


def level(x, y, z: float) -> np.ndarray:
    """Returns the corners (4, 3) of a level rectangle; x, y are (low, high) pairs in metres."""
    return np.array([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)], float)


def stroke(start, end, radius: float, colour, *, layer: int = 0) -> Part:
    """Returns a round bar from `start` to `end`."""
    return Part(np.array([start, end], float), tuple(colour), radius=radius, layer=layer)


def dab(centre, radius: float, colour, *, normal=None, layer: int = 0) -> Part:
    """Returns a ball; with a `normal` it is shaded as a surface that looks that way."""
    return Part(np.array([centre], float), tuple(colour), radius=radius, layer=layer, normal=normal)


def disc(centre, axis_u, axis_v, radius: float, colour, *, corners: int = 12, two_sided=True, layer: int = 0) -> Part:
    """Returns a flat round plate in the plane of two unit vectors; it looks towards axis_u x axis_v."""
    angle = np.arange(corners) * (2 * np.pi / corners)
    ring = np.cos(angle)[:, None] * np.asarray(axis_u, float) + np.sin(angle)[:, None] * np.asarray(axis_v, float)
    return Part(np.asarray(centre, float) + radius * ring, tuple(colour), layer=layer, two_sided=two_sided)


def _normal(part: Part, points: np.ndarray, turn: np.ndarray) -> np.ndarray:
    if part.normal is not None:
        return np.asarray(part.normal, float) @ turn
    if len(points) < 3:
        return np.zeros(3)
    normal = np.cross(points[1] - points[0], points[2] - points[0])
    return normal / max(np.linalg.norm(normal), 1e-9)


def _shaded(texture: np.ndarray | None, shade: float, class_index: int) -> np.ndarray | None:
    """Returns the texture (h, w, 4) with its brightness applied and the class as the fourth channel."""
    if texture is None:
        return None
    colours = np.clip(texture * shade, 0, 255).astype(np.uint8)
    return np.dstack([colours, np.full(colours.shape[:2], class_index, np.uint8)])
