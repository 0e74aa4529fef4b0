"""What a run's settings and files say about its data and network, without torch, so that a skipped stage starts fast.

In: the resolved config, the training catalog, `split.csv`, `tiles.json`, the folders of encoder weights.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.load import Loaded, config_path, load, names, run_name
from pipeline.config.schema import Encoder
from pipeline.data.competition import find_folder
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.paths import (
    BEST,
    CHOSEN,
    IMAGES,
    INDEX,
    PSEUDO_TABLE,
    SPLIT,
    TILES,
    TRAIN_CATALOG,
    VALID_STORE,
    Folders,
    RunPaths,
    shown,
)

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.data.image_source import ImageSource

PUBLISHED = "model.safetensors"  # as segmentation_models_pytorch's `save_pretrained` names it
WEIGHT_FILES = (".safetensors", ".pth")  # the second of networks whose publisher has no others
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def seed_of(loaded: Loaded) -> int:
    """Returns the seed of a run: EXPERIMENT.SEED, or the one that belongs to its slice.

    `random` is a number since the run was opened, see `pipeline/config/drawn_seed.py`.
    """
    from pipeline.data.split import split_seed

    seed = loaded.config.experiment.seed
    return split_seed(loaded.config.datasets.split_index) if seed is None else seed


def split_rows(paths: RunPaths, subset: str) -> pd.DataFrame:
    """Returns the catalog rows of the `train` or `valid` images of a run's split."""
    from pipeline.data.catalog import read_catalog
    from pipeline.data.split import read_split

    catalog, split = read_catalog(paths / TRAIN_CATALOG), read_split(paths / SPLIT)
    return catalog.set_index("id", drop=False).loc[split.loc[split["subset"] == subset, "id"]].reset_index(drop=True)


def pseudo_rows(paths: RunPaths) -> pd.DataFrame:
    """Returns the rows of the table of pseudo-labelled images that are trained on."""
    from pipeline.data.catalog import read_catalog

    rows = read_catalog(paths / PSEUDO_TABLE)
    return rows[rows["is_used"] == 1].reset_index(drop=True)


def images_of(run: Run, folder: Path) -> ImageSource:
    """Returns the images of a run's competition in a folder, as `prepare` measured them."""
    from pipeline.data.image_source import ImageSource

    return ImageSource(run.loaded.competition, folder, image_facts(run))


def image_facts(run: Run) -> dict[str, Any] | None:
    """Returns what `prepare` measured of the images (images.json); None before it ran."""
    path = run.paths / IMAGES
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def tile_store(run: Run) -> Path:
    """Returns the folder of a run's tile store; `tiles.json` holds its name only, so that the store may move."""
    return run.folders.tiles / json.loads((run.paths / TILES).read_text(encoding="utf-8"))["store"]


def predicting_checkpoint(run: Run) -> Path:
    """Returns the file of the checkpoint that a run predicts with: its best one, or what `average` chose."""
    return run.paths / (CHOSEN if run.loaded.is_averaged else BEST)


def pseudo_tile_store(run: Run) -> Path:
    """Returns the folder of the tile store with a run's pseudo-labelled images."""
    return run.folders.tiles / json.loads((run.paths / TILES).read_text(encoding="utf-8"))["pseudo_store"]


def valid_store(run: Run) -> Path:
    """Returns the folder of the store with a run's validation images at their own size."""
    return run.folders.tiles / json.loads((run.paths / VALID_STORE).read_text(encoding="utf-8"))["store"]


def valid_folder(run: Run) -> Path | None:
    """Returns the folder with a run's validation images; None: they are not on this machine, but in a store.

    Raises:
        UserError: they are neither.
    """
    try:
        return find_folder(run.loaded.competition, run.folders.data, run.loaded.config.datasets.directory)
    except UserError:
        if (run.paths / VALID_STORE).is_file() and is_at_hand(run, valid_store(run)):
            return None
        raise


