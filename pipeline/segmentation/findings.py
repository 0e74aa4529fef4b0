"""Sums over images of what `diagnosis.py` finds in each: diagnosis.json, and the ranked list of suspicious masks.

In: the arrays of `examine`, image by image. Out: plain values for a JSON file, and a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.competition import Competition
from pipeline.engine.run import Run
from pipeline.report.trained_on import trained_on
from pipeline.segmentation.diagnosis import (
    BAND_PX,
    BINS,
    DISTANCE_EDGES,
    NOTHING,
    SEAM_EDGES,
    SIZE_EDGES,
    SURE,
    SUSPECT,
)

MOST_LISTED = 500  # suspicious regions in the table: more than anybody looks at
COLUMNS = ("rank", "id", "label", "predicted", "pixels", "probability", "top", "left", "height", "width")
SUMMED = ("calibration", "sizes", "boundary", "seams")
UNKNOWN = "the first weights are from a file that may have been trained on these images"
NO_CLASS = "nothing"


class Findings:
    """Sums over the images of one evaluation.

    Args:
        trained: ids of images that a network was trained on, which are not searched for suspects; None: unknown.
    """

    def __init__(self, competition: Competition, trained: set[str] | None):
        self.competition, self.trained = competition, trained
        self.sums: dict[str, np.ndarray] = {}
        self.suspects: list[tuple[str, np.ndarray]] = []
        self.num_images = self.num_left_out = self.num_cut = 0

    def is_searched(self, image_id: str) -> bool:
        """Returns whether an image is searched for suspicious regions."""
        return self.trained is not None and image_id not in self.trained

    def add(self, image_id: str, size: tuple[int, int], arrays: Mapping[str, np.ndarray]) -> None:
        """Adds what `examine` returned for an image of (height, width)."""
        self.num_images += 1
        self.num_left_out += not self.is_searched(image_id)
        planes = self.competition.num_classes if self.competition.is_multilabel else 1
        self.num_cut += size[0] * size[1] * planes > BAND_PX
        for name in SUMMED:
            self.sums[name] = self.sums.get(name, 0) + arrays[name]
        self.suspects += [(image_id, row) for row in arrays["suspects"] if row[SUSPECT.index("pixels")]]

    def facts(self) -> dict[str, Any]:
        """Returns the content of diagnosis.json."""
        calibration, sizes, boundary, seams = (self.sums[name].astype(np.int64).tolist() for name in SUMMED)
        probability = self.sums["calibration"][..., 1]
        return {
            "images": self.num_images,
            "cut": self.num_cut,
            "calibration": {
                "of": "each class" if self.competition.is_multilabel else "the chosen class",
                "bins": BINS,
                "pixels": [[own[0] for own in row] for row in calibration],
                "probability": np.round(probability, 3).tolist(),
                "right": [[own[2] for own in row] for row in calibration],
            },
            "sizes": {"edges": SIZE_EDGES, "counts": sizes},
            "boundary": {"edges": DISTANCE_EDGES, "counts": boundary},
            "seams": {"edges": SEAM_EDGES, "counts": seams} if self.sums["seams"].any() else None,
            "suspects": {
                "sure": SURE,
                "images": self.num_images - self.num_left_out,
                "left_out": self.num_left_out,
                "reason": UNKNOWN if self.trained is None else None,
                "regions": len(self.suspects),
            },
        }

    def table(self) -> pd.DataFrame:
        """Returns the suspicious regions, those with most pixels times probability first."""
        names = dict(enumerate(self.competition.class_names)) | {NOTHING: NO_CLASS}
        rows = []
        for image_id, values in self.suspects:
            own = dict(zip(SUSPECT, values.tolist(), strict=True))
            whole = {name: int(own[name]) for name in ("pixels", "top", "left", "height", "width")}
            classes = {name: names[int(own[name])] for name in ("label", "predicted")}
            rows.append({"id": image_id, "probability": round(own["probability"], 4), **whole, **classes})
        rows.sort(key=lambda row: (-row["pixels"] * row["probability"], row["id"], row["top"], row["left"]))
        ranked = [{"rank": number, **row} for number, row in enumerate(rows[:MOST_LISTED], start=1)]
        return pd.DataFrame(ranked, columns=COLUMNS)


def new_findings(run: Run) -> Findings:
    """Returns sums to be filled. An ensemble's images are predicted by members that were not trained on them."""
    return Findings(run.loaded.competition, set() if run.loaded.is_ensemble else trained_on(run))
