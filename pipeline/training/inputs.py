"""What a run's settings and files say about its data and network, without torch, so that a skipped stage starts fast.

In: the resolved config, `catalog.csv`, `split.csv`, `tiles.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.load import Loaded
from pipeline.paths import RunPaths, scratch_folder

if TYPE_CHECKING:
    import pandas as pd


def num_outputs(loaded: Loaded) -> int:
    """Returns the network's output channels: the scored classes, and one more when padding is a class of its own."""
    return loaded.competition.num_classes + (loaded.config.datasets.padding == "class")


def loss_classes(loaded: Loaded) -> tuple[int, ...]:
    """Returns the indices of the classes that enter the loss (DATASETS.CLASSES)."""
    names = loaded.competition.class_names
    chosen = loaded.config.datasets.classes
    return tuple(index for index, name in enumerate(names) if chosen == "all" or name in chosen)


def scored_classes(loaded: Loaded) -> tuple[int, ...]:
    """Returns the indices of the classes that enter means and monitor: the loss classes that are submitted."""
    submitted = loaded.competition.scored_indices
    return tuple(index for index in loss_classes(loaded) if index in submitted)


def seed_of(loaded: Loaded) -> int:
    """Returns the seed of a run: EXPERIMENT.SEED, or the one that belongs to its slice."""
    from pipeline.data.split import split_seed

    seed = loaded.config.experiment.seed
    return split_seed(loaded.config.datasets.split_index) if seed is None else seed


def split_rows(paths: RunPaths, subset: str) -> pd.DataFrame:
    """Returns the catalog rows of the `train` or `valid` images of a run's split."""
    import pandas as pd

    from pipeline.data.catalog import read_catalog

    catalog = read_catalog(paths / "catalog.csv")
    split = pd.read_csv(paths / "split.csv", dtype=str, keep_default_na=False)
    return catalog.set_index("id", drop=False).loc[split.loc[split["subset"] == subset, "id"]].reset_index(drop=True)


def tile_store(paths: RunPaths) -> Path:
    """Returns the folder of a run's tile store; `tiles.json` holds its name only, so that the store may move."""
    return scratch_folder() / "tiles" / json.loads((paths / "tiles.json").read_text())["store"]
