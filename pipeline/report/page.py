"""One self-contained page on a run: `report.html`.

In: `runs/<NAME>/` as far as it has come. Out: a page with its images inside, for light and dark screens, desk and
phone. It loads nothing: its own content policy forbids it.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config.ensemble import is_ensemble
from pipeline.engine.run import Run
from pipeline.files import write_atomic
from pipeline.paths import REPORT
from pipeline.report.background import data_section, settings_section, split_section, stages_section, submission_section
from pipeline.report.ensemble import members_section
from pipeline.report.findings import (
    classes_section,
    confusion_section,
    images_section,
    sweep_section,
    training_section,
)
from pipeline.report.headline import headline
from pipeline.report.markup import Html, tag
from pipeline.report.record import Record, read_record
from pipeline.report.section import Section, score

STYLE = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# What came out first, what went in after it.
SECTIONS = (
    classes_section,
    images_section,
    confusion_section,
    training_section,
    sweep_section,
    data_section,
    split_section,
    submission_section,
    stages_section,
    settings_section,
)
# An ensemble trains nothing and cuts no tiles.
ENSEMBLE_SECTIONS = (
    members_section,
    classes_section,
    images_section,
    confusion_section,
    submission_section,
    stages_section,
    settings_section,
)


def write_page(run: Run) -> Path:
    """Writes `report.html` into a run's folder from the files that are there; returns its path.

    A part whose file is missing says which command makes it, so the page can be written after any stage.
    """
    path = run.paths / REPORT
    write_atomic(path, page(read_record(run)))
    return path


def page(record: Record) -> str:
    """Returns the whole page."""
    sections = [make(record) for make in (ENSEMBLE_SECTIONS if is_ensemble(record.loaded) else SECTIONS)]
    dice = (record.metrics or {}).get("dice", {}).get("mean")
    title = record.folder.name if dice is None else f"{record.folder.name}, Dice {score(dice)}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(STYLE.read_text(encoding="utf-8"))),
    )
    main = tag("main", headline(record), *map(_section, sections))
    return f"<!doctype html>\n{tag('html', head, tag('body', _contents(record, sections), main), lang='en')}\n"


def _contents(record: Record, sections: list[Section]) -> Html:
    links = (tag("li", tag("a", section.short, href=f"#{section.anchor}")) for section in sections)
    top = tag("a", record.folder.name, href="#top", class_="top")
    return tag("nav", top, tag("ol", *links), aria_label="Contents", id="top")


def _section(section: Section) -> Html:
    heading = f"{section.anchor}-title"
    return tag(
        "section", tag("h2", section.title, id=heading), section.body, id=section.anchor, aria_labelledby=heading
    )
