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
    script: Path | Sequence[Path] | None = None,
    style: Path | None = None,
    policy: str = "",
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
        style: rules that this page alone needs.
        policy: what the page may do beside this, as further directives.
    """
    scripts = [] if script is None else [script] if isinstance(script, Path) else script
    code = Html("\n".join(one.read_text(encoding="utf-8") for one in scripts))
    base = POLICY.replace(INSIDE, BESIDE) if has_files else POLICY
    policy = "; ".join([base, *([f"script-src '{_hash(code)}'"] if code else []), *([policy] if policy else [])])
    styles = [STYLE, *([] if style is None else [style])]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html("".join(one.read_text(encoding="utf-8") for one in styles))),
    )
    anchors = _anchors([name for name, *_ in sections])
    links = (tag("li", tag("a", name, href=f"#{anchor}")) for anchor, (name, *_) in zip(anchors, sections, strict=True))
    contents = tag("nav", tag("a", top, href="#top", class_="top"), tag("ol", *links), aria_label="Contents", id="top")
    main = tag("main", headline, *(_section(*pair) for pair in zip(anchors, sections, strict=True)))
    body = tag("body", contents, main, tag("script", code) if code else None)
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _hash(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"


def _anchors(names: Sequence[str]) -> list[str]:
    """Returns the anchors of sections: the last word of each name, with a number where it was there before.

    >>> _anchors(["Runs", "Lab book", "Old book"])
    ['runs', 'book', 'book-2']
    """
    words = [name.lower().split()[-1] for name in names]
    before = [words[:index].count(word) for index, word in enumerate(words)]
    return [f"{word}-{number + 1}" if number else word for word, number in zip(words, before, strict=True)]


def _section(anchor: str, section: tuple[str, str, Html]) -> Html:
    _, title, content = section
    heading = tag("h2", title, id=f"{anchor}-title")
    return tag("section", heading, content, id=anchor, aria_labelledby=f"{anchor}-title")
