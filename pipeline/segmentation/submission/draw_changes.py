"""Two submissions of masks side by side, on the images that differ most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.config.competition import Competition
from pipeline.segmentation import panels
from pipeline.segmentation.objects import parted
from pipeline.submission.file import Sizes, submitted_sizes
from pipeline.submission.formats import format_of_file


def draw_changes(
    images: Sequence[tuple[str, np.ndarray]], sizes: Sizes, paths: tuple[Path, Path], competition: Competition
) -> np.ndarray:
    """Returns a drawing of the masks that two submissions have of some images, uint8 (H, W, 3).

    Args:
        images: id and image, uint8 (H, W, 3).
        sizes: (height, width) of all images of the submissions.
    """
    shown, submitted = dict(images), submitted_sizes(competition, sizes)
    first, second = (
        {
            image_id: parted(form.resize(mask, sizes[image_id], submitted[image_id]))
            for image_id, mask in form.read(path, competition, submitted)
            if image_id in shown
        }
        for path, form in ((path, format_of_file(path, competition)) for path in paths)
    )
    changed = [panels.Changed(image_id, image, first[image_id], second[image_id]) for image_id, image in images]
    titles = (paths[0].name, paths[1].name)
    return panels.draw_changes(changed, competition.classes, competition.colors, titles)
