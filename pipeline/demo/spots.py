"""Free places on the ground that the camera sees."""

from __future__ import annotations

import numpy as np

from pipeline.demo.camera import Camera, ground_points
from pipeline.demo.ground import NAMES, Ground, material_at

RING = np.array([(0, 0), *[(np.cos(angle), np.sin(angle)) for angle in np.arange(8) * np.pi / 4]])


class Spots:
    """Finds places for things one after another and remembers what is taken."""

    def __init__(self, rng: np.random.Generator, camera: Camera, grounds: list[Ground]):
        self.rng, self.camera, self.grounds = rng, camera, grounds
        self.taken = np.zeros((0, 3))  # x, y, radius

    def find(self, materials, radius: float, *, rows=(0.05, 0.97), reach=8.0, clearance=None, tries=60):
        """Returns and takes x, y of a free place in the view; None when the tries have not met one.

        Args:
            materials: names of the ground on which the thing may stand.
            radius: no other thing comes closer than both radii, metres.
            rows: part of the image's height that the place is in.
            reach: greatest distance, in altitudes of the camera.
            clearance: radius within which the ground must be of those materials; half of `radius` if None.
        """
        size = np.array([self.camera.width, self.camera.height])
        pixels = self.rng.uniform((0.03, rows[0]), (0.97, rows[1]), (tries, 2)) * size
        points = ground_points(self.camera, pixels)
        distance = np.linalg.norm(points - self.camera.position[:2], axis=1)
        points = points[distance < reach * self.camera.position[2]]  # also drops the sky, which is NaN
        allowed = [NAMES.index(name) for name in materials]
        rim = (0.5 * radius if clearance is None else clearance) * RING
        for point in points:
            if np.isin(self.material(point + rim), allowed).all() and self.take(point, radius):
                return point
        return None

    def take(self, point, radius: float) -> bool:
        """Reserves a given place; False when something is there already."""
        if (np.linalg.norm(self.taken[:, :2] - point, axis=1) < self.taken[:, 2] + radius).any():
            return False
        self.taken = np.concatenate([self.taken, [[*point, radius]]])
        return True

    def material(self, points_N2: np.ndarray) -> np.ndarray:
        """Returns the material (N,) at points, from the finest canvas that has them."""
        found = material_at(self.grounds[0], points_N2)
        for ground in self.grounds[1:]:
            found = np.where(found < 0, material_at(ground, points_N2), found)
        return found
