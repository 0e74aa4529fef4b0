"""The board in a real browser: sorting, filtering, choosing curves, both colour schemes, a phone's width."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.paths import Folders
from pipeline.report.board_page import board_page
from pipeline.stages import STAGES
from tests.report.browser import needs_browser, visited
from tests.report.small_run import make_history, metrics_of, write_csv
from tests.report.test_lab_book import score_images
from tests.report.test_runs_table import upload, write_log

pytestmark = [needs_browser, pytest.mark.slow]
NUM_RUNS = 14  # so that there is a filter
DESK = "--window-size=1280,900"


@pytest.fixture
def page(new_run) -> str:
    """The page of runs of one config, and of one other; the higher SOLVER.POWER, the better, the last without score."""
    uploads = []
    for power in range(2, NUM_RUNS + 2):
        loaded, folder = new_run("ExpAAB", f"SOLVER.POWER={power}", "SOLVER.MAX_LR=0.01")
        score_images(folder, 0.001 * power)
        (folder / "metrics.json").write_text(json.dumps(metrics_of(dice=[0.02 * power] * 4)))
        head, rows = make_history()
        write_csv(folder / "history.csv", head, rows)
        (folder / "report.html").write_text("<!doctype html>")
        if power == NUM_RUNS + 1:
            (folder / "metrics.json").unlink()
        uploads.append(upload(f"{0.01 * power}", file=f"{loaded.run}.csv"))
    score_images(new_run("CamVidAAA")[1], 0.1)
    write_log(*uploads)
    return board_page(Folders.from_environment(), STAGES)[0]


def visit(page: str, folder: Path, script: str, *options: str) -> tuple[dict, str]:
    """Returns what JavaScript notes in `found` after the page's own has run, and the elements; no error is logged."""
    # The page's own policy forbids a second script.
    asked = f"<script>const found = {{}}; {script}; document.title = JSON.stringify(found);</script>"
    text = re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</body>", f"{asked}</body>")
    elements, console = visited(text, folder, *options)
    assert console == []
    return json.loads(re.search(r"<title>(.*?)</title>", elements)[1].replace("&amp;", "&")), elements


def test_the_page_logs_no_error_under_its_own_policy(page, tmp_path):
    elements, console = visited(page, tmp_path, DESK)
    assert console == [] and elements.count("<polyline") == 6, "three runs, two charts"


ROWS = "[...document.querySelector('table.runs').tBodies[0].rows]"
TEXTS = f"{ROWS}.map((row) => row.textContent.match(/POWER=(\\d+)/)[1])"


def test_a_click_on_a_heading_sorts_and_runs_without_a_score_stay_last(page, tmp_path):
    head = "document.querySelectorAll('table.runs thead button')"
    script = (
        f"found.first = {TEXTS}; {head}[1].click(); found.second = {TEXTS}; {head}[2].click(); found.third = {TEXTS}"
    )
    found, _ = visit(page, tmp_path, script)
    best_first = [str(power) for power in range(NUM_RUNS, 1, -1)]
    assert found["first"] == [*best_first, str(NUM_RUNS + 1)]
    assert found["second"] == [*best_first[::-1], str(NUM_RUNS + 1)]
    assert found["third"] == [*best_first, str(NUM_RUNS + 1)], "by the lower end of the interval"


def test_chosen_runs_are_drawn_with_a_legend_and_a_colour_that_stays(page, tmp_path):
    script = """
    const boxes = [...document.querySelectorAll('input[data-run]')], note = (name) => {
      found[name] = [...document.querySelectorAll('.curves .legend li')].map((item) =>
        [item.textContent, item.querySelector('line').getAttribute('class')]);
      found[name + ' lines'] = document.querySelectorAll('polyline').length;
    };
    found.names = boxes.map((box) => box.dataset.run);
    note('before'); boxes[0].click(); note('less'); boxes[5].click(); note('more');
    document.querySelector('.curves .clear').click(); note('none');
    found.checked = document.querySelectorAll('input:checked').length"""
    found, _ = visit(page, tmp_path, script)
    names = found["names"]
    assert [name for name, _ in found["before"]] == names[:3] and found["before lines"] == 6
    assert [name for name, _ in found["less"]] == names[1:3] and found["less lines"] == 4
    assert found["less"] == found["before"][1:], "the others keep their colours"
    assert found["more"] == [[names[5], found["before"][0][1]], *found["less"]], "the free colour is taken"
    assert (found["none"], found["none lines"], found["checked"]) == ([], 0, 0)


