"""Other runs whose weights are averaged with a run's own (AVERAGE.RUNS): which may be, and what is read of them.

Their networks must be of the same architecture and classes, and must not have been trained on the validation images
that choose among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pipeline.engine.added import ADDED
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.paths import BEST, CONFIG, SPLIT, RunPaths, shown
from pipeline.report.folders import command_of
from pipeline.report.read import read_columns, read_config, show_value
from pipeline.report.trained_on import images_trained_on
from pipeline.training.checkpoint import load_or_refuse
from pipeline.training.learner import validated_weights
from pipeline.training.transfer import classes_of
from pipeline.wording import is_below

# What one network must have like the other. Weights from which they started decide how images are normalised, too.
ALIKE = ("MODEL.NAME", "MODEL.OPTIONS", "MODEL.AUX_WEIGHT", "DATASETS.COMPETITION", "DATASETS.INPUT_SCALE")
ALIKE += ("MODEL.ENCODER.NAME", "MODEL.ENCODER.WEIGHTS", "MODEL.ENCODER.IMAGE_SIZE")


def check_runs(run: Run) -> None:
    """Refuses runs in AVERAGE.RUNS that cannot be averaged with this one; what its own split says, once there is one.

    Raises:
        UserError: names the run, what differs, and what to type or to set.
    """
    for name in run.loaded.config.average.runs or ():
        if why := _why_not(run, name):
            raise UserError(f"AVERAGE.RUNS: {name} {why}")


def note_other_starts(run: Run) -> None:
    """Logs which runs in AVERAGE.RUNS began with other random weights than this one: a mean with them is poor."""
    previous, seed = _start(run.loaded.values)
    for name in run.loaded.config.average.runs or ():
        their_previous, their_seed = _start(read_config(run.folders.run(name) / CONFIG) or {})
        if their_seed != seed and (previous is None or their_previous != previous):
            found = f"{name} has the seed {their_seed} and this run {seed}"
            run.log(f"note: {found}, so their decoders started differently; a mean of such runs is rarely better")


def _start(values: Mapping[str, Any]) -> tuple[Any, int]:
    """Returns what a run started from (EXPERIMENT.LOAD_PREV), and the seed of what began with random weights."""
    from pipeline.data.split import split_seed  # needs pandas, which a check of freshness does without

    seed = values.get("EXPERIMENT.SEED")
    if seed is None:
        seed = split_seed(values.get("DATASETS.SPLIT_INDEX", 0))
    return values.get("EXPERIMENT.LOAD_PREV"), seed


def weights_of_run(run: Run, name: str) -> Mapping[str, Tensor]:
    """Returns the validated weights of another run's best checkpoint.

    Raises:
        UserError: it is gone or damaged.
    """
    folder = run.folders.run(name).folder
    remedy = f"train it: {command_of(folder, read_config(folder / CONFIG) or {})} train"
    return validated_weights(load_or_refuse(run.folders.run(name) / BEST, remedy))


def _why_not(run: Run, name: str) -> str | None:
    if name == run.name:
        return "is this run itself, which is always a candidate; remove it from the list"
    paths = run.folders.run(name)
    if not (paths.marker("train").is_file() and (paths / BEST).is_file()):
        found = f"is not trained ({shown(paths.folder)})"
        if (values := read_config(paths / CONFIG)) is None:
            return f"{found}; RUNS takes the names of run folders below {shown(run.folders.runs)}"
        return f"{found}; train it first: {command_of(paths.folder, values)} train"
    return _difference(run, paths) or _overlap(run, paths)


def _difference(run: Run, paths: RunPaths) -> str | None:
    """Returns by what another run's network differs from this one's, in words."""
    theirs = read_config(paths / CONFIG) or {}
    for key, own in run.loaded.values.items():
        other = theirs.get(key, _plain(ADDED.get(key)))
        if is_below(key, ALIKE) and other != _plain(own):
            found = f"has {key} {show_value(other)}, this run {show_value(_plain(own))}"
            return f"{found}; weights are averaged of one architecture only"
    classes, wanted = classes_of(paths / BEST), list(run.loaded.competition.class_names)
    if classes != wanted:
        return f"has the classes {', '.join(classes or ['?'])}, this run {', '.join(wanted)}; train it anew"
    return None


def _overlap(run: Run, paths: RunPaths) -> str | None:
    """Returns which of this run's validation images another one was trained on, in words."""
    split = read_columns(run.paths / SPLIT)
    if split is None:  # not split yet; asked again then
        return None
    seen = images_trained_on(paths, run.loaded.config.datasets.competition, run.folders)
    if seen is None:
        found = "started from weights of unknown origin (EXPERIMENT.LOAD_PREV)"
        return f"{found}, which may have been trained on validation images of this run; remove it from the list"
    valid = [image_id for image_id, subset in zip(split["id"], split["subset"], strict=True) if subset == "valid"]
    shared = [image_id for image_id in valid if image_id in seen]
    if not shared:
        return None
    found = f"was trained on {len(shared)} of the {len(valid)} validation images of this run, such as {shared[0]}"
    return f"{found}, so they cannot be used to choose; name runs with the same DATASETS.SPLIT and DATASETS.SPLIT_INDEX"


def _plain(value: Any) -> Any:
    """Returns a value of a config as its file has it: JSON has lists only."""
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value
