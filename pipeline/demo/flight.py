"""One flight: its light, camera path, ground and everything that stands, walks or flies there, drawn frame by frame.

In: a recipe, a random generator, the number of frames. Out: each frame's image and, with the same strokes, its mask:
colours and class are drawn together as the four channels of one array, so that they cannot disagree. Drawn at twice the
size without smoothing; the image is then averaged down, the mask is picked.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.demo import layouts
from pipeline.demo.camera import Camera, aim, ground_points, ground_to_image, project, ray_slopes
from pipeline.demo.ground import CLASS_OF, Ground, choose_palette, image_noise, paint_ground, to_uint8
from pipeline.demo.population import populate
from pipeline.demo.recipes import SKY, VEGETATION, Recipe
from pipeline.demo.solids import Light, Thing

SUPERSAMPLING = 2  # drawn at twice the size, then averaged: smooth edges without soft masks
CANVAS_PX = {"down": (1.25,), "oblique": (1.0, 0.9), "horizon": (0.9, 0.9, 0.9)}  # of the drawn width, near to far
NEAR_VIEW_DEPRESSION = np.radians(14)  # the finest canvas ends where the view gets flatter than this
NEAR_M = 0.8  # things that come nearer to the lens are left out
SHIFT = 3  # fractional bits of drawn coordinates
ONE = 1 << SHIFT


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


def render(flight: Flight, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the image (height, width, 3), uint8 RGB, and the mask (height, width), uint8, of one frame."""
    camera, time = flight.cameras[frame], frame - len(flight.cameras) // 2
    canvas = _draw_ground(flight.grounds, camera)
    slope = ray_slopes(camera)
    if slope[0].min() < 0.06:  # the view reaches the horizon or nearly so
        _draw_far(canvas, slope, camera, flight)
    seen = in_view(flight.things, camera, time)
    _draw_shadows(canvas, seen, camera, flight.light, slope)
    for thing, origin, reach_px in seen:
        draw_thing(canvas, thing, origin, reach_px, camera, flight.light)
    return _develop(canvas, flight, frame)


def _draw_ground(grounds: tuple[Ground, ...], camera: Camera) -> np.ndarray:
    """Returns colours and class (H, W, 4) of the ground; what the canvases do not reach repeats their edge."""
    size = (camera.width, camera.height)
    colours, classes = np.zeros((*size[::-1], 3), np.uint8), np.zeros(size[::-1], np.uint8)
    for index, ground in enumerate(grounds):
        metres, (x, y) = 1 / ground.scale, ground.corner
        matrix = ground_to_image(camera) @ np.array([[metres, 0, x], [0, metres, y], [0, 0, 1]])
        border = cv2.BORDER_TRANSPARENT if index else cv2.BORDER_REPLICATE
        cv2.warpPerspective(ground.colours, matrix, size, dst=colours, flags=cv2.INTER_LINEAR, borderMode=border)
        found = CLASS_OF[ground.materials]
        cv2.warpPerspective(found, matrix, size, dst=classes, flags=cv2.INTER_NEAREST, borderMode=border)
    return cv2.merge([colours, classes])


def _draw_far(canvas: np.ndarray, slope: np.ndarray, camera: Camera, flight: Flight) -> None:
    """Draws haze over the far ground, wooded hills on the horizon, and sky with clouds."""
    width, light, rng = camera.width, flight.light, np.random.default_rng(flight.seed)
    distance = camera.position[2] / np.maximum(slope, 1e-3)
    veil = (1 - np.exp(-distance / light.haze_m))[..., None]
    canvas[..., :3] = to_uint8(canvas[..., :3] * (1 - veil) + light.haze * veil)
    top = int(np.flatnonzero(slope.min(axis=1) < 0.012).max(initial=0)) + 1  # rows below show near ground only
    column = (np.arange(width) - width / 2) / camera.focal_px + 3 * np.arctan2(camera.axes[2, 1], camera.axes[2, 0])
    fine = 0.004 * np.interp(column * 40 % 64, np.arange(64), rng.uniform(-1, 1, 64))
    ridge = 0.045 * np.interp(column, np.linspace(-16, 16, 64), rng.uniform(0.2, 1, 64)) + fine
    up = -slope[:top]
    wood = np.array([66, 88, 70]) * (1 + 0.16 * image_noise(rng, width, top, 5)[..., None])
    _fill(canvas[:top], (up > -0.012) & (up < ridge), 0.55 * wood + 0.45 * light.haze, VEGETATION)
    zenith = np.array([92, 138, 196]) if light.softness < 5 else np.array([168, 176, 186])
    rise = np.clip(up / 0.5, 0, 1)[..., None] ** 0.7
    clouds = 0.5 * image_noise(rng, width, top, 90) + 0.25 * image_noise(rng, width, top, 28)
    cover = np.clip(clouds + 0.05, 0, 0.85)[..., None]
    colours = (np.array([214, 222, 230]) * (1 - rise) + zenith * rise) * (1 - cover) + np.array([240, 241, 243]) * cover
    _fill(canvas[:top], up >= ridge, colours, SKY)


