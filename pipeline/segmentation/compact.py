"""Full-size logits in one byte per class and pixel, compressed on disk, decoded a few rows at a time.

A code is the square root of a class's probability relative to that of the pixel's most probable class:

    code = round(159 * sqrt(p / p_best)), 159 for the most probable class alone, at most 158 for the others

Decoding therefore keeps the most probable class, and `codes ** 2`, divided by their sum over the classes, are the
probabilities. The error is at most 1/159 in a square root, about 0.005 in a probability, far less in a small one: five
members combined choose the class that they choose in float32 at 99.98 % of a street image's pixels.

On disk an image is stored in bands of rows from top to bottom, each of as many rows as hold `BAND_PIXELS` pixels. A
band is a zlib stream of the differences between neighbouring codes, down the columns and along the rows (modulo 256,
from 0 outside the band): smooth areas become zeros and small numbers, which take a sixth of the space. To decode one:

    differences = np.frombuffer(zlib.decompress(band), np.uint8).reshape(num_classes, -1, width)
    codes = differences.cumsum(1, np.uint8).cumsum(2, np.uint8)
    probs = codes.astype(np.float32) ** 2
    probs /= probs.sum(0)

Where a pixel may have several classes, a code is of a class's own probability, and even steps are even in its arc sine:

    code = floor(256 * 2 / pi * arcsin(sqrt(p))), so 128 and above is a probability of 0.5 and above

The error of a probability is at most 0.003.

Letters: B images, C classes, H rows, W columns, R rows of a band.
"""

from __future__ import annotations

import math
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.data.images import num_cores
from pipeline.prediction.store import forget_mapped
from pipeline.segmentation import decision

BEST = 159  # 255 takes a fifth more of the disk; with 127, combined members differ from float32 a third more often
BAND_PIXELS = 2**15  # 32 kB per class, the window of deflate; members are combined in blocks of the same rows
LEAST_CODE = 0.25  # in place of code 0, whose logarithm is not finite: a few millionths of the best probability
LOGITS = (2 * np.log(np.maximum(np.arange(BEST + 1), LEAST_CODE) / BEST)).astype(np.float32)  # by code
SIGMOID_STEPS, HALF_CODE = 256, 128
SIGMOID_LOGITS = (2 * np.log(np.tan((np.arange(SIGMOID_STEPS) + 0.5) * (np.pi / 2 / SIGMOID_STEPS)))).astype(np.float32)
Index = tuple[slice, ...]


