"""The chain, as a table. Read this first.

    ./run.sh ExpAAB            runs every stage of configs/ExpAAB.yaml in this order
    ./run.sh ExpAAB train      runs up to `train`

A stage reads files and writes files below `runs/ExpAAB/`. It is skipped while the content of what it reads, the
settings named here and what it wrote are as they were; `chain.py` decides and says why. Its work is in `work/`.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.chain import Run, Stage
from pipeline.config.ensemble import is_ensemble
from pipeline.config.load import Loaded
from pipeline.work import ensemble, experiment, members

NETWORK = ("MODEL.NAME", "MODEL.ENCODER.NAME", "MODEL.ENCODER.WEIGHTS")
# Of the competition's description: what is loss_classes. Its name and how it wants submissions train no network anew.
LEARNT = ("COMPETITION.CLASSES", "COMPETITION.IGNORE_INDEX", "COMPETITION.MASK_VALUES", "COMPETITION.CONVENTION.ROWS")
SHOWN = (*LEARNT, "COMPETITION.COLORS")
PREDICTION = (
    *(*NETWORK, *SHOWN, "DATASETS.PADDING", "DATALOADERS.VALID", "PREDICT"),
    *("SOLVER.PRECISION", "SOLVER.REPRODUCIBLE"),
)
REPORTED = (
    *("catalog.csv", "classes.csv", "split.csv", "leakage.csv", "lr_sweep.csv", "lr_sweep.json", "history.csv"),
    *("metrics.json", "per_image.csv", "confusion.csv", "decode.json", "submission.json", "plots", "panels"),
)
ALL = (
    *("ABOUT", "COMPETITION", "EXPERIMENT", "MODEL", "DATASETS", "DATALOADERS", "LOSS_FN", "SOLVER", "SWEEP"),
    *("PREDICT", "DECODE", "ENSEMBLE"),
)
CUT = ("catalog.csv (train)", "split.csv", "tiles.json")  # another test set trains no network anew
START = ("EXPERIMENT.LOAD_PREV", "EXPERIMENT.SEED")


def _train_reads(loaded: Loaded) -> tuple[str, ...]:
    suggestion = ("lr_sweep.json",) if loaded.config.solver.max_lr == "auto" else ()
    return (*CUT, *suggestion)


def _submit_reads(loaded: Loaded) -> tuple[str, ...]:
    decode = loaded.config.decode
    judged = ("probs/valid", "split.csv") if "fitted" in (decode.suppress, decode.offsets) else ()
    return ("probs/test", "catalog.csv (test)", "metrics.json", *judged)


def _starting_weights(run: Run) -> dict[str, Path | list[Path]]:
    """Returns the weights that training starts from, so that other weights mean another result."""
    from pipeline.model.weights import find_encoder_weights

    if run.loaded.config.experiment.load_prev is not None:
        return {"the previous run's best checkpoint": experiment.find_run(run.loaded.config.experiment.load_prev)}
    path = find_encoder_weights(run.loaded.config.model.encoder)
    return {"the encoder's weights": path} if path else {}


STAGES = (
    Stage(
        "prepare",
        "checks every image and mask, counts classes, splits",
        experiment.prepare,
        settings=("COMPETITION", "DATASETS.COMPETITION", "DATASETS.SPLIT", "DATASETS.SPLIT_INDEX"),
        reads_outside=lambda run: {"the competition's files": experiment.competition_files(run)},
        writes=("catalog.csv", "classes.csv", "split.csv", "leakage.csv"),
        leaves=("plots/class_*.png",),
        is_shared=True,
    ),
    Stage(
        "tile",
        "cuts the scales into the tile store, draws augmented samples",
        experiment.tile,
        settings=(
            *(*SHOWN, "DATASETS.AUGMENTATION", "DATASETS.PADDING", "DATASETS.SPLIT_INDEX"),
            "EXPERIMENT.SEED",
        ),
        reads=("catalog.csv (train)", "split.csv"),
        reads_outside=lambda run: experiment.images_of(run, "train"),
        writes=("tiles.json", "plots/samples.png"),
        leaves=("plots/tile_grid_*.png",),
        is_shared=True,
        lacks=experiment.lacks_tiles,
    ),
    Stage(
        "sweep",
        "tries learning rates and plots the loss against them",
        experiment.sweep,
        settings=(*NETWORK, *START, *LEARNT, "DATASETS", "DATALOADERS", "LOSS_FN", "SOLVER", "SWEEP"),
        reads=CUT,
        reads_outside=_starting_weights,
        writes=("lr_sweep.csv", "lr_sweep.json", "lr_sweep.png"),
        version=3,  # auto takes the trough; an image that is judged alone goes by its own statistics
        is_shared=True,
    ),
    Stage(
        "train",
        "carries out the training plan",
        experiment.train,
        settings=(*NETWORK, *START, *LEARNT, "DATASETS", "DATALOADERS", "LOSS_FN", "SOLVER"),
        reads=_train_reads,
        reads_outside=_starting_weights,
        check=experiment.check_start,
        writes=("best.ckpt", "history.csv"),
        leaves=("last.ckpt", "timings.csv", "events"),
        is_shared=True,
    ),
    Stage(
        "evaluate",
        "predicts and scores the validation images",
        experiment.evaluate,
        settings=(*PREDICTION, "COMPETITION.SCORE", "DATASETS.SPLIT", "DATASETS.SPLIT_INDEX"),
        reads=("best.ckpt", "catalog.csv (train)", "split.csv", "classes.csv", "leakage.csv"),
        reads_outside=lambda run: experiment.images_of(run, "train"),
        writes=("metrics.json", "per_image.csv", "confusion.csv", "probs/valid", "panels"),
        version=3,  # scores by name
        is_shared=True,
    ),
    Stage(
        "predict",
        "writes the test images' probabilities",
        experiment.predict,
        settings=PREDICTION,
        reads=("best.ckpt", "catalog.csv (test)"),
        reads_outside=lambda run: experiment.images_of(run, "test"),
        writes=("probs/test",),
        version=2,  # full-size logits became bytes
        is_shared=True,
    ),
    Stage(
        "submit",
        "decodes, run-length encodes and checks the submission",
        experiment.submit,
        settings=("COMPETITION", "DECODE"),
        reads=_submit_reads,
        reads_outside=experiment.sample_submission,
        writes=("submission.json",),
        writes_outside=lambda run: {"the submission file": run.paths.submission},
    ),
    Stage(
        "report",
        "writes the one page that tells everything",
        experiment.report,
        settings=ALL,
        reads=REPORTED,
        reads_outside=lambda run: {"the submission file": run.paths.submission},
        writes=("report.html",),
    ),
)


# An ensemble trains nothing: its members are experiments of their own.
ENSEMBLE_STAGES = (
    Stage(
        "predict",
        "makes sure that every member has predicted",
        lambda run: ensemble.predict(run, stages_of),
        settings=("COMPETITION", "ENSEMBLE.MEMBERS"),
        reads_outside=members.member_sources,
        writes=("members.json", "stores.json", "catalog.csv", "split.csv", "classes.csv", "leakage.csv"),
        lacks=members.lacks_predictions,
        version=3,  # scores by name
    ),
    Stage(
        "evaluate",
        "combines them on images that they did not train on, and scores",
        ensemble.evaluate,
        settings=(*SHOWN, "COMPETITION.SCORE", "ENSEMBLE"),
        reads=("members.json", "catalog.csv", "split.csv", "classes.csv", "leakage.csv"),
        reads_outside=lambda run: members.member_stores(run, "valid") | experiment.images_of(run, "train"),
        writes=("metrics.json", "per_image.csv", "confusion.csv", "ensemble.json", "panels"),
        version=2,  # scores by name
    ),
    Stage(
        "submit",
        "combines them on the test images, encodes and checks the submission",
        ensemble.submit,
        settings=("COMPETITION", "DECODE"),
        reads=("members.json", "catalog.csv", "split.csv", "metrics.json", "ensemble.json"),
        reads_outside=lambda run: members.member_stores(run, "test") | experiment.sample_submission(run),
        writes=("submission.json",),
        writes_outside=lambda run: {"the submission file": run.paths.submission},
    ),
    Stage(
        "report",
        "writes the one page that tells everything",
        experiment.report,
        settings=("ABOUT", "COMPETITION", "EXPERIMENT", "ENSEMBLE", "DECODE"),
        reads=(
            *("members.json", "stores.json", "catalog.csv", "classes.csv", "metrics.json", "per_image.csv"),
            *("confusion.csv", "ensemble.json", "decode.json", "submission.json", "panels"),
        ),
        reads_outside=lambda run: {"the submission file": run.paths.submission},
        writes=("report.html",),
    ),
)


def stages_of(loaded: Loaded) -> tuple[Stage, ...]:
    """Returns the stages of a config: an ensemble's, or an experiment's but for a sweep that is switched off."""
    if is_ensemble(loaded):
        return ENSEMBLE_STAGES
    return tuple(stage for stage in STAGES if stage.name != "sweep" or loaded.config.sweep.enable)