def _fill(canvas: np.ndarray, where: np.ndarray, colours: np.ndarray, class_index: int) -> None:
    """Puts colours (H, W, 3) and a class into the pixels `where` (H, W)."""
    canvas[where, :3] = to_uint8(colours[where])
    canvas[where, 3] = class_index


def in_view(things: tuple[Thing, ...], camera: Camera, time: int) -> list[tuple[Thing, np.ndarray, float]]:
    """Returns (thing, where it is now, its size in pixels) for those that may be seen, the farthest first."""
    if not things:
        return []
    origins = np.stack([thing.origin + time * thing.step for thing in things])
    pixels, depth = project(camera, origins)
    reach = np.array([thing.reach for thing in things])
    reach_px = reach * camera.focal_px / np.maximum(depth, NEAR_M)
    margin = 2.5 * reach_px[:, None]  # shadows fall into the image from outside
    size = np.array([camera.width, camera.height])
    seen = (depth > NEAR_M) & ((pixels > -margin) & (pixels < size + margin)).all(axis=1) & (reach_px > 1.5)
    order = np.argsort(-np.linalg.norm(origins - camera.position, axis=1), kind="stable")
    return [(things[index], origins[index], float(reach_px[index])) for index in order if seen[index]]


def _draw_shadows(canvas: np.ndarray, seen, camera: Camera, light: Light, slope: np.ndarray) -> None:
    """Darkens the ground where things keep the sun off."""
    covered = np.zeros(canvas.shape[:2], np.uint8)
    for thing, origin, reach_px in seen:
        points = thing.points + origin
        kept, radii = _kept_parts(thing, reach_px)
        if (thing.sizes[kept] == 1).any():
            points = np.concatenate([points, _rims(thing, kept, radii) + origin])
        flat = points - light.direction * (np.maximum(points[:, 2:], 0) / light.direction[2])
        pixels, depth = project(camera, flat)
        if depth.min() < NEAR_M:
            continue
        fixed, rim = _fixed(pixels), len(thing.points)
        for index in kept:
            start, size = thing.starts[index], thing.sizes[index]
            if size == 1:
                cv2.fillConvexPoly(covered, fixed[rim : rim + 8], 255, shift=SHIFT)
                rim += 8
            elif size == 2:
                thickness = max(1, round(2 * thing.radii[index] * camera.focal_px / depth[start]))
                cv2.line(covered, fixed[start].tolist(), fixed[start + 1].tolist(), 255, thickness, shift=SHIFT)
            else:
                cv2.fillConvexPoly(covered, fixed[start : start + size], 255, shift=SHIFT)
    covered = cv2.blur(covered, (int(light.softness), int(light.softness)))
    covered[slope < 0.02] = 0
    loss = light.shadow * np.array([1.0, 0.96, 0.86])  # the blue sky still lights a shadow
    tables = [to_uint8(255 - strength * np.arange(256)) for strength in (*loss, 0.0)]  # the class stays as it is
    cv2.multiply(canvas, cv2.merge([cv2.LUT(covered, table) for table in tables]), dst=canvas, scale=1 / 255)


def _kept_parts(thing: Thing, reach_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the parts worth drawing at this size, and all radii, larger where dabs were left out."""
    dabs = np.flatnonzero(thing.sizes == 1)
    wanted = max(10, int(reach_px * 1.6))
    if len(dabs) <= wanted:
        return np.arange(len(thing.sizes)), thing.radii
    step = -(-len(dabs) // wanted)
    radii = np.where(thing.sizes == 1, thing.radii * min(1.5, np.sqrt(step)), thing.radii)
    return np.setdiff1d(np.arange(len(thing.sizes)), np.setdiff1d(dabs, dabs[::step])), radii


def _rims(thing: Thing, kept: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Returns eight points on the level rim of each kept dab, (8 * dabs, 3)."""
    dabs = kept[thing.sizes[kept] == 1]
    angle = np.arange(8) * (np.pi / 4)
    ring = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(8)])
    return (thing.points[thing.starts[dabs]][:, None] + radii[dabs][:, None, None] * ring).reshape(-1, 3)


