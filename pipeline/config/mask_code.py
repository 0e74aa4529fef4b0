"""What the pixel values of mask files mean, from MASK_VALUES, COLORS and IGNORE_INDEX of a descriptor."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.config.competition import IGNORE, IGNORED, OTHERS, Competition, MaskValues


@dataclass(frozen=True)
class MaskCode:
    """What the pixel values of mask files mean.

    Attributes:
        values: the class index of each grey value, `IGNORE` where it is ignored. Another value is refused.
        others: the class index of all other grey values; None: they are refused.
        colors: RGB of each class, in order; None: masks are grey, or have a palette whose numbers count.
        ignored_color: index of the colour that is ignored.
    """

    values: dict[int, int] = field(default_factory=dict)
    others: int | None = None
    colors: tuple[tuple[int, int, int], ...] | None = None
    ignored_color: int | None = None


def mask_code(competition: Competition) -> MaskCode:
    """Returns the mask code of a competition (MASK_VALUES, COLORS, IGNORE_INDEX)."""
    return _code(competition, competition.mask_values)


def submission_code(competition: Competition) -> MaskCode:
    """Returns what the pixels of masks in a submission mean."""
    return _code(competition, competition.submission.values or competition.mask_values)


def _code(competition: Competition, stored: str | tuple[int, ...] | dict[str, MaskValues] | None) -> MaskCode:
    classes, ignore = competition.classes, competition.ignore_index
    if stored == "colors":
        return MaskCode({}, None, competition.colors, ignore)
    if stored == "objects":  # 0 is no object; every other number is one
        ignored = {} if ignore is None or ignore < len(classes) else {ignore: IGNORE}
        return MaskCode({0: 0, **ignored}, competition.scored_indices[0])
    if not isinstance(stored, dict):
        indices = [index for index in range(len(classes)) if index != competition.border_index]
        grey = indices if stored in (None, "indices") else stored
        values = {value: IGNORE if index == ignore else index for index, value in zip(indices, grey, strict=False)}
        return MaskCode(values | ({ignore: IGNORE} if ignore is not None and ignore >= len(classes) else {}))
    index_of = {name: IGNORE if index == ignore else index for index, name in enumerate(classes)} | {IGNORED: IGNORE}
    values = {value: index_of[name] for name, own in stored.items() if own != OTHERS for value in own}
    others = next((index_of[name] for name, own in stored.items() if own == OTHERS), None)
    return MaskCode(values, others)


def way_to_ignore(competition: Competition) -> str:
    """Returns what to write to ignore the class of IGNORE_INDEX where it is not the last one."""
    classes, values, index = competition.classes, competition.mask_values, competition.ignore_index
    if values == "colors":
        return f"move {classes[index]} to the end of CLASSES and COLORS, and set IGNORE_INDEX: {len(classes) - 1}"
    stored = values if isinstance(values, tuple) and len(values) == len(classes) else range(len(classes))
    known = {name: [value] for name, value in zip(classes, stored, strict=True) if name != classes[index]}
    listed = ", ".join(f"{name}: {own}" for name, own in (known | {IGNORED: [stored[index]]}).items())
    removed = "remove it from CLASSES and COLORS, remove IGNORE_INDEX"
    return f"to ignore {classes[index]}, {removed}, and write MASK_VALUES: {{{listed}}}"
