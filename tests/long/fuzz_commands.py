"""What the fuzzer changes before it runs commands: configs, competitions, lists, images, names, runs, submissions.

Each function draws a case: from the folder in which nothing is changed and a generator to changes, commands, words.
"""

from __future__ import annotations

import io
import random
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from PIL import Image

from pipeline.config.load import load
from pipeline.paths import PROJECT
from tests.detection import box_competition
from tests.long.fuzz_case import CONTENT, FOLDER, GONE, LINK, PIPE, Change, names_of
from tests.long.fuzz_worker import CASE_PROJECT
from tests.mutations import ODD_NAMES, ODD_YAML, change_file, odd_value
from tests.tiny import overrides, write_competition

MASKS, BOXES = "data/demo", "data/demo_boxes"
CONFIGS = f"{CASE_PROJECT}/configs"
NEIGHBOUR, NEIGHBOUR_OF_BOXES = "demo-0a1b2c3d", "demo-4e5f6a7b"  # as runs with other settings are called
ARCHITECTURES = ("Linknet", "Unet", "DPT", "Segformer", "UPerNet", "DeepLabV3Plus", "FPN", "RetinaNet", "YOLOX")
MISSING = ("NA", "nan", "null", "None", "$x^{$")  # names that are most often misread
RIGHT_NAMES = (*MISSING, "True", "1e5", "007", "-", "{stem}", "{id}", "%s", "a b", "=1+1", "a;b", "日本語", "[x]", "#x")
BLANK, BLANK_SHARE = (b"", b"[]", b"{}", b"null", b"3", b"\xff\0"), 0.15  # contents of a run's files
STUDY_SHARE = 0.01  # of the changed configs: a study resolves hundreds of them
KINDS = (GONE, FOLDER, LINK, PIPE)


class Drawn(NamedTuple):
    """Changes of files, the commands after them, and the words of which a refusal has one (none: any key).

    `rewritten` are the other files and folders that the commands change, to be put back; `is_right`: nothing is wrong.
    """

    changes: Sequence[Change]
    commands: Sequence[Sequence[str]]
    words: Sequence[str]
    rewritten: Sequence[str] = ()
    is_right: bool = False


def build_project(work: Path) -> None:
    """Copies code and configs, which processes and the loader read."""
    for name in ("pipeline", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, work / CASE_PROJECT / name, ignore=ignored)


def build_masks(work: Path) -> None:
    """Writes a tiny competition of masks."""
    write_competition(work / MASKS)


def build_boxes(work: Path) -> None:
    """Writes a tiny competition of boxes."""
    box_competition.write_competition(work / BOXES)


ANOTHER = "SOLVER.MAX_LR=0.0015"  # a run of its own, which is removed after a case


def settings_of(work: Path, is_boxes: bool, *changes: str) -> tuple[str, ...]:
    """Returns the words of the command that runs the tiny competition."""
    if is_boxes:
        return ("demo", *box_competition.overrides(work / BOXES, *changes))
    return ("demo", *overrides(work / MASKS, "SWEEP.ENABLE=false", *changes))


def build_runs(work: Path) -> None:
    """Carries out a run of masks and one of boxes, and copies each as its neighbour."""
    from pipeline.__main__ import main

    for is_boxes, neighbour in ((False, NEIGHBOUR), (True, NEIGHBOUR_OF_BOXES)):
        before = set((work / "runs").glob("demo-*"))
        if code := main(list(settings_of(work, is_boxes))):
            raise SystemExit(f"the run that is to be damaged ended with exit code {code}")
        (run,) = set((work / "runs").glob("demo-*")) - before
        shutil.copytree(run, work / "runs" / neighbour)
        (work / f"{neighbour}.txt").write_text(run.name)


def files_below(base: Path, folder: str, *patterns: str) -> list[str]:
    """Returns the files below a folder that fit a pattern, by their paths in `base`, sorted."""
    found = {path for pattern in patterns or ("**/*",) for path in (base / folder).glob(pattern) if path.is_file()}
    return sorted(path.relative_to(base).as_posix() for path in found)


def changed(base: Path, path: str, rng: random.Random, odd_share: float = 0.1, kinds: Sequence[str] = KINDS) -> Change:
    """Returns a change of a file: its content, or, with a probability, that it is of one of `kinds`."""
    if rng.random() < odd_share:
        return Change(path, rng.choice(kinds))
    return Change(path, CONTENT, change_file(path, (base / path).read_bytes(), rng))


