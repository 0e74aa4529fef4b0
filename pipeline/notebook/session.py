"""What the cells of a pushed notebook call: one session on Kaggle. Standard library only, as packages come later.

In: what the notebook unpacked of its dataset (`project/`, where this file is, and beside it `wheels/`, `weights/` and
`runs/`), and /kaggle/input. Out, in /kaggle/working: the submission, the report, a log, and after training a pack of
the runs, from which the next session continues.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import DAMAGED_ARCHIVE
from pipeline.paths import (
    BEST,
    KAGGLE,
    LAST,
    MARKERS,
    PANELS,
    PROBS,
    PROJECT,
    REPORT,
    STUDIES,
    SWEEP_PLOT,
    RunPaths,
    previous_of,
)
from pipeline.wording import duration, size

INPUT, WORKING = KAGGLE / "input", KAGGLE / "working"
WHEELS, WEIGHTS, RUNS = (PROJECT.parent / name for name in ("wheels", "weights", "runs"))
SUBMISSIONS = PROJECT.parent / "submissions"
SCRATCH = PROJECT.parent / "scratch"
DATA = PROJECT.parent / "data"
DEPTHS = ("", "*/", "*/*/")  # Kaggle mounts below /kaggle/input, and since 2026 below datasets/OWNER and the like
DONE, STOPPED = 0, 3
PACK = ".pack"  # a tar archive; Kaggle unpacks what it knows by its suffix, and may leave out hidden files
MOST_PANELS = 6
SEVERAL = ("--folds", "--seeds")  # words of a training of several runs
LAST_OF_STUDY = "evaluate"  # the stage with which each of several runs ends
# The previous checkpoints are kept in case the newest ones are damaged. A pack is made of whole ones, without these.
SPARE = tuple(previous_of(Path(name)).name for name in (BEST, LAST))
HEADER_BYTES = 2048  # of a file in a tar archive, at most


def train(slug: str, words: Sequence[str], hours: float, started_s: float, data: str | None = None) -> None:
    """Continues the last session, or begins; packs the runs for the next one.

    Args:
        slug: of the notebook.
        words: what is typed behind `./run.sh`: those of a run, or with `--folds` or `--seeds` of several.
        hours: of the session, after which Kaggle ends it without keeping anything; less is used.
        started_s: when the notebook started, by `time.monotonic`.
        data: the name of a dataset with the competition's files; None: they are found by the competition's name.

    Raises:
        RuntimeError: the training failed; its output says why.
    """
    _continue_from(slug)
    found = [f"DATASETS.DIRECTORY={find_input(data)}"] if data else []
    code = _run([*words, *found, f"RUNTIME.TIME_BUDGET_HOURS={_left_h(hours, started_s):.5f}"], slug)
    _end(code, slug, any(word in SEVERAL for word in words))


def study(slug: str, words: Sequence[str], hours: float, started_s: float, data: Sequence[str] = ()) -> None:
    """Like `train`, for the runs of a study, as many at a time as there are GPUs.

    Args:
        data: the competition, and the name of a dataset with its files; empty: they are found by its name.
        slug, words, hours, started_s: as for `train`.

    Raises:
        RuntimeError: no run has finished; the output says why.
    """
    _continue_from(slug)
    if data:
        competition, name = data
        DATA.mkdir(exist_ok=True)
        (DATA / competition).unlink(missing_ok=True)  # of a first try in the same session
        (DATA / competition).symlink_to(find_input(name))
    code = _run([*words, "--time-limit", f"{3600 * _left_h(hours, started_s):.0f}s"], slug)
    _end(code, slug, is_several=True)


def _left_h(hours: float, started_s: float) -> float:
    """Returns the hours that are left, at least one second: the command itself then reports that its time is over."""
    return max(1.0, 3600 * hours - (time.monotonic() - started_s)) / 3600


def _end(code: int, slug: str, is_several: bool) -> None:
    """Packs the runs, shows results, and prints how the next session continues.

    Raises:
        RuntimeError: the training failed; of several runs, none has finished. If one has, the notebook must not fail:
            the next session gets the output only of a notebook that did not fail.
    """
    _pack_runs(slug)
    _show_results()
    if code == STOPPED:
        print("\nThe session's time is used up. The same notebook continues: push it again.")
    elif code == DONE:
        print("\nAll runs are finished." if is_several else "\nThe run is finished.")
    elif is_several and any(RunPaths(run, SUBMISSIONS).marker(LAST_OF_STUDY).is_file() for run in _own_runs()):
        print(f"\nSome runs ended in an error (exit code {code}), see above. The next session tries them again.")
    else:
        raise RuntimeError(f"the run ended with exit code {code}; the lines above say why")


def predict(slug: str, words: Sequence[str], hours: float, started_s: float, test: str | None) -> None:
    """Predicts a test folder with an inference bundle within a time limit.

    Args:
        hours: from the start of the notebook until the submission is written.
        test: the folder with the test images, in /kaggle/input: `COMPETITION`, or `COMPETITION/FOLDER`. None: those of
            the demo, which the project draws itself.
        slug, words, started_s: as for `train`.

    Raises:
        RuntimeError: no submission was written; the output says why.
    """
    where = ["--test-dir", str(find_input(test))] if test is not None else []
    code = _run([*words, "submit", *where, "--time-limit", f"{3600 * _left_h(hours, started_s):.0f}s"], slug)
    written = sorted(WORKING.glob("submission.*"))
    if not written:
        raise RuntimeError(f"the run ended with exit code {code} and without a submission; the lines above say why")
    if code != DONE:  # a notebook that fails has no score, and a submission is complete from the first minute on
        print(f"\nThe run ended with exit code {code}; {written[0].name} is the last submission that it finished.")


def find_input(name: str) -> Path:
    """Returns a folder or file of the notebook's inputs by its name.

    Raises:
        FileNotFoundError: there is none; lists what there is.
    """
    for depth in DEPTHS:
        if found := sorted(INPUT.glob(depth + name)):
            return found[0]
    known = sorted(str(path.relative_to(INPUT)) for depth in DEPTHS for path in INPUT.glob(f"{depth}*"))
    listed = ", ".join(known[:20]) or "nothing"
    raise FileNotFoundError(f"the notebook has no input {name}, only {listed}. Add it with Add Input")


def _continue_from(slug: str) -> None:
    """Unpacks the runs of the last session, if its output is an input of this one."""
    found = [path for depth in DEPTHS for path in INPUT.glob(f"{depth}*/{runs_pack(slug)}")]
    if not found:
        print("No output of an earlier session is among the inputs.")
        return
    newest = newest_pack(found)
    print(f"Continues from {newest}.")
    unpack(newest, PROJECT.parent)


def newest_pack(packs: Sequence[Path]) -> Path:
    """Returns the pack in which a session has written last, by the times of the files in it.

    The times of the packs themselves are those of the mount of an input. One that is damaged or cannot be read is taken
    only if there is no other.
    """

    def last_written(pack: Path) -> float:
        try:
            with tarfile.open(pack) as archive:
                return max((member.mtime for member in archive), default=0.0)
        except DAMAGED_ARCHIVE:
            return -1.0
        except OSError as error:  # of the mount
            print(f"{pack} cannot be read and is left out: {error.strerror or error}")
            return -2.0

    return packs[0] if len(packs) == 1 else max(packs, key=last_written)


def runs_pack(slug: str) -> str:
    """Returns the file in which a session keeps its runs for the next one.

    >>> runs_pack("expaab-train")
    'expaab-train-runs.pack'
    """
    return f"{slug}-runs{PACK}"


def _run(words: Sequence[str], slug: str) -> int:
    """Runs `run.sh` with these words; prints its lines, which a file keeps too. Returns its exit code."""
    folders = {"RUNS_DIR": RUNS, "SUBMISSIONS_DIR": SUBMISSIONS, "SCRATCH_DIR": SCRATCH, "WEIGHTS_DIR": WEIGHTS}
    environment = {**os.environ, **{name: str(folder) for name, folder in folders.items()}, "PYTHON": sys.executable}
    if DATA.is_dir():
        environment["DATA_DIR"] = str(DATA)
    environment |= {"PIP_ROOT_USER_ACTION": "ignore", "NO_COLOR": "1"}  # everybody is root on Kaggle
    if WHEELS.is_dir():
        environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEELS)}
    print("./run.sh", *words, flush=True)
    with (
        open(WORKING / f"{slug}.log", "a", buffering=1, encoding="utf-8") as log,
        subprocess.Popen(
            ["sh", str(PROJECT / "run.sh"), *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        for line in process.stdout or ():
            print(line, end="", flush=True)
            log.write(line)
    return process.returncode


def _pack_runs(slug: str) -> None:
    """Packs runs and submissions; what can be made again is left out where the disk is too small for all."""
    began_s, files = time.monotonic(), [*_files_of_runs(), *files_below(SUBMISSIONS)]
    free = shutil.disk_usage(WORKING).free
    if _bytes_of(files) > free:
        left_out = tuple(PROBS.values())
        files = [path for path in files if not any(f"/{name}/" in path.as_posix() for name in left_out)]
        print(f"Only {size(free)} are free in {WORKING}: predictions are left out, and made again when needed.")
    while _bytes_of(files) > free and (own := _by_run(files)):
        largest = max(own, key=lambda run: _bytes_of(own[run]))
        files = [path for path in files if largest not in path.parents]
        print(f"That is not enough: {largest.name} is left out, and the next session trains it again.")
    target = WORKING / runs_pack(slug)
    with tarfile.open(target, "w") as pack:
        for path in files:
            pack.add(path, path.relative_to(PROJECT.parent), recursive=False)
    took = duration(time.monotonic() - began_s)
    print(f"Packed {len(files)} files, {size(_bytes_of(files))}, in {took}: {target}")


def _files_of_runs() -> list[Path]:
    """Returns what the next session needs of the folder of runs."""
    files = [path for path in files_below(RUNS) if path.name not in SPARE]
    worked_on = _own_runs()
    given = {path for run, own in _by_run(files).items() if run not in worked_on for path in own}
    return [path for path in files if path not in given]


def _own_runs() -> list[Path]:
    """Returns the folders of the runs that sessions have worked on, sorted.

    The others are from `--with`: they came in the notebook's own pack, whose files have no time, and come with it
    again.
    """
    return [run for run, own in _by_run(files_below(RUNS)).items() if any(path.stat().st_mtime for path in own)]


def _by_run(files: Iterable[Path]) -> dict[Path, list[Path]]:
    """Returns the files of each run, by the run's folder, without files that are of no run."""
    found: dict[Path, list[Path]] = {}
    for path in files:
        if RUNS in path.parents:
            found.setdefault(RUNS / path.relative_to(RUNS).parts[0], []).append(path)
    return {run: own for run, own in found.items() if (run / MARKERS).is_dir()}


