"""What is wrong with the runs of a submission: row by row, image by image, and over the whole file.

Comes in: the rows of each image. Goes out: problems in plain words, each naming line and row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.config.competition import Competition, Convention
from pipeline.submission.evidence import Evidence, base_shift, order_is_wrong, order_ratio, total, weigh
from pipeline.submission.rle import RleError, Runs, join_classes, paint, parse_runs
from pipeline.submission.rows import Row, row_classes, row_name

ALMOST_ALL = 0.9  # share of covered pixels from which on a submission is taken for one that means to cover all


@dataclass
class Finding:
    """What is known about one image; the counts are of sound images only."""

    image_id: str
    line: int
    num_pixels: int
    problems: list[str] = field(default_factory=list)
    reads_in_other_base: bool = False
    num_runs: int = 0
    num_classes: int = 0  # that have pixels
    covered_px: int = 0
    last_px: int = 0  # pixels up to the end of the last run
    evidence: Evidence | None = None

    def is_whole(self) -> bool:
        return self.covered_px == self.num_pixels

    def is_dense_start(self) -> bool:
        """Tells whether several classes cover the first pixels without a gap and then stop."""
        return self.num_classes > 1 and self.covered_px == self.last_px < self.num_pixels


def check_images(
    images: Mapping[str, Mapping[int, Row]], sizes: Mapping[str, tuple[int, int]], competition: Competition
) -> list[str]:
    """Returns the problems of all rows, then those that only the whole file shows.

    Args:
        images: the rows of each image by class index.
        sizes: (height, width) of each image.
        competition: classes and convention.
    """
    findings = [check_image(image_id, rows, sizes[image_id], competition) for image_id, rows in images.items()]
    problems = [problem for finding in findings for problem in finding.problems]
    complete = [
        finding
        for finding in findings
        if not finding.problems and len(images[finding.image_id]) == len(row_classes(competition))
    ]
    problems += _base_problems(findings, competition.convention)
    problems += _order_problems(findings, competition.convention)
    problems += _coverage_problems(complete)
    if not problems and not any(finding.num_runs for finding in findings):
        problems.append("every row is empty: no class has a single pixel in any image")
    return problems


def check_image(image_id: str, rows: Mapping[int, Row], size: tuple[int, int], competition: Competition) -> Finding:
    """Returns what is wrong with the rows of one image, and its counts where they are sound."""
    height, width = size
    convention = competition.convention
    finding = Finding(image_id, min(row.line for row in rows.values()), height * width)
    classes = sorted(rows)
    all_runs = []
    for index in classes:
        try:
            runs = parse_runs(rows[index].text, height * width, convention.base, convention.relative, convention.empty)
        except RleError as error:
            finding.problems.append(f"{row_name(rows[index])}: {error}")
            continue
        finding.problems += _touching_runs(rows[index], runs, convention.base)
        all_runs.append(runs)
    if len(all_runs) < len(classes):
        finding.reads_in_other_base = _reads_in_other_base(rows, height * width, convention)
        return finding
    runs, positions = join_classes(all_runs)
    finding.problems += _overlaps(runs, [rows[classes[position]] for position in positions.tolist()])
    if not finding.problems:
        finding.num_runs, finding.num_classes = runs.starts.size, np.unique(positions).size
        finding.covered_px = int(runs.lengths.sum())
        finding.last_px = int(runs.starts[-1] + runs.lengths[-1]) if runs.starts.size else 0
        finding.evidence = weigh(paint(runs, positions, height * width), height, width, convention.order)
    return finding


def _touching_runs(row: Row, runs: Runs, base: int) -> Iterator[str]:
    touching = np.flatnonzero(runs.starts[1:] == runs.starts[:-1] + runs.lengths[:-1])
    if touching.size:
        run = int(touching[0]) + 1
        yield f"{row_name(row)}: run {run + 1} (start {runs.starts[run] + base}) touches run {run}; they are one run"


def _overlaps(runs: Runs, owners: Sequence[Row]) -> Iterator[str]:
    """Yields the first clash between two rows; `owners` are the rows of the runs, which are sorted by start."""
    furthest = np.maximum.accumulate(runs.starts + runs.lengths)
    shared = np.minimum(furthest[:-1] - runs.starts[1:], runs.lengths[1:])
    clashes = np.flatnonzero(shared > 0)
    if clashes.size:
        second = int(clashes[0]) + 1
        first = int(np.flatnonzero(furthest[:second] > runs.starts[second])[0])
        yield (
            f"{row_name(owners[second])}: overlaps {row_name(owners[first])}; "
            f"{int(shared[clashes].sum())} pixels of the image are in more than one class"
        )


def _reads_in_other_base(rows: Mapping[int, Row], num_pixels: int, convention: Convention) -> bool:
    try:
        for row in rows.values():
            parse_runs(row.text, num_pixels, 1 - convention.base, convention.relative, convention.empty)
    except RleError:
        return False
    return True


def _base_problems(findings: Sequence[Finding], convention: Convention) -> Iterator[str]:
    """Yields one problem when the pixels were scored from the other base than the competition's."""
    other = 1 - convention.base
    num_healed = sum(finding.reads_in_other_base for finding in findings)
    if num_healed:
        yield (
            f"{num_healed} of {len(findings)} images are unreadable scored from {convention.base} but sound "
            f"scored from {other}: off by one?"
        )
        return
    shift = base_shift(total([finding.evidence for finding in findings if finding.evidence]))
    if shift:
        yield (
            f"all images lie {abs(shift)} pixel too {'late' if shift > 0 else 'early'}: classes change most often "
            f"there instead of at the end of the line. Counted from {other} instead of {convention.base}?"
        )


