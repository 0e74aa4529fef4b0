"""Where an encoder's weights lie on this machine; without torch, so that a skipped stage starts fast."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.schema import Encoder
from pipeline.errors import UserError


def find_encoder_weights(encoder: Encoder, folders: Sequence[Path]) -> Path | None:
    """Returns the file of an encoder's weights on this machine, or None.

    `weights` is either a path, or a tag such as `imagenet` for which the first `<encoder>-<tag>.safetensors` in
    `folders` is taken.

    Raises:
        UserError: the path that is named does not exist.
    """
    if encoder.weights is None:
        return None
    if encoder.weights.endswith(".safetensors") or os.sep in encoder.weights:
        path = Path(encoder.weights).expanduser()
        if not path.is_file():
            raise UserError(f"MODEL.ENCODER.WEIGHTS: there is no file {path}")
        return path
    file_name = f"{encoder.name}-{encoder.weights}.safetensors"
    return next((folder / file_name for folder in folders if (folder / file_name).is_file()), None)
