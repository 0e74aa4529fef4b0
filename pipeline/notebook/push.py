"""Pushes a notebook's folder with Kaggle's client, asks how its session is doing, and gets its output.

Every call goes through `submission/kaggle.py`, which gives a refusal or a dead network one message.
"""

from __future__ import annotations

import inspect
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.engine.folder import lock_holder
from pipeline.errors import UserError
from pipeline.files import sha256_file, write_json
from pipeline.notebook.folder import Notebook, write_kernel
from pipeline.notebook.session import PACK, runs_pack, unpack
from pipeline.paths import BUNDLED, HISTORY, MARKERS, STUDIES, TRIALS, Folders, RunPaths, shown
from pipeline.submission.kaggle import ANSWER_WITHIN_S, ask, text_of
from pipeline.wording import duration

UPLOAD_WITHIN_S = 4 * 3600.0  # some 100 MB of weights over a slow line
READY_WITHIN_S = 1800.0  # Kaggle unpacks and copies what was uploaded
READY, FAILED = "ready", ("error", "failed", "deleted")
RUNNING = ("queued", "running", "new script", "cancel requested")
PUSH_WITHIN_S = 60.0
CONTINUE_BY_HAND = "Get its output with --fetch, and add --with RUN to upload it"
ASK_EVERY_S = 10.0
PUSHED = "pushed.json"  # in the notebook's folder: which pack is on Kaggle
FETCHED = ".fetched"  # in the folder of a run: the notebook that it is from
OUTPUT = "output"  # in the notebook's folder: what its last session left


def push(notebook: Notebook, folder: Path, client: Any, log: Callable[[str], None]) -> str:
    """Uploads the dataset if it has changed, then pushes the notebook, which starts a session; returns its address.

    Raises:
        UserError: Kaggle refuses one of them, or does not answer; says what to do.
    """
    state = session_state(notebook, client)
    if state in RUNNING:
        raise UserError(f"the last session of {notebook.kernel} is {state}; wait until it ends, or stop it on its page")
    push_files(notebook, folder, client, log)
    continues = notebook.continues and state is not None
    write_kernel(notebook, folder, continues)
    log(f"pushing {notebook.kernel}" + (", which continues from its last output" if continues else ""))
    answer = ask(f"push {notebook.kernel}", lambda: client.kernels_push(str(folder / "kernel")), PUSH_WITHIN_S)
    if error := text_of(answer, "error"):
        raise UserError(f"Kaggle refused the notebook {notebook.kernel}: {error}")
    for kind in ("Competition", "Dataset", "Kernel"):
        if invalid := getattr(answer, f"invalid{kind}Sources", None):
            fix = CONTINUE_BY_HAND if kind == "Kernel" else "Accept the competition's rules, or check the names"
            raise UserError(
                f"Kaggle started {notebook.kernel} without its input {', '.join(invalid)}, which it does not know or "
                f"does not allow. Stop the session on its page. {fix}; then push again."
            )
    return text_of(answer, "url")


def push_files(notebook: Notebook, folder: Path, client: Any, log: Callable[[str], None]) -> None:
    """Creates the dataset or a new version of it, and waits until Kaggle has it; does nothing where it is there."""
    dataset, pack = folder / "dataset", folder / "dataset" / f"{notebook.slug}{PACK}"
    sha256, state = sha256_file(pack), dataset_state(notebook.files, client)
    known = json.loads((folder / PUSHED).read_text(encoding="utf-8")) if (folder / PUSHED).is_file() else {}
    if known == {"files": notebook.files, "sha256": sha256} and state == READY:
        log(f"{notebook.files} is up to date on Kaggle")
        return
    log(f"uploading {shown(pack)} as {notebook.files}")
    before = dataset_version(notebook.files, client) if state else None
    if state is None:
        answer = ask(f"create {notebook.files}", lambda: client.dataset_create_new(str(dataset)), UPLOAD_WITHIN_S)
    else:
        notes = f"sha256 {sha256[:12]}"
        upload = lambda: client.dataset_create_version(str(dataset), notes)  # noqa: E731 - named for the line below
        answer = ask(f"upload a version of {notebook.files}", upload, UPLOAD_WITHIN_S)
    if text_of(answer, "status").lower() != "ok":
        reason = text_of(answer, "error") or "no reason given"
        raise UserError(f"Kaggle refused the dataset {notebook.files}: {reason}")
    wait_until_ready(notebook.files, client, before)
    write_json(folder / PUSHED, {"files": notebook.files, "sha256": sha256})


