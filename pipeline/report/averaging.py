"""The page's section on averaged weights: what was compared, and which weights predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.markup import Html, join, quantity, table, tag
from pipeline.report.record import Record
from pipeline.scores import label_of, monitor_label

METHODS = {
    "swa": "the last epochs",
    "best": "the best epochs",
    "greedy": "this run and others, each added only where it raised the score",
}


def averaging_section(record: Record) -> Html | None:
    """Returns the scores of the best epoch and of the mean, the decision, and the networks of the mean."""
    facts = record.average
    if not facts:
        return None
    label = label_of(facts["score"])
    decision, gain = f"The run predicts with: {facts['weights']}.", facts["gain"]
    parts = [tag("p", tag("b", decision), f" The mean is that of {METHODS[facts['method']]}.")]
    if gain is None:
        parts.append(tag("p", f"{facts['words'][:1].upper()}{facts['words'][1:]}."))
    else:
        images, sequences = quantity(facts["images"], "validation image"), quantity(gain["num_groups"], "sequence")
        rows = [("best epoch", _shown(facts["best"])), ("mean", _shown(facts["averaged"])), ("gain", _range(gain))]
        rows.append(("verdict", facts.get("verdict") or "–"))
        parts.append(table(("network", label), rows, f"{images} of {sequences}, each predicted once as a whole"))
        parts.append(tag("p", _rule(facts), class_="note"))
    return join(*parts, _networks(facts["networks"], label, record.loaded.config.solver.monitor))


def _networks(networks: Sequence[Mapping[str, Any]], label: str, monitor: str) -> Html:
    """Returns the table of the networks of which the mean is, or could have been, made."""
    is_of_runs = any("is_used" in one for one in networks)
    if is_of_runs:
        rows = [(one["name"], _shown(one["score"]), "yes" if one["is_used"] else "no") for one in networks]
        return table(("run", label, "in the mean"), rows, "The runs")
    rows = [(one["name"], _shown(one.get(monitor))) for one in networks]
    return table(("network", monitor_label(monitor)), rows, "The networks of the mean")


def _shown(value: float | None) -> str:
    """Returns a score with four digits, as gains have, or a dash."""
    return "–" if value is None else f"{value:.4f}"


def _range(gain: Mapping[str, Any]) -> str:
    if gain["low"] is None:
        return f"{gain['mean']:+.4f} (no interval)"
    return f"{gain['mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"


def _rule(facts: Mapping[str, Any]) -> str:
    """Returns by which rule the mean was adopted or not."""
    rule = "A mean is adopted only where the lower bound of its gain per image is above 0."
    if "in_sample" not in facts:
        return rule
    chosen = "The gain is that of means which were chosen without the image's sequence"
    return f"{rule} {chosen}; on the images that chose, it is {facts['in_sample']:+.4f}."
