"""What single options of the augmentation do, for the contact sheet of a run's samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from pipeline.config.augmentation import Random
from pipeline.data.loaders import SampleKey
from pipeline.segmentation.mixing import Blended
from pipeline.segmentation.train_samples import TrainDataset

CUTS = ("tile", "random_crop")  # which decide what is cut out, whatever else is on
SHOWN_ALONE = (
    *("vertical_flip", "quarter_turn", "random_crop", "mosaic", "cut_mix", "class_mix", "elastic", "grid_distortion"),
    *("optical_distortion", "gamma", "blur", "sharpen", "coarse_dropout", "mix_up"),
)


def each_alone(dataset: TrainDataset, keys: Sequence[SampleKey]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields config key, image and mask of every option of `SHOWN_ALONE` that is on, applied without the others.

    It is applied whatever its share of samples is. Of images that MixUp blends, the mask that weighs more is shown.

    Args:
        keys: of the sample that is drawn, and of a second one to be blended with.
    """
    rules = dataset.augmentation
    for name in SHOWN_ALONE:
        own = getattr(rules, name)
        if own.enable:
            chosen = {name: replace(own, probability=1.0) if isinstance(own, Random) else own}
            off = {other: replace(kind, enable=False) for other, kind in vars(rules).items() if other not in CUTS}
            image, mask, _ = dataset.with_augmentation(replace(rules, **off | chosen)).__getitems__(keys)[0]
            yield name.upper(), image, mask.first if isinstance(mask, Blended) else mask
