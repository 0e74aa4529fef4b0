"""`testset`: checks every test image and the sample submission; writes the test catalog.

A stage of its own: a hidden test set is catalogued and predicted without any training image or label.
"""

from __future__ import annotations

from pipeline.data.catalog import build_test_catalog, write_table
from pipeline.data.problems import format_problems, make_problem
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.paths import IMAGES, TEST_CATALOG, shown
from pipeline.report.read import read_json
from pipeline.submission.formats import format_of
from pipeline.work.inputs import sample_path, test_folder


def testset(run: Run) -> None:
    """Writes the catalog of the test images.

    Raises:
        UserError: files or lists have problems; all of them, each with its fix.
    """
    competition, folder, sample = run.loaded.competition, test_folder(run), sample_path(run)
    is_hidden = run.loaded.config.datasets.test_directory is not None
    number_format = (read_json(run.paths / IMAGES) or {}).get("dtype")
    catalog, problems = build_test_catalog(competition, folder, is_hidden, number_format)
    if sample is not None and sample.exists() and not sample.is_file():  # opening a pipe would block forever
        problems.append(make_problem("not a file", sample.name, "a folder, device, pipe or socket"))
    elif sample is not None:
        form = format_of(competition)
        problems += form.check_sample(form.like_sample(competition, sample), sample, set(catalog["id"]))
    if problems:
        raise UserError(f"{shown(folder)} cannot be used as it is:\n{format_problems(problems)}")
    write_table(run.paths / TEST_CATALOG, catalog)
    run.log(f"{len(catalog)} test images")
