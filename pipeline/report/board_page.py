"""The board as one page: all runs sorted by a click, public against local scores, learning curves, the lab book.

In: what `board.py` read. Out: the page's text. It loads nothing; links to the reports of runs are relative.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from pipeline.engine.run import Stage
from pipeline.intervals import Interval
from pipeline.paths import CONFIGS, REPORT, STUDIES, Folders, runs_table
from pipeline.report.board import (
    BoardRun,
    Competition,
    best_runs,
    read_board,
    score_label,
    without_score,
)
from pipeline.report.board_book import book_part
from pipeline.report.board_charts import curves_data, curves_part, public_part
from pipeline.report.frame import document
from pipeline.report.markup import Html, breakable, digits, join, quantity, table, tag
from pipeline.report.read import split_name
from pipeline.report.runs_columns import Column
from pipeline.report.runs_page import (
    MEANINGS,
    number_cell,
    runs_part,
    settings_note,
    sort_heads,
    summary_cells,
)
from pipeline.report.runs_text import SETTINGS, SUMMARIES
from pipeline.report.study_names import StudyTable, read_studies, repeat_words
from pipeline.report.table import overrides_text
from pipeline.scores import of_images

SORT, BOARD_SCRIPT, RELOAD = (Path(__file__).with_name(name) for name in ("sort.js", "board.js", "reload.js"))
STYLE = Path(__file__).with_name("board.css")
NUM_CHOSEN = 3  # curves that are shown before anybody has chosen: the best runs
MOST_LISTED = 12  # rows without a filter above them
LEFT_OUT = ("parameters_m", "valid_loss")  # columns of `./run.sh table` that the board does without
NOT_KNOWN = "–"


def board_page(
    folders: Folders, stages: Sequence[Stage], version: str | None = None, configs: Path = CONFIGS
) -> tuple[str, dict[str, Path]]:
    """Returns the page of all runs, and the files that it links to by their address on the page.

    Args:
        stages: in order; the last one that a run has finished is its state.
        version: of a page that is served: what `reload.js` compares with the server's.
        configs: the folder whose headers have questions and published scores.
    """
    competitions, studies = read_board(folders, stages, configs), read_studies(folders.runs, configs)
    links = {
        name: f"{quote(name)}/{REPORT}" for own in competitions for name, run in own.runs.items() if run.has_report
    }
    files = {address: folders.runs / name / REPORT for name, address in links.items()}
    files |= _tables(folders.runs, competitions, studies)
    sections = [
        part
        for number, own in enumerate(competitions)
        for part in _sections(number, own, links, files, len(competitions))
    ]
    if studies:
        sections.append(("Studies", "Studies", _studies_part(studies)))
    num_runs = sum(len(own.runs) for own in competitions)
    scripts = [SORT, BOARD_SCRIPT, *([RELOAD] if version else [])]
    top = join(_headline(competitions, num_runs, folders.runs, version), curves_data(competitions))
    title = f"Board: {quantity(num_runs, 'run')}"
    policy = "connect-src 'self'" if version else ""
    return document(title, "Board", top, sections, scripts, STYLE, policy), files


def _tables(runs: Path, competitions: Sequence[Competition], studies: Sequence[StudyTable]) -> dict[str, Path]:
    """Returns the files of tables that are there, by address."""
    names = [runs_table(own.name, False, ".html") for own in competitions if own.name]
    names += [f"{STUDIES}/{study.name}.csv" for study in studies]
    return {quote(name): runs / name for name in names if (runs / name).is_file()}


def _headline(competitions: Sequence[Competition], num_runs: int, runs: Path, version: str | None) -> Html:
    """Returns the number of runs, and the best of each competition."""
    small = (
        f"{quantity(num_runs, 'run')} of {quantity(len(competitions), 'competition')}" if num_runs else "no runs yet"
    )
    tops = [item for own in competitions if (item := _top(own)) is not None]
    empty = tag("p", "There are no runs yet. ", tag("code", "./run.sh demo"), " makes the first.", class_="missing")
    server = tag("p", "", id="server", class_="note", data_version=version) if version else None
    title = tag("div", tag("h1", "Board ", tag("small", small)), class_="title")
    return tag("header", title, tag("ul", *tops, class_="tops") if tops else None, None if num_runs else empty, server)


def _top(own: Competition) -> Html | None:
    values = own.table.columns[0].values if own.table.columns else ()
    known = [(value, name) for value, name in zip(values, own.table.runs, strict=True) if value is not None]
    if not known:
        return None
    best, run = max(known)
    words = f" the highest validation {own.table.label} of {own.name}, by {run}"
    return tag("li", tag("strong", digits(best)), words)


def _sections(
    number: int, own: Competition, links: Mapping[str, str], files: Mapping[str, Path], num_competitions: int
) -> list[tuple[str, str, Html]]:
    """Returns the parts of a competition; with several, each is named after it."""
    name = own.name.strip() or "unknown competition"
    before, of = ("", "") if num_competitions == 1 else (f"{name}: ", f" of {name}")
    title = f"{name}: {own.table.title}" if own.table.title else name
    settings = own.table.by_setting
    parts = [
        ("settings", f"Settings{of}", settings and join(runs_part(settings), settings_note(settings))),
        ("runs", title, _runs_part(number, own, links, files)),
        ("curves", f"Learning curves of chosen runs{of}", curves_part(number, own)),
        ("public", f"Public score against local score{of}", public_part(own, links)),
        ("book", f"Lab book{of}", book_part(own, links)),
    ]
    words = {"settings": "settings", "runs": "runs", "curves": "curves", "public": "public score", "book": "lab book"}
    return [
        (f"{before}{words[part]}" if before else words[part].capitalize(), title, content)
        for part, title, content in parts
        if content is not None
    ]


def _runs_part(number: int, own: Competition, links: Mapping[str, str], files: Mapping[str, Path]) -> Html:
    """Returns the table of a competition's runs, the best first, those without a score last."""
    shown = [column for column in own.table.columns if not column.is_detail and column.key not in LEFT_OUT]
    index_of = {name: index for index, name in enumerate(own.table.runs)}
    main = own.table.columns[0].values if own.table.columns else ()
    scored = sorted(index_of, key=lambda name: -(main[index_of[name]] or 0.0))
    others = [run.name for run in without_score(own)]
    chosen = best_runs(own, NUM_CHOSEN)
    first, rest = shown[:1], shown[1:]
    has_words = any(own.table.differing) or any(own.runs[name].row.changed for name in others)
    span = f"{of_images(own.image_label)}, 95 %"
    heads = ["run", *(column.heading for column in first), span, *(column.heading for column in rest), "split"]
    heads = sort_heads([*heads, *([SETTINGS] if has_words else [])])
    rows = []
    for name in [*scored, *others]:
        run, index = own.runs[name], index_of.get(name)
        cells = [_name_cell(run, number, links.get(name), name in chosen)]
        cells += [_value(column, index) for column in first]
        cells += [_interval_cell(run.interval), *(_value(column, index) for column in rest)]
        cells.append(split_name(run.row.split) if run.row.split else NOT_KNOWN)
        if has_words:
            cells.append(_words_cell(own, run, own.table.differing[index] if index is not None else _words(run)))
        rows.append(cells)
    blanks = [""] * (1 + has_words)
    summaries = [
        (name, *summary_cells(name, first), "", *summary_cells(name, rest), *blanks) for name in SUMMARIES if scored
    ]
    caption = f"Runs of {own.name}" if own.name else "Runs whose config cannot be read"
    whole = table(
        heads, rows, caption, summaries, class_="sorted runs", data_number=number, data_sorted=1 if first else None
    )
    search = tag(
        "input",
        type="search",
        class_="filter",
        data_number=number,
        placeholder="filter runs",
        aria_label=f"show only runs with these words in any column, {own.name}",
    )
    notes = [note for note in own.table.notes if not note.startswith("without a score: ")]
    cautions = tag("aside", tag("ul", *(tag("li", note) for note in notes)), class_="caution") if notes else None
    return join(search if len(rows) > MOST_LISTED else None, whole, _meanings(own, shown, files), cautions)


