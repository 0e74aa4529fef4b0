"""`new`: a first description of a competition, written from its folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.table import Parser
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.paths import Folders, descriptor, shown
from pipeline.wording import nearest

if TYPE_CHECKING:
    from pipeline.config.competition import Competition
    from pipeline.data.discovery.draft import Draft
    from pipeline.data.discovery.folder import Description

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def new_command(options: Parser, arguments: Sequence[str]) -> None:
    """Writes a competition's file and a first experiment from what is in its folder."""
    options.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the competition's files, unpacked")
    meaning = "what to call it: configs/competitions/NAME.yaml; default: as the folder"
    options.add_argument("--name", metavar="NAME", help=meaning)
    chosen = options.parse_args(arguments)
    folder = _existing(chosen.folder)
    name = _checked_name(chosen.name, folder)

    from pipeline.config import load as configs
    from pipeline.data.discovery.experiment import experiment_name

    experiment = experiment_name(name)
    files = (configs.CONFIGS / "competitions" / f"{name}.yaml", configs.CONFIGS / f"{experiment}.yaml")
    for file in files:
        if file.exists():
            raise UserError(_exists(file, chosen.folder, name, experiment))
    draft, experiment_text = _described(folder, name)
    directory = None if _is_found(draft.competition(), folder) else folder
    texts = (draft.text, experiment_text(directory))
    for file, text in zip(files, texts, strict=True):
        write_atomic(file, text)
    _print_notes(draft)
    for ready in configs.competition_names():
        with suppress(UserError):  # one that is not finished yet is no reason to stop
            if ready != name and configs.load_competition(ready).kaggle_slug == folder.name:
                file = shown(configs.CONFIGS / "competitions" / ready)
                print(f"\nnote: {file}.yaml describes this competition already")
    print(f"\nwritten: {shown(files[0])}, with these notes as comments\n         {shown(files[1])}, a first experiment")
    print(f"next:    ./run.sh {shlex.quote(experiment)} prepare")


def _described(folder: Path, name: str) -> Description:
    """Returns the description by the first task that finds its labels in the folder.

    Labels of a later task that cannot be described become a note.

    Raises:
        UserError: it has no images, or labels of no task; says what was looked for.
    """
    from pipeline.data.discovery.draft import yaml_line
    from pipeline.data.discovery.folder import NothingFound
    from pipeline.engine.run import named
    from pipeline.stages import TASKS

    found, nothing, failed = {}, {}, []
    for task, record in TASKS.items():
        try:
            found[task] = named(record).discover(folder, name)
        except NothingFound as error:
            nothing[task] = error
        except UserError as error:
            if not found:
                raise
            why = re.sub(rf"^{re.escape(descriptor(name))}:\d+: ", "", str(error))  # a file that is not written
            failed.append(f"the folder also has {task}, which cannot be described: {why}")
    if not found:
        images = next(iter(nothing.values())).images
        raise UserError(
            f"{shown(folder)} has {len(images.files):,} images, {images.template()}, but neither masks nor boxes:\n"
            + "".join(f"- {error}\n" for error in nothing.values())
            + "Put masks or annotations into the folder, or describe it by hand as in docs/competitions.md"
        )
    first, *others = found.values()
    for draft in (other.draft for other in others):
        keys = ", ".join(yaml_line(key, draft.keys[key]) for key in ("TASK", "BOXES"))
        first.draft.guess(
            "BOXES", f"the folder also has boxes; to detect these, write another file with {keys} and no MASKS"
        )
    for text in failed:
        first.draft.guess("BOXES", text)
    return first


def _existing(folder: Path) -> Path:
    """Returns the folder as an absolute path.

    Raises:
        UserError: it is none; says what is there, or what was probably meant.
    """
    if folder.is_dir():
        return folder.resolve()
    if folder.is_file():
        remedy = f"unpack it, and name the new folder: unzip {folder}" if folder.suffix == ".zip" else "name the folder"
        raise UserError(f"{folder} is a file, expected the folder of a competition; {remedy}")
    parent = folder.parent
    beside = {path.name: path for path in parent.iterdir() if path.is_dir()} if parent.is_dir() else {}
    of_data = {
        path.name: path
        for root in Folders.from_environment().data
        if root.is_dir()
        for path in root.iterdir()
        if path.is_dir()
    }
    if folder.name in of_data:
        raise UserError(f"there is no folder {folder}; did you mean {shown(of_data[folder.name])}?")
    otherwise = "name the folder that has the competition's images, lists and masks"
    near = nearest(folder.name, beside)
    raise UserError(f"there is no folder {folder}; {f'did you mean {beside[near[0]]}?' if near else otherwise}")


def _checked_name(given: str | None, folder: Path) -> str:
    """Returns the competition's name: the given one, or that of the folder as a word."""
    name = re.sub(r"\W+", "_", folder.name, flags=re.ASCII).strip("_").lower() if given is None else given
    if not NAME.fullmatch(name):
        found = f"--name {given}" if given is not None else f"the folder's name {folder.name!r}"
        raise UserError(f"{found} cannot be the name of a file here; add --name NAME, of letters, digits and _")
    return name


def _exists(file: Path, folder: Path, name: str, experiment: str) -> str:
    use = (
        f"./run.sh {shlex.quote(experiment)}"
        if file.stem == experiment
        else f"DATASETS: {{COMPETITION: {name}}} in a config"
    )
    command = shlex.join(["./run.sh", "new", str(folder), "--name", f"another_{name}"])
    return f"{shown(file)} exists and is not overwritten.\nTo use it: {use}\nTo write under another name: {command}"


def _is_found(competition: Competition, folder: Path) -> bool:
    """Returns whether the folder is found by the competition's name, as it lies in DATA_DIR or data/."""
    from pipeline.data.competition import find_folder

    try:
        return find_folder(competition, Folders.from_environment().data) == folder
    except UserError:
        return False


def _print_notes(draft: Draft) -> None:
    from pipeline.data.discovery.draft import CERTAINTIES, yaml_line

    for certainty in CERTAINTIES:
        notes = [note for note in draft.notes if note.certainty == certainty]
        if notes:
            print(f"{certainty}")
        for note in notes:
            key = yaml_line(note.key, draft.keys[note.key]) if note.key in draft.keys else note.key
            short = key if len(key) <= 70 else f"{key[:67]}..."
            print(f"  {' '.join(short.split())}\n      {note.text}")
