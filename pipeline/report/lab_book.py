"""The lab book: which experiment was derived from which, what each asks, and what its runs have answered.

In: the rows of a competition's runs, their scores by image, the parents and questions of configs. Out: a tree of
`Entry`. An entry is a config, or overrides of it; runs that differ in split or seed alone belong to one entry, and are
compared with the run of the parent on the same split with the same seed. The parent of overrides is the reference of
their study, else the entry with the largest part of them that has scores, else the config.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.config.family import Relative
from pipeline.report.compare import LEAST_IMAGES, NAMES_ONLY, differing
from pipeline.report.read import split_name
from pipeline.report.runs_rows import RunRow
from pipeline.report.study_names import REPEATED, Setting
from pipeline.report.table import overrides_text
from pipeline.verdicts import OF_MEMBERS, Contrast, Pair, contrast, verdicts

NOT_RUN, MEMBERS, ABOVE = "not run", "its members", "the entry above"

ImageScores = Mapping[str, tuple[str, float]]
Key = tuple[str, tuple[str, ...]]  # a config, and its overrides beside split and seed


@dataclass(frozen=True)
class Entry:
    """An experiment in the lab book.

    Attributes:
        name: a config, or the overrides that the entry above does not have.
        is_config: which of the two.
        question: of a config; of overrides, what studies call them.
        runs: names of its runs.
        reference: what the gain is over: a config, overrides by their name in a study or as "the entry above", "its
            members"; "" where there is nothing to compare with.
        gain: over the reference, on the images that both validated, in the score that has a value per image.
        num_pairs: of runs that were compared.
        answer: the verdict in words, or why there is none.
        changes: the settings in which it differs from the reference, with both values; of a config alone.
        cautions: what makes the comparison doubtful.
    """

    name: str
    is_config: bool
    question: str
    runs: tuple[str, ...]
    reference: str = ""
    gain: Contrast | None = None
    num_pairs: int = 0
    answer: str = ""
    changes: Mapping[str, tuple[str, ...]] | None = None
    cautions: tuple[str, ...] = ()
    children: tuple[Entry, ...] = ()

    @property
    def num_runs(self) -> int:
        """How many runs it and all entries below it have."""
        return len(self.runs) + sum(child.num_runs for child in self.children)

    def walk(self) -> Iterable[Entry]:
        """Yields it and all entries below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def lab_book(
    rows: Sequence[RunRow],
    images: Mapping[str, ImageScores],
    family: Mapping[str, Relative],
    questions: Mapping[str, str],
    settings: Mapping[str, Setting],
) -> tuple[Entry, ...]:
    """Returns the entries without a parent, each with those below it.

    Args:
        rows: the runs of one competition.
        images: by run, the sequence and the score of each validation image.
        family: the configs of the competition with their parents.
        questions: by config.
        settings: by run, what studies say of it.
    """
    return _Book(rows, images, family, questions, settings).roots()


