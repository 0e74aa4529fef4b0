"""The teacher of pseudo-labels: its members as runs, which of them are honest, and the unlabelled images.

A member that was trained on validation images of the student is left out: of near-duplicates among the unlabelled
images, such as neighbouring frames of a video, its predictions would carry the validation labels into training.

Asked at every start to decide what is fresh, so nothing here needs torch or pandas before `unlabelled_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.drawn_seed import with_drawn_seed
from pipeline.config.load import load
from pipeline.config.members import member_command
from pipeline.data.image_files import label_files
from pipeline.engine.run import Run, Sources
from pipeline.errors import UserError
from pipeline.paths import CONFIGS, IMAGES, PSEUDO_TABLE, SPLIT
from pipeline.report.read import read_columns, read_json
from pipeline.training.inputs import predicting_checkpoint
from pipeline.work.inputs import competition_folder, images_of, member_runs, test_files

if TYPE_CHECKING:
    import pandas as pd

KEY = "PSEUDO.TEACHER"
OF_TEST = "test"  # PSEUDO.IMAGES: the competition's test images


@dataclass(frozen=True)
class Teacher:
    """The members that label images.

    Attributes:
        members: those that were trained on no validation image of the student.
        left_out: why others are not among them, by name.
        trained_on: ids of all images that the members were trained on.
    """

    members: tuple[Run, ...]
    left_out: dict[str, str]
    trained_on: frozenset[str]


def teacher_runs(run: Run) -> list[Run]:
    """Returns the members of a run's teacher as runs of their own; of an experiment the experiment alone.

    Raises:
        UserError: no such config, one of another competition, or the run itself.
    """
    name, origin = run.loaded.config.pseudo.teacher, f"{run.loaded.origins[KEY]}: {KEY}"
    try:
        loaded = load(name, (), run.loaded.trusts_code)
    except UserError as error:
        raise UserError(f"{origin}: {error}") from None
    if loaded.run == run.name:
        raise UserError(
            f"{origin}: {name} cannot be its own teacher; name an earlier experiment or an ensemble, or null"
        )
    if loaded.competition.name != run.loaded.competition.name:
        found = f"{name} is from the competition {loaded.competition.name}"
        raise UserError(f"{origin}: {found}, {run.name} from {run.loaded.competition.name}; name one of the same")
    if loaded.is_ensemble:
        return member_runs(run.of(loaded))
    alone = run.of(with_drawn_seed(loaded, run.folders.run(loaded.run).folder))
    return [replace(alone, log=lambda line: run.log(f"{loaded.run}: {line}"))]


def is_streamed(run: Run) -> bool:
    """Returns whether the teacher predicts image by image, instead of its members' stores being read.

    So it does other images than the test set's; and these, too, where the teacher keeps no stores.
    """
    if run.loaded.config.pseudo.images != OF_TEST or load(run.loaded.config.pseudo.teacher).config.ensemble.stream:
        return True
    return any(all(stage.name != "predict" for stage in member.stages) for member in teacher_runs(run))


def check_teacher(run: Run) -> None:
    """Refuses a teacher that is not trained, before anything else is done.

    Raises:
        UserError: names each member with the command to type.
    """
    require_test_images(run)
    unlabelled_folder(run)
    missing = [member for member in teacher_runs(run) if not predicting_checkpoint(member).is_file()]
    if missing:
        lines = (
            member_command(member.loaded, "average" if member.loaded.is_averaged else "train") for member in missing
        )
        commands = "\n".join(f"  {line}" for line in lines)
        raise UserError(f"{KEY}: {run.loaded.config.pseudo.teacher} is not trained yet; type:\n{commands}")


def honest_teacher(run: Run, trained_on: Sequence[set[str] | None], members: Sequence[Run]) -> Teacher:
    """Returns the teacher without members that were trained on validation images of the run.

    Args:
        trained_on: of each member, the images that it was trained on; None: unknown.

    Raises:
        UserError: no member is left, or too few for AGREEMENT.
    """
    split = read_columns(run.paths / SPLIT)
    valid = {id for id, subset in zip(split["id"], split["subset"], strict=True) if subset == "valid"}
    kept, left_out, seen = [], {}, set()
    for member, own in zip(members, trained_on, strict=True):
        if own is None and valid:
            left_out[member.name] = "it is unknown on which images its weights were trained"
        elif valid & (own or set()):
            left_out[member.name] = f"trained on {len(valid & own)} of the {len(valid)} validation images of this run"
        else:
            kept.append(member)
            seen |= own or set()
    settings = run.loaded.config.pseudo
    if not kept:
        raise UserError(_no_member(run, left_out))
    if settings.agreement is not None and len(kept) < 2:
        found = f"{settings.agreement:g} compares members, but {settings.teacher} has only {kept[0].name}"
        others = f" (left out: {'; '.join(f'{name}: {why}' for name, why in left_out.items())})" if left_out else ""
        raise UserError(f"PSEUDO.AGREEMENT: {found}{others}; set null, or name an ensemble as TEACHER")
    return Teacher(tuple(kept), left_out, frozenset(seen))


def _no_member(run: Run, left_out: dict[str, str]) -> str:
    split = run.loaded.config.datasets
    lines = [f"  {name}: {why}" for name, why in left_out.items()]
    same = f"DATASETS.SPLIT.BY={split.split.by} DATASETS.SPLIT_INDEX={split.split_index}"
    same += f" DATASETS.SPLIT.FOLDS={split.split.folds}" if split.split.folds else ""
    return "\n".join(
        [
            f"{KEY}: no member of {run.loaded.config.pseudo.teacher} may label images for {run.name}, since its labels "
            "would carry the validation labels into training:",
            *lines,
            f"Name a teacher that was trained on this run's split ({same}), or give this run the split of a member.",
        ]
    )


def unlabelled_folder(run: Run) -> Path:
    """Returns the folder to which the paths of the unlabelled images are relative.

    Of test images it is the competition's, whatever DATASETS.TEST_DIRECTORY says: a hidden test set is there only when
    the network is trained already.

    Raises:
        UserError: there is no such folder.
    """
    images = run.loaded.config.pseudo.images
    if images == OF_TEST:
        return competition_folder(run)
    folder = Path(images).expanduser()
    if not folder.is_dir():
        raise UserError(f"PSEUDO.IMAGES: there is no folder {images}; write test, or the path of a folder of images")
    return folder.resolve()


def require_test_images(run: Run) -> None:
    """Refuses PSEUDO.IMAGES test where the competition has no test images.

    Raises:
        UserError: says what to set.
    """
    competition = run.loaded.competition
    if run.loaded.config.pseudo.images == OF_TEST and not (competition.test_csv or competition.test_images):
        found = f"{competition.name} has no test images"
        raise UserError(f"PSEUDO.IMAGES: {found}; set PSEUDO.IMAGES to a folder of unlabelled images")


def teacher_sources(run: Run) -> Sources:
    """Returns what decides the pseudo-labels: the members' checkpoints and configs, and the unlabelled images."""
    require_test_images(run)
    folder, sources = unlabelled_folder(run), {}
    if run.loaded.config.pseudo.images == OF_TEST:
        sources |= test_files(run, is_public=True)
    else:
        sources["the unlabelled images"] = sorted(path for path in folder.rglob("*") if path.is_file())
    for member in teacher_runs(run):
        files = {origin.rpartition(":")[0] for origin in member.loaded.origins.values()}
        sources[f"{member.name}'s checkpoint"] = predicting_checkpoint(member)
        sources[f"{member.loaded.name}'s config"] = sorted(CONFIGS.parent / file for file in files if file)
    return sources


