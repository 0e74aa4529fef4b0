"""The drone's camera: where a point of the world falls in the image, and which ground a pixel shows.

World: x east, y north, z up, metres. Image: x right, y down, pixels. Model: pinhole without distortion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera; `axes` has the rows right, down, forward in world coordinates."""

    position: np.ndarray
    axes: np.ndarray
    focal_px: float
    width: int
    height: int


def aim(position, yaw: float, pitch: float, roll: float, view_angle: float, width: int, height: int) -> Camera:
    """Returns a camera that looks along `yaw` (from east) and `pitch` (below the horizon); all angles in radians."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, right)
    turned_right = np.cos(roll) * right + np.sin(roll) * down
    turned_down = np.cos(roll) * down - np.sin(roll) * right
    focal_px = width / 2 / np.tan(view_angle / 2)
    return Camera(np.asarray(position, float), np.stack([turned_right, turned_down, forward]), focal_px, width, height)


def project(camera: Camera, points_N3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels (N, 2) and depths (N,) in metres; only points of positive depth have a meaningful pixel.

    >>> camera = aim((0, 0, 10), yaw=0, pitch=np.pi / 2, roll=0, view_angle=np.pi / 2, width=200, height=100)
    >>> pixels, depth = project(camera, np.array([[0.0, 0, 0], [0, -5, 0]]))
    >>> pixels.round(3).tolist(), depth.round(3).tolist()
    ([[100.0, 50.0], [150.0, 50.0]], [10.0, 10.0])
    """
    seen = (points_N3 - camera.position) @ camera.axes.T
    depth = seen[:, 2]
    scale = camera.focal_px / np.where(np.abs(depth) < 1e-6, 1e-6, depth)  # avoids a division by zero at the lens
    return np.stack([seen[:, 0] * scale + camera.width / 2, seen[:, 1] * scale + camera.height / 2], axis=1), depth


def ground_to_image(camera: Camera) -> np.ndarray:
    """Returns the 3x3 homography that takes ground points (x, y, 1) at z = 0 to pixels."""
    intrinsics = np.array([[camera.focal_px, 0, camera.width / 2], [0, camera.focal_px, camera.height / 2], [0, 0, 1]])
    return intrinsics @ np.column_stack([camera.axes[:, 0], camera.axes[:, 1], -camera.axes @ camera.position])


def rays(camera: Camera, pixels_N2: np.ndarray) -> np.ndarray:
    """Returns the direction (N, 3) in which each pixel looks; its component along the view axis is 1."""
    pixels = np.asarray(pixels_N2, float)
    across = (pixels[:, :1] - camera.width / 2) / camera.focal_px
    below = (pixels[:, 1:] - camera.height / 2) / camera.focal_px
    return camera.axes[2] + across * camera.axes[0] + below * camera.axes[1]


def ground_points(camera: Camera, pixels_N2: np.ndarray) -> np.ndarray:
    """Returns the ground point (N, 2) that each pixel shows; NaN for pixels at or above the horizon.

    >>> camera = aim((0, 0, 10), yaw=0, pitch=np.pi / 2, roll=0, view_angle=np.pi / 2, width=200, height=100)
    >>> (ground_points(camera, [[150, 50]]) + 0).round(3).tolist()
    [[0.0, -5.0]]
    """
    directions = rays(camera, pixels_N2)
    falling = np.where(directions[:, 2:] < -1e-3, directions[:, 2:], np.nan)
    return camera.position[:2] - directions[:, :2] * camera.position[2] / falling


def ray_slopes(camera: Camera) -> np.ndarray:
    """Returns how steeply the ray of each pixel (height, width) falls, float32: above 0 for ground, below for sky."""
    x = (np.arange(camera.width, dtype=np.float32) + 0.5 - camera.width / 2) / camera.focal_px
    y = (np.arange(camera.height, dtype=np.float32) + 0.5 - camera.height / 2) / camera.focal_px
    z = camera.axes[:, 2].astype(np.float32)
    return -(z[2] + x[None, :] * z[0] + y[:, None] * z[1])
