"""What the fuzzer changes before it calls a function that reads one kind of file: boxes, archives, weights.

A function is called where a whole command would do the same and take a thousand times as long. Each target has a
function that writes its whole files, one that draws a change, and one that reads.
"""

from __future__ import annotations

import io
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from pipeline.config.load import load, load_competition
from pipeline.download import unpack
from pipeline.engine.run import Run
from pipeline.engine.stopping import Stop
from pipeline.errors import UserError
from pipeline.notebook import session
from pipeline.paths import BEST, Folders
from pipeline.segmentation.submission.zip_masks import read as read_zip_masks
from pipeline.stages import stages_of, task_of
from pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from pipeline.training.transfer import load_previous
from tests.detection.box_files import FORMS, One, competition, prepared, write
from tests.long.fuzz_case import CONTENT, Case, Change, names_of
from tests.long.fuzz_commands import NEIGHBOUR, Drawn, changed, files_below, settings_of
from tests.mutations import change_bytes, odd_value

FORMS_FOLDER, ARCHIVES, WEIGHTS = "box_forms", "archives", "weights"
LABELLED = {
    "a": (One("car", 3, 4, 20, 30), One("tree", 10, 10, 50, 40)),
    "b": (One("red bike", 0, 0, 80, 60),),
    "c": (),
}
DTYPES = (torch.int8, torch.int64, torch.float16, torch.float64, torch.bool, torch.complex64)


def build_forms(work: Path) -> None:
    """Writes images and boxes in every form."""
    for kind in FORMS:
        write(work / FORMS_FOLDER / kind, kind, LABELLED)


def draw_forms(base: Path, work: Path, rng: random.Random) -> Drawn:
    """One annotation file is changed."""
    kind = rng.choice(list(FORMS))
    files = [path for path in files_below(base, f"{FORMS_FOLDER}/{kind}") if not path.endswith(".png")]
    change = changed(base, rng.choice(files), rng)
    return Drawn([change], (), names_of([change]))


def read_forms(work: Path, case: Case) -> None:
    """Checks the boxes of all images, as `prepare` does, and reads them, as later stages do.

    Raises:
        UserError: there are problems.
    """
    folder = work / Path(*Path(case.changes[0].path).parts[:2])
    made = competition(FORMS[folder.name])
    catalog, problems, labels = prepared(made, folder)
    if problems:
        raise UserError("\n".join(f"{problem.file}: {problem.kind}: {problem.found}" for problem in problems))
    for row in catalog.itertuples():
        labels.values(row)
        labels.content(row)
    list(labels.notices)


def build_archives(work: Path) -> None:
    """Writes zips of every compression, a submission of masks, and a tar."""
    folder = work / ARCHIVES
    folder.mkdir()
    methods = {"stored": 0, "deflated": 8, "bzip2": 12, "lzma": 14}
    for name, method in methods.items():
        with zipfile.ZipFile(folder / f"{name}.zip", "w", method) as zipped:
            for number in range(3):
                zipped.writestr(f"images/{number}.txt", f"{name} {number} " * 40)
            zipped.writestr("é/ü.txt", b"x" * 300)
    with tarfile.open(folder / "pack.tar", "w") as packed:
        for name in ("a.txt", "b/c.txt"):
            info = tarfile.TarInfo(name)
            info.size = 5
            packed.addfile(info, io.BytesIO(b"hello"))
    grey = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000002000000020800000000"
        "57dd52f80000000b49444154789c636060400000000400018f71d5b40000000049454e44ae426082"
    )
    with zipfile.ZipFile(folder / "masks.zip", "w") as zipped:
        zipped.writestr("000004_001.png", grey)


def draw_archives(base: Path, work: Path, rng: random.Random) -> Drawn:
    """An archive is changed, mostly in the headers of its members."""
    path = rng.choice(files_below(base, ARCHIVES))
    data = (base / path).read_bytes()
    if path.endswith(".zip") and rng.random() < 0.8:
        changed_data = bytearray(data)
        marks = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06")
        starts = [index for mark in marks for index in range(len(data)) if data.startswith(mark, index)]
        for _ in range(rng.randint(1, 4)):
            place = rng.choice(starts) + rng.choice((rng.randrange(4, 60), 8, 10, 6, 30, 46))
            if place < len(changed_data):
                changed_data[place] = rng.choice((rng.randrange(256), 0, 8, 12, 14, 93, 255))
        data = bytes(changed_data)
    else:
        data = change_bytes(data, rng)
    change = Change(path, CONTENT, data)
    return Drawn([change], (), names_of([change]))


