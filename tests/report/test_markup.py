"""HTML that cannot be malformed or unescaped."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.markup import Html, bar, join, tag


class Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.text = ""
        self.attributes: dict[str, str | None] = {}

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes |= dict(attributes)

    def handle_data(self, data):
        self.text += data


PRINTABLE = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=40)


@given(PRINTABLE, PRINTABLE)
def test_any_text_comes_back_from_an_element_as_it_was(text, title):
    reader = Texts()
    reader.feed(tag("p", text, title=title))
    reader.close()
    assert (reader.tags, reader.text, reader.attributes) == (["p"], text, {"title": title})


def test_markup_is_not_escaped_twice():
    assert tag("p", tag("b", "a & b")) == "<p><b>a &amp; b</b></p>"
    assert isinstance(join("<", Html("<br>")), Html)


def test_attributes_may_be_left_out():
    assert tag("input", id=None, aria_label="x") == '<input aria-label="x">'


@pytest.mark.parametrize(("share", "width"), [(-1, "0.0"), (0.123, "12.3"), (7, "100.0")])
def test_bars_stay_between_nothing_and_all(share, width):
    assert f"width:{width}%" in bar("text", share)
