"""Writes a network as an ONNX file for other programs, and compares the file with the network before keeping it.

In: a network with its weights on the CPU. Out: `network.onnx`, whose outputs onnxruntime computes as torch does.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.data.padding import Sizes
from pipeline.errors import UserError
from pipeline.files import atomic_path
from pipeline.training.encoder import Scaling

ONNX_FILE = "network.onnx"
STDOUT = 1  # the descriptor
OPSET = 18  # the first with antialiased resizing
TOLERANCE = 1e-4  # of outputs, as a share of the largest, or of 1 where that is larger
INPUT = "image"
ANY_SIZE = {0: "batch", 2: "height", 3: "width"}


class ExportedFiles(NamedTuple):
    """What `export` says of the network that it wrote for other programs.

    Attributes:
        facts: what such a program has to know, as plain values; `onnx` and `library` say what was written.
        padding: how images are padded that are too small.
        outputs: the outputs of network.onnx, an item of Markdown each.
        code: Python that computes them, where `session` and `image` are given, (batch, channels, height, width).
    """

    facts: dict[str, Any]
    padding: str
    outputs: str
    code: str


class Exported(nn.Module):
    """A network with its normalization: from pixel values to the tensors of its outputs.

    Args:
        tensors: (outputs of the network) to a tensor for each of `names`.
        names: of the outputs, each with the axes whose length depends on the images, and what these axes are.
    """

    def __init__(
        self,
        network: nn.Module,
        scaling: Scaling,
        tensors: Callable[[Any], tuple[Tensor, ...]],
        names: Mapping[str, dict[int, str]],
    ) -> None:
        super().__init__()
        self.network, self.tensors, self.names = network, tensors, names
        mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in scaling[:2])
        self.register_buffer("scale", 1 / ((scaling.high - scaling.low) * std))
        self.register_buffer("shift", -mean / std - scaling.low * self.scale)

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Returns float32 outputs for float32 pixel values (B, channels, H, W)."""
        return self.tensors(self.network(image_BCHW * self.scale + self.shift))


def export_onnx(network: Exported, sizes: Sizes, size: tuple[int, int], path: Path) -> dict[str, Any]:
    """Writes a network as ONNX, for batches and images of any size where that can be had, else for images of one size.

    Torch has two exporters, and each fails for networks that the other can write. The first file whose outputs are
    those of the network, within `TOLERANCE` at two sizes, is kept.

    Args:
        network: in evaluation mode.
        sizes: that the network takes.
        size: (height, width) that the network takes: of the images to try it with, and of the only ones where no file
            for any size is right.

    Returns:
        `difference`, the largest between its outputs and the network's, as a share of the largest; `size`, (height,
        width) of the only images that it takes, or None.

    Raises:
        UserError: neither exporter writes a file with the network's outputs; has the error of each.
        ImportError: onnx, onnxruntime or onnxscript is not installed.
    """
    step, reasons = sizes.multiple, []
    for is_fixed in (True,) if sizes.fixed else (False, True):
        shapes = [(1, *size)] if is_fixed else [(1, *size), (2, size[0] + step, size[1] + 2 * step)]
        for export in (_by_tracing, _by_dynamo):
            try:
                with atomic_path(path) as partial, quiet():
                    export(network, size, is_fixed, partial)
                    difference = _difference(network, partial, shapes)
                    if difference > TOLERANCE:
                        raise ValueError(f"its outputs differ from the network's by {difference:.1e} of the largest")
                return {"difference": difference, "size": size if is_fixed else None}
            except (ImportError, UserError):
                raise
            except Exception as error:  # whatever exporters and runtime say of an operator that they lack
                reasons.append(f"{export.__name__.removeprefix('_by_')}: {str(error).strip().splitlines()[0][:200]}")
    tried = "".join(f"\n  {reason}" for reason in reasons)
    raise UserError(f"this network cannot be written as ONNX; torch {torch.__version__} says:{tried}")


def _by_tracing(network: Exported, size: tuple[int, int], is_fixed: bool, path: Path) -> None:
    axes = {} if is_fixed else {"dynamic_axes": {INPUT: ANY_SIZE, **network.names}}
    names = {"input_names": [INPUT], "output_names": list(network.names), "opset_version": OPSET}
    torch.onnx.export(network, (_image(network, (1, *size)),), path, dynamo=False, **names, **axes)


def _by_dynamo(network: Exported, size: tuple[int, int], is_fixed: bool, path: Path) -> None:
    dynamic = torch.export.Dim.DYNAMIC
    shapes = {} if is_fixed else {"dynamic_shapes": ({0: dynamic, 2: dynamic, 3: dynamic},)}
    names = {"input_names": [INPUT], "output_names": list(network.names), "opset_version": OPSET}
    batch = 1 if is_fixed else 2  # one image would be taken for the only number of images
    example = _image(network, (batch, *size))
    torch.onnx.export(network, (example,), path, dynamo=True, external_data=False, verbose=False, **names, **shapes)


def _difference(network: Exported, path: Path, shapes: list[tuple[int, int, int]]) -> float:
    """Returns the largest difference between an output of the file and of the network, as a share of its largest."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    largest = 0.0
    for shape in shapes:
        image = _image(network, shape)
        with torch.inference_mode():
            wanted = network(image)
        found = session.run(list(network.names), {INPUT: image.numpy()})
        differences = (difference_of(torch.from_numpy(one), own) for one, own in zip(found, wanted, strict=True))
        largest = max(largest, *differences)
    return largest


def difference_of(found: Tensor, wanted: Tensor) -> float:
    """Returns the largest difference between two tensors, as a share of the largest value, or of 1 if that is larger.

    Infinite where a value is not a number, which is neither above nor below any limit.

    >>> difference_of(torch.tensor([0.0, 3.0]), torch.tensor([0.0, 4.0]))
    0.25
    >>> difference_of(torch.tensor([0.0, torch.nan]), torch.tensor([0.0, 4.0]))
    inf
    """
    share = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1))
    return math.inf if math.isnan(share) else share


def _image(network: Exported, shape: tuple[int, int, int]) -> Tensor:
    """Returns noise between the darkest and the brightest pixel value that normalization maps to -2 and 2."""
    batch, height, width = shape
    noise = torch.rand((batch, network.scale.shape[1], height, width), generator=torch.Generator().manual_seed(0))
    return (4 * noise - 2 - network.shift) / network.scale


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the exporters, which warn of each constant and log whole graphs; the file itself is checked.

    Torch's C++ code prints the graph of a failed export without `sys.stdout`, so the descriptor is redirected, too.
    """
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with _nothing_from_cpp(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _nothing_from_cpp() -> Iterator[None]:
    """Redirects the descriptor of the standard output."""
    if sys.stdout is None:  # it was closed when this process began, so that the descriptor may be that of any file
        yield
        return
    output = os.dup(STDOUT)
    sys.stdout.flush()
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), STDOUT)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C++ still holds goes nowhere, too
        os.dup2(output, STDOUT)
        os.close(output)
