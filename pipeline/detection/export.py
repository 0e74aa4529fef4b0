"""A trained network for boxes as ONNX for other programs, with the code that decodes its outputs.

The file has the outputs of the heads at all positions. A few lines of NumPy decode them (see `example_of`). Decoded
inside the file, the anchors would be constants, and the file would accept images of one size only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline.config.detector_options import options_of
from pipeline.data.padding import ANY_SIZE
from pipeline.detection.anchors import cells_of
from pipeline.detection.dense import Dense
from pipeline.detection.predict import Predictor
from pipeline.detection.pyramid import STRIDES
from pipeline.training.encoder import scaling_of
from pipeline.training.onnx_file import ONNX_FILE, Exported, ExportedFiles, export_onnx

POSITIONS = {0: "batch", 1: "positions"}
YOLOX_CODE = """classes, objectness, codes = session.run(["classes", "objectness", "boxes"], {"image": image})
{seen}cells, strides = [], []
for stride in (8, 16, 32):
    y, x = np.mgrid[: height // stride, : width // stride]
    cells.append(np.stack([x, y], -1).reshape(-1, 2))
    strides.append(np.full((x.size, 1), stride))
cells, strides = np.concatenate(cells), np.concatenate(strides)
centers = (codes[..., :2] + cells) * strides
half = np.exp(codes[..., 2:]) * strides / 2
boxes = np.concatenate([centers - half, centers + half], -1)
scores = 1 / (1 + np.exp(-classes)) / (1 + np.exp(-objectness))
"""
RETINANET_CODE = """classes, codes = session.run(["classes", "boxes"], {"image": image})
{seen}with open("export.json") as file:
    shapes = json.load(file)["anchors"]  # of each level: left, top, right, bottom around a position
anchors = []
for stride, own in zip({strides}, shapes):
    y, x = np.mgrid[: -(-height // stride), : -(-width // stride)] * stride
    anchors.append((np.stack([x, y, x, y], -1)[:, :, None] + own).reshape(-1, 4))
anchors = np.concatenate(anchors)
sides = anchors[:, 2:] - anchors[:, :2]
centers = anchors[:, :2] + sides / 2 + codes[..., :2] * sides
half = np.exp(np.minimum(codes[..., 2:], np.log(1000 / 16))) * sides / 2
boxes = np.concatenate([centers - half, centers + half], -1)
scores = 1 / (1 + np.exp(-classes))
"""
SEEN = "height, width = image.shape[2:]\n"
SEEN_SCALED = "height, width = (max(32, int(side * {scale:g} / 32 + 0.5) * 32) for side in image.shape[2:])\n"
BACK = "boxes *= np.tile([image.shape[3] / width, image.shape[2] / height], 2)\n"


def export_network(predictor: Predictor, size: tuple[int, int], folder: Path) -> ExportedFiles:
    """Writes a network for other programs: `network.onnx`.

    Args:
        predictor: its network is moved to the CPU, in float32.
        size: (height, width) of its images.

    Raises:
        UserError: see `export_onnx`.
        ImportError: likewise.
    """
    config, network = predictor.loaded.config, predictor.network.float().cpu().eval()
    num_classes, scaling = predictor.loaded.competition.num_classes, scaling_of(network, config.model.encoder)
    has_objectness, factor = config.model.name == "YOLOX", config.datasets.input_scale
    names = ("classes", "boxes", *(("objectness",) if has_objectness else ()))

    def tensors(outputs: Dense) -> tuple[torch.Tensor, ...]:
        return tuple(getattr(outputs, name) for name in names)

    size = ANY_SIZE.padded(*size)
    exported = Exported(network, scaling, tensors, dict.fromkeys(names, POSITIONS)).eval()
    sizes = {"multiple": ANY_SIZE.multiple, "smallest": ANY_SIZE.smallest}
    facts: dict[str, Any] = {**scaling._asdict(), **sizes, "input_scale": factor, "library": None}
    if not has_objectness:
        facts["anchors"] = [cell_S4.tolist() for cell_S4 in cells_of(options_of(config.model))]
    facts["onnx"] = export_onnx(exported, ANY_SIZE, size, folder / ONNX_FILE)
    return ExportedFiles(facts, "with black", _outputs(num_classes, has_objectness), example_of(has_objectness, factor))


def _outputs(num_classes: int, has_objectness: bool) -> str:
    objectness = "- `objectness`: logits (batch, positions, 1).\n" if has_objectness else ""
    return f"""- `classes`: logits (batch, positions, {num_classes}).
{objectness}- `boxes`: (batch, positions, 4), encoded; the code below decodes them.

The code computes `boxes`, (batch, positions, 4): left, top, right, bottom in pixels of `image`; and `scores` from 0 to
1, (batch, positions, {num_classes}). Drop boxes with a low score, for example below 0.05. Then, for each class, drop
each box that overlaps one with a higher score (NMS, IoU above 0.5), for example with `torchvision.ops.batched_nms`.
"""


def example_of(has_objectness: bool, factor: float) -> str:
    """Returns Python that decodes the outputs, where `session` and `image` are given.

    Args:
        factor: DATASETS.INPUT_SCALE.
    """
    code = YOLOX_CODE if has_objectness else RETINANET_CODE
    seen = SEEN if factor == 1 else SEEN_SCALED.format(scale=factor)
    code = code.replace("{seen}", seen).replace("{strides}", str(STRIDES))
    return code if factor == 1 else code + BACK
