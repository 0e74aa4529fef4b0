"""`train`: carries out the training plan, from wherever an earlier process left it."""

from __future__ import annotations

import shutil

from pipeline.config.stage_inputs import DIAGNOSED
from pipeline.engine.run import Run
from pipeline.paths import CONFUSION, HPARAMS, LAST, METRICS, PANELS, PER_IMAGE, VALID_PROBS, VALID_STORE
from pipeline.training.all_data import check_source
from pipeline.training.assemble import assemble, start_learner
from pipeline.training.clock import open_clock, write_used
from pipeline.training.kept import announce, keep_weights
from pipeline.training.ranks import group
from pipeline.training.ranks.launch import ranks_of, run_ranks
from pipeline.training.resume import refuse_changed_past
from pipeline.training.tracking import check_installed
from pipeline.training.trainer import train as carry_out
from pipeline.work.finishing import finishing_seconds
from pipeline.work.inputs import competition_folder
from pipeline.work.provenance import recorded

SCORES = (METRICS, PER_IMAGE, CONFUSION, VALID_PROBS, PANELS, HPARAMS, *DIAGNOSED)


def train(run: Run) -> None:
    """Writes `best.ckpt`, `history.csv` and TensorBoard events, and while it trains `last.ckpt`."""
    check_installed(run)
    with recorded(run, "train"):
        num_ranks = ranks_of(run.loaded.config)
        if num_ranks == 1:
            _train(run)
        else:
            with run.stop.deferred():
                run_ranks(run, num_ranks, _train)


def _train(run: Run) -> None:
    """Does the work in this process, alone or as one of several ranks."""
    with group.first_before_others():
        training = assemble(run)
        if run.loaded.is_on_all_images and group.is_first():
            _remove_scores(run)
        training.clock = open_clock(run, lambda training: finishing_seconds(run, training.learner))
        if group.is_first():
            announce(run, training.learner)
    try:
        with run.stop.deferred():
            carry_out(training)
    finally:
        if training.clock is not None:
            write_used(training.clock)
    if group.is_first() and not run.loaded.config.runtime.keep_state:
        keep_weights(run)


def check_start(run: Run) -> None:
    """Refuses a network that cannot be built, get its first weights or predict, and a plan that changed too late."""
    if not (run.paths / VALID_STORE).is_file():
        competition_folder(run)  # missing data comes first
    check_installed(run)
    open_clock(run, lambda training: 0.0)
    ranks_of(run.loaded.config)
    if run.loaded.is_on_all_images:
        check_source(run.loaded, run.folders)
    if not run.is_forced:
        refuse_changed_past(run)
    if not (run.paths / LAST).exists():  # a training that continues needs no first weights, which may be gone by now
        learner = start_learner(run)
        run.task.make_predictor(run.loaded, learner.network, learner.device, learner.precision)


def _remove_scores(run: Run) -> None:
    """Removes the scores of an earlier state of a run that is on all images now: nothing may take them for its own."""
    for name in SCORES:
        path = run.paths / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    run.paths.marker("evaluate").unlink(missing_ok=True)
