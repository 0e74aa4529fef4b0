"""The training images that look most like a validation image: has the network seen such a scene, and labelled so?

In: the signatures that the search for near-duplicates has left. Out: a panel of the image and its nearest, each above
its mask. There is none for an ensemble, whose members have training images of their own, nor where no signatures are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.data.image_source import ImageSource
from pipeline.data.leakage import nearest, read_signatures
from pipeline.engine.run import Run
from pipeline.paths import PANELS, SIGNATURES
from pipeline.report.figure import write_image
from pipeline.report.images import NEAREST
from pipeline.segmentation.mask_source import MaskSource
from pipeline.segmentation.panels import draw_sheet
from pipeline.training.inputs import split_rows

NUM_NEAREST = 3


def draw_neighbours(
    run: Run, images: ImageSource, masks: MaskSource, files: Mapping[str, Any], image_ids: Sequence[str]
) -> None:
    """Draws validation images with the training images that look most like each.

    Args:
        files: catalog rows of the validation images by id.
        image_ids: of those that are drawn, in this order.
    """
    signatures = None if run.loaded.is_ensemble else read_signatures(run.paths / SIGNATURES)
    if signatures is None:
        return
    train = {row.id: row for row in split_rows(run.paths, "train").itertuples()}
    competition = run.loaded.competition
    for rank, image_id in enumerate(image_ids, start=1):
        if image_id not in signatures.ids:  # left by an earlier catalog
            continue
        near = nearest(signatures, image_id, train.keys(), NUM_NEAREST)
        rows = [files[image_id], *(train[other] for other, _ in near)]
        samples = [(images.shown(row.image), masks.read(row)) for row in rows]
        captions = [f"{image_id}, validation", *(f"{other}, likeness {share:.2f}" for other, share in near)]
        title = f"worst {rank}, and the training images most like it"
        names, colors = competition.class_names, competition.colors
        sheet = draw_sheet(samples, captions, names, colors, title, num_columns=1 + NUM_NEAREST)
        write_image(run.paths / PANELS / f"{NEAREST}_{rank}_{image_id.replace('/', '_')}.png", sheet)
