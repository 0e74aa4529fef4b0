"""The samples of a run: augmented tiles for training, whole padded images for validation and prediction.

Every random choice of a training sample comes from (seed, epoch, index, repeat) and nothing else, so that samples do
not depend on workers, on what was loaded before, or on having been stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

from pipeline.config.competition import IGNORE
from pipeline.config.schema import Augmentation
from pipeline.data.augment import UNCHANGED, apply_color, apply_noise, color_chain, cut_image, cut_label, draw_geometry
from pipeline.data.image_source import ImageSource, black_of
from pipeline.data.loaders import COLOR, GEOMETRY, PASTING, SampleKey
from pipeline.data.store import Store
from pipeline.data.tiles import Box, cover
from pipeline.errors import UserError
from pipeline.segmentation import copy_paste
from pipeline.segmentation.padding import BLACK, Policy, Sizes, offset_in, pad, padding_values
from pipeline.segmentation.positions import tile_positions
from pipeline.task import Batch, Frame, Part

ANY_SIZE = Sizes()
WINDOW, WINDOW_OVERLAP = 1024, 256  # of large images, pixels: a core sees 128 pixels or more around itself


class TrainDataset(torch.utils.data.Dataset):
    """Tiles of the given images; `dataset[SampleKey(...)]` is (image uint8 HxWx3, mask, key).

    A mask is uint8: HxW, or planes HxWxC where a pixel may have several classes.

    Args:
        store: holds the images at all scales of `augmentation.tile`, or at their own size when tiles are off.
        ids: the training images; index = position in `ids` * number of tiles + tile.
        classes: names of the scored classes, in index order.
        padding: see `padding.py`.
        black: the value of a black pixel, beyond the border of an image.
    """

    def __init__(
        self,
        store: Store,
        ids: Sequence[str],
        augmentation: Augmentation,
        seed: int,
        classes: Sequence[str],
        padding: Policy = "reflect",
        black: float = BLACK,
        sizes: Sizes = ANY_SIZE,
    ):
        self.store, self.augmentation, self.seed, self.black = store, augmentation, seed, black
        self.sizes = sizes
        self.num_classes, self.pixel_bytes = len(classes), _pixel_bytes(store, store.planes)
        self.padding_values = padding_values(padding, self.num_classes, black)
        self.positions = tile_positions(store, ids, augmentation)
        _, self.first, self.image_of = np.unique(
            [position.image_id for position in self.positions], return_index=True, return_inverse=True
        )
        self.num_tiles = np.bincount(self.image_of)
        self.chain = color_chain(augmentation.color)
        pasted = augmentation.copy_paste.classes
        self.paste_classes = [classes.index(name) for name in (classes if pasted == "all" else pasted)]
        needs_presence = augmentation.copy_paste.enable and augmentation.copy_paste.variant == "occurrence"
        self.presence = self.class_presence() if needs_presence else None
        # In shared memory, so that workers which live through all epochs see each new validation Dice.
        self.class_scores = torch.full((self.num_classes,), torch.nan).share_memory_()

    def __len__(self) -> int:
        return len(self.positions)

    def set_class_scores(self, dice: Sequence[float]) -> None:
        """Gives the `weighted` copy-paste the last validation Dice; call it before an epoch's loading begins."""
        self.class_scores.copy_(torch.as_tensor(dice))

    def class_presence(self) -> np.ndarray:
        """Returns which classes each sample shows before augmentation: bool, samples x classes."""
        labels = ((self.store.label(image_id, scale), box) for image_id, scale, box in self.positions)
        masks = (cut_label(label, UNCHANGED, box, IGNORE) for label, box in labels)
        return np.array([copy_paste.count_classes(mask)[: self.num_classes] > 0 for mask in masks])

    def describe(self, key: SampleKey) -> str:
        """Returns image and tile of a sample, e.g. `000001_001 640x352+320+0 of 1280x720, epoch 3`."""
        image_id, scale, box = self.positions[key.index]
        entry = self.store.entry(image_id, scale)
        of_scale = f" of {entry.width}x{entry.height}" if scale else ""
        return f"{image_id} {box.width}x{box.height}+{box.x}+{box.y}{of_scale}, epoch {key.epoch}"

    def __getitem__(self, key: SampleKey | tuple[int, int]) -> tuple[np.ndarray, np.ndarray, SampleKey]:
        key = SampleKey(*key)
        image, mask = self.sample(key)
        frame, (image_value, mask_value) = self.frame(key.index), self.padding_values
        return pad(image, frame, image_value), pad(mask, frame, mask_value), key

    def frame(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of a padded sample."""
        box = self.positions[index].box
        return self.sizes.padded(box.height, box.width)

    def sample(self, key: SampleKey) -> tuple[np.ndarray, np.ndarray]:
        """Returns a sample before padding."""
        position = self.positions[key.index]
        stored, stored_mask = self.store.image(*position[:2]), self.store.label(*position[:2])
        if not key.augment:
            return cut_image(stored, UNCHANGED, position.box), cut_label(stored_mask, UNCHANGED, position.box, IGNORE)
        geometry = draw_geometry(self.augmentation, self._rng(key, GEOMETRY))
        image = cut_image(stored, geometry, position.box, self.black)
        mask = cut_label(stored_mask, geometry, position.box, IGNORE)
        rules = self.augmentation.copy_paste
        if rules.enable:
            rng = self._rng(key, PASTING)
            if rng.random() < rules.probability:
                self._paste(key, image, mask, rng)
        rng = self._rng(key, COLOR)
        image = apply_color(self.chain, image, rng)
        return apply_noise(self.augmentation.gaussian_noise, image, rng), mask

    def _rng(self, key: SampleKey, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, key.epoch, key.index, key.repeat, stream))

    def _paste(self, key: SampleKey, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
        rules, allowed, areas = self.augmentation.copy_paste, self.paste_classes, None
        if rules.variant == "occurrence":
            areas = copy_paste.count_classes(mask)
            allowed = tuple(index for index in allowed if areas[index] > 0)
        source_index = self._draw_source(key.index, allowed, rng)
        if source_index is None:
            return
        source = self.positions[source_index]
        geometry = draw_geometry(self.augmentation, rng)
        source_box, frame = copy_paste.overlap(source.box, mask.shape[:2], rng)
        source_mask = cut_label(self.store.label(*source[:2]), geometry, source_box, IGNORE)
        if source_mask.shape != mask.shape:
            inside, source_mask = source_mask, np.full_like(mask, IGNORE)
            source_mask[frame.y : frame.y + frame.height, frame.x : frame.x + frame.width] = inside
        is_weighted = rules.variant == "weighted"
        weights = copy_paste.dice_weights(self.class_scores.numpy(), key.epoch, rules.delay) if is_weighted else None
        chosen = copy_paste.choose_classes(
            copy_paste.count_classes(source_mask),
            allowed,
            rules.max_classes,
            rules.max_rel_area * mask.shape[0] * mask.shape[1],
            rng,
            weights,
        )
        if areas is not None:
            chosen = copy_paste.keep_occurrence(chosen, mask, source_mask, areas)

        def read_source(box: Box) -> np.ndarray:
            moved = Box(box.x - frame.x + source_box.x, box.y - frame.y + source_box.y, box.width, box.height)
            return cut_image(self.store.image(*source[:2]), geometry, moved, self.black)

        copy_paste.paste(image, mask, source_mask, chosen, read_source, frame)

    def _draw_source(self, index: int, allowed: Sequence[int], rng: np.random.Generator) -> int | None:
        """Returns a tile of another image; for `occurrence` one that shows a class which the sample shows too."""
        own_image = self.image_of[index]
        if self.presence is not None:
            if not allowed:
                return None
            shows = np.flatnonzero(self.presence[:, rng.choice(allowed)])
            others = shows[self.image_of[shows] != own_image]
            return int(rng.choice(others)) if len(others) else None
        num_others = len(self.positions) - int(self.num_tiles[own_image])
        if num_others == 0:
            return None
        draw = int(rng.integers(num_others))
        return draw if draw < self.first[own_image] else draw + int(self.num_tiles[own_image])


ValidItem = tuple[np.ndarray, np.ndarray | None, Frame]  # a padded image, its mask, and where in them it is


class Masks(Protocol):
    """The masks of images by their catalog rows: uint8 (H, W), of a whole image or of a box of a large one.

    Or planes, (H, W, `planes`).
    """

    planes: int | None

    def read(self, row: Any) -> np.ndarray: ...

    def window(self, row: Any, box: Box) -> np.ndarray: ...


class ValidDataset(torch.utils.data.Dataset):
    """Whole images decoded from their files and padded; for validation, and for test images, which have no mask.

    An image that is read by region comes as windows, row by row, left to right. Padded mask pixels are 255 whatever the
    policy, because validation counts unpadded pixels only, and so are those that a window shows beyond its core.

    Args:
        rows: catalog rows (id, image, width, height, and mask for validation) in the order wanted.
        images: the images; those that `is_large` come as windows.
        masks: the masks, `MaskSource` or what reads them likewise.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        images: ImageSource,
        masks: Masks,
        padding: Policy = "reflect",
        sizes: Sizes = ANY_SIZE,
    ):
        self.images, self.masks, self.padding, self.black = images, masks, padding, black_of(images.facts)
        self.sizes = sizes
        self.pixel_bytes = _pixel_bytes(images, masks.planes)
        self.rows = list(rows.reindex(columns=["id", "image", "mask", "width", "height"]).itertuples(index=False))
        self.items = [(row, part) for row in self.rows for part in self._parts(int(row.height), int(row.width))]

    def _parts(self, height: int, width: int) -> Iterator[Part | None]:
        if not self.images.is_large(height, width):
            yield None
            return
        for top, own_height, core_top, core_height in cover(height, WINDOW, WINDOW_OVERLAP):
            for left, own_width, core_left, core_width in cover(width, WINDOW, WINDOW_OVERLAP):
                core = (core_top, core_left, core_height, core_width)
                yield Part((height, width), (top, left, own_height, own_width), core)

    def __len__(self) -> int:
        return len(self.items)

    def image_id(self, index: int) -> str:
        return self.items[index][0].id

    def frame(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of a padded image or window, from the catalog."""
        row, part = self.items[index]
        return self.sizes.padded(*(part.window[2:] if part else (int(row.height), int(row.width))))

    def group(self, index: int) -> tuple:
        """Returns what items of a batch have in common."""
        row, part = self.items[index]
        return self.frame(index), self.has_labels(index), row.id if part else None

    def has_labels(self, index: int) -> bool:
        return isinstance(self.items[index][0].mask, str)

    def keep(self, indices: Sequence[int]) -> None:
        """Leaves all other items out."""
        self.items = [self.items[index] for index in indices]

    def class_presence(self) -> np.ndarray:
        """Returns which classes each item shows, a window in its core: bool, items x 255."""
        masks = (self._mask(*item) for item in self.items)
        return np.array([copy_paste.count_classes(mask)[:IGNORE] > 0 for mask in masks])

    def __getitem__(self, index: int) -> ValidItem:
        row, part = self.items[index]
        image = self.images.window(row.image, _box(part.window)) if part else self.images.read(row.image)
        mask = self._mask(row, part) if self.has_labels(index) else None
        size = image.shape[:2]
        wanted = part.window[2:] if part else (row.height, row.width)
        if size != wanted or (mask is not None and mask.shape[:2] != size):
            raise UserError(
                f"{row.image}: the size is not what the catalog says; the files changed, run `prepare` again."
            )
        frame = self.frame(index)
        mask = None if mask is None else pad(mask, frame, IGNORE)
        image = pad(image, frame, None if self.padding == "reflect" else self.black)
        return image, mask, Frame(row.id, offset_in(frame, size), size, part)

    def _mask(self, row: Any, part: Part | None) -> np.ndarray:
        if part is None:
            return self.masks.read(row)
        window, core = _box(part.window), _box(part.core)
        own = self.masks.window(row, core)
        mask = np.full((*part.window[2:], *own.shape[2:]), IGNORE, np.uint8)
        top, left = core.y - window.y, core.x - window.x
        mask[top : top + core.height, left : left + core.width] = own
        return mask


def _box(rectangle: tuple[int, int, int, int]) -> Box:
    top, left, height, width = rectangle
    return Box(left, top, width, height)


def collate_train(samples: list[tuple[np.ndarray, np.ndarray, SampleKey]]) -> Batch:
    """Returns a batch of training samples; where sizes differ, the smaller ones get a frame of ignored pixels.

    The frame is black, of other images than 8-bit ones as dark as their darkest pixel.
    """
    images, masks, keys = zip(*samples, strict=True)
    if len({mask.shape for mask in masks}) > 1:
        frame = tuple(np.max([mask.shape[:2] for mask in masks], axis=0))
        black = [BLACK if image.dtype == np.uint8 else image.min() for image in images]
        images = [pad(image, frame, value) for image, value in zip(images, black, strict=True)]
        masks = [pad(mask, frame, IGNORE) for mask in masks]
    return Batch(_stack(images), _stack(masks), list(keys))


def collate_valid(items: list[ValidItem]) -> Batch:
    """Returns a batch of whole images of one padded size, with masks or without."""
    images, masks, frames = zip(*items, strict=True)
    return Batch(_stack(images), None if masks[0] is None else _stack(masks), list(frames))


def _pixel_bytes(images: Store | ImageSource, planes: int | None) -> int:
    """Returns what a pixel takes in a batch, with its label; see `_stack`."""
    return images.channels * (1 if images.dtype == np.uint8 else 4) + (planes or 1)


def _stack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Returns arrays as one tensor: uint8, or float32 of other number formats, with which torch can do little."""
    stacked = np.stack(arrays)
    return torch.from_numpy(stacked if stacked.dtype == np.uint8 else stacked.astype(np.float32))
