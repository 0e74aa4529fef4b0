"""Which pixels of an image are scored: a second mask, 0 where they are not (VALID_REGION of the descriptor)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config.competition import IGNORE, Competition
from pipeline.data.image_files import Files
from pipeline.data.images import read_grey
from pipeline.data.problems import Problem, make_problem


@dataclass(frozen=True)
class ValidRegion:
    """The region masks of a competition's images; sizes are (height, width)."""

    competition: Competition
    files: Files

    def paths(self, image_id: str) -> list[Path]:
        """Returns the region files of an image."""
        return [self.files.folder / file for file, _ in self.files.of(image_id)]

    def ignore_outside(self, mask: np.ndarray, image_id: str) -> np.ndarray:
        """Returns a mask, planes or an object map, changed in place to `IGNORE` where pixels are not scored."""
        for path in self.paths(image_id):
            mask[read_grey(path) == 0] = IGNORE
        return mask

    def problem(self, image_id: str, size: tuple[int, int]) -> Problem | None:
        """Returns what is wrong with the region of an image of that size, None if nothing is."""
        for file, _ in self.files.of(image_id):
            path = self.files.folder / file
            if not path.is_file():
                return make_problem("region missing", file, "no such file", competition=self.competition.name)
            found = read_grey(path).shape
            if found != size:
                return make_problem("size mismatch", file, f"{found[1]}x{found[0]}, its image {size[1]}x{size[0]}")
        return None


def valid_region(competition: Competition, folder: Path) -> ValidRegion | None:
    """Returns the regions of a competition in a folder, None where its descriptor names none."""
    if competition.valid_region is None:
        return None
    return ValidRegion(competition, Files(folder, [competition.valid_region], competition.id_format))