def is_at_hand(run: Run, store: Path) -> bool:
    """Returns whether a tile store is on this machine, or where STORES_URL says; then it has a folder from now on."""
    if (store / INDEX).is_file():
        return True
    if run.folders.stores is None:
        return False
    from pipeline.data.remote_store import attach, remote_of

    return attach(store, remote_of(run.folders), run.log)


def find_encoder_weights(encoder: Encoder, folders: Sequence[Path]) -> Path | None:
    """Returns the file of an encoder's weights on this machine, or None.

    `weights` is either a path, or a tag such as `imagenet` for which the first `<encoder>-<tag>.safetensors` in
    `folders` is taken, or else `<encoder>-<tag>.pth`.

    Raises:
        UserError: the path that is named does not exist.
    """
    if encoder.weights is None:
        return None
    if encoder.weights.endswith(WEIGHT_FILES) or os.sep in encoder.weights:
        path = Path(encoder.weights).expanduser()
        if not path.is_file():
            raise UserError(f"MODEL.ENCODER.WEIGHTS: there is no file {path}")
        return path
    names = [f"{encoder.name}-{encoder.weights}{suffix}" for suffix in WEIGHT_FILES]
    paths = (folder / name for name in names for folder in folders)
    return next((path for path in paths if path.is_file()), None)


def how_to_train(run: str, stage: str) -> str:
    """Returns the end of a sentence that asks for a run's training; the name of a run with overrides tells no command.

    >>> how_to_train("demo", "train"), how_to_train("demo-1a2b3c4d", "train")
    (': ./run.sh demo train', ', with the command that created it')
    """
    return f": ./run.sh {shlex.quote(run)} {stage}" if run in names() else ", with the command that created it"


def find_checkpoint(name: str, folders: Folders) -> Path:
    """Returns the file of weights that EXPERIMENT.LOAD_PREV names.

    Args:
        name: of a run, of a config, a run name for people, a .ckpt or .safetensors file, a folder that the library's
            `save_pretrained` wrote, or a network of its hub (`owner/name`).

    Raises:
        UserError: nothing has that name.
    """
    if name.endswith((".ckpt", ".safetensors")):
        return Path(name).expanduser()
    if (Path(name).expanduser() / PUBLISHED).is_file():
        return Path(name).expanduser() / PUBLISHED
    if (folders.runs / name).is_dir():
        return folders.run(name) / BEST
    if HUB_NAME.fullmatch(name):
        return _from_hub(name)
    known = _configs_by_run_name()
    if name not in known:
        try:
            config_path(name)  # refuses with the nearest names
        except UserError as error:
            raise UserError(f"EXPERIMENT.LOAD_PREV: no run has this name, and {error}") from None
    return folders.run(known.get(name, name)) / BEST


def _from_hub(name: str) -> Path:
    """Returns the file of a network of the library's hub, which is downloaded once.

    Raises:
        UserError: it is not on this machine, and the hub does not give it.
    """
    import huggingface_hub as hub

    from pipeline.training.hub import use_cache_without_network

    cached = hub.try_to_load_from_cache(name, PUBLISHED)
    if isinstance(cached, str):
        return Path(cached)
    use_cache_without_network()
    try:
        return Path(hub.hf_hub_download(name, PUBLISHED))
    except Exception as error:  # the hub's client raises its own, requests' and the system's errors alike
        python = shlex.quote(shown(Path(sys.executable)))  # which the command `hf` may not be of
        raise UserError(
            f"EXPERIMENT.LOAD_PREV: {name} is not on this machine, and the library's hub did not give its {PUBLISHED} "
            f'({type(error).__name__}). With internet: {python} -c "import huggingface_hub as hub; '
            f"print(hub.snapshot_download('{name}'))\"; then name the folder that it prints"
        ) from None


def _configs_by_run_name() -> dict[str, str]:
    """Returns the configs by the names that people see; a broken config has none, and is refused when it is run."""
    known = {}
    for config in names():
        if not config.startswith("Ens"):
            with contextlib.suppress(UserError):
                known[run_name(load(config).config)] = config
    return known
