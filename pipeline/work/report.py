"""`report`: writes the one page that shows everything about a run."""

from __future__ import annotations

from pipeline.engine.run import Run
from pipeline.paths import shown
from pipeline.report.page import write_page


def report(run: Run) -> None:
    """Draws the curves and writes `report.html`."""
    path = write_page(run)
    run.log(f"report: {shown(path)}")