def _words(run: BoardRun) -> str:
    return run.row.header.question or overrides_text(run.row.values, run.row.changed)


def _words_cell(own: Competition, run: BoardRun, words: str) -> Html:
    """Returns the question of a run, or its setting in a study with its overrides as a tooltip, or its overrides."""
    setting = own.settings.get(run.name)
    if run.row.header.question or setting is None:
        return tag("span", breakable(words), class_="words")
    name = repeat_words(setting, run.row.values, run.row.changed)
    return tag("span", name, class_="words", title=overrides_text(run.row.values, run.row.changed))


def _value(column: Column, index: int | None) -> Html | str:
    return NOT_KNOWN if index is None else number_cell(column, column.values[index])


def _name_cell(run: BoardRun, number: int, link: str | None, is_chosen: bool) -> Html:
    """Returns a run's check box for its curve, its name with a link to its report, and its state."""
    options = {"type": "checkbox", "data_run": run.name, "aria_label": f"learning curve of {run.name}"}
    options |= {"checked": "" if is_chosen else None, "disabled": None if run.curve else ""}
    name = tag("a", run.name, href=link) if link else tag("span", run.name)
    kind = "state-words running" if run.live and run.live.is_running else "state-words"
    return join(tag("input", **options), name, tag("small", run.state, class_=kind) if run.state else None)


