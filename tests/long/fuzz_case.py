"""A case of the fuzzer: files that are changed, what is run then, how it ended, and whether it may end so.

A case ends well with success, or with a refusal (exit code 2) that names a changed file or a key. A traceback, another
exit code, a death, a hang, raw control characters in the output and a flood of warnings are faults.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CONTENT, GONE, FOLDER, PIPE, LINK = "content", "gone", "folder", "pipe", "link"
SUCCEEDED, REFUSED, FAULT = "succeeded", "refused", "fault"
HUNG, DIED = -1000, -1001  # in place of an exit code
KEY = re.compile(r"\b[A-Z][A-Z_]+\b|configs/")  # of a config or a descriptor
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")
FRAME = re.compile(r'File "[^"]*?((?:pipeline|tests)/[^"]+)", line (\d+), in (\w+)')
RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Warning|Interrupt|Exit|Damaged|BadZipFile))\b", re.MULTILINE)
MOST_WARNINGS, MOST_CHARACTERS = 10, 20_000


class Change(NamedTuple):
    """What happens to a file: `kind` and, of CONTENT, what it holds then; the path is relative to the work folder."""

    path: str
    kind: str
    content: bytes = b""


class Case(NamedTuple):
    """What is tried.

    Attributes:
        target: its name in the table of targets.
        seed, number: from which it was drawn.
        changes: of files.
        commands: words after `./run.sh`, run one after the other while they succeed; none: the target has a function.
        words: a refusal has one of them; none: a key in capital letters is enough.
        is_process: whether the commands run as processes.
        is_right: whether nothing is wrong with what is changed, so that a refusal is a fault.
    """

    target: str
    seed: int
    number: int
    changes: tuple[Change, ...]
    commands: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]
    is_process: bool = False
    is_right: bool = False


class Ending(NamedTuple):
    """How a case ended: exit code, or HUNG or DIED; its standard output and error output; seconds."""

    code: int
    output: str
    errors: str
    seconds: float


def names_of(changes: Sequence[Change]) -> tuple[str, ...]:
    """Returns how messages may call the changed files: by name, by name without suffix.

    >>> names_of([Change("data/train.csv", "gone")])
    ('train.csv', 'train')
    """
    paths = [Path(change.path) for change in changes]
    return tuple(dict.fromkeys(name for path in paths for name in (path.name, path.name.split(".")[0] or path.name)))


def apply(changes: Sequence[Change], work: Path) -> None:
    """Makes the changes in the work folder."""
    for change in changes:
        path = work / change.path
        remove(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if change.kind == CONTENT:
            path.write_bytes(change.content)
        elif change.kind == FOLDER:
            path.mkdir()
        elif change.kind == PIPE:
            os.mkfifo(path)
        elif change.kind == LINK:
            path.symlink_to("nowhere")


def restore(paths: Sequence[str], base: Path, work: Path) -> None:
    """Puts files and folders back from the folder in which nothing was changed, and removes new runs."""
    for path in paths:
        remove(work / path)
        whole = base / path
        if whole.is_dir():
            shutil.copytree(whole, work / path)
        elif whole.is_file():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(whole, work / path)
    for folder in ("runs", "submissions"):
        kept = set(os.listdir(base / folder)) if (base / folder).is_dir() else set()
        for name in set(os.listdir(work / folder)) - kept if (work / folder).is_dir() else ():
            remove(work / folder / name)


def remove(path: Path) -> None:
    """Removes a file, a link or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def judge(case: Case, ending: Ending) -> tuple[str, str]:
    """Returns SUCCEEDED, REFUSED or FAULT, and of a fault its kind in words: equal words are the same fault."""
    if ending.code in (HUNG, DIED):
        return FAULT, "does not end in time" if ending.code == HUNG else "the process died"
    text = f"{ending.output}\n{ending.errors}"
    if "Traceback (most recent call last)" in text:
        frames, raised = FRAME.findall(ending.errors or text), RAISED.findall(text)
        place = next((f"{file}:{line} {name}" for file, line, name in reversed(frames) if "pipeline/" in file), "")
        return FAULT, f"{raised[-1] if raised else 'traceback'} at {place}"
    if ending.code not in (0, 2):
        return FAULT, f"exit code {ending.code}"
    if found := CONTROL.search(ending.output):
        return FAULT, f"prints the control character {found.group()!r} in {' '.join(case.commands[-1][:1])}"
    if (count := sum("Warning: " in line for line in ending.errors.splitlines())) > MOST_WARNINGS:
        return FAULT, f"more than {MOST_WARNINGS} warnings" if count else ""
    if ending.code == 0:
        return SUCCEEDED, ""
    if case.is_right:
        return FAULT, "refuses what is right"
    is_named = any(word in ending.errors for word in case.words) if case.words else bool(KEY.search(ending.errors))
    if not is_named:
        message = re.sub(r"[\d'\"]+", "", ending.errors.strip().splitlines()[0] if ending.errors.strip() else "")
        return FAULT, f"a refusal that names neither file nor key: {message[:60]}"
    if len(ending.errors) > MOST_CHARACTERS:
        return FAULT, f"a message of more than {MOST_CHARACTERS:,} characters"
    return REFUSED, ""


def save(path: Path, case: Case, kind: str, ending: Ending) -> None:
    """Writes a case that can be run again, as a zip: `case.json`, and the changed files by their paths."""
    facts = case._asdict() | {"changes": [[change.path, change.kind] for change in case.changes]}
    facts |= {"fault": kind, "code": ending.code, "output": ending.output[-4000:], "errors": ending.errors[-8000:]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("case.json", json.dumps(facts, indent=2, default=str))
        for number, change in enumerate(case.changes):
            if change.kind == CONTENT:
                zipped.writestr(f"files/{number}/{Path(change.path).name[-80:]}", change.content)


def read(path: Path) -> Case:
    """Returns a case that `save` wrote."""
    with zipfile.ZipFile(path) as zipped:
        facts = json.loads(zipped.read("case.json"))
        contents = {int(name.split("/")[1]): zipped.read(name) for name in zipped.namelist() if "/" in name}
    changes = [Change(*given, contents.get(number, b"")) for number, given in enumerate(facts["changes"])]
    facts = {name: facts[name] for name in Case._fields if name in facts}  # one that was saved earlier has fewer
    commands = tuple(tuple(words) for words in facts["commands"])
    return Case(**facts | {"changes": tuple(changes), "commands": commands, "words": tuple(facts["words"])})
