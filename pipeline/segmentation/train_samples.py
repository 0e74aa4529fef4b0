"""The training samples of a run: augmented tiles, random crops or whole images, alone or made of several.

Every random choice of a sample comes from (seed, epoch, index, repeat) and nothing else, and of a batch from those of
its first sample, so that samples do not depend on workers, on what was loaded before, or on having been stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from pipeline.config.augmentation import Augmentation
from pipeline.config.competition import IGNORE
from pipeline.data.augment import (
    UNCHANGED,
    Geometry,
    apply_color,
    apply_noise,
    color_chain,
    cut_image,
    cut_label,
    draw_geometry,
)
from pipeline.data.distort import apply_distortions, distortions
from pipeline.data.filters import apply_dropout, apply_filters, drawn, filters
from pipeline.data.loaders import SampleKey
from pipeline.data.padding import ANY_SIZE, BLACK, Policy, Sizes, pad, padding_values
from pipeline.data.positions import describe_tile, placed, sample_frame, sample_frames, tile_positions
from pipeline.data.store import Store
from pipeline.data.streams import CLASS_MIX, COLOR, CROP, CUT_MIX, GEOMETRY, MIX_UP, MOSAIC, PASTING
from pipeline.data.tiles import Box
from pipeline.data.whole_images import image_bytes, stack
from pipeline.segmentation import copy_paste
from pipeline.segmentation.mixing import (
    Blended,
    MixedMasks,
    Piece,
    apply_cut_mix,
    apply_mosaic,
    half_of_classes,
    mix_up,
)
from pipeline.segmentation.planes import alike
from pipeline.task import Batch

WHITE = 255


class TrainDataset(torch.utils.data.Dataset):
    """Samples of the given images; `dataset[SampleKey(...)]` is (image HxWxC, mask, key).

    A mask is uint8: HxW, or planes HxWxC where a pixel may have several classes. A loader takes whole batches with
    `__getitems__`, since MixUp blends the samples of one.

    Args:
        store: holds the images at all scales of `augmentation.tile`, or at their own size when tiles are off.
        ids: the training images; index = position in `ids` * number of tiles (or of crops) + tile.
        classes: names of the scored classes, in index order.
        padding: see `padding.py`.
        black: the value of a black pixel, beyond the border of an image.
        white: the value of a white one, for images that are not of 8 bits.
        sizes: of frames that the network takes.
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
        white: float = WHITE,
        sizes: Sizes = ANY_SIZE,
    ):
        self._like_this = partial(TrainDataset, store, ids, seed=seed, classes=classes, padding=padding, sizes=sizes)
        self.sizes = sizes
        self.store, self.augmentation, self.seed, self.black, self.white = store, augmentation, seed, black, white
        self.num_classes, self.pixel_bytes = len(classes), image_bytes(store) + (store.planes or 1)
        if augmentation.mix_up.enable:
            self.pixel_bytes += store.planes or 1  # the second mask
        self.padding_values = padding_values(padding, self.num_classes, black)
        self.positions = tile_positions(store, ids, augmentation)
        self.chain = color_chain(augmentation.color)
        self.distortions, self.filters = distortions(augmentation), filters(augmentation)
        pasted = augmentation.copy_paste.classes
        self.paste_classes = [classes.index(name) for name in (classes if pasted == "all" else pasted)]
        needs_presence = augmentation.copy_paste.enable and augmentation.copy_paste.variant == "occurrence"
        self.presence = self.class_presence() if needs_presence else None
        # In shared memory, so that workers which live through all epochs see each new validation Dice.
        self.class_scores = torch.full((self.num_classes,), torch.nan).share_memory_()

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def is_by_batch(self) -> bool:
        """Whether a sample depends on the others of its batch."""
        return self.augmentation.mix_up.enable

    def with_augmentation(self, augmentation: Augmentation) -> TrainDataset:
        """Returns the samples of the same images and seed with another augmentation of the same tiles."""
        return self._like_this(augmentation=augmentation, black=self.black, white=self.white)

    def set_class_scores(self, dice: Sequence[float]) -> None:
        """Gives the `weighted` copy-paste the last validation Dice; call it before an epoch's loading begins."""
        self.class_scores.copy_(torch.as_tensor(dice))

    def class_presence(self) -> np.ndarray:
        """Returns which classes each sample shows before augmentation: bool, samples x classes."""
        labels = ((self.store.label(image_id, scale), box) for image_id, scale, box in self.positions)
        masks = (cut_label(label, UNCHANGED, box, IGNORE) for label, box in labels)
        return np.array([copy_paste.count_classes(mask)[: self.num_classes] > 0 for mask in masks])

    def describe(self, key: SampleKey) -> str:
        """Returns image and tile of a sample, see `describe_tile`."""
        return describe_tile(self.store, self.positions[key.index], key.epoch)

    def __getitem__(self, key: SampleKey | tuple[int, int]) -> tuple[np.ndarray, np.ndarray, SampleKey]:
        key = SampleKey(*key)
        image, mask = self.sample(key)
        frame, (image_value, mask_value) = self.frame(key.index), self.padding_values
        return pad(image, frame, image_value), pad(mask, frame, mask_value), key

    def __getitems__(self, keys: Sequence[SampleKey]) -> list[tuple]:
        """Returns the samples of a batch; where MixUp blends them, with `Blended` masks."""
        return self.mixed([self[key] for key in keys], SampleKey(*keys[0]))

    def mixed(self, samples: list[tuple], first: SampleKey) -> list[tuple]:
        """Returns the samples of a batch, whose first key is given, blended where MixUp does so."""
        if self.augmentation.mix_up.enable and first.augment:
            return mix_up(self.augmentation.mix_up, samples, self._rng(first, MIX_UP))
        return samples

    def frame(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of a padded sample."""
        return sample_frame(self.positions[index].box, self.augmentation.random_crop, self.sizes)

    def frames(self) -> np.ndarray:
        """Returns (height, width) of every padded sample: int64 (samples, 2)."""
        return sample_frames(self.positions, self.augmentation.random_crop, self.sizes)

    def image_id(self, index: int) -> str:
        """Returns the image of a sample."""
        return self.positions[index].image_id

    def sample(self, key: SampleKey) -> tuple[np.ndarray, np.ndarray]:
        """Returns a sample before padding."""
        if not key.augment:
            return self._cut(key.index, *self._placed(key.index, UNCHANGED, self._rng(key, CROP), is_scaled=False))
        rules, rng_of = self.augmentation, partial(self._rng, key)
        geometry = draw_geometry(rules, rng_of(GEOMETRY))
        image, mask = self._cut(key.index, *self._placed(key.index, geometry, rng_of(CROP)))
        if rng := drawn(rules.mosaic, MOSAIC, rng_of):
            apply_mosaic(rules.mosaic, image, mask, partial(self._piece, key.index, rng), rng)
        if rng := drawn(rules.copy_paste, PASTING, rng_of):
            self._paste(key, image, mask, rng)
        if rng := drawn(rules.cut_mix, CUT_MIX, rng_of):
            apply_cut_mix(rules.cut_mix, image, mask, partial(self._piece, key.index, rng), rng)
        if rng := drawn(rules.class_mix, CLASS_MIX, rng_of):
            self._mix_classes(key.index, image, mask, rng)
        beyond = (self.black, IGNORE)
        image, mask = apply_distortions(self.distortions, image, mask, rng_of, geometry.border, beyond)
        rng = rng_of(COLOR)
        image = apply_color(self.chain, image, rng)
        image = apply_filters(self.filters, image, rng_of, self.black, self.white)
        image = apply_noise(rules.gaussian_noise, image, rng)
        apply_dropout(rules.coarse_dropout, image, mask, rng_of, self.black)
        return image, mask

    def _cut(self, index: int, geometry: Geometry, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Returns the pixels of a box of an augmented image, and its mask."""
        image, label = (read(*self.positions[index][:2]) for read in (self.store.image, self.store.label))
        return cut_image(image, geometry, box, self.black), cut_label(label, geometry, box, IGNORE)

    def _placed(
        self, index: int, geometry: Geometry, rng: np.random.Generator, is_scaled: bool = True
    ) -> tuple[Geometry, Box]:
        """Returns the box that is cut, and the geometry, see `placed`."""
        return placed(self.positions[index].box, self.augmentation.random_crop, geometry, rng, is_scaled)

    def _rng(self, key: SampleKey, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, key.epoch, key.index, key.repeat, stream))

    def _paste(self, key: SampleKey, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
        rules, allowed, areas = self.augmentation.copy_paste, self.paste_classes, None
        if rules.variant == "occurrence":
            areas = copy_paste.count_classes(mask)
            allowed = tuple(index for index in allowed if areas[index] > 0)
        source = self._draw_source(key.index, allowed, rng)
        if source is None:
            return
        geometry, box = self._placed(source, draw_geometry(self.augmentation, rng), rng)
        source_box, frame = copy_paste.overlap(box, mask.shape[:2], rng)
        label = self.store.label(*self.positions[source][:2])
        source_mask = framed(cut_label(label, geometry, source_box, IGNORE), frame, mask)
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
            stored = self.store.image(*self.positions[source][:2])
            if geometry.quarter_turns:  # about the centre of the whole part
                whole = cut_image(stored, geometry, source_box, self.black)
                top, left = box.y - frame.y, box.x - frame.x
                return whole[top : top + box.height, left : left + box.width]
            moved = Box(box.x - frame.x + source_box.x, box.y - frame.y + source_box.y, box.width, box.height)
            return cut_image(stored, geometry, moved, self.black)

        copy_paste.paste(image, mask, source_mask, chosen, read_source, frame)

    def _piece(self, index: int, rng: np.random.Generator, size: tuple[int, int]) -> Piece | None:
        """Returns a part of another image, augmented on its own, of (height, width) or what there is of it."""
        source = self.positions.draw_other(index, rng)
        if source is None:
            return None
        geometry, box = self._placed(source, draw_geometry(self.augmentation, rng), rng)
        part, frame = copy_paste.overlap(box, size, rng)
        return Piece(*self._cut(source, geometry, part), frame)

    def _mix_classes(self, index: int, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
        piece = self._piece(index, rng, mask.shape[:2])
        if piece is None:
            return
        frame, classes = piece.frame, half_of_classes(piece.mask, rng)

        def read_source(box: Box) -> np.ndarray:
            top, left = box.y - frame.y, box.x - frame.x
            return piece.image[top : top + box.height, left : left + box.width]

        copy_paste.paste(image, mask, framed(piece.mask, frame, mask), classes, read_source, frame)

    def _draw_source(self, index: int, allowed: Sequence[int], rng: np.random.Generator) -> int | None:
        """Returns a tile of another image; for `occurrence` one that shows a class which the sample shows too."""
        own_image = self.positions.image_of(index)
        if self.presence is not None:
            if not allowed:
                return None
            shows = np.flatnonzero(self.presence[:, rng.choice(allowed)])
            others = shows[self.positions.image_of(shows) != own_image]
            return int(rng.choice(others)) if len(others) else None
        return self.positions.draw_other(index, rng)


def framed(part: np.ndarray, frame: Box, mask: np.ndarray) -> np.ndarray:
    """Returns a part of a mask in an ignored frame of the size of `mask`; what fills it is returned as it is."""
    if part.shape == mask.shape:
        return part
    whole = np.full_like(mask, IGNORE)
    whole[frame.y : frame.y + frame.height, frame.x : frame.x + frame.width] = part
    return whole


def collate_train(samples: list[tuple[np.ndarray, np.ndarray | Blended, SampleKey]]) -> Batch:
    """Returns a batch of training samples; where sizes differ, the smaller ones get a frame of ignored pixels.

    The frame is black, of other images than 8-bit ones as dark as their darkest pixel. A batch that MixUp has blended
    gets `MixedMasks`. Where some masks are soft pseudo-labels, all become planes.
    """
    images, masks, keys = zip(*samples, strict=True)
    if isinstance(masks[0], Blended):
        first, second = (stack(alike([getattr(mask, name) for mask in masks])) for name in ("first", "second"))
        return Batch(stack(images), MixedMasks(first, second, masks[0].share), list(keys))
    masks = alike(masks)
    if len({mask.shape for mask in masks}) > 1:
        frame = tuple(np.max([mask.shape[:2] for mask in masks], axis=0))
        black = [BLACK if image.dtype == np.uint8 else image.min() for image in images]
        images = [pad(image, frame, value) for image, value in zip(images, black, strict=True)]
        masks = [pad(mask, frame, IGNORE) for mask in masks]
    return Batch(stack(images), stack(masks), list(keys))
