"""An out-of-fold image reduced to what fitting needs: counts of most pixels, and a sample of those that may change.

In: predictions of one image and its truth. Out: a few kilobytes, from which the score of each class is estimated for
any weights or factors on the probabilities.

Letters: J members that predict the image, C classes, H rows, W columns, N scored pixels of a block, P sampled pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config.competition import IGNORE
from pipeline.scores import class_scores
from pipeline.segmentation import decision
from pipeline.segmentation.ensemble import logits_rows, row_blocks
from pipeline.segmentation.labels import count_values
from pipeline.segmentation.predict import Prediction

MOST_HELD = 2**24  # open pixels of an image in memory: for 12 classes 400 MB


@dataclass(frozen=True)
class PixelSample:
    """One image. Its open pixels are those whose class what is fitted may change; all others are settled.

    Attributes:
        probs: float16 (C, P) or (J, C, P), probabilities at a sample of the open pixels.
        truth: uint8 (P,) there.
        scale: float64 (), how many open pixels each sampled one stands for.
        settled: int64 (C, C), the confusion matrix of the settled pixels.
        true_areas: float64 (C,), true pixels of the whole image.
    """

    image_id: str
    sequence: str
    probs: np.ndarray
    truth: np.ndarray
    scale: np.ndarray
    settled: np.ndarray
    true_areas: np.ndarray

    def scores(self, ranks_CP: np.ndarray, score: str) -> np.ndarray:
        """Returns the estimated score of each class, float64 (C,).

        Args:
            ranks_CP: by what the class of each sampled pixel is chosen.
            score: one that `counted_score` returns.
        """
        choices_P, num_classes = decision.choose_pixels(ranks_CP), len(self.true_areas)
        correct_P = choices_P[choices_P == self.truth]
        hits_C = self.settled.diagonal() + self.scale * np.bincount(correct_P, minlength=num_classes)
        predicted_C = self.settled.sum(0) + self.scale * np.bincount(choices_P, minlength=num_classes)
        return class_scores(score, hits_C, self.true_areas, predicted_C)


def scored_probs(predictions: Sequence[Prediction], truth_HW: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields probabilities, float32 (J, C, N), and truth, uint8 (N,), of the scored pixels, a few rows at a time.

    Args:
        truth_HW: uint8; pixels of `IGNORE` are left out.
    """
    for top, bottom in row_blocks(*truth_HW.shape):
        truth_N = truth_HW[top:bottom].ravel()
        is_scored_N = truth_N != IGNORE
        probs = [decision.probs(logits_rows(one, top, bottom), 0).flatten(1).numpy() for one in predictions]
        if not is_scored_N.all():
            probs, truth_N = [probs_CN[:, is_scored_N] for probs_CN in probs], truth_N[is_scored_N]
        yield np.stack(probs), truth_N


def sample_pixels(
    image_id: str,
    sequence: str,
    truth_HW: np.ndarray,
    num_classes: int,
    blocks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    most: int,
) -> PixelSample:
    """Returns the sample of an image.

    Args:
        blocks: its scored pixels, some at a time: probabilities (..., N), truth (N,), class (N,), whether open (N,).
        most: how many open pixels are kept.
    """
    settled, parts = np.zeros((num_classes, num_classes), np.int64), []
    rng, num_open, num_held, thinning = np.random.default_rng(1), 0, 0, 1
    for probs, truth_N, choices_N, is_open_N in blocks:
        settled += decision.confusion_of(choices_N, np.where(is_open_N, np.uint8(IGNORE), truth_N), num_classes)
        open_N = np.flatnonzero(is_open_N)
        num_open += len(open_N)
        if thinning > 1:
            open_N = open_N[rng.random(len(open_N)) < 1 / thinning]
        parts.append((probs[..., open_N].astype(np.float16), truth_N[open_N]))
        num_held += len(open_N)
        if num_held > MOST_HELD:  # of a large image every second one, and so on
            probs, truth = (np.concatenate(arrays, -1) for arrays in zip(*parts, strict=True))
            half = np.flatnonzero(rng.random(len(truth)) < 0.5)
            parts, num_held, thinning = [(probs[..., half], truth[half])], len(half), 2 * thinning
    probs, truth = (np.concatenate(arrays, -1) for arrays in zip(*parts, strict=True))
    kept = np.sort(np.random.default_rng(0).permutation(len(truth))[:most])
    true_areas = count_values(truth_HW)[:num_classes].astype(np.float64)
    scale = np.float64(num_open / max(1, len(kept)))
    return PixelSample(
        image_id, sequence, np.ascontiguousarray(probs[..., kept]), truth[kept], scale, settled, true_areas
    )
