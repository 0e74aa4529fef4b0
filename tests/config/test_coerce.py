"""Text becomes what the field wants, or is refused with what was found and what was wanted."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.coerce import Mismatch, NearMiss, Range, coerce, describe, quote

Share = Annotated[float, Range(least=0, most=1)]
Count = Annotated[int, Range(least=1)]


def node(text: str) -> yaml.Node:
    return yaml.compose(text, Loader=yaml.SafeLoader) or yaml.ScalarNode("", "")


def refusal(text: str, wanted) -> str:
    with pytest.raises(Mismatch) as caught:
        coerce(node(text), wanted)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted", "value"),
    [
        ("5e-5", float, 5e-5),  # YAML 1.1 reads a text
        ("1e-8", float, 1e-8),
        ("3", float, 3.0),
        (".5", float, 0.5),
        ("-2.", float, -2.0),
        ("010", int, 10),  # YAML 1.1 reads 8
        ("+7", int, 7),
        ("NO", str, "NO"),  # YAML 1.1 reads false
        ("1:30", str, "1:30"),  # YAML 1.1 reads 90
        ("2021-03-01", str, "2021-03-01"),  # YAML 1.1 reads a date
        ("000001", str, "000001"),
        ("'null'", str, "null"),
        ("''", str, ""),
        ("true", bool, True),
        ("False", bool, False),
        ("None", type(None), None),
        ("null", float | None, None),
        ("~", str | None, None),
        ("", int | None, None),
        ("auto", float | Literal["auto"], "auto"),
        ("1e-3", float | Literal["auto"], 1e-3),
        ("1", Literal[0, 1], 1),
        ("[1, 2]", tuple[int, ...], (1, 2)),
        ("[]", tuple[int, ...], ()),
        ("[[1, 2, 3, 4]]", tuple[tuple[Count, Count, Count, Count], ...], ((1, 2, 3, 4),)),
        ("all", Literal["all"] | tuple[str, ...], "all"),
        ("[all]", Literal["all"] | tuple[str, ...], ("all",)),
        ("'5'", str | int, "5"),
        ("5", str | int, 5),
    ],
)
def test_the_fields_type_decides_what_a_text_is(text, wanted, value):
    found = coerce(node(text), wanted)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "wanted", "message"),
    [
        ("fast", float, "found 'fast', wanted a number"),
        ("1_000", float, "found '1_000', wanted a number"),
        ("nan", float, "found 'nan', wanted a number"),
        (".inf", float, "found '.inf', wanted a number"),
        ("1e999", float, "found '1e999', wanted a number that fits 64 bits"),
        ("١٢", float, "found '١٢', wanted a number"),
        ("१२", int, "found '१२', wanted an integer"),
        ("1e3", int, "found '1e3', wanted an integer"),
        ("5.0", int, "found '5.0', wanted an integer"),
        ("0x10", int, "found '0x10', wanted an integer"),
        ("1_000", int, "found '1_000', wanted an integer"),
        ("9" * 5000, int, "an integer of 5000 digits is too large, wanted 18 at most"),
        ("'5'", int, "found the quoted text '5', wanted an integer"),
        ("yes", bool, "found 'yes', wanted true or false"),
        ("1", bool, "found '1', wanted true or false"),
        ("", str, "found nothing, wanted text"),
        ("null", float, "found null, wanted a number"),
        ("[1]", float, "found a list, wanted a number"),
        ("{A: 1}", float, "found a mapping, wanted a number"),
        ("1.5", Share, "1.5 is outside the allowed range (at least 0, at most 1)"),
        ("0", Annotated[float, Range(above=0)], "0.0 is outside the allowed range (above 0)"),
        ("0", Count | None, "0 is outside the allowed range (at least 1)"),
        ("fast", float | None, "found 'fast', wanted a number or null"),
        ("x", Literal["Ranger", "AdamW"], "found 'x', wanted one of Ranger, AdamW"),
        ("adamw", Literal["Ranger", "AdamW"], "found 'adamw', wanted one of Ranger, AdamW; did you mean AdamW?"),
        ("Car", tuple[str, ...], "found 'Car', wanted a list in brackets, each item text"),
        ("[1, 2, 3]", tuple[int, int], "found a list of 3, wanted a list of 2: [an integer, an integer]"),
        ("[1, x]", tuple[int, ...], "item 2: found 'x', wanted an integer"),
        ("[0.5, -1]", tuple[Share, ...] | None, "item 2: -1.0 is outside the allowed range (at least 0, at most 1)"),
        ('"a\\nb"', str, "found text with the invisible character U+000A, wanted plain text on one line"),
        ('"\\u200b"', str, "found text with the invisible character U+200B, wanted plain text on one line"),
        ('"\\ud800"', str, "found text with the invisible character U+D800, wanted plain text on one line"),
    ],
)
def test_a_refusal_says_what_was_found_and_what_was_wanted(text, wanted, message):
    assert refusal(text, wanted) == message


def test_a_value_that_came_close_decides_what_a_union_says():
    assert isinstance(NearMiss(""), Mismatch)
    assert refusal("outside", float | None) == "found 'outside', wanted a number or null"


def test_a_long_value_is_cut_in_messages():
    assert quote(node("x" * 500)) == f"'{'x' * 57}'..."


def test_types_are_described_as_a_person_would():
    assert describe(Share | None) == "a number (at least 0, at most 1) or null"
    assert describe(Literal["flat"]) == "flat"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_survives_being_written_and_read(value):
    assert coerce(yaml.ScalarNode("", repr(value)), float) == value


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_every_integer_of_18_digits_survives_being_written_and_read(value):
    assert coerce(yaml.ScalarNode("", str(value)), int) == value


@given(st.text(), st.sampled_from([int, float, bool, Share, Count | None, float | Literal["auto"], str]))
def test_any_text_is_of_the_wanted_type_or_a_mismatch(text, wanted):
    try:
        value = coerce(yaml.ScalarNode("", text), wanted)
    except Mismatch as mismatch:
        assert "found" in str(mismatch) or "outside" in str(mismatch) or "too large" in str(mismatch)
    else:
        assert value is None or isinstance(value, int | float | str)