def test_a_filter_hides_other_runs_and_keeps_the_choice(page, tmp_path):
    script = f"""
    const filter = document.querySelector('input.filter');
    filter.value = 'expaab power=3.0'; filter.dispatchEvent(new Event('input'));
    found.shown = {ROWS}.filter((row) => !row.hidden).map((row) => row.textContent.match(/POWER=(\\d+)/)[1]);
    found.lines = document.querySelectorAll('polyline').length"""
    found, _ = visit(page, tmp_path, script)
    assert found == {"shown": ["3"], "lines": 6}


def test_all_that_can_be_used_is_reached_by_the_keyboard(page, tmp_path):
    script = """
    const box = document.querySelector('input[data-run]'), head = document.querySelector('thead button');
    for (const one of [box, head, document.querySelector('.curves .clear'), document.querySelector('svg a'),
      document.querySelector('summary'), document.querySelector('.scroll')]) {
      one.focus(); (found.focused ??= []).push(document.activeElement === one && one.tabIndex >= 0);
    }
    found.named = [...document.querySelectorAll('input, svg a, svg[role=img]')].every((one) => one.ariaLabel)"""
    found, _ = visit(page, tmp_path, script)
    assert found == {"focused": [True] * 6, "named": True}


WIDE = """found.inner = innerWidth; found.wide = document.documentElement.scrollWidth;
found.outside = [...document.querySelectorAll('main *')].filter((one) => !one.closest('.scroll') &&
  one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page, tmp_path, width):
    """In a frame of this width, as the browser's own window is never narrower than 500 pixels."""
    inner = re.sub(r"<meta http-equiv[^>]*>", "", page)
    script = f"<script>const found = {{}}; {WIDE}; parent.postMessage(JSON.stringify(found), '*')</script>"
    (tmp_path / "inner.html").write_text(inner.replace("</body>", f"{script}</body>"))
    frame = f"<iframe src='inner.html' style='width: {width}px; height: 900px; border: 0'></iframe>"
    listen = "<script>onmessage = (event) => { document.title = event.data; };</script>"
    outer = f"<!doctype html><title></title>{listen}{frame}"
    elements, console = visited(outer, tmp_path, "--window-size=1400,1000")
    found = json.loads(re.search(r"<title>(.*?)</title>", elements)[1].replace("&lt;", "<").replace("&gt;", ">"))
    assert console == [] and found["inner"] == width
    assert found["wide"] <= width and found["outside"] == []


def test_both_colour_schemes_can_be_read(page, tmp_path):
    script = """
    const light = (text) => {
      const [r, g, b] = text.match(/[\\d.]+/g).map((one) => (one / 255) ** 2.2);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = light(getComputedStyle(document.querySelector('section')).backgroundColor);
    const contrast = (own) => (Math.max(own, behind) + 0.05) / (Math.min(own, behind) + 0.05);
    const least = (selector, key) => Math.min(...[...document.querySelectorAll(selector)].map((one) =>
      contrast(light(getComputedStyle(one)[key]))));
    found.dark = behind < 0.5;
    found.words = least('.verdict, .asks, .answer, .state-words, td', 'color');
    found.lines = least('polyline', 'stroke')"""
    for setting, is_dark in (("1", False), ("0", True)):
        found, _ = visit(page, tmp_path, script, f"--blink-settings=preferredColorScheme={setting}")
        assert found["dark"] == is_dark and found["words"] >= 4.5 and found["lines"] >= 2.2
