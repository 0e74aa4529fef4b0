"""What goes into a notebook's pack beside the project: wheels, encoder weights, runs, or inference bundles.

In: `Subject` and what was typed. Out: files by folder of the pack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.config.load import Loaded
from pipeline.config.members import load_members
from pipeline.config.schema import Encoder
from pipeline.errors import UserError
from pipeline.notebook.bundle import write_bundle
from pipeline.notebook.session import files_below
from pipeline.notebook.subject import Subject
from pipeline.notebook.wheels import wheels_for_kaggle
from pipeline.paths import Folders, shown
from pipeline.report.read import is_run
from pipeline.training.encoder_names import download_name
from pipeline.training.hub import is_of_hub
from pipeline.training.inputs import find_encoder_weights

Parts = dict[str, list[tuple[Path, Path]]]


def parts_of(subject: Subject, folder: Path, has_internet: bool, wheels: Path | None, others: Sequence[str]) -> Parts:
    """Returns files by folder of the pack, each with its path there.

    Args:
        folder: of the notebook.
        has_internet: whether the session gets packages and weights by itself.
        wheels: a folder of wheels; None: they are downloaded.
        others: runs of this machine that go along.

    Raises:
        UserError: weights, wheels or a run are not here; says how to get them.
    """
    parts: Parts = {"wheels": [], "weights": [], "runs": []}
    if not has_internet:
        _refuse_remote_encoders(subject)
        wheels = wheels_for_kaggle(folder.parent, subject.packages) if wheels is None else wheels
        parts["wheels"] = [(path, Path(path.name)) for path in sorted(wheels.glob("*.whl"))]
        if not parts["wheels"]:
            raise UserError(f"--wheels {wheels}: there is no wheel; expected files that end with .whl")
    if subject.kind == "predict":
        bundles = folder / "bundles"
        write_bundle(subject.runs[0], bundles)
        parts["runs"] = [(path, path.relative_to(bundles)) for path in files_below(bundles)]
        return parts
    if not has_internet:
        encoders = {run.loaded.config.model.encoder for run in subject.runs}
        found = {weights for encoder in encoders for weights in _encoder_weights(encoder, subject.folders)}
        parts["weights"] = sorted(found)
    _refuse_absent_runs(subject, others)
    for name in others:
        paths = subject.folders.run(name)
        if paths.folder.parent != subject.folders.runs or not is_run(paths.folder):
            raise UserError(f"--with {name}: there is no such run in {shown(subject.folders.runs)}")
        parts["runs"] += [(path, path.relative_to(subject.folders.runs)) for path in files_below(paths.folder)]
    return parts


def _refuse_remote_encoders(subject: Subject) -> None:
    for loaded in (run.loaded for run in subject.runs):
        for one in load_members(loaded) if loaded.is_ensemble else [loaded]:
            if is_of_hub(name := one.config.model.encoder.name):
                raise UserError(f"{name} is on Hugging Face's hub, and the notebook has no internet; add --internet")


def _encoder_weights(encoder: Encoder, folders: Folders) -> list[tuple[Path, Path]]:
    if encoder.weights is None:
        return []
    path = find_encoder_weights(encoder, folders.weights)
    if path is None:
        raise UserError(
            f"the weights of {encoder.name} ({encoder.weights}) are not in WEIGHTS_DIR, and the notebook has no "
            f"internet. {_how_to_get(encoder)}"
        )
    name = Path(f"{encoder.name}-{encoder.weights}{path.suffix}")
    if path.name != name.name:  # a path of this machine
        raise UserError(
            "MODEL.ENCODER.WEIGHTS is a path on this machine, which the notebook cannot read. Copy the file to "
            f"WEIGHTS_DIR/{encoder.name}-mine{path.suffix}, and add MODEL.ENCODER.WEIGHTS=mine"
        )
    return [(path, name)]


def _how_to_get(encoder: Encoder) -> str:
    if (name := download_name(encoder)) is not None:
        return f"Type: ./run.sh download {name}; or add --internet"
    return f"Get the file that its authors publish, and save it in WEIGHTS_DIR as {encoder.name}-{encoder.weights}.pth"


def _refuse_absent_runs(subject: Subject, named: Sequence[str]) -> None:
    """Refuses a config that needs a run of this machine which is not named.

    Raises:
        UserError: says which, and why.
    """
    known = {*named, *(run.name for run in subject.runs)}
    for loaded in (run.loaded for run in subject.runs):
        for key, name in _needed_runs(loaded):
            if name not in known and (subject.folders.runs / name).is_dir():
                raise UserError(f"{loaded.name} needs the run {name} ({key}); add --with {name}")


def _needed_runs(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """Yields the runs that a config needs, with the key that says so."""
    config = loaded.config
    needed = [("SOLVER.FROM", config.solver.from_), ("PSEUDO.TEACHER", config.pseudo.teacher)]
    needed += [("EXPERIMENT.LOAD_PREV", config.experiment.load_prev)]
    yield from ((key, name) for key, name in needed if name)
    yield from (("AVERAGE.RUNS", name) for name in config.average.runs or ())
