"""Images to logits: whole or in overlapping windows, averaged over mirrored, turned or scaled copies.

Letters: B images, C scored classes, H and W the padded frame, h and w the same before the head's upsampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.competition import ImageForm
from pipeline.config.load import Loaded
from pipeline.config.schema import Encoder, Predict
from pipeline.segmentation.activation import SIGMOID, SOFTMAX, Activation, activation_of
from pipeline.segmentation.compact import Bands, CompactLogits, compress
from pipeline.segmentation.joining import JoinedWindows, core_slices, image_slices
from pipeline.segmentation.networks import align_corners, low_logits, upsample_factor
from pipeline.segmentation.padding import padded_size
from pipeline.segmentation.samples import ValidDataset
from pipeline.segmentation.upscaling import is_upscaled
from pipeline.segmentation.views import views
from pipeline.task import Batch
from pipeline.training.device import explained_faults, in_parts
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.learner import autocast

FLOAT16_MAX = torch.finfo(torch.float16).max
DECODED_PIXELS = 2**20  # at once
MEMORY_REMEDY = "PREDICT.MODE=window predicts an image in parts; PREDICT.WINDOW=[W, H] sets their size."
GAUSSIAN_SIGMA_SHARE = 1 / 8  # of a window's side, as nnU-Net weights its windows (Isensee et al. 2021)


@dataclass(frozen=True)
class Prediction:
    """One image's logits in storable form, which keeps the class of every pixel.

    Attributes:
        logits: float16 (C, h, w) where the head upsamples them, else `CompactLogits` (C, height, width).
        factor: how many times larger the padded frame is than (h, w); upsampling is bilinear.
        align_corners: as in `torch.nn.functional.interpolate`.
        offset: (top, left) of the image in the padded frame.
        size: (height, width) of the image.
        is_sigmoid: whether each class has a probability of its own; otherwise softmax over C gives them.
    """

    logits: np.ndarray | CompactLogits
    factor: int
    align_corners: bool
    offset: tuple[int, int]
    size: tuple[int, int]
    is_sigmoid: bool = False

    @property
    def activation(self) -> Activation:
        """What the logits mean."""
        return SIGMOID if self.is_sigmoid else SOFTMAX


@dataclass(frozen=True)
class Predictor:
    """A network ready to predict: in evaluation mode, on its device.

    `whole_px`: see `ImageForm`.
    """

    network: nn.Module
    encoder: Encoder
    settings: Predict
    num_classes: int
    device: torch.device
    precision: torch.dtype
    whole_px: int = ImageForm.whole_px
    activation: Activation = SOFTMAX


def make_predictor(loaded: Loaded, network: nn.Module, device: torch.device, precision: torch.dtype) -> Predictor:
    """Returns a run's network, with its weights on its device, ready to predict."""
    config, competition = loaded.config, loaded.competition
    return Predictor(
        *(network.eval(), config.model.encoder, config.predict, competition.num_classes, device, precision),
        competition.image.whole_px,
        activation_of(competition),
    )


def predict_batches(predictor: Predictor, batches: Iterable[Batch]) -> Iterator[tuple[str, Prediction]]:
    """Yields (image id, prediction) for every image of the batches, in their order.

    The windows of a large image are joined: of each its core is taken.
    """
    joined, is_sigmoid = None, predictor.activation.is_sigmoid
    for batch in batches:
        factor = _stored_factor(predictor) if batch.windows_of is None else 1
        with torch.inference_mode(), explained_faults(MEMORY_REMEDY):
            images_BHWC = batch.images.to(predictor.device, non_blocking=True)
            arrays = in_parts(partial(_storable, predictor, factor=factor), images_BHWC).cpu().numpy()
        for (image_id, offset, size, part), array in zip(batch.keys, arrays, strict=True):
            if part is not None:
                joined = joined or JoinedWindows((predictor.num_classes, *part.image_size))
                joined.add(array, offset, part)
                if joined.is_whole:
                    bands, joined = CompactLogits(joined.finish(), is_sigmoid), None
                    corners = align_corners(predictor.network)
                    yield image_id, Prediction(bands, 1, corners, (0, 0), part.image_size, is_sigmoid)
                continue
            if factor == 1:  # full-size logits need no frame around the image
                (top, left), (height, width) = offset, size
                array, offset = array[:, top : top + height, left : left + width], (0, 0)
            array = np.ascontiguousarray(array)
            logits = array if factor > 1 else CompactLogits(array, is_sigmoid)
            yield image_id, Prediction(logits, factor, align_corners(predictor.network), offset, size, is_sigmoid)


