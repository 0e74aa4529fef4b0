"""Writes the demo competitions, drone-like ones in the layout of AeroScapes, for whoever has no data yet.

A `flight` is a small world seen by a moving `camera`: flat ground (`layouts`, `ground`) and solid things on it
(`population`, with `structures` and `figures`), drawn as image and mask; `recipes` says what is to be seen in each.

The folder is whole and of the wanted settings, or it is not there: the marker `demo.json` holds the settings and the
sha256 of every file. A folder that agrees with both is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from pipeline.demo.flight import build_flight, render
from pipeline.demo.objects import OBJECTS, Object, visible_objects
from pipeline.demo.recipes import CLASSES, KINDS, Kind
from pipeline.errors import UserError
from pipeline.files import TEMPORARY_MARK, check_disk, check_writable, sha256_file

MARKER = "demo.json"
JPEG_QUALITY = 92
SMALLEST_PX = 64  # below that nobody recognises a car


def generate(
    folder: Path,
    seed: int = 0,
    num_train: int | None = None,
    num_test: int | None = None,
    width: int | None = None,
    height: int | None = None,
    labels: Literal["masks", "boxes"] = "masks",
) -> None:
    """Makes `folder` hold the demo competition of these settings; one that does already is left alone.

    Settings that are None are those of `KINDS`.

    Layout as AeroScapes: `imgs/imgs/<ImageID>.jpg`, `masks/masks/<ImageID>.png` (uint8 class indices, training
    images only), `train.csv`, `test.csv`, `sample_submission.csv`. Ids are `<flight>_<frame>`; training and test
    images come from different flights. With masks, every class is in at least two flights from 72 training images on.
    The same settings give the same bytes on the same machine.

    With boxes as labels the camera is nearer, there are other flights, and in place of masks there is `train.json`, a
    COCO file with the boxes of the objects (see `objects.py`).

    Raises:
        UserError: impossible settings, no room on the disk, or `folder` holds something that is no demo competition.
    """
    folder = Path(folder)
    kind = KINDS[labels]
    wanted = {"num_train": num_train, "num_test": num_test, "width": width, "height": height}
    settings = {"seed": seed} | {key: getattr(kind, key) if own is None else own for key, own in wanted.items()}
    least = {"seed": 0, "num_train": 1, "num_test": 1, "width": SMALLEST_PX, "height": SMALLEST_PX}
    wrong = [f"{key} = {settings[key]}: expected {low} or more" for key, low in least.items() if settings[key] < low]
    if wrong:
        raise UserError("The demo competition cannot be made:\n" + "\n".join(wrong))
    settings = {"version": kind.version, **settings} | ({"labels": labels} if labels != "masks" else {})
    _sweep(folder)
    if _is_whole(folder, settings):
        return
    if folder.exists() and not (folder.is_dir() and ((folder / MARKER).is_file() or not any(folder.iterdir()))):
        raise UserError(
            f"{folder} exists but holds no demo competition ({MARKER} is missing), so it is not replaced.\n"
            f"Move it away, for example: mv {folder} {folder}-mine"
        )
    check_writable(folder.parent)
    num_px = (settings["num_train"] + settings["num_test"]) * settings["width"] * settings["height"]
    check_disk(folder, num_px, "The demo competition")
    draft = folder.with_name(f"{folder.name}{TEMPORARY_MARK}{os.getpid()}")
    try:
        hashes = {name: _write(draft / name, data) for name, data in _contents(settings)}
        _write(draft / MARKER, json.dumps({"settings": settings, "sha256": hashes}, indent=1).encode())
        _replace(folder, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def list_flights(kind: Kind, seed: int, num_train: int, num_test: int) -> list[tuple[str, int, int]]:
    """Returns (subset, index of the recipe, number of frames) for each flight, in the order of their numbers.

    >>> flights = list_flights(KINDS["masks"], 0, num_train=9, num_test=4)
    >>> sorted((subset, num_frames) for subset, _, num_frames in flights)
    [('test', 4), ('train', 4), ('train', 5)]
    """
    rng = np.random.default_rng([seed, 0])  # the flights draw from [seed, 1], [seed, 2], ...
    flights = []
    for subset, num_images in (("train", num_train), ("test", num_test)):
        num_flights = max(1, round(num_images / kind.frames_per_flight))
        order = np.arange(num_flights) if subset == "train" else rng.permutation(max(len(kind.recipes), num_flights))
        lengths = [num_images // num_flights + (k < num_images % num_flights) for k in range(num_flights)]
        recipes = [int(index) % len(kind.recipes) for index in order[:num_flights]]
        flights += list(zip([subset] * num_flights, recipes, rng.permutation(lengths).tolist(), strict=True))
    return [flights[index] for index in rng.permutation(len(flights))]


def _contents(settings: dict) -> Iterator[tuple[str, bytes]]:
    """Yields (path in the competition folder, content) of every file but the marker."""
    labels = settings.get("labels", "masks")
    kind, has_boxes = KINDS[labels], labels == "boxes"
    flights = list_flights(kind, settings["seed"], settings["num_train"], settings["num_test"])
    ids = {"train": [], "test": []}
    objects: dict[str, list[Object]] = {}
    for number, (subset, recipe, num_frames) in enumerate(flights, start=1):
        rng = np.random.default_rng([settings["seed"], number])
        flight = build_flight(rng, kind.recipes[recipe], num_frames, settings["width"], settings["height"])
        for frame in range(num_frames):
            image_id = f"{number:06d}_{frame + 1:03d}"
            ids[subset].append(image_id)
            image, mask = render(flight, frame)
            jpeg = _encode(".jpg", image[..., ::-1], cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
            yield f"imgs/imgs/{image_id}.jpg", jpeg
            if subset == "train" and has_boxes:
                objects[image_id] = visible_objects(flight, frame)
            elif subset == "train":
                yield f"masks/masks/{image_id}.png", _encode(".png", mask, cv2.IMWRITE_PNG_COMPRESSION, 6)
    for subset, names in ids.items():
        yield f"{subset}.csv", _lines("ImageID", names)
    if has_boxes:
        yield "train.json", _coco(objects, settings["width"], settings["height"])
        yield "sample_submission.csv", _lines("ImageID,PredictionString", [f"{image_id}," for image_id in ids["test"]])
        return
    rows = [f"{image_id}_{index}," for image_id in ids["test"] for index in range(len(CLASSES))]
    yield "sample_submission.csv", _lines("ImageID,EncodedPixels", rows)


def _coco(objects: dict[str, list[Object]], width: int, height: int) -> bytes:
    """Returns a COCO file with the boxes of each image."""
    images, annotations = [], []
    for number, (image_id, own) in enumerate(objects.items(), start=1):
        images.append({"id": number, "file_name": f"{image_id}.jpg", "width": width, "height": height})
        for one in own:
            left, top, right, bottom = one.box
            sides = [left, top, right - left, bottom - top]
            facts = {"image_id": number, "category_id": OBJECTS.index(one.class_index) + 1, "bbox": sides}
            annotations.append({"id": len(annotations) + 1, **facts, "area": sides[2] * sides[3], "iscrowd": 0})
    categories = [{"id": number, "name": CLASSES[index]} for number, index in enumerate(OBJECTS, start=1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()


def _encode(suffix: str, pixels: np.ndarray, option: int, value: int) -> bytes:
    return cv2.imencode(suffix, np.ascontiguousarray(pixels), [option, value])[1].tobytes()


def _lines(head: str, rows: list[str]) -> bytes:
    return "\n".join([head, *rows, ""]).encode()


def _write(path: Path, data: bytes) -> str:
    """Writes a file of the draft and returns its sha256; no fsync each, the hashes tell whether all of it arrived."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _replace(folder: Path, draft: Path) -> None:
    outdated = folder.with_name(f"{folder.name}{TEMPORARY_MARK}{os.getpid()}-old")
    if folder.exists():
        os.rename(folder, outdated)
    os.rename(draft, folder)
    shutil.rmtree(outdated, ignore_errors=True)


def _is_whole(folder: Path, settings: dict) -> bool:
    """Returns whether the marker is there and undamaged, and folder and settings agree with it."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        if marker["settings"] != settings:
            return False
        return all(sha256_file(folder / name) == sha for name, sha in marker["sha256"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _sweep(folder: Path) -> None:
    """Removes drafts that killed processes left beside `folder`; those of living processes stay."""
    for draft in folder.parent.glob(f"{folder.name}{TEMPORARY_MARK}*"):
        owner = draft.name.rpartition(TEMPORARY_MARK)[2].partition("-")[0]
        if not (owner.isdigit() and _is_alive(int(owner))):
            shutil.rmtree(draft, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
