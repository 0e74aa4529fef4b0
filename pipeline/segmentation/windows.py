"""Logits of images that are larger than what a network is given at once: overlapping windows, blended.

Letters: B images, N windows of B images, C channels, H and W the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

GAUSSIAN_SIGMA_SHARE = 1 / 8  # of a window's side, as nnU-Net weights its windows (Isensee et al. 2021)
OVERLAP, BLEND = 0.25, "gaussian"  # where PREDICT has no say: in the validation of a training


def windowed(
    logits_of: Callable[[Tensor], Tensor],
    image_BCHW: Tensor,
    window: tuple[int, int],
    overlap: float = OVERLAP,
    blend: str = BLEND,
    is_fixed: bool = False,
    side_by_side: bool | None = None,
) -> Tensor:
    """Returns float32 logits (B, C, H, W) of a frame, predicted window by window.

    Args:
        logits_of: images (N, 3, h, w) to logits (N, C, h, w).
        window: (height, width).
        overlap: share of a window that its neighbour repeats, at least.
        blend: see `window_weights`.
        is_fixed: whether every window must have that size: a smaller frame is then continued by its edge. Otherwise
            windows are as small as the frame.
        side_by_side: whether as many windows as fill the frame are predicted at once; None: on a GPU, as a CPU gains
            nothing by that.
    """
    height, width = image_BCHW.shape[-2:]
    missing = (max(0, window[0] - height), max(0, window[1] - width))
    if is_fixed and any(missing):
        image_BCHW = F.pad(image_BCHW, (0, missing[1], 0, missing[0]), mode="replicate")
        return windowed(logits_of, image_BCHW, window, overlap, blend, True, side_by_side)[..., :height, :width]
    own_height, own_width = min(window[0], height), min(window[1], width)
    starts = (window_starts(height, own_height, overlap), window_starts(width, own_width, overlap))
    windows = [(..., slice(y, y + own_height), slice(x, x + own_width)) for y in starts[0] for x in starts[1]]
    weight_HW = window_weights(own_height, own_width, blend).to(image_BCHW.device)
    side_by_side = image_BCHW.device.type != "cpu" if side_by_side is None else side_by_side
    num_at_once = max(1, height * width // (own_height * own_width)) if side_by_side else 1
    total = counts = None
    for place, logits in _in_turn(logits_of, image_BCHW, windows, num_at_once):
        if total is None:
            # That of the logits, as mixed layouts take longer.
            layout = torch.channels_last if logits.stride(1) == 1 else torch.contiguous_format
            shape = (*logits.shape[:2], height, width)
            total = torch.empty(shape, device=logits.device, memory_format=layout).zero_()
            counts = logits.new_zeros((height, width))
        total[place].addcmul_(logits, weight_HW)
        counts[place] += weight_HW
    return total.div_(counts)


def _in_turn(
    logits_of: Callable[[Tensor], Tensor], image_BCHW: Tensor, windows: Sequence[tuple], num_at_once: int
) -> Iterator[tuple[tuple, Tensor]]:
    """Yields each window, as slices of the frame, with its float32 logits (B, C, height, width).

    So many are predicted at once; where a GPU's memory is too small, half as many, and so on.
    """
    num_images, first = len(image_BCHW), 0
    while first < len(windows):
        chosen = windows[first : first + num_at_once]
        window_NCHW = torch.cat([image_BCHW[window] for window in chosen])
        try:
            logits = logits_of(window_NCHW.contiguous(memory_format=torch.channels_last)).float()
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
