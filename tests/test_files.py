"""Files are whole or absent, however their writer dies."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import pipeline
from pipeline.errors import UserError
from pipeline.files import (
    append_text,
    atomic_path,
    check_disk,
    check_writable,
    sha256_file,
    sha256_text,
    sweep_temporaries,
    sync_folder,
    write_atomic,
    write_json,
)

# Writes ever new contents of 4 MiB: a number, so often that the file says whether it is whole.
NOBODY = 65534  # the user without any rights, on Linux as on macOS
WRITER = """
import sys
from pathlib import Path
from pipeline.files import write_atomic
path, number = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
while True:
    number += 1
    write_atomic(path, number.to_bytes(8, "little") * (1 << 19))
"""
# Allows files of 64 KiB, then tries to write 1 MiB in the way that it is asked for.
SMALL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from pipeline.errors import UserError
from pipeline.files import append_text, atomic_path, write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
path, way = Path(sys.argv[1]), sys.argv[2]
try:
    if way == "bytes":
        write_atomic(path, bytes(1 << 20))
    if way == "append":
        append_text(path, "line\\n" * (1 << 17))
    with atomic_path(path) as temporary:
        if way == "tofile":
            np.zeros(1 << 17).tofile(temporary)
        if way == "save":
            with open(temporary, "wb") as file:
                np.save(file, np.zeros(1 << 17))
except UserError as error:
    print(error)
    sys.exit(2)
"""


def start(code: str, *arguments: object) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def number_in(path: Path) -> int:
    """The number that a file of `WRITER` repeats; fails where it is cut or mixed."""
    values = np.frombuffer(path.read_bytes(), "<u8")
    assert len(values) == 1 << 19
    assert (values == values[0]).all()
    return int(values[0])


def kill_writers(path: Path, times: int) -> list[int]:
    """Kills a writer at random moments; the numbers that the file held after each."""
    moments, numbers = random.Random(20), []
    for _ in range(times):
        writer = start(WRITER, path, numbers[-1] if numbers else 0)
        with writer:
            writer.stdout.readline()
            time.sleep(moments.uniform(0, 0.06))
            writer.send_signal(signal.SIGKILL)
        if path.exists():
            numbers.append(number_in(path))
    return numbers


def test_a_writer_killed_at_any_moment_leaves_the_old_file_or_the_new_one_whole(tmp_path):
    numbers = kill_writers(tmp_path / "last.ckpt", times=12)
    assert numbers == sorted(numbers)  # never an older one again
    assert numbers[-1] > 1
    left_over = len(list(tmp_path.iterdir())) - 1
    assert sweep_temporaries(tmp_path) == left_over
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_200_kills_leave_no_broken_file(tmp_path):
    assert len(kill_writers(tmp_path / "last.ckpt", times=200)) >= 190


@pytest.mark.parametrize("way", ["bytes", "tofile", "save"])
@pytest.mark.parametrize("has_old", [True, False])
def test_a_disk_that_takes_no_more_is_a_mistake_of_the_users_and_keeps_the_old_file(way, has_old, tmp_path):
    path = tmp_path / "probs.npy"
    if has_old:
        path.write_bytes(b"old")
    writer = start(SMALL_DISK, path, way)
    output, _ = writer.communicate(timeout=60)
    assert writer.returncode == 2, output
    assert f"cannot write {path}: " in output
    assert "The previous content is unchanged." in output
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == (
        [("probs.npy", b"old")] if has_old else []
    )


def test_a_line_that_cannot_be_added_names_its_file_and_keeps_the_lines_before(tmp_path):
    (path := tmp_path / "steps.csv").write_text("old\n")
    writer = start(SMALL_DISK, path, "append")
    output, _ = writer.communicate(timeout=60)
    assert writer.returncode == 2 and f"cannot write {path}: " in output
    assert path.read_text().startswith("old\nline\n")


