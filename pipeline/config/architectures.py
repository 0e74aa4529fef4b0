"""Which networks MODEL.NAME may name. The library's are read from its source, since importing it takes seconds.

A name is an architecture of segmentation_models_pytorch (Unet, DPT, ...), one of the project's own (`OURS`), or
`FILE.py:FUNCTION`, a function of the user's own in a file beside the configs.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from pathlib import Path

from pipeline.wording import did_you_mean, nearest

LIBRARY = "segmentation_models_pytorch"
OURS = ("DeepLabV2", "PlainUnet")
# Networks that find boxes, and the losses that each is trained by.
DETECTORS = {"RetinaNet": ("sigmoid_focal", "smooth_l1"), "YOLOX": ("iou", "conf", "cls", "l1")}
# MODEL.ENCODER.NAME of YOLOX: its own backbones, by the names of the published files.
YOLOX_BACKBONES = ("yolox_nano", "yolox_tiny", "yolox_s", "yolox_m", "yolox_l", "yolox_x")
NO_ENCODER = "none"  # MODEL.ENCODER.NAME of networks that have none of the library's
OWN_CODE = re.compile(r"([A-Za-z0-9_-]+\.py):([A-Za-z_][A-Za-z0-9_]*)")


@functools.cache
def library_architectures() -> tuple[str, ...]:
    """Returns the architectures of the installed library, in its order; none where it is not installed."""
    spec = importlib.util.find_spec(LIBRARY)
    if spec is None or spec.origin is None:
        return ()
    lines = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    imports = [line for line in lines if isinstance(line, ast.ImportFrom) and line.level == 1]
    of_decoders = [line for line in imports if (line.module or "").startswith("decoders.")]
    return tuple(alias.name for line in of_decoders for alias in line.names)


def own_code(name: str) -> tuple[str, str] | None:
    """Returns file and function of a network of the user's own, None for every other name.

    >>> own_code("my_network.py:build"), own_code("Unet")
    (('my_network.py', 'build'), None)
    """
    match = OWN_CODE.fullmatch(name)
    return match.groups() if match else None


def why_not_named(name: str, finds_boxes: bool = False) -> str | None:
    """Returns why MODEL.NAME is refused, with what to write instead, or None.

    Args:
        finds_boxes: whether it must be a network that finds boxes.

    >>> why_not_named("Unet", finds_boxes=True)
    "found 'Unet', expected a network that finds boxes: RetinaNet or YOLOX"
    """
    if finds_boxes:
        known = f"a network that finds boxes: {' or '.join(DETECTORS)}"
        return None if name in DETECTORS else f"found {name!r}, expected {known}"
    if name in DETECTORS:
        return f"found {name!r}, which finds boxes, but the competition's TASK is segmentation; write for example Unet"
    library = library_architectures()
    if own_code(name) or not library or name in (*library, *OURS):
        return None
    if ".py" in name:
        return f"found {name!r}, expected FILE.py:FUNCTION with a file in the folder of the configs"
    near = nearest(name, (*library, *OURS))
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"found {name!r}, expected one of {', '.join((*library, *OURS))}, or FILE.py:FUNCTION{hint}"


def why_encoder_does_not_fit(name: str, encoder: str, weights: str | None) -> str | None:
    """Returns why an architecture does not go together with MODEL.ENCODER, or None.

    >>> why_encoder_does_not_fit("PlainUnet", "resnet18", None)
    'PlainUnet has no encoder of the library; set MODEL.ENCODER.NAME: none and MODEL.ENCODER.WEIGHTS: null'
    >>> why_encoder_does_not_fit("Unet", "yolox_s", None)
    'yolox_s is a backbone of MODEL.NAME: YOLOX, found Unet; write for example resnet18'
    """
    if name == "YOLOX":
        own = f"YOLOX has backbones of its own: {', '.join(YOLOX_BACKBONES)}"
        return (
            None if encoder in YOLOX_BACKBONES else f"found {encoder!r}; {did_you_mean(encoder, YOLOX_BACKBONES, own)}"
        )
    if encoder in YOLOX_BACKBONES:
        own = "set that, or for example resnet50" if name in DETECTORS else "write for example resnet18"
        return f"{encoder} is a backbone of MODEL.NAME: YOLOX, found {name}; {own}"
    if name == "PlainUnet" or own_code(name):
        if encoder != NO_ENCODER or weights is not None:
            remedy = "set MODEL.ENCODER.NAME: none and MODEL.ENCODER.WEIGHTS: null"
            return f"{name} has no encoder of the library; {remedy}"
    elif encoder == NO_ENCODER:
        return f"{name} needs an encoder, for example resnet18"
    return None
