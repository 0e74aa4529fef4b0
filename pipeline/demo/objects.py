"""The boxes around the visible parts of the objects in a frame, found by drawing each object with its own number.

In: a flight. Out: boxes in pixels of the final image. The things are drawn with the strokes of `flight.render`, so that
boxes and masks cannot disagree. Letters: H height, W width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pipeline.demo.flight import Flight, draw_thing, in_view, picked
from pipeline.demo.recipes import ANIMAL, BOAT, CAR, PERSON
from pipeline.demo.solids import Thing

OBJECTS = (PERSON, CAR, BOAT, ANIMAL)  # the classes whose things have boxes, in this order
LEAST_VISIBLE = 0.3  # share of an object's pixels in the image; of one that is hidden more, there is no box
LEAST_PX = 12  # pixels that are seen of an object with a box; fewer say nothing
MOST_OBJECTS = 254  # in a frame: their numbers are bytes, and 0 is everything else


class Object(NamedTuple):
    """An object in a frame.

    Attributes:
        class_index: one of `OBJECTS`.
        box: left, top, right, bottom in pixels, right and bottom exclusive: the smallest around what is seen of it.
        visible_share: what is seen of it, as a share of the pixels that it has in the image without what hides it.
    """

    class_index: int
    box: tuple[int, int, int, int]
    visible_share: float


def visible_objects(flight: Flight, frame: int) -> list[Object]:
    """Returns the objects of a frame that have a box, the farthest first."""
    owners_HW, seen = owner_map(flight, frame)
    found = []
    for number, (thing, _, _) in enumerate(seen, start=1):
        visible_HW = owners_HW == number
        num_visible = int(visible_HW.sum())
        if num_visible < LEAST_PX:
            continue
        alone_HW = _draw(flight, frame, [(thing, *seen[number - 1][1:])], [1])
        share = num_visible / int(alone_HW.sum())
        if share >= LEAST_VISIBLE:
            found.append(Object(thing.class_index, bounding_box(visible_HW), share))
    return found


def owner_map(flight: Flight, frame: int) -> tuple[np.ndarray, list[tuple[Thing, np.ndarray, float]]]:
    """Returns the number of the object at each pixel, uint8 (H, W), 0 for none, and the objects, the first one 1.

    With each object come where it is and its size in pixels.
    """
    seen = in_view(flight.things, flight.cameras[frame], frame - len(flight.cameras) // 2)
    objects = [one for one in seen if one[0].class_index in OBJECTS][-MOST_OBJECTS:]  # the nearest ones
    number_of = {id(one[0]): number for number, one in enumerate(objects, start=1)}
    numbers = [number_of.get(id(thing), 0) for thing, _, _ in seen]
    return _draw(flight, frame, seen, numbers), objects


def bounding_box(visible_HW: np.ndarray) -> tuple[int, int, int, int]:
    """Returns the smallest box around the pixels that are True: left, top, right, bottom.

    >>> bounding_box(np.array([[False, False, False], [False, True, True]]))
    (1, 1, 3, 2)
    """
    rows, columns = np.flatnonzero(visible_HW.any(1)), np.flatnonzero(visible_HW.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _draw(flight: Flight, frame: int, seen: list[tuple[Thing, np.ndarray, float]], numbers: list[int]) -> np.ndarray:
    """Returns the number of the nearest thing at each pixel, uint8 (H, W); 0 where there is none."""
    camera = flight.cameras[frame]
    canvas = np.zeros((camera.height, camera.width, 4), np.uint8)
    for (thing, origin, reach_px), number in zip(seen, numbers, strict=True):
        draw_thing(canvas, _numbered(thing, number), origin, reach_px, camera, flight.light)
    return picked(canvas)


def _numbered(thing: Thing, number: int) -> Thing:
    """Returns a thing that is drawn with a number in place of its class."""
    textures = tuple(
        texture if texture is None else np.dstack([texture[..., :3], np.full(texture.shape[:2], number, np.uint8)])
        for texture in thing.textures
    )
    return replace(thing, class_index=number, textures=textures)
