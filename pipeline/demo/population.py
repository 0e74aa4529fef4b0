"""Who and what is where: looks for free places of the right ground inside the view and puts things there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from pipeline.demo import figures, structures
from pipeline.demo.camera import Camera, ground_points, project, rays
from pipeline.demo.ground import NAMES, Ground, material_at
from pipeline.demo.layouts import Layout
from pipeline.demo.recipes import ANIMAL, BIKE, BOAT, CAR, CONSTRUCTION, DRONE, OBSTACLE, PERSON, VEGETATION, Recipe
from pipeline.demo.solids import Light, Thing, place

GREEN = ("grass", "meadow", "crop", "wood")
BARE = ("soil", "sand", "plough")
PAVED = ("paving", "concrete", "gravel", "track", "rut", "kerb")
DRIVEN = ("asphalt", "paint", "patch")
WET = ("water", "shallow")
LEAVES = {
    "spring": ((128, 164, 74), (112, 150, 66), (176, 170, 150)),
    "summer": ((88, 126, 58), (104, 136, 62), (76, 108, 56)),
    "dry": ((122, 130, 70), (138, 138, 80), (104, 116, 62)),
    "autumn": ((190, 138, 58), (174, 96, 50), (150, 142, 66)),
    "winter": ((124, 104, 78), (112, 100, 72), (104, 108, 70)),
}
RING = np.array([(0, 0), *[(np.cos(angle), np.sin(angle)) for angle in np.arange(8) * np.pi / 4]])
Placed = Iterator[tuple]  # arguments of `place` after the light: parts, class, origin, heading and, if it moves, step


class Spots:
    """Finds places for things one after another and remembers what is taken."""

    def __init__(self, rng: np.random.Generator, camera: Camera, grounds: list[Ground]):
        self.rng, self.camera, self.grounds = rng, camera, grounds
        self.taken = np.zeros((0, 3))  # x, y, radius

    def find(self, materials, radius: float, *, rows=(0.05, 0.97), reach=8.0, clearance=None, tries=60):
        """Returns and takes x, y of a free spot in the view, on ground of those materials; None when no try met one.

        Things stay apart by their radii (metres). `rows` is the part of the image's height, `reach` the greatest
        distance in altitudes of the camera, `clearance` the radius of suitable ground; half of `radius` if None.
        """
        size = np.array([self.camera.width, self.camera.height])
        pixels = self.rng.uniform((0.03, rows[0]), (0.97, rows[1]), (tries, 2)) * size
        points = ground_points(self.camera, pixels)
        distance = np.linalg.norm(points - self.camera.position[:2], axis=1)
        points = points[distance < reach * self.camera.position[2]]  # also drops the sky, which is NaN
        allowed = [NAMES.index(name) for name in materials]
        rim = (0.5 * radius if clearance is None else clearance) * RING
        for point in points:
            if np.isin(material_at(self.grounds, point + rim), allowed).all() and self.take(point, radius):
                return point
        return None

    def each(self, num: int, *args, **options) -> Iterator[np.ndarray]:
        """Yields what `num` searches find; arguments as of `find`."""
        for _ in range(num):
            if (spot := self.find(*args, **options)) is not None:
                yield spot

    def take(self, point, radius: float) -> bool:
        """Reserves a given place; False when something is there already."""
        if (np.linalg.norm(self.taken[:, :2] - point, axis=1) < self.taken[:, 2] + radius).any():
            return False
        self.taken = np.concatenate([self.taken, [[*point, radius]]])
        return True


def populate(
    rng, recipe: Recipe, layout: Layout, grounds: list[Ground], camera: Camera, light: Light, season: str
) -> list[Thing]:
    """Returns the things of a flight, placed so that its middle frame shows them."""
    spots = Spots(rng, camera, grounds)
    placed = chain(
        _lay_jetties(rng, layout, spots),
        _lay_fences(rng, recipe, layout),
        _park_cars(rng, recipe, layout, spots),
        _build(rng, recipe, spots),
        _launch_boats(rng, recipe, spots),
        _gather_living(rng, recipe, spots),
        _put_obstacles(rng, recipe, spots),
        _plant(rng, recipe, spots, season),
        _send_drones(rng, recipe, camera),
    )
    return [place(light, *thing) for thing in placed]


def _ahead(heading: float) -> np.ndarray:
    """Returns the unit vector (x, y) of a heading."""
    return np.array([np.cos(heading), np.sin(heading)])


def _lay_jetties(rng, layout: Layout, spots: Spots) -> Placed:
    for x, y, heading, length in layout.jetties:
        if spots.take(np.array([x, y]), 2.0):
            yield structures.jetty(rng, length, rng.uniform(1.6, 2.4)), CONSTRUCTION, (x, y, 0), heading
            for along in np.arange(2.0, length, 2.0):
                spots.take(np.array([x, y]) + along * _ahead(heading), 1.2)


def _lay_fences(rng, recipe: Recipe, layout: Layout) -> Placed:
    for x, y, heading, length in layout.fences if recipe.obstacles else ():
        yield structures.fence(rng, length), OBSTACLE, (x, y, 0), heading


def _park_cars(rng, recipe: Recipe, layout: Layout, spots: Spots) -> Placed:
    """Puts cars into bays and lanes that the image shows whole."""
    places = [(x, y, heading, 0.0) for x, y, heading in layout.slots]
    for lane in layout.lanes:
        middles, ways = (lane[1:] + lane[:-1]) / 2, np.diff(lane, axis=0)
        share = rng.uniform(0.2, 0.8, len(middles))[:, None] - 0.5
        headings = np.arctan2(ways[:, 1], ways[:, 0])
        for point, heading in zip(middles + share * ways, headings, strict=True):
            places.append((*point, heading, rng.uniform(0.2, 0.7)))
    pixels, depth = project(spots.camera, np.array([(x, y, 0.5) for x, y, *_ in places] or np.zeros((0, 3))))
    size = np.array([spots.camera.width, spots.camera.height])
    inside = (depth > 5) & (depth < 45) & ((pixels > 0.08 * size) & (pixels < 0.92 * size)).all(axis=1)
    num_cars = 0
    for index in rng.permutation(np.flatnonzero(inside)):
        x, y, heading, speed = places[index]
        if num_cars < recipe.cars and spots.take(np.array([x, y]), 1.3 if speed == 0 else 3.2):
            num_cars += 1
            yield figures.car(rng), CAR, (x, y, 0), heading, speed * _ahead(heading)


def _build(rng, recipe: Recipe, spots: Spots) -> Placed:
    """Puts up buildings; in flat views in the upper part of the image, so that they do not hide everything."""
    kinds = {
        "campus": (structures.block,),
        "avenue": (structures.block, structures.house),
        "yard": (structures.container, structures.shed),
        "pasture": (structures.shed, structures.house),
        "harbour": (structures.shed, structures.house),
    }.get(recipe.layout, (structures.house, structures.house, structures.shed))
    rows = {"down": (0.0, 1.0), "oblique": (0.04, 0.6), "horizon": (0.3, 0.52)}[recipe.view]
    materials = (*GREEN, *BARE, *(PAVED if recipe.layout in ("campus", "yard") else ()))
    for _ in range(recipe.buildings):
        build = kinds[rng.integers(len(kinds))]
        small = build in (structures.shed, structures.container)
        width, depth = rng.uniform(5, 12), rng.uniform(4, 6) if small else rng.uniform(7, 9)
        spot = spots.find(materials, 0.5 * np.hypot(width, depth), rows=rows, clearance=0.5 * depth + 0.4, tries=150)
        if spot is not None:
            heading = rng.integers(4) * np.pi / 2 + rng.uniform(-0.12, 0.12)
            yield build(rng, width, depth), CONSTRUCTION, (*spot, 0), heading


def _launch_boats(rng, recipe: Recipe, spots: Spots) -> Placed:
    for spot in spots.each(recipe.boats, WET, 2.8, clearance=1.2, reach=3.5, tries=200):
        heading = rng.uniform(0, 2 * np.pi)
        step = rng.choice([0, 0.3]) * _ahead(heading)
        yield figures.boat(rng), BOAT, (*spot, -0.05), heading, step


def _gather_living(rng, recipe: Recipe, spots: Spots) -> Placed:
    """Puts animals on grass, bikes with or without riders on paths and roads, and people, some of them in pairs."""
    for spot in spots.each(recipe.animals, GREEN, 1.5, reach=3.2):
        yield figures.animal(rng), ANIMAL, (*spot, 0), rng.uniform(0, 2 * np.pi)
    for spot in spots.each(recipe.bikes, (*PAVED, *DRIVEN), 1.0, rows=(0.12, 0.95), reach=3.0):
        heading, ridden = rng.uniform(0, 2 * np.pi), rng.random() < 0.7
        step = rng.uniform(0.2, 0.4) * ridden * _ahead(heading)
        yield figures.bike(rng), BIKE, (*spot, 0), heading, step
        if ridden:
            yield figures.person(rng, seated=True), PERSON, (*(spot - 0.2 * _ahead(heading)), 0.05), heading, step
    ground = {"avenue": PAVED, "car_park": (*PAVED, *DRIVEN), "crossing": (*PAVED, *DRIVEN)}
    ground = ground.get(recipe.layout, (*PAVED, *GREEN, *BARE))
    for spot in spots.each(recipe.people, ground, 0.45, reach=3.5):
        heading, pace = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.16)
        for beside in (0.0, 0.7)[: 1 + (rng.random() < 0.25)]:
            at = spot + beside * np.array([-np.sin(heading), np.cos(heading)])
            yield figures.person(rng), PERSON, (*at, 0), heading, pace * _ahead(heading)


def _put_obstacles(rng, recipe: Recipe, spots: Spots) -> Placed:
    kinds = {"park": structures.PARK, "campus": structures.PARK, "harbour": structures.PARK, "yard": structures.SITE}
    kinds = kinds.get(recipe.layout, structures.STREET)
    ground = {"park": (*GREEN, *PAVED), "yard": (*BARE, *PAVED), "pasture": GREEN}.get(recipe.layout, (*PAVED, *DRIVEN))
    for spot in spots.each(recipe.obstacles, ground, 0.7, reach=3.0):
        yield kinds[rng.integers(len(kinds))](rng), OBSTACLE, (*spot, 0), rng.integers(8) * np.pi / 4


def _plant(rng, recipe: Recipe, spots: Spots, season: str) -> Placed:
    rows = {"down": (0.0, 1.0), "oblique": (0.0, 0.62), "horizon": (0.3, 0.56)}[recipe.view]
    leaves, ground = np.array(LEAVES[season]), (*GREEN, "soil")
    bare = {"winter": 0.65, "autumn": 0.15}.get(season, 0.0)
    for _ in range(recipe.trees):
        radius = rng.uniform(1.5, 3.3)
        if (spot := spots.find(ground, 0.75 * radius, rows=rows, clearance=0.4)) is not None:
            leaf, is_conifer = leaves[rng.integers(len(leaves))] * rng.uniform(0.85, 1.1), rng.random() < 0.2
            tree = figures.conifer(rng, 0.7 * radius) if is_conifer else figures.tree(rng, radius, leaf, bare=bare)
            yield tree, VEGETATION, (*spot, 0), 0.0
    for spot in spots.each(recipe.bushes, ground, 0.9, clearance=0.5):
        leaf = leaves[rng.integers(len(leaves))] * rng.uniform(0.8, 1.1)
        yield figures.bush(rng, rng.uniform(0.5, 1.1), leaf), VEGETATION, (*spot, 0), 0.0


def _send_drones(rng, recipe: Recipe, camera: Camera) -> Placed:
    for _ in range(recipe.drones):
        pixel = rng.uniform((0.3, 0.3), (0.7, 0.7), (1, 2)) * [camera.width, camera.height]
        origin = camera.position + rays(camera, pixel)[0] * rng.uniform(9, 12)
        step = rng.uniform(-0.12, 0.12, 2)
        yield figures.drone(rng), DRONE, origin, rng.uniform(0, 2 * np.pi), step
