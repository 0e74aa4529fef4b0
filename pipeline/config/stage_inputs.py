"""Groups of config keys and of files by what depends on them, for the table of stages in `pipeline/stages.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.paths import (
    AVERAGE,
    BEST,
    BOX_FACTS,
    CANDIDATES,
    CLASSES,
    CLOCK,
    CONFUSION,
    CROPS,
    DECODE,
    DIAGNOSIS,
    ENSEMBLE,
    EVENTS,
    GALLERY,
    GALLERY_LIST,
    HISTORY,
    IMAGES,
    LABELS,
    LAST,
    LEAKAGE,
    MEMBERS,
    MEMORY,
    METRICS,
    PANELS,
    PER_IMAGE,
    PLAN_CHANGES,
    PLAN_FILE,
    PLOTS,
    PSEUDO_TABLE,
    REFUSAL,
    SCENES,
    SPLIT,
    STEPS,
    STORES,
    SUBMISSION,
    SUSPICIOUS,
    SWEEP_FACTS,
    SWEEP_TABLE,
    TEST_CATALOG,
    TILES,
    TIMINGS,
    TRAIN_CATALOG,
    provenance_file,
)

if TYPE_CHECKING:
    from pipeline.config.load import Loaded

NETWORK = ("MODEL.NAME", "MODEL.ENCODER.NAME", "MODEL.ENCODER.WEIGHTS", "MODEL.ENCODER.IMAGE_SIZE")
NETWORK += ("MODEL.OPTIONS", "MODEL.AUX_WEIGHT", "DATASETS.INPUT_SCALE")
NETWORK += tuple(f"DATASETS.AUGMENTATION.TILE.{key}" for key in ("ENABLE", "WIDTH", "HEIGHT"))  # may be its only size
# Of the competition's description: what a network is trained on. Its name and its submissions train nothing anew.
TRAINED = (
    *("COMPETITION.TASK", "COMPETITION.CLASSES", "COMPETITION.IGNORE_INDEX", "COMPETITION.MASK_VALUES"),
    *("COMPETITION.MASKS", "COMPETITION.MASK_FOLDER", "COMPETITION.VALID_REGION", "COMPETITION.ID_FORMAT"),
    *("COMPETITION.MASK_SIZE",),
    *("COMPETITION.IMAGE", "COMPETITION.SUBMITTED", "COMPETITION.CONVENTION.ROWS", "COMPETITION.LABELS"),
    *("COMPETITION.OBJECTS.BORDER", "COMPETITION.OBJECTS.BORDER_WIDTH", "COMPETITION.ANNOTATORS"),
)
SHOWN = (*TRAINED, "COMPETITION.COLORS")
SCORING = ("COMPETITION.SCORE", "COMPETITION.SCORE_OPTIONS", "COMPETITION.OBJECTS")
PREDICTION = (*NETWORK, *SHOWN, "DATASETS.PADDING", "DATALOADERS.VALID", "PREDICT")
PREDICTION += ("SOLVER.PRECISION", "SOLVER.REPRODUCIBLE")
TEST = ("COMPETITION", "DATASETS.COMPETITION", "DATASETS.TEST_DIRECTORY")
TRAINING = (*NETWORK, *TRAINED, "EXPERIMENT.LOAD_PREV", "EXPERIMENT.LOAD_PART", "EXPERIMENT.SEED")
TRAINING += ("DATALOADERS", "LOSS_FN", "SOLVER")
RANKS = ("RUNTIME.RANKS",)  # counts where RUNTIME.SYNC_BATCH_NORM is false, see `Loaded.settings`
SAMPLES = ("DATASETS.AUGMENTATION", "DATASETS.CLASSES", "DATASETS.PADDING", "DATASETS.SAMPLING")
SUBMITTING = ("COMPETITION", "DECODE", "SUBMIT.TIME_LIMIT_HOURS")
SPLITTING = ("DATASETS.COMPETITION", "DATASETS.SPLIT", "DATASETS.SPLIT_INDEX")
ALL = (
    *("ABOUT", "COMPETITION", "EXPERIMENT", "MODEL", "DATASETS", "DATALOADERS", "LOSS_FN", "SOLVER", "SWEEP"),
    *("AVERAGE", "PREDICT", "DECODE", "ENSEMBLE", "SUBMIT.TIME_LIMIT_HOURS", "PSEUDO", "REPORT"),
)
# Files: what training reads of the images, and what the report shows.
CUT = (TRAIN_CATALOG, LABELS, IMAGES, SPLIT, TILES)
DIAGNOSED = (DIAGNOSIS, BOX_FACTS, SUSPICIOUS, CROPS, GALLERY)  # left by `evaluate` for the report alone
REPORTED = (
    *(TRAIN_CATALOG, TEST_CATALOG, CLASSES, SPLIT, LEAKAGE, SWEEP_TABLE, SWEEP_FACTS, HISTORY, METRICS, PER_IMAGE),
    *(PLAN_CHANGES, CONFUSION, AVERAGE, DECODE, SUBMISSION, REFUSAL, PLOTS, PANELS, SCENES, DIAGNOSIS, SUSPICIOUS),
    *(BOX_FACTS, GALLERY_LIST),
)
LEFT_BY_TRAINING = (
    *(LAST, CANDIDATES, TIMINGS, STEPS, PLAN_CHANGES, CLOCK, PLAN_FILE, MEMORY, EVENTS, SCENES),
    provenance_file("train"),
)
REPORTED_OF_ENSEMBLE = (
    *(MEMBERS, STORES, TRAIN_CATALOG, TEST_CATALOG, CLASSES, METRICS, PER_IMAGE, CONFUSION, ENSEMBLE, DECODE),
    *(SUBMISSION, REFUSAL, PANELS, DIAGNOSIS, SUSPICIOUS, GALLERY_LIST),
)
# All but the share in a batch, which training alone goes by.
PSEUDO_LABELLING = tuple(
    f"PSEUDO.{key}" for key in ("TEACHER", "IMAGES", "CONFIDENCE", "AGREEMENT", "LABELS", "MIN_LABELLED")
)
PSEUDO_TRAINED = ("PSEUDO.TEACHER", "PSEUDO.SHARE")


def with_pseudo(names: tuple[str, ...], *own: str) -> Callable[[Any], tuple[str, ...]]:
    """Returns a function from a run to names, and to `own` as well where there are pseudo-labels.

    Without them no result depends on their keys and files, and none is made anew because they exist.
    """
    return lambda run: (*names, *(own if run.loaded.has_pseudo_labels else ()))


def tile_keys(run: Any) -> tuple[str, ...]:
    """Returns the keys that `tile` depends on; with boxes also those of the anchors, since their fit is drawn."""
    cutting = (*SHOWN, "DATASETS.AUGMENTATION", "DATASETS.PADDING", "DATASETS.SPLIT_INDEX", "EXPERIMENT.SEED")
    anchors = ("MODEL.NAME", "MODEL.OPTIONS", "DATASETS.INPUT_SCALE") if run.loaded.competition.has_boxes else ()
    return (*with_pseudo(cutting, "PSEUDO.TEACHER", "PSEUDO.IMAGES")(run), *anchors)


def train_keys(run: Any) -> tuple[str, ...]:
    """Returns the keys of `train`: SCORE_OPTIONS where the score that chooses `best` has some.

    COMPETITION.SCORE is none of them: it adds columns to the history, but changes no weights. AVERAGE counts where it
    decides which epochs are kept.
    """
    from pipeline.config.competition import OPTION_OF  # needs PyYAML, which the tables do not

    watched = run.loaded.config.solver.monitor.removeprefix("valid_")
    has_options = any(watched in owners for owners in OPTION_OF.values())
    more = ("COMPETITION.SCORE_OPTIONS",) if has_options else ()
    more += ("AVERAGE.METHOD", "AVERAGE.COUNT") if run.loaded.config.average.keeps_epochs else ()
    return (*with_pseudo((*TRAINING, *SAMPLES, *SPLITTING, *RANKS), *PSEUDO_TRAINED)(run), *more)


def train_reads(run: Any) -> tuple[str, ...]:
    """Returns the files that `train` reads."""
    suggestion = (SWEEP_FACTS,) if run.loaded.config.solver.max_lr == "auto" else ()
    return (*with_pseudo(CUT, PSEUDO_TABLE)(run), *suggestion)


def average_reads(run: Any) -> tuple[str, ...]:
    """Returns the files that `average` reads: the weights, and the samples for statistics of batch norms."""
    kept = (CANDIDATES,) if run.loaded.config.average.keeps_epochs else ()
    return (BEST, HISTORY, *with_pseudo(CUT, PSEUDO_TABLE)(run), *kept)


def is_fitted(loaded: Loaded) -> bool:
    """Returns whether DECODE has something that is fitted or measured."""
    return loaded.config.decode.needs_images


def has_limit(loaded: Loaded) -> bool:
    """Returns whether there is a time limit: a run without members then predicts in `submit`."""
    return loaded.config.submit.time_limit_hours is not None
