"""A first experiment for a new competition: what the experiments of all tasks have, and a split without leaks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.data.discovery.draft import Draft

SUFFIX = "AAA"
MOST_WORDS = 2  # of the competition's name in the experiment's


class Plan(NamedTuple):
    """What a first experiment tries.

    Attributes:
        base: the config that it changes.
        network, images: what is trained on what, in words.
        suffix: EXPERIMENT.SUFFIX.
        datasets: lines of YAML below DATASETS.
        others: further lines of YAML.
    """

    base: str
    network: str
    images: str
    suffix: str
    datasets: Sequence[str] = ()
    others: Sequence[str] = ()


def experiment_name(competition: str) -> str:
    """Returns the name of the first experiment of a competition.

    >>> experiment_name("carvana_image_masking_challenge"), experiment_name("loveda")
    ('CarvanaImageAAA', 'LovedaAAA')
    """
    words = [word for word in competition.split("_") if word][:MOST_WORDS]
    return "".join(word[:1].upper() + word[1:] for word in words) + SUFFIX


def plan_text(draft: Draft, plan: Plan, directory: Path | None = None) -> str:
    """Returns the file `configs/NAME.yaml`.

    Args:
        directory: the competition's folder, where it is not found by its name.
    """
    name = experiment_name(draft.name)
    lines = [
        f"# What does {plan.network} score on {draft.name}, with {plan.images}?",
        f"# ./run.sh {shlex.quote(name)}",
        "# Published: no result.",
        f"BASE: {plan.base}",
        f"EXPERIMENT: {{PREFIX: {name}, SUFFIX: {plan.suffix}}}",
        "DATASETS:",
        f"  COMPETITION: {draft.name}",
        *([f'  DIRECTORY: "{directory}"'] if directory else []),
        f"  SPLIT: {{BY: {split_by(draft)}}}",
        *(f"  {line}" for line in plan.datasets),
        *plan.others,
    ]
    return "\n".join(lines) + "\n"


def split_by(draft: Draft) -> str:
    """Returns the split that a competition's files suggest: the organisers', by sequence, or random."""
    if {"VALID_IMAGES", "VALID_CSV", "SPLIT_COLUMN"} & draft.keys.keys():
        return "given"
    return "sequence" if {"SEQUENCE_COLUMN", "SEQUENCE_PATTERN"} & draft.keys.keys() else "slice"