def _storable(predictor: Predictor, image_BHWC: Tensor, factor: int) -> Tensor:
    """Returns logits in storable form: float16 before the head's upsampling, or codes of full-size ones."""
    image_BCHW = normalise(image_BHWC, scaling_of(predictor.network, predictor.encoder))
    logits = _low(predictor, image_BCHW) if factor > 1 else averaged_logits(predictor, image_BCHW)
    # Values beyond the largest float16 would become infinite, and their probabilities NaN.
    logits = logits[:, : predictor.num_classes].float().clamp(-FLOAT16_MAX, FLOAT16_MAX)
    return logits.half() if factor > 1 else predictor.activation.to_codes(logits)


def pack(prediction: Prediction) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns the array that a store keeps of a prediction, and its other fields as plain values."""
    facts = {name: value for name, value in vars(prediction).items() if name != "logits"}
    if not isinstance(prediction.logits, CompactLogits):
        return prediction.logits, facts
    codes = prediction.logits.codes
    bands = codes if isinstance(codes, Bands) else compress(codes)
    return bands.data, {**facts, "shape": bands.shape, "ends": bands.ends}


def unpack(array: np.ndarray, facts: dict[str, Any]) -> Prediction:
    """Returns the prediction from what `pack` returned; the array may be a memory map."""
    is_sigmoid = facts.get("is_sigmoid", False)  # stores that were written before there were such
    if "ends" in facts:
        array = CompactLogits(Bands(array, tuple(facts["shape"]), tuple(facts["ends"])), is_sigmoid)
    frame = (tuple(facts["offset"]), tuple(facts["size"]))
    return Prediction(array, facts["factor"], facts["align_corners"], *frame, is_sigmoid)


def stored_bytes(predictor: Predictor, sizes: Iterable[tuple[int, int]]) -> tuple[int, bool]:
    """Returns what the logits of images (height, width) take in a store, and whether exactly or at most that."""
    factor, sizes = _stored_factor(predictor), list(sizes)
    large = sum(height * width for height, width in sizes if height * width > predictor.whole_px)
    frames = [padded_size(height, width) for height, width in sizes if height * width <= predictor.whole_px]
    small = sum(height * width for height, width in frames)
    if factor > 1:
        return predictor.num_classes * (2 * small // factor**2 + large), not large
    return predictor.num_classes * (small + large), False


def _stored_factor(predictor: Predictor) -> int:
    """Returns how many times smaller than the frame the logits are kept."""
    is_plain = predictor.settings.mode == "full" and not predictor.settings.has_copies
    return upsample_factor(predictor.network) if is_plain and not is_upscaled(predictor.network) else 1


def full_logits(prediction: Prediction) -> Tensor:
    """Returns float32 logits (C, height, width) of the unpadded image."""
    logits_CHW = torch.from_numpy(np.array(prediction.logits)).float()
    if prediction.factor > 1:
        corners = prediction.align_corners
        logits_CHW = F.interpolate(
            logits_CHW[None], scale_factor=prediction.factor, mode="bilinear", align_corners=corners
        )[0]
    (top, left), (height, width) = prediction.offset, prediction.size
    return logits_CHW[:, top : top + height, left : left + width]


def decode(prediction: Prediction) -> np.ndarray:
    """Returns the mask of the classes chosen for each pixel: uint8 (height, width), or planes (height, width, C)."""
    choose = prediction.activation.choose
    if prediction.factor > 1:
        return choose(full_logits(prediction)[None])[0].numpy()
    (top, left), (height, width) = prediction.offset, prediction.size
    planes = (len(prediction.logits),) if prediction.is_sigmoid else ()
    mask, columns = np.empty((height, width, *planes), np.uint8), slice(left, left + width)
    step = max(1, DECODED_PIXELS // width)
    for first in range(0, height, step):  # of a large image, full logits would not fit into the memory
        last = min(first + step, height)
        logits_CRW = torch.from_numpy(np.array(prediction.logits[:, top + first : top + last, columns])).float()
        mask[first:last] = choose(logits_CRW[None])[0].numpy()
    return mask


def agreement(
    predictor: Predictor, dataset: ValidDataset, indices: Sequence[int], stored: Mapping[str, Prediction]
) -> float:
    """Returns the share of pixels whose stored class is that of the network's full-size logits.

    Args:
        dataset: the images that were predicted.
        indices: which of them are compared.
        stored: predictions by image id, such as a `PredictionStore`.
    """
    equal_px = total_px = 0
    for index in indices:
        image, _, (image_id, (top, left), (height, width), part) = dataset[index]
        image_BHWC = torch.from_numpy(image)[None].to(predictor.device)
        with torch.inference_mode():
            scaling = scaling_of(predictor.network, predictor.encoder)
            logits_BCHW = averaged_logits(predictor, normalise(image_BHWC, scaling))
            classes = predictor.activation.choose(logits_BCHW[:, : predictor.num_classes].float())[0].cpu().numpy()
        exact, kept = classes[top : top + height, left : left + width], decode(stored[image_id])
        if part is not None:
            exact, kept = exact[core_slices(part)], kept[image_slices(part)]
        equal_px += int(np.count_nonzero(exact == kept))
        total_px += exact.size
    return equal_px / total_px


def averaged_logits(predictor: Predictor, image_BCHW: Tensor) -> Tensor:
    """Returns full-size logits (B, C, H, W), float32, averaged over the copies of PREDICT.TTA and SCALES.

    In probability space the activation of the result is the mean probability.
    """
    if not predictor.settings.has_copies:
        return _framed(predictor, image_BCHW).float()
    in_probs = predictor.settings.tta_space == "probs"
    total, weights = None, 0.0
    for view in views(predictor.settings, image_BCHW.shape[-2:]):
        logits_BCHW = view.undo(_framed(predictor, view.apply(image_BCHW))).float()
        part = predictor.activation.probs(logits_BCHW) if in_probs else logits_BCHW
        part = part if view.weight == 1 else part * view.weight
        total = part if total is None else total.add_(part)
        weights += view.weight
    mean = total / weights
    return predictor.activation.from_probs(mean) if in_probs else mean


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
    windows = [(..., slice(y, y + window_height), slice(x, x + window_width)) for y in starts[0] for x in starts[1]]
    weight_HW = window_weights(window_height, window_width, predictor.settings.blend).to(image_BCHW.device)
    total = counts = None
    for window, logits in _windows(predictor, image_BCHW, windows):
        if total is None:
            # That of the logits, as mixed layouts take longer.
            layout = torch.channels_last if logits.stride(1) == 1 else torch.contiguous_format
            shape = (*logits.shape[:2], height, width)
            total = torch.empty(shape, device=logits.device, memory_format=layout).zero_()
            counts = logits.new_zeros((height, width))
        total[window].addcmul_(logits, weight_HW)
        counts[window] += weight_HW
    return total.div_(counts)


def _windows(predictor: Predictor, image_BCHW: Tensor, windows: Sequence[tuple]) -> Iterator[tuple[tuple, Tensor]]:
    """Yields each window, as slices of the frame, with its float32 logits (B, C, height, width).

    On a GPU as many windows as fit side by side into the frame are predicted at once; where its memory is too small,
    half as many, and so on. A CPU gains nothing by that.
    """
    num_images, first = len(image_BCHW), 0
    num_at_once = 1
    if predictor.device.type != "cpu":
        num_at_once = max(1, image_BCHW[0, 0].numel() // image_BCHW[0, 0][windows[0]].numel())
    while first < len(windows):
        chosen = windows[first : first + num_at_once]
        window_NCHW = torch.cat([image_BCHW[window] for window in chosen])
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
    """Returns the weight of each pixel of a window, float32 (height, width) in (0, 1]: less towards its border."""

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
