"""Runs to report on: one that has only begun, and one with every file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pipeline.config.load import Loaded, load
from pipeline.report.figure import encode_png
from pipeline.report.markup import themed
from tests.report.small_run import (
    make_history,
    mark_stages,
    metrics_of,
    start_run,
    write_csv,
    write_evaluated,
    write_images,
    write_prepared,
    write_submission,
    write_sweep,
)


@pytest.fixture
def new_run() -> Callable[..., tuple[Loaded, Path]]:
    """`new_run("ExpAAB", "SOLVER.MAX_LR=0.01")`: a resolved config and the folder of its still empty run."""

    def start(name: str, *overrides: str) -> tuple[Loaded, Path]:
        loaded = load(name, tuple(overrides))
        return loaded, start_run(loaded)

    return start


@pytest.fixture
def quick_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages get a blank image for each plot; the plots themselves are tested in `test_plots.py`."""
    blank = encode_png(Image.new("RGB", (20, 10)))
    for module in ("results", "background", "side_page", "diagnosis"):
        monkeypatch.setattr(f"pipeline.report.{module}.themed", lambda draw, alt: themed(lambda theme: blank, alt))


@pytest.fixture
def finished_run(new_run: Callable[..., tuple[Loaded, Path]]) -> tuple[Loaded, Path]:
    """A run of ExpAAD, which cuts tiles, with every file that the stages write."""
    loaded, folder = new_run("ExpAAD")
    write_prepared(folder)
    write_sweep(folder)
    write_csv(folder / "history.csv", *make_history())
    write_csv(
        folder / "timings.csv", ["epoch", "seconds", "samples_per_s"], [[epoch, 30.0, 20.0] for epoch in range(1, 9)]
    )
    write_evaluated(folder)
    write_images(folder)
    write_submission(loaded.run, metrics_of()["scores"]["dice"]["mean"])
    mark_stages(folder, prepare=1.5, tile=2.0, sweep=3.0, train=100.0, evaluate=4.0, predict=5.0, submit=0.5)
    return loaded, folder