@dataclass(frozen=True)
class Bands:
    """Codes (C, H, W) in their compressed form. `bands[:, top:bottom]` decodes the bands that hold those rows.

    Attributes:
        data: uint8, all bands one after the other, in memory or a memory map.
        ends: where each band ends in it.
    """

    data: np.ndarray
    shape: tuple[int, int, int]
    ends: tuple[int, ...]

    def __getitem__(self, index: Index) -> np.ndarray:
        """Returns codes; `index` has slices for classes, rows and, optionally, columns."""
        classes, rows, *columns = index
        step = band_rows(self.shape[2])
        top, bottom, _ = rows.indices(self.shape[1])
        first = min(top // step, len(self.ends) - 1)  # an empty slice still needs a band
        behind = max(-(-bottom // step), first + 1)
        codes_CRW = np.concatenate([self._band(number) for number in range(first, behind)], 1)
        forget_mapped(self.data)
        return codes_CRW[(classes, slice(top - first * step, bottom - first * step), *columns)]

    def _band(self, number: int) -> np.ndarray:
        start = self.ends[number - 1] if number else 0
        content = bytearray(zlib.decompress(self.data[start : self.ends[number]]))
        differences_CRW = torch.frombuffer(content, dtype=torch.uint8).view(self.shape[0], -1, self.shape[2])
        return differences_CRW.cumsum(1, dtype=torch.uint8).cumsum(2, dtype=torch.uint8).numpy()


@dataclass(frozen=True)
class CompactLogits:
    """An array of logits, float32 (C, H, W), computed from codes when it is read.

    Attributes:
        is_sigmoid: whether each class has a probability of its own; otherwise the highest logit of each pixel is 0.
    """

    codes: np.ndarray | Bands
    is_sigmoid: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.codes.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> np.ndarray:
        return (SIGMOID_LOGITS if self.is_sigmoid else LOGITS)[self.codes[index]]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:, :].astype(dtype or np.float32, copy=False)


def to_codes(logits_BCHW: Tensor) -> Tensor:
    """Returns codes, uint8 (B, C, H, W) on the same device, of finite float32 logits.

    >>> to_codes(torch.tensor([0.64, 0.35, 0.01]).log()[None, :, None, None]).flatten().tolist()
    [159, 118, 20]
    """
    highest_B1HW = logits_BCHW.amax(1, keepdim=True)
    roots_BCHW = (logits_BCHW - highest_B1HW).mul_(0.5).exp_()
    codes_BCHW = roots_BCHW.mul_(BEST).add_(0.5).clamp_max_(BEST - 1).to(torch.uint8)  # the fraction is cut off
    return codes_BCHW.scatter_(1, decision.choose(logits_BCHW)[:, None].long(), BEST)


def to_sigmoid_codes(logits_BCHW: Tensor) -> Tensor:
    """Returns codes, uint8 (B, C, H, W) on the same device, of finite float32 logits of one class each.

    >>> to_sigmoid_codes(torch.tensor([-20.0, -1.0, 0.0, 1.0, 20.0]).view(1, 5, 1, 1)).flatten().tolist()
    [0, 88, 128, 167, 255]
    """
    angles_BCHW = (logits_BCHW * 0.5).exp_().atan_()  # the arc sine of the root of the probability
    codes_BCHW = angles_BCHW.mul_(SIGMOID_STEPS * 2 / math.pi).clamp_(max=SIGMOID_STEPS - 1)
    is_class_BCHW = logits_BCHW >= 0
    codes_BCHW = torch.where(is_class_BCHW, codes_BCHW.clamp_min(HALF_CODE), codes_BCHW.clamp_max(HALF_CODE - 1))
    return codes_BCHW.to(torch.uint8)


def compress(codes_CHW: np.ndarray) -> Bands:
    """Returns codes in their compressed form; decoding gives the same bytes.

    >>> codes = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    >>> bool((compress(codes)[:, :] == codes).all())
    True
    """
    codes_CHW = np.asarray(codes_CHW)
    compressor = Compressor(codes_CHW.shape)
    compressor.add(codes_CHW)
    return compressor.finish()


class Compressor:
    """Compresses codes of which some rows come at a time, from top to bottom; the bands are those of the whole.

    Args:
        shape: (C, H, W) of all codes.
    """

    def __init__(self, shape: tuple[int, int, int]):
        self.shape, self.step = shape, band_rows(shape[2])
        self.data, self.ends, self.num_rows = bytearray(), [], 0
        self.rest_CRW = np.empty((shape[0], 0, shape[2]), np.uint8)

    def add(self, codes_CRW: np.ndarray) -> None:
        """Adds the next rows."""
        self.num_rows += codes_CRW.shape[1]
        if self.rest_CRW.shape[1]:
            codes_CRW = np.concatenate([self.rest_CRW, codes_CRW], 1)
        is_last = self.num_rows == self.shape[1]
        num_whole = codes_CRW.shape[1] if is_last else codes_CRW.shape[1] // self.step * self.step
        self.rest_CRW = codes_CRW[:, num_whole:].copy()
        bands = [codes_CRW[:, top : min(top + self.step, num_whole)] for top in range(0, num_whole, self.step)]
        with ThreadPoolExecutor(max(1, min(num_cores(), len(bands)))) as pool:  # zlib releases the interpreter's lock
            for part in pool.map(_deflated, bands):
                self.data += part
                self.ends.append(len(self.data))

    def finish(self) -> Bands:
        """Returns all codes in their compressed form."""
        if self.num_rows != self.shape[1]:
            raise RuntimeError(f"{self.num_rows} of {self.shape[1]} rows of codes came")
        return Bands(np.frombuffer(self.data, np.uint8), tuple(self.shape), tuple(self.ends))


def _deflated(codes_CRW: np.ndarray) -> bytes:
    along_CRW = np.diff(codes_CRW, axis=2, prepend=np.uint8(0))
    differences_CRW = np.diff(along_CRW, axis=1, prepend=np.uint8(0))
    # Run lengths and Huffman codes compress such noise better than a search for repeats, and faster.
    deflate = zlib.compressobj(strategy=zlib.Z_RLE)
    return deflate.compress(differences_CRW.tobytes()) + deflate.flush()


def band_rows(width: int) -> int:
    """Returns how many rows a band has.

    >>> band_rows(1280)
    25
    """
    return max(1, BAND_PIXELS // width)
