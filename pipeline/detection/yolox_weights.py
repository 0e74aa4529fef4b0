"""Published weights of YOLOX, and how many parameters of a network are frozen.

In: a `.pth` file of https://github.com/Megvii-BaseDetection/YOLOX (Apache-2.0) or of a training with it, with the
weights under `model`, or a safetensors file with the same names. Such files are also written by pixeltable-yolox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from pipeline.detection.yolox_blocks import SIZES
from pipeline.errors import UserError
from pipeline.paths import shown
from pipeline.training.weights import read_archive, read_safetensors, refuse_other_kinds

# Parts of the published names, and ours. The longest prefix comes first.
PREFIXES = (("backbone.backbone.", "encoder."), ("backbone.", "neck."), ("head.", "head."))
WORDS = {
    "bn": "norm",
    "m": "blocks",
    "dconv": "depthwise",
    "pconv": "pointwise",
    "lateral_conv0": "narrow5",
    "C3_p4": "top_down4",
    "reduce_conv1": "narrow4",
    "C3_p3": "top_down3",
    "bu_conv2": "shrink3",
    "C3_n3": "bottom_up4",
    "bu_conv1": "shrink4",
    "C3_n4": "bottom_up5",
    "cls_convs": "class_branches",
    "reg_convs": "box_branches",
    "cls_preds": "classes",
    "reg_preds": "boxes",
    "obj_preds": "objectness",
}
CLASSES = "head.classes."  # the only tensors whose shape depends on the number of classes
FIRST = "encoder.stem.conv.conv.weight"
PATCH = 4  # pixels that the stem stacks
SIZE_BY_CHANNELS = {int(64 * shape.width): name for name, shape in SIZES.items()}


def load_yolox(network: nn.Module, path: Path, log: Callable[[str], None]) -> None:
    """Fills a YOLOX with the weights of a file; layers for another number of classes keep their random weights.

    Args:
        network: of `pipeline.detection.yolox.build`; not changed where the file is refused.
        log: receives a sentence if the layers of the classes were not loaded.

    Raises:
        UserError: the file is absent, broken, not one of YOLOX, or of another size.
    """
    published, own = read_published(path), network.state_dict()
    state = {name: tensor for key, tensor in published.items() if (name := own_name(key)) is not None}
    if FIRST not in state:
        raise UserError(f"{shown(path)} has no weights of YOLOX; expected a file such as yolox_s.pth")
    _refuse_other_shape(state, own, path)
    num_there, num_here = (_num_classes(one) for one in (state, own))
    left = {name for name in own if name.startswith(CLASSES)} if num_there != num_here else set()
    foreign = [key for key in published if own_name(key) not in own]
    misfits = [
        name
        for name, tensor in own.items()
        if name not in state or (name not in left and state[name].shape != tensor.shape)
    ]
    if wrong := misfits + foreign:
        raise UserError(
            f"{shown(path)} does not fit this YOLOX: {len(wrong)} tensors, first {wrong[0]}; set MODEL.OPTIONS as for "
            "the run that wrote it, or fetch the file again"
        )
    taken = {name: tensor for name, tensor in state.items() if name not in left}
    refuse_other_kinds(taken, own, shown(path))
    network.load_state_dict({name: own[name] if name in left else state[name] for name in own})
    if left:
        log(
            f"{shown(path)} is for {num_there} classes: its weights are loaded except for the last layers of the "
            f"classes, which start from random weights for {num_here} classes"
        )


def read_published(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a `.pth` or safetensors file, by their published names.

    Raises:
        UserError: the file is absent or broken, or has no weights under `model`.
    """
    if not path.is_file():
        raise UserError(f"{shown(path)} does not exist; put the weights there, for example yolox_s.pth")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        content = read_archive(path)
    except Exception as error:  # a forged file may make the unpickler raise anything
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{shown(path)} is damaged or not a file of tensors and plain values ({first_line}); download it again"
        ) from None
    state = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"{shown(path)} has no weights under 'model'; expected a file such as yolox_s.pth")
    return {str(name): tensor for name, tensor in state.items()}


def own_name(key: str) -> str | None:
    """Returns our name of a published tensor; None if it belongs to no part of YOLOX.

    >>> own_name("backbone.backbone.dark2.1.m.0.conv1.bn.weight"), own_name("fc.weight")
    ('encoder.dark2.1.blocks.0.conv1.norm.weight', None)
    """
    for theirs, ours in PREFIXES:
        if key.startswith(theirs):
            return ours + ".".join(WORDS.get(word, word) for word in key.removeprefix(theirs).split("."))
    return None


def _num_classes(state: Mapping[str, Tensor]) -> int:
    bias = state.get(f"{CLASSES}0.bias")
    return 0 if bias is None else bias.numel()


def _refuse_other_shape(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    there, here = state[FIRST].shape, own[FIRST].shape
    if len(there) == len(here) and there[0] != here[0]:
        size, wanted = (SIZE_BY_CHANNELS.get(shape[0], "another size") for shape in (there, here))
        raise UserError(
            f"{shown(path)} is for {size}, but MODEL.ENCODER.NAME is {wanted}; set MODEL.ENCODER.NAME={size}, "
            f"or fetch {wanted}.pth"
        )
    if len(there) == len(here) and there[1] != here[1]:
        raise UserError(
            f"{shown(path)} is for images of {there[1] // PATCH} channels, but the images have {here[1] // PATCH}; "
            "set MODEL.ENCODER.WEIGHTS: null for random weights, or use a file for this number of channels"
        )
