"""A trained network for other programs: ONNX, and the folder that segmentation_models_pytorch reads.

Each is compared with the network before it counts as written: what onnxruntime computes from the ONNX file, and what
the network computes that is read back from the folder.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationModel
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.files import atomic_path
from pipeline.segmentation.networks import main_logits, sizes_of
from pipeline.segmentation.predict import Predictor
from pipeline.training.encoder import Scaling, scaling_of

ONNX_FILE, LIBRARY_FOLDER = "network.onnx", "pretrained"
OPSET = 18  # the first with antialiased resizing
TOLERANCE = 1e-4  # of logits, as a share of the largest, or of 1 where that is larger
INPUT, OUTPUT = "image", "logits"
ANY_SIZE = {0: "batch", 2: "height", 3: "width"}


class Exported(nn.Module):
    """A network from pixel values to logits of the classes, so that nobody has to know how they were normalized."""

    def __init__(self, network: nn.Module, scaling: Scaling, num_classes: int) -> None:
        super().__init__()
        self.network, self.num_classes = network, num_classes
        mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in scaling[:2])
        self.register_buffer("scale", 1 / ((scaling.high - scaling.low) * std))
        self.register_buffer("shift", -mean / std - scaling.low * self.scale)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Returns float32 logits (B, C, H, W) of float32 pixel values (B, channels, H, W)."""
        return main_logits(self.network(image_BCHW * self.scale + self.shift))[:, : self.num_classes]


def export_network(predictor: Predictor, size: tuple[int, int], folder: Path) -> dict[str, Any]:
    """Writes a network for other programs: `network.onnx`, and `pretrained/` for segmentation_models_pytorch.

    Args:
        predictor: its network is moved to the CPU, in float32.
        size: (height, width) of its images, at least.

    Returns:
        What a program has to know to use them, as plain values; `onnx` and `library` say what was written.

    Raises:
        UserError: see `export_onnx`.
        ImportError: likewise.
    """
    size = sizes_of(predictor.network).fixed or sizes_of(predictor.network).padded(*size)
    predictor.network.float().cpu().eval()
    library = export_to_library(predictor, size, folder / LIBRARY_FOLDER)
    return _describe(predictor) | {"library": library, "onnx": export_onnx(predictor, size, folder / ONNX_FILE)}


def export_onnx(predictor: Predictor, size: tuple[int, int], path: Path) -> dict[str, Any]:
    """Writes a network as ONNX, for batches and images of any size where that can be had, else for images of one size.

    Torch has two exporters, and each fails for networks that the other can write. The first file whose logits are those
    of the network, within `TOLERANCE` at two sizes, is kept.

    Returns:
        `difference`, the largest between its logits and the network's, as a share of the largest; `size`, (height,
        width) of the only images that it takes, or None.

    Args:
        size: (height, width) that the network takes: of the images to try it with, and of the only ones where no file
            for any size is right.

    Raises:
        UserError: neither exporter writes a file with the network's logits; with what each said.
        ImportError: onnx, onnxruntime or onnxscript is not installed.
    """
    scaling = scaling_of(predictor.network, predictor.encoder)
    network = Exported(predictor.network, scaling, predictor.num_classes).eval()
    sizes, reasons = sizes_of(predictor.network), []
    step = sizes.multiple
    for is_fixed in (True,) if sizes.fixed else (False, True):
        shapes = [(1, *size)] if is_fixed else [(1, *size), (2, size[0] + step, size[1] + 2 * step)]
        for export in (_by_tracing, _by_dynamo):
            try:
                with atomic_path(path) as partial, _quiet():
                    export(network, size, is_fixed, partial)
                    difference = _difference(network, partial, shapes)
                    if difference > TOLERANCE:
                        raise ValueError(f"its logits differ from the network's by {difference:.1e} of the largest")
                return {"difference": difference, "size": size if is_fixed else None}
            except (ImportError, UserError):
                raise
            except Exception as error:  # whatever exporters and runtime say of an operator that they lack
                reasons.append(f"{export.__name__.removeprefix('_by_')}: {str(error).strip().splitlines()[0][:200]}")
    tried = "".join(f"\n  {reason}" for reason in reasons)
    raise UserError(f"this network cannot be written as ONNX; torch {torch.__version__} says:{tried}")


