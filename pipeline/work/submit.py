"""`submit`: decodes the test predictions, writes the submission and checks what was written."""

from __future__ import annotations

from pipeline.engine.run import Run
from pipeline.prediction.load import open_predictions
from pipeline.work.evaluation import decoding_facts, write_checked_submission


def submit(run: Run) -> None:
    """Writes the submission, the `.json` of its origin beside it, and `submission.json`."""
    store, decoding = open_predictions(run, "test"), decoding_facts(run)
    decode = run.task.decoder(run, None, decoding)
    write_checked_submission(run, lambda image_id: decode([store[image_id]]), decoding)
