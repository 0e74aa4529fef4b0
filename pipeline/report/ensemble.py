"""The section on an ensemble: who its members are, what combining them gains, which weights and rules were fitted.

In: members.json, stores.json, ensemble.json and decode.json of its run. Out: `Section`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.paths import DECODE, ENSEMBLE, MEMBERS, STORES
from pipeline.report.markup import Html, bar, join, table, tag
from pipeline.report.read import read_json, read_list
from pipeline.report.record import Record
from pipeline.report.section import Section, missing, score, scored

METHOD_WORDS = {
    "AP": "mean probability",
    "BP": "highest single probability",
    "MW": "majority vote",
    "GEO": "geometric mean",
    "WEIGHTED": "weighted mean",
}
KIND_WORDS = {
    "greedy": "greedy selection",
    "soft": "convex, one weight per member",
    "soft per class": "convex, one weight per member and class",
}


def members_section(record: Record) -> Section:
    """Returns the members, the methods with their gain over one member, and what was fitted."""
    members, found = read_list(record.folder / MEMBERS), read_json(record.folder / ENSEMBLE)
    if members is None:
        return Section("members", "Members", "Members", missing(record, "predict", "The members' predictions are"))
    parts = [_members(members, found or {}), _stores(members, read_list(record.folder / STORES) or [])]
    parts.append(_methods(found) if found else missing(record, "evaluate", "The score of the methods is"))
    parts.append(_fit((found or {}).get("fit")))
    parts.append(decoding_tables(read_json(record.folder / DECODE)))
    return Section("members", "Members", "Members and what combining them gains", join(*parts))


def _members(members: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> Html:
    weights, judged = found.get("weights"), found.get("members") or [None] * len(members)
    head = ("member", "run name", "split", "Dice", "95 %", "IoU", "images", *(("weight",) if weights else ()))
    rows = []
    for number, (member, own) in enumerate(zip(members, judged, strict=True)):
        split = member.get("split") or {}
        interval, iou, images = (own or {}).get("dice"), (own or member).get("iou"), (own or member).get("images")
        dice = interval["mean"] if interval else member.get("dice")
        cells = [member["name"], member["run_name"], f"{split.get('by', '–')} {split.get('index', '')}"]
        cells += [bar(tag("b", score(dice)), dice or 0.0), _range(interval) if interval else "–", score(iou)]
        rows.append([*cells, f"{images or 0:,}", *([_weight(weights[number])] if weights else [])])
    return table(head, rows, "Each judged on its own validation images")


def _stores(members: Sequence[Mapping[str, Any]], stores: Sequence[Mapping[str, Any]]) -> Html | None:
    """Returns what the probability stores take of the disk, and how well they keep what the networks say."""
    if not stores:
        return None
    rows = []
    for member, own in zip(members, stores, strict=True):
        mean = own["bytes"] / own["images"]
        times = own["float32_bytes"] / own["bytes"]
        cells = (_size(own["bytes"]), f"{own['images']:,}", _size(mean), f"{times:.0f} times", _agreement(own))
        rows.append((member["name"], *cells))
    caption = "Probability stores: size, and pixels whose class is that of the network's own float32 output"
    return table(("member", "store", "images", "an image", "smaller than float32", "agreement"), rows, caption)


def _agreement(own: Mapping[str, Any]) -> str:
    """Returns a share so close to 1 that digits matter.

    >>> _agreement({"agreement": 0.999991, "compared": 2}), _agreement({"agreement": 1.0, "compared": 2})
    ('99.9991 % on 2 images', '100 % on 2 images')
    """
    share = own["agreement"]
    words = "100" if share == 1 else f"{math.floor(1e6 * share) / 1e4:.4f}"
    return f"{words} % on {scored(own['compared'], 'image')}"


def _size(num_bytes: float) -> str:
    """Returns a number of bytes as a person says it.

    >>> _size(1_234_567), _size(98_000), _size(5_400_000_000)
    ('1.2 MB', '98 kB', '5.4 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.1f} {name}"
    return f"{num_bytes / 1e3:.0f} kB"


def _weight(weights: list[float]) -> str:
    """Returns one weight, or the range of those of the classes.

    >>> _weight([0.25]), _weight([0.1, 0.3])
    ('0.25', '0.10 to 0.30')
    """
    low, high = min(weights), max(weights)
    return f"{low:.2f}" if len(weights) == 1 else f"{low:.2f} to {high:.2f}"


def _methods(found: Mapping[str, Any]) -> Html:
    judges = found["judges"]
    rows = [("one member alone", *_with_range(found["single"]), "–", "–")]
    for method, scores in found["methods"].items():
        name = join(METHOD_WORDS[method], tag("em", "this run") if method == found["method"] else None)
        rows.append((name, *_with_range(scores["dice"]), *_with_range(scores["gain"], "+.3f")))
    images, sequences = scored(found["images"], "image"), scored(found["sequences"], "sequence")
    caption = f"{images} in {sequences}, on none of which a judge trained"
    members = scored(judges["most"], "member")
    words = f"Each image is judged by {judges['least']} to {members}, {judges['mean']:.1f} on average."
    if judges["least"] == judges["most"]:
        words = f"Each image is judged by {members}."
    if judges["most"] == 1:
        words += " With one judge each, this tells nothing of what combining them gains."
    note = tag("p", words, " Ranges: 95 %, by drawing whole sequences.", class_="note")
    return join(table(("method", "Dice", "95 %", "gain over one member", "95 %"), rows, caption), note)


def _fit(fit: Mapping[str, Any] | None) -> Html | None:
    """Returns what fitted weights gain where they were fitted and where they were not."""
    if fit is None:
        return None
    rows = []
    for kind, gain in fit["gains"].items():
        in_sample = fit["in_sample"][kind]
        name = join(KIND_WORDS.get(kind, kind), tag("em", "this run") if kind == fit["kind"] else None)
        rows.append((name, *_with_range(gain, "+.4f"), f"{in_sample:+.4f}", _survival(gain["mean"], in_sample)))
    verdict = tag("p", fit["words"]) if "words" in fit else None
    if not rows:
        return verdict
    head = ("weights", "gain on unseen sequences", "range", "gain in sample", "survives")
    note = "The range is wider than 95 %, since the best of several is looked for; above 0 the weights are adopted."
    caption = "Fitted weights against equal ones, in Dice"
    return join(table(head, rows, caption), verdict, tag("p", note, class_="note"))


def decoding_tables(decoded: Mapping[str, Any] | None) -> Html | None:
    """Returns what moving thresholds and dropping small or unsure classes gains."""
    if decoded is None:
        return None
    parts = []
    if "offsets" in decoded:
        own = decoded["offsets"]
        moved = {name: f"times {factor:g}" for name, factor in own["factors"].items()}
        parts.append(_fitted_classes(own, moved, "probability", "Thresholds moved, gain in mean Dice over all classes"))
    if "rules" in decoded:
        adopted = {rule["class"]: f"{rule['measure']} below {rule['least']:.2g}" for rule in decoded["rules"]}
        parts.append(_fitted_classes(decoded, adopted, "dropped where", "Classes dropped, gain in their own Dice"))
    return join(*parts)


def _fitted_classes(found: Mapping[str, Any], adopted: Mapping[str, str], what: str, caption: str) -> Html:
    """Returns a table of the classes for which something was fitted."""
    if not found["gains"]:
        return tag("p", found["words"])
    rows = [
        (name, adopted.get(name, "kept"), *_with_range(gain, "+.4f"), f"{found['in_sample'][name]:+.4f}")
        for name, gain in found["gains"].items()
    ]
    share = found["survived"]
    words = "Nothing" if (share or 0) <= 0 else f"{100 * share:.0f} %"
    note = "" if share is None else f"{words} of the gain in sample survives on sequences not seen."
    head = ("class", what, "gain on unseen sequences", "range", "gain in sample")
    return join(table(head, rows, caption), tag("p", note, class_="note"))


def _survival(gain: float, in_sample: float) -> str:
    """Returns the share of a gain that is left where nothing was fitted.

    >>> _survival(0.001, 0.004), _survival(-0.001, 0.004), _survival(0.0, 0.0)
    ('25 %', 'nothing', '–')
    """
    if in_sample <= 0:
        return "–"
    return f"{100 * gain / in_sample:.0f} %" if gain > 0 else "nothing"


def _range(interval: Mapping[str, float], form: str = ".3f") -> str:
    """Returns an interval, or that one sequence tells nothing.

    >>> _range({"low": 0.4, "high": 0.61}), _range({"low": float("-inf"), "high": float("inf")})
    ('0.400 to 0.610', 'unknown')
    """
    low, high = interval["low"], interval["high"]
    return f"{format(low, form)} to {format(high, form)}" if math.isfinite(high - low) else "unknown"


def _with_range(interval: Mapping[str, float], form: str = ".3f") -> tuple[Html, str]:
    """Returns a mean and its interval, for two cells.

    >>> _with_range({"mean": 0.5, "low": 0.4, "high": 0.61})
    ('<b>0.500</b>', '0.400 to 0.610')
    """
    return tag("b", format(interval["mean"], form)), _range(interval, form)
