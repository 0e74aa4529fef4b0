"""Where an encoder's weights lie on this machine; without torch, so that a skipped stage starts fast."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.config.schema import Encoder
from pipeline.errors import UserError
from pipeline.paths import weights_folders


def find_encoder_weights(encoder: Encoder) -> Path | None:
    """Returns the file of an encoder's weights on this machine, or None.

    `weights` is either a path, or a tag such as `imagenet` for which `<encoder>-<tag>.safetensors` is looked for in
    WEIGHTS_DIR, `data/weights` and the mounted Kaggle data sets.

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
    return next((folder / file_name for folder in weights_folders() if (folder / file_name).is_file()), None)
