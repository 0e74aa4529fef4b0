"""Refuses a competition's descriptor that contradicts itself: before a file is read, with line, key and remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain

from pipeline.config.check_box_convention import check_box_convention
from pipeline.config.check_boxes import label_problems
from pipeline.config.competition import (
    FILE_SUFFIXES,
    IGNORE,
    IGNORED,
    OF_BOXES,
    OF_VOLUMES,
    OPTION_OF,
    OTHERS,
    SCORE_DEFAULTS,
    TEXT_LIST,
    Competition,
    MaskCsv,
    Objects,
    as_templates,
)
from pipeline.config.mask_code import way_to_ignore
from pipeline.config.template import CLASS, FIELD, POLYGONS, kind_problem, template_problem
from pipeline.config.tree import Problems, first_repeated, refuse
from pipeline.paths import descriptor
from pipeline.wording import did_you_mean


def check_competition(competition: Competition, origins: Mapping[str, str]) -> None:
    """Refuses a descriptor that contradicts itself.

    Raises:
        UserError: file, line and key, what was found and what was expected.
    """
    checks = (_objects, _classes, _labels, _mask_values, _submission_values, _submitted, _score)
    checks += (_paths, _lists, _patterns, _columns, check_box_convention)
    default = descriptor(competition.name)
    for key, why in chain(label_problems(competition, OF_BOXES), *(check(competition) for check in checks)):
        refuse(origins, key, why, default)
    uses_colors = "colors" in (competition.mask_values, competition.submission.values)
    if uses_colors and origins and "COLORS" not in origins:
        refuse(origins, "COLORS", "is missing; where masks store colours, give that of each class", default)


def _classes(competition: Competition) -> Problems:
    classes, colors, ignore = competition.classes, competition.colors, competition.ignore_index
    num, last = len(classes), len(classes) - 1
    least = 1 if competition.is_multilabel or competition.has_boxes else 2
    if not least <= num <= 254:
        why = f"(value {IGNORE} of an 8-bit mask is for ignored pixels)"
        yield "CLASSES", f"found {num} classes, expected {least} to 254 {why}"
    if first_repeated(classes) is not None or "" in classes:
        yield "CLASSES", "a class name is empty or used twice; each class needs its own"
    if len(colors) != num:
        yield "COLORS", f"found {len(colors)} colours for {num} classes; give one [red, green, blue] per class"
    if (twice := first_repeated(colors)) is not None:
        yield "COLORS", f"{list(twice)} is the colour of two classes; give each its own"
    is_named = isinstance(competition.mask_values, dict) or competition.is_multilabel  # checked below
    if ignore is not None and not is_named and ignore != last and not num <= ignore <= 65535:
        expected = f"the last class ({last}) or a value outside the classes ({num} or more)"
        way = f"; {way_to_ignore(competition)}" if 0 <= ignore < last and num > least else ""
        yield "IGNORE_INDEX", f"found {ignore}, expected {expected}{way}"
    if competition.is_multilabel and ignore is not None:
        why = "LABELS is multilabel, where values are ignored by name: write `ignore: [...]` in MASK_VALUES"
        yield "IGNORE_INDEX", f"{why} and remove this"
    elif competition.num_classes < least:
        why = "only one class is not ignored; at least two are needed, for example background and object"
        yield "IGNORE_INDEX", why


def _labels(competition: Competition) -> Problems:
    values, masks = competition.mask_values, competition.masks
    if competition.mask_size == "any" and isinstance(masks, MaskCsv):
        yield "MASK_SIZE", "run lengths do not say their size; write [width, height] instead of any"
    if isinstance(competition.mask_size, tuple) and not isinstance(masks, MaskCsv):
        yield "MASK_SIZE", "mask files have their size in them; write any instead of [width, height]"
    if competition.annotators == "mean" and not competition.is_multilabel:
        yield "ANNOTATORS", "mean needs LABELS: multilabel; set that, or write vote"
    if competition.annotators is not None and (not isinstance(masks, tuple) or len(masks) < 2):
        yield "ANNOTATORS", "needs a template of MASKS for each annotator; give a list of two or more"
    if not competition.is_multilabel:
        if values == "shares":
            yield (
                "MASK_VALUES",
                "shares (how sure each class is) needs LABELS: multilabel; give both or neither",
            )
        return
    if values == "colors" or (isinstance(values, tuple) and values):
        found = "colors" if values == "colors" else "a list"
        why = "with LABELS: multilabel give {name: [values]} for each class, or shares, or remove MASK_VALUES"
        yield "MASK_VALUES", f"found {found}; {why}"
    if competition.submission.format != "run_lengths":
        why = f"{competition.submission.format} stores one class per pixel, but LABELS is multilabel"
        yield "SUBMISSION.FORMAT", f"{why}; write run_lengths"
    if competition.score == "pixel_accuracy":
        yield "SCORE", "pixel_accuracy needs one class per pixel, but LABELS is multilabel; write iou or dice"
    if competition.has_objects:
        yield "OBJECTS.METHOD", "needs one class per pixel, but LABELS is multilabel; remove one of the two"


def _objects(competition: Competition) -> Problems:
    objects, classes = competition.objects, competition.classes
    if not competition.has_objects:
        given = [name for name, value in vars(Objects()).items() if getattr(objects, name) != value]
        if given:
            yield f"OBJECTS.{given[0].upper()}", "needs OBJECTS.METHOD (components or watershed): give both or neither"
        if competition.mask_values == "objects":
            yield "MASK_VALUES", "objects needs OBJECTS.METHOD (components or watershed): give both or neither"
        return
    if competition.annotators is not None:
        yield "ANNOTATORS", "combines pixels, and OBJECTS tells objects apart, which have no vote; remove one of them"
    if competition.submission.format != "run_lengths":
        yield "OBJECTS.METHOD", "a row per object needs SUBMISSION.FORMAT: run_lengths; set that, or remove OBJECTS"
    if objects.border is not None and objects.border not in classes[1:]:
        meant = did_you_mean(objects.border, classes[1:], f"expected one of {', '.join(classes[1:])}")
        yield "OBJECTS.BORDER", f"{objects.border!r} is not a class after the first; {meant}"
        return
    if 0 in competition.submitted_indices:
        others = ", ".join(name for name in classes[1:] if name != objects.border)
        yield "SUBMITTED", f"with OBJECTS the first class, {classes[0]}, means no object; name others: [{others}]"
    if objects.border is not None and competition.border_index in (
        *competition.submitted_indices,
        competition.ignore_index,
    ):
        why = "name another class, or correct SUBMITTED or IGNORE_INDEX"
        yield "OBJECTS.BORDER", f"{objects.border} is submitted or ignored, which a border class cannot be; {why}"
    if competition.mask_values == "objects" and len(competition.scored_indices) != 1:
        why = "objects numbers the objects of one class; files with {class} in their name may have several"
        yield "MASK_VALUES", f"{why}; name the one in SUBMITTED, or remove this"


def _mask_values(competition: Competition) -> Problems:
    stored = competition.mask_values
    if not isinstance(stored, dict):
        yield from () if competition.is_multilabel else _values("MASK_VALUES", stored, competition)
        return
    for name in stored:
        if name not in (*competition.classes, IGNORED):
            known = [*competition.classes, IGNORED]
            yield f"MASK_VALUES.{name}", f"no class of that name; {did_you_mean(name, known, ', '.join(known))}"
    templates = [] if isinstance(competition.masks, MaskCsv) else as_templates(competition.masks)
    if IGNORED in stored and templates and all(CLASS in FIELD.findall(one) for one in templates):
        why = "is not read: a file with {class} in its name is of one class, whatever its values are; remove it"
        yield f"MASK_VALUES.{IGNORED}", f"{why}, or name a VALID_REGION"
    missing = [name for name in competition.class_names if name not in (*stored, competition.objects.border)]
    if missing:
        yield "MASK_VALUES", f"{missing[0]} has no values; give those of each class, or leave the class out of CLASSES"
    values = [value for own in stored.values() if own != OTHERS for value in own]
    twice = None if competition.is_multilabel else first_repeated(values)  # a value may mean several
    if twice is not None:
        yield "MASK_VALUES", f"{twice} is given twice; a value belongs to one class, or to {IGNORED}"
    if sum(own == OTHERS for own in stored.values()) > 1:
        yield "MASK_VALUES", f"`{OTHERS}` is given twice; the values that are left belong to one class, or to {IGNORED}"
    if competition.ignore_index is not None:
        why = f"MASK_VALUES names its classes, so ignored values belong there: write `{IGNORED}: [...]` and remove this"
        yield "IGNORE_INDEX", why


def _submission_values(competition: Competition) -> Problems:
    stored = competition.submission.values
    yield from _values("SUBMISSION.VALUES", stored, competition)
    holds_masks = competition.submission.format != "run_lengths"
    if holds_masks and stored is None and isinstance(competition.mask_values, dict):
        why = "several values of a mask may mean one class; give the grey value that is written for each class"
        yield "SUBMISSION.VALUES", why


def _values(key: str, values: str | tuple[int, ...] | None, competition: Competition) -> Problems:
    """Yields where what a key says masks store contradicts CLASSES or IGNORE_INDEX."""
    classes, ignore = competition.classes, competition.ignore_index
    is_outside = ignore is not None and ignore >= len(classes)
    if values == "colors" and is_outside:
        found = f"found {ignore}, a grey value, but with {key}: colors masks are in colour"
        yield "IGNORE_INDEX", f"{found}; make the ignored colour the last class, and give its index here"
    if not isinstance(values, tuple):
        return
    num = len(classes) - (competition.border_index is not None)
    if len(values) != num:
        found = f"found {len(values)} values for {num} classes"
        yield key, f"{found}; give the grey value of each class, in order"
    if (twice := first_repeated(values)) is not None:
        yield key, f"{twice} is the value of two classes; give each its own"
    if is_outside and ignore in values:
        yield "IGNORE_INDEX", f"{ignore} is the value of {classes[values.index(ignore)]} in {key}; give another"


def _submitted(competition: Competition) -> Problems:
    submitted, labels = competition.submitted, competition.class_labels
    for name in submitted or ():
        if name not in competition.classes:
            known = competition.classes
            yield "SUBMITTED", f"{name!r} is no class; {did_you_mean(name, known, ', '.join(known))}"
            return
    if submitted is not None and (not submitted or first_repeated(submitted) is not None):
        yield "SUBMITTED", "name each submitted class exactly once"
        return
    if not competition.scored_indices:
        yield "SUBMITTED", "only the ignored class is named; name at least one that is scored"
    rows = competition.convention.rows
    if rows == "id" and competition.submission.format == "run_lengths" and len(competition.scored_indices) != 1:
        why = f"a row per image (CONVENTION.ROWS: id) has one class; {len(competition.scored_indices)} are submitted"
        yield "SUBMITTED", f"{why}; ROWS: id_class or id+class has one row per class"
    if isinstance(labels, tuple) and len(labels) != len(competition.classes):
        found = f"found {len(labels)} labels for {len(competition.classes)} classes"
        yield "CLASS_LABELS", f"{found}; give what lists and submissions call each class, in order, or `names`"
    if isinstance(labels, tuple) and first_repeated(labels) is not None:
        yield "CLASS_LABELS", f"{first_repeated(labels)!r} is the label of two classes; give each its own"


def _score(competition: Competition) -> Problems:
    score, given = competition.score, competition.score_options
    if score in OF_VOLUMES and not (competition.sequence_column or competition.sequence_pattern):
        why = f"{score} needs volumes, which are sequences of images"
        yield "SCORE", f"{why}: give SEQUENCE_PATTERN or SEQUENCE_COLUMN, or SCORE: {OF_VOLUMES[score]}"
    for option, owners in OPTION_OF.items():
        if getattr(given, option) != getattr(SCORE_DEFAULTS, option) and score not in owners:
            why = f"applies only to SCORE: {' or '.join(owners)}, and SCORE is {score}; remove it, or change SCORE"
            yield f"SCORE_OPTIONS.{option.upper()}", why
    if not given.thresholds or first_repeated(given.thresholds) is not None:
        yield "SCORE_OPTIONS.THRESHOLDS", "give one IoU or more, each once, for example [0.5, 0.75]"


def _paths(competition: Competition) -> Problems:
    masks = competition.masks
    keys = ("images", "valid_images", "test_images")
    given = {key.upper(): as_templates(getattr(competition, key)) for key in keys if getattr(competition, key)}
    templates = [(key, template) for key, own in given.items() for template in own]
    yield from _stacks(competition, given)
    templates += [("VALID_REGION", competition.valid_region)]
    if isinstance(masks, str):
        templates += [("MASKS", masks)]
    elif not isinstance(masks, MaskCsv):
        templates += [("MASKS", template) for template in masks or ()]
    for key, template in templates:
        problem = template and template_problem(template, competition.id_format)
        if problem:
            yield key, problem
        if template and key != "MASKS" and CLASS in FIELD.findall(template):
            yield key, f"found {template!r}; {{class}} belongs to MASKS"
    file, form = competition.submission.file, competition.submission.format
    suffixes = FILE_SUFFIXES.get(form, ())
    if file is not None and suffixes and not file.endswith(suffixes):
        found = f"found {file!r}, but the files of {form} end with {' or '.join(suffixes)}"
        yield "SUBMISSION.FILE", f"{found}; write for example {{id}}{suffixes[0]}"
    if file is not None and (
        template_problem(file, competition.id_format) or "*" in file or CLASS in FIELD.findall(file)
    ):
        yield (
            "SUBMISSION.FILE",
            f"found {file!r}, expected a path inside the zip with {{id}} in place of the image's id",
        )
    paths = {key.upper(): getattr(competition, key) for key in ("train_csv", "valid_csv", "test_csv")}
    paths |= {"SAMPLE_SUBMISSION": competition.sample_submission}
    paths |= {"MASKS.CSV": masks.csv} if isinstance(masks, MaskCsv) else {}
    for key, path in paths.items():
        if key == "MASKS.CSV" and path.lower().endswith(POLYGONS):
            yield key, kind_problem(path)
        if path is not None and (path.startswith("/") or ".." in path.split("/")):
            yield key, f"found {path!r}, expected a path inside the competition's folder"


def _stacks(competition: Competition, given: Mapping[str, list[str]]) -> Problems:
    image, lengths = competition.image, {key: len(own) for key, own in given.items()}
    if len(set(lengths.values())) > 1:
        stacked = ", ".join(f"{key} {length}" for key, length in lengths.items())
        yield list(lengths)[1], f"files stacked per image differ: {stacked}; give the same number in each"
    if image.neighbours and lengths["IMAGES"] > 1:
        yield "IMAGE.NEIGHBOURS", "IMAGES stacks files already; give one of the two"
    if image.neighbours and not (competition.sequence_column or competition.sequence_pattern):
        yield "IMAGE.NEIGHBOURS", "neighbours are of the same sequence: give SEQUENCE_PATTERN or SEQUENCE_COLUMN"
    if image.frame_axis is not None and image.frame is None:
        yield "IMAGE.FRAME_AXIS", "names the axis along which FRAME counts; give FRAME, too"
    if image.range is not None and not image.range[0] < image.range[1]:
        yield "IMAGE.RANGE", f"found {list(image.range)}, expected the darkest value, then the brightest"
    if image.bands is not None and (not image.bands or first_repeated(image.bands) is not None):
        yield "IMAGE.BANDS", "name each channel to use exactly once"


def _lists(competition: Competition) -> Problems:
    given = [key.upper() for key in ("valid_csv", "valid_images") if getattr(competition, key)]
    others = [key.upper() for key in ("split_column", "valid_pattern") if getattr(competition, key)]
    if others and len(given + others) > 1:
        yield others[-1], f"{(given + others)[0]} already names the validation images; keep one of the two"
    if competition.split_column and competition.train_csv is None:
        yield "SPLIT_COLUMN", "is a column of TRAIN_CSV, which is null"
    if competition.sequence_column and competition.train_csv is None:
        yield "SEQUENCE_COLUMN", "is a column of TRAIN_CSV, which is null; SEQUENCE_PATTERN reads it from the ids"
    for key in ("sequence_column", "split_column"):
        if getattr(competition, key) and (competition.train_csv or "").endswith(TEXT_LIST):
            yield key.upper(), f"is a column of TRAIN_CSV, but {competition.train_csv} has no columns: a line is an id"
    if competition.valid_csv and competition.train_csv is None and not competition.valid_images:
        yield "VALID_CSV", "TRAIN_CSV: null takes every image of IMAGES for training; give VALID_IMAGES instead"


def _patterns(competition: Competition) -> Problems:
    patterns = {key.upper(): getattr(competition, key) for key in ("sequence_pattern", "valid_pattern", "id_pattern")}
    masks = competition.masks
    patterns |= {"MASKS.CLASS_PATTERN": masks.class_pattern} if isinstance(masks, MaskCsv) else {}
    named_by_group = {"SEQUENCE_PATTERN": "the sequence's name", "MASKS.CLASS_PATTERN": "the class's label"}
    for key, pattern in patterns.items():
        if pattern is None:
            continue
        try:
            groups = re.compile(pattern).groups
        except (re.error, OverflowError, RecursionError) as error:
            yield key, f"not a valid regular expression: {error}"
            continue
        if key in named_by_group and groups != 1:
            yield key, f"found {groups} groups in parentheses, expected exactly one: {named_by_group[key]}"
    if patterns.get("MASKS.CLASS_PATTERN") and not (masks.class_column or masks.rows == "id_class"):
        yield "MASKS.CLASS_PATTERN", "reads the class's cell; name its column as CLASS_COLUMN, or write ROWS: id_class"


def _columns(competition: Competition) -> Problems:
    convention = competition.convention
    if (convention.rows == "id+class") != (convention.class_column is not None):
        yield "CONVENTION.CLASS_COLUMN", "belongs to ROWS: id+class; give both or neither"
    columns = [convention.id_column, convention.value_column, convention.class_column]
    if first_repeated(columns) is not None:
        yield "CONVENTION.VALUE_COLUMN", f"columns have the same name: {', '.join(filter(None, columns))}"
    named = {name for name in columns if name}
    if convention.columns is not None and (set(convention.columns) != named or first_repeated(convention.columns)):
        yield "CONVENTION.COLUMNS", f"expected each of {', '.join(sorted(named))} once, in the order of the file"
    masks = competition.masks
    if isinstance(masks, MaskCsv) and masks.rows == "id_class" and masks.class_column:
        yield "MASKS.CLASS_COLUMN", "ROWS: id_class has the class in the cell of the id; keep one of the two"