def wait_until_ready(files: str, client: Any, before: int | None) -> None:
    """Waits until a dataset can be an input of a notebook: until then a notebook would get the version before.

    Args:
        before: the number of the version before the upload, where it is known.

    Raises:
        UserError: Kaggle cannot process it, or not in time.
    """
    began_s = time.monotonic()
    while (state := dataset_state(files, client)) != READY or not _is_newer(dataset_version(files, client), before):
        if state in FAILED:
            raise UserError(f"Kaggle could not process the dataset {files}: its state is {state}")
        if time.monotonic() - began_s > READY_WITHIN_S:
            raise UserError(
                f"the dataset {files} is not ready after {duration(READY_WITHIN_S)} (its state is {state}); see "
                f"https://www.kaggle.com/datasets/{files}, and type the same command again later"
            )
        time.sleep(ASK_EVERY_S)


def dataset_state(files: str, client: Any) -> str | None:
    """Returns what Kaggle says of a dataset, such as `ready`; None where there is none."""
    answer = _found(f"look up the dataset {files}", lambda: client.dataset_status(files))
    return None if answer is None else _plain(str(answer))


def dataset_version(files: str, client: Any) -> int | None:
    """Returns the number of a dataset's current version; None with a client that cannot ask for it."""
    if "format" not in inspect.signature(client.dataset_status).parameters:
        return None
    form = "json(current_version_number)"
    answer = _found(f"look up the dataset {files}", lambda: client.dataset_status(files, format=form))
    return None if answer is None else json.loads(answer).get("current_version_number")


def session_state(notebook: Notebook, client: Any) -> str | None:
    """Returns the state of the notebook's last session, such as `running` or `complete`; None where there was none."""
    answer = _session(notebook, client)
    return None if answer is None else _plain(text_of(answer, "status"))


def status_line(notebook: Notebook, client: Any) -> str:
    """Returns a line on the notebook's last session."""
    answer = _session(notebook, client)
    if answer is None:
        return f"{notebook.kernel} has not been pushed yet; add --push"
    failure = text_of(answer, "failure_message")
    return f"{notebook.kernel}: {_plain(text_of(answer, 'status'))}" + (f", {failure}" if failure else "")


def fetch(notebook: Notebook, folder: Path, folders: Folders, client: Any, log: Callable[[str], None]) -> list[Path]:
    """Downloads the output of the notebook's last session, and unpacks its runs among those here.

    Returns:
        The folders of runs, and the other files.

    Raises:
        UserError: no output, no network, or the only run must not be replaced.
    """
    output = folder / OUTPUT
    output.mkdir(parents=True, exist_ok=True)
    get = lambda: client.kernels_output(notebook.kernel, str(output), force=True)  # noqa: E731 - named for the line below
    names = [Path(name) for name in ask(f"get the output of {notebook.kernel}", get, UPLOAD_WITHIN_S)[0]]
    if not names:
        raise UserError(f"the last session of {notebook.kernel} left no output; --status shows how it ended")
    pack = output / runs_pack(notebook.slug)
    return [
        *(unpack_runs(pack, notebook, folders, log) if pack.is_file() else ()),
        *(path for path in names if path != pack),
    ]


