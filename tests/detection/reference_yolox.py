"""The reference: pixeltable-yolox (Apache-2.0), the maintained form of the authors' own code, for tests only."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
import types
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch._dynamo  # looks for `tabulate` itself, before there is a stand-in for it
import torchvision  # noqa: F401 - the same
from torch import Tensor, nn

from pipeline.config.schema import Encoder, Model
from pipeline.detection.dense import BoxTargets, Dense
from pipeline.detection.yolox_boxes import STRIDES, to_corners
from pipeline.detection.yolox_weights import own_name

# What it imports and does not need here: logs, tables, counts of operations.
STAND_INS = {"loguru": "logger", "tabulate": "tabulate", "thop": "profile"}


class Silent:
    """Takes every call and does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


@functools.cache
def reference() -> SimpleNamespace:
    """Returns the reference's classes; skips where the package is absent."""
    try:
        importlib.metadata.version("pixeltable-yolox")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs pixeltable-yolox as reference: pip install --no-deps pixeltable-yolox")
    absent = [name for name in STAND_INS if importlib.util.find_spec(name) is None]
    for name in absent:
        sys.modules[name] = types.ModuleType(name)
        setattr(sys.modules[name], STAND_INS[name], Silent())
    try:
        from yolox.config import YoloxConfig
        from yolox.models import YoloxHead
    finally:
        for name in absent:  # torch would take them for the real ones
            del sys.modules[name]
    return SimpleNamespace(config=YoloxConfig.get_named_config, head=YoloxHead)


def make_reference(size: str, num_classes: int) -> nn.Module:
    """Returns the reference's network of a size, with random weights."""
    config = reference().config(f"yolox_{size}")
    config.num_classes = num_classes
    return config.get_model()


def with_random_norms(network: nn.Module, seed: int = 0) -> nn.Module:
    """Returns a network whose batch norms have statistics and weights as after training."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, centre in (
                (module.running_mean, 0.0),
                (module.running_var, 1.0),
                (module.weight.data, 1.0),
                (module.bias.data, 0.0),
            ):
                tensor.copy_(centre + 0.4 * (torch.rand(tensor.shape, generator=generator) - 0.5))
    return network


def copy_weights(source: nn.Module, network: nn.Module) -> None:
    """Gives our network the reference's weights."""
    network.load_state_dict({own_name(key): tensor for key, tensor in source.state_dict().items()})


def yolox_model(size: str = "s", **options: Any) -> Model:
    """Returns MODEL for YOLOX."""
    return Model("YOLOX", "YX", Encoder(f"yolox_{size}", "YX", None), options)


def random_targets(seed: int, counts: tuple[int, ...], sides: tuple[float, float], size: tuple[int, int], classes: int):
    """Returns targets with as many boxes per image as `counts`, whose centres are in the frame."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    boxes, labels = [], []
    for count in counts:
        centres = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
        lengths = sides[0] + torch.rand(count, 2, generator=generator) * (sides[1] - sides[0])
        boxes.append(to_corners(torch.cat([centres, lengths], 1)))
        labels.append(torch.randint(classes, (count,), generator=generator))
    return BoxTargets(boxes, labels, size)


def reference_labels(targets: BoxTargets) -> Tensor:
    """Returns targets in the reference's form: class, then the box by centre and size, padded with zeros."""
    longest = max(1, *map(len, targets.boxes))
    labels = torch.zeros(len(targets.boxes), longest, 5)
    for row, boxes, classes in zip(labels, targets.boxes, targets.classes, strict=True):
        sides = boxes[:, 2:] - boxes[:, :2]
        row[: len(boxes)] = torch.cat([classes[:, None].float(), boxes[:, :2] + sides * 0.5, sides], 1)
    return labels


def random_levels(seed: int, num_images: int, size: tuple[int, int], num_classes: int) -> list[Tensor]:
    """Returns what the reference's head puts out before decoding: boxes, objectness, classes of each level."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(num_images, 5 + num_classes, size[0] // stride, size[1] // stride) for stride in STRIDES]
    levels = [torch.randn(shape, generator=generator) for shape in shapes]
    for level in levels:
        level[:, 2:4] += 0.5  # boxes of some strides
        level[:, 4:] -= 1.0
    return levels


def dense_of(levels: list[Tensor]) -> Dense:
    """Returns the same outputs in our form."""
    joined = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
    return Dense(classes=joined[..., 5:], boxes=joined[..., :4], objectness=joined[..., 4:5])


def decoded_by_reference(head: nn.Module, levels: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Returns the reference's decoded outputs of all levels, its grids, and its strides."""
    outputs, grids, strides = [], [], []
    for index, (level, stride) in enumerate(zip(levels, STRIDES, strict=True)):
        output, grid = head.get_output_and_grid(level.clone(), index, stride, level.type())
        outputs.append(output)
        grids.append(grid)
        strides.append(torch.full((1, grid.shape[1]), float(stride)))
    return torch.cat(outputs, 1), grids, strides


def reference_losses(head: nn.Module, levels: list[Tensor], targets: BoxTargets) -> dict[str, Tensor]:
    """Returns the reference's four losses, its weight of the first one taken off."""
    head.use_l1 = True
    outputs, grids, strides = decoded_by_reference(head, levels)
    codes = [level[:, :4].flatten(2).transpose(1, 2) for level in levels]
    columns, rows = ([grid[:, :, axis] for grid in grids] for axis in (0, 1))
    labels = reference_labels(targets)
    _, iou, conf, cls, l1, _ = head.get_losses(None, columns, rows, strides, labels, outputs, codes, outputs.dtype)
    return {"iou": iou / 5, "conf": conf, "cls": cls, "l1": l1}
