"""`report`: writes the one page that shows everything about a run."""

from __future__ import annotations

from pipeline.engine.run import Run
from pipeline.paths import HISTORY, shown
from pipeline.report.page import write_page
from pipeline.report.read import read_columns
from pipeline.report.scenes import late_epochs, read_shots


def report(run: Run) -> None:
    """Draws the curves and writes `report.html`."""
    path = write_page(run)
    _warn_of_late_epochs(run)
    run.log(f"report: {shown(path)}")


def _warn_of_late_epochs(run: Run) -> None:
    """Logs which epochs of REPORT.EPOCHS were trained before they were named."""
    epochs, trained = run.loaded.config.report.epochs, (read_columns(run.paths / HISTORY) or {}).get("epoch")
    if not epochs or not trained or run.loaded.is_ensemble:
        return
    if late := late_epochs(epochs, read_shots(run.paths.folder, epochs), int(trained[-1])):
        listed = ", ".join(map(str, late))
        what = f"no images of epoch {listed}, trained before REPORT.EPOCHS named it"
        run.log(f"warning: {what}; to have them, train anew: the same command with `train --force`")
