"""What a refusal proposes is not refused in turn: it is read out of the message and applied, until the config loads."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from pipeline.config.load import load
from pipeline.config.optimizers import OFFERED, REFUSED, why_refused
from pipeline.errors import UserError

KEY = r"[A-Z][A-Z_]*(?:\.[A-Z_]+)*"
VALUE = r"(?:\[[^\]]*\]|'[^']*'|true\b|false\b|null\b|-?\d[\w.+-]*|[a-z][a-z0-9_.]*|[A-Z][A-Za-z0-9]+)"
NO_VALUES = {"that", "two", "more", "MOSAIC", "MIX_UP", "fewer"}  # words behind "set" or "use" that say what to choose
MASKS = (
    "AVERAGE.METHOD=swa & AVERAGE.COUNT=200",
    "AVERAGE.METHOD=swa & AVERAGE.RUNS=[ExpAAC]",
    "AVERAGE.METHOD=swa & SOLVER.PLAN=constant & SOLVER.NUM_EPOCHS=1",
    "AVERAGE.RUNS=[ExpAAC]",
    "DATASETS.SPLIT.FOLDS=3",
    "DATASETS.SPLIT.FOLDS=3 & DATASETS.SPLIT.BY=sequence & DATASETS.SPLIT_INDEX=5",
    "DECODE.OBJECTS=fitted",
    "LOSS_FN.WEIGHTS=[1, 2]",
    "MODEL.NAME=PlainUnet",
    "MODEL.NAME=RetinaNet",
    "PREDICT.TTA=scales & PREDICT.SCALES=[0.5, 1.0]",
    "PREDICT.SCALE_WEIGHTS=[1, 2]",
    "PSEUDO.TEACHER=ExpAAC & PSEUDO.SHARE=0.3",
    "PSEUDO.TEACHER=ExpAAC & PSEUDO.SHARE=0.3 & DATALOADERS.TRAIN.BATCH_SIZE=7 & RUNTIME.RANKS=2",
    "PSEUDO.TEACHER=ExpAAC & PSEUDO.SHARE=0.5 & PSEUDO.LABELS=soft & LOSS_FN.MIX=1 lovasz & DATASETS.PADDING=class",
    "PSEUDO.TEACHER=ExpAAC & PSEUDO.SHARE=0.5 & PSEUDO.LABELS=soft & LOSS_FN.MIX=ce(top=0.2)",
    "RUNTIME.RANKS=3",
    "RUNTIME.RANKS=3 & DATALOADERS.TRAIN.DROP_LAST=false & SOLVER.ACCUMULATE=2",
    "RUNTIME.RANKS=auto & RUNTIME.SYNC_BATCH_NORM=false",
    "SOLVER.CHECKPOINT_ENCODER=true & SOLVER.COMPILE=true",
    "SOLVER.FROM=ExpAAC",
    "SOLVER.FROM=ExpAAC & LOSS_FN.ADAPTIVE.ENABLE=true & AVERAGE.METHOD=swa & REPORT.EPOCHS=[1]",
    "SOLVER.MAX_LR=auto & SWEEP.OPTIMIZER=SGD",
    "SOLVER.MAX_LR=auto & SWEEP.OPTIMIZER=SGD & SOLVER.OPTIMIZER.NAME=timm.adagrad",
    "SOLVER.MONITOR=valid_ap",
    "SOLVER.MONITOR=valid_uw_madison",
    "SOLVER.OPTIMIZER.NAME=torch_optimizer.SGDW & SOLVER.OPTIMIZER.WEIGHT_DECAY=0.1",
    "SOLVER.OPTIMIZER.NAME=SAM",
    "SOLVER.PLAN=cityscapes_freeze",
    "SOLVER.PLAN=yolox",
)
BOXES = (
    "DATASETS.AUGMENTATION.COPY_PASTE.ENABLE=true & DATASETS.AUGMENTATION.COPY_PASTE.VARIANT=occurrence",
    "DATASETS.AUGMENTATION.CUT_MIX.ENABLE=true",
    "DATASETS.CLASSES=[RBC]",
    "DECODE.OFFSETS=fitted",
    "LOSS_FN.MIX=1 ce",
    "MODEL.ENCODER.IMAGE_SIZE=[64, 64]",
    "MODEL.NAME=YOLOX",
    "MODEL.NAME=YOLOX & SOLVER.PLAN=cityscapes_freeze",
    "PREDICT.TTA_SPACE=logits",
    "PREDICT.MODE=window",
    "SOLVER.MONITOR=valid_dice",
    "SOLVER.PLAN=yolox",
)
COMBINED = (
    "DECODE.OFFSETS=fitted & ENSEMBLE.METHOD=MW",
    "DECODE.OFFSETS=fitted & ENSEMBLE.METHOD=MW & ENSEMBLE.WEIGHTS=fitted",
    "ENSEMBLE.WEIGHTS=[1, 2]",
    "ENSEMBLE.METHOD=WBF",
    "ENSEMBLE.METHOD=WBF & ENSEMBLE.WEIGHTS=[1, 2]",
    "ENSEMBLE.MEMBERS=[DemoAAA]",
)
WRONG = {"ExpAAB": MASKS, "BccdR": BOXES, "DemoEns": COMBINED}
KNOWN = load("demo").values


def alternatives(message: str) -> list[dict[str, str]]:
    """Returns the ways out that a refusal proposes, each as settings; "" as value: the setting is to be removed.

    >>> alternatives("command line: RUNTIME.RANKS: 3 are too many; set 2, or SYNC_BATCH_NORM: false")
    [{'RUNTIME.RANKS': '2'}, {'RUNTIME.SYNC_BATCH_NORM': 'false'}]
    """
    own = re.search(rf"(?:^|: )({KEY}): ", message)
    what, _, remedy = message.rpartition(";")
    if own is None or (own[1] == "SOLVER.PLAN" and "LOSS: " in remedy):  # in the file of the plan
        return []
    found = [{own[1]: ""}] if "remove it" in remedy else []
    proposed = re.search(r"\b(?:set|write|give|use)(?: for example)? (.*)", remedy, re.DOTALL)
    for part in re.split(r", or (?:set )?| or (?:set )?|, (?![^\[]*\])", proposed[1]) if proposed else ():
        together = [re.fullmatch(rf"({KEY})(?:: |=)({VALUE})", setting) for setting in part.split(" and ")]
        if all(together):
            found.append({in_full(match[1], own[1]): match[2] for match in together})
        elif match := re.fullmatch(r"it to (\d+)", part):
            other = next(key for key in re.findall(KEY, what) if key != own[1] and "." in key)
            found.append({other: match[1]})
        elif (match := re.match(rf"({VALUE})(?: \(.*\)| to -?\d+)?$", part)) and match[1] not in NO_VALUES:
            found.append({own[1]: match[1]})
    return found


def in_full(key: str, beside: str) -> str:
    """Returns the dotted key that a message shortens to its last words, beside another key."""
    if key in KNOWN:
        return key
    ends = [one for one in KNOWN if one.endswith(f".{key}")]
    return max(
        ends, key=lambda one: len([1 for a, b in zip(one.split("."), beside.split("."), strict=False) if a == b])
    )


def refused(name: str, settings: dict[str, str]) -> str | None:
    try:
        load(name, tuple(f"{key}={value}" for key, value in settings.items()))
    except UserError as error:
        return str(error)
    return None


def dead_ends(name: str, settings: dict[str, str], seen: tuple[str, ...] = (), given: Iterable[str] = ()) -> list[str]:
    """Returns the ways through proposals that end in a refusal of what was proposed, or come back: the messages.

    Args:
        given: the keys that the last proposal has set.
    """
    message = refused(name, settings)
    if message is None:
        return []
    if message in seen or any(f": {key}: " in message for key in given):
        return ["\n -> ".join([*seen, message])]
    found: list[str] = []
    for change in alternatives(message):
        changed = {key: value for key, value in (settings | change).items() if value}
        found += dead_ends(name, changed, (*seen, message), change)
    return found


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name in WRONG for wrong in WRONG[name]])
def test_what_a_refusal_proposes_is_not_refused(name, wrong):
    assert dead_ends(name, dict(setting.split("=", 1) for setting in wrong.split(" & "))) == []


def test_an_optimizer_is_proposed_only_if_it_can_be_used():
    for name in (*OFFERED, *REFUSED):
        reason = why_refused(name.rpartition(".")[2].lower(), 0.0)
        proposed = re.search(r"did you mean (.*)\?", reason) if reason else None
        assert proposed is None or [one for one in proposed[1].split(" or ") if one not in OFFERED] == []
