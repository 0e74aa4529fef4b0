"""Settings fitted on out-of-fold images, and adopted only where they gain on sequences that they were not fitted on.

In: images with their sequences, ways to fit a setting on some of them, and what a setting changes in an image's score.
Out: of each way the setting fitted on all images, and its gain on held-out sequences.

Whole sequences are assigned to folds. Each image is scored with the setting fitted without its fold; a setting is
adopted where the lower bound of the mean gain is above 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np

from pipeline.intervals import LEAST_SEQUENCES, MAX_FOLDS, Interval, assign_folds, group_numbers
from pipeline.verdicts import held_out_gain

Image = TypeVar("Image")  # a dataclass of image_id, sequence and arrays
Key = TypeVar("Key")
Setting = TypeVar("Setting")
Adopted = TypeVar("Adopted")


@dataclass(frozen=True)
class Trial(Generic[Setting]):
    """What came of one way to fit.

    Attributes:
        setting: fitted on all images.
        held_out: by image id, the setting fitted without the image's fold; None where nothing gained.
        gain: what `held_out` changes in the score; widened for the number of candidates.
        verdict: on the gain, in words; "better" where the setting is adopted.
        in_sample: what `setting` changes, on the images that it was fitted on.
    """

    setting: Setting
    held_out: Mapping[str, Setting | None]
    gain: Interval
    verdict: str
    in_sample: float


@dataclass(frozen=True)
class Trials(Generic[Key, Setting]):
    """The ways to fit that gain on their own images; `groups` has the sequence of each image."""

    by_key: Mapping[Key, Trial[Setting]]
    groups: np.ndarray

    @property
    def adopted(self) -> dict[Key, Trial[Setting]]:
        """Returns those that gain on held-out sequences beyond noise."""
        return {key: trial for key, trial in self.by_key.items() if trial.gain.low > 0}

    @property
    def survived(self) -> float | None:
        """Returns the share of the gain in sample that is left on held-out sequences; None without any gain."""
        total = sum(trial.in_sample for trial in self.by_key.values())
        return sum(trial.gain.mean for trial in self.by_key.values()) / total if total > 0 else None

    def facts(self, name_of: Callable[[Key], str] = str) -> dict[str, Any]:
        """Returns gain, verdict and gain in sample by name, for a JSON file."""
        return {
            "gains": {name_of(key): vars(trial.gain) for key, trial in self.by_key.items()},
            "verdicts": {name_of(key): trial.verdict for key, trial in self.by_key.items()},
            "in_sample": {name_of(key): trial.in_sample for key, trial in self.by_key.items()},
        }

    def words(self, unchanged: str, changed: str, label: str, describe: Callable[[Key, Setting], str]) -> list[str]:
        """Returns one line on the decision, then one per way to fit.

        Args:
            unchanged: how it reads that nothing is adopted; the reason follows.
            changed: how it reads otherwise.
            label: of the score.
            describe: from a key and its setting to words.
        """
        num_sequences = len(np.unique(self.groups))
        if num_sequences < LEAST_SEQUENCES:
            return [f"{unchanged}: fitting needs {LEAST_SEQUENCES} sequences or more, found {num_sequences}"]
        if not self.by_key:
            return [f"{unchanged}: no setting improves the score, even on the images it was fitted on"]
        decision = changed if self.adopted else f"{unchanged}: no gain on held-out sequences exceeds noise"
        lines = [
            f"  {describe(key, own.setting)}; {label} {own.gain} on held-out sequences: {own.verdict}; "
            f"{own.in_sample:+.4f} in sample"
            for key, own in self.by_key.items()
        ]
        return [decision, *lines]


@dataclass(frozen=True)
class Fitted(Generic[Key, Setting, Adopted]):
    """What came of fitting: what is adopted, the trials behind it, and the decision and each trial in words."""

    adopted: Adopted
    trials: Trials[Key, Setting]
    words: list[str]


def try_settings(
    images: Sequence[Image],
    fits: Mapping[Key, Callable[[Sequence[Image]], Setting | None]],
    gain: Callable[[Image, Setting], float],
    num_compared: int = 1,
) -> Trials[Key, Setting]:
    """Fits each setting on all images and without each fold, and measures it on the held-out ones.

    Args:
        fits: from images to a setting, or None where none gains on them.
        gain: what a setting changes in the score of an image.
        num_compared: from how many candidates the adopted ones are chosen; intervals widen with it (Bonferroni).
    """
    groups = group_numbers([image.image_id for image in images], [image.sequence for image in images])
    num_sequences, trials = len(np.unique(groups)), {}
    if num_sequences < LEAST_SEQUENCES:
        return Trials(trials, groups)
    folds = assign_folds(groups, min(MAX_FOLDS, num_sequences)).tolist()
    others_of = {fold: [image for image, own in zip(images, folds, strict=True) if own != fold] for fold in set(folds)}
    for key, fit in fits.items():
        setting = fit(images)
        if setting is None:
            continue
        without = {fold: fit(others) for fold, others in others_of.items()}
        held_out = {image.image_id: without[fold] for image, fold in zip(images, folds, strict=True)}
        pairs = [(image, held_out[image.image_id]) for image in images]
        gains = np.array([0.0 if own is None else gain(image, own) for image, own in pairs])
        in_sample = float(np.mean([gain(image, setting) for image in images]))
        trials[key] = Trial(setting, held_out, *held_out_gain(gains, groups, num_compared), in_sample)
    return Trials(trials, groups)


def arrays_of(image: Any) -> dict[str, np.ndarray]:
    """Returns all fields but id and sequence as arrays, to be stored."""
    return {field.name: np.asarray(getattr(image, field.name)) for field in fields(image)[2:]}


def image_from(kind: type[Image], image_id: str, sequence: str, arrays: Mapping[str, np.ndarray]) -> Image:
    """Returns the image whose fields `arrays_of` returned; other arrays are left aside."""
    return kind(image_id, sequence, **{field.name: arrays[field.name] for field in fields(kind)[2:]})
