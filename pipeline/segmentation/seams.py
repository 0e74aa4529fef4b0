"""Where the windows begin and end in which an image was predicted.

In: a run's settings. Out: a function from the size of an image to rows and columns. Copies at other scales have seams
elsewhere, too; those of the image at its own size are meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.data.padding import Sizes, offset_in
from pipeline.data.tiles import cover
from pipeline.data.whole_images import WINDOW, WINDOW_OVERLAP
from pipeline.engine.run import Run
from pipeline.segmentation.diagnosis import Seams
from pipeline.segmentation.networks import sizes_of
from pipeline.segmentation.windows import window_starts


def seams_of(run: Run) -> Callable[[int, int], Seams | None]:
    """Returns a function from height and width of an image to its seams; None where it was predicted as a whole.

    The members of an ensemble have windows of their own; only those of large images are the same for all.
    """
    settings, whole_px = run.loaded.config.predict, run.loaded.competition.image.whole_px
    has_windows = not run.loaded.is_ensemble and settings.mode == "window"
    sizes = sizes_of(run.task.build_network(run.loaded)) if has_windows else None

    def seams(height: int, width: int) -> Seams | None:
        if height * width > whole_px:
            cores = [[core for _, _, core, _ in cover(length, WINDOW, WINDOW_OVERLAP)] for length in (height, width)]
            return cores[0][1:], cores[1][1:]
        if sizes is None:
            return None
        return window_seams((height, width), sizes, sizes.fixed or settings.window[::-1], settings.overlap)

    return seams


def window_seams(size: tuple[int, int], sizes: Sizes, window: tuple[int, int], overlap: float) -> Seams:
    """Returns the rows and columns inside an image of `size` (height, width) at which a window begins or ends.

    >>> window_seams((64, 64), Sizes(), (64, 48), 0.25)
    ([], [16, 48])
    """
    frame = sizes.padded(*size)
    found = []
    for length, own, whole, before in zip(size, window, frame, offset_in(frame, size), strict=True):
        starts = window_starts(whole, min(own, whole), overlap)
        found.append(_inside([*starts[1:], *(start + own for start in starts[:-1])], before, length))
    return found[0], found[1]


def _inside(positions: Sequence[int], before: int, length: int) -> list[int]:
    return sorted({at - before for at in positions if 0 < at - before < length})