def files_below(folder: Path) -> list[Path]:
    """Returns all files below a folder, hidden ones included, sorted; none where there is no folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _bytes_of(files: Iterable[Path]) -> int:
    """Returns the most bytes that files take in a pack; a hard link, such as of a checkpoint, takes only a header."""
    found = [os.stat(path) for path in files]
    return HEADER_BYTES * len(found) + sum({(one.st_dev, one.st_ino): one.st_size for one in found}.values())


def unpack(pack: Path, folder: Path) -> None:
    """Unpacks a tar archive.

    Raises:
        UserError: it is damaged, or a member would leave the folder; or this Python cannot tell such members.
    """
    if not hasattr(tarfile, "data_filter"):  # the first releases of Python 3.10 and 3.11
        raise UserError(
            f"Python {sys.version.split()[0]} cannot unpack {pack.name} safely; use 3.10.12, 3.11.4, 3.12 or newer"
        )
    try:
        with tarfile.open(pack) as archive:
            archive.extractall(folder, filter="data")
    except DAMAGED_ARCHIVE as error:
        raise UserError(f"{pack} cannot be unpacked: {error}; download it again") from error


def _show_results() -> None:
    """Copies report, images and tables of studies to the folder that the notebook's page shows.

    Of several runs, it copies only those with a report: the ensemble.
    """
    runs = _own_runs()
    for run in (run for run in runs if len(runs) == 1 or (run / REPORT).is_file()):
        images = [run / SWEEP_PLOT, *sorted((run / PANELS).glob("*.png"))[:MOST_PANELS]]
        for path in (run / REPORT, *images):
            if path.is_file():
                shutil.copyfile(path, WORKING / f"{run.name}_{path.name}")
    for path in (RUNS / STUDIES).glob("*.csv"):
        shutil.copyfile(path, WORKING / path.name)
