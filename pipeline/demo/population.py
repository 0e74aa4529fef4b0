"""Who and what is where: looks for free places of the right ground inside the view and puts things there."""

from __future__ import annotations

import numpy as np

from pipeline.demo import buildings, living, obstacles, vehicles
from pipeline.demo.camera import Camera, project, rays
from pipeline.demo.classes import ANIMAL, BIKE, BOAT, CAR, CONSTRUCTION, DRONE, OBSTACLE, PERSON, VEGETATION
from pipeline.demo.ground import Ground
from pipeline.demo.layouts import Layout
from pipeline.demo.recipes import Recipe
from pipeline.demo.solids import Light, Thing, place
from pipeline.demo.spots import Spots

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


def populate(
    rng, recipe: Recipe, layout: Layout, grounds: list[Ground], camera: Camera, light: Light, season: str
) -> list[Thing]:
    """Returns the things of a flight, placed so that its middle frame shows them."""
    spots = Spots(rng, camera, grounds)
    things = _lay_jetties(rng, layout, light, spots)
    things += _lay_fences(rng, recipe, layout, light)
    things += _park_cars(rng, recipe, layout, light, spots)
    things += _build(rng, recipe, light, spots)
    things += _launch_boats(rng, recipe, light, spots)
    things += _gather_living(rng, recipe, light, spots)
    things += _put_obstacles(rng, recipe, light, spots)
    things += _plant(rng, recipe, light, spots, season)
    return things + _send_drones(rng, recipe, light, camera)


def _lay_jetties(rng, layout: Layout, light: Light, spots: Spots) -> list[Thing]:
    things = []
    for x, y, heading, length in layout.jetties:
        if spots.take(np.array([x, y]), 2.0):
            parts = buildings.jetty(rng, length, rng.uniform(1.6, 2.4))
            things.append(place(parts, CONSTRUCTION, (x, y, 0), heading, light))
            for along in np.arange(2.0, length, 2.0):
                spots.take(np.array([x + along * np.cos(heading), y + along * np.sin(heading)]), 1.2)
    return things


def _lay_fences(rng, recipe: Recipe, layout: Layout, light: Light) -> list[Thing]:
    if not recipe.obstacles:
        return []
    fences = [(obstacles.fence(rng, length), (x, y, 0), heading) for x, y, heading, length in layout.fences]
    return [place(parts, OBSTACLE, origin, heading, light) for parts, origin, heading in fences]


def _park_cars(rng, recipe: Recipe, layout: Layout, light: Light, spots: Spots) -> list[Thing]:
    """Puts cars into bays and lanes that the image shows whole."""
    places = [(x, y, heading, 0.0) for x, y, heading in layout.slots]
    for lane in layout.lanes:
        middles, ways = (lane[1:] + lane[:-1]) / 2, np.diff(lane, axis=0)
        share = rng.uniform(0.2, 0.8, len(middles))[:, None] - 0.5
        headings = np.arctan2(ways[:, 1], ways[:, 0])
        places += [
            (*point, heading, rng.uniform(0.2, 0.7))
            for point, heading in zip(middles + share * ways, headings, strict=True)
        ]
    pixels, depth = project(spots.camera, np.array([(x, y, 0.5) for x, y, *_ in places] or np.zeros((0, 3))))
    size = np.array([spots.camera.width, spots.camera.height])
    inside = (depth > 5) & (depth < 45) & ((pixels > 0.08 * size) & (pixels < 0.92 * size)).all(axis=1)
    things = []
    for index in rng.permutation(np.flatnonzero(inside)):
        x, y, heading, speed = places[index]
        if len(things) < recipe.cars and spots.take(np.array([x, y]), 1.3 if speed == 0 else 3.2):
            step = speed * np.array([np.cos(heading), np.sin(heading)])
            things.append(place(vehicles.car(rng), CAR, (x, y, 0), heading, light, step))
    return things


def _build(rng, recipe: Recipe, light: Light, spots: Spots) -> list[Thing]:
    """Puts up buildings; in flat views in the upper part of the image, so that they do not hide everything."""
    kinds = {
        "campus": (buildings.block,),
        "avenue": (buildings.block, buildings.house),
        "yard": (buildings.container, buildings.shed),
        "pasture": (buildings.shed, buildings.house),
        "harbour": (buildings.shed, buildings.house),
    }.get(recipe.layout, (buildings.house, buildings.house, buildings.shed))
    rows = {"down": (0.0, 1.0), "oblique": (0.04, 0.6), "horizon": (0.3, 0.52)}[recipe.view]
    things = []
    for _ in range(recipe.buildings):
        build = kinds[rng.integers(len(kinds))]
        small = build in (buildings.shed, buildings.container)
        width, depth = rng.uniform(5, 12), rng.uniform(4, 6) if small else rng.uniform(7, 9)
        materials = (*GREEN, *BARE, *(PAVED if recipe.layout in ("campus", "yard") else ()))
        spot = spots.find(materials, 0.5 * np.hypot(width, depth), rows=rows, clearance=0.5 * depth + 0.4, tries=150)
        if spot is not None:
            heading = rng.integers(4) * np.pi / 2 + rng.uniform(-0.12, 0.12)
            things.append(place(build(rng, width, depth), CONSTRUCTION, (*spot, 0), heading, light))
    return things