def draw_configs(base: Path, work: Path, rng: random.Random) -> Drawn:
    """A config, plan, competition or study is changed, and shown."""
    folder = rng.choice((CONFIGS, CONFIGS, f"{CONFIGS}/competitions", f"{CONFIGS}/plans"))
    if rng.random() < STUDY_SHARE:
        folder = f"{CONFIGS}/studies"
    path = rng.choice(files_below(base, folder, "*.yaml"))
    stem = Path(path).stem
    change = changed(base, path, rng, 0.03)
    name = stem if folder == CONFIGS else "ExpBAA"
    words = {"competitions": [f"DATASETS.COMPETITION={stem}"], "plans": [f"SOLVER.PLAN={stem}"]}.get(
        folder.rpartition("/")[2], []
    )
    if name == "base":
        name = "ExpAAB"
    command = rng.choice(("show", "plan", "show", "why"))
    commands = [("study", stem, "--table")] if folder.endswith("studies") else [(command, name, *words)]
    return Drawn([change], commands, ())


def draw_overrides(base: Path, work: Path, rng: random.Random) -> Drawn:
    """One or two settings of the command line are others; the run trains an epoch of a tiny competition."""
    name, *settings = settings_of(work, rng.random() < 0.2, ANOTHER)
    given = dict(word.split("=", 1) for word in settings)
    more = [line.rstrip("+") for line in (PROJECT / "tests/config/keys.txt").read_text().split()]
    groups = ("MODEL.", "SOLVER.", "LOSS_FN.", "DATALOADERS.", "DATASETS.", "PREDICT.", "DECODE.")
    kept = ("DATASETS.DIRECTORY", "SOLVER.NUM_EPOCHS", "SOLVER.ANN_EPOCHS", "DATASETS.TEST_DIRECTORY")
    keys = [key for key in more if key.startswith(groups) and key not in kept]
    chosen = rng.sample(keys, rng.choice((1, 1, 2)))
    defaults = load(name, tuple(settings)).values
    if rng.random() < 0.3:
        chosen = ["MODEL.ENCODER.NAME"]
        given["MODEL.NAME"] = rng.choice(ARCHITECTURES)
    for key in chosen:
        if key == "MODEL.ENCODER.NAME":
            given[key] = odd_encoder(rng)
        else:
            given[key] = odd_setting(defaults[key], rng)
    words = [f"{key}={value}" for key, value in given.items()]
    return Drawn([], [(name, *words, "train")], ())


def odd_setting(value: Any, rng: random.Random) -> str:
    """Returns a value for a key that has `value`: mostly of its type, so that it is not refused at once."""
    if rng.random() < 0.2:
        return rng.choice(ODD_YAML)
    if isinstance(value, bool):
        return str(not value).lower()
    if isinstance(value, int):
        return str(rng.choice((0, 1, 2, 3, 7, 33, 1000, 10**5, 10**9, value * 2, -1)))
    if isinstance(value, float):
        return f"{rng.choice((0.0, 1.0, 0.5, 1e-9, 1e9, 0.999999, value * 3, value / 3, -value)):.9g}"
    return str(odd_value(list(value) if isinstance(value, tuple) else value, rng))


def odd_encoder(rng: random.Random) -> str:
    """Returns a name that is nearly an encoder's."""
    known = (
        "resnet18",
        "tu-lcnet_035",
        "tu-resnet18",
        "timm-efficientnet-b0",
        "tu-mobilenetv3_small_050",
        "yolox_nano",
    )
    name = rng.choice(known)
    place = rng.randrange(len(name) + 1)
    odd = (f"{name[:place]}{rng.choice('018-/_x')}{name[place:]}", name[:place], "tu-", "tu-../../x", f"tu-{name}")
    return rng.choice((*odd, "tu-hf-hub:timm/x", "tu-hf_hub:a/b", "tu-local-dir:/nowhere", "timm/x", name.upper()))


def draw_lists(base: Path, work: Path, rng: random.Random) -> Drawn:
    """A list or the descriptor of the competition is changed, and its files are checked."""
    is_boxes = rng.random() < 0.3
    folder = BOXES if is_boxes else MASKS
    name = Path(folder).name
    files = files_below(base, folder, "*.csv", "*.json")
    path = rng.choice([*files, f"{CONFIGS}/competitions/{name}.yaml"])
    change = changed(base, path, rng)
    words = names_of([change]) if path in files else ()
    return Drawn([change], [(*settings_of(work, is_boxes, ANOTHER), "prepare")], words)


