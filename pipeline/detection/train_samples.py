"""The training samples of a run with boxes: augmented tiles, random crops or whole images, alone or made of several.

Every random choice of a sample comes from (seed, epoch, index, repeat) and nothing else, so that samples do not depend
on workers, on earlier samples, or on interruptions. Pixels beyond an image are black, never mirrored: a mirrored
object would have no box.

Letters: N boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from pipeline.config.augmentation import Augmentation
from pipeline.data.augment import (
    UNCHANGED,
    Geometry,
    apply_color,
    apply_noise,
    color_chain,
    cut_image,
    draw_geometry,
    part_matrix,
)
from pipeline.data.distort import distortions, drawn_maps, remap_image
from pipeline.data.filters import apply_dropout, apply_filters, drawn, filters
from pipeline.data.loaders import SampleKey
from pipeline.data.padding import ANY_SIZE, Sizes, offset_in, pad
from pipeline.data.positions import describe_tile, placed, sample_frame, sample_frames, tile_positions
from pipeline.data.store import Store
from pipeline.data.streams import COLOR, CROP, GEOMETRY, MIX_UP, MOSAIC, PASTING
from pipeline.data.tiles import Box
from pipeline.data.whole_images import image_bytes, stack
from pipeline.detection.boxes import Boxes, make_boxes
from pipeline.detection.composites import Piece, apply_mosaic, mix_up, paste
from pipeline.detection.geometry import cut, distorted, moved, scaled, shifted
from pipeline.detection.samples import labels_of
from pipeline.task import Batch

WHITE = 255


class BoxDataset(torch.utils.data.Dataset):
    """Samples of the given images; `dataset[SampleKey(...)]` is (image HxWxC, `Boxes`, key).

    Args:
        store: holds the images at all scales of `augmentation.tile`, or at their own size when tiles are off.
        ids: the training images; index = position in `ids` * number of tiles (or of crops) + tile.
        classes: names of the classes, in index order.
        min_visible: a box that is cut or covered is kept if at least this share of it remains.
        black: the value of a black pixel.
        white: the value of a white pixel, which is not 255 in images that are not of 8 bits.
        sizes: of frames that the network takes.
    """

    is_by_batch = False  # whether a sample depends on the others of its batch

    def __init__(
        self,
        store: Store,
        ids: Sequence[str],
        augmentation: Augmentation,
        seed: int,
        classes: Sequence[str],
        min_visible: float,
        black: float = 0,
        white: float = WHITE,
        sizes: Sizes = ANY_SIZE,
    ):
        settings = {"classes": classes, "min_visible": min_visible, "black": black, "white": white, "sizes": sizes}
        self._like_this = partial(BoxDataset, store, ids, seed=seed, **settings)
        self.store, self.augmentation, self.seed, self.sizes = store, augmentation, seed, sizes
        self.min_visible, self.black, self.white = min_visible, black, white
        self.num_classes, self.pixel_bytes = len(classes), image_bytes(store)
        self.positions = tile_positions(store, ids, augmentation)
        self.chain = color_chain(augmentation.color)
        self.distortions, self.filters = distortions(augmentation), filters(augmentation)
        pasted = augmentation.copy_paste.classes
        self.paste_classes = [classes.index(name) for name in (classes if pasted == "all" else pasted)]
        # In shared memory, so that workers which live through all epochs see each new validation score.
        self.class_scores = torch.full((self.num_classes,), torch.nan).share_memory_()

    def __len__(self) -> int:
        return len(self.positions)

    def with_augmentation(self, augmentation: Augmentation) -> BoxDataset:
        """Returns the samples of the same images and seed with another augmentation of the same tiles."""
        return self._like_this(augmentation=augmentation)

    def set_class_scores(self, scores: Sequence[float]) -> None:
        """Sets the validation scores that `weighted` copy-paste uses; call it before loading of an epoch begins."""
        self.class_scores.copy_(torch.as_tensor(scores))

    def class_presence(self) -> np.ndarray:
        """Returns which classes each sample shows, crowds apart, before augmentation: bool, samples x classes."""
        found = (self.boxes(index) for index in range(len(self)))
        learnt = (boxes.classes[~boxes.is_crowd] for boxes in found)
        return np.array([np.bincount(classes_N, minlength=self.num_classes) > 0 for classes_N in learnt])

    def boxes(self, index: int) -> Boxes:
        """Returns the boxes of a tile or whole image before augmentation and padding."""
        return self._boxes(index, UNCHANGED, self.positions[index].box)

    def padded_size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of a tile or whole image with its padding."""
        box = self.positions[index].box
        return self.sizes.padded(box.height, box.width)

    def describe(self, key: SampleKey) -> str:
        """Returns image and tile of a sample, see `describe_tile`."""
        return describe_tile(self.store, self.positions[key.index], key.epoch)

    def __getitem__(self, key: SampleKey | tuple[int, int]) -> tuple[np.ndarray, Boxes, SampleKey]:
        key = SampleKey(*key)
        image, boxes = self.sample(key)
        frame = self.frame(key.index)
        top, left = offset_in(frame, image.shape[:2])
        return pad(image, frame, self.black), boxes._replace(xyxy=shifted(boxes.xyxy, left, top)), key

    def frame(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of a padded sample."""
        return sample_frame(self.positions[index].box, self.augmentation.random_crop, self.sizes)

    def frames(self) -> np.ndarray:
        """Returns (height, width) of every padded sample: int64 (samples, 2)."""
        return sample_frames(self.positions, self.augmentation.random_crop, self.sizes)

    def image_id(self, index: int) -> str:
        """Returns the image of a sample."""
        return self.positions[index].image_id

    def sample(self, key: SampleKey) -> tuple[np.ndarray, Boxes]:
        """Returns a sample before padding."""
        if not key.augment:
            return self._cut(key.index, *self._placed(key.index, UNCHANGED, self._rng(key, CROP), is_scaled=False))
        rules, rng_of = self.augmentation, partial(self._rng, key)
        image, boxes = self._cut(key.index, *self._placed(key.index, self._geometry(rng_of(GEOMETRY)), rng_of(CROP)))
        if rng := drawn(rules.mosaic, MOSAIC, rng_of):
            draw = partial(self._piece, key.index, rng)
            boxes = apply_mosaic(rules.mosaic, image, boxes, draw, rng, self.min_visible)
        if rng := drawn(rules.copy_paste, PASTING, rng_of):
            boxes = self._paste(key, image, boxes, rng)
        if rng := drawn(rules.mix_up, MIX_UP, rng_of):
            boxes = mix_up(image, boxes, partial(self._piece, key.index, rng), rng)
        size = image.shape[:2]
        for maps in drawn_maps(self.distortions, size, rng_of):
            image = remap_image(image, maps, "constant", self.black)
            boxes = cut(boxes._replace(xyxy=distorted(boxes.xyxy, *maps)), size, 0)
        rng = rng_of(COLOR)
        image = apply_color(self.chain, image, rng)
        image = apply_filters(self.filters, image, rng_of, self.black, self.white)
        image = apply_noise(rules.gaussian_noise, image, rng)
        apply_dropout(rules.coarse_dropout, image, image, rng_of, self.black)
        return image, boxes

    def _geometry(self, rng: np.random.Generator) -> Geometry:
        return replace(draw_geometry(self.augmentation, rng), border="constant")

    def _cut(self, index: int, geometry: Geometry, box: Box) -> tuple[np.ndarray, Boxes]:
        """Returns the pixels of a box of an augmented image, and the boxes in it."""
        image = cut_image(self.store.image(*self.positions[index][:2]), geometry, box, self.black)
        return image, self._boxes(index, geometry, box)

    def _boxes(self, index: int, geometry: Geometry, box: Box) -> Boxes:
        image_id, scale, _ = self.positions[index]
        entry, values = self.store.entry(image_id, scale), self.store.values(image_id)
        size = (entry.height, entry.width)
        boxes = make_boxes(values["xyxy"], values["classes"], values["is_crowd"])
        own_N4 = scaled(boxes.xyxy, tuple(values["size"]), size)
        boxes = boxes._replace(xyxy=moved(own_N4, part_matrix(size, geometry, box)))
        return cut(boxes, (box.height, box.width), self.min_visible)

    def _placed(
        self, index: int, geometry: Geometry, rng: np.random.Generator, is_scaled: bool = True
    ) -> tuple[Geometry, Box]:
        """Returns the box that is cut, and the geometry, see `placed`."""
        geometry = replace(geometry, border="constant")
        return placed(self.positions[index].box, self.augmentation.random_crop, geometry, rng, is_scaled)

    def _rng(self, key: SampleKey, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, key.epoch, key.index, key.repeat, stream))

    def _paste(self, key: SampleKey, image: np.ndarray, boxes: Boxes, rng: np.random.Generator) -> Boxes:
        rules = self.augmentation.copy_paste
        piece = self._piece(key.index, rng, image.shape[:2])
        if piece is None:
            return boxes
        is_weighted = rules.variant == "weighted" and key.epoch > rules.delay
        scores_C = self.class_scores.numpy() if is_weighted else None
        return paste(rules, image, boxes, piece, self.paste_classes, rng, self.min_visible, scores_C)

    def _piece(self, index: int, rng: np.random.Generator, size: tuple[int, int]) -> Piece | None:
        """Returns a part of another image, augmented on its own, of (height, width) or smaller."""
        source = self.positions.draw_other(index, rng)
        if source is None:
            return None
        geometry, box = self._placed(source, self._geometry(rng), rng)
        height, width = (min(own, wanted) for own, wanted in zip((box.height, box.width), size, strict=True))
        x, y = (box.x + int(rng.integers(box.width - width + 1)), box.y + int(rng.integers(box.height - height + 1)))
        return Piece(*self._cut(source, geometry, Box(x, y, width, height)))


def collate_train(samples: list[tuple[np.ndarray, Boxes, SampleKey]]) -> Batch:
    """Returns a batch of training samples; where sizes differ, the smaller ones are padded with black."""
    images, boxes, keys = zip(*samples, strict=True)
    frame = tuple(np.max([image.shape[:2] for image in images], axis=0).tolist())
    framed = []
    for image, own in zip(images, boxes, strict=True):
        top, left = offset_in(frame, image.shape[:2])
        framed.append(own._replace(xyxy=shifted(own.xyxy, left, top)))
    images = [pad(image, frame, 0 if image.dtype == np.uint8 else float(image.min())) for image in images]
    return Batch(stack(images), labels_of(framed, frame), list(keys))
