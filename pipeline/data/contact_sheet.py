"""The samples and captions of a run's contact sheet, for labels of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from pipeline.config.augmentation import Augmentation, Random
from pipeline.data.image_source import to_rgb
from pipeline.data.loaders import SampleKey

CUTS = ("tile", "random_crop")  # these choose the part of the image; they stay on
SHOWN_ALONE = (
    *("vertical_flip", "quarter_turn", "random_crop", "mosaic", "cut_mix", "class_mix", "elastic", "grid_distortion"),
    *("optical_distortion", "gamma", "blur", "sharpen", "coarse_dropout", "mix_up"),
)


class Sheet(NamedTuple):
    """Samples (RGB image, label), a caption for each, and the title of the sheet without how labels are shown."""

    samples: list[tuple[np.ndarray, Any]]
    captions: list[str]
    title: str


def sheet_of(dataset: Any, facts: Mapping[str, Any], number: int) -> Sheet:
    """Returns `number` augmented samples of the first epoch, evenly spread, then one with each single option.

    Args:
        dataset: of a task's `train_data`; it has `with_augmentation(augmentation)`.
        facts: of the images, for `to_rgb`.
    """
    step = max(1, len(dataset) // number)
    indices = list(range(0, len(dataset), step))[:number]
    kinds = (getattr(dataset.augmentation, own.name) for own in fields(Augmentation) if own.name != "tile")
    what = "augmented samples" if any(kind.enable for kind in kinds) else "samples"
    keys = [SampleKey(1, index) for index in indices]
    samples = [(to_rgb(image, facts), label) for image, label, _ in map(dataset.__getitem__, keys)]
    captions = [dataset.image_id(index) for index in indices]
    for name, image, label in each_alone(dataset, keys[:2]):
        samples.append((to_rgb(image, facts), label))
        captions.append(name)
    return Sheet(samples, captions, f"Training input: {what} of the first epoch")


def each_alone(dataset: Any, keys: Sequence[SampleKey]) -> Iterator[tuple[str, np.ndarray, Any]]:
    """Yields config key, image and label of every option of `SHOWN_ALONE` that is on, applied without the others.

    The option is applied to each sample, whatever its PROBABILITY.

    Args:
        keys: of the sample that is drawn, and of a second one to be blended with.
    """
    rules = dataset.augmentation
    for name in SHOWN_ALONE:
        own = getattr(rules, name)
        if own.enable:
            chosen = {name: replace(own, probability=1.0) if isinstance(own, Random) else own}
            off = {other: replace(kind, enable=False) for other, kind in vars(rules).items() if other not in CUTS}
            alone = dataset.with_augmentation(replace(rules, **off | chosen))
            # Loads both as torch loads a batch: a sample may depend on the others in its batch.
            load = getattr(alone, "__getitems__", lambda keys, alone=alone: [alone[keys[0]]])
            image, label, _ = load(keys)[0]
            yield name.upper(), image, label
