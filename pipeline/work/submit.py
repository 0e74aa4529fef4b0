"""`submit`: decodes the test predictions, writes the submission and checks what was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tqdm import tqdm

from pipeline.data.catalog import read_catalog
from pipeline.engine.run import Run
from pipeline.files import sha256_file, write_json
from pipeline.paths import CONFIG, DECODE, METRICS, SUBMISSION, TEST_CATALOG, shown
from pipeline.report.read import read_json, score_warning
from pipeline.submission.file import require_good, write_submission
from pipeline.submission.formats import format_of
from pipeline.work.combining import forget_streamed, make_each
from pipeline.work.inputs import member_runs, sample_path
from pipeline.work.members import combination_facts


def submit(run: Run) -> None:
    """Writes the submission, the `.json` of its origin beside it, and `submission.json`."""
    decoding = decoding_facts(run)
    decode = run.task.decoder(run, combination_facts(run), decoding)
    everyone = range(len(member_runs(run)))
    wanted = dict.fromkeys(read_catalog(run.paths / TEST_CATALOG)["id"], everyone)
    decoded = make_each(run, "test", wanted, "test", lambda image_id, predictions: {"mask": decode(predictions)})
    write_checked_submission(run, lambda image_id: decoded(image_id)["mask"], decoding)
    forget_streamed(run)


def decoding_facts(run: Run) -> dict[str, Any]:
    """Returns the content of decode.json; empty where DECODE fits nothing, and then an older file is removed."""
    if "fitted" in vars(run.loaded.config.decode).values():
        return read_json(run.paths / DECODE)
    (run.paths / DECODE).unlink(missing_ok=True)
    return {}


def write_checked_submission(run: Run, decoded: Callable[[str], Any], decoding: Mapping[str, Any]) -> None:
    """Encodes the decoded test images, writes the submission and checks what was written.

    Args:
        decoded: what is submitted of a test image, by its id.
        decoding: the content of decode.json, for the submission's origin file.
    """
    form, sample = format_of(run.loaded.competition), sample_path(run)
    competition = form.like_sample(run.loaded.competition, sample)
    test = read_catalog(run.paths / TEST_CATALOG)
    metrics = read_json(run.paths / METRICS)
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
    path = run.paths.submission(form.suffix)
    write_submission(path, masks, test["id"].tolist(), competition, origin, sizes)
    for warning in require_good(path, competition, sizes, sample):
        run.log(warning)
    facts = {"sha256": sha256_file(path), "images": len(test), "checked": True}
    write_json(run.paths / SUBMISSION, facts)
    run.log(f"checked: {shown(path)}, {len(test):,} images")
