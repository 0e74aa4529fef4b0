"""`submit` of an ensemble: combines the members on the test images, encodes and checks the submission."""

from __future__ import annotations

from pipeline.data.catalog import read_catalog
from pipeline.engine.run import Run
from pipeline.paths import ENSEMBLE, TEST_CATALOG
from pipeline.report.read import read_json
from pipeline.work.combining import forget_streamed, make_each
from pipeline.work.evaluation import decoding_facts, write_checked_submission


def submit(run: Run) -> None:
    """Writes the submission, the `.json` of its origin beside it, and `submission.json`."""
    decoding = decoding_facts(run)
    decode = run.task.decoder(run, read_json(run.paths / ENSEMBLE), decoding)
    everyone = range(len(run.loaded.config.ensemble.members))
    wanted = dict.fromkeys(read_catalog(run.paths / TEST_CATALOG)["id"], everyone)
    decoded = make_each(run, "test", wanted, "test", lambda image_id, predictions: {"mask": decode(predictions)})
    write_checked_submission(run, lambda image_id: decoded(image_id)["mask"], decoding)
    forget_streamed(run)
