"""The check of a file against its competition: what is proved wrong refuses it, everything else is a warning.

In: a file of any format, the competition, the size of each test image, its sample submission. Out: problems, of which
those that begin with `WARNING` refuse nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.submission.formats import format_of_file
from pipeline.submission.write import is_own

WARNING = "warning: "
Sizes = Mapping[str, tuple[int, int]]


def require_good(
    path: Path | str,
    competition: Competition,
    sizes: Sizes,
    sample_submission: Path | str | None = None,
    num_shown: int = 20,
) -> list[str]:
    """Returns the warnings about a submission.

    Args:
        sizes: (height, width) of each test image; its keys are the ids that must be there.
        sample_submission: the competition's own, where there is one.

    Raises:
        UserError: something is proved wrong with it; shows the first `num_shown` problems.
    """
    problems = check_submission(path, competition, sizes, sample_submission)
    faults = [problem for problem in problems if not problem.startswith(WARNING)]
    if faults:
        table = "\n".join(f"{number:>4}  {fault}" for number, fault in enumerate(faults[:num_shown], start=1))
        rest = f"\n      and {len(faults) - num_shown} more" if len(faults) > num_shown else ""
        count = "1 problem" if len(faults) == 1 else f"{len(faults)} problems"
        raise UserError(
            f"{path} cannot be submitted to {competition.name}: {count}\n{table}{rest}\n"
            "It was checked against the test images and SUBMISSION, CONVENTION and SAMPLE_SUBMISSION in "
            f"configs/competitions/{competition.name}.yaml."
        )
    return problems


def check_submission(
    path: Path | str, competition: Competition, sizes: Sizes, sample_submission: Path | str | None = None
) -> list[str]:
    """Returns what is wrong with a submission, in the order of the file; arguments as of `require_good`."""
    sample = Path(sample_submission) if sample_submission is not None else None
    return format_of_file(Path(path), competition).check(Path(path), competition, sizes, sample)


def find_hints(path: Path, competition: Competition, sizes: Sizes, skipped: Iterable[str] = ()) -> list[str]:
    """Returns, as warnings, what suggests that a file was written in another way than it is read.

    There are none on a file of our own, which was compared with its predictions when it was written. The images
    `skipped` are not read.
    """
    if is_own(path):
        return []
    form = format_of_file(path, competition)
    hints = form.hints(form.read(path, competition, sizes, skipped), competition)
    return [f"{WARNING}{path}: {hint}" for hint in hints]
