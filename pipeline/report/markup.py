"""HTML that cannot be malformed or unescaped: every text is escaped unless it came out of `tag`.

In: texts, images. Out: `Html`. Images are written into the page, which then needs no other file and no network.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from pipeline.report.figure import SCALE

VOID_TAGS = ("img", "meta", "link", "source", "input", "br")  # have no closing tag
PHOTO_QUALITY = 82  # of WebP: no difference seen at the page's size, a sixth of a PNG


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Returns an element; children that are not `Html` are escaped, as are the attributes' values.

    A trailing underscore of an attribute's name is dropped (`class_`), others become dashes. None leaves an attribute
    out, True gives it no value.

    >>> tag("p", "a < b ", tag("b", "bold"), class_="note", id=None)
    '<p class="note">a &lt; b <b>bold</b></p>'
    """
    written = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {key}")
        elif value is not None and value is not False:
            written.append(f' {key}="{html.escape(str(value))}"')
    opening = f"<{name}{''.join(written)}>"
    return Html(opening) if name in VOID_TAGS else Html(f"{opening}{join(*children)}</{name}>")


def join(*children: object) -> Html:
    """Returns children one after the other, escaped where they are plain text; None is nothing."""
    return Html(
        "".join(
            child if isinstance(child, Html) else html.escape(str(child)) for child in children if child is not None
        )
    )


def table(head: Sequence[object], rows: Iterable[Sequence[object]], caption: str, **attributes: object) -> Html:
    """Returns a table whose first column heads its rows, in a box that scrolls sideways on a narrow screen."""
    header = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    return table_of(header, [body(rows)], caption, **attributes)


def body(rows: Iterable[Sequence[object]], **attributes: object) -> Html:
    """Returns the body of a table."""
    lines = (tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows)
    return tag("tbody", *lines, **attributes)


def table_of(header: Html, bodies: Sequence[Html], caption: str, **attributes: object) -> Html:
    """Returns a table of a header and bodies."""
    whole = tag("table", tag("caption", caption), header, *bodies, **attributes)
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def bar(text: object, share: float) -> Html:
    """Returns a number as text with a bar of its share of the whole, 0 to 1, beside it."""
    drawn = tag(
        "span", tag("span", style=f"width:{100 * min(max(share, 0), 1):.1f}%"), class_="bar", aria_hidden="true"
    )
    return join(tag("span", text, class_="number"), drawn)


def plot(light: bytes, dark: bytes, alt: str, caption: object = None) -> Html:
    """Returns a figure of a plot that comes for light and for dark screens."""
    width, height = _page_size(light)
    source = tag("source", srcset=data_uri(dark, "png"), media="(prefers-color-scheme: dark)")
    image = tag("image", source, _image(data_uri(light, "png"), alt, width, height))
    return tag("figure", image, tag("figcaption", caption) if caption else None, class_="plot")


def photo(path: Path, alt: str, caption: object = None) -> Html:
    """Returns a figure of a PNG with photographs in it, written as WebP."""
    content = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(content, "WEBP", quality=PHOTO_QUALITY, method=2)
        size = image.size
    image = _image(data_uri(content.getvalue(), "webp"), alt, size[0] // SCALE, size[1] // SCALE)
    scroller = tag("div", image, class_="scroll", tabindex="0", role="region", aria_label=alt)
    return tag("figure", scroller, tag("figcaption", caption) if caption else None, class_="photo")


def data_uri(content: bytes, kind: str) -> str:
    """Returns an image as an address that holds it whole."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _image(source: str, alt: str, width: int, height: int) -> Html:
    return tag("img", src=source, alt=alt, width=width, height=height)


def _page_size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        return image.width // SCALE, image.height // SCALE
