"""Where each artefact lives. Nobody else joins these paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CONFIGS = PROJECT / "configs"
KAGGLE = Path("/kaggle")  # a notebook's `input`, mounted read-only, and `working`, which is kept


def runs_folder() -> Path:
    """Returns the folder of all runs: RUNS_DIR, or `runs/` in the project."""
    return Path(os.environ.get("RUNS_DIR") or PROJECT / "runs")


def submissions_folder() -> Path:
    """Returns the folder of the uploads: SUBMISSIONS_DIR, or `submissions/` in the project."""
    return Path(os.environ.get("SUBMISSIONS_DIR") or PROJECT / "submissions")


def scratch_folder() -> Path:
    """Returns where large files that can be made again live: SCRATCH_DIR, or beside the runs.

    On Kaggle /kaggle/working keeps 20 GB and the tile store of one competition takes most of them; /tmp has 50 times as
    much and is lost with the session, as these files may be.
    """
    if os.environ.get("SCRATCH_DIR"):
        return Path(os.environ["SCRATCH_DIR"])
    runs = runs_folder()
    return Path("/tmp/scratch") if KAGGLE / "working" in runs.resolve().parents else runs / "shared"


def data_folders() -> list[Path]:
    """Returns the folders in which a competition's folder is looked for by name, in order."""
    named = [Path(os.environ["DATA_DIR"])] if os.environ.get("DATA_DIR") else []
    return [*named, PROJECT / "data", KAGGLE / "input"]


def weights_folders() -> list[Path]:
    """Returns the folders in which `<encoder>-imagenet.safetensors` is looked for, in order."""
    named = [Path(os.environ["WEIGHTS_DIR"])] if os.environ.get("WEIGHTS_DIR") else []
    inputs = KAGGLE / "input"
    mounted = sorted(path for path in inputs.iterdir() if path.is_dir()) if inputs.is_dir() else []
    return [*named, PROJECT / "data" / "weights", *mounted]


def shown(path: Path) -> str:
    """Returns a path as a person wants to read it: relative to the folder they stand in where that is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("../..") else str(path)


@dataclass(frozen=True)
class RunPaths:
    """Every file of one run. `folder` is `runs/<name>`."""

    name: str

    @property
    def folder(self) -> Path:
        return runs_folder() / self.name

    @property
    def markers(self) -> Path:
        return self.folder / ".stages"

    @property
    def plots(self) -> Path:
        return self.folder / "plots"

    @property
    def panels(self) -> Path:
        return self.folder / "panels"

    @property
    def events(self) -> Path:
        return self.folder / "events"

    def submission(self, suffix: str) -> Path:
        """Returns the run's submission; the suffix is that of its format."""
        return submissions_folder() / f"{self.name}{suffix}"

    def probs(self, subset: str) -> Path:
        """Returns the probability store of the `test` or `valid` images."""
        return self.folder / "probs" / subset

    def __truediv__(self, name: str) -> Path:
        """Returns a file of the run: `paths / "split.csv"`."""
        return self.folder / name
