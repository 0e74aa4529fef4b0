"""Templates of file names: filled in from an id, and matched with names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.template import (
    any_file,
    expand_ranges,
    fill_template,
    has_wildcard,
    id_parses,
    id_values,
    name_pattern,
    template_problem,
)

PART = st.text("abz019-. ", min_size=1, max_size=6)


@given(case=PART, day=PART, number=PART)
def test_an_id_of_parts_is_taken_apart_as_it_was_put_together(case, day, number):
    image_format = "{case}_{day}_slice_{number}"
    image_id = fill_template(image_format, {"case": case, "day": day, "number": number})
    values = id_values(image_id, image_format)
    assert (values["case"], values["day"], values["number"]) == (case, day, number)
    assert fill_template(image_format, values) == values["id"] == image_id


@given(st.text("ab_", min_size=1, max_size=9), st.sampled_from(["{x}_{y}", "{x}_{y}_{x}", "a{x}_{y}b", "{x}{y}", "a"]))
def test_an_id_is_read_in_every_way_that_gives_it_again_and_first_as_short_as_can_be(image_id, image_format):
    parses = id_parses(image_id, image_format)
    assert all(fill_template(image_format, values) == image_id for values in parses)
    assert next(iter(parses), None) == id_values(image_id, image_format)
    if image_format == "{x}_{y}":  # each `_` inside may be the one between them
        assert len(parses) == image_id[1:-1].count("_")


def test_an_id_that_is_not_of_its_format_has_no_values():
    assert id_values("case2", "{case}_{day}") is None


def test_a_field_that_stands_twice_must_be_the_same_twice():
    pattern = name_pattern("{case}_{case}_{day}.png", {})
    assert pattern.fullmatch("a_a_1.png").groupdict() == {"case": "a", "day": "1"}
    assert pattern.fullmatch("a_b_1.png") is None


def test_letters_that_mean_something_in_expressions_stand_for_themselves():
    assert name_pattern("a+({id}).p*g", {}).fullmatch("a+(7).pxxg").groupdict() == {"id": "7"}
    assert name_pattern("{id}.png", {"id": "a.c"}).fullmatch("abc.png") is None


def test_ranges_count_with_the_digits_of_their_first_number():
    assert expand_ranges("{id}/{8..10}.png") == ["{id}/8.png", "{id}/9.png", "{id}/10.png"]
    assert expand_ranges("{id}/{00..01}_{0..1}") == ["{id}/00_0", "{id}/00_1", "{id}/01_0", "{id}/01_1"]


@pytest.mark.parametrize(
    ("template", "pattern"),
    [
        ("a[1]/{id}.png", "a[[]1]/*.png"),
        ("**/{id}/{0..3}.png", "**/*/*.png"),
        ("*/{id}_{class}.png", "*/*_*.png"),
    ],
)
def test_the_glob_pattern_of_a_template(template, pattern):
    assert any_file(template) == pattern


def test_only_wildcards_and_classes_have_to_be_searched_for():
    assert [has_wildcard(one) for one in ("a/{id}.png", "*/{id}.png", "{id}_{class}.png")] == [False, True, True]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{id}.png", None),
        ("{case}/{id}*.png", None),
        ("{id}_{class}.png", None),
        ("{class}.png", "expected a path with {id}"),
        ("{id.png", "expected a path with {id}"),
        ("{id}_{nr}.png", "{nr} is no part of ID_FORMAT; expected {case}, {class}, {id}, {stem}"),
        ("/{id}.png", "expected a path inside"),
        ("a/../{id}.png", "expected a path inside"),
    ],
)
def test_what_is_wrong_with_a_template(template, problem):
    found = template_problem(template, "{case}_x")
    assert found == problem if problem is None else problem in found
