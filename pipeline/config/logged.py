"""The settings of a run as trackers log them: what differs from base.yaml, and a few that every run has.

In: a resolved config. Out: plain values by key, without paths of the machine.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.config.load import Loaded, flatten, is_machine_key
from pipeline.config.schema import Config
from pipeline.config.tree import build, read_tree
from pipeline.paths import CONFIGS
from pipeline.wording import is_below

ALWAYS = (
    *("DATASETS.COMPETITION", "DATASETS.SPLIT.BY", "DATASETS.SPLIT_INDEX", "EXPERIMENT.SEED"),
    *("MODEL.NAME", "MODEL.ENCODER.NAME", "DATALOADERS.TRAIN.BATCH_SIZE", "LOSS_FN.MIX"),
    *("SOLVER.PLAN", "SOLVER.MAX_LR", "SOLVER.OPTIMIZER.NAME", "PREDICT.TTA"),
)
OF_AN_ENSEMBLE = ("DATASETS.COMPETITION", "ENSEMBLE.MEMBERS", "ENSEMBLE.METHOD")  # it trains nothing
NAMES = ("EXPERIMENT.PREFIX", "EXPERIMENT.SUFFIX", "MODEL.ABBR", "MODEL.ENCODER.ABBR", "DATASETS.TEST_DIRECTORY")


def logged_values(loaded: Loaded, keys: Iterable[str]) -> dict[str, str | float | bool]:
    """Returns settings by key, in the order of base.yaml.

    Args:
        keys: prefixes of those that count.
    """
    always, defaults, keys = OF_AN_ENSEMBLE if loaded.is_ensemble else ALWAYS, _defaults(), tuple(keys)
    return {
        key: plain_value(value)
        for key, value in loaded.values.items()
        if key in always or (value != defaults[key] and is_below(key, keys))
        if not is_machine_key(key) and not is_below(key, NAMES)
    }


def plain_value(value: Any) -> str | float | bool:
    """Returns a value as a number, a boolean or a text; of an absolute path only the last part.

    >>> [plain_value(value) for value in (0.5, True, None, "/data/weights/a.safetensors", (640, 352), {"a": 1})]
    [0.5, True, 'null', 'a.safetensors', '[640, 352]', '{"a": 1}']
    """
    if isinstance(value, str):
        return Path(value).name if Path(value).is_absolute() else value
    return value if isinstance(value, bool | int | float) else json.dumps(value, default=str)


@functools.cache
def _defaults() -> dict[str, Any]:
    return flatten(build(read_tree(CONFIGS / "base.yaml", "configs/base.yaml"), Config))
