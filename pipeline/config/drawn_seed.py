"""`EXPERIMENT.SEED: random`: a new run draws its seed and stores it in the resolved config of its folder.

Every later command on that folder uses the same seed, so a stopped training continues and finished stages stay valid.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from pathlib import Path

from pipeline.config.load import Loaded
from pipeline.config.schema import NUM_SEEDS
from pipeline.paths import CONFIG

KEY, RANDOM = "EXPERIMENT.SEED", "random"


def with_drawn_seed(loaded: Loaded, folder: Path) -> Loaded:
    """Returns a config with a number in place of `random`: the seed in the run's folder, or a new one.

    Nothing is written here; the engine writes the resolved config when it runs the first stage.

    Args:
        folder: of the run, which need not exist.
    """
    if loaded.config.experiment.seed != RANDOM:
        return loaded
    kept = kept_seed(folder)
    seed = secrets.randbelow(NUM_SEEDS) if kept is None else kept
    config = replace(loaded.config, experiment=replace(loaded.config.experiment, seed=seed))
    return replace(loaded, config=config, values=loaded.values | {KEY: seed})


def kept_seed(folder: Path) -> int | None:
    """Returns the seed in the resolved config of a run's folder, None where there is none."""
    try:
        lines = (folder / CONFIG).read_text(encoding="utf-8").splitlines()
        seed = json.loads("\n".join(line for line in lines if not line.startswith("#")))["EXPERIMENT"]["SEED"]
    except (OSError, ValueError, LookupError, TypeError):  # a new folder, or a damaged file
        return None
    return seed if type(seed) is int else None
