"""Labelled and pseudo-labelled samples as one dataset: the labelled ones first, then the others.

Each kind is a `TrainDataset` of its own, with the same tiles and augmentation. Pieces that mosaic, CutMix, ClassMix and
copy-paste bring come from the sample's own kind, so labelled samples are what they are without pseudo-labels, and the
share of pseudo-labels is what PSEUDO.SHARE says. MixUp blends whatever is in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from pipeline.config.augmentation import Augmentation
from pipeline.data.loaders import SampleKey
from pipeline.segmentation.train_samples import TrainDataset

PSEUDO_SEED = 2**24  # added to the run's seed, and beyond every EXPERIMENT.SEED: random streams of their own


@dataclass(frozen=True)
class PseudoDataset(Dataset):
    """Samples of both kinds; `dataset[SampleKey(...)]` is as of `TrainDataset`.

    A mask of a labelled sample is an index mask; one of a pseudo-labelled sample is so too, or planes where labels are
    soft. `collate_train` makes them alike.
    """

    labelled: TrainDataset
    pseudo: TrainDataset

    def __len__(self) -> int:
        return len(self.labelled) + len(self.pseudo)

    @property
    def is_by_batch(self) -> bool:
        """Whether a sample depends on the others of its batch: soft labels make planes of all its masks."""
        return self.labelled.is_by_batch or self.labelled.store.planes != self.pseudo.store.planes

    @property
    def augmentation(self) -> Augmentation:
        return self.labelled.augmentation

    @property
    def store(self):  # of the plots of tiles, which show a labelled image
        return self.labelled.store

    @property
    def pixel_bytes(self) -> int:
        """What a pixel takes in a batch, with its label."""
        return max(self.labelled.pixel_bytes, self.pseudo.pixel_bytes)

    def with_augmentation(self, augmentation: Augmentation) -> PseudoDataset:
        """Returns the samples of the same images and seed with another augmentation of the same tiles."""
        return PseudoDataset(*(part.with_augmentation(augmentation) for part in (self.labelled, self.pseudo)))

    def set_class_scores(self, dice: Sequence[float]) -> None:
        """Gives the `weighted` copy-paste the last validation Dice; call it before an epoch's loading begins."""
        self.labelled.set_class_scores(dice)
        self.pseudo.set_class_scores(dice)

    def class_presence(self) -> np.ndarray:
        """Returns which classes each sample shows before augmentation: bool, samples x classes."""
        return np.concatenate([self.labelled.class_presence(), self.pseudo.class_presence()])

    def describe(self, key: SampleKey) -> str:
        """Returns image and tile of a sample, and whether it is pseudo-labelled."""
        part, own = self._own(SampleKey(*key))
        return f"{part.describe(own)}{' (pseudo-labelled)' if part is self.pseudo else ''}"

    def image_id(self, index: int) -> str:
        """Returns the image of a sample."""
        part, key = self._own(SampleKey(1, index))
        return part.image_id(key.index)

    def frames(self) -> np.ndarray:
        """Returns (height, width) of every padded sample: int64 (samples, 2)."""
        return np.concatenate([self.labelled.frames(), self.pseudo.frames()])

    def __getitem__(self, key: SampleKey | tuple[int, int]) -> tuple[np.ndarray, np.ndarray, SampleKey]:
        key = SampleKey(*key)
        part, own = self._own(key)
        image, mask, _ = part[own]
        return image, mask, key

    def __getitems__(self, keys: Sequence[SampleKey]) -> list[tuple]:
        """Returns the samples of a batch; where MixUp blends them, with `Blended` masks."""
        return self.labelled.mixed([self[key] for key in keys], SampleKey(*keys[0]))

    def _own(self, key: SampleKey) -> tuple[TrainDataset, SampleKey]:
        """Returns the dataset of a sample, and its key there."""
        num_labelled = len(self.labelled)
        if key.index < num_labelled:
            return self.labelled, key
        return self.pseudo, key._replace(index=key.index - num_labelled)