def _order_problems(findings: Sequence[Finding], convention: Convention) -> Iterator[str]:
    """Yields one problem for the whole file, or one per image when only some are transposed."""
    other = "column" if convention.order == "row" else "row"
    sound = [finding for finding in findings if finding.evidence]
    whole = total([finding.evidence for finding in sound if finding.evidence])
    if order_is_wrong(whole):
        worst = max(sound, key=lambda finding: order_ratio(finding.evidence) if finding.evidence else 0)
        yield (
            f"wrong orientation: read {other} by {other} instead of {convention.order} by {convention.order}, "
            f"neighbouring lines differ {order_ratio(whole):.1f} times less; clearest in line {worst.line} "
            f"({worst.image_id})"
        )
        return
    for finding in sound:
        if finding.evidence and order_is_wrong(finding.evidence):
            yield (
                f"line {finding.line} ({finding.image_id}): wrong orientation, this image makes more sense "
                f"read {other} by {other}, though the others do not"
            )


def _coverage_problems(complete: Sequence[Finding]) -> Iterator[str]:
    """Yields images with pixels of no class, where the submission means to give every pixel one."""
    cut_short = [finding for finding in complete if finding.is_dense_start()]
    if cut_short and 2 * len(cut_short) >= len(complete):
        first = cut_short[0]
        yield (
            f"{len(cut_short)} of {len(complete)} images are covered without a gap up to a pixel and not after it, "
            f"such as line {first.line} ({first.image_id}): {first.last_px} of {first.num_pixels}. "
            "Masks of another size than the images?"
        )
        return
    partial = [finding for finding in complete if not finding.is_whole()]
    num_whole = sum(finding.is_whole() for finding in complete)
    if num_whole and 2 * num_whole >= len(complete):
        for finding in partial:
            share = 1 - finding.covered_px / finding.num_pixels
            yield (
                f"line {finding.line} ({finding.image_id}): {share:.4%} of its pixels are in no class, "
                f"while {num_whole} of {len(complete)} images are covered whole"
            )
        return
    num_pixels = sum(finding.num_pixels for finding in complete)
    covered_share = sum(finding.covered_px for finding in complete) / max(num_pixels, 1)
    if partial and covered_share >= ALMOST_ALL:
        yield (
            f"warning: {1 - covered_share:.4%} of all pixels are in no class, in {len(partial)} of {len(complete)} "
            "images; fine only if the competition has pixels that no class may claim"
        )
