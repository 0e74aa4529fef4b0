"""HTML that cannot be malformed or unescaped: every text is escaped unless it came out of `tag`.

In: texts, numbers, images. Out: `Html`. Images are written into the page, which then needs no other file. The functions
for images import their packages themselves: a page of text alone, such as that of `./run.sh table`, is made at once.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.report.figure import Theme

HEAT = "background: rgba(0, 114, 178, {:.2f})"
MOST_OPAQUE = 0.6  # of a score of 1: text is still read on it, on light and dark pages
VOID_TAGS = ("img", "meta", "link", "source", "input", "br", "wbr")  # have no closing tag


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Returns an element; children that are not `Html` are escaped, as are the attributes' values.

    A trailing underscore of an attribute's name is dropped (`class_`), others become dashes. None leaves it out.

    >>> tag("p", "a < b ", tag("b", "bold"), class_="note", id=None)
    '<p class="note">a &lt; b <b>bold</b></p>'
    """
    written = []
    for key, value in attributes.items():
        if value is not None:
            written.append(f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"')
    opening = f"<{name}{''.join(written)}>"
    return Html(opening) if name in VOID_TAGS else Html(f"{opening}{join(*children)}</{name}>")


def join(*children: object) -> Html:
    """Returns children one after the other, escaped where they are plain text; None is nothing."""
    known = (child for child in children if child is not None)
    return Html("".join(child if isinstance(child, Html) else html.escape(str(child)) for child in known))


def breakable(text: str) -> Html:
    """Returns a text that may go on in a new line behind each dot, underscore and equals sign.

    >>> breakable("TILE.ENABLE=true")
    'TILE.<wbr>ENABLE=<wbr>true'
    """
    return Html(re.sub(r"([._=])(?=\w)", r"\1<wbr>", html.escape(text)))


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    caption: str,
    totals: Sequence[Sequence[object]] = (),
    **attributes: object,
) -> Html:
    """Returns a table whose first column heads its rows and whose last rows, `totals`, are set off from the others.

    It is in a box that scrolls sideways on a narrow screen.
    """
    header = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    bodies = [_body(rows), *([_body(totals, class_="mean")] if totals else [])]
    whole = tag("table", tag("caption", caption), header, *bodies, **attributes)
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _body(rows: Iterable[Sequence[object]], **attributes: object) -> Html:
    lines = (tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows)
    return tag("tbody", *lines, **attributes)


def bar(text: object, share: float) -> Html:
    """Returns a number as text with a bar of its share of the whole, 0 to 1, beside it."""
    filled = tag("span", style=f"width:{100 * min(max(share, 0), 1):.1f}%")
    return join(tag("span", text, class_="number"), tag("span", filled, class_="bar", aria_hidden="true"))


def heat(score: float | None, content: object, is_top: bool = False) -> Html:
    """Returns a cell whose background is the more intense the higher its score, 0 to 1, bold where it is the top."""
    style = None if score is None else HEAT.format(MOST_OPAQUE * min(max(score, 0.0), 1.0))
    return tag("span", tag("b", content) if is_top else content, style=style)


def themed(draw: Callable[[Theme], bytes], alt: str) -> Html:
    """Returns a figure of a plot, drawn for light and for dark screens."""
    from pipeline.report.figure import DARK, LIGHT

    source = tag("source", srcset=data_uri(draw(DARK), "png"), media="(prefers-color-scheme: dark)")
    return tag("figure", tag("picture", source, _image(draw(LIGHT), "png", alt)), class_="plot")


def photo(path: Path, alt: str, most_width: int | None = None) -> Html:
    """Returns a figure of a PNG with photographs in it, written as WebP; a wider one is reduced to `most_width`."""
    from PIL import Image

    from pipeline.report.figure import encode_webp

    with Image.open(path) as opened:
        if most_width is not None and opened.width > most_width:
            opened = opened.convert("RGB").resize((most_width, round(opened.height * most_width / opened.width)))
        image = _image(encode_webp(opened), "webp", alt)
    scrolled = tag("div", image, class_="scroll", tabindex="0", role="region", aria_label=alt)
    return tag("figure", scrolled, class_="photo")


def embedded(path: Path, alt: str) -> Html:
    """Returns an image file, in the page as it is."""
    return _image(path.read_bytes(), path.suffix.removeprefix("."), alt)


def missing(command: str, what: str = "This part is") -> Html:
    """Returns the line that stands for what was not made yet, with the command that makes it."""
    return tag("p", f"{what} not there yet. ", tag("code", command), " makes it.", class_="missing")


def data_uri(content: bytes, kind: str) -> str:
    """Returns an image as an address that contains it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _image(content: bytes, kind: str, alt: str) -> Html:
    from PIL import Image

    from pipeline.report.figure import SCALE

    with Image.open(io.BytesIO(content)) as image:
        width, height = (length // SCALE for length in image.size)
    return tag("img", src=data_uri(content, kind), alt=alt, width=width, height=height)


def quantity(number: int, noun: str) -> str:
    """Returns a number with its noun, in the plural where it is not one.

    >>> quantity(1, "sequence"), quantity(1200, "image")
    ('1 sequence', '1,200 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def digits(score: float | None) -> str:
    """Returns a score with three digits, or a dash.

    >>> digits(0.8431), digits(None)
    ('0.843', '–')
    """
    return "–" if score is None else f"{score:.3f}"
