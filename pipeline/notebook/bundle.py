"""An inference bundle: what a machine needs to predict with trained runs, and nothing that training needs.

In: a finished run, or a finished ensemble and the runs of its members. Out: a folder `<run>.bundle` for each, with the
weights without the state of the optimizer, and the facts of images, classes, scores and combination.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.config.drawn_seed import with_drawn_seed
from pipeline.config.load import Loaded, load
from pipeline.config.members import load_members, member_command, overrides_of
from pipeline.engine.run import Run, Stage
from pipeline.errors import UserError
from pipeline.files import second_name, sha256_file, write_json
from pipeline.paths import (
    AVERAGE,
    BUNDLE,
    BUNDLED,
    CLASSES,
    DECODE,
    ENSEMBLE,
    IMAGES,
    LABELS,
    MEMBERS,
    METRICS,
    PSEUDO_FACTS,
)
from pipeline.stages import ENSEMBLE_STAGES, STAGES
from pipeline.training.inputs import predicting_checkpoint

PREDICTING = ("testset", "submit")  # the stages that a bundle has all the files for
# Of one of them only some are there. METRICS: the local score, which the submission's origin repeats.
FACTS = (IMAGES, LABELS, CLASSES, METRICS, DECODE, AVERAGE, PSEUDO_FACTS, MEMBERS, ENSEMBLE)
NEEDED_OF_RUN, NEEDED_OF_ENSEMBLE = (IMAGES, METRICS), (IMAGES, METRICS, MEMBERS, ENSEMBLE)
# What is predicted, and how long it may take: not known where the bundle is made.
ASKED = ("DATASETS.TEST_DIRECTORY", "SUBMIT.TIME_LIMIT_HOURS", "SUBMIT.FILE")


def runs_of(run: Run) -> Iterator[Run]:
    """Yields a run and, of an ensemble, the runs of its members."""
    yield run
    for member in load_members(run.loaded) if run.loaded.is_ensemble else ():
        yield run.of(with_drawn_seed(member, run.folders.run(member.run).folder))


def write_bundle(run: Run, folder: Path) -> list[Path]:
    """Writes the bundles of a run and its members below `folder`; returns their folders.

    Raises:
        UserError: one of them is not finished; says what to type.
    """
    written = []
    for one in runs_of(run):
        require_finished(one)
        target = folder / f"{one.name}{BUNDLED}"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        if not one.loaded.is_ensemble:
            write_weights(predicting_checkpoint(one), target)
        for name in FACTS:
            if (one.paths / name).is_file():
                second_name(one.paths / name, target / name)
        hashes = {path.name: sha256_file(path) for path in sorted(target.iterdir())}
        write_json(target / BUNDLE, {"run": one.name, "config": one.loaded.name, "sha256": hashes})
        written.append(target)
    return written


def require_finished(run: Run) -> None:
    """Refuses a run that lacks something that a bundle must have.

    Raises:
        UserError: says what is absent, and the command that makes it.
    """
    is_ensemble = run.loaded.is_ensemble
    needed = [run.paths / name for name in (NEEDED_OF_ENSEMBLE if is_ensemble else NEEDED_OF_RUN)]
    if run.loaded.is_on_all_images:
        needed.remove(run.paths / METRICS)  # no image is left to score
    if not is_ensemble:
        needed.append(predicting_checkpoint(run))
    if run.loaded.config.decode.needs_images:
        needed.append(run.paths / DECODE)
    if absent := [path.name for path in needed if not path.is_file()]:
        last = run.stages[-1].name if run.loaded.is_on_all_images else "evaluate"
        last = "fit" if DECODE in absent else last
        raise UserError(
            f"{run.name} is not ready for an inference bundle, as it lacks {', '.join(absent)}; "
            f"type: {member_command(run.loaded, last)}"
        )


def write_weights(checkpoint: Path, folder: Path) -> None:
    """Writes a checkpoint without the state of the optimizer, which a run with RUNTIME.KEEP_STATE has kept.

    Raises:
        UserError: it is absent or damaged.
    """
    from pipeline.training.checkpoint import load_or_refuse, save_checkpoint
    from pipeline.training.kept import weights_alone

    save_checkpoint(folder / checkpoint.name, weights_alone(load_or_refuse(checkpoint, "train it again")))


def bundle_of(run: Run) -> Path:
    """Returns the folder in which the bundle of a run is, whatever it is asked to predict here."""
    asked_for = overrides_of(run.loaded, ASKED)
    return run.folders.runs / f"{load(run.loaded.name, asked_for, run.loaded.trusts_code).run}{BUNDLED}"


def is_bundled(run: Run) -> bool:
    """Returns whether a run has no training here, but a bundle."""
    return (bundle_of(run) / BUNDLE).is_file()


def stages_of_bundle(loaded: Loaded) -> tuple[Stage, ...]:
    """Returns the stages of a bundle; those of an ensemble predict with its members, too."""
    by_name = {stage.name: stage for stage in (*STAGES, *(ENSEMBLE_STAGES if loaded.is_ensemble else ()))}
    return tuple(by_name[name] for name in PREDICTING)


def open_bundle(run: Run) -> Run:
    """Puts the files of a bundle where the run and its members look for them; returns the run with a bundle's stages.

    Raises:
        UserError: there is no time limit, a member has no bundle, or a file is not what it was.
    """
    if run.loaded.config.submit.time_limit_hours is None:
        raise UserError(
            f"{run.loaded.name} is an inference bundle, which needs a time limit; add --time-limit TIME, e.g. 8.5h"
        )
    for one in runs_of(run):
        source = bundle_of(one)
        if not (source / BUNDLE).is_file():
            raise UserError(
                f"there is no {source.name} here; make the bundles again: "
                f"./run.sh kaggle {shlex.quote(run.loaded.name)} --predict"
            )
        for name, wanted in json.loads((source / BUNDLE).read_text(encoding="utf-8"))["sha256"].items():
            if not (source / name).is_file() or sha256_file(source / name) != wanted:
                raise UserError(f"{source / name} is absent or damaged; copy the bundle again")
            second_name(source / name, one.paths / name)
    return replace(run, stages_of=stages_of_bundle)
