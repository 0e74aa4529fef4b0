"""The type and range of every key below DATASETS.AUGMENTATION. Defaults and meanings are in `configs/base.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pipeline.config.plain_yaml import Range
from pipeline.config.ranges import ClassNames, Count, CountOrZero, NotNegative, Positive, Share

SizeFactor = Annotated[float, Range(above=0, most=4)]
TileOverlap = Annotated[float, Range(least=0, most=0.9)]
Side = Annotated[float, Range(above=0, most=1)]  # of something inside a sample, as a share of the sample's


@dataclass(frozen=True)
class Random:
    enable: bool
    probability: Share


@dataclass(frozen=True)
class ShiftScaleRotate(Random):
    shift_limit: Share
    scale_limit: Annotated[float, Range(least=0, most=0.9)]
    rotate_limit: Annotated[float, Range(least=0, most=180)]
    border: Literal["reflect_101", "constant"]


@dataclass(frozen=True)
class Tile:
    enable: bool
    width: Count
    height: Count
    sets: tuple[tuple[Count, Count, Count, Count] | tuple[SizeFactor, TileOverlap], ...]
    min_visible: Share = 0.3


@dataclass(frozen=True)
class CopyPaste(Random):
    max_rel_area: Share
    max_classes: Count
    classes: ClassNames
    variant: Literal["random", "weighted", "occurrence"]
    delay: CountOrZero


@dataclass(frozen=True)
class Clahe(Random):
    clip_limit: Annotated[float, Range(least=1)]


@dataclass(frozen=True)
class BrightnessContrast(Random):
    brightness_limit: Share
    contrast_limit: Share
    brightness_by_max: bool


@dataclass(frozen=True)
class HueSaturationValue(Random):
    hue_shift_limit: Annotated[int, Range(least=0, most=180)]
    sat_shift_limit: Annotated[int, Range(least=0, most=255)]
    val_shift_limit: Annotated[int, Range(least=0, most=255)]


@dataclass(frozen=True)
class Color(Random):
    clahe: Clahe
    brightness_contrast: BrightnessContrast
    hue_saturation_value: HueSaturationValue


@dataclass(frozen=True)
class GaussianNoise(Random):
    var_limit: tuple[NotNegative, NotNegative]
    mean: float


@dataclass(frozen=True)
class RandomCrop:
    enable: bool
    width: Count
    height: Count
    scale: tuple[SizeFactor, SizeFactor]
    per_image: Count


@dataclass(frozen=True)
class Elastic(Random):
    shift: Positive
    sigma: Annotated[float, Range(least=1)]


@dataclass(frozen=True)
class GridDistortion(Random):
    steps: Count
    limit: Annotated[float, Range(least=0, most=0.9)]


@dataclass(frozen=True)
class OpticalDistortion(Random):
    limit: Share


@dataclass(frozen=True)
class CutMix(Random):
    area: tuple[Side, Side]


@dataclass(frozen=True)
class MixUp(Random):
    alpha: Positive


@dataclass(frozen=True)
class Mosaic(Random):
    center: tuple[Share, Share]


@dataclass(frozen=True)
class Gamma(Random):
    limit: tuple[Positive, Positive]


@dataclass(frozen=True)
class Blur(Random):
    sigma: tuple[Positive, Positive]


@dataclass(frozen=True)
class Sharpen(Random):
    alpha: tuple[Share, Share]


@dataclass(frozen=True)
class CoarseDropout(Random):
    holes: tuple[Count, Count]
    size: tuple[Side, Side]
    label: Literal["keep", "ignore"]


@dataclass(frozen=True)
class Augmentation:
    horizontal_flip: Random
    vertical_flip: Random
    quarter_turn: Random
    shift_scale_rotate: ShiftScaleRotate
    tile: Tile
    random_crop: RandomCrop
    mosaic: Mosaic
    copy_paste: CopyPaste
    cut_mix: CutMix
    class_mix: Random
    elastic: Elastic
    grid_distortion: GridDistortion
    optical_distortion: OpticalDistortion
    color: Color
    gamma: Gamma
    blur: Blur
    sharpen: Sharpen
    gaussian_noise: GaussianNoise
    coarse_dropout: CoarseDropout
    mix_up: MixUp
