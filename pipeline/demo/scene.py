"""One flight: its light, its camera path, its ground, and everything that stands, walks or flies there.

In: a recipe, a random generator, the number of frames. Out: a `Flight`, of which `draw.render` draws each frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.demo import layouts
from pipeline.demo.camera import Camera, aim, ground_points
from pipeline.demo.ground import Ground, choose_palette, paint_ground
from pipeline.demo.population import populate
from pipeline.demo.recipes import Recipe
from pipeline.demo.solids import Light, Thing

SUPERSAMPLING = 2  # drawn at twice the size, then averaged: smooth edges without soft masks
CANVAS_PX = {"down": (1.25,), "oblique": (1.0, 0.9), "horizon": (0.9, 0.9, 0.9)}  # of the drawn width, near to far
NEAR_VIEW_DEPRESSION = np.radians(14)  # the finest canvas ends where the view gets flatter than this


@dataclass(frozen=True, eq=False)
class Flight:
    """Everything needed to draw the frames of a flight; `grounds` go from the widest canvas to the finest."""

    cameras: tuple[Camera, ...]
    grounds: tuple[Ground, ...]
    things: tuple[Thing, ...]
    light: Light
    seed: int  # for clouds, hills and sensor noise


def build_flight(rng: np.random.Generator, recipe: Recipe, num_frames: int, width: int, height: int) -> Flight:
    """Returns a flight of `num_frames` frames of `width` x `height` pixels."""
    season = ("spring", "summer", "summer", "dry", "autumn", "winter")[rng.integers(6)]
    light = choose_light(rng)
    cameras = fly(rng, recipe, num_frames, width * SUPERSAMPLING, height * SUPERSAMPLING)
    layout = getattr(layouts, recipe.layout)(rng)
    palette = choose_palette(rng, season)
    centre, radius = footprint(cameras)
    grounds = [
        paint_ground(layout.shapes, palette, centre, radius * 5**level, round(width * SUPERSAMPLING * share))
        for level, share in enumerate(CANVAS_PX[recipe.view])
    ]
    middle = cameras[num_frames // 2]
    things = populate(rng, recipe, layout, grounds, middle, light, season)
    return Flight(cameras, tuple(grounds[::-1]), tuple(things), light, int(rng.integers(2**31)))


def choose_light(rng: np.random.Generator) -> Light:
    """Returns the light of a day: clear or overcast, morning or noon, warm or cold, more or less hazy."""
    overcast = rng.random() < 0.3
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(28, 62))
    direction = [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
    warmth = rng.uniform(-0.05, 0.05) + (0.05 if elevation < 0.7 and not overcast else 0)
    exposure = rng.uniform(0.84, 1.16)
    return Light(
        direction=np.array(direction),
        ambient=0.75 if overcast else 0.42,
        diffuse=0.3 if overcast else 0.75,
        shadow=rng.uniform(0.12, 0.22) if overcast else rng.uniform(0.42, 0.58),
        softness=9 if overcast else 3,  # pixels of the drawn image
        tint=exposure * np.array([1 + warmth, 1.0, 1 - warmth]),
        haze=np.array([196, 204, 212]) * rng.uniform(0.92, 1.08),
        haze_m=rng.uniform(220, 700),
    )


def fly(rng: np.random.Generator, recipe: Recipe, num_frames: int, width: int, height: int) -> tuple[Camera, ...]:
    """Returns one camera a frame: they look at about (0, 0) and move on by a few hundredths of what they see."""
    altitude = rng.uniform(*recipe.altitude_m)
    low, high = {"down": (72, 90), "oblique": (34, 52), "horizon": (7.5, 12)}[recipe.view]
    pitch, view_angle = np.radians(rng.uniform(low, high)), np.radians(rng.uniform(64, 76))
    yaw, heading = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
    step_m = altitude * rng.uniform(0.012, 0.04)
    turn, climb, nod = rng.uniform(-0.014, 0.014), rng.uniform(-0.008, 0.012), rng.uniform(-0.006, 0.006)
    roll = rng.uniform(-0.03, 0.03)
    behind = min(altitude / np.tan(pitch), 2.6 * altitude)
    cameras = []
    for time in np.arange(num_frames) - num_frames // 2:
        x = -behind * np.cos(yaw) + time * step_m * np.cos(heading)
        y = -behind * np.sin(yaw) + time * step_m * np.sin(heading)
        position = (x, y, altitude * (1 + climb * time))
        cameras.append(aim(position, yaw + turn * time, pitch + nod * time, roll, view_angle, width, height))
    return tuple(cameras)


def footprint(cameras: tuple[Camera, ...]) -> tuple[np.ndarray, float]:
    """Returns the centre (2,) and half the side of the square of ground that the finest canvas must cover."""
    seen = []
    for camera in cameras:
        grid = np.meshgrid(np.linspace(0, camera.width, 7), np.linspace(0, camera.height, 9))
        points = ground_points(camera, np.stack(grid, -1).reshape(-1, 2))
        distance = np.linalg.norm(points - camera.position[:2], axis=1)
        seen.append(points[distance < camera.position[2] / np.tan(NEAR_VIEW_DEPRESSION)])
    seen = np.concatenate(seen)
    low, high = seen.min(axis=0), seen.max(axis=0)
    return (low + high) / 2, float((high - low).max() / 2 + 0.5)