def tiled_images(run: Run) -> Sources:
    """Returns the training images with their labels, and the pseudo-labelled images where there are some."""
    columns = read_columns(run.paths / PSEUDO_TABLE) if run.loaded.has_pseudo_labels else None
    if "image" not in (columns or ()):
        return images_of(run, "train")
    folder = unlabelled_folder(run)
    files = [folder / file for cell in dict.fromkeys(columns["image"]) for file in label_files(cell)]
    return images_of(run, "train") | {"the unlabelled images": files}


def unlabelled_rows(run: Run) -> pd.DataFrame:
    """Returns a row per unlabelled image: id, sequence, image, width, height.

    Raises:
        UserError: files or lists have problems; all of them, each with its fix.
    """
    from pipeline.data.catalog import build_test_catalog
    from pipeline.data.problems import format_problems

    folder, is_extra = unlabelled_folder(run), run.loaded.config.pseudo.images != OF_TEST
    number_format = (read_json(run.paths / IMAGES) or {}).get("dtype")
    rows, problems = build_test_catalog(run.loaded.competition, folder, is_extra, number_format)
    if is_extra and [problem.kind for problem in problems] == ["test folder empty"]:
        raise UserError(
            f"PSEUDO.IMAGES: {folder} has no images ({problems[0].found}); name a folder of images, or write test"
        )
    if problems:
        raise UserError(f"PSEUDO.IMAGES: {folder} cannot be used as it is:\n{format_problems(problems)}")
    return rows
