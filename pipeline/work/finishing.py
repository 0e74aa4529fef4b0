"""How long the stages behind training will take: what a run that has to finish in time leaves for them.

In: the network as it is, some validation images, and the seconds of the same stages where they have run before with
the same settings. Out: seconds, margin included. Predicting, decoding and scoring are tried on a few images, as
PREDICT has them predicted; the rest is a rule of thumb until it has run once.
"""

from __future__ import annotations

import time

import pandas as pd

from pipeline.data.catalog import read_catalog
from pipeline.data.loaders import image_loader, valid_batches
from pipeline.engine.dependence import settings_of
from pipeline.engine.freshness import plain, read_marker
from pipeline.engine.reuse import sibling_runs
from pipeline.engine.run import Run, Stage
from pipeline.paths import CHOSEN, DECODE, METRICS, REPORT, SUBMISSION, TEST_CATALOG, TEST_PROBS
from pipeline.training.inputs import split_rows
from pipeline.training.learner import Learner
from pipeline.work.inputs import competition_folder, has_limit, large_ids, sizes_of

MARGIN = 1.25
TRIED_IMAGES = 4
LEAST_CORE_S, MOST_BUSY = 0.05, 3.0  # less says nothing, and more is a moment that passes
LONG_S = 60.0  # what takes longer is tried once
FIXED_S = {METRICS: 6.0, TEST_PROBS: 4.0, SUBMISSION: 3.0, REPORT: 17.0}  # four times those of the demo: imports, page
DRAWN = 3.0  # times of scoring an image: gallery and calibration included; 2.1 in the demo
FITTED = 4.0  # of scoring all images: fitting a decoding


def finishing_seconds(run: Run, learner: Learner) -> float:
    """Returns how long the stages behind training take."""
    position = run.stages.index(run.stage("train"))
    tried, total = tried_seconds(run, learner), 0.0
    for stage in run.stages[position + 1 :]:
        total += max(known_seconds(run, stage), *(tried.get(name, 0.0) for name in stage.writes))
    return MARGIN * total


def known_seconds(run: Run, stage: Stage) -> float:
    """Returns how long a stage took with these settings, in this run or a sibling run; 0 where it never ran.

    The page depends on all settings, and that of other ones is as good.
    """
    settings, seconds = plain(settings_of(stage, run)), [0.0]
    for paths in (run.paths, *sibling_runs(run)):
        marker = read_marker(paths.marker(stage.name))
        if marker is not None and (marker.settings == settings or REPORT in stage.writes):
            seconds.append(marker.seconds)
    return max(seconds)


def tried_seconds(run: Run, learner: Learner) -> dict[str, float]:
    """Returns the expected seconds until each file is written, from predicting and scoring a few images.

    The network stays as it is.
    """
    has_validation = not run.loaded.is_on_all_images
    subset = "valid" if has_validation else "train"
    rows, test = split_rows(run.paths, subset), _test_rows(run)
    tried_px, predict_s, score_s, busy = _try(run, learner, rows)
    valid_px, test_px = (_pixels(one) for one in (rows if has_validation else rows.head(0), test))
    scored_s = valid_px * score_s / tried_px
    seconds = {
        METRICS: busy * FIXED_S[METRICS] + valid_px * predict_s / tried_px + DRAWN * scored_s,
        DECODE: FITTED * scored_s,
        TEST_PROBS: busy * FIXED_S[TEST_PROBS] + test_px * predict_s / tried_px,
        SUBMISSION: busy * FIXED_S[SUBMISSION] + test_px * score_s / tried_px,
        REPORT: busy * FIXED_S[REPORT],
    }
    if has_limit(run):  # then the submission is predicted where it is written
        seconds[SUBMISSION] += seconds[TEST_PROBS]
    average = run.loaded.config.average
    if average.method != "none":  # each candidate is validated, its batch norms are measured on samples
        num = max(average.count, 1 + len(average.runs or ()))
        seconds[CHOSEN] = num * (seconds[METRICS] + average.samples * predict_s / min(TRIED_IMAGES, len(rows)))
    return seconds


def _try(run: Run, learner: Learner, rows: pd.DataFrame) -> tuple[int, float, float, float]:
    """Predicts and scores some images.

    Returns:
        Their pixels; the seconds of both, without those of the start; and how many processes share a core, as scoring
        took so many times longer than the core worked on it.
    """
    task, folder = run.task, competition_folder(run)
    large = large_ids(rows, run.loaded.competition.image.whole_px)
    small = rows[~rows["id"].isin(large)]
    few = small if len(small) else rows.head(1)  # of large images one, whose windows are many
    count = min(TRIED_IMAGES, len(few))
    chosen = few.iloc[[index * len(few) // count for index in range(count)]].reset_index(drop=True)
    training = [module for module in learner.network.modules() if module.training]
    predictor = task.make_predictor(run.loaded, learner.network, learner.device, learner.precision)
    predict_s, predictions = 0.0, {}
    for _ in range(2):  # the first time starts kernels
        dataset = task.valid_data(run, folder, chosen.drop(columns="mask", errors="ignore"))
        loader = image_loader(dataset, run.loaded.config.dataloaders.valid.batch_size, task.collate_valid, 0)
        began_s = run.stop.now_s()
        for image_id, prediction in task.predict(predictor, valid_batches(loader)):
            predictions[image_id] = prediction
            task.pack(prediction)
        predict_s = run.stop.now_s() - began_s
        if predict_s > LONG_S:
            break
    began_s, wall_s, core_s = run.stop.now_s(), time.monotonic(), time.process_time()
    task.evaluate(run, folder, chosen, predictions.__getitem__)
    score_s = run.stop.now_s() - began_s
    wall_s, core_s = time.monotonic() - wall_s, time.process_time() - core_s
    for module in training:
        module.training = True
    busy = wall_s / core_s if core_s > LEAST_CORE_S else 1.0
    return _pixels(chosen), predict_s, score_s, min(max(1.0, busy), MOST_BUSY)


def _test_rows(run: Run) -> pd.DataFrame:
    path = run.paths / TEST_CATALOG
    return read_catalog(path) if path.is_file() else pd.DataFrame({"id": [], "height": [], "width": []})


def _pixels(rows: pd.DataFrame) -> int:
    return sum(height * width for height, width in sizes_of(rows))