def draw_images(base: Path, work: Path, rng: random.Random) -> Drawn:
    """An image or a mask is damaged, or stored in another way, and the competition's files are checked."""
    path = rng.choice(files_below(base, MASKS, "*/*/*"))
    change = changed(base, path, rng)
    if change.kind == CONTENT and rng.random() < 0.5:
        change = Change(path, CONTENT, stored_otherwise((base / path).read_bytes(), rng))
    commands = [(*settings_of(work, False, ANOTHER), "prepare")]
    return Drawn([change], commands, names_of([change]))


def stored_otherwise(data: bytes, rng: random.Random) -> bytes:
    """Returns an image in another mode, size or format, maybe damaged then."""
    image = Image.open(io.BytesIO(data))
    mode = rng.choice(("1", "L", "P", "RGB", "RGBA", "I;16", "F", "CMYK", "LA"))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * rng.choice((1, 257)))
    else:
        image = image.convert(mode)
    if rng.random() < 0.4:
        image = image.resize(rng.choice(((1, 1), (1, 64), (63, 64), (65, 64), (200, 3), (3000, 1))))
    file = io.BytesIO()
    for kind in (rng.choice(("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")), "TIFF"):
        try:
            image.save(file, kind)
            break
        except (OSError, ValueError):  # which cannot hold this mode
            file = io.BytesIO()
    data = file.getvalue()
    return change_file("x", data, rng) if rng.random() < 0.3 else data


def draw_names(base: Path, work: Path, rng: random.Random) -> Drawn:
    """Images and classes have odd names, in lists and files alike or in two Unicode forms."""
    changes: list[Change] = []
    lists = {path: (base / path).read_text() for path in files_below(base, MASKS, "*.csv")}
    shown: list[str] = []
    is_right = True
    for old in rng.sample(["000001_001", "000002_003", "000003_002", "000004_001"], rng.randint(1, 2)):
        odd = rng.choice([name for name in (*ODD_NAMES, *MISSING * 3) if name not in ("", ".", "..")])
        new = odd if rng.random() < 0.6 else old[:7] + odd
        new = "".join(character for character in new if character not in '/\0,"')
        form = rng.choice((None, None, "NFC", "NFD"))
        stored = unicodedata.normalize(form, new) if form else new
        is_right = is_right and odd in RIGHT_NAMES and stored == new
        for path in (f"{MASKS}/imgs/imgs/{old}.jpg", f"{MASKS}/masks/masks/{old}.png"):
            if (base / path).is_file():
                moved = path.replace(old, stored)
                changes += [Change(path, GONE), Change(moved, CONTENT, (base / path).read_bytes())]
        lists = {path: text.replace(old, new) for path, text in lists.items()}
        shown += [new, repr(new)[1:-1], stored, new.strip()]
    changes += [Change(path, CONTENT, text.encode("utf-8", "surrogatepass")) for path, text in lists.items()]
    path = f"{CONFIGS}/competitions/demo.yaml"
    descriptor = yaml.safe_load((base / path).read_text())
    del descriptor["SEQUENCE_PATTERN"]  # which odd names would not have
    if rng.random() < 0.4:
        descriptor["CLASSES"][rng.choice((0, 3, 9, 10))] = rng.choice(MISSING if rng.random() < 0.5 else ODD_NAMES)
        shown.append("CLASSES")
        is_right = False
    changes.append(Change(path, CONTENT, yaml.safe_dump(descriptor, allow_unicode=True).encode()))
    settings = settings_of(work, False, ANOTHER, "DATASETS.SPLIT.BY=slice")
    last = rng.choice(("prepare", "tile", "tile", "tile", "report"))
    words = (*filter(None, shown), *names_of(changes))
    return Drawn(changes, [(*settings, last)], words, is_right=is_right and last != "report")


