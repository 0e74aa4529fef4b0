"""What this machine has, what is missing, and what to type for each missing thing: `./run.sh doctor`.

Comes in: the interpreter's metadata, the machine, folders named by environment variables. Goes out: a table, and 0 when
the demo can run, else 2. Imports no package itself, so that it also speaks where none is installed:
`python3 -m pipeline.door.doctor`.
"""

from __future__ import annotations

import csv
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pipeline.door.installed import built_for, cv2_folders, interpreter, opencv, packages, torch_pair
from pipeline.door.machine import Finding, cores_and_memory, disk, graphics_cards, internet, shared_memory
from pipeline.door.requirements import installed_distributions, parse_requirements
from pipeline.errors import UserError
from pipeline.paths import CONFIGS, DEMO, PROJECT, Folders, shown

DEMO_NEEDS_GIB = 1.0  # runs/demo with its tile store takes some 100 MB
SIGNS = {"ok": "ok  ", "note": "note", "bad": "FIX "}
Section = tuple[str, list[Finding]]


def doctor(
    find_folder: Callable[[str], Path | None] | None = None, show: Callable[[str], None] = print, limit_s: float = 4.0
) -> int:
    """Prints the table; returns 0 when the demo can run, else 2.

    Args:
        find_folder: returns the folder of a competition by its name, or nothing; default: as every run looks for it.
        show: takes the text.
        limit_s: how long to wait for what may hang (network, driver, an import).
    """
    distributions = installed_distributions()
    folders = Folders.from_environment()
    requirements = parse_requirements((PROJECT / "requirements.txt").read_text())
    slow = _together(
        {
            "cv2": lambda: opencv(distributions, cv2_folders()),
            "gpu": lambda: graphics_cards(built_for("torch")[1]),
            "net": internet,
        },
        limit_s,
    )
    sections: list[Section] = [
        ("Python", [interpreter()]),
        ("Packages", [*packages(requirements, distributions), *slow["cv2"], *torch_pair(distributions)]),
        ("Machine", [*slow["gpu"], *cores_and_memory(), *shared_memory()]),
        ("Disk", [disk("runs", folders.runs, DEMO_NEEDS_GIB), disk("scratch", folders.scratch, DEMO_NEEDS_GIB)]),
        ("Competitions", competitions(find_folder or _find_folder, folders)),
        ("Encoder weights", encoder_weights(os.environ, folders)),
        ("Kaggle", [kaggle_credentials(os.environ, Path.home())]),
        ("Internet", slow["net"]),
    ]
    show(table(sections))
    bad = list(
        dict.fromkeys(finding.what for _, findings in sections for finding in findings if finding.state == "bad")
    )
    if not bad:
        show("\nAll that the demo needs is here: ./run.sh demo")
        return 0
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    show(f"\nThe demo cannot run yet: {', '.join(bad[:3])}{more}. See the lines marked FIX.")
    return 2


# A descriptor that says where its data can be fetched; read as text, for PyYAML may be what is missing.
FETCHED_FROM = re.compile(r"^(KAGGLE_SLUG|REPOSITORY):", re.MULTILINE)


def competitions(find_folder: Callable[[str], Path | None], folders: Folders) -> list[Finding]:
    """Returns for each competition where its data is and how many images its lists name, or how to get it."""
    findings = []
    for name in sorted(path.stem for path in (CONFIGS / "competitions").glob("*.yaml")):
        folder = find_folder(name)
        if folder is not None:
            counts = [f"{count} {what}" for what in ("train", "test") if (count := _num_rows(folder / f"{what}.csv"))]
            findings.append(Finding(name, " + ".join(counts) or "no lists", shown(folder)))
        elif name == DEMO:
            findings.append(Finding(name, "not drawn yet", "./run.sh demo draws it"))
        else:
            places = ", ".join(shown(place) for place in folders.data)
            fix = f"DATA_DIR=/the/folder/above/{name}"
            if FETCHED_FROM.search((CONFIGS / "competitions" / f"{name}.yaml").read_text(encoding="utf-8")):
                fix = f"./run.sh download {name}, or {fix}"
            findings.append(Finding(name, "not found", f"looked in {places}", "note", fix))
    return findings


