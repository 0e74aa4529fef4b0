"""Images to logits: whole or in overlapping windows, with mirrored, turned or scaled copies averaged in.

Shapes: B images, C scored classes, H and W the padded frame, h and w the same before the head's upsampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.schema import STRIDE, Encoder, Predict
from pipeline.inference.compact import CompactLogits, to_codes
from pipeline.model.build import align_corners, low_logits, normalise, upsample_factor
from pipeline.model.metrics import predict_classes
from pipeline.training.device import in_parts, told_faults
from pipeline.training.learner import autocast

SCALES = (0.75, 1.0, 1.25)  # of TTA `scales`; a wider range costs more than it gives on street and drone images
FLOAT16_MAX = torch.finfo(torch.float16).max
LEAST_LOG = math.log(torch.finfo(torch.float32).tiny)  # of a probability that underflowed
MEMORY_CURE = "PREDICT.MODE=window puts an image through in parts; PREDICT.WINDOW=[W, H] says how large they are."
GAUSSIAN_SIGMA_SHARE = 1 / 8  # of a window's side, as nnU-Net weights its windows (Isensee et al. 2021)


@dataclass(frozen=True)
class Prediction:
    """One image's logits, as small as they can be kept with every pixel's class.

    Attributes:
        logits: float16 (C, h, w) where the head upsamples them, else `CompactLogits` (C, height, width); softmax over
            C gives probabilities.
        factor: how many times larger the padded frame is than (h, w); upsampling is bilinear.
        align_corners: how that upsampling places its grid.
        offset: (top, left) of the image in the padded frame.
        size: (height, width) of the image.
    """

    logits: np.ndarray | CompactLogits
    factor: int
    align_corners: bool
    offset: tuple[int, int]
    size: tuple[int, int]


@dataclass(frozen=True)
class Predictor:
    """A network ready to predict: in evaluation mode, on its device."""

    network: nn.Module
    encoder: Encoder
    settings: Predict
    num_classes: int
    device: torch.device
    precision: torch.dtype


def predict_batches(predictor: Predictor, batches: Iterable) -> Iterator[tuple[str, Prediction]]:
    """Yields (image id, prediction) for every image of `ValidBatch`es, in their order."""
    factor = _kept_factor(predictor)
    for batch in batches:
        with torch.inference_mode(), told_faults(MEMORY_CURE):
            image_BHWC = batch.image_BHWC.to(predictor.device, non_blocking=True)
            arrays = in_parts(lambda part: _kept(predictor, part, factor), image_BHWC).cpu().numpy()
        for image_id, array, offset, size in zip(batch.ids, arrays, batch.offsets, batch.sizes, strict=True):
            if factor == 1:  # full-size logits need no frame around the image
                (top, left), (height, width) = offset, size
                array, offset = array[:, top : top + height, left : left + width], (0, 0)
            array = np.ascontiguousarray(array)
            logits = array if factor > 1 else CompactLogits(array)
            yield image_id, Prediction(logits, factor, align_corners(predictor.network), offset, size)


def _kept(predictor: Predictor, image_BHWC: Tensor, factor: int) -> Tensor:
    """Returns what is kept of images: float16 logits before the head's upsampling, or the codes of full-size ones."""
    image_BCHW = normalise(image_BHWC, predictor.encoder)
    logits = _low(predictor, image_BCHW) if factor > 1 else averaged_logits(predictor, image_BCHW)
    # Beyond the largest float16 there would be infinities, whose softmax is not a number.
    logits = logits[:, : predictor.num_classes].float().clamp(-FLOAT16_MAX, FLOAT16_MAX)
    return logits.half() if factor > 1 else to_codes(logits)