def _by_tracing(network: Exported, size: tuple[int, int], is_fixed: bool, path: Path) -> None:
    axes = {} if is_fixed else {"dynamic_axes": {INPUT: ANY_SIZE, OUTPUT: ANY_SIZE}}
    names = {"input_names": [INPUT], "output_names": [OUTPUT], "opset_version": OPSET}
    torch.onnx.export(network, (_image(network, (1, *size)),), path, dynamo=False, **names, **axes)


def _by_dynamo(network: Exported, size: tuple[int, int], is_fixed: bool, path: Path) -> None:
    dynamic = torch.export.Dim.DYNAMIC
    shapes = {} if is_fixed else {"dynamic_shapes": ({0: dynamic, 2: dynamic, 3: dynamic},)}
    names = {"input_names": [INPUT], "output_names": [OUTPUT], "opset_version": OPSET}
    batch = 1 if is_fixed else 2  # one image would be taken for the only number of images
    example = _image(network, (batch, *size))
    torch.onnx.export(network, (example,), path, dynamo=True, external_data=False, verbose=False, **names, **shapes)


def _difference(network: Exported, path: Path, shapes: list[tuple[int, int, int]]) -> float:
    """Returns the largest difference between logits of the file and of the network, as a share of the largest logit."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    largest = 0.0
    for shape in shapes:
        image = _image(network, shape)
        with torch.inference_mode():
            wanted = network(image)
        found = torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0])
        largest = max(largest, float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1)))
    return largest


def _image(network: Exported, shape: tuple[int, int, int]) -> Tensor:
    """Returns noise between the darkest and the brightest pixel value that normalization maps to -2 and 2."""
    batch, height, width = shape
    noise = torch.rand((batch, network.scale.shape[1], height, width), generator=torch.Generator().manual_seed(0))
    return (4 * noise - 2 - network.shift) / network.scale


def export_to_library(predictor: Predictor, size: tuple[int, int], folder: Path) -> dict[str, Any] | None:
    """Writes the folder from which `smp.from_pretrained` builds the network with its weights.

    Returns:
        `difference`, the largest between logits of the network that was read back and of the network, as a share of the
        largest. None for a network that is not the library's, of which nothing is written.

    Raises:
        UserError: the network that was read back computes something else.
    """
    network = predictor.network
    if not isinstance(network, SegmentationModel) or not hasattr(smp, type(network).__name__):
        return None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary, _quiet():
        partial = Path(temporary) / folder.name
        network.save_pretrained(partial)
        (partial / "README.md").unlink(missing_ok=True)  # the library's says that these weights are under MIT's licence
        again = smp.from_pretrained(partial).eval()
        channels = len(scaling_of(network, predictor.encoder).mean)
        image = torch.rand((1, channels, *size), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():  # `forward` is without the hooks of INPUT_SCALE, which the folder has not
            wanted, found = main_logits(network.forward(image)), main_logits(again(image))
        difference = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1))
        if difference > TOLERANCE:
            raise UserError(f"{LIBRARY_FOLDER}/ cannot be written: read back, its logits differ by {difference:.1e}")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return {"difference": difference}


def _describe(predictor: Predictor) -> dict[str, Any]:
    scaling, sizes = scaling_of(predictor.network, predictor.encoder), sizes_of(predictor.network)
    return {
        **scaling._asdict(),
        "multiple": sizes.multiple,
        "input_scale": getattr(predictor.network, "input_scale", 1),
        "probabilities": predictor.activation.name,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn of each constant and log whole graphs; what counts is whether the file is right."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