def test_a_full_disk_is_named_with_what_is_free(tmp_path):
    with (
        pytest.raises(
            UserError, match=r"cannot write .*a\.csv: No space left on device \([0-9.]+ GiB are free there\)"
        ),
        atomic_path(tmp_path / "a.csv"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("text", ["", "one\ntwo\n", "Größe 1 µm"])
def test_what_was_written_is_read(text, tmp_path):
    path = tmp_path / "deep" / "folder" / "a.txt"
    write_atomic(path, text)
    assert path.read_bytes() == text.encode()
    write_atomic(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("failure", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_a_writer_that_fails_leaves_the_old_file_and_no_other(failure, tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(type(failure)), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise failure
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]


def test_an_error_that_is_not_the_files_passes_through(tmp_path):
    with pytest.raises(FileNotFoundError, match="input"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text((tmp_path / "input").read_text())
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_keeps_the_suffix_that_writers_choose_the_format_by(tmp_path):
    with atomic_path(tmp_path / "plot.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path
        temporary.touch()


def test_a_folder_in_the_files_place_is_refused(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*a\.txt: Is a directory"):
        write_atomic(tmp_path / "a.txt", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "runs").write_text("x")
    with pytest.raises(UserError, match=r"cannot write .*runs/a/b\.txt: "):
        write_atomic(tmp_path / "runs" / "a" / "b.txt", "x")


@contextmanager
def as_a_user(user: int) -> Iterator[None]:
    """Has the rights of a user inside, as far as this process may take them: root may write everywhere."""
    before = os.geteuid()
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_folder_without_permission_is_refused():
    user = os.geteuid() or NOBODY
    with tempfile.TemporaryDirectory() as name:  # pytest's folders are closed to others
        folder = Path(name)
        os.chown(folder, user, -1)
        with as_a_user(user):
            write_atomic(folder / "a.txt", "x")
            folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
            with pytest.raises(UserError, match=r"cannot write .*: Permission denied"):
                write_atomic(folder / "a.txt", "y")
            assert (folder / "a.txt").read_text() == "x"
        folder.chmod(stat.S_IRWXU)


def test_only_left_over_temporaries_are_swept(tmp_path):
    for name in ("a.tmp-12.csv", "last.ckpt.tmp-9", "a.csv", "notes.tmp-old.txt", "tmp-3"):
        (tmp_path / name).write_text("x")
    (tmp_path / "store.tmp-77").mkdir()
    (tmp_path / "store.tmp-77" / "part").write_text("x")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b.tmp-1.csv").write_text("x")
    assert sweep_temporaries(tmp_path) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "below", "notes.tmp-old.txt", "tmp-3"]
    assert (tmp_path / "below" / "b.tmp-1.csv").exists()
    assert sweep_temporaries(tmp_path / "absent") == 0


def test_a_file_system_without_fsync_of_folders_is_no_error(tmp_path, monkeypatch):
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    sync_folder(tmp_path)


def test_hashes_are_sha256_of_the_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(3_000_000))
    assert sha256_file(path) == hashlib.sha256(bytes(3_000_000)).hexdigest()
    assert sha256_text("µ") == hashlib.sha256("µ".encode()).hexdigest()


def test_too_small_a_disk_is_refused_before_writing(tmp_path):
    check_disk(tmp_path / "not" / "there" / "yet", 1, "a note")
    with pytest.raises(
        UserError, match=r"(?s)needs 1048576\.0 GiB and 64\.0 MiB in reserve below .* are free\..*SCRATCH"
    ):
        check_disk(tmp_path / "not" / "there", 1 << 50, "the store")


@pytest.mark.parametrize("kind", ["file", "below a file", "dangling link", "kernel's"])
def test_a_place_that_cannot_be_written_is_named_with_its_variable(tmp_path, kind):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "too")
    folders = {
        "file": tmp_path / "file",
        "below a file": tmp_path / "file" / "tiles",
        "dangling link": tmp_path / "link",
    }
    with pytest.raises(UserError, match=r"cannot write to .*, or set SCRATCH_DIR to a folder that you can write to"):
        check_writable(folders.get(kind, Path("/proc/tiles")), "SCRATCH_DIR")


def test_a_place_that_can_be_written_is_left_as_it_is(tmp_path):
    check_writable(tmp_path / "new" / "tiles", "SCRATCH_DIR")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_clean_up_that_fails_does_not_hide_the_first_error(tmp_path, monkeypatch):
    def refuse(path: Path, **_: bool) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError) as refused, atomic_path(tmp_path / "a.txt") as temporary:
        raise OSError(errno.ENOSPC, "No space left on device", str(temporary))
    assert "a.txt: No space left on device" in str(refused.value) and "set RUNS_DIR" in str(refused.value)


def test_processes_of_one_number_on_two_machines_write_into_two_files(tmp_path):
    """Containers have few processes: on a network disk, two with the same number write beside each other."""
    code = "import os, platform, sys; from pathlib import Path; from pipeline.files import atomic_path\n"
    code += "platform.node, os.getpid = lambda: sys.argv[1], lambda: 7\n"
    code += "with atomic_path(Path(sys.argv[2])) as temporary: temporary.touch(); print(temporary.name)"
    names = []
    for machine in ("node-1", "node-2"):
        command = [sys.executable, "-c", code, machine, str(tmp_path / "a.csv")]
        names.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    assert len(set(names)) == 2
    for name in names:
        (tmp_path / name).write_text("left by a killed one")
    assert sweep_temporaries(tmp_path) == 2


@pytest.mark.parametrize(
    ("umask", "of_files", "of_folders"), [(0o077, 0o600, 0o700), (0o027, 0o640, 0o750), (0o002, 0o664, 0o775)]
)
def test_what_is_written_has_the_permissions_that_the_umask_leaves(tmp_path, umask, of_files, of_folders):
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "new" / "a.txt", "text")
        write_json(tmp_path / "new" / "b.json", {})
        append_text(tmp_path / "new" / "c.csv", "text")
        with atomic_path(tmp_path / "new" / "d.ckpt") as temporary:
            temporary.write_bytes(b"weights")
    finally:
        os.umask(before)
    written = sorted((tmp_path / "new").iterdir())
    assert [stat.S_IMODE(path.stat().st_mode) for path in written] == [of_files] * 4
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == of_folders


def test_no_file_that_only_its_owner_may_read_becomes_an_artefact():
    # `mkstemp` and NamedTemporaryFile(delete=False) leave files with 0600, whatever the umask is.
    sources = [path.read_text() for path in Path(pipeline.__file__).parent.rglob("*.py")]
    assert not any("mkstemp" in text or "delete=False" in text for text in sources)
