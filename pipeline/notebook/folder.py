"""The folder of a notebook, ready to be pushed with Kaggle's client, in two parts.

`dataset/` holds what goes to Kaggle as a private dataset: one pack of code, packages, weights and, to predict, the
inference bundle. `kernel/` holds the notebook itself, the only file that a push carries, and what it wants of Kaggle.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.files import atomic_path, sha256_text, write_atomic, write_json
from pipeline.notebook.cells import notebook_text
from pipeline.notebook.session import PACK, files_below
from pipeline.paths import CONFIGS, PROJECT

DATASET_FACTS, KERNEL_FACTS = "dataset-metadata.json", "kernel-metadata.json"
LONGEST_SLUG = 50 - len("-files")  # Kaggle's limit, for the dataset
CODE = ("pipeline", "configs")
OF_TESTS = re.compile(r"#\s*tests(-no-deps)?:")  # marks lines of requirements.txt that a session has no wheel for
MODES = {False: 0o644, True: 0o755}  # of a file, and of one that can be executed


@dataclass(frozen=True)
class Notebook:
    """A notebook to be pushed.

    Attributes:
        owner: a user's name on Kaggle.
        slug: its name there.
        kind: "train", "study" or "predict".
        words: what is typed behind `./run.sh`.
        hours: that a session may take.
        command: that makes this notebook, for its first lines.
        more: further arguments of the function that it calls, as text.
        accelerator: Kaggle's name of the machine, None: without a GPU.
        has_internet: whether it may reach the internet.
        competitions, datasets: its inputs beside its own dataset.
        packages: optional packages that it needs too, by their names in requirements.txt.
    """

    owner: str
    slug: str
    kind: str
    words: tuple[str, ...]
    hours: float
    command: str
    more: str
    accelerator: str | None
    has_internet: bool
    competitions: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def continues(self) -> bool:
        """Whether a session continues from the output of the last one."""
        return self.kind != "predict"

    @property
    def kernel(self) -> str:
        """Its full name on Kaggle."""
        return f"{self.owner}/{self.slug}"

    @property
    def files(self) -> str:
        """The full name of its dataset."""
        return f"{self.kernel}-files"


def slug_for(run: str, kind: str) -> str:
    """Returns the name of a run's notebook on Kaggle.

    >>> slug_for("ExpAAB", "train"), slug_for("CamVidBAA-1a2b3c4d", "predict")
    ('expaab-train', 'camvidbaa-1a2b3c4d-predict')
    """
    slug = re.sub(r"[^a-z0-9]+", "-", f"{run}-{kind}".lower()).strip("-")
    if len(slug) > LONGEST_SLUG:
        slug = f"{slug[: LONGEST_SLUG - 9].rstrip('-')}-{sha256_text(slug)[:8]}"
    return slug


def write_dataset(notebook: Notebook, folder: Path, parts: dict[str, list[tuple[Path, Path]]]) -> Path:
    """Writes the dataset; returns its pack. Equal files give an equal pack.

    Args:
        folder: of the notebook.
        parts: files by the folder of the pack in which they go, each with its path there.
    """
    dataset = folder / "dataset"
    shutil.rmtree(dataset, ignore_errors=True)
    pack = dataset / f"{notebook.slug}{PACK}"
    needed = folder / "requirements.txt"
    lines = (PROJECT / needed.name).read_text(encoding="utf-8").splitlines(keepends=True)
    own = [OF_TESTS.sub("#", line) if _package_of(line) in notebook.packages else line for line in lines]
    write_atomic(needed, "".join(line for line in own if not OF_TESTS.search(line)))
    members = [(path, Path("project") / inside) for path, inside in (*project_files(), (needed, Path(needed.name)))]
    members += [(path, Path(part) / inside) for part, files in parts.items() for path, inside in files]
    with atomic_path(pack) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
        for path, inside in sorted(members, key=lambda member: member[1]):
            info = archive.gettarinfo(path, inside.as_posix())
            info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
            info.mode = MODES[bool(info.mode & 0o100)]
            info.type, info.linkname = tarfile.REGTYPE, ""  # of two names of one file, too
            info.size = path.stat().st_size
            with open(path, "rb") as file:
                archive.addfile(info, file)
    title = notebook.files.partition("/")[2]
    facts = {"title": title, "id": notebook.files, "licenses": [{"name": "other"}]}
    write_json(dataset / DATASET_FACTS, facts)
    return pack


def _package_of(line: str) -> str:
    """Returns the package that a line of requirements.txt names.

    >>> _package_of("optuna>=5,<6   # tests: optional")
    'optuna'
    """
    return re.split(r"[^\w.-]", line, maxsplit=1)[0]


def project_files() -> Iterator[tuple[Path, Path]]:
    """Yields code and configs of the project, each with its path there; no tests and documents."""
    yield PROJECT / "run.sh", Path("run.sh")
    for path in (file for name in CODE for file in files_below(CONFIGS.parent / name)):
        if "__pycache__" not in path.parts and not path.name.startswith("."):
            yield path, path.relative_to(CONFIGS.parent)


def write_kernel(notebook: Notebook, folder: Path, continues: bool) -> Path:
    """Writes the notebook and what it wants of Kaggle; returns the notebook.

    Args:
        continues: whether a session has ended before: its output is then an input of the next one.
    """
    kernel = folder / "kernel"
    path = kernel / f"{notebook.slug}.ipynb"
    one = notebook
    text = notebook_text(
        one.kind, one.slug, one.files, f"{one.slug}{PACK}", one.words, one.hours, one.command, one.more
    )
    write_atomic(path, text)
    facts = {
        "id": one.kernel,
        "title": one.slug,
        "code_file": path.name,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": one.accelerator is not None,
        "enable_internet": one.has_internet,
        "dataset_sources": [one.files, *one.datasets],
        "competition_sources": list(one.competitions),
        "kernel_sources": [one.kernel] if continues else [],
        "model_sources": [],
    }
    if one.accelerator is not None:
        facts["machine_shape"] = one.accelerator
    write_json(kernel / KERNEL_FACTS, facts)
    return path