def draw_thing(
    canvas: np.ndarray, thing: Thing, origin: np.ndarray, reach_px: float, camera: Camera, light: Light
) -> None:
    """Draws the parts of a thing, the farthest first, faces that look away left out."""
    points = thing.points + origin
    pixels, depth = project(camera, points)
    if depth.min() < NEAR_M:
        return
    kept, radii = _kept_parts(thing, reach_px)
    towards = ((camera.position - points[thing.starts]) * thing.normals).sum(axis=1)
    faces = thing.sizes > 2
    hidden = faces & (towards <= 0) & thing.normals.any(axis=1)
    middle = np.add.reduceat(depth, thing.starts) / thing.sizes
    order = kept[np.lexsort((-middle[kept], thing.layers[kept]))]
    veil = 1 - np.exp(-np.linalg.norm(origin - camera.position) / light.haze_m)
    colours = np.clip(thing.colours * (1 - veil) + light.haze * veil, 0, 255).astype(int)
    fixed, scale = _fixed(pixels), camera.focal_px / middle
    for index in order[~hidden[order]]:
        start, size = thing.starts[index], thing.sizes[index]
        colour = (*colours[index].tolist(), thing.class_index)
        if size == 1:
            radius = max(4, round(radii[index] * scale[index] * ONE))
            cv2.circle(canvas, fixed[start].tolist(), radius, colour, -1, shift=SHIFT)
        elif size == 2:
            thickness = max(1, round(2 * radii[index] * scale[index]))
            cv2.line(canvas, fixed[start].tolist(), fixed[start + 1].tolist(), colour, thickness, shift=SHIFT)
        else:
            cv2.fillConvexPoly(canvas, fixed[start : start + size], colour, shift=SHIFT)
            if thing.textures[index] is not None and reach_px > 12:
                _draw_texture(canvas, thing.textures[index], pixels[start : start + 4], veil, light)


def _draw_texture(canvas: np.ndarray, texture: np.ndarray, corners_42: np.ndarray, veil: float, light: Light) -> None:
    """Draws a texture (h, w, 4) into a quadrangle: corners below left, below right, above right, above left."""
    low = np.maximum(np.floor(corners_42.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(corners_42.max(axis=0)).astype(int) + 1, canvas.shape[1::-1])
    width, height = high - low
    if width < 2 or height < 2:
        return
    target = (corners_42 - low).astype(np.float32)
    while texture.shape[0] > 24 and 2 * np.ptp(corners_42, axis=0).max() < max(texture.shape[:2]):
        texture = cv2.resize(texture, (texture.shape[1] // 2, texture.shape[0] // 2), interpolation=cv2.INTER_AREA)
    rows, columns = texture.shape[:2]
    source = np.array([[0, rows], [columns, rows], [columns, 0], [0, 0]], np.float32)
    matrix = cv2.getPerspectiveTransform(source, target)
    size = (int(width), int(height))
    drawn = cv2.warpPerspective(texture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if veil > 0.08:
        drawn[..., :3] = to_uint8(drawn[..., :3] * (1 - veil) + light.haze * veil)
    shape = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(shape, _fixed(target), 255, shift=SHIFT)
    region = canvas[low[1] : high[1], low[0] : high[0]]
    cv2.copyTo(drawn, shape, region)


def _fixed(pixels_N2: np.ndarray) -> np.ndarray:
    """Returns pixels as the fixed-point integers that OpenCV draws, kept within what it can hold."""
    return np.rint(np.clip(pixels_N2, -8000, 8000) * ONE).astype(np.int32)


def picked(canvas: np.ndarray) -> np.ndarray:
    """Returns the fourth channel of a canvas at the final size: of each square of drawn pixels, one."""
    return np.ascontiguousarray(canvas[1::SUPERSAMPLING, 1::SUPERSAMPLING, 3])


def _develop(canvas: np.ndarray, flight: Flight, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns image and mask at their final size: averaged, lit, vignetted, with the noise of a small sensor."""
    height, width = canvas.shape[0] // SUPERSAMPLING, canvas.shape[1] // SUPERSAMPLING
    rng = np.random.default_rng([flight.seed, frame])
    mask = picked(canvas)
    colours = cv2.resize(cv2.cvtColor(canvas, cv2.COLOR_RGBA2RGB), (width, height), interpolation=cv2.INTER_AREA)
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    vignette = 1 - 0.07 * (x[None, :] ** 2 + y[:, None] ** 2)
    gain = flight.light.tint * rng.uniform(0.98, 1.02)  # the exposure control hunts a little
    values = colours * (vignette[..., None] * gain.astype(np.float32))
    values += rng.standard_normal(values.shape, dtype=np.float32) * np.float32(3.0)
    return to_uint8(values), mask
