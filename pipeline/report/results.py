"""The page's sections on what came out: scores by class, confusions, the submission, an ensemble's members."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.component_rules import rule_text
from pipeline.prediction.gains import gain_notes
from pipeline.report.markup import Html, bar, digits, join, missing, quantity, table, tag, themed
from pipeline.report.plots import confusion_counts, draw_confusion, largest_confusions, unit_of
from pipeline.report.read import percent, show_value, split_name
from pipeline.report.record import Record
from pipeline.report.words import Words
from pipeline.scores import KINDS, label_of
from pipeline.wording import size

METHOD_WORDS = {
    "AP": "mean probability",
    "BP": "highest single probability",
    "MW": "majority vote",
    "GEO": "geometric mean",
    "WEIGHTED": "weighted mean",
    "WBF": "weighted box fusion",
    "NMS": "non-maximum suppression",
}
GAIN_HEAD = ("gain on unseen sequences", "range", "verdict", "gain in sample")
KIND_WORDS = {
    "greedy": "greedy selection",
    "soft": "convex, one weight per member",
    "soft per class": "convex, one weight per member and class",
}


AVERAGED = ", then averaged over images"


def classes_section(record: Record) -> Html | None:
    """Returns the table of scores per class, the weakest first."""
    if record.metrics is None:
        return None
    metrics, known = record.metrics, {row.name: row for row in record.classes or []}
    absent, scores, counted = never_predicted(record), [metrics.main, *metrics.others], record.words.counted
    rows = []
    for name, value in sorted(metrics.main.classes.items(), key=lambda item: math.inf if item[1] is None else item[1]):
        color = "#{:02x}{:02x}{:02x}".format(*record.colors.get(name, (128, 128, 128)))
        swatch = tag("span", class_="swatch", style=f"background:{color}", aria_hidden="true")
        named = join(swatch, name, tag("em", "never predicted") if name in absent else None)
        cells = [bar(tag("b", digits(value)), value or 0.0), *(digits(score.classes.get(name)) for score in scores[1:])]
        counts = ("–", "–", *("–" for _ in counted), "–")
        if row := known.get(name):
            boxes = (f"{row.amount:,}" for _ in counted)
            counts = (f"{row.valid_images:,}", f"{row.images:,}", *boxes, bar(percent(row.share), row.share))
        rows.append((named, *cells, *counts))
    head = (
        "class",
        *(score.label for score in scores),
        "images, validation",
        "images, all",
        *counted,
        f"share of {unit_of(record.classes or [])}",
    )
    mean = ("mean", *(digits(score.mean) for score in scores), "", "", *("" for _ in counted), "")
    kinds = [KINDS[score.name] for score in scores]
    notes = [
        f"{_listed([kind.label for kind in kinds if kind.meaning == meaning])}: {meaning}{then}."
        for meaning, then in dict.fromkeys((kind.meaning, AVERAGED if kind.per == "image" else "") for kind in kinds)
    ]
    caption = quantity(metrics.images, "validation image")
    return join(table(head, rows, caption, [mean]), tag("p", " ".join(notes), class_="note"))


def _listed(words: Sequence[str]) -> str:
    """Returns words as a list in a sentence.

    >>> _listed(["Dice"]), _listed(["Dice", "IoU"]), _listed(["Dice", "IoU", "mIoU"])
    ('Dice', 'Dice and IoU', 'Dice, IoU and mIoU')
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def never_predicted(record: Record) -> list[str]:
    """Returns the classes that validation images show and the network never predicts."""
    if record.class_counts:
        rows = zip(*(record.class_counts[column] for column in ("truth", "found", "missed", "false")), strict=True)
        return [name for name, *pixels in rows if pixels[1] != "0" and pixels[0] == pixels[2] == "0"]
    names, rows = confusion_counts(record.confusion) if record.confusion else ([], [])
    known = [
        (index, name) for index, name in enumerate(names) if name in record.colors
    ]  # without a background of boxes
    return [name for index, name in known if sum(rows[index]) and not sum(row[index] for row in rows)]


def confusion_section(record: Record) -> Html | None:
    """Returns the confusion matrix and its largest entries in words."""
    if record.confusion is None:
        return None
    found = largest_confusions(record.confusion)
    items = (
        tag("li", bar(tag("b", percent(share)), share), tag("span", f"{truth} predicted as ", tag("b", predicted)))
        for truth, predicted, share in found
    )
    listed = tag("ul", *items, class_="confusions") if found else tag("p", "None.")
    alt = "Heat map of true class against predicted class, in per cent of the true class's pixels."
    drawn = themed(lambda theme: draw_confusion(record.confusion, theme), alt)
    return tag("div", drawn, tag("div", tag("h3", "The largest, as share of the true class"), listed), class_="pair")


