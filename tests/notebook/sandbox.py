"""A machine like Kaggle's for one session: its folders, read-only inputs, no network, an image that lacks packages.

Everything happens in namespaces of Linux (user, mounts, network), as root or as any user where the system allows it:
the root folder is a new one in which the real folders are mounted, except /tmp and the project's code.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
HIDDEN = ("pipeline", "configs", "data", "runs", "tests/data")  # of the project: a session has its own copy
LACKING = ("pytorch-ranger", "torch-optimizer", "segmentation-models-pytorch", "pytorch-toolbelt")
ENTER = ["unshare", "--user", "--map-root-user", "--mount", "--net"]
IFF_UP, SIOCSIFFLAGS = 0x1, 0x8914
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
notebook, code = nbformat.read(sys.argv[1], 4), 0
nbformat.validate(notebook)
try:
    NotebookClient(notebook, timeout=None, kernel_name="image").execute(cwd="/kaggle/working")
except CellExecutionError as error:
    print(error, file=sys.stderr)
    code = 1
nbformat.write(notebook, sys.argv[2])
sys.exit(code)
"""


def can_enter() -> bool:
    """Returns whether this machine has namespaces for a user, mounts and a network."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*ENTER, "true"], capture_output=True, check=False).returncode == 0


def make_image(folder: Path, lacking: Iterable[str] = LACKING, too_old: Iterable[str] = ()) -> Path:
    """Makes an environment with all packages of this one, by links, except `lacking`; returns its folder.

    Args:
        too_old: packages that say of themselves that they are of version 0.1.
    """
    # An installation, no virtual environment: over it `run.sh` can make one that sees its packages.
    base, library = Path(sys._base_executable).resolve(), Path(os.__file__).parent
    (folder / "bin").mkdir(parents=True)
    shutil.copy(base, folder / "bin" / "python")
    (folder / "lib" / library.name).mkdir(parents=True)
    for entry in library.iterdir():
        if entry.name not in ("site-packages", "dist-packages", "__pycache__", "EXTERNALLY-MANAGED"):
            (folder / "lib" / library.name / entry.name).symlink_to(entry)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([folder / "bin" / "python", "-c", ask], text=True).strip())
    site.mkdir(parents=True)
    own = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    absent = {file.parts[0] for name in lacking for file in metadata.distribution(name).files or ()}
    for entry in own.iterdir():
        if entry.name not in absent and entry.name != "__pycache__" and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry.resolve())
    for name in too_old:
        info = next(path for path in site.glob("*.dist-info") if path.name.startswith(f"{name.replace('-', '_')}-"))
        copy = Path(shutil.copytree(info.resolve(), site / f"{info.name.partition('-')[0]}-0.1.dist-info"))
        facts = (copy / "METADATA").read_text()
        (copy / "METADATA").write_text(re.sub(r"(?m)^Version: .*$", "Version: 0.1", facts, count=1))
        info.unlink()
    return folder


def write_wheels(folder: Path, names: Iterable[str] = LACKING) -> Path:
    """Writes wheels of packages that are installed here; returns the folder."""
    folder.mkdir(parents=True)
    for name in names:
        distribution = metadata.distribution(name)
        files = [file for file in distribution.files or () if ".." not in file.parts and file.suffix != ".pyc"]
        info = next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info"))
        kept = [file for file in files if file.name not in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")]
        stem = info.removesuffix(".dist-info")
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            for file in kept:
                wheel.write(file.locate(), str(file))
            record = f"{info}/RECORD"
            wheel.writestr(record, "".join(f"{path},,\n" for path in [*map(str, kept), record]))
    return folder


def run_notebook(notebook: Path, inputs: Mapping[str, Path], folder: Path, image: Path) -> dict[str, Any]:
    """Executes a notebook like a session on Kaggle.

    Args:
        inputs: folders by what they are called below /kaggle/input.
        folder: of the session: gets `working`, the executed notebook and the session's /tmp.
        image: the environment of the notebook's kernel; what the session installs goes into it.

    Returns:
        The executed notebook.

    Raises:
        AssertionError: a cell failed; with its output.
    """
    for name in ("working", "tmp", "home", "root", "kernels/kernels/image"):
        (folder / name).mkdir(parents=True)
    kernel = {
        "argv": ["/image/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "language": "python",
    }
    (folder / "kernels/kernels/image/kernel.json").write_text(json.dumps({**kernel, "display_name": "image"}))
    (folder / "execute.py").write_text(EXECUTE)
    shutil.copy(notebook, folder / "notebook.ipynb")
    spec = {"folder": str(folder), "image": str(image), "inputs": {name: str(path) for name, path in inputs.items()}}
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_DIR") and "proxy" not in name}
    unset = ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in kept.items() if name not in unset}
    environment |= {"HOME": "/session/home", "JUPYTER_PATH": "/session/kernels", "PIP_CONFIG_FILE": os.devnull}
    command = [*ENTER, sys.executable, str(Path(__file__)), json.dumps(spec)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    executed = folder / "executed.ipynb"
    found = json.loads(executed.read_text()) if executed.is_file() else {"cells": []}
    assert result.returncode == 0, f"{printed(found)}\n{result.stdout[-3000:]}{result.stderr[-6000:]}"
    return found


def printed(notebook: Mapping[str, Any]) -> str:
    """Returns what the cells of an executed notebook printed."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    return "".join("".join(output.get("text", "")) for output in outputs)


