"""Run lengths and the checker of submissions on far more cases than the suite tries, each time other ones.

    python -m tests.long.submissions                     100,000 masks, 500,000 texts, 1,000 good files, 1,200 damaged
                                                         zips: minutes
    python -m tests.long.submissions --seed 7            the same cases again

Exit code 1 when a mask has other runs than pycocotools gives it, a spoilt text ends in another error than ours, a good
submission is refused, warned of or hinted at, one that is spoilt in a known way is not (refused where the fault is
proved, else warned of or hinted at), or a damaged zip passes with other masks than it was written with.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from itertools import product
from pathlib import Path

from tests.segmentation.submission.scenes import CONVENTIONS
from tests.segmentation.submission.test_check_run_lengths import (
    FAULTS,
    HINTS,
    WARNINGS,
    is_hinted_at,
    is_refused,
    is_warned_of,
    problems_of_good,
)
from tests.segmentation.submission.test_png_masks import FAULTS as ZIP_FAULTS
from tests.segmentation.submission.test_png_masks import count_undetected
from tests.segmentation.submission.test_png_masks import is_refused as is_zip_refused
from tests.segmentation.submission.test_rle import count_unlike_pycocotools, read_spoilt


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--masks", type=int, default=100_000)
    options.add_argument("--texts", type=int, default=500_000)
    options.add_argument("--good", type=int, default=1_000)
    options.add_argument("--zips", type=int, default=400, help="of each kind of damage")
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    chosen = options.parse_args()
    print(f"--seed {chosen.seed}", flush=True)
    num_unlike = count_unlike_pycocotools(chosen.masks, chosen.seed)
    print(f"{chosen.masks:,} masks: {num_unlike} with other runs than pycocotools", flush=True)
    num_read, num_refused = read_spoilt(chosen.texts, chosen.seed)  # ends in a traceback on another error than ours
    print(f"{chosen.texts:,} spoilt texts: {num_read:,} masks, {num_refused:,} refused, no other error", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = list(product(CONVENTIONS, (True, False)))
        refused = []
        for number in range(chosen.good):
            convention, whole = kinds[number % len(kinds)]
            problems = problems_of_good(folder, convention, chosen.seed + number, whole)
            refused += [f"{convention}, seed {chosen.seed + number}: {problems[0]}"] if problems else []
        print(f"{chosen.good:,} good submissions: {len(refused)} with a problem", *refused, sep="\n  ", flush=True)
        ways = (
            (FAULTS, is_refused, "refused"),
            (WARNINGS, is_warned_of, "warned of"),
            (HINTS, is_hinted_at, "hinted at"),
        )
        missed = []
        for names, is_found, what in ways:
            missed += (here := [name for name in names if not is_found(folder, name)])
            print(f"{len(names)} ways to spoil a submission: {len(here)} not {what}", *here, sep="\n  ", flush=True)
        ways = [name for name in ZIP_FAULTS if not is_zip_refused(folder, name)]
        print(f"{len(ZIP_FAULTS)} ways to spoil a zip: {len(ways)} not refused", *ways, sep="\n  ", flush=True)
        num_refused, num_wrong = count_undetected(folder, chosen.zips, chosen.seed)
        print(f"{3 * chosen.zips:,} damaged zips: {num_refused:,} refused, {num_wrong} with other masks", flush=True)
    return int(bool(num_unlike or refused or missed or ways or num_wrong))


if __name__ == "__main__":
    sys.exit(main())
