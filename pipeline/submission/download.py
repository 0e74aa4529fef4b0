"""A competition's data, downloaded from Kaggle into a folder that is whole or absent."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.files import GIB, check_disk, sync_folder
from pipeline.submission.kaggle import ask, connect, slug_of

MAX_BYTES = 200 * GIB  # unpacked; the largest segmentation competitions stay below
MAX_FILES = 1_000_000
DOWNLOAD_WITHIN_S = 24 * 3600.0
_CHUNK = 1 << 20


def download_competition(competition: Competition, target_dir: Path | str) -> None:
    """Downloads and unpacks all files of a competition; a `target_dir` that exists is left alone.

    Everything happens in `<target_dir>.partial`, which is renamed at the end. After an interruption the same call
    continues: the client resumes its archive, unpacking starts again.

    Raises:
        UserError: no client, credentials, network, permission or space, or an archive that is damaged or unsafe.
    """
    target_dir, slug = Path(target_dir), slug_of(competition)
    if target_dir.exists():
        return
    client = connect()
    ask(f"look up the files of {slug}", lambda: client.competition_list_files(slug))
    partial = target_dir.with_name(target_dir.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    ask(
        f"download {slug}",
        lambda: client.competition_download_files(slug, path=str(partial), force=False, quiet=False),
        DOWNLOAD_WITHIN_S,
    )
    unpacked = partial / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    archive = _archive_in(partial, slug)
    if archive.suffix == ".zip":
        unpack(archive, unpacked)
    else:  # a competition with a single file comes as that file
        shutil.move(archive, unpacked / archive.name)
    os.sync()  # thousands of files: one flush of everything is cheaper than one each
    os.rename(unpacked, target_dir)
    sync_folder(target_dir.parent)
    shutil.rmtree(partial)


def unpack(archive: Path, folder: Path, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
    """Unpacks a zip into `folder`; nothing is written before all names and the sum of sizes were checked.

    Raises:
        UserError: the archive is damaged, too large, or has a name or kind of file that could leave `folder`.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [member for member in zipped.infolist() if not member.is_dir()]
            _refuse_unsafe(archive, members, max_bytes, max_files)
            check_disk(folder, sum(member.file_size for member in members), f"unpacking {archive.name}")
            for member in members:
                path = folder / member.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                # zipfile reads no more than the size that was announced and summed up above.
                with zipped.open(member) as packed, open(path, "xb") as file:
                    shutil.copyfileobj(packed, file, _CHUNK)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise UserError(f"{archive} is damaged: {error}. Remove it and start the same command again.") from error
    except OSError as error:
        raise UserError(f"cannot unpack {archive} into {folder}: {error}") from error


def _refuse_unsafe(archive: Path, members: list[zipfile.ZipInfo], max_bytes: int, max_files: int) -> None:
    if len(members) > max_files:
        raise UserError(f"{archive} holds {len(members)} files; at most {max_files} are allowed")
    num_bytes = sum(member.file_size for member in members)
    if num_bytes > max_bytes:
        raise UserError(
            f"{archive} unpacks to {num_bytes / GIB:.2f} GiB; at most {max_bytes / GIB:.2f} GiB are allowed"
        )
    seen: set[str] = set()
    for member in members:
        why = _why_unsafe(member)
        name = str(PurePosixPath(member.filename)).casefold()
        if why or name in seen:
            raise UserError(f"{archive}: refused because of {member.filename[:100]!r}: {why or 'it is there twice'}")
        seen.add(name)


def _why_unsafe(member: zipfile.ZipInfo) -> str:
    """Returns what is wrong with one entry of an archive, an empty text when nothing is."""
    name = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename:
        return "the path could leave the folder"
    if kind not in (0, stat.S_IFREG):
        return "a link or a device, not a file"
    return "it is encrypted" if member.flag_bits & 1 else ""


def _archive_in(partial: Path, slug: str) -> Path:
    files = [path for path in partial.iterdir() if path.is_file() and not path.name.endswith(".kaggle-partial")]
    if len(files) != 1:
        found = ", ".join(sorted(path.name for path in files)) or "nothing"
        raise UserError(
            f"expected one archive of {slug} in {partial}, found {found}. Remove the folder and start again."
        )
    return files[0]
