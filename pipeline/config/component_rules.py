"""Rules for the connected components of a predicted class, as DECODE.COMPONENTS gives them.

    min_area(Bird, share=0.001) + fill_holes(all, share=0.01) + hysteresis(Bird, high=0.8, low=0.3) + largest(Car)

They apply in the order of `SETTINGS`, whatever their order in the text. Shares are of the image's pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.plain_yaml import Mismatch, Range
from pipeline.config.terms import Setting, read_settings, settings_text, split_term, split_terms
from pipeline.errors import UserError
from pipeline.wording import did_you_mean

SHARE = Setting(Range(above=0, most=1))
PROBABILITY = Range(above=0, most=1)
SETTINGS: dict[str, dict[str, Setting]] = {
    "hysteresis": {"high": Setting(PROBABILITY), "low": Setting(PROBABILITY, 1.0)},
    "largest": {},
    "min_area": {"share": SHARE},
    "fill_holes": {"share": SHARE},
}
NAMES = tuple(SETTINGS)
ALL = "all"
ALONE = ("none", "fitted")  # cannot be combined with rules


@dataclass(frozen=True)
class ComponentRule:
    """A rule for the components of one class.

    Attributes:
        name: one of `NAMES`.
        settings: its numbers, by their words.
    """

    name: str
    class_index: int
    settings: tuple[tuple[str, float], ...] = ()

    def __getitem__(self, word: str) -> float:
        return dict(self.settings)[word]

    def text(self, class_name: str) -> str:
        """Returns the rule as it is written."""
        return rule_text(self.facts(class_name))

    def facts(self, class_name: str) -> dict[str, Any]:
        """Returns the rule for a JSON file."""
        return {"rule": self.name, "class": class_name, "settings": dict(self.settings)}


def rule_text(facts: Mapping[str, Any]) -> str:
    """Returns a rule as it is written in a config, from its `facts`.

    >>> rule_text({"rule": "min_area", "class": "Bird", "settings": {"share": 0.001}})
    'min_area(Bird, share=0.001)'
    """
    return f"{facts['rule']}({', '.join(filter(None, (facts['class'], settings_text(facts['settings'], ', '))))})"


def from_facts(facts: Mapping[str, Any], classes: Sequence[str]) -> ComponentRule:
    """Returns the rule whose `facts` were written."""
    return ComponentRule(facts["rule"], classes.index(facts["class"]), tuple(facts["settings"].items()))


def parse_components(text: str, classes: Sequence[str], scored: Sequence[int]) -> tuple[ComponentRule, ...]:
    """Returns the rules of a text in the order in which they apply.

    Args:
        classes: their names.
        scored: indices of the scored classes, which `all` stands for.

    Raises:
        UserError: an unknown rule, class or setting, a rule given twice for a class, or a number out of its range.

    >>> [rule.text("Bird") for rule in parse_components("largest(Bird) + hysteresis(Bird, high=0.8)", ["Bird"], [0])]
    ['hysteresis(Bird, high=0.8, low=1)', 'largest(Bird)']
    >>> parse_components("min_area(Bus, old, share=0.1)", ["Bus", "Bus, old"], [0])[0].class_index
    1
    """
    rules: dict[tuple[str, int], ComponentRule] = {}
    for term in split_terms(text):
        try:
            for rule in _read_rules(term, classes, scored):
                if (rule.name, rule.class_index) in rules:
                    raise Mismatch(f"{rule.name} is given twice for {classes[rule.class_index]}; keep one")
                rules[rule.name, rule.class_index] = rule
        except Mismatch as mismatch:
            raise UserError(f"cannot read {term!r}; {mismatch}") from None
    return in_order(rules.values())


def in_order(rules: Iterable[ComponentRule]) -> tuple[ComponentRule, ...]:
    """Returns rules in the order in which they apply: by name, then by class."""
    return tuple(sorted(rules, key=lambda rule: (NAMES.index(rule.name), rule.class_index)))


def _read_rules(term: str, classes: Sequence[str], scored: Sequence[int]) -> list[ComponentRule]:
    name, texts = split_term(term)
    if name not in SETTINGS:
        example = f"expected none, fitted, or rules such as min_area(CLASS, share=0.001), of {', '.join(NAMES)}"
        if name in ALONE:
            raise Mismatch(f"{name} cannot be combined with rules; write DECODE.COMPONENTS: {name}, or only rules")
        raise Mismatch(did_you_mean(name, (*NAMES, *ALONE), example))
    # A class may have commas in its name.
    of_class = (num for num in range(len(texts), 0, -1) if ", ".join(texts[:num]) in (*classes, ALL))
    num = next(of_class, 1)
    class_name, others = ", ".join(texts[:num]), texts[num:]
    if class_name not in classes and (not class_name or "=" in class_name):
        raise Mismatch(f"{name} needs a class first, or {ALL}: {name}({', '.join(['CLASS', *texts])})")
    if class_name != ALL and class_name not in classes:
        hint = did_you_mean(class_name, (*classes, ALL), f"the classes are {', '.join(classes)}")
        raise Mismatch(f"there is no class {class_name!r}; {hint}")
    values = read_settings(name, others, SETTINGS[name])
    if name == "hysteresis" and values["low"] < 1 and values["low"] > values["high"]:
        raise Mismatch(f"hysteresis: low {values['low']:g} is above high {values['high']:g}; exchange them")
    indices = scored if class_name == ALL else [classes.index(class_name)]
    return [ComponentRule(name, index, tuple(values.items())) for index in indices]
