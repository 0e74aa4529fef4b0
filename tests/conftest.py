"""What every test gets: one thread, folders of its own, and the real data when it lies beside the project."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

# Before NumPy, OpenCV or torch are loaded: small arrays are faster on one thread, and cores do not change results.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "Agg")
# The tests start some hundred processes: without compiled files each would compile the packages again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Files of a test need not survive a power cut: a flush waits 10 ms or more for the disk, a hundred times in one chain.
# The processes that tests start flush as always.
os.fsync = lambda descriptor: None
# The suite says the same with a GPU and without. What only a GPU shows: python -m tests.long.gpu
if "TEST_DEVICE" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import hypothesis  # noqa: E402 - after the settings of threads
import pytest  # noqa: E402

if TYPE_CHECKING:
    from tests.tiny import Workshop

PROJECT = Path(__file__).resolve().parent.parent

# The same examples each time, nothing written into the tree: the suite says the same on every machine.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, database=None)
# FUZZ_EXAMPLES=10000 ./run.sh test tests/config: many and new examples in the fuzzing tests.
hypothesis.settings.register_profile("fuzz", deadline=None, database=None)
hypothesis.settings.load_profile("fuzz" if "FUZZ_EXAMPLES" in os.environ else "suite")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test runs writes below its own temporary folder and finds no data by the developer's settings."""
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("SUBMISSIONS_DIR", str(tmp_path / "submissions"))
    monkeypatch.setenv("SCRATCH_DIR", str(tmp_path / "scratch"))
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.delenv("WEIGHTS_DIR", raising=False)
    monkeypatch.delenv("STORES_URL", raising=False)
    monkeypatch.delenv("STORES_CACHE_GIB", raising=False)


@pytest.fixture
def configs(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of configs/ for one test, which the loader reads instead of the project's."""
    from pipeline.config import load as load_module

    folder = tmp_path / "configs"
    shutil.copytree(project / "configs", folder)
    monkeypatch.setattr(load_module, "CONFIGS", folder)
    return folder


@pytest.fixture
def project_copy(project: Path, tmp_path: Path) -> Path:
    """A copy of code and configs for one test, for processes that find other configs, or no data, beside the code.

    Its plots are blank dots and its panels small, as by `without_drawing`.
    """
    from tests.tiny import draw_nothing_in

    for name in ("pipeline", "configs"):
        shutil.copytree(project / name, tmp_path / "copy" / name)
    draw_nothing_in(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root."""
    return PROJECT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, weights and reference tables beside the project; skips where there is none."""
    folder = PROJECT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the folder {folder} with real data; a clone alone does not have it")
    return folder


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Callable[[str], Path]:
    """`shared_data("camvid")`: the folder of a real competition; skips where it is absent."""

    def find(name: str) -> Path:
        folder = shared / "data" / name
        if not folder.is_dir():
            pytest.skip(f"needs the real images of {name} in {folder}")
        return folder

    return find


@pytest.fixture(scope="session")
def python_modules() -> Callable[[str], set[str]]:
    """`python_modules("import x")`: the top-level modules that a fresh interpreter has loaded after running a text."""

    def run(code: str) -> set[str]:
        ask = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
        result = subprocess.run([sys.executable, "-c", ask], cwd=PROJECT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return set(result.stdout.split("\n")[-2].split())

    return run


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A tiny competition of the file's own, whose images are checked and cut."""
    from tests.tiny import make_workshop

    return make_workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plot is drawn, which takes longer than what most tests are about."""
    from tests.tiny import draw_nothing

    draw_nothing(monkeypatch)


def pytest_collection_finish() -> None:
    """Leaves all that is loaded out of later garbage collections: each of the whole heap takes 0.3 CPU seconds."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Lets the interpreter free everything at its end, as libraries expect."""
    gc.unfreeze()