def draw_copies(base: Path, work: Path, rng: random.Random) -> Drawn:
    """Hundreds of images more, all of them the same, as blank tiles are; nothing is wrong with that."""
    count, old = rng.choice((300, 1000, 2500)), "000001_001"
    paths = (f"{MASKS}/imgs/imgs/{old}.jpg", f"{MASKS}/masks/masks/{old}.png")
    names = [f"{sequence:06d}_{frame:03d}" for sequence in range(101, 111) for frame in range(count // 10)]
    same = {path: (base / path).read_bytes() for path in paths}
    changes = [Change(path.replace(old, name), CONTENT, content) for path, content in same.items() for name in names]
    listed = (base / f"{MASKS}/train.csv").read_text() + "".join(f"{name}\n" for name in names)
    changes.append(Change(f"{MASKS}/train.csv", CONTENT, listed.encode()))
    return Drawn(changes, [(*settings_of(work, False, ANOTHER), "prepare")], ("train.csv",), is_right=True)


def run_files(base: Path, run: str) -> list[str]:
    """Returns the files of a run that something reads, small ones first of all; and its folders."""
    files = files_below(base, f"runs/{run}")
    files = [path for path in files if not path.endswith((".png", ".webp", ".html", "lock"))]
    small = [path for path in files if path.endswith((".json", ".yaml", ".csv"))]
    folders = [f"runs/{run}/{name}" for name in ("plots", "probs", ".stages", "panels", "gallery", "scenes", "events")]
    return [*small * 3, *files, *folders]


def changed_artefact(base: Path, path: str, rng: random.Random) -> Change:
    """Returns a change of a run's file, or of a folder: it is gone or a file."""
    if (base / path).is_file() and rng.random() < BLANK_SHARE:
        return Change(path, CONTENT, rng.choice(BLANK))
    if (base / path).is_file():
        return changed(base, path, rng, kinds=(GONE, FOLDER, LINK))
    return Change(path, rng.choice((GONE, CONTENT)), b"x")


def draw_neighbours(base: Path, work: Path, rng: random.Random) -> Drawn:
    """Small files of a run are changed, and commands read it among others."""
    is_boxes = rng.random() < 0.25
    run = NEIGHBOUR_OF_BOXES if is_boxes else NEIGHBOUR
    healthy = (base / f"{run}.txt").read_text()
    paths = set(rng.sample(run_files(base, run), rng.choice((1, 1, 2))))
    paths = [path for path in sorted(paths) if not any(path.startswith(f"{other}/") for other in paths)]
    changes = [changed_artefact(base, path, rng) for path in paths]
    common = [("list",), ("list", "demo"), ("table",), ("table", "--classes"), ("board",)]
    rare = [("compare", healthy, run), ("compare", healthy, run), ("shakeup", healthy, run), ("table", run)]
    slow = [("compare", healthy, run, "--page"), (*settings_of(work, is_boxes), "report", "--force")]
    command = rng.choice(rng.choices((common, rare, slow), (0.85, 0.13, 0.02))[0])
    return Drawn(changes, [command], (run, *names_of(changes)))


def draw_own(base: Path, work: Path, rng: random.Random) -> Drawn:
    """Files of a run are changed, and it goes on."""
    is_boxes = rng.random() < 0.25
    run = (base / f"{NEIGHBOUR_OF_BOXES if is_boxes else NEIGHBOUR}.txt").read_text()
    change = changed_artefact(base, rng.choice(run_files(base, run)), rng)
    stage = rng.choice(("prepare", "tile", "train", "evaluate", "predict", "submit", "report"))
    settings = settings_of(work, is_boxes)
    reruns = [("why", *settings), (*settings, stage), (*settings, stage, "--force"), ("plan", *settings)]
    return Drawn([change], [rng.choice(reruns)], (run, *names_of([change])), (f"runs/{run}", "submissions"))


def draw_submissions(base: Path, work: Path, rng: random.Random) -> Drawn:
    """A submission, its origin or the log is changed, and scored, compared or listed."""
    is_boxes = rng.random() < 0.3
    run = (base / f"{NEIGHBOUR_OF_BOXES if is_boxes else NEIGHBOUR}.txt").read_text()
    path = rng.choice(files_below(base, "submissions", f"{run}.*"))
    change = changed(base, path, rng, 0.05)
    file, folder = str(work / f"submissions/{run}.csv"), work / (BOXES if is_boxes else MASKS)
    truth = folder / ("train.json" if is_boxes else "masks/masks")
    competition = ("--competition", Path(folder).name) if rng.random() < 0.7 else ()
    other = str(work / f"{run}.csv")
    command = rng.choice((("score", file, "--masks", str(truth)), ("diff", file, other), ("diff", other, file)))
    whole = Change(f"{run}.csv", CONTENT, (base / f"submissions/{run}.csv").read_bytes())
    return Drawn([change, whole], [(*command, *competition)], (run, *names_of([change])))