class _Book:
    """The runs by entry, while the tree is built."""

    def __init__(
        self,
        rows: Sequence[RunRow],
        images: Mapping[str, ImageScores],
        family: Mapping[str, Relative],
        questions: Mapping[str, str],
        settings: Mapping[str, Setting],
    ) -> None:
        self.images, self.family, self.questions, self.settings = images, family, questions, settings
        self.by_checkpoint = {row.checkpoint: row for row in rows if row.checkpoint and not row.members}
        self.runs: dict[Key, list[RunRow]] = defaultdict(list)
        for row in rows:
            self.runs[_key(row)].append(row)
        self.below: dict[str, list[str]] = defaultdict(list)
        for name, own in family.items():
            if own.base in family and own.base != name:
                self.below[own.base].append(name)
        self.references = {name for own in settings.values() for name in own.references}
        self.parents = {key: self._parent(key) for key in sorted(self.runs) if key[1]}
        for key in self.parents:  # two studies may have each other's settings as references
            if key in self._above(key):
                self.parents[key] = (key[0], ())
        self.done: set[str] = set()

    def roots(self) -> tuple[Entry, ...]:
        names = sorted({*self.family, *(config for config, _ in self.runs)})
        below = {name for children in self.below.values() for name in children}
        found = self._children([(name, ()) for name in names if name not in below])
        # Configs that name each other as parents hang below no root: each is shown by itself.
        rest = [name for name in names if name not in self.done]
        return (*found, *(self._entry((name, ())) for name in rest if name not in self.done))

    def _children(self, keys: Sequence[Key]) -> tuple[Entry, ...]:
        """Returns entries beside each other; their verdicts are corrected for how many have one reference."""
        entries = [self._entry(key) for key in keys]
        by_reference: dict[str, list[int]] = defaultdict(list)
        for index, entry in enumerate(entries):
            if entry.gain is not None and entry.reference != MEMBERS:  # each ensemble has members of its own
                by_reference[entry.reference].append(index)
        for indices in by_reference.values():
            answers = verdicts([entries[index].gain for index in indices])
            for index, answer in zip(indices, answers, strict=True):
                entries[index] = replace(entries[index], answer=answer)
        return tuple(entries)

    def _entry(self, key: Key) -> Entry:
        config, overrides = key
        if overrides:
            return self._of_overrides(key)
        self.done.add(config)
        own = Entry(config, True, self.questions.get(config, ""), self._names(key))
        base = self.family[config].base if config in self.family else ""
        own = self._of_members(own, key) or self._compared(own, key, (base, ()) if base in self.family else None)
        derived = [(name, ()) for name in sorted(self.below[config]) if name not in self.done]
        # Both are compared with this config, so that together they are one family of comparisons.
        return replace(own, children=self._children([*self._overridden(key), *derived]))

    def _of_overrides(self, key: Key) -> Entry:
        above = self.parents[key]
        given = {override.partition("=")[0] for override in key[1]}
        words = [override for override in key[1] if override not in above[1]]
        words += [f"without {override}" for override in above[1] if override.partition("=")[0] not in given]
        text = " ".join(words)
        entry = self._compared(Entry(text, False, self._name_in_study(key), self._names(key)), key, above)
        return replace(entry, children=self._children(self._overridden(key)))

    def _overridden(self, key: Key) -> list[Key]:
        """Returns the overrides that are compared with an entry."""
        return sorted(other for other, parent in self.parents.items() if parent == key)

    def _parent(self, key: Key) -> Key:
        """Returns what overrides are compared with: the reference of their study, or what is most like them.

        That is the entry with the most of the same overrides, or the config itself. It has a run on the same split with
        the same seed as one of theirs.
        """
        config, overrides = key
        repeats = {_repeat(row) for row in self.runs[key]}
        of_study = {name for run in self._names(key) if run in self.settings for name in self.settings[run].references}
        some = [other for other in sorted(self.runs) if other != key]
        some = [other for other in some if any(_repeat(row) in repeats for row in self._scored(self.runs[other]))]
        named = [other for other in some if of_study.intersection(self._names(other))]
        if named or self.references.intersection(self._names(key)):
            return named[0] if named else (config, ())
        parts = [other for other in some if other[0] == config and set(other[1]) < set(overrides)]
        return max(parts, key=lambda other: len(other[1]), default=(config, ()))

    def _above(self, key: Key) -> set[Key]:
        """Returns the overrides above an entry."""
        found: set[Key] = set()
        above = self.parents[key]
        while above in self.parents and above not in found:
            found.add(above)
            above = self.parents[above]
        return found

    def _name_in_study(self, key: Key) -> str:
        return next((self.settings[run].name for run in self._names(key) if run in self.settings), "")

    def _names(self, key: Key) -> tuple[str, ...]:
        return tuple(row.name for row in self.runs.get(key, ()))

    def _compared(self, entry: Entry, key: Key, other: Key | None) -> Entry:
        """Returns an entry with its gain over another, or the reason why it has none."""
        own, before = self.runs.get(key, ()), self.runs.get(other, ()) if other else ()
        if reason := self._why_none(own):
            return replace(entry, answer=reason)
        if other is None:
            return replace(entry, answer="nothing to compare with: it has no BASE")
        config, overrides = other
        entry = replace(entry, reference=(self._name_in_study(other) or ABOVE) if overrides else config)
        if not self._scored(before):
            state = f"was {NOT_RUN}" if not before else f"has {self._why_none(before)}"
            return replace(entry, answer=f"nothing to compare with: {entry.reference} {state}")
        by_repeat = {_repeat(row): row for row in self._scored(before)}
        pairs = [(by_repeat[_repeat(row)], row) for row in self._scored(own) if _repeat(row) in by_repeat]
        if not pairs:
            return replace(
                entry, answer=f"nothing to compare with: no run of {entry.reference} with the same split and seed"
            )
        entry = replace(entry, changes=_changes(*pairs[0]) if entry.is_config else None, cautions=_cautions(pairs))
        return self._with_gain(entry, pairs)

    def _of_members(self, entry: Entry, key: Key) -> Entry | None:
        """Returns the entry of an ensemble with its gain over its members; None of other entries."""
        own = [row for row in self.runs.get(key, ()) if row.members]
        if not own or self._why_none(own):
            return None
        members = [self.by_checkpoint.get(checkpoint) for checkpoint in own[0].members]
        known = [row for row in members if row is not None and self.images.get(row.name)]
        if not known:
            return replace(entry, answer="nothing to compare with: none of its members has scores")
        return self._with_gain(replace(entry, reference=MEMBERS), [(member, own[0]) for member in known])

    def _with_gain(self, entry: Entry, pairs: Sequence[tuple[RunRow, RunRow]]) -> Entry:
        found = [self._pair(before, after, number) for number, (before, after) in enumerate(pairs)]
        found = [pair for pair in found if pair.gains]
        num_pairs = len(found)
        if entry.reference == MEMBERS and found:
            found = [_mean_pair(found)]
        num_images = len({image for pair in found for image in pair.gains})
        if num_images < LEAST_IMAGES:
            few = f"{num_images or 'no'} image{'' if num_images == 1 else 's'} in common"
            return replace(entry, answer=f"nothing to compare with: {few} with {entry.reference}")
        gain = contrast(found)
        (answer,) = verdicts([gain], about=OF_MEMBERS if entry.reference == MEMBERS else None)
        return replace(entry, gain=gain, num_pairs=num_pairs, answer=answer)

    def _pair(self, before: RunRow, after: RunRow, number: int) -> Pair:
        old, new = self.images[before.name], self.images[after.name]
        gains = {key: (new[key][0], new[key][1] - old[key][1]) for key in new if key in old}
        return Pair(repr(sorted(before.split.items(), key=repr)), number, gains)

    def _scored(self, rows: Sequence[RunRow]) -> list[RunRow]:
        """Returns the runs that can be compared: not quick ones on a share of the images."""
        return [row for row in rows if self.images.get(row.name) and not (row.split.get("index") or 0) < 0]

    def _why_none(self, rows: Sequence[RunRow]) -> str:
        """Returns why runs cannot be compared with others, "" where they can."""
        if not rows:
            return NOT_RUN
        if self._scored(rows):
            return ""
        if any(not row.without and self.images.get(row.name) for row in rows):
            return "only runs on a share of the images"
        return next((f"no score ({row.without})" for row in rows if row.without), "no scores by image")


