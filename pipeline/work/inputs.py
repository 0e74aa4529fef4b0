"""What the stages read outside the run's folder: competition files, images, first weights, earlier runs, members.

Asked at every start to decide what is fresh, so nothing here needs torch or pandas.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.architectures import own_code
from pipeline.config.competition import MaskCsv
from pipeline.config.drawn_seed import with_drawn_seed
from pipeline.config.members import load_members, member_names
from pipeline.config.template import any_file
from pipeline.data.competition import find_folder
from pipeline.data.image_files import label_files
from pipeline.engine.run import Run, Sources
from pipeline.errors import UserError
from pipeline.paths import (
    BEST,
    CONFIGS,
    DEMO_FOLDER,
    DEMOS,
    HISTORY,
    INDEX,
    PROBS,
    SPLIT,
    SWEEP_FACTS,
    TEST_CATALOG,
    TRAIN_CATALOG,
)
from pipeline.report.read import read_columns
from pipeline.submission.formats import format_of
from pipeline.training.all_data import source_of
from pipeline.training.hub import DESCRIPTION, WEIGHTS, is_of_hub, on_this_machine
from pipeline.training.inputs import (
    find_checkpoint,
    find_encoder_weights,
    is_at_hand,
    predicting_checkpoint,
    pseudo_tile_store,
    tile_store,
)

if TYPE_CHECKING:
    import pandas as pd


def competition_folder(run: Run) -> Path:
    """Returns the folder of the run's competition; the demo competitions are generated when they are not there yet."""
    directory, name = run.loaded.config.datasets.directory, run.loaded.competition.name
    if name in DEMOS and directory is None:
        from pipeline.demo.write import generate  # draws with OpenCV and NumPy, and only these competitions need it

        folder = DEMO_FOLDER.with_name(name)
        generate(folder, labels=DEMOS[name])
        return folder
    return find_folder(run.loaded.competition, run.folders.data, directory)


def test_folder(run: Run) -> Path:
    """Returns the folder of the test images and their list: DATASETS.TEST_DIRECTORY, or the competition's."""
    directory = run.loaded.config.datasets.test_directory
    if directory is None:
        return competition_folder(run)
    folder = Path(directory).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"DATASETS.TEST_DIRECTORY: there is no folder {directory}; name the folder of the test images (--test-dir)"
        )
    return folder.resolve()


def image_folder(run: Run, subset: str) -> Path:
    """Returns the folder to which the paths of a catalog are relative; `subset` is "train" or "test"."""
    return test_folder(run) if subset == "test" else competition_folder(run)


def training_files(run: Run) -> Sources:
    """Returns the list of training images, and every file in the folders of images and labels."""
    competition, folder = run.loaded.competition, competition_folder(run)
    masks, mask_folder = competition.masks, folder / (competition.mask_folder or "")
    is_csv = isinstance(masks, MaskCsv)
    boxes = competition.boxes
    lists = (
        competition.train_csv,
        competition.valid_csv,
        masks.csv if is_csv else None,
        *(boxes.files if boxes else ()),
    )
    templates = (*competition.templates("train"), *competition.templates("valid"), competition.valid_region)
    files = _files(folder, (*templates, boxes.template if boxes else None), lists)
    if masks is not None and not is_csv:
        files += _files(mask_folder, (masks,) if isinstance(masks, str) else masks, ())
    return {"the competition's files": list(dict.fromkeys(files))}


def test_files(run: Run, is_public: bool = False) -> Sources:
    """Returns the list of test images, their files, the sample submission, and the list that must not repeat an id.

    Args:
        is_public: of the competition's own test images, whatever DATASETS.TEST_DIRECTORY says.
    """
    competition, folder = run.loaded.competition, competition_folder(run) if is_public else test_folder(run)
    is_hidden = not is_public and run.loaded.config.datasets.test_directory is not None
    lists = (competition.test_csv, competition.sample_submission, None if is_hidden else competition.train_csv)
    if is_hidden and not (competition.test_csv and (folder / competition.test_csv).is_file()):
        return {"the test images": sorted(path for path in folder.rglob("*") if path.is_file())}
    return {"the test images": _files(folder, competition.templates("test"), lists)}