def unpack_runs(pack: Path, notebook: Notebook, folders: Folders, log: Callable[[str], None]) -> list[Path]:
    """Unpacks the runs and submissions of a session; keeps other runs. Returns the runs.

    Raises:
        UserError: the only run must not be replaced, see `_why_kept`.
    """
    partial = pack.with_name(f"{pack.stem}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    unpack(pack, partial)
    below = sorted((partial / "runs").iterdir()) if (partial / "runs").is_dir() else []
    runs = [path for path in below if (path / MARKERS).is_dir() and path.suffix != BUNDLED]
    kept = {run: why for run in runs if (why := _why_kept(folders.run(run.name), notebook))}
    if len(kept) == len(runs) == 1:
        (run, why), *_ = kept.items()
        raise UserError(
            f"{shown(folders.runs / run.name)} {why}, so it is not replaced. Move it away, and type the same command "
            f"again. The session's run is in {shown(run)}"
        )
    for run, why in kept.items():
        log(f"not replaced: {shown(folders.runs / run.name)} {why}; the session's run is in {shown(run)}")
    fetched = [run for run in runs if run not in kept]
    for run in fetched:
        (run / FETCHED).write_text(notebook.kernel, encoding="utf-8")
        if (run / HISTORY).is_file():  # by Kaggle's clock, which need not be that of this machine
            shutil.copystat(run / HISTORY, run / FETCHED)
        _move(run, folders.runs)
    journals = sorted((partial / "runs" / STUDIES).glob(f"*{TRIALS}.journal"))
    has_own = [not _move_journal(journal, folders.runs / STUDIES, log) for journal in journals]
    for path in (partial / "submissions").glob("*"):
        name = path.stem.removesuffix(".origin")  # beside a submission NAME.json there is NAME.origin.json
        if _why_kept(folders.run(name), notebook) is None:
            _move(path, folders.submissions)
    if not kept and not any(has_own):
        shutil.rmtree(partial)
    return [folders.runs / run.name for run in fetched]


def _why_kept(paths: RunPaths, notebook: Notebook) -> str | None:
    """Returns why a run of this machine is not replaced by that of a session; None if it may be, or does not exist."""
    mark, history = paths / FETCHED, paths / HISTORY
    if not paths.folder.exists():
        return None
    if not mark.is_file() or mark.read_text(encoding="utf-8") != notebook.kernel:
        return f"was not fetched from {notebook.kernel}"
    if lock_holder(paths) is not None:
        return "is running here"
    is_trained = history.is_file() and history.stat().st_mtime_ns > mark.stat().st_mtime_ns
    return "has been trained on since it was fetched" if is_trained else None


def _move(path: Path, folder: Path) -> None:
    """Moves a file or a folder into a folder, where it replaces what has the same name."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    if target.is_dir():
        shutil.rmtree(target)
    shutil.move(path, target)


def _move_journal(journal: Path, folder: Path, log: Callable[[str], None]) -> bool:
    """Moves the journal of a search and the table of its trials, unless the journal here has other trials.

    A journal only grows: the one here may be replaced if the session's begins with the same lines. Returns whether it
    was.
    """
    here = folder / journal.name
    if here.is_file() and not journal.read_bytes().startswith(here.read_bytes()):
        log(f"kept: {shown(here)}, to which this machine has added trials; the session's is in {shown(journal)}")
        return False
    for path in (journal, journal.with_suffix(".csv")):
        if path.is_file():
            _move(path, folder)
    return True


def _is_newer(version: int | None, before: int | None) -> bool:
    return version is None or before is None or version > before


def _session(notebook: Notebook, client: Any) -> Any | None:
    return _found(f"look up {notebook.kernel}", lambda: client.kernels_status(notebook.kernel))


def _found(what: str, call: Callable[[], Any]) -> Any | None:
    """Returns an answer of the client, or None where Kaggle knows nothing of that name.

    Kaggle does not tell what is absent from what is private: it answers 403 or 404, which client 2 turns into a
    ValueError for notebooks.
    """

    def call_or_none() -> Any | None:
        try:
            return call()
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in (403, 404) or (isinstance(error, ValueError) and "Permission" in str(error)):
                return None
            raise

    return ask(what, call_or_none, ANSWER_WITHIN_S)


def _plain(state: str) -> str:
    """Returns a state of Kaggle in small letters, without the name of the client's enum.

    >>> _plain("KernelWorkerStatus.CANCEL_ACKNOWLEDGED"), _plain("ready")
    ('cancel acknowledged', 'ready')
    """
    return state.rpartition(".")[2].replace("_", " ").lower()