def stored_bytes(predictor: Predictor, frames: Iterable[tuple[int, int]]) -> tuple[int, bool]:
    """Returns what the logits of padded frames (height, width) take in a store, and whether exactly or at most that."""
    factor = _kept_factor(predictor)
    num_values = predictor.num_classes * sum(height * width for height, width in frames)
    return (2 * num_values // factor**2, True) if factor > 1 else (num_values, False)


def _kept_factor(predictor: Predictor) -> int:
    """Returns how many times smaller than the frame the logits are kept."""
    is_plain = predictor.settings.mode == "full" and predictor.settings.tta == "none"
    return upsample_factor(predictor.network) if is_plain else 1


def full_logits(prediction: Prediction, device: torch.device | str = "cpu") -> Tensor:
    """Returns float32 logits (C, height, width) of the unpadded image."""
    logits_CHW = torch.from_numpy(np.asarray(prediction.logits)).to(device).float()
    if prediction.factor > 1:
        corners = prediction.align_corners
        logits_CHW = F.interpolate(
            logits_CHW[None], scale_factor=prediction.factor, mode="bilinear", align_corners=corners
        )[0]
    (top, left), (height, width) = prediction.offset, prediction.size
    return logits_CHW[:, top : top + height, left : left + width]


def decode(prediction: Prediction, device: torch.device | str = "cpu") -> np.ndarray:
    """Returns the index mask, uint8 (height, width), of the most probable class per pixel."""
    return predict_classes(full_logits(prediction, device)[None])[0].cpu().numpy()


def averaged_logits(predictor: Predictor, image_BCHW: Tensor) -> Tensor:
    """Returns full-size logits (B, C, H, W), float32, averaged over the copies of PREDICT.TTA.

    In probability space the softmax of the result is the mean probability.
    """
    in_probs = predictor.settings.tta_space == "probs"
    total: Tensor | None = None
    views = list(_views(predictor.settings.tta, image_BCHW.shape[-2:]))
    if len(views) == 1:
        return _framed(predictor, image_BCHW).float()
    for apply, undo in views:
        logits_BCHW = undo(_framed(predictor, apply(image_BCHW))).float()
        part = logits_BCHW.softmax(1) if in_probs else logits_BCHW
        total = part if total is None else total.add_(part)
    mean = total / len(views)
    return mean.log_().clamp_min_(LEAST_LOG) if in_probs else mean


View = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def _views(tta: str, size: tuple[int, int]) -> Iterator[View]:
    """Yields pairs (what is done to the image, what undoes it on the logits).

    d2 and d4 are the groups of `pytorch_toolbelt.inference.tta`, in another order. Its functions put all views into one
    batch, 4 or 8 times the memory, and its d4 refuses images that are not square.
    """
    if tta == "scales":
        for scale in SCALES:
            scaled = tuple(max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in size)
            yield _resized(scaled), _resized(size)
        return
    turns = {"none": (0,), "flip": (0,), "d2": (0, 2), "d4": (0, 1, 2, 3)}[tta]
    for turn in turns:
        for is_flipped in (False,) if tta == "none" else (False, True):
            yield _turned(turn, is_flipped), _turned_back(turn, is_flipped)


def _resized(size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    return lambda x: x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _turned(turn: int, is_flipped: bool) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.rot90(x.flip(-1) if is_flipped else x, turn, (-2, -1))


def _turned_back(turn: int, is_flipped: bool) -> Callable[[Tensor], Tensor]:
    def undo(x: Tensor) -> Tensor:
        x = torch.rot90(x, -turn, (-2, -1))
        return x.flip(-1) if is_flipped else x

    return undo


def _framed(predictor: Predictor, image_BCHW: Tensor) -> Tensor:
    """Returns full-size logits of a frame, at once or window by window."""
    image_BCHW = image_BCHW.contiguous(memory_format=torch.channels_last)
    if predictor.settings.mode == "full":
        return _upsampled(predictor, image_BCHW)
    height, width = image_BCHW.shape[-2:]
    window_width, window_height = (
        min(side, limit) for side, limit in zip(predictor.settings.window, (width, height), strict=True)
    )
    overlap = predictor.settings.overlap
    starts = (window_starts(height, window_height, overlap), window_starts(width, window_width, overlap))
    places = [(..., slice(y, y + window_height), slice(x, x + window_width)) for y in starts[0] for x in starts[1]]
    weight_HW = window_weights(window_height, window_width, predictor.settings.blend).to(image_BCHW.device)
    total = counts = None
    for inside, logits in _windows(predictor, image_BCHW, places):
        if total is None:
            layout = torch.channels_last if logits.stride(1) == 1 else torch.contiguous_format  # mixed, it takes longer
            shape = (*logits.shape[:2], height, width)
            total = torch.empty(shape, device=logits.device, memory_format=layout).zero_()
            counts = logits.new_zeros((height, width))
        total[inside].addcmul_(logits, weight_HW)
        counts[inside] += weight_HW
    return total.div_(counts)


def _windows(predictor: Predictor, image_BCHW: Tensor, places: Sequence[tuple]) -> Iterator[tuple[tuple, Tensor]]:
    """Yields each place with the float32 logits (B, C, height, width) of its window.

    On a GPU so many windows go through the network at once as the frame has room for side by side, half as many where
    they do not fit into its memory, and so on. A CPU gains nothing by that.
    """
    num_images, first = len(image_BCHW), 0
    num_at_once = 1
    if predictor.device.type != "cpu":
        num_at_once = max(1, image_BCHW[0, 0].numel() // image_BCHW[0, 0][places[0]].numel())
    while first < len(places):
        chosen = places[first : first + num_at_once]
        window_NCHW = torch.cat([image_BCHW[inside] for inside in chosen])
        try:
            logits = _upsampled(predictor, window_NCHW.contiguous(memory_format=torch.channels_last)).float()
        except torch.OutOfMemoryError:
            if num_at_once == 1:
                raise
            num_at_once //= 2
            continue
        yield from zip(chosen, logits.split(num_images), strict=True)
        first += len(chosen)


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Returns where windows begin so that they cover a length evenly with at least the overlap.

    >>> window_starts(720, 352, 0.25)
    [0, 184, 368]
    """
    if window >= length:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    num_gaps = -(-(length - window) // step)
    return [round(index * (length - window) / num_gaps) for index in range(num_gaps + 1)]


def window_weights(height: int, width: int, blend: str) -> Tensor:
    """Returns how much each pixel of a window counts, float32 (height, width) in (0, 1]: less towards its border."""

    def profile(length: int) -> Tensor:
        distance = (torch.arange(length) - (length - 1) / 2).abs()
        if blend == "pyramid":
            return 1 - distance / (length / 2 + 1)
        return torch.exp(-0.5 * (distance / (length * GAUSSIAN_SIGMA_SHARE)) ** 2).clamp_min(1e-3)

    return torch.outer(profile(height), profile(width))


def _low(predictor: Predictor, image_BCHW: Tensor) -> Tensor:
    with autocast(predictor.device, predictor.precision):
        return low_logits(predictor.network, image_BCHW)


def _upsampled(predictor: Predictor, image_BCHW: Tensor) -> Tensor:
    with autocast(predictor.device, predictor.precision):
        return predictor.network(image_BCHW)[:, : predictor.num_classes]
