"""The top of the page: the score beside what a guess would get, the state of the run, and what to be wary of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.ensemble import is_ensemble
from pipeline.config.load import run_name
from pipeline.report.markup import Html, join, tag
from pipeline.report.read import numbers
from pipeline.report.record import Record
from pipeline.report.section import command, duration, score, scored
from pipeline.report.table import read_state


def headline(record: Record) -> Html:
    """Returns the header of the page."""
    loaded = record.loaded
    state = read_state(record.folder, record.stages) or "not started"
    words = ", ".join(loaded.config.ensemble.members or ()) or spoken_name(record)
    name = tag("h1", record.folder.name, " ", tag("small", words))
    return tag(
        "header",
        tag("p", f"{loaded.competition.name}: {loaded.competition.title}", class_="eyebrow"),
        tag("div", name, tag("span", state, class_="state"), class_="title"),
        tag("p", record.header.question, class_="question") if record.header.question else None,
        _refusal(record),
        _score(record) if record.metrics else None,
        _warnings(record),
    )


def spoken_name(record: Record) -> str:
    """Returns the run name for people, without the parts that nobody has set."""
    experiment, words, origins = record.loaded.config.experiment, run_name(record.loaded.config), record.loaded.origins
    if origins.get("EXPERIMENT.PREFIX", "").startswith("configs/base.yaml"):
        words = words.removeprefix(f"{experiment.prefix}-")
    if origins.get("EXPERIMENT.SUFFIX", "").startswith("configs/base.yaml"):
        words = words.removesuffix(f"-{experiment.suffix}")
    return words


def warnings(record: Record) -> list[Html | str]:
    """Returns what a reader of the score must know before believing it."""
    return [
        *_stale_warnings(record),
        *_leakage_warnings(record),
        *_baseline_warnings(record),
        *_dead_class_warnings(record),
        *_sweep_warnings(record),
        *_submission_warnings(record),
    ]


def never_predicted(record: Record) -> list[str]:
    """Returns the classes that validation images show and the network never chooses."""
    if not record.confusion:
        return []
    names = record.confusion["truth"]
    rows = list(zip(*(numbers(record.confusion[name]) for name in names), strict=True))
    return [name for index, name in enumerate(names) if sum(rows[index]) and not sum(row[index] for row in rows)]


def _over_what(metrics: Mapping[str, Any]) -> str:
    """Returns of which classes a run's mean scores are: all but where the competition or the config counts a few.

    >>> _over_what({"scored": ["Building"], "dice": {"classes": {"Background": 0.9, "Building": 0.7}}})
    'of Building alone'
    """
    names = metrics.get("scored") or list(metrics["dice"]["classes"])
    if len(names) == len(metrics["dice"]["classes"]):
        return "mean over classes"
    return f"of {names[0]} alone" if len(names) == 1 else f"mean over {', '.join(names[:-1])} and {names[-1]}"


def _score(record: Record) -> Html:
    metrics = record.metrics
    dice, majority = metrics["dice"]["mean"], metrics.get("majority") or {}
    marks = [("own", dice, f"validation Dice, {_over_what(metrics)}")]
    if majority:
        marks.append(("guess", majority["dice"], f"always guessing {majority['class']}"))
    published = record.header.published_dice
    if published is not None and "DATASETS.COMPETITION" not in record.loaded.changed:
        marks.append(("published", published, "published for this experiment"))
    scale = tag(
        "div",
        *(tag("span", class_=kind, style=f"--at:{100 * min(max(value, 0), 1):.1f}%") for kind, value, _ in marks),
        class_="scale",
        aria_hidden="true",
    )
    key = tag(
        "ul",
        *(tag("li", tag("b", score(value)), " ", meaning, class_=kind) for kind, value, meaning in marks[1:]),
        class_="key",
    )
    main = tag("div", tag("p", tag("strong", score(dice)), " ", marks[0][2], class_="score"), scale, key, class_="main")
    return tag("div", main, _facts(record), class_="result")


def _facts(record: Record) -> Html:
    metrics = record.metrics
    checkpoint = metrics.get("checkpoint") or {}
    seconds = sum(record.stage_seconds.values())
    origin = ("epoch kept", checkpoint.get("epoch", "–"), f"validation loss {score(checkpoint.get('valid_loss'))}")
    ensemble = record.loaded.config.ensemble
    if ensemble.members is not None:
        origin = ("members", len(ensemble.members), f"combined by {ensemble.method}")
    facts = [
        ("IoU", score(metrics["iou"]["mean"]), "per image and class, as the Dice"),
        ("data set IoU", score(metrics["dataset_iou"]["mean"]), "from the summed confusion matrix"),
        origin,
        ("time", duration(seconds) if seconds else "–", f"{scored(metrics['images'], 'image')} judged"),
    ]
    entries = (
        tag("div", tag("dt", name), tag("dd", value, tag("small", note)), class_="fact") for name, value, note in facts
    )
    return tag("dl", *entries, class_="facts")


def _refusal(record: Record) -> Html | None:
    """Returns why a stage was refused, in the words of the terminal."""
    if record.refusal is None:
        return None
    title = f"{record.refusal.get('stage', '?')} was refused"
    return tag("aside", tag("h2", title), tag("pre", record.refusal.get("message", "")), class_="wary")


def _warnings(record: Record) -> Html | None:
    found = warnings(record)
    if not found:
        return None
    return tag(
        "aside", tag("h2", "To be wary of"), tag("ul", join(*(tag("li", text) for text in found))), class_="wary"
    )


def _leakage_warnings(record: Record) -> list[Html | str]:
    duplicates = (record.metrics or {}).get("duplicates") or {}
    pairs = duplicates.get("near_duplicates", len(record.leaks["train_id"]) if record.leaks else 0)
    found = []
    if pairs:
        affected = duplicates.get("valid_images_affected", len(set(record.leaks["valid_id"])) if record.leaks else 0)
        verbs = ("lies", "touches") if pairs == 1 else ("lie", "touch")
        text = f"{scored(pairs, 'near-duplicate pair')} {verbs[0]} across the split and {verbs[1]} "
        text += f"{scored(affected, 'validation image')}: the score is optimistic. "
        if record.loaded.config.ensemble.members is not None:
            text = join(text, "Members trained with ", tag("code", "DATASETS.SPLIT.BY=sequence"), " show how much.")
        elif record.loaded.config.datasets.split.by != "sequence" and record.num_sequences > 1:
            call = tag("code", f"{command(record)} DATASETS.SPLIT.BY=sequence")
            text = join(text, call, " trains anew and judges on unseen sequences.")
        found.append(text)
    index = record.loaded.config.datasets.split_index
    if index < 0:
        found.append(f"A quick try on {-index} % of the images (SPLIT_INDEX {index}): not comparable with whole runs.")
    return found


def _sweep_warnings(record: Record) -> list[Html]:
    """Returns what the sweep warned of, with the way to its plot."""
    found = (record.sweep_found or {}).get("warnings") or []
    return [join(text, " (", tag("a", "its plot", href="#sweep"), ").") for text in found]


def _baseline_warnings(record: Record) -> list[str]:
    majority = (record.metrics or {}).get("majority")
    if not majority or record.metrics["dice"]["mean"] > majority["dice"]:
        return []
    return [f"The score is not above {score(majority['dice'])}, which always guessing {majority['class']} gets."]


def _dead_class_warnings(record: Record) -> list[str]:
    scores = (record.metrics or {}).get("dice", {}).get("classes", {})
    dead = never_predicted(record)
    if not dead:
        return []
    words = "is never predicted: its" if len(dead) == 1 else "are never predicted: their"
    names = ", ".join(f"{name} ({score(scores.get(name))})" for name in dead)
    return [f"{names} {words} Dice is only the share of images without the class."]


def _stale_warnings(record: Record) -> list[str]:
    if not record.metrics or "train" in record.stage_seconds or is_ensemble(record.loaded):
        return []
    return ["Training is under way: the scores are those of an earlier one."]


def _submission_warnings(record: Record) -> list[Html | str]:
    submission = record.submission
    if submission is None:
        return []
    found = []
    if not submission.is_intact:
        found.append(f"{submission.path.name} was changed after it was written: its hash is not the one in its .json.")
    local, current = submission.facts.get("local_dice"), (record.metrics or {}).get("dice", {}).get("mean")
    if local is not None and current is not None and abs(local - current) > 1e-6:
        text = f"{submission.path.name} is of an earlier state of this run (local Dice {score(local)}); "
        found.append(join(text, tag("code", command(record, "submit")), " writes it anew."))
    return found
