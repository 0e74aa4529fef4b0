"""An out-of-fold image reduced to what fitting needs: counts of most pixels, and a sample of those that may change.

In: predictions of one image and its truth. Out: a few kilobytes, from which the score of each class is estimated for
any weights or factors on the probabilities.

Where a pixel may have several classes, its truth and its class are bool, one of each class, and what ranks the classes
is compared with 0.5.

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
from pipeline.segmentation.planes import is_present
from pipeline.segmentation.predict import Prediction

THRESHOLD = 0.5  # of what ranks a class, where a pixel may have several
MOST_HELD = 2**22  # open pixels of an image in memory: for 12 classes 100 MB


@dataclass(frozen=True)
class PixelSample:
    """One image. Its open pixels are those whose class what is fitted may change; all others are settled.

    Attributes:
        probs: float16 (C, P) or (J, C, P), probabilities at a sample of the open pixels.
        truth: uint8 (P,) there, or bool (C, P).
        scale: float64 (), how many open pixels each sampled one stands for.
        settled: int64 (2, C), correct and predicted pixels of the settled ones.
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
        choices = ranks_CP >= THRESHOLD if self.truth.ndim == 2 else decision.choose_pixels(ranks_CP)
        hits_C, predicted_C = self.settled + self.scale * _hits_and_areas(choices, self.truth, len(self.true_areas))
        return class_scores(score, hits_C, self.true_areas, predicted_C)


def _hits_and_areas(choices: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns correct and predicted pixels of each class, int64 (2, C), of classes (N,) or of bool (C, N)."""
    if truth.ndim == 2:
        return np.stack([(choices & truth).sum(1), choices.sum(1)])
    correct = choices[choices == truth]
    return np.stack([np.bincount(values, minlength=num_classes) for values in (correct, choices)])


def scored_probs(predictions: Sequence[Prediction], truth: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields probabilities, float32 (J, C, N), and truth of the scored pixels, a few rows at a time.

    Truth is uint8 (N,), or bool (C, N) of planes.

    Args:
        truth: uint8 (H, W) or planes (H, W, C); pixels of `IGNORE`, in any plane, are left out.
    """
    probs_of = predictions[0].activation.probs
    for top, bottom in row_blocks(*truth.shape[:2]):
        rows = truth[top:bottom]
        is_scored_N = (rows != IGNORE).ravel() if truth.ndim == 2 else (rows != IGNORE).all(-1).ravel()
        truth_N = rows.ravel() if truth.ndim == 2 else is_present(rows).reshape(len(is_scored_N), -1).T
        probs = [probs_of(logits_rows(one, top, bottom), 0).flatten(1).numpy() for one in predictions]
        if not is_scored_N.all():
            probs, truth_N = [probs_CN[:, is_scored_N] for probs_CN in probs], truth_N[..., is_scored_N]
        yield np.stack(probs), truth_N


def sample_pixels(
    image_id: str,
    sequence: str,
    num_classes: int,
    blocks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    most: int,
) -> PixelSample:
    """Returns the sample of an image.

    Args:
        blocks: its scored pixels, some at a time: probabilities (..., N), truth (..., N), class (..., N), whether open
            (N,).
        most: how many open pixels are kept.
    """
    settled, true_areas, parts = np.zeros((2, num_classes), np.int64), np.zeros(num_classes), []
    rng, num_open, num_held, thinning = np.random.default_rng(1), 0, 0, 1
    for probs, truth_N, choices_N, is_open_N in blocks:
        settled += _hits_and_areas(choices_N[..., ~is_open_N], truth_N[..., ~is_open_N], num_classes)
        true_areas += truth_N.sum(1) if truth_N.ndim == 2 else np.bincount(truth_N, minlength=num_classes)
        open_N = np.flatnonzero(is_open_N)
        num_open += len(open_N)
        if thinning > 1:
            open_N = open_N[rng.random(len(open_N)) < 1 / thinning]
        parts.append((probs[..., open_N].astype(np.float16), truth_N[..., open_N]))
        num_held += len(open_N)
        if num_held > MOST_HELD:  # of a large image every second one, and so on
            probs, truth = (np.concatenate(arrays, -1) for arrays in zip(*parts, strict=True))
            half = np.flatnonzero(rng.random(truth.shape[-1]) < 0.5)
            parts, num_held, thinning = [(probs[..., half], truth[..., half])], len(half), 2 * thinning
    probs, truth = (np.concatenate(arrays, -1) for arrays in zip(*parts, strict=True))
    kept = np.sort(np.random.default_rng(0).permutation(truth.shape[-1])[:most])
    scale = np.float64(num_open / max(1, len(kept)))
    return PixelSample(
        image_id, sequence, np.ascontiguousarray(probs[..., kept]), truth[..., kept], scale, settled, true_areas
    )
