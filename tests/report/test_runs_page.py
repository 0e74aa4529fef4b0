"""The page of the table: whole, without network, sorted by a click in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from pipeline.paths import Folders
from pipeline.report.runs_page import table_page
from pipeline.report.runs_table import runs_tables
from pipeline.stages import STAGES
from tests.report.browser import browsed, needs_browser
from tests.report.small_run import metrics_of
from tests.report.test_page import Reader

SCORES = {"2": 0.9, "3": 0.7, "4": None, "5": 0.8}  # of ExpAAB by SOLVER.POWER


@pytest.fixture
def page(new_run) -> str:
    """The page of four runs, one of which has no value of the last class; `runs` has the power of each."""
    for power, value in SCORES.items():
        _, folder = new_run("ExpAAB", f"SOLVER.POWER={power}")
        dice = (0.5, 0.5, 0.5, value)
        (folder / "metrics.json").write_text(json.dumps(metrics_of(dice=[one or 0.2 for one in dice])))
        if value is None:
            content = metrics_of()
            content["scores"]["dice"]["classes"]["Sky"] = None
            (folder / "metrics.json").write_text(json.dumps(content))
    (table,) = runs_tables(Folders.from_environment(), STAGES)
    return table_page(table)


def names_by_power(page: str) -> dict[str, str]:
    return {power: name for name, power in re.findall(r"<th scope=\"row\">(ExpAAB-\w+)</th>.*?POWER=<wbr>(\d)", page)}


def test_the_page_is_well_formed_and_loads_nothing(page):
    reader = Reader()
    reader.feed(page)
    assert reader.faults == [] and reader.open_tags == []
    assert not reader.values("src") and all(address.startswith(("#", "data:")) for address in reader.values("href"))
    code = re.search(r"<script>(.*)</script>", page, re.DOTALL)[1]
    (policy,) = (own["content"] for tag, own in reader.elements if own.get("http-equiv"))
    allowed = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert policy.endswith(f"; script-src 'sha256-{allowed}'") and policy.startswith("default-src 'none'")
    assert "http" not in re.sub(r"http-equiv", "", page)


def test_a_name_that_looks_like_markup_is_text(new_run):
    _, folder = new_run("ExpAAB", "SOLVER.POWER=2")
    folder = folder.rename(folder.with_name("a<b>c"))
    (folder / "metrics.json").write_text(json.dumps(metrics_of()))
    (table,) = runs_tables(Folders.from_environment(), STAGES)
    assert "a&lt;b&gt;c" in table_page(table) and "a<b>c" not in table_page(table)


def test_every_number_is_there_with_all_its_digits_for_sorting(page):
    assert f'<data value="{(0.5 * 3 + 0.9) / 4!r}">' in page
    assert "<b>0.900</b>" in page, "the highest of a class"


def clicked(page: str, clicks: str, folder: Path) -> list[str]:
    """Returns the names of the runs in the order of the second table, after JavaScript that clicks."""
    # The page's own policy forbids a second script.
    page = re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</body>", f"<script>{clicks}</script></body>")
    table = re.findall(r"<table.*?</table>", browsed(page, folder), re.DOTALL)[1]
    assert re.findall(r'row">(\w+)</th>', table)[-3:] == ["minimum", "average", "maximum"]
    return re.findall(r"ExpAAB-\w+", table)


@needs_browser
@pytest.mark.slow
def test_a_click_sorts_in_a_real_browser(page, tmp_path):
    of = names_by_power(page)
    click = "const button = document.querySelectorAll('table')[1].querySelectorAll('thead button')[4]; button.click();"
    assert clicked(page, "", tmp_path) == [of[power] for power in ("4", "2", "5", "3")], "by the mean of the classes"
    assert clicked(page, click, tmp_path) == [of[power] for power in ("2", "5", "3", "4")], "highest first"
    assert clicked(page, f"{click} button.click();", tmp_path) == [of[power] for power in ("3", "5", "2", "4")]
    first = "document.querySelectorAll('table')[1].querySelector('thead button').click();"
    assert clicked(page, f"{click} {first}", tmp_path) == sorted(of.values())
