"""The twelve classes of AeroScapes, and what each flight shows: one row a flight, so that they are as unequal as there.

Of 18 flights 16 have people, 8 bikes, 6 cars, 2 drones, 2 boats, 2 animals, 12 obstacles, 11 buildings or jetties,
3 the sky.
AeroScapes: 85, 42, 29, 10, 2, 3, 66, 56 and 15 % of the images.
"""

from __future__ import annotations

from dataclasses import dataclass

CLASSES = (  # in the order of the mask values
    *("Background", "Person", "Bike", "Car", "Drone", "Boat", "Animal", "Obstacle", "Construction"),
    *("Vegetation", "Road", "Sky"),
)
BACKGROUND, PERSON, BIKE, CAR, DRONE, BOAT, ANIMAL, OBSTACLE, CONSTRUCTION, VEGETATION, ROAD, SKY = range(12)


@dataclass(frozen=True)
class Recipe:
    """A kind of place, a kind of view, and how many things of each kind to look for a spot for."""

    layout: str  # a function of `layouts`
    view: str  # "down", "oblique", "horizon"
    altitude_m: tuple[float, float]
    people: int = 0
    bikes: int = 0
    cars: int = 0
    drones: int = 0
    boats: int = 0
    animals: int = 0
    obstacles: int = 0
    buildings: int = 0
    trees: int = 0
    bushes: int = 0


RECIPES = (
    Recipe("street", "oblique", (13, 19), people=5, cars=1, obstacles=4, buildings=3, trees=7, bushes=6),
    Recipe("park", "down", (16, 23), people=6, bikes=1, trees=8, bushes=6),
    Recipe("harbour", "oblique", (15, 21), people=5, boats=2, obstacles=2, buildings=1, trees=3),
    Recipe("pasture", "down", (15, 21), animals=5, trees=4, bushes=5),
    Recipe("crossing", "down", (22, 30), people=7, bikes=2, cars=3, obstacles=6, trees=5),
    Recipe("campus", "horizon", (6, 10), people=8, bikes=2, obstacles=4, buildings=3, trees=8, bushes=4),
    Recipe("fields", "down", (20, 30), people=3, drones=1, trees=4, bushes=4),
    Recipe("yard", "oblique", (13, 19), people=5, obstacles=7, buildings=2, trees=3, bushes=4),
    Recipe("avenue", "down", (24, 32), cars=3, obstacles=4, trees=7, bushes=6),
    Recipe("park", "oblique", (11, 16), people=6, bikes=2, obstacles=4, trees=8, bushes=6),
    Recipe("riverside", "down", (20, 28), people=4, boats=2, trees=6, bushes=5),
    Recipe("street", "down", (24, 32), people=5, bikes=2, cars=2, obstacles=4, buildings=4, trees=7, bushes=8),
    Recipe("pasture", "horizon", (7, 11), people=3, animals=5, obstacles=1, buildings=2, trees=8, bushes=6),
    Recipe("campus", "down", (20, 28), people=7, bikes=2, drones=1, obstacles=4, buildings=2, trees=6),
    Recipe("car_park", "oblique", (15, 21), people=5, cars=3, obstacles=5, buildings=1, trees=5, bushes=4),
    Recipe("fields", "oblique", (10, 16), people=4, bikes=1, trees=7, bushes=6),
    Recipe("yard", "down", (17, 24), people=4, obstacles=6, buildings=2, trees=3, bushes=3),
    Recipe("avenue", "horizon", (8, 12), people=3, bikes=1, cars=3, obstacles=5, buildings=2, trees=9, bushes=5),
)

# The camera is nearer than above, and shows fewer kinds of things.
CLOSE_RECIPES = (
    Recipe("street", "oblique", (7, 10), people=4, cars=3, buildings=1, trees=4, bushes=4),
    Recipe("park", "oblique", (6, 9), people=6, trees=4, bushes=5),
    Recipe("harbour", "oblique", (9, 13), people=4, boats=3, trees=2),
    Recipe("pasture", "oblique", (6, 10), people=1, animals=6, trees=3, bushes=4),
    Recipe("crossing", "oblique", (8, 12), people=5, cars=4, trees=3),
    Recipe("riverside", "oblique", (9, 13), people=3, boats=3, trees=3, bushes=4),
    Recipe("car_park", "oblique", (7, 11), people=4, cars=5, trees=3, bushes=2),
    Recipe("pasture", "oblique", (6, 9), people=2, animals=6, buildings=1, trees=3, bushes=3),
)


@dataclass(frozen=True)
class Kind:
    """What a demo competition shows, and its size.

    Attributes:
        version: raise it whenever other pixels or labels come out.
        frames_per_flight: on average; a flight has as many, rounded up or down.
    """

    version: int
    recipes: tuple[Recipe, ...]
    frames_per_flight: float
    num_train: int
    num_test: int
    width: int
    height: int


# A network with random weights learns to find large things of four kinds in two minutes, but not the small ones of
# the masks; and it needs many different flights more than many frames of each.
KINDS = {
    "masks": Kind(2, RECIPES, 4.5, num_train=80, num_test=20, width=384, height=216),
    "boxes": Kind(3, CLOSE_RECIPES, 2, num_train=400, num_test=40, width=256, height=160),
}