def _launch_boats(rng, recipe: Recipe, light: Light, spots: Spots) -> list[Thing]:
    things = []
    for _ in range(recipe.boats):
        if (spot := spots.find(WET, 2.8, clearance=1.2, reach=3.5, tries=200)) is not None:
            heading = rng.uniform(0, 2 * np.pi)
            step = rng.choice([0, 0.3]) * np.array([np.cos(heading), np.sin(heading)])
            things.append(place(vehicles.boat(rng), BOAT, (*spot, -0.05), heading, light, step))
    return things


def _gather_living(rng, recipe: Recipe, light: Light, spots: Spots) -> list[Thing]:
    """Puts animals on grass, bikes with or without riders on paths and roads, and people, some of them in pairs."""
    things = []
    for _ in range(recipe.animals):
        if (spot := spots.find(GREEN, 1.5, reach=3.2)) is not None:
            things.append(place(living.animal(rng), ANIMAL, (*spot, 0), rng.uniform(0, 2 * np.pi), light))
    for _ in range(recipe.bikes):
        if (spot := spots.find((*PAVED, *DRIVEN), 1.0, rows=(0.12, 0.95), reach=3.0)) is not None:
            heading, ridden = rng.uniform(0, 2 * np.pi), rng.random() < 0.7
            step = rng.uniform(0.2, 0.4) * ridden * np.array([np.cos(heading), np.sin(heading)])
            things.append(place(vehicles.bike(rng), BIKE, (*spot, 0), heading, light, step))
            if ridden:
                seat = (spot[0] - 0.2 * np.cos(heading), spot[1] - 0.2 * np.sin(heading), 0.05)
                things.append(place(living.person(rng, seated=True), PERSON, seat, heading, light, step))
    ground = {"avenue": PAVED, "car_park": (*PAVED, *DRIVEN), "crossing": (*PAVED, *DRIVEN)}
    ground = ground.get(recipe.layout, (*PAVED, *GREEN, *BARE))
    for _ in range(recipe.people):
        if (spot := spots.find(ground, 0.45, reach=3.5)) is None:
            continue
        heading, pace = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.16)
        for beside in (0.0, 0.7)[: 1 + (rng.random() < 0.25)]:
            at = spot + beside * np.array([-np.sin(heading), np.cos(heading)])
            step = pace * np.array([np.cos(heading), np.sin(heading)])
            things.append(place(living.person(rng), PERSON, (*at, 0), heading, light, step))
    return things


def _put_obstacles(rng, recipe: Recipe, light: Light, spots: Spots) -> list[Thing]:
    kinds = {"park": obstacles.PARK, "campus": obstacles.PARK, "harbour": obstacles.PARK, "yard": obstacles.SITE}
    kinds = kinds.get(recipe.layout, obstacles.STREET)
    ground = {"park": (*GREEN, *PAVED), "yard": (*BARE, *PAVED), "pasture": GREEN}.get(recipe.layout, (*PAVED, *DRIVEN))
    things = []
    for _ in range(recipe.obstacles):
        if (spot := spots.find(ground, 0.7, reach=3.0)) is not None:
            parts = kinds[rng.integers(len(kinds))](rng)
            things.append(place(parts, OBSTACLE, (*spot, 0), rng.integers(8) * np.pi / 4, light))
    return things


def _plant(rng, recipe: Recipe, light: Light, spots: Spots, season: str) -> list[Thing]:
    rows = {"down": (0.0, 1.0), "oblique": (0.0, 0.62), "horizon": (0.3, 0.56)}[recipe.view]
    leaves, things = LEAVES[season], []
    bare = {"winter": 0.65, "autumn": 0.15}.get(season, 0.0)
    for _ in range(recipe.trees):
        radius = rng.uniform(1.5, 3.3)
        spot = spots.find((*GREEN, *BARE[:1]), 0.75 * radius, rows=rows, clearance=0.4)
        if spot is None:
            continue
        leaf = np.array(leaves[rng.integers(len(leaves))]) * rng.uniform(0.85, 1.1)
        parts = living.conifer(rng, 0.7 * radius) if rng.random() < 0.2 else living.tree(rng, radius, leaf, bare=bare)
        things.append(place(parts, VEGETATION, (*spot, 0), 0.0, light))
    for _ in range(recipe.bushes):
        if (spot := spots.find((*GREEN, *BARE[:1]), 0.9, clearance=0.5)) is not None:
            leaf = np.array(leaves[rng.integers(len(leaves))]) * rng.uniform(0.8, 1.1)
            parts = living.bush(rng, rng.uniform(0.5, 1.1), leaf)
            things.append(place(parts, VEGETATION, (*spot, 0), 0.0, light))
    return things


def _send_drones(rng, recipe: Recipe, light: Light, camera: Camera) -> list[Thing]:
    things = []
    for _ in range(recipe.drones):
        pixel = rng.uniform((0.3, 0.3), (0.7, 0.7), (1, 2)) * [camera.width, camera.height]
        origin = camera.position + rays(camera, pixel)[0] * rng.uniform(9, 12)
        step = rng.uniform(-0.12, 0.12, 2)
        things.append(place(vehicles.drone(rng), DRONE, origin, rng.uniform(0, 2 * np.pi), light, step))
    return things
