"""Which images a run's weights were trained on: in the run itself, and in all that it started from or was averaged of.

In: split.csv, config.yaml, the files of pseudo-labels and averages, in the folders of runs. Needs neither torch nor
pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.engine.run import Run
from pipeline.paths import AVERAGE, CHOSEN, CONFIG, PSEUDO_FACTS, SPLIT, Folders, RunPaths
from pipeline.report.read import read_columns, read_config, read_json
from pipeline.training.inputs import find_checkpoint


def trained_on(member: Run) -> set[str] | None:
    """Returns the images that the weights with which a run predicts were trained on, in a soup those of all its runs.

    None where one of them started from a file of unknown origin.
    """
    name, folders = member.loaded.config.datasets.competition, member.folders
    others = _averaged_into(member.paths / CHOSEN, folders) if member.loaded.is_averaged else []
    parts = [own_images(member), *(_trained_on(folder, values, name, folders) for folder, values in others)]
    return None if None in parts else set().union(*parts)


def own_images(run: Run) -> set[str] | None:
    """Returns the images that a run itself was trained on, or what it started from; None: of unknown origin."""
    name = run.loaded.config.datasets.competition
    return _trained_on(run.paths.folder, run.loaded.values, name, run.folders)


def images_before(run: Run) -> set[str] | None:
    """Returns the images that a run's first weights were trained on, before the run itself; None: of unknown origin."""
    return _before(run.paths.folder, run.loaded.values, run.loaded.config.datasets.competition, run.folders, ())


def images_trained_on(paths: RunPaths, competition: str, folders: Folders) -> set[str] | None:
    """Returns the same for the best checkpoint of any run, for the images of a competition."""
    return _trained_on(paths.folder, read_config(paths / CONFIG) or {}, competition, folders)


def _trained_on(
    folder: Path, values: Mapping[str, Any], competition: str, folders: Folders, seen: tuple[Path, ...] = ()
) -> set[str] | None:
    """Returns the images of a competition that a run's weights were trained on, in the runs that it started from too.

    Published weights (.safetensors) count as pretrained encoders do: as trained on other images.
    """
    split = read_columns(folder / SPLIT)
    if split is None or folder in seen:
        return None
    ids = {id for id, subset in zip(split["id"], split["subset"], strict=True) if subset == "train"}
    if values.get("PSEUDO.TEACHER") is not None:  # pseudo-labels pass on what the teacher was trained on
        learnt = (read_json(folder / PSEUDO_FACTS) or {}).get("trained_on")
        if learnt is None:
            return None
        ids |= set(learnt)
    if values.get("DATASETS.COMPETITION") != competition:
        ids = set()  # those of other images, whatever they are called
    before = _before(folder, values, competition, folders, seen)
    return None if before is None else ids | before


def _before(
    folder: Path, values: Mapping[str, Any], competition: str, folders: Folders, seen: tuple[Path, ...]
) -> set[str] | None:
    """Returns the images that the weights of EXPERIMENT.LOAD_PREV were trained on; none where a run starts anew."""
    load_prev = values.get("EXPERIMENT.LOAD_PREV")
    if load_prev is None:
        return set()
    previous = find_checkpoint(load_prev, folders)
    if previous.suffix == ".safetensors":
        return set()
    before, ids = read_config(previous.parent / CONFIG) or {}, set()
    sources = [(previous.parent, before), *(_averaged_into(previous, folders) if previous.name == CHOSEN else ())]
    for source, own in sources:
        earlier = _trained_on(source, own, competition, folders, (*seen, folder))
        if earlier is None:
            return None
        ids |= earlier
    return ids


def _averaged_into(checkpoint: Path, folders: Folders) -> list[tuple[Path, dict[str, Any]]]:
    """Returns folder and config of the runs whose weights are averaged in a run's `chosen.ckpt`, beside its own."""
    names = (read_json(checkpoint.with_name(AVERAGE)) or {}).get("runs", ())
    return [(folders.run(name).folder, read_config(folders.run(name) / CONFIG) or {}) for name in names]
