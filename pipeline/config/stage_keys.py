"""Groups of config keys by what depends on them, for the table of stages in `pipeline/stages.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config.load import Loaded

NETWORK = ("MODEL.NAME", "MODEL.ENCODER.NAME", "MODEL.ENCODER.WEIGHTS", "MODEL.ENCODER.IMAGE_SIZE")
NETWORK += ("MODEL.OPTIONS", "MODEL.AUX_WEIGHT", "DATASETS.UPSCALE")
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
SAMPLES = ("DATASETS.AUGMENTATION", "DATASETS.CLASSES", "DATASETS.PADDING", "DATASETS.SAMPLING")
SUBMITTING = ("COMPETITION", "DECODE", "SUBMIT.TIME_LIMIT_HOURS")
SPLITTING = ("DATASETS.COMPETITION", "DATASETS.SPLIT", "DATASETS.SPLIT_INDEX")
ALL = (
    *("ABOUT", "COMPETITION", "EXPERIMENT", "MODEL", "DATASETS", "DATALOADERS", "LOSS_FN", "SOLVER", "SWEEP"),
    *("PREDICT", "DECODE", "ENSEMBLE", "SUBMIT.TIME_LIMIT_HOURS", "PSEUDO"),
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


def train_keys(run: Any) -> tuple[str, ...]:
    """Returns the keys of `train`: SCORE_OPTIONS where the score that chooses `best` has some.

    COMPETITION.SCORE is none of them: it adds columns to the history, but changes no weights.
    """
    from pipeline.config.competition import OPTION_OF  # needs PyYAML, which the tables do not

    watched = run.loaded.config.solver.monitor.removeprefix("valid_")
    has_options = any(watched in owners for owners in OPTION_OF.values())
    options = ("COMPETITION.SCORE_OPTIONS",) if has_options else ()
    return (*with_pseudo((*TRAINING, *SAMPLES, *SPLITTING), *PSEUDO_TRAINED)(run), *options)


def is_fitted(loaded: Loaded) -> bool:
    """Returns whether DECODE has something that is fitted or measured."""
    return loaded.config.decode.needs_images


def has_limit(loaded: Loaded) -> bool:
    """Returns whether there is a time limit: a run without members then predicts in `submit`."""
    return loaded.config.submit.time_limit_hours is not None
