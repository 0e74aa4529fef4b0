"""Dice of finished runs over whole images and in the outer band, where padding could have an effect.

    python -m tests.benchmarks.padding_band CamVidPAR CamVidPAB CamVidPAI CamVidPAC

Reads each run's validation probabilities and the masks (DATA_DIR as for the run itself). The interval is that of
the difference to the first run.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from pipeline.config.competition import IGNORE
from pipeline.config.mask_code import mask_code
from pipeline.engine.api import open_run
from pipeline.intervals import group_numbers, interval
from pipeline.prediction.store import open_predictions
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.predict import decode
from pipeline.segmentation.scores import image_scores
from pipeline.training.inputs import split_rows
from pipeline.work.inputs import competition_folder

BAND_PX = 16


def image_dice(name: str, overrides: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns mean Dice per image, over all pixels and over the outer band, and the number of its sequence."""
    run = open_run(name, overrides)
    competition, paths = run.loaded.competition, run.paths
    folder, store = competition_folder(run), open_predictions(run, "valid")
    confusions: list[tuple[torch.Tensor, torch.Tensor]] = []
    rows = split_rows(paths, "valid")
    for row in rows.itertuples():
        label, predicted = read_mask(folder / row.mask, mask_code(competition)), decode(store[row.id])
        band = label.copy()
        band[BAND_PX:-BAND_PX, BAND_PX:-BAND_PX] = IGNORE
        confusions.append(
            tuple(SOFTMAX.count_masks(predicted, mask, competition.num_classes) for mask in (label, band))
        )
    whole, outer = (image_scores(np.stack(matrices))["dice"].mean(1) for matrices in zip(*confusions, strict=True))
    return whole, outer, group_numbers(rows["id"], rows["sequence"])


def main(arguments: list[str]) -> None:
    names = [argument for argument in arguments if "=" not in argument]
    overrides = tuple(argument for argument in arguments if "=" in argument)
    scores = {name: image_dice(name, overrides) for name in names}
    first = scores[names[0]]
    print(f"{'run':<12} {'Dice':>7} {f'outer {BAND_PX} px':>12}   difference to {names[0]}: whole, outer band")
    for name, (whole, outer, groups) in scores.items():
        gains = [interval(own - other, groups) for own, other in zip((whole, outer), first[:2], strict=True)]
        difference = "" if name == names[0] else "   ".join(map(str, gains))
        print(f"{name:<12} {whole.mean():7.4f} {outer.mean():12.4f}   {difference}")


if __name__ == "__main__":
    main(sys.argv[1:])
