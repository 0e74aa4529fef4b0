"""Config keys that were added after people had finished runs: with which value is a run what it was before?

Without this table every new key would make every finished run stale, though nothing about it has changed.
"""

from __future__ import annotations

from typing import Any

# Key -> the value that does what was done before there was the key. A default may change later; this value may not.
ADDED: dict[str, Any] = {
    "SOLVER.FINISH_WITHIN_HOURS": None,
    "RUNTIME.KEEP_STATE": False,
    "RUNTIME.RANKS": 1,
    "RUNTIME.SYNC_BATCH_NORM": True,
    "DATASETS.AUGMENTATION.TILE.MIN_VISIBLE": 0.3,
    "PREDICT.DETECTIONS.SUPPRESS": "nms",
    "PREDICT.DETECTIONS.OVERLAP": 0.5,
    "PREDICT.DETECTIONS.SCORE": 0.05,
    "PREDICT.DETECTIONS.MOST": 100,
    "DATALOADERS.TRAIN.SHUFFLE_WINDOW": 0,
}


def known_before(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns settings without the added keys that change nothing, as a run's marker had them before."""
    return {key: value for key, value in settings.items() if key not in ADDED or value != ADDED[key]}