def encoder_weights(environ: Mapping[str, str], folders: Folders) -> list[Finding]:
    """Returns the encoders whose weights are on this machine: files, and the hub's cache."""
    files = [path for folder in folders.weights for path in sorted(folder.glob("*-*.safetensors"))]
    home = Path(environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface")
    cached = sorted(Path(environ.get("HF_HUB_CACHE") or home / "hub").glob("models--smp-hub--*"))
    findings = [Finding(path.stem, f"{path.stat().st_size / 1e6:.1f} MB", shown(path)) for path in files]
    findings += [
        Finding(path.name.removeprefix("models--smp-hub--"), "cached", "from the library's hub") for path in cached
    ]
    fix = "./run.sh download mobilenet_v2, or WEIGHTS_DIR=/folder with <encoder>-imagenet.safetensors"
    return findings or [Finding("weights", "none", "fetched when a run needs them; the demo needs none", "note", fix)]


def kaggle_credentials(environ: Mapping[str, str], home: Path) -> Finding:
    """Returns whether Kaggle's client can log in; looks only whether they are there, not into them."""
    folder = Path(environ.get("KAGGLE_CONFIG_DIR") or home / ".kaggle")
    ways = {
        "KAGGLE_API_TOKEN": bool(environ.get("KAGGLE_API_TOKEN")),
        "KAGGLE_USERNAME and KAGGLE_KEY": bool(environ.get("KAGGLE_USERNAME") and environ.get("KAGGLE_KEY")),
        **{str(folder / name): (folder / name).is_file() for name in ("kaggle.json", "access_token")},
    }
    way = next((way for way, is_there in ways.items() if is_there), None)
    if way:
        return Finding("credentials", "there", way)
    fix = f"kaggle.com/settings, Create New Token, save as {folder / 'kaggle.json'} (chmod 600)"
    return Finding("credentials", "none", "needed only for downloads from and uploads to Kaggle", "note", fix)


def table(sections: Iterable[Section]) -> str:
    """Returns the findings as aligned text; a fix that several lines in a row share stands once, below the last.

    >>> print(table([("Disk", [Finding("runs", "1 GiB", "runs/", "bad", "free some")])]))
    Disk
      FIX   runs  1 GiB  runs/
            fix: free some
    """
    sections = list(sections)
    everything = [finding for _, findings in sections for finding in findings]
    what_width = max((len(finding.what) for finding in everything), default=0)
    found_width = min(36, max((len(finding.found) for finding in everything), default=0))
    lines = []
    for title, findings in sections:
        lines.append(title)
        for finding, following in zip(findings, [*findings[1:], None], strict=True):
            cells = f"{finding.what:<{what_width}}  {finding.found:<{found_width}}  {finding.remark}"
            lines.append(f"  {SIGNS[finding.state]}  {cells.rstrip()}")
            if finding.fix and (following is None or following.fix != finding.fix):
                lines.append(f"        fix: {finding.fix}")
    return "\n".join(lines)


def _together(questions: Mapping[str, Callable[[], list[Finding]]], limit_s: float) -> dict[str, list[Finding]]:
    """Returns the answers of all questions, asked at once; what takes longer than `limit_s` is said and left."""
    answers: dict[str, list[Finding]] = {}

    def ask(name: str, question: Callable[[], list[Finding]]) -> None:
        answers[name] = question()

    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in questions.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit_s)
    late = {name: [Finding(name, f"no answer within {limit_s:g} s", state="note")] for name in questions}
    return late | answers


def _find_folder(name: str) -> Path | None:
    """Looks for a competition's folder as every run does; without the packages, only by its plain name."""
    try:
        from pipeline.config.load import load_competition
        from pipeline.data.competition import find_folder
    except ImportError:
        plain = (root / name for root in Folders.from_environment().data)
        return next((folder for folder in plain if (folder / "train.csv").is_file()), None)
    try:
        return find_folder(load_competition(name), Folders.from_environment().data)
    except UserError:
        return None


def _num_rows(path: Path) -> int:
    if not path.is_file():
        return 0
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        return max(0, sum(1 for row in csv.reader(file) if row) - 1)


if __name__ == "__main__":
    sys.exit(doctor())
