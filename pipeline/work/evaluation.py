"""What experiments and ensembles share: the files of an evaluation, and the checked submission."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from pipeline.data.catalog import read_catalog
from pipeline.engine.run import Run
from pipeline.files import atomic_path, sha256_file, write_atomic
from pipeline.paths import CONFIG, DECODE, LEAKAGE, METRICS, PER_IMAGE, SUBMISSION, TEST_CATALOG, shown
from pipeline.report.baseline import score_warning
from pipeline.report.read import read_json
from pipeline.scores import LABELS
from pipeline.submission.check import require_good
from pipeline.submission.formats import format_of
from pipeline.submission.write import write_submission
from pipeline.task import Evaluation
from pipeline.work.inputs import sample_path


def write_evaluation(
    run: Run, folder: Path, rows: pd.DataFrame, evaluation: Evaluation, facts: Mapping[str, Any]
) -> None:
    """Writes metrics.json, per_image.csv, the task's tables and the panels; logs the scores.

    Args:
        folder: of the competition.
        rows: catalog rows of the validation images.
        facts: the rest of metrics.json: `split` and `checkpoint`.
    """
    leaks = pd.read_csv(run.paths / LEAKAGE, dtype=str, keep_default_na=False)
    affected = {"near_duplicates": len(leaks), "valid_images_affected": int(leaks["valid_id"].nunique())}
    metrics = {**evaluation.metrics, **facts, "duplicates": affected}
    for name, table in {PER_IMAGE: evaluation.per_image, **evaluation.tables}.items():
        with atomic_path(run.paths / name) as path:
            table.to_csv(path, index=False, float_format="%.6f")
    write_atomic(run.paths / METRICS, json.dumps(metrics, indent=1))
    run.task.draw_panels(run, folder, rows, evaluation)
    run.log(scores_line(metrics))
    if warning := score_warning(metrics):
        run.log(f"warning: {warning}")


def scores_line(metrics: Mapping[str, Any]) -> str:
    """Returns the mean of each score, the competition's own first, and what the majority class gets of that.

    >>> scores = {"dice": {"mean": 0.75}, "miou": {"mean": None}}
    >>> majority = {"class": "Road", "scores": {"dice": 0.5}}
    >>> scores_line({"score": "dice", "scores": scores, "scored": ["Car"], "majority": majority})
    'validation  Dice 0.7500  mIoU –  (over Car; always predicting Road: Dice 0.5000)'
    """

    def text(name: str, value: float | None) -> str:
        return f"{LABELS.get(name, name)} {'–' if value is None else format(value, '.4f')}"

    main, names, majority = metrics["score"], metrics["scored"], metrics["majority"]
    scores = sorted(metrics["scores"].items(), key=lambda item: item[0] != main)
    means = "  ".join(text(name, family["mean"]) for name, family in scores)
    over = names[0] if len(names) == 1 else f"{len(names)} classes"
    guess = f"always predicting {majority['class']}: {text(main, majority['scores'][main])}"
    return f"validation  {means}  (over {over}; {guess})"


def decoding_facts(run: Run) -> dict[str, Any]:
    """Returns the content of decode.json; empty where DECODE fits nothing, and then an older file is removed."""
    decode = run.loaded.config.decode
    if "fitted" in (decode.offsets, decode.suppress):
        return read_json(run.paths / DECODE)
    (run.paths / DECODE).unlink(missing_ok=True)
    return {}


def write_checked_submission(run: Run, decoded: Callable[[str], Any], decoding: Mapping[str, Any]) -> None:
    """Encodes the decoded test images, writes the submission and checks what was written.

    Args:
        decoded: what is submitted of a test image, by its id.
        decoding: the content of decode.json, for the submission's origin file.
    """
    competition = run.loaded.competition
    test = read_catalog(run.paths / TEST_CATALOG)
    metrics = json.loads((run.paths / METRICS).read_text())
    origin = {
        "experiment": run.loaded.name,
        "run": run.name,
        "config_sha256": sha256_file(run.paths / CONFIG),
        "checkpoint_sha256": metrics["checkpoint"]["sha256"],
        "score": metrics["score"],
        "local_score": metrics["scores"][metrics["score"]]["mean"],
        "local_scores": {name: family["mean"] for name, family in metrics["scores"].items()},
        "split_by": metrics["split"]["by"],
        **run.task.decoding_origin(decoding),
    }
    if warning := score_warning(metrics):
        origin["warning"] = warning
        run.log(f"warning: {warning}")
    bar = tqdm(test["id"], desc="encode", leave=False, disable=None)
    masks = ((image_id, decoded(image_id)) for image_id in bar)
    sizes = {row.id: (row.height, row.width) for row in test.itertuples()}
    path = run.paths.submission(format_of(competition).suffix)
    write_submission(path, masks, test["id"].tolist(), competition, origin, sizes)
    for warning in require_good(path, competition, sizes, sample_path(run)):
        run.log(warning)
    facts = {"sha256": sha256_file(path), "images": len(test), "checked": True}
    write_atomic(run.paths / SUBMISSION, json.dumps(facts, indent=1))
    run.log(f"checked: {shown(path)}, {len(test):,} images")
