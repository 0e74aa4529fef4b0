"""The frame of every page: head, style, table of contents, sections. What a page holds comes from its own module.

In: titles and parts of the page. Out: its text. A page loads nothing from elsewhere: its own content policy forbids
it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from pipeline.report.markup import Html, tag

STYLE = Path(__file__).with_name("page.css")
INSIDE = "img-src data:"
BESIDE = f"{INSIDE} 'self' file:"
POLICY = f"default-src 'none'; {INSIDE}; style-src 'unsafe-inline'"


def document(
    title: str,
    top: str,
    headline: Html,
    sections: Sequence[tuple[str, str, Html]],
    script: Path | None = None,
    has_files: bool = False,
) -> str:
    """Returns a whole page with a table of contents.

    Args:
        title: of the window.
        top: what the table of contents begins with.
        headline: stands above the sections.
        sections: each with its name in the table of contents, its title and its content.
        has_files: whether images in files beside the page are shown; from a disk or a server, nothing else is loaded.
        script: JavaScript to be written into the page; the policy allows it alone, by its hash.
    """
    code = None if script is None else Html(script.read_text(encoding="utf-8"))
    policy = POLICY.replace(INSIDE, BESIDE) if has_files else POLICY
    policy = policy if code is None else f"{policy}; script-src '{_hash(code)}'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(STYLE.read_text(encoding="utf-8"))),
    )
    links = (tag("li", tag("a", name, href=f"#{_anchor(name)}")) for name, *_ in sections)
    contents = tag("nav", tag("a", top, href="#top", class_="top"), tag("ol", *links), aria_label="Contents", id="top")
    main = tag("main", headline, *(_section(*section) for section in sections))
    body = tag("body", contents, main, None if code is None else tag("script", code))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _hash(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"


def _anchor(name: str) -> str:
    return name.lower().split()[-1]


def _section(name: str, title: str, content: Html) -> Html:
    anchor = _anchor(name)
    heading = tag("h2", title, id=f"{anchor}-title")
    return tag("section", heading, content, id=anchor, aria_labelledby=f"{anchor}-title")
