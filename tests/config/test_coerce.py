"""Text becomes a value of the field's type, or is refused with what was found and what was expected."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.plain_yaml import Mismatch, NearMiss, Range, coerce, describe, quote

Share = Annotated[float, Range(least=0, most=1)]
Count = Annotated[int, Range(least=1)]


def node(text: str) -> yaml.Node:
    return yaml.compose(text, Loader=yaml.SafeLoader) or yaml.ScalarNode("", "")


def refusal(text: str, expected) -> str:
    with pytest.raises(Mismatch) as caught:
        coerce(node(text), expected)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected", "value"),
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
def test_the_fields_type_decides_what_a_text_is(text, expected, value):
    found = coerce(node(text), expected)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "expected", "message"),
    [
        ("fast", float, "found 'fast', expected a number"),
        ("1_000", float, "found '1_000', expected a number"),
        ("nan", float, "found 'nan', expected a number"),
        (".inf", float, "found '.inf', expected a number"),
        ("1e999", float, "found '1e999', expected a number that fits 64 bits"),
        ("١٢", float, "found '١٢', expected a number"),
        ("१२", int, "found '१२', expected an integer"),
        ("1e3", int, "found '1e3', expected an integer"),
        ("5.0", int, "found '5.0', expected an integer"),
        ("0x10", int, "found '0x10', expected an integer"),
        ("1_000", int, "found '1_000', expected an integer"),
        ("9" * 5000, int, "an integer of 5000 digits is too large, expected 18 at most"),
        ("'5'", int, "found the quoted text '5', expected an integer"),
        ("yes", bool, "found 'yes', expected true or false"),
        ("1", bool, "found '1', expected true or false"),
        ("", str, "found nothing, expected text"),
        ("null", float, "found null, expected a number"),
        ("[1]", float, "found a list, expected a number"),
        ("{A: 1}", float, "found a mapping, expected a number"),
        ("1.5", Share, "1.5 is outside the allowed range (at least 0, at most 1)"),
        ("0", Annotated[float, Range(above=0)], "0.0 is outside the allowed range (above 0)"),
        ("0", Count | None, "0 is outside the allowed range (at least 1)"),
        ("fast", float | None, "found 'fast', expected a number or null"),
        ("x", Literal["Ranger", "AdamW"], "found 'x', expected one of Ranger, AdamW"),
        ("adamw", Literal["Ranger", "AdamW"], "found 'adamw', expected one of Ranger, AdamW; did you mean AdamW?"),
        ("Car", tuple[str, ...], "found 'Car', expected a list in brackets, each item text"),
        ("[1, 2, 3]", tuple[int, int], "found a list of 3, expected a list of 2: [an integer, an integer]"),
        ("[1, x]", tuple[int, ...], "item 2: found 'x', expected an integer"),
        ("[0.5, -1]", tuple[Share, ...] | None, "item 2: -1.0 is outside the allowed range (at least 0, at most 1)"),
        ('"a\\nb"', str, "found text with the invisible character U+000A, expected plain text on one line"),
        ('"\\u200b"', str, "found text with the invisible character U+200B, expected plain text on one line"),
        ('"\\ud800"', str, "found text with the invisible character U+D800, expected plain text on one line"),
    ],
)
def test_a_refusal_says_what_was_found_and_what_was_expected(text, expected, message):
    assert refusal(text, expected) == message


def test_the_message_of_a_union_is_that_of_its_nearest_type():
    assert isinstance(NearMiss(""), Mismatch)
    assert refusal("outside", float | None) == "found 'outside', expected a number or null"


def test_a_long_value_is_cut_in_messages():
    assert quote(node("x" * 500)) == f"'{'x' * 57}'..."


def test_types_are_described_in_words():
    assert describe(Share | None) == "a number (at least 0, at most 1) or null"
    assert describe(Literal["flat"]) == "flat"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_survives_being_written_and_read(value):
    assert coerce(yaml.ScalarNode("", repr(value)), float) == value


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_every_integer_of_18_digits_survives_being_written_and_read(value):
    assert coerce(yaml.ScalarNode("", str(value)), int) == value


@given(st.text(), st.sampled_from([int, float, bool, Share, Count | None, float | Literal["auto"], str]))
def test_any_text_is_of_the_expected_type_or_a_mismatch(text, expected):
    try:
        value = coerce(yaml.ScalarNode("", text), expected)
    except Mismatch as mismatch:
        assert "found" in str(mismatch) or "outside" in str(mismatch) or "too large" in str(mismatch)
    else:
        assert value is None or isinstance(value, int | float | str)