def _enter(spec: Mapping[str, Any]) -> None:
    """In the namespaces: builds the machine, then becomes the process that executes the notebook."""
    folder, root = Path(spec["folder"]), Path(spec["folder"]) / "root"
    _mount("-t", "tmpfs", "session", root)
    for entry in sorted(Path("/").iterdir()):
        target = root / entry.name
        if entry.is_symlink():
            target.symlink_to(os.readlink(entry))
        elif entry.is_dir() and entry.name not in ("tmp", "kaggle"):
            target.mkdir()
            _mount("--rbind", entry, target)
    for name in HIDDEN:
        if (hidden := root / (PROJECT / name).relative_to("/")).is_dir():  # a project below /tmp is hidden as it is
            _mount("-t", "tmpfs", "hidden", hidden)
    inside = {"tmp": folder / "tmp", "image": Path(spec["image"]), "session": folder}
    inside |= {"kaggle/working": folder / "working"}
    inside |= {f"kaggle/input/{name}": Path(path) for name, path in spec["inputs"].items()}
    (root / "kaggle/input").mkdir(parents=True)
    for name, path in inside.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        _mount("--bind", path, root / name)
        if name.startswith("kaggle/input"):
            _mount("-o", "remount,bind,ro", root / name)
    if not (environment := root / Path(sys.prefix).relative_to("/")).exists():  # below /tmp
        environment.mkdir(parents=True)
        _mount("--bind", sys.prefix, environment)
    with socket.socket() as any_socket:  # the kernel of the notebook talks to its client over loopback
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
    os.chroot(root)
    os.chdir("/kaggle/working")
    arguments = ["/session/execute.py", "/session/notebook.ipynb", "/session/executed.ipynb"]
    os.execv(sys.executable, [sys.executable, *arguments])


def _mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True)


if __name__ == "__main__":
    _enter(json.loads(sys.argv[1]))


def end_when(log: Path, word: str, command: bytes, is_over: threading.Event) -> None:
    """Asks a command that a session of this process runs to end, once its log has a word: as a machine does that is
    shut down.

    Args:
        command: how its command line begins behind Python's, a zero byte behind each word.
        is_over: ends the waiting.
    """
    while not is_over.wait(0.1):
        if log.is_file() and word in log.read_text():
            begun = (process for process in _descendants(os.getpid()) if command in _command_line(process))
            os.kill(next(begun), signal.SIGTERM)  # its workers come behind it
            return


@contextlib.contextmanager
def ended_when(log: Path, word: str, command: bytes) -> Iterator[None]:
    """Does so while a session runs."""
    is_over = threading.Event()
    watch = threading.Thread(target=end_when, args=(log, word, command, is_over))
    watch.start()
    try:
        yield
    finally:
        is_over.set()
        watch.join()


def _descendants(process: int) -> list[int]:
    found = []
    for path in Path("/proc").glob(f"{process}/task/*/children"):
        with contextlib.suppress(OSError):  # it has just ended
            found += map(int, path.read_text().split())
    return [*found, *(below for child in found for below in _descendants(child))]


def _command_line(process: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""
