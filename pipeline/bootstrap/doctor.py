"""What this machine has, what is missing, and what to type for each missing item: `./run.sh doctor`.

In: the interpreter's metadata, the machine, folders named by environment variables. Out: a table, and 0 when the demo
can run, else 2. Imports no third-party package, so that it also works where none is installed:
`python3 -m pipeline.bootstrap.doctor`.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.bootstrap import findings as find
from pipeline.bootstrap.findings import Finding
from pipeline.bootstrap.requirements import installed_distributions, parse_requirements
from pipeline.errors import UserError
from pipeline.paths import CONFIGS, DEMO, DEMOS, PROJECT, Folders, shown

LIMIT_S = 4.0  # how long to wait for answers of the network, the driver and an import
DEMO_NEEDS_GIB = 1.0  # runs/demo with its tile store takes about 100 MB
MARKS = {"ok": "ok  ", "note": "note", "bad": "FIX "}
Section = tuple[str, list[Finding]]


def doctor() -> int:
    """Prints the table; returns 0 when the demo can run, else 2."""
    folders = Folders.from_environment()
    distributions = installed_distributions()
    requirements = parse_requirements((PROJECT / "requirements.txt").read_text(encoding="utf-8"))
    checks = {
        "cv2": lambda: find.opencv(distributions, find.cv2_folders()),
        "gpu": lambda: find.gpus(find.built_for("torch")[1]),
        "net": find.internet,
    }
    slow = {name: [Finding(name, f"no answer within {LIMIT_S:g} s", state="note")] for name in checks}
    slow |= find.run_concurrently(checks, LIMIT_S)
    sections: list[Section] = [
        ("Python", [find.interpreter()]),
        ("Packages", [*find.packages(requirements, distributions), *slow["cv2"], *find.torch_pair(distributions)]),
        ("Machine", [*slow["gpu"], *find.cores_and_memory(), *find.shared_memory()]),
        ("Disk", [find.disk(name, getattr(folders, name), DEMO_NEEDS_GIB) for name in ("runs", "scratch")]),
        ("Competitions", competitions(folders)),
        ("Encoder weights", encoder_weights(os.environ, folders)),
        ("Kaggle", [kaggle_credentials(os.environ, Path.home())]),
        ("Internet", slow["net"]),
    ]
    print(table(sections))
    found = [finding for _, findings in sections for finding in findings]
    bad = list(dict.fromkeys(finding.what for finding in found if finding.state == "bad"))
    if not bad:
        print("\nThe demo can run: ./run.sh demo")
        return 0
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    print(f"\nThe demo cannot run yet; fix first: {', '.join(bad[:3])}{more} (lines marked FIX)")
    return 2


# The key that says where a competition's data can be downloaded; read as text, because PyYAML may not be installed.
DOWNLOAD_KEY = re.compile(r"^(KAGGLE_SLUG|REPOSITORY):", re.MULTILINE)


def competitions(folders: Folders) -> list[Finding]:
    """Returns for each competition its data folder and the number of listed images, or how to get the data."""
    findings = []
    for name in sorted(path.stem for path in (CONFIGS / "competitions").glob("*.yaml")):
        folder = _find_folder(name, folders)
        if folder is not None:
            counts = [f"{count} {what}" for what in ("train", "test") if (count := _num_rows(folder / f"{what}.csv"))]
            findings.append(Finding(name, " + ".join(counts) or "no train.csv, no test.csv", shown(folder)))
        elif name in DEMOS:
            findings.append(
                Finding(
                    name,
                    "not generated yet",
                    "a run on it generates it" if name != DEMO else "./run.sh demo generates it",
                )
            )
        else:
            searched = ", ".join(shown(folder) for folder in folders.data)
            fix = f"DATA_DIR=/folder/that/contains/{name}"
            if DOWNLOAD_KEY.search((CONFIGS / "competitions" / f"{name}.yaml").read_text(encoding="utf-8")):
                fix = f"./run.sh download {shlex.quote(name)}, or {fix}"
            findings.append(Finding(name, "not found", f"searched {searched}", "note", fix))
    return findings


def encoder_weights(environ: Mapping[str, str], folders: Folders) -> list[Finding]:
    """Returns the encoders whose weights are on this machine, as files or in the hub's cache."""
    files = [path for folder in folders.weights for path in sorted(folder.glob("*-*.safetensors"))]
    home = Path(environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface")
    cached = sorted(Path(environ.get("HF_HUB_CACHE") or home / "hub").glob("models--smp-hub--*"))
    findings = [Finding(path.stem, f"{path.stat().st_size / 1e6:.1f} MB", shown(path)) for path in files]
    findings += [Finding(path.name.removeprefix("models--smp-hub--"), "cached", "from Hugging Face") for path in cached]
    fix = "./run.sh download mobilenet_v2, or WEIGHTS_DIR=/folder with <encoder>-imagenet.safetensors"
    return findings or [Finding("weights", "none", "downloaded when needed; the demo needs none", "note", fix)]


def kaggle_credentials(environ: Mapping[str, str], home: Path) -> Finding:
    """Returns whether credentials for Kaggle exist; their content is not read."""
    folder = Path(environ.get("KAGGLE_CONFIG_DIR") or home / ".kaggle")
    sources = {
        "KAGGLE_API_TOKEN": bool(environ.get("KAGGLE_API_TOKEN")),
        "KAGGLE_USERNAME and KAGGLE_KEY": bool(environ.get("KAGGLE_USERNAME") and environ.get("KAGGLE_KEY")),
        **{str(folder / name): (folder / name).is_file() for name in ("kaggle.json", "access_token")},
    }
    source = next((source for source, exists in sources.items() if exists), None)
    if source:
        return Finding("credentials", "found", source)
    fix = f"kaggle.com/settings: Create New Token, save it as {folder / 'kaggle.json'} (chmod 600)"
    return Finding("credentials", "none", "needed only for downloads and uploads", "note", fix)


def table(sections: Sequence[Section]) -> str:
    """Returns the findings as aligned text; a fix that consecutive lines share is printed once, below the last.

    >>> print(table([("Disk", [Finding("runs", "1 GiB", "runs/", "bad", "free some")])]))
    Disk
      FIX   runs  1 GiB  runs/
            fix: free some
    """
    all_findings = [finding for _, findings in sections for finding in findings]
    what_width = max((len(finding.what) for finding in all_findings), default=0)
    found_width = min(36, max((len(finding.found) for finding in all_findings), default=0))
    lines = []
    for title, findings in sections:
        lines.append(title)
        for finding, following in zip(findings, [*findings[1:], None], strict=True):
            cells = f"{finding.what:<{what_width}}  {finding.found:<{found_width}}  {finding.remark}"
            lines.append(f"  {MARKS[finding.state]}  {cells.rstrip()}")
            if finding.fix and (following is None or following.fix != finding.fix):
                lines.append(f"        fix: {finding.fix}")
    return "\n".join(lines)


def _find_folder(name: str, folders: Folders) -> Path | None:
    """Returns a competition's folder, searched for as in a run; without PyYAML, only a folder of exactly its name."""
    try:
        from pipeline.config.load import load_competition
        from pipeline.data.competition import find_folder
    except ImportError:
        plain = (root / name for root in folders.data)
        return next((folder for folder in plain if (folder / "train.csv").is_file()), None)
    try:
        return find_folder(load_competition(name), folders.data)
    except UserError:
        return None


def _num_rows(path: Path) -> int:
    if not path.is_file():
        return 0
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        return max(0, sum(1 for row in csv.reader(file) if row) - 1)


if __name__ == "__main__":
    sys.exit(doctor())