def _interval_cell(own: Interval | None) -> Html | str:
    if own is None:
        return NOT_KNOWN
    if not math.isfinite(own.low):
        return tag("small", "one sequence: none", class_="none")
    return tag(
        "data", f"{own.low:.3f} to {own.high:.3f}", value=repr(own.low), title=f"from {own.num_groups} sequences"
    )


def _meanings(own: Competition, shown: Sequence[Column], files: Mapping[str, Path]) -> Html:
    """Returns what the columns mean, and where the scores of each class are."""
    headings = [column.heading for column in shown]
    words = ["A click on a heading sorts, a check box shows a learning curve. ./run.sh NAME predict continues a run."]
    found = [run.interval for run in own.runs.values() if run.interval is not None]
    if found:
        words.append(
            f"95 %: interval of the mean {own.image_label} of the validation images, from the spread between their "
            "sequences; an image without a sequence counts as one."
        )
    if any(not math.isfinite(one.low) for one in found):
        words.append("Images of one sequence have no interval: nothing is known about other scenes.")
    if own.image_score != own.score:
        words.append(f"{score_label(own)} has no value per image; intervals and gains are in {own.image_label}.")
    words += [f"{heading}: {meaning}." for heading, meaning in MEANINGS.items() if heading in headings]
    address = quote(runs_table(own.name, False, ".html"))
    classes = tag("a", "Scores of each class", href=address) if address in files else None
    return tag("p", " ".join(words), " ", classes, class_="note")


def _studies_part(studies: Sequence[StudyTable]) -> Html:
    """Returns the table of each study, those without a result closed."""
    return join(*(_study(study) for study in studies))


def _study(study: StudyTable) -> Html:
    columns = study.columns
    link = tag("a", "CSV", href=quote(f"{STUDIES}/{study.name}.csv"))
    if columns is None:
        content = tag(
            "p",
            f"The table of this study is damaged; ./run.sh study {shlex.quote(study.name)} --table writes it again.",
            class_="missing",
        )
        return tag("details", tag("summary", study.name), content)
    rows = [
        (setting, f"{done}/{planned}", _short(score), _gain(gain, low, high), verdict or NOT_KNOWN)
        for setting, done, planned, score, gain, low, high, verdict in zip(
            *(columns[name] for name in ("setting", "runs", "planned", "score", "gain", "low", "high", "verdict")),
            strict=True,
        )
    ]
    content = table(
        ("setting", "runs", "score", "gain over the first, 95 %", "verdict"), rows, study.question or study.name
    )
    is_open = "" if any(columns["score"]) else None
    return tag("details", tag("summary", study.name), content, tag("p", link, class_="note"), open=is_open)


def _short(cell: str) -> str:
    value = _number(cell)
    return NOT_KNOWN if value is None else f"{value:.3f}"


def _gain(gain: str, low: str, high: str) -> str:
    mean, ends = _number(gain), (_number(low), _number(high))
    if mean is None:
        return NOT_KNOWN
    if None in ends or not all(map(math.isfinite, ends)):
        return f"{mean:+.3f}"
    return f"{mean:+.3f} ({ends[0]:+.3f} to {ends[1]:+.3f})"


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
