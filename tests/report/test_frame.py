"""The frame of every page."""

from __future__ import annotations

import pytest

from pipeline.report.frame import document
from pipeline.report.markup import tag
from tests.report.browser import browsed, needs_browser


@needs_browser
@pytest.mark.slow
def test_a_page_runs_its_own_script_and_no_other(tmp_path):
    script = tmp_path / "script.js"
    script.write_text("document.title = 'it ran: <&>';")
    page = document("title", "top", tag("header"), [("Part", "Part", tag("p", "text"))], script)
    assert "<title>it ran: &lt;&amp;&gt;</title>" in browsed(page, tmp_path)
    assert "<title>title</title>" in browsed(page.replace("it ran", "another ran"), tmp_path)
    without = document("title", "top", tag("header"), [])
    assert "<title>title</title>" in browsed(
        without.replace("</body>", "<script>document.title = 1</script></body>"), tmp_path
    )
