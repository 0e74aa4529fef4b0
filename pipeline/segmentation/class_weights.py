"""Class weights from how often the training masks show each class, as LOSS_FN.WEIGHTS names them.

In: the pixels of each class in the catalog of `prepare`, of the training side of the split. Out: a weight per class.

    inverse        1 / share of the pixels
    inverse_sqrt   1 / its square root
    log            1 / ln(1.02 + share), from 1.4 to 50. Source: Paszke et al. 2016, "ENet", arXiv:1606.02147

A class without a training pixel is treated like the rarest one that has some: where a pixel may have several classes,
it still has to learn where it is not.

Letters: C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.engine.run import Run
from pipeline.segmentation.labels import pixel_columns
from pipeline.training.inputs import split_rows

ENET_SHIFT = 1.02
KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverse": lambda shares_C: 1 / shares_C,
    "inverse_sqrt": lambda shares_C: 1 / np.sqrt(shares_C),
    "log": lambda shares_C: 1 / np.log(ENET_SHIFT + shares_C),
}


def measured_weights(kind: str, pixels_C: np.ndarray, num_known: int) -> np.ndarray:
    """Returns a weight per class, float64 (C,), before `normalise_class_weights`.

    Args:
        pixels_C: of each class.
        num_known: all pixels that are not ignored.

    >>> measured_weights("inverse", np.array([900, 100, 0]), 1000).round(2).tolist()
    [1.11, 10.0, 10.0]
    """
    if not pixels_C.any():
        return np.ones(len(pixels_C))
    shares_C = np.where(pixels_C > 0, pixels_C, pixels_C[pixels_C > 0].min()) / num_known
    return KINDS[kind](shares_C)


def weights_of(run: Run) -> tuple[float, ...]:
    """Returns, and logs, the weights of a run whose LOSS_FN.WEIGHTS is one of `KINDS`; needs the stage `prepare`."""
    kind, competition = run.loaded.config.loss_fn.weights, run.loaded.competition
    rows = split_rows(run.paths, "train")
    pixels_C = rows[pixel_columns(competition)[:-1]].sum().to_numpy(np.int64)
    num_known = int((rows["width"] * rows["height"] - rows["pixels_ignored"]).sum())
    weights_C = measured_weights(kind, pixels_C, num_known)
    shown = weights_C * len(weights_C) / weights_C.sum()
    listed = ", ".join(f"{name} {value:.3g}" for name, value in zip(competition.class_names, shown, strict=True))
    run.log(f"class weights ({kind}): {listed}")
    return tuple(weights_C.tolist())
