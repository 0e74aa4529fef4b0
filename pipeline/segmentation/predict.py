"""Images to logits: whole or in overlapping windows, averaged over mirrored, turned or scaled copies.

Letters: B images, C scored classes, H and W the padded frame, h and w the same before the head's upsampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.competition import ImageForm
from pipeline.config.load import Loaded
from pipeline.config.schema import STRIDE, Encoder, Predict
from pipeline.data.whole_images import WholeImages
from pipeline.segmentation.activation import SIGMOID, SOFTMAX, Activation, activation_of
from pipeline.segmentation.compact import Bands, CompactLogits, compress
from pipeline.segmentation.input_scale import has_input_scale
from pipeline.segmentation.joining import JoinedWindows, core_slices, image_slices
from pipeline.segmentation.networks import (
    align_corners,
    check_window,
    low_logits,
    main_logits,
    sizes_of,
    upsample_factor,
)
from pipeline.segmentation.views import views
from pipeline.segmentation.windows import BLEND, OVERLAP, windowed
from pipeline.task import Batch
from pipeline.training.device import explained_faults
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.learner import autocast
from pipeline.training.memory import PartLimit, in_parts

FLOAT16_MAX = torch.finfo(torch.float16).max
DECODED_PIXELS = 2**20  # at once
# As validation in training sees images; the window is not used, and a network of one size has its own.
PLAIN = Predict(
    "full", (STRIDE, STRIDE), OVERLAP, BLEND, tta="none", tta_space="probs", scales=None, scale_weights=None
)
MEMORY_REMEDY = "PREDICT.MODE=window predicts an image in parts; PREDICT.WINDOW=[W, H] sets their size."


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

    `whole_px`: see `ImageForm`. `limit`: how many images are predicted at once.
    """

    network: nn.Module
    encoder: Encoder
    settings: Predict
    num_classes: int
    device: torch.device
    precision: torch.dtype
    whole_px: int = ImageForm.whole_px
    activation: Activation = SOFTMAX
    limit: PartLimit = field(default_factory=PartLimit, compare=False)


def make_predictor(
    loaded: Loaded, network: nn.Module, device: torch.device, precision: torch.dtype, is_plain: bool = False
) -> Predictor:
    """Returns a run's network, with its weights on its device, ready to predict.

    Args:
        is_plain: whether whole images are predicted once, whatever PREDICT says.

    Raises:
        UserError: PREDICT.WINDOW is a size that the network does not take.
    """
    config, competition = loaded.config, loaded.competition
    settings = PLAIN if is_plain else config.predict
    check_window(settings, sizes_of(network))
    return Predictor(
        *(network.eval(), config.model.encoder, settings, competition.num_classes, device, precision),
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
            storable = partial(_storable, predictor, factor=factor)
            arrays = in_parts(storable, images_BHWC, limit=predictor.limit).cpu().numpy()
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
    factor, sizes, padded = _stored_factor(predictor), list(sizes), sizes_of(predictor.network).padded
    large = sum(height * width for height, width in sizes if height * width > predictor.whole_px)
    frames = [padded(height, width) for height, width in sizes if height * width <= predictor.whole_px]
    small = sum(height * width for height, width in frames)
    if factor > 1:
        return predictor.num_classes * (2 * small // factor**2 + large), not large
    return predictor.num_classes * (small + large), False


def _stored_factor(predictor: Predictor) -> int:
    """Returns how many times smaller than the frame the logits are kept."""
    is_plain = predictor.settings.mode == "full" and not predictor.settings.has_copies
    is_plain &= sizes_of(predictor.network).fixed is None and not has_input_scale(predictor.network)
    return upsample_factor(predictor.network) if is_plain else 1


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
    predictor: Predictor, dataset: WholeImages, indices: Sequence[int], stored: Mapping[str, Prediction]
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
    for view in views(predictor.settings, image_BCHW.shape[-2:], sizes_of(predictor.network)):
        logits_BCHW = view.undo(_framed(predictor, view.apply(image_BCHW))).float()
        part = predictor.activation.probs(logits_BCHW) if in_probs else logits_BCHW
        part = part if view.weight == 1 else part * view.weight
        total = part if total is None else total.add_(part)
        weights += view.weight
    mean = total / weights
    return predictor.activation.from_probs(mean) if in_probs else mean


def _framed(predictor: Predictor, image_BCHW: Tensor) -> Tensor:
    """Returns full-size logits of a frame, at once or window by window.

    A network of one size sees the frame through windows of this size, whatever PREDICT.WINDOW says.
    """
    image_BCHW, settings = image_BCHW.contiguous(memory_format=torch.channels_last), predictor.settings
    fixed = sizes_of(predictor.network).fixed
    if image_BCHW.shape[-2:] == fixed or (settings.mode == "full" and fixed is None):
        return _upsampled(predictor, image_BCHW)
    window, options = fixed or settings.window[::-1], (settings.overlap, settings.blend, fixed is not None)
    side_by_side = predictor.device.type != "cpu"
    return windowed(partial(_upsampled, predictor), image_BCHW, window, *options, side_by_side)


def _low(predictor: Predictor, image_BCHW: Tensor) -> Tensor:
    with autocast(predictor.device, predictor.precision):
        return low_logits(predictor.network, image_BCHW)


def _upsampled(predictor: Predictor, image_BCHW: Tensor) -> Tensor:
    with autocast(predictor.device, predictor.precision):
        return main_logits(predictor.network(image_BCHW))[:, : predictor.num_classes]
