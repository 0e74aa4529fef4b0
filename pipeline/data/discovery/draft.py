"""A descriptor in the making: its keys, how sure each is, the text of the file, and the competition that it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import yaml

from pipeline.config.check_competition import check_competition
from pipeline.config.competition import Competition
from pipeline.config.plain_yaml import compose_text
from pipeline.config.tree import Leaf, build, leaf_origins, mapping_tree
from pipeline.paths import descriptor

Certainty = Literal["SURE", "GUESS", "COULD NOT TELL"]
CERTAINTIES: tuple[Certainty, ...] = ("SURE", "GUESS", "COULD NOT TELL")
WIDTH = 118  # of a line of the file
# The order of the keys, as in the ready descriptors.
ORDER = (
    *(
        "TITLE",
        "TASK",
        "CLASSES",
        "LABELS",
        "COLORS",
        "IGNORE_INDEX",
        "IMAGES",
        "VALID_IMAGES",
        "TEST_IMAGES",
        "IMAGE",
        "MASKS",
        "BOXES",
    ),
    *(
        "MASK_VALUES",
        "MASK_SIZE",
        "WITHOUT_MASK",
        "VALID_REGION",
        "SUBMITTED",
        "CLASS_LABELS",
        "ID_COLUMN",
        "ID_FORMAT",
        "ID_PATTERN",
        "TRAIN_CSV",
        "VALID_CSV",
        "TEST_CSV",
    ),
    *("SAMPLE_SUBMISSION", "SEQUENCE_COLUMN", "SEQUENCE_PATTERN", "SPLIT_COLUMN", "SCORE", "KAGGLE_SLUG"),
    *("OBJECTS", "SUBMISSION", "CONVENTION", "BOX_CONVENTION"),
)


class Note(NamedTuple):
    """What is known of a key, and from what."""

    certainty: Certainty
    key: str
    text: str


@dataclass
class Draft:
    """The keys of a descriptor with their values, and the notes on them."""

    name: str
    keys: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def sure(self, key: str, text: str, *value: Any) -> None:
        """Notes what the files show; sets the key where a value is given."""
        self.add("SURE", key, text, value)

    def guess(self, key: str, text: str, *value: Any) -> None:
        """Notes what is likely, and what to check; sets the key where a value is given."""
        self.add("GUESS", key, text, value)

    def unknown(self, key: str, text: str, *value: Any) -> None:
        """Notes what the folder does not show; the value, where one is given, only makes the file complete."""
        self.add("COULD NOT TELL", key, text, value)

    def drop(self, key: str) -> None:
        """Forgets a key and what was noted of it."""
        self.keys.pop(key, None)
        self.notes = [note for note in self.notes if note.key != key]

    def add(self, certainty: Certainty, key: str, text: str, value: Sequence[Any] = ()) -> None:
        """Adds a note; sets the key to the first of `value`, where there is one."""
        self.notes.append(Note(certainty, key, text))
        if value:
            self.keys[key] = value[0]

    @property
    def text(self) -> str:
        """The file `configs/competitions/NAME.yaml`."""
        lines = [f"# {self.name}: written by `./run.sh new` from the files; every line can be edited."]
        for key in ORDER:
            named = "" if key in self.keys else f", {key}"  # a note on a key that is not set stands alone
            lines += [line for note in self.notes if note.key == key for line in _comment(note, named)]
            if key in self.keys:
                lines.append(yaml_line(key, self.keys[key]))
        return "\n".join(lines) + "\n"

    def competition(self) -> Competition:
        """Returns the competition that the text means.

        Raises:
            UserError: the text contradicts itself.
        """
        return parse_competition(self.name, self.text)


def parse_competition(name: str, text: str) -> Competition:
    """Returns the competition of a descriptor's text.

    Raises:
        UserError: as `load_competition`.
    """
    shown = descriptor(name)
    tree = mapping_tree(compose_text(text, shown), shown)
    tree["NAME"] = Leaf(yaml.ScalarNode("tag:yaml.org,2002:str", name, style="'"), shown)
    competition = build(tree, Competition)
    check_competition(competition, leaf_origins(tree))
    return competition


def yaml_line(key: str, value: Any) -> str:
    """Returns a key and its value as YAML, lists and mappings in brackets.

    >>> yaml_line("CLASSES", ["no", "Car"]), yaml_line("TRAIN_CSV", None), yaml_line("MASK_VALUES", {"Car": [1]})
    ("CLASSES: ['no', Car]", 'TRAIN_CSV: null', 'MASK_VALUES: {Car: [1]}')
    """
    width = WIDTH - len(key) - 2
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=width, allow_unicode=True)
    return f"{key}: {text.removesuffix('...' + chr(10)).rstrip()}"


def _comment(note: Note, named: str) -> list[str]:
    words, lines = f"{note.certainty}{named}: {note.text}".split(), ["#"]
    for word in words:
        if len(lines[-1]) + len(word) + 1 > WIDTH:
            lines.append("#  ")
        lines[-1] += f" {word}"
    return lines
