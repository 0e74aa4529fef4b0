"""Exports networks as ONNX and compares what onnxruntime computes with what torch computes, at sizes of all kinds.

    python -m tests.long.onnx_difference                         a table in Markdown
    python -m tests.long.onnx_difference Unet/resnet34 FPN/mit_b0

The networks have random weights and 12 classes; the images are noise. A file that takes images of any size is compared
at four sizes and batches, none of which it was exported with; a file for one size at this size. Exit code 1 when a
difference is above 1e-4 of the largest logit, or of 1 where that is larger.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch

from pipeline.config.schema import Encoder, Model
from pipeline.segmentation.export import export_network
from pipeline.segmentation.networks import build_network, main_logits
from pipeline.segmentation.predict import PLAIN, Predictor
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.onnx_file import ONNX_FILE, TOLERANCE

CLASSES, EXPORTED = 12, (128, 128)
SHAPES = ((1, 64, 64), (3, 96, 160), (2, 160, 128), (1, 352, 640))  # batch, height, width
NETWORKS = (
    *("FPN/efficientnet-b3", "FPN/mobilenet_v2", "Unet/resnet18", "UnetPlusPlus/resnet18", "DeepLabV3Plus/resnet50"),
    *("DeepLabV2/resnet101", "Linknet/timm-skresnet34", "FPN/timm-resnest50d", "MAnet/resnet18", "Segformer/mit_b0"),
    *("UPerNet/resnet18", "PSPNet/resnet18"),
)


class Found(NamedTuple):
    """What a comparison found: which sizes the file takes, the largest difference of logits, and the largest logit."""

    sizes: str
    difference: float
    largest: float


def compare(name: str, encoder_name: str, folder: Path) -> Found:
    """Returns how much the logits of an exported network differ from those of torch."""
    torch.manual_seed(0)
    encoder = Encoder(encoder_name, "", None)
    network = build_network(Model(name, "", encoder), CLASSES).eval()
    predictor = Predictor(network, encoder, PLAIN, CLASSES, torch.device("cpu"), torch.float32)
    facts = export_network(predictor, EXPORTED, folder).facts["onnx"]
    session = onnxruntime.InferenceSession(str(folder / ONNX_FILE))
    fixed = facts["size"]
    shapes = SHAPES if fixed is None else ((1, *fixed),)
    rng, differences, logits = np.random.default_rng(3), [], []
    for shape in shapes:
        image_BHWC = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        with torch.inference_mode():
            scaled = normalise(torch.from_numpy(image_BHWC), scaling_of(network, encoder))
            wanted = main_logits(network(scaled))[:, :CLASSES].numpy()
        (found,) = session.run(["logits"], {"image": image_BHWC.transpose(0, 3, 1, 2).astype(np.float32)})
        differences.append(float(np.abs(found - wanted).max()))
        logits.append(float(np.abs(wanted).max()))
    sizes = "any" if fixed is None else f"{fixed[1]} x {fixed[0]}"
    return Found(sizes, float(np.max(differences)), max(logits))


def main(arguments: Sequence[str]) -> int:
    options = argparse.ArgumentParser(prog="python -m tests.long.onnx_difference", description=__doc__.split("\n")[0])
    options.add_argument("networks", nargs="*", metavar="NETWORK/ENCODER", default=NETWORKS)
    chosen = options.parse_args(arguments)
    print(
        "| network | sizes | largest difference | largest logit | as a share of it |\n|---|---|---|---|---|", flush=True
    )
    too_large = []
    for pair in chosen.networks:
        with tempfile.TemporaryDirectory() as folder:
            found = compare(*pair.split("/"), Path(folder))
        share = found.difference / found.largest
        cells = [
            pair.replace("/", ", "),
            found.sizes,
            f"{found.difference:.1e}",
            f"{found.largest:.2g}",
            f"{share:.0e}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
        too_large += [pair] if not found.difference <= TOLERANCE * max(1, found.largest) else []
    print(f"above {TOLERANCE}: {', '.join(too_large) or 'none'}")
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
