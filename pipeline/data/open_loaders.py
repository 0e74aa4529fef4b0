"""Ends data-loading workers when Python exits, where something still refers to their loaders.

After an error that nobody catches, Python keeps the error, and its traceback the loaders, until it has exited.
multiprocessing would then end the workers by SIGTERM, after which they stay for a checkpoint; see `start_worker`.
"""

from __future__ import annotations

import atexit
from weakref import WeakSet

from torch.utils.data import DataLoader

_loaders: WeakSet[DataLoader] = WeakSet()


def noted(loader: DataLoader) -> DataLoader:
    """Returns the loader, whose workers are now told to end when Python exits."""
    _loaders.add(loader)
    return loader


# Before the functions that torch and multiprocessing registered when they were imported: the last one runs first.
@atexit.register
def end_workers() -> None:
    """Ends the workers of all loaders that are still there."""
    for loader in list(_loaders):
        if hasattr(loader._iterator, "_shutdown_workers"):
            loader._iterator._shutdown_workers()
