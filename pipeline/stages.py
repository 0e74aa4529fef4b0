"""The stages and the tasks, as tables. Read this first.

    ./run.sh ExpAAB            runs every stage of configs/ExpAAB.yaml in this order
    ./run.sh ExpAAB train      runs up to `train`

A stage reads files and writes files below `runs/ExpAAB/`. It is skipped while the content of what it reads, the
settings named here and what it wrote are unchanged; `engine/chain.py` decides and logs why. The work is in `work/`,
one file per stage, imported only when the stage runs; so the tables need no package.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.config import stage_inputs as inputs
from pipeline.engine.run import Run, Stage, lazy, named
from pipeline.paths import (
    ANCHORS,
    ANCHORS_PLOT,
    AVERAGE,
    BEST,
    CHOSEN,
    CLASS_PLOTS,
    CLASSES,
    CONFUSION,
    DECODE,
    ENSEMBLE,
    HISTORY,
    HPARAMS,
    IMAGES,
    LABELS,
    LEAKAGE,
    MEMBERS,
    METRICS,
    PANELS,
    PER_IMAGE,
    PSEUDO_FACTS,
    PSEUDO_LABELS,
    PSEUDO_LEAKAGE,
    PSEUDO_PLOT,
    PSEUDO_TABLE,
    REPORT,
    SAMPLES_PLOT,
    SIGNATURES,
    SPLIT,
    STORES,
    SUBMISSION,
    SWEEP_FACTS,
    SWEEP_PLOT,
    SWEEP_TABLE,
    TEST_CATALOG,
    TEST_PROBS,
    TILE_PLOTS,
    TILES,
    TRAIN_CATALOG,
    VALID_PROBS,
    VALID_STORE,
    provenance_file,
)

if TYPE_CHECKING:
    from pipeline.config.load import Loaded
    from pipeline.task import Task


def _predicting(run: Run) -> str:
    return CHOSEN if run.loaded.is_averaged else BEST


def _decoding_reads(run: Run, *names: str) -> tuple[str, ...]:
    return (*names, *((DECODE,) if inputs.is_fitted(run.loaded) else ()))


STAGES = (
    Stage(
        "prepare",
        "check training images and labels, count classes, split",
        lazy("pipeline.work.prepare:prepare"),
        settings=("COMPETITION", *inputs.SPLITTING),
        reads_outside=lazy("pipeline.work.inputs:training_files"),
        writes=(TRAIN_CATALOG, LABELS, IMAGES, CLASSES, SPLIT, LEAKAGE),
        leaves=(CLASS_PLOTS, SIGNATURES),
        is_shared=True,
        done="prepared",
    ),
    Stage(
        "testset",
        "check test images and sample submission",
        lazy("pipeline.work.testset:testset"),
        settings=inputs.TEST,
        reads=(IMAGES,),
        reads_outside=lazy("pipeline.work.inputs:test_files"),
        writes=(TEST_CATALOG,),
        is_shared=True,
        done="prepared",
    ),
    Stage(
        "pseudo",
        "label unlabelled images with the teacher's predictions",
        lazy("pipeline.work.pseudo:pseudo"),
        settings=("COMPETITION", *inputs.PSEUDO_LABELLING, "DATASETS.COMPETITION"),
        reads=(TRAIN_CATALOG, IMAGES, SPLIT),
        reads_outside=lazy("pipeline.work.teacher:teacher_sources"),
        check=lazy("pipeline.work.teacher:check_teacher"),
        writes=(PSEUDO_TABLE, PSEUDO_LABELS, PSEUDO_LEAKAGE, PSEUDO_FACTS, PSEUDO_PLOT),
        is_shared=True,
        is_on=lambda loaded: loaded.has_pseudo_labels,
        done="pseudo-labelled",
    ),
    Stage(
        "tile",
        "cut the scales into the tile store, draw augmented samples",
        lazy("pipeline.work.tile:tile"),
        settings=inputs.tile_keys,
        reads=inputs.with_pseudo((TRAIN_CATALOG, LABELS, IMAGES, SPLIT), PSEUDO_TABLE, PSEUDO_LABELS),
        reads_outside=lazy("pipeline.work.teacher:tiled_images"),
        check=lazy("pipeline.work.tile:check_place"),
        writes=(TILES, SAMPLES_PLOT),
        leaves=(TILE_PLOTS, ANCHORS, ANCHORS_PLOT, VALID_STORE),
        is_shared=True,
        lacks=lazy("pipeline.work.inputs:lacks_tiles"),
        done="tiled",
    ),
    Stage(
        "sweep",
        "try learning rates, plot the loss against them",
        lazy("pipeline.work.sweep:sweep"),
        settings=inputs.with_pseudo(
            (*inputs.TRAINING, *inputs.SAMPLES, *inputs.SPLITTING, "SWEEP"), *inputs.PSEUDO_TRAINED
        ),
        reads=inputs.with_pseudo(inputs.CUT, PSEUDO_TABLE),
        reads_outside=lazy("pipeline.work.inputs:starting_weights"),
        writes=(SWEEP_TABLE, SWEEP_FACTS, SWEEP_PLOT),
        version=3,  # auto takes the trough; an image that is evaluated alone goes by its own statistics
        is_shared=True,
        is_on=lambda loaded: loaded.config.sweep.enable,
        done="swept",
    ),
    Stage(
        "train",
        "carry out the training plan",
        lazy("pipeline.work.train:train"),
        settings=inputs.train_keys,
        reads=inputs.train_reads,
        reads_outside=lazy("pipeline.work.inputs:starting_weights"),
        check=lazy("pipeline.work.train:check_start"),
        writes=(BEST, HISTORY),
        leaves=inputs.LEFT_BY_TRAINING,
        tidy=lazy("pipeline.work.tidy:remove_state"),
        is_shared=True,
        done="trained",
    ),
    Stage(
        "average",
        "average weights, and keep the mean where it is better out of fold",
        lazy("pipeline.work.average:average"),
        settings=inputs.with_pseudo(
            (*inputs.TRAINING, *inputs.SAMPLES, *inputs.SPLITTING, *inputs.SCORING, "AVERAGE"), *inputs.PSEUDO_TRAINED
        ),
        reads=inputs.average_reads,
        reads_outside=lazy("pipeline.work.inputs:averaged_sources"),
        check=lazy("pipeline.work.average_runs:check_runs"),
        writes=(CHOSEN, AVERAGE),
        is_shared=True,
        is_on=lambda loaded: loaded.is_averaged,
        done="averaged",
    ),
    Stage(
        "evaluate",
        "predict and score the validation images",
        lazy("pipeline.work.evaluate:evaluate"),
        settings=inputs.with_pseudo(
            (*inputs.PREDICTION, *inputs.SCORING, "SOLVER.MONITOR", "DATASETS.SPLIT", "DATASETS.SPLIT_INDEX"),
            "PSEUDO.TEACHER",
        ),
        reads=lambda run: inputs.with_pseudo(
            (_predicting(run), TRAIN_CATALOG, LABELS, IMAGES, SPLIT, CLASSES, LEAKAGE), PSEUDO_LEAKAGE
        )(run),
        reads_outside=lazy("pipeline.work.inputs:images_of", "train"),
        writes=(METRICS, PER_IMAGE, CONFUSION, VALID_PROBS, PANELS),
        leaves=(*inputs.DIAGNOSED, provenance_file("evaluate"), HPARAMS),
        version=3,  # scores by name
        is_shared=True,
        done="evaluated",
    ),
    Stage(
        "fit",
        "fit the decoding on out-of-fold images",
        lazy("pipeline.work.fit:fit"),
        settings=(*inputs.SHOWN, *inputs.SCORING, "DECODE"),
        reads=(VALID_PROBS, TRAIN_CATALOG, LABELS, IMAGES, SPLIT),
        reads_outside=lazy("pipeline.work.inputs:images_of", "train"),
        writes=(DECODE,),
        is_shared=True,
        is_on=inputs.is_fitted,
        done="fitted",
    ),
    Stage(
        "predict",
        "predict the test images",
        lazy("pipeline.work.predict:predict"),
        settings=inputs.PREDICTION,
        reads=lambda run: (_predicting(run), TEST_CATALOG, IMAGES),
        reads_outside=lazy("pipeline.work.inputs:images_of", "test"),
        writes=(TEST_PROBS,),
        version=2,  # full-size logits became bytes
        is_shared=True,
        done="predicted",
    ),
    Stage(
        "submit",
        "decode, encode and check the submission",
        lazy("pipeline.work.submit:submit"),
        settings=lambda run: (*inputs.SUBMITTING, *(inputs.PREDICTION if inputs.has_limit(run.loaded) else ())),
        reads=lambda run: _decoding_reads(
            run,
            *((_predicting(run), IMAGES) if inputs.has_limit(run.loaded) else (TEST_PROBS,)),
            *inputs.with_pseudo((TEST_CATALOG, METRICS), PSEUDO_FACTS)(run),
        ),
        reads_outside=lazy("pipeline.work.inputs:submitted_sources"),
        writes=(SUBMISSION,),
        writes_outside=lazy("pipeline.work.inputs:submission_files"),
        check=lazy("pipeline.work.submit:check_file"),
        done="submitted",
    ),
    Stage(
        "report",
        "write the page that shows all of it",
        lazy("pipeline.work.report:report"),
        settings=inputs.ALL,
        reads=inputs.with_pseudo(inputs.REPORTED, PSEUDO_FACTS, PSEUDO_TABLE, PSEUDO_LEAKAGE),
        reads_outside=lazy("pipeline.work.inputs:submission_file"),
        writes=(REPORT,),
        despite=("submit",),
        done="reported",
    ),
)


def _variant(name: str, **changes: Any) -> Stage:
    return replace(next(stage for stage in STAGES if stage.name == name), **changes)


# An ensemble trains nothing: its members are experiments of their own.
ENSEMBLE_STAGES = (
    Stage(
        "predict",
        "make sure that every member has predicted",
        lazy("pipeline.work.predict:predict_ensemble"),
        settings=("COMPETITION", "ENSEMBLE.MEMBERS", "DATASETS.TEST_DIRECTORY"),
        reads_outside=lazy("pipeline.work.inputs:member_sources"),
        writes=(MEMBERS, STORES, TRAIN_CATALOG, LABELS, IMAGES, TEST_CATALOG, SPLIT, CLASSES, LEAKAGE),
        lacks=lazy("pipeline.work.inputs:lacks_predictions"),
        version=3,  # scores by name
        done="predicted",
    ),
    _variant(
        "evaluate",
        does="combine them on images that they did not train on, and score",
        function=lazy("pipeline.work.evaluate:evaluate_ensemble"),
        settings=(*inputs.SHOWN, *inputs.SCORING, "ENSEMBLE"),
        reads=(MEMBERS, TRAIN_CATALOG, LABELS, IMAGES, SPLIT, CLASSES, LEAKAGE),
        reads_outside=lazy("pipeline.work.inputs:held_out_sources"),
        writes=(METRICS, PER_IMAGE, CONFUSION, ENSEMBLE, PANELS),
        version=2,  # scores by name
    ),
    _variant(
        "fit",
        does="fit the decoding on images that the members were not trained on",
        reads=(MEMBERS, TRAIN_CATALOG, LABELS, IMAGES, SPLIT, ENSEMBLE),
        reads_outside=lazy("pipeline.work.inputs:held_out_sources"),
    ),
    _variant(
        "submit",
        does="combine them on the test images, encode and check the submission",
        settings=inputs.SUBMITTING,
        reads=lambda run: _decoding_reads(run, MEMBERS, TEST_CATALOG, METRICS, ENSEMBLE),
        reads_outside=lazy("pipeline.work.inputs:test_sources"),
    ),
    _variant(
        "report",
        settings=("ABOUT", "COMPETITION", "EXPERIMENT", "ENSEMBLE", "DECODE", "SUBMIT.TIME_LIMIT_HOURS"),
        reads=inputs.REPORTED_OF_ENSEMBLE,
    ),
)
# Of a run on all images, which has no out-of-fold image to fit on.
DECODING_TAKEN = _variant(
    "fit",
    does="take the decoding that SOLVER.FROM fitted",
    function=lazy("pipeline.work.fit:take_fitted"),
    settings=(*inputs.SHOWN, *inputs.SCORING, "DECODE", "SOLVER.FROM"),
    reads=(),
    reads_outside=lazy("pipeline.work.fit:fitted_of_source"),
    check=lazy("pipeline.work.fit:check_fitted"),
    is_shared=False,
)
# By the competition's TASK. Named, not imported: a stage that is skipped must cost nothing.
TASKS = {"segmentation": "pipeline.segmentation.task:SEGMENTATION", "boxes": "pipeline.detection.task:BOXES"}
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def stages_of(loaded: Loaded) -> tuple[Stage, ...]:
    """Returns the stages of a config: an ensemble's or an experiment's, without those that are switched off."""
    stages = ENSEMBLE_STAGES if loaded.is_ensemble else STAGES
    off = {stage.name for stage in stages if not stage.is_on(loaded)}
    off |= {"testset", "predict", "submit"} if stages is STAGES and not has_test(loaded) else set()
    off |= {"predict"} if stages is STAGES and inputs.has_limit(loaded) else set()
    if loaded.is_on_all_images:
        off |= {"sweep", "evaluate"}
        stages = tuple(DECODING_TAKEN if stage.name == "fit" else stage for stage in stages)
    return tuple(stage for stage in stages if stage.name not in off)


def has_test(loaded: Loaded) -> bool:
    """Returns whether there are test images."""
    competition = loaded.competition
    return bool(competition.test_csv or competition.test_images or loaded.config.datasets.test_directory)


def task_of(loaded: Loaded) -> Task:
    """Returns the task of a config's competition."""
    return named(TASKS[loaded.competition.task])