def read_archives(work: Path, case: Case) -> None:
    """Unpacks the archive, or reads it as a submission of masks."""
    path, folder = work / case.changes[0].path, work / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if path.suffix == ".tar":
        session.unpack(path, folder)
    elif path.stem == "masks":
        list(read_zip_masks(path, load_competition("demo"), {"000004_001": (2, 2)}))
    else:
        unpack(path, folder, max_bytes=10**7, max_files=100)


def draw_weights(base: Path, work: Path, rng: random.Random) -> Drawn:
    """A checkpoint or a file of weights is damaged, or whole with other tensors; a new run begins with it."""
    path = f"runs/{NEIGHBOUR}/{BEST}"
    if rng.random() < 0.25:
        change = Change(path, CONTENT, change_bytes((base / path).read_bytes(), rng))
        return Drawn([change], (), names_of([change]))
    content = load_checkpoint(base / path)
    scratch = work / "drawn"
    if rng.random() < 0.3:
        path = f"{WEIGHTS}/w.safetensors"
        save_file(
            {name: tensor.contiguous() for name, tensor in odd_tensors(content["network"], rng, False).items()}, scratch
        )
    else:
        change_content(content, rng)
        save_checkpoint(scratch, content)
    change = Change(path, CONTENT, scratch.read_bytes())
    scratch.unlink()
    return Drawn([change], (), names_of([change]))


def change_content(content: dict, rng: random.Random) -> None:
    """Changes parts of a checkpoint: one is gone, is another value, or has other tensors."""
    part = rng.choice(list(content))
    change = rng.randrange(3)
    if change == 0:
        del content[part]
    elif change == 1:
        content[part] = odd_value(content[part] if not isinstance(content[part], dict) else {}, rng)
    else:
        content["network"] = odd_tensors(content["network"], rng, True)
    for needed in ("network", "state"):  # else it is no checkpoint at all, as other cases show
        content.setdefault(needed, {})


def odd_tensors(state: dict[str, torch.Tensor], rng: random.Random, is_any: bool) -> dict[str, torch.Tensor]:
    """Returns weights of which one or all have another dtype, shape, layout or device, or are gone or not finite."""
    names = rng.sample(list(state), 1) if rng.random() < 0.7 else list(state)
    kind, dtype = (
        rng.choice(("dtype", "dtype", "shape", "sparse", "meta", "gone", "nan", "name", "text")),
        rng.choice(DTYPES),
    )
    changed_state = dict(state)
    for name in names:
        tensor = changed_state.pop(name)
        if kind == "shape":
            changed_state[name] = tensor.reshape(-1)[: rng.randint(0, 3)].clone()
        elif kind == "nan":
            changed_state[name] = torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else tensor
        elif kind == "name":
            changed_state[f"module.{name}"] = tensor
        elif kind == "sparse" and is_any:
            changed_state[name] = tensor.to_sparse()
        elif kind == "meta" and is_any:
            changed_state[name] = tensor.to("meta")
        elif kind == "text" and is_any:
            changed_state[name] = odd_value(1.0, rng)
        elif kind != "gone":
            changed_state[name] = tensor.to(dtype)
    return changed_state


def read_weights(work: Path, case: Case) -> None:
    """Fills a new network with the weights, as training does with EXPERIMENT.LOAD_PREV.

    Raises:
        UserError: they cannot be used.
        AssertionError: they were used although they are not what a network here has.
    """
    path = work / case.changes[0].path
    name, *settings = settings_of(work, False)
    part = ("all", "fitting")[case.number % 2]
    loaded = load(name, (*settings, f"EXPERIMENT.LOAD_PREV={path}", f"EXPERIMENT.LOAD_PART={part}"))
    run = Run(loaded, Folders.from_environment(), print, Stop(), stages_of, task_of)
    network = run.task.build_network(loaded)
    load_previous(run, network)
    if path.suffix == ".safetensors" and part == "all":
        own = network.state_dict()
        taken = load_file(path)
        wrong = [key for key, tensor in taken.items() if key in own and tensor.dtype != own[key].dtype]
        assert not wrong, f"{wrong[0]} of {taken[wrong[0]].dtype} was cast in silence"
