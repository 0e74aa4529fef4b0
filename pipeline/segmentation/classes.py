"""Which classes a run's network predicts, which its loss uses, and which are scored. Needs no torch."""

from __future__ import annotations

from pipeline.config.load import Loaded


def num_outputs(loaded: Loaded) -> int:
    """Returns the network's output channels: the classes, and one more when padding is a class of its own."""
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
