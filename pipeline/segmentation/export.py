"""A trained network for masks for other programs: ONNX, and the folder that segmentation_models_pytorch reads.

Each is compared with the network before it counts as written: what onnxruntime computes from the ONNX file, and what
the network computes that is read back from the folder.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationModel

from pipeline.errors import UserError
from pipeline.segmentation.networks import main_logits, sizes_of
from pipeline.segmentation.predict import Predictor
from pipeline.training.encoder import scaling_of
from pipeline.training.onnx_file import (
    ANY_SIZE,
    ONNX_FILE,
    TOLERANCE,
    Exported,
    ExportedFiles,
    difference_of,
    export_onnx,
    quiet,
)

LIBRARY_FOLDER, OUTPUT = "pretrained", "logits"
CODE = """(logits,) = session.run(["logits"], {"image": image})
"""


def export_network(predictor: Predictor, size: tuple[int, int], folder: Path) -> ExportedFiles:
    """Writes a network for other programs: `network.onnx`, and `pretrained/` for segmentation_models_pytorch.

    Args:
        predictor: its network is moved to the CPU, in float32.
        size: (height, width) of its images, at least.

    Raises:
        UserError: see `export_onnx`.
        ImportError: likewise.
    """
    sizes = sizes_of(predictor.network)
    size = sizes.fixed or sizes.padded(*size)
    network = predictor.network.float().cpu().eval()
    factor = getattr(network, "input_scale", 1)
    seen = size if factor == 1 else sizes.scaled(size, factor)  # by a network without the hooks of INPUT_SCALE
    library = export_to_library(predictor, seen, folder / LIBRARY_FOLDER)
    scaling, num_classes = scaling_of(network, predictor.encoder), predictor.num_classes
    exported = Exported(network, scaling, lambda outputs: (main_logits(outputs)[:, :num_classes],), {OUTPUT: ANY_SIZE})
    onnx = export_onnx(exported.eval(), sizes, size, folder / ONNX_FILE)
    facts = {
        **scaling._asdict(),
        "multiple": sizes.multiple,
        "smallest": sizes.smallest,
        "input_scale": factor,
        "probabilities": predictor.activation.name,
        "library": library,
        "onnx": onnx,
    }
    outputs = f"- `logits`: float32 (batch, {num_classes}, height, width). Their {facts['probabilities']} gives the"
    return ExportedFiles(facts, "by mirroring, for example", f"{outputs} probabilities.\n", CODE)


def export_to_library(predictor: Predictor, size: tuple[int, int], folder: Path) -> dict[str, Any] | None:
    """Writes the folder from which `smp.from_pretrained` builds the network with its weights.

    Args:
        size: (height, width) that the network takes without the hooks of INPUT_SCALE.

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
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary, quiet():
        partial = Path(temporary) / folder.name
        network.save_pretrained(partial)
        (partial / "README.md").unlink(missing_ok=True)  # the library's says that these weights are under MIT's licence
        again = smp.from_pretrained(partial).eval()
        channels = len(scaling_of(network, predictor.encoder).mean)
        image = torch.rand((1, channels, *size), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():  # `forward` is without the hooks of INPUT_SCALE, which the folder has not
            wanted, found = main_logits(network.forward(image)), main_logits(again(image))
        difference = difference_of(found, wanted)
        if difference > TOLERANCE:
            raise UserError(f"{LIBRARY_FOLDER}/ cannot be written: read back, its logits differ by {difference:.1e}")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return {"difference": difference}
