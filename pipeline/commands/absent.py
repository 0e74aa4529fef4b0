"""The stages that somebody has asked for, and why a config lacks one."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.load import Loaded
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.stages import ENSEMBLE_STAGES, has_test

NO_TEST = "the competition's file names no test images (TEST_CSV is null, no TEST_IMAGES); --test-dir names a folder"
ALL_DATA = "DATASETS.SPLIT.BY is none: no image is left for validation"
BUNDLED = "an inference bundle predicts and trains nothing"
WHY_OFF = {
    "sweep": "SWEEP.ENABLE is false",
    "evaluate": ALL_DATA,
    "fit": "no DECODE setting is fitted",
    **dict.fromkeys(("testset", "predict", "submit"), NO_TEST),
}


def check_stages(stages_named: Sequence[str], run: Run) -> str | None:
    """Returns the last of the stages that were named, in the run's order; None where none was.

    Raises:
        UserError: the run does not have one of them; says why.
    """
    known = [stage.name for stage in run.stages]
    for stage in stages_named:
        if stage not in known:
            name = run.loaded.name
            raise UserError(f"{name} has no stage {stage} ({why_absent(stage, run.loaded)}); it has {' '.join(known)}")
    return max(stages_named, key=known.index) if stages_named else None


def why_absent(name: str, loaded: Loaded) -> str:
    """Returns why a config does not have one of the stages."""
    if loaded.is_ensemble and name not in (stage.name for stage in ENSEMBLE_STAGES):
        return "an ensemble trains nothing"
    if name == "sweep" and loaded.is_on_all_images:
        return f"{ALL_DATA}; MAX_LR auto takes the rate of SOLVER.FROM"
    if name == "average":
        return "AVERAGE.METHOD is none"
    if name == "predict" and has_test(loaded):
        return "with a time limit, the stage submit makes the predictions"
    return WHY_OFF.get(name, BUNDLED)