def images_of(run: Run, subset: str) -> Sources:
    """Returns the images and labels of the `train` or `test` catalog, by a name for messages."""
    columns = read_columns(run.paths / (TEST_CATALOG if subset == "test" else TRAIN_CATALOG))
    if columns is None:
        return {}
    folder = image_folder(run, subset)
    cells = dict.fromkeys(cell for name in ("image", "mask") if name in columns for cell in columns[name])
    files = [folder / file for cell in cells for file in label_files(cell)]
    return {"the test images" if subset == "test" else "the training images": files}


def sample_submission(run: Run) -> Sources:
    """Returns the sample that a submission is checked against, where the competition has one."""
    path = sample_path(run)
    return {"the sample submission": path} if path is not None else {}


def sample_path(run: Run) -> Path | None:
    """Returns the file of the sample submission, or None where there is none, as for a hidden test set."""
    name = run.loaded.competition.sample_submission
    if name is None:
        return None
    path = test_folder(run) / name
    is_hidden = run.loaded.config.datasets.test_directory is not None
    return None if is_hidden and not path.is_file() else path


def submission_file(run: Run) -> dict[str, Path]:
    """Returns the file to upload."""
    return {"the submission file": run.paths.submission(format_of(run.loaded.competition).suffix)}


def submission_files(run: Run) -> dict[str, Path]:
    """Returns the file to upload, and its second name where SUBMIT.FILE gives one."""
    second = run.loaded.config.submit.file
    return submission_file(run) | ({"SUBMIT.FILE": Path(second).expanduser()} if second else {})


def submitted_sources(run: Run) -> Sources:
    """Returns the sample submission, and the test images where `submit` itself predicts them, within a time limit."""
    return sample_submission(run) | (images_of(run, "test") if has_limit(run) else {})


def has_limit(run: Run) -> bool:
    """Returns whether the run has a time limit: `submit` then predicts the test images."""
    return run.loaded.config.submit.time_limit_hours is not None


def sizes_of(rows: pd.DataFrame) -> list[tuple[int, int]]:
    """Returns (height, width) of the images of catalog rows."""
    return list(zip(map(int, rows["height"]), map(int, rows["width"]), strict=True))


def large_ids(rows: pd.DataFrame, whole_px: int) -> set[str]:
    """Returns the ids of images with more than so many pixels, which are predicted in windows."""
    return {id for id, (height, width) in zip(rows["id"], sizes_of(rows), strict=True) if height * width > whole_px}


def averaged_sources(run: Run) -> Sources:
    """Returns the training images, and of other runs that are averaged with this one what they are and have seen."""
    sources = images_of(run, "train")
    for name in run.loaded.config.average.runs or ():
        sources |= {f"{name}'s {file}": run.folders.run(name) / file for file in (BEST, SPLIT)}
    return sources


def starting_weights(run: Run) -> Sources:
    """Returns the weights that training starts from, and the code of a network of the user's own.

    Other weights or other code mean another result. Of a run on all images also what says how long it trains, and at
    which rate.
    """
    config, sources = run.loaded.config, {}
    if run.loaded.is_on_all_images:
        source = source_of(run.loaded, run.folders)
        sources |= {f"SOLVER.FROM's {name}": source / name for name in (HISTORY, SWEEP_FACTS)}
    if code := own_code(config.model.name):
        sources[f"the code in {code[0]}"] = CONFIGS / code[0]
    if config.experiment.load_prev is not None:
        previous = find_checkpoint(config.experiment.load_prev, run.folders)
        return {"the previous run's best checkpoint": previous} | sources
    path = find_encoder_weights(config.model.encoder, run.folders.weights)
    encoder = config.model.encoder
    if is_of_hub(encoder.name):  # a network and, where no file has them, weights that may change there
        files = (DESCRIPTION,) if path or encoder.weights is None else (DESCRIPTION, WEIGHTS)
        sources |= {f"the encoder's {file.name}": file for file in on_this_machine(encoder, files)}
    return ({"the encoder's weights": path} if path else {}) | sources


