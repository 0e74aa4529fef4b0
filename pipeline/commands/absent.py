"""Why a config lacks a stage that somebody has asked for."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.load import Loaded
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.stages import ENSEMBLE_STAGES, has_test

NO_TEST = "the competition's file names no test images (TEST_CSV is null, no TEST_IMAGES); --test-dir names a folder"
ALL_DATA = "DATASETS.SPLIT.BY is none: no image is left for validation"
WHY_OFF = {
    "sweep": "SWEEP.ENABLE is false",
    "evaluate": ALL_DATA,
    "fit": "nothing of DECODE is fitted",
    **dict.fromkeys(("testset", "predict", "submit"), NO_TEST),
}


def refuse_absent(stages: Sequence[str], opened: Run) -> None:
    """Refuses the name of a stage that a run does not have.

    Raises:
        UserError: says why it has not, and which it has.
    """
    name, known = opened.loaded.name, [stage.name for stage in opened.stages]
    if absent := [stage for stage in stages if stage not in known]:
        why = why_absent(absent[0], opened.loaded)
        raise UserError(f"{name} has no stage {absent[0]} ({why}); it has {' '.join(known)}")


def why_absent(name: str, loaded: Loaded) -> str:
    """Returns why a config does not have one of the stages."""
    if loaded.is_ensemble and name not in (stage.name for stage in ENSEMBLE_STAGES):
        return "an ensemble trains nothing"
    if name == "sweep" and loaded.is_on_all_images:
        return f"{ALL_DATA}; MAX_LR auto takes the rate of SOLVER.FROM"
    if name == "average":
        return "AVERAGE.METHOD is none"
    if name == "predict" and has_test(loaded):
        return "with a time limit, submit predicts"
    return WHY_OFF[name]