def _mean_pair(pairs: Sequence[Pair]) -> Pair:
    """Returns pairs as one, with the mean gain of each image: the members of one ensemble are no repeated trainings."""
    gains: dict[str, list[float]] = defaultdict(list)
    sequence_of = {}
    for pair in pairs:
        for image, (sequence, gain) in pair.gains.items():
            gains[image].append(gain)
            sequence_of[image] = sequence
    return Pair(0, 0, {image: (sequence_of[image], sum(own) / len(own)) for image, own in gains.items()})


def _key(row: RunRow) -> Key:
    """Returns the entry that a run belongs to."""
    keys = [key for key in row.changed if key not in REPEATED and key in row.values]
    return row.config, tuple(overrides_text(row.values, [key]) for key in keys)


def _repeat(row: RunRow) -> str:
    """Returns which of the runs of its entry a run is: what was typed for split and seed."""
    return overrides_text(row.values, [key for key in REPEATED if key in row.changed])


def _changes(before: RunRow, after: RunRow) -> dict[str, tuple[str, ...]]:
    """Returns the settings in which two runs differ, with both values."""
    old, new = before.values, after.values
    keys = [key for key in {**old, **new} if key not in NAMES_ONLY and old.get(key) != new.get(key)]
    return differing([{key: values.get(key) for key in keys} for values in (old, new)])


def _cautions(pairs: Sequence[tuple[RunRow, RunRow]]) -> tuple[str, ...]:
    """Returns what makes a comparison doubtful: other training images may hold neighbours of the validated ones."""
    for before, after in pairs:
        if before.split != after.split:
            return (f"validated on {split_name(after.split)}, {before.name} on {split_name(before.split)}",)
    return ()
