"""The samples of a run: augmented tiles for training, whole padded images for validation and prediction.

Every random choice of a training sample comes from (seed, epoch, index, repeat) and nothing else, so that samples do
not depend on workers, on what was loaded before, or on having been stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from pipeline.config.competition import IGNORE
from pipeline.config.schema import Augmentation
from pipeline.data.augment import UNCHANGED, apply_color, apply_noise, color_chain, cut_image, cut_label, draw_geometry
from pipeline.data.loaders import COLOR, GEOMETRY, PASTING, SampleKey
from pipeline.data.store import Store
from pipeline.data.tiles import Box, Scale, tile_windows
from pipeline.errors import UserError
from pipeline.paths import SPLIT
from pipeline.segmentation import copy_paste
from pipeline.segmentation.padding import BLACK, Policy, offset_in, pad, padded_size, padding_values
from pipeline.task import Batch, Frame


class TilePosition(NamedTuple):
    """One tile of one image in the store; without tiles the whole image."""

    image_id: str
    scale: Scale | None
    box: Box


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
    ):
        self.store, self.augmentation, self.seed, self.black = store, augmentation, seed, black
        self.num_classes = len(classes)
        self.padding_values = padding_values(padding, self.num_classes, black)
        self.positions = tile_positions(store, ids, augmentation)
        self.num_tiles = len(self.positions) // len(ids)
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
        of_scale = f" of {scale[0]}x{scale[1]}" if scale else ""
        return f"{image_id} {box.width}x{box.height}+{box.x}+{box.y}{of_scale}, epoch {key.epoch}"

    def __getitem__(self, key: SampleKey | tuple[int, int]) -> tuple[np.ndarray, np.ndarray, SampleKey]:
        key = SampleKey(*key)
        image, mask = self.sample(key)
        frame, (image_value, mask_value) = self.frame(key.index), self.padding_values
        return pad(image, frame, image_value), pad(mask, frame, mask_value), key

    def frame(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of a padded sample."""
        box = self.positions[index].box
        return padded_size(box.height, box.width)

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
        own_image = index // self.num_tiles
        if self.presence is not None:
            if not allowed:
                return None
            shows = np.flatnonzero(self.presence[:, rng.choice(allowed)])
            others = shows[shows // self.num_tiles != own_image]
            return int(rng.choice(others)) if len(others) else None
        num_others = len(self.positions) - self.num_tiles
        if num_others == 0:
            return None
        draw = int(rng.integers(num_others))
        return draw if draw < own_image * self.num_tiles else draw + self.num_tiles


def tile_positions(store: Store, ids: Sequence[str], augmentation: Augmentation) -> list[TilePosition]:
    """Returns every tile of every image, image by image.

    Raises:
        UserError: no images at all, or impossible `TILE.SETS`.
    """
    if not ids:
        raise UserError(f"the split leaves no image to train on; see {SPLIT} and DATASETS.SPLIT_INDEX")
    tile = augmentation.tile
    if not tile.enable:
        entries = [(image_id, store.entry(image_id)) for image_id in ids]
        return [TilePosition(image_id, None, Box(0, 0, entry.width, entry.height)) for image_id, entry in entries]
    windows = tile_windows(tile.sets, tile.width, tile.height)
    return [TilePosition(image_id, scale, box) for image_id in ids for scale, box in windows]


ValidItem = tuple[np.ndarray, np.ndarray | None, Frame]  # a padded image, its mask, and where in them it is


class ValidDataset(torch.utils.data.Dataset):
    """Whole images decoded from their files and padded; for validation, and for test images, which have no mask.

    Padded mask pixels are 255 whatever the policy, because validation counts unpadded pixels only.

    Args:
        rows: catalog rows (id, image, width, height, and mask for validation) in the order wanted.
        read_image: a cell of the catalog to its image, HxWxC.
        read_mask: a row to its mask, uint8 HxW or HxWxC.
        black: the value of a black pixel, with which images are padded where they are not mirrored.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        read_image: Callable[[str], np.ndarray],
        read_mask: Callable[[Any], np.ndarray],
        padding: Policy = "reflect",
        black: float = BLACK,
    ):
        self.read_image, self.read_mask, self.padding, self.black = read_image, read_mask, padding, black
        self.rows = list(rows.reindex(columns=["id", "image", "mask", "width", "height"]).itertuples(index=False))

    def __len__(self) -> int:
        return len(self.rows)

    def frame(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of a padded image, from the catalog."""
        row = self.rows[index]
        return padded_size(int(row.height), int(row.width))

    def has_labels(self, index: int) -> bool:
        return isinstance(self.rows[index].mask, str)

    def __getitem__(self, index: int) -> ValidItem:
        row = self.rows[index]
        image = self.read_image(row.image)
        mask = self.read_mask(row) if self.has_labels(index) else None
        size = image.shape[:2]
        if size != (row.height, row.width) or (mask is not None and mask.shape[:2] != size):
            raise UserError(
                f"{row.image}: the size is not what the catalog says; the files changed, run `prepare` again."
            )
        frame = self.frame(index)
        mask = None if mask is None else pad(mask, frame, IGNORE)
        image = pad(image, frame, None if self.padding == "reflect" else self.black)
        return image, mask, Frame(row.id, offset_in(frame, size), size)


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


def _stack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Returns arrays as one tensor: uint8, or float32 of other number formats, with which torch can do little."""
    stacked = np.stack(arrays)
    return torch.from_numpy(stacked if stacked.dtype == np.uint8 else stacked.astype(np.float32))
