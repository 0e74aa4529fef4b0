"""The section on an ensemble: who its members are, what combining them gains, which weights were fitted.

In: members.json and ensemble.json of its run. Out: `Section`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.markup import Html, bar, join, table, tag
from pipeline.report.read import read_json, read_list
from pipeline.report.record import Record
from pipeline.report.section import Section, missing, score

METHOD_WORDS = {
    "AP": "mean probability",
    "BP": "highest single probability",
    "MW": "majority vote",
    "GEO": "geometric mean",
    "WEIGHTED": "weighted mean",
}


def members_section(record: Record) -> Section:
    """Returns the members, the methods with their gain over one member, and the weights."""
    members, found = read_list(record.folder / "members.json"), read_json(record.folder / "ensemble.json")
    if members is None:
        return Section("members", "Members", "Members", missing(record, "predict", "The members' predictions are"))
    parts = [_members(record, members, found)]
    parts.append(_methods(found) if found else missing(record, "evaluate", "The score of the methods is"))
    return Section("members", "Members", "Members and what combining them gains", join(*parts))


def _members(record: Record, members: list[Mapping[str, Any]], found: Mapping[str, Any] | None) -> Html:
    weights = (found or {}).get("weights")
    head = ("member", "run name", "split", "Dice", "IoU", "pictures", *(("weight",) if weights else ()))
    rows = []
    for number, member in enumerate(members):
        split, dice = member.get("split") or {}, member.get("dice")
        cells = [member["run"], member["run_name"], f"{split.get('by', '–')} {split.get('index', '')}"]
        cells += [bar(tag("b", score(dice)), dice or 0.0), score(member.get("iou")), f"{member.get('pictures') or 0:,}"]
        rows.append([*cells, *([_weight(weights[number])] if weights else [])])
    return table(head, rows, "Each judged on its own validation pictures")


def _weight(weights: list[float]) -> str:
    """Returns one weight, or the range of those of the classes.

    >>> _weight([0.25]), _weight([0.1, 0.3])
    ('0.25', '0.10 to 0.30')
    """
    low, high = min(weights), max(weights)
    return f"{low:.2f}" if len(weights) == 1 else f"{low:.2f} to {high:.2f}"


def _methods(found: Mapping[str, Any]) -> Html:
    judges = found["judges"]
    rows = [("one member alone", _with_range(found["single"]), "–")]
    for method, scores in found["methods"].items():
        name = join(METHOD_WORDS[method], tag("em", "this run") if method == found["method"] else None)
        rows.append((name, _with_range(scores["dice"]), _with_range(scores["gain"], "+.3f")))
    caption = f"{found['pictures']:,} pictures in {found['sequences']:,} sequences, on none of which a judge trained"
    words = f"Each picture is judged by {judges['least']} to {judges['most']} members, {judges['mean']:.1f} on average."
    if judges["most"] == 1:
        words += " With one judge each, this tells nothing of what combining them gains."
    note = tag("p", words, " Ranges: 95 %, by drawing whole sequences.", class_="note")
    sentences = [tag("p", text) for text in found.get("words", [])]
    return join(table(("method", "Dice", "gain over one member"), rows, caption), *sentences, note)


def _with_range(interval: Mapping[str, float], form: str = ".3f") -> str:
    """Returns a mean with its interval.

    >>> _with_range({"mean": 0.5, "low": 0.4, "high": 0.61})
    '0.500 (0.400 to 0.610)'
    """
    mean, low, high = (format(interval[name], form) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
