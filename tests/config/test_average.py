"""Settings of AVERAGE that contradict each other are refused with what was found and what to set."""

from __future__ import annotations

import pytest

from pipeline.config.load import load
from pipeline.errors import UserError

SWA, GREEDY = "AVERAGE.METHOD=swa", "AVERAGE.METHOD=greedy"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["AVERAGE.RUNS=[ExpBAB]"], "AVERAGE.RUNS: has an effect with AVERAGE.METHOD greedy only; set METHOD: greedy"),
        (
            [SWA, "AVERAGE.RUNS=[ExpBAB]"],
            "AVERAGE.RUNS: METHOD swa averages epochs of this run alone; set METHOD: greedy",
        ),
        ([GREEDY], "AVERAGE.RUNS: greedy needs other runs of the same network; name them"),
        ([GREEDY, "AVERAGE.RUNS=[]"], "AVERAGE.RUNS: greedy needs other runs of the same network; name them"),
        ([GREEDY, "AVERAGE.RUNS=[ExpBAB, ExpBAB]"], "AVERAGE.RUNS: ExpBAB is given twice; name it once"),
        ([SWA, "AVERAGE.COUNT=1"], "AVERAGE.COUNT"),
        (["AVERAGE.METHOD=mean"], "AVERAGE.METHOD"),
        (
            [SWA, "SOLVER.PLAN=constant", "SOLVER.NUM_EPOCHS=4"],
            "AVERAGE.COUNT: 5, but SOLVER.PLAN constant has 4 epochs at most; give 4 or fewer",
        ),
        (
            [SWA, "DATASETS.SPLIT.BY=none", "SOLVER.FROM=ExpBAA"],
            "AVERAGE.METHOD: swa must prove its gain on validation images, which SPLIT.BY none does not have; set none",
        ),
    ],
)
def test_a_contradiction_is_refused(changes, message):
    with pytest.raises(UserError) as refusal:
        load("ExpBAA", tuple(changes))
    assert message in str(refusal.value)


def test_whether_a_run_averages_follows_from_the_method_and_an_ensemble_never_does():
    assert not load("ExpBAA").is_averaged and load("ExpBAA", (SWA,)).is_averaged
    soup = load("ExpBAA", (GREEDY, "AVERAGE.RUNS=[ExpBAB]"))
    assert soup.is_averaged and not soup.config.average.keeps_epochs
    assert soup.run != load("ExpBAA").run, "a soup has a run folder of its own"
    ensemble = load("EnsAAA", (SWA,))
    assert not ensemble.is_averaged