def lacks_tiles(run: Run) -> bool:
    """Returns whether a tile store is missing both in the scratch folder and in STORES_URL."""
    stores = [tile_store(run), *([pseudo_tile_store(run)] if run.loaded.has_pseudo_labels else [])]
    return not all(is_at_hand(run, store) for store in stores)


def member_runs(run: Run) -> list[Run]:
    """Returns an ensemble's members as runs of their own, in the order of ENSEMBLE.MEMBERS; else the run itself."""
    if not run.loaded.is_ensemble:
        return [run]
    members = [with_drawn_seed(one, run.folders.run(one.run).folder) for one in load_members(run.loaded)]
    return [replace(run.of(member), log=_prefixed(run.log, member.run)) for member in members]


def member_sources(run: Run) -> Sources:
    """Returns what decides the members' predictions: the competition, their checkpoints and configs.

    Members that are finished need no training image: a hidden test set is predicted without the competition.
    """
    sources = dict(test_files(run))
    with contextlib.suppress(UserError):
        sources |= training_files(run)
    for member in member_runs(run):
        files = {origin.rpartition(":")[0] for origin in member.loaded.origins.values()}
        sources[f"{member.name}'s checkpoint"] = predicting_checkpoint(member)
        sources[f"{member.loaded.name}'s config"] = sorted(CONFIGS.parent / file for file in files if file)
    return sources


def member_stores(run: Run, subset: str) -> Sources:
    """Returns the members' probability stores of the `test` or `valid` images, by a name for messages.

    None with ENSEMBLE.STREAM, and none of test images with a time limit: members.json says then what decides their
    predictions.
    """
    if run.loaded.config.ensemble.stream or (subset == "test" and has_limit(run)):
        return {}
    members = member_runs(run)
    names = member_names([member.loaded for member in members])
    return {
        f"{name}'s {PROBS[subset]}": member.paths / PROBS[subset] for name, member in zip(names, members, strict=True)
    }


def held_out_sources(run: Run) -> Sources:
    """Returns the members' stores of the validation images, and these images with their labels."""
    return member_stores(run, "valid") | images_of(run, "train")


def test_sources(run: Run) -> Sources:
    """Returns the members' stores of the test images or these images, and the sample submission."""
    return member_stores(run, "test") | submitted_sources(run)


def lacks_predictions(run: Run) -> bool:
    """Returns whether a member's probabilities, where they are wanted, are gone."""
    if run.loaded.config.ensemble.stream:
        return False
    subsets = [subset for subset in PROBS if subset != "test" or not has_limit(run)]
    folders = [member.paths / PROBS[subset] for member in member_runs(run) for subset in subsets]
    return not all((folder / INDEX).is_file() for folder in folders)


def _files(folder: Path, templates: Sequence[str | None], lists: tuple[str | None, ...]) -> list[Path]:
    """Returns the lists, and every file in the folders that hold a file of a template.

    Every start of a run asks for them, so what can be told from names alone makes no `Path`.
    """
    patterns = {any_file(template) for template in templates if template}
    parents = sorted({parent for pattern in patterns for parent in _parents(folder, pattern)})
    files = [folder / name for name in lists if name and (folder / name).is_file()]
    within = [Path(entry) for parent in parents for entry in _names_of_files(parent)]
    return files + (within if len(parents) == 1 else sorted(within))


def _parents(folder: Path, pattern: str) -> set[Path]:
    """Returns the folders that hold a file of a pattern; of ids with folders these are deeper than it says."""
    parent, _, name = pattern.rpartition("/")
    if "*" not in parent and "[" not in parent:
        matches = re.compile(fnmatch.translate(name)).match
        if (folder / parent).is_dir() and any(map(matches, os.listdir(folder / parent))):
            return {folder / parent}
    found = list(folder.glob(pattern)) or folder.glob(f"**/{pattern}")
    return {path.parent for path in found}


def _names_of_files(parent: Path) -> list[str]:
    with os.scandir(parent) as entries:  # of a link that leads to itself, `entry.is_file()` raises
        return sorted(
            entry.path
            for entry in entries
            if (os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file(follow_symlinks=False))
        )


def _prefixed(log: Callable[[str], None], name: str) -> Callable[[str], None]:
    return lambda line: log(f"{name}: {line}")