def submission_section(record: Record) -> Html | None:
    """Returns the facts of the submission."""
    submission = record.submission
    if submission is None:
        return None
    facts, hidden = submission.facts, ("experiment", "score", "local_score", "local_scores")
    local = facts.get("local_scores") or {facts.get("score"): facts.get("local_score")}
    known = {f"local {label_of(name)}": f"{value:.4f}" for name, value in local.items() if value is not None}
    known |= {key.replace("_", " "): _fact(value) for key, value in facts.items() if key not in hidden}
    rows = [(key, tag("code", text)) for key, text in {"file": submission.path.name, **known}.items()]
    fitted = None if record.loaded.is_ensemble else decoding_tables(record.decoding, record.words)
    verdict = record.words.checked if submission.is_checked else "not checked"
    rows.append(("check", verdict if submission.is_intact else "the file was changed after it was written"))
    content = table(("what", "value"), rows, "The file to upload")
    return join(content, tag("h3", "Fitted decoding"), fitted) if fitted else content


def _fact(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {show_value(inner) or 'blank'}" for key, inner in value.items())
    return f"{value:.4f}" if isinstance(value, float) else show_value(value)


def members_section(record: Record) -> Html | None:
    """Returns the members, the methods with their gain over one member, and what was fitted."""
    members, found = record.members, record.ensemble
    if not members:
        return None
    label = label_of(found.get("score", record.score))
    return join(
        _members(record, members, found),
        _stores(record, members),
        _methods(found, label) if found else missing(record.command("evaluate"), "The score of each method is"),
        _fit(found.get("fit"), label),
        decoding_tables(record.decoding, record.words),
    )


def _members(record: Record, members: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> Html:
    weights, own_scores = found.get("weights"), found.get("members") or [{}] * len(members)
    score = found.get("score", record.image_score)
    known = dict.fromkeys(name for member in members for name in member.get("scores") or {})
    others = [name for name in known if name != score]
    labels = [label_of(name) for name in (score, *others)]
    head = ("member", "run name", "split", labels[0], "95 %", *labels[1:], "images", *(("weight",) if weights else ()))
    rows = []
    for number, (member, own) in enumerate(zip(members, own_scores, strict=True)):
        means, interval = member.get("scores") or {}, own.get("score")
        mean = interval["mean"] if interval else means.get(score)
        cells = [member["name"], member["run_name"], split_name(member.get("split") or {})]
        cells += [bar(tag("b", digits(mean)), mean or 0.0), _with_range(interval)[1] if interval else "–"]
        cells += [*(digits(means.get(name)) for name in others), f"{own.get('images', member.get('images')) or 0:,}"]
        rows.append([*cells, *([_weight(weights[number])] if weights else [])])
    return table(head, rows, "Each member on its own validation images")


def _stores(record: Record, members: Sequence[Mapping[str, Any]]) -> Html | None:
    """Returns the size of the members' stores, and how well they keep what the networks predict."""
    if not record.stores:
        return None
    rows, has_times = [], record.words.is_compressed
    for member, own in zip(members, record.stores, strict=True):
        sizes = size(own["bytes"]), f"{own['images']:,}", size(own["bytes"] / own["images"])
        times = (f"{own['float32_bytes'] / own['bytes']:.0f} times",) if has_times else ()
        rows.append((member["name"], *sizes, *times, _agreement(own)))
    head = ("member", "store", "images", "per image", *(("smaller than float32",) if has_times else ()), "agreement")
    return table(head, rows, record.words.stores)


def _agreement(own: Mapping[str, Any]) -> str:
    """Returns a share so close to 1 that digits matter.

    >>> _agreement({"agreement": 0.999991, "compared": 2}), _agreement({"agreement": 1.0, "compared": 2})
    ('99.9991 % on 2 images', '100 % on 2 images')
    """
    share = own["agreement"]
    words = "100" if share == 1 else f"{math.floor(1e6 * share) / 1e4:.4f}"
    return f"{words} % on {quantity(own['compared'], 'image')}"


def _weight(weights: list[float]) -> str:
    """Returns one weight, or the range of those of the classes.

    >>> _weight([0.25]), _weight([0.1, 0.3])
    ('0.25', '0.10 to 0.30')
    """
    low, high = min(weights), max(weights)
    return f"{low:.2f}" if len(weights) == 1 else f"{low:.2f} to {high:.2f}"


def _methods(found: Mapping[str, Any], label: str) -> Html:
    held_out = found["held_out"]
    images, sequences = quantity(found["images"], "image"), quantity(found["sequences"], "sequence")
    rows = [("one member alone", *_with_range(found["single"]), "–", "–", "–")]
    for method, own in found["methods"].items():
        name = join(METHOD_WORDS[method], _this_run(method == found["method"]))
        gain = _with_range(own["gain"], "+.3f") if own["gain"] else ("–", "–")
        rows.append((name, *_with_range(own["score"]), *gain, own.get("verdict") or "–"))
    members = quantity(held_out["most"], "member")
    if held_out["least"] < held_out["most"]:
        members = f"{held_out['least']} to {members}, {held_out['mean']:.1f} on average"
    sentences = [f"Each image is scored with the members that did not train on it: {members}.", *gain_notes(found)]
    sentences.append("Ranges are 95 % intervals, from the spread between sequences.")
    head = ("method", label, "95 %", "gain over one member", "95 %", "verdict")
    return join(
        table(head, rows, f"{images} in {sequences}, out of fold"), tag("p", " ".join(sentences), class_="note")
    )


def _fit(fit: Mapping[str, Any] | None, label: str) -> Html | None:
    """Returns what fitted weights gain where they were fitted and where they were not."""
    if fit is None:
        return None
    verdict = tag("p", fit["words"]) if "words" in fit else None
    if not fit["gains"]:
        return verdict
    rows = [
        (
            join(KIND_WORDS.get(kind, kind), _this_run(kind == fit["kind"])),
            *cells,
            _survival(fit["gains"][kind]["mean"], fit["in_sample"][kind]),
        )
        for kind, cells in _gains(fit).items()
    ]
    note = (
        "The range covers more than 95 %, because the best of several kinds is chosen. "
        "Weights are adopted only if the whole range is above 0."
    )
    caption = f"Fitted weights against equal ones, in {label}"
    return join(table(("weights", *GAIN_HEAD, "survives"), rows, caption), verdict, tag("p", note, class_="note"))


def decoding_tables(decoded: Mapping[str, Any], words: Words) -> Html:
    """Returns what moving thresholds, dropping small or unsure classes, and telling objects apart otherwise gains."""
    parts = []
    if "offsets" in decoded:
        own = decoded["offsets"]
        moved = {name: f"times {factor:g}" for name, factor in own["factors"].items()}
        parts.append(_fitted_classes(own, moved, "probability", "Thresholds moved: gain in the mean over all classes"))
    if "rules" in decoded:
        adopted = {rule["class"]: f"{rule['measure']} below {rule['least']:.2g}" for rule in decoded["rules"]}
        parts.append(_fitted_classes(decoded, adopted, words.left_out, words.about_left_out))
        parts.append(tag("p", decoded["words"]) if "score" in decoded else None)
    if "components" in decoded:
        parts.append(_components(decoded["components"]))
    if "objects" in decoded:
        own = decoded["objects"]
        used = {"objects": f"SEED {own['seed']:g}, MIN_SIZE {own['min_size']}"}
        caption = "Objects told apart: gain in the mean over all classes"
        parts.append(_fitted_classes(own, used, "used", caption, head="fitted"))
    return join(*parts)


def _components(own: Mapping[str, Any]) -> Html:
    """Returns the rules for components: each with its gain where they were fitted, together where they are given."""
    adopted = {f"{rule['class']}, {rule['rule']}": rule_text(rule) for rule in own["rules"]}
    if own["is_given"]:
        adopted = dict.fromkeys(own["gains"], " + ".join(adopted.values()))
    return _fitted_classes(own, adopted, "rule", "Components: gain in the mean over all classes", head="class and rule")


def _fitted_classes(
    found: Mapping[str, Any], adopted: Mapping[str, str], what: str, caption: str, head: str = "class"
) -> Html:
    """Returns a table of the classes, or whatever `head` says, for which something was fitted."""
    if not found["gains"]:
        return tag("p", found["words"])
    rows = [(name, adopted.get(name, "kept"), *cells) for name, cells in _gains(found).items()]
    share = found["survived"]
    words = "Nothing" if (share or 0) <= 0 else f"{100 * share:.0f} %"
    note = "" if share is None else f"{words} of the gain in sample survives on unseen sequences."
    return join(table((head, what, *GAIN_HEAD), rows, caption), tag("p", note, class_="note"))


def _gains(fit: Mapping[str, Any]) -> dict[str, tuple[object, ...]]:
    """Returns gain, range, verdict and gain in sample, as cells, of each thing that was fitted."""
    words, in_sample = fit.get("verdicts", {}), fit["in_sample"]
    gains = fit["gains"].items()
    return {key: (*_with_range(gain, "+.4f"), words.get(key, "–"), f"{in_sample[key]:+.4f}") for key, gain in gains}


def _this_run(is_it: bool) -> Html | None:
    return tag("em", "this run") if is_it else None


def _survival(gain: float, in_sample: float) -> str:
    """Returns the share of a gain that is left where nothing was fitted.

    >>> _survival(0.001, 0.004), _survival(-0.001, 0.004), _survival(0.0, 0.0)
    ('25 %', 'nothing', '–')
    """
    if in_sample <= 0:
        return "–"
    return f"{100 * gain / in_sample:.0f} %" if gain > 0 else "nothing"


def _with_range(interval: Mapping[str, float], form: str = ".3f") -> tuple[Html, str]:
    """Returns a mean and its interval, for two cells; "unknown" where one sequence alone gave it.

    >>> _with_range({"mean": 0.5, "low": 0.4, "high": 0.61})
    ('<b>0.500</b>', '0.400 to 0.610')
    """
    mean, low, high = (format(interval[name], form) for name in ("mean", "low", "high"))
    return tag("b", mean), f"{low} to {high}" if math.isfinite(interval["high"] - interval["low"]) else "unknown"
