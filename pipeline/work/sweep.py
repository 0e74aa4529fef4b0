"""`sweep`: tries learning rates, and writes the curve with its suggestions."""

from __future__ import annotations

from pipeline.engine.run import Run
from pipeline.files import write_atomic
from pipeline.paths import SWEEP_FACTS, SWEEP_PLOT, SWEEP_TABLE
from pipeline.report.curves import draw_sweep
from pipeline.report.read import read_columns, read_json
from pipeline.training.lr_sweep import sweep_learning_rates


def sweep(run: Run) -> None:
    """Writes `lr_sweep.csv`, `.json` and `.png`."""
    sweep_learning_rates(run)
    facts = read_json(run.paths / SWEEP_FACTS)
    write_atomic(run.paths / SWEEP_PLOT, draw_sweep(read_columns(run.paths / SWEEP_TABLE), facts, facts["max_lr"]))
