"""`submit`: decodes the test predictions, writes the submission and checks what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.data.catalog import read_catalog
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.files import check_writable
from pipeline.paths import DECODE, TEST_CATALOG
from pipeline.report.read import read_json
from pipeline.submission.formats import format_of
from pipeline.work.combining import forget_streamed, make_each
from pipeline.work.inputs import has_limit, member_runs
from pipeline.work.members import combination_facts
from pipeline.work.time_limit import submit_within_limit
from pipeline.work.writing import write_checked_submission


def submit(run: Run) -> None:
    """Writes the submission, the `.json` of its origin beside it, and `submission.json`."""
    check_file(run)
    decoding = decoding_facts(run)
    if has_limit(run):
        submit_within_limit(run, decoding)
    else:
        decode = run.task.decoder(run, combination_facts(run), decoding)
        everyone = range(len(member_runs(run)))
        wanted = dict.fromkeys(read_catalog(run.paths / TEST_CATALOG)["id"], everyone)
        decoded = make_each(run, "test", wanted, "test", lambda image_id, predictions: {"mask": decode(predictions)})
        write_checked_submission(run, lambda image_id: decoded(image_id)["mask"], decoding)
    forget_streamed(run)


def check_file(run: Run) -> None:
    """Refuses a SUBMIT.FILE that has another suffix than the competition's submissions, or is a folder.

    Raises:
        UserError: says what was found and expected; or the folder of submissions cannot be written.
    """
    check_writable(run.folders.submissions, "SUBMISSIONS_DIR")
    name, suffix = run.loaded.config.submit.file, format_of(run.loaded.competition).suffix
    if name is not None and (Path(name).suffix.lower() != suffix or Path(name).expanduser().is_dir()):
        raise UserError(f"SUBMIT.FILE: found {name}, expected the path of a {suffix} file, such as submission{suffix}")


def decoding_facts(run: Run) -> dict[str, Any]:
    """Returns the content of decode.json; empty where DECODE fits nothing, and then an older file is removed."""
    if run.loaded.config.decode.needs_images:
        return read_json(run.paths / DECODE)
    (run.paths / DECODE).unlink(missing_ok=True)
    return {}
