"""A network of the user's own: a function in a Python file beside the configs, run only where it is trusted.

    # configs/my_network.py
    def build(in_channels, classes, **options):   # options: MODEL.OPTIONS, in lower case
        return MyNetwork(...)                      # float32 (B, in_channels, H, W) to logits (B, classes, H, W)

`./run.sh NAME --trust-code` says so on the command line; no config can. The file's content is among the inputs of
`sweep` and `train`. Parts that the network calls `encoder` and `segmentation_head` have their LR factors and can be
frozen by these names.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from torch import nn

from pipeline.errors import UserError
from pipeline.paths import CONFIGS


def own_function(file: str, function: str, is_trusted: bool) -> Callable[..., nn.Module]:
    """Returns a function of a file in the folder of the configs, which runs the file.

    Raises:
        UserError: the code is not trusted, there is no such file or function, or the file cannot be imported.
    """
    path = CONFIGS / file
    if not path.is_file():
        raise UserError(f"MODEL.NAME: there is no file {file} in {CONFIGS.name}/; write one, or name an architecture")
    if not is_trusted:
        raise UserError(
            f"MODEL.NAME {file}:{function} runs the code of {CONFIGS.name}/{file}; read it, then add --trust-code"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise UserError(f"{CONFIGS.name}/{file} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise UserError(f"MODEL.NAME: {CONFIGS.name}/{file} has no function {function}; define it there")
    return found
