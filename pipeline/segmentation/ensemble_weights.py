"""Weights of an ensemble's members, fitted on out-of-fold images only and adopted only where they gain beyond noise.

In: per image, the probabilities of the members that were not trained on it, and the truth. Out: weights per member, or
per member and class. There are two ways to fit: greedy selection with replacement, and the soft Dice by projected
gradient. Each is measured on sequences that it was not fitted on against equal weights.

Letters: M members of the ensemble, J those that an image is out of fold for, I images, C classes, P sampled pixels.

Source: Caruana et al., "Ensemble selection from libraries of models", ICML 2004 (here with hard Dice or IoU);
Duchi et al. 2008 for the projection onto the simplex.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch

from pipeline.scores import LABELS, mean_scored
from pipeline.segmentation import decision
from pipeline.segmentation.ensemble import normalised
from pipeline.segmentation.out_of_fold import Fitted, try_settings
from pipeline.segmentation.pixel_sample import THRESHOLD, PixelSample, sample_pixels, scored_probs
from pipeline.segmentation.predict import Prediction

Kind = Literal["greedy", "soft", "soft per class"]
MOST_DISPUTED = 1024  # disputed pixels kept of an image: the noise of sampling is far below that between images
GREEDY_ROUNDS = 20  # weights then come in twentieths
GRADIENT_STEPS = 300  # enough for a change below 1e-4 in the weights on five members


@dataclass(frozen=True)
class MemberSample(PixelSample):
    """An image as its out-of-fold members predict it; `probs` are (J, C, P) at pixels for which they differ in class.

    Where all of them choose one class, no weights per member can change it. Weights per member and class might, but
    that is left out.

    Attributes:
        members: int64 (J,), numbers of the members that were not trained on this image.
        soft_hits: float64 (J, C), the sum of a class's probability over its true pixels.
        soft_areas: float64 (J, C), the sum of a class's probability over all scored pixels.
    """

    members: np.ndarray
    soft_hits: np.ndarray
    soft_areas: np.ndarray


def sample_members(
    image_id: str, sequence: str, members: Sequence[int], predictions: Sequence[Prediction], truth: np.ndarray
) -> MemberSample:
    """Returns the sample of an image; reads each prediction once, a few rows at a time.

    Args:
        members: numbers of the members that were not trained on it.
        predictions: one per such member.
        truth: uint8 (H, W) or planes (H, W, C); pixels of `IGNORE` are left out.
    """
    num_classes = len(predictions[0].logits)
    soft_hits, soft_areas = (np.zeros((len(members), num_classes)) for _ in range(2))

    def blocks() -> Iterator[tuple[np.ndarray, ...]]:
        for probs_JCN, truth_N in scored_probs(predictions, truth):
            soft_areas[:] += probs_JCN.sum(2, dtype=np.float64)
            if truth_N.ndim == 2:
                soft_hits[:] += np.einsum("jcn,cn->jc", probs_JCN, truth_N, dtype=np.float64)
                choices_JCN = probs_JCN >= THRESHOLD
                yield probs_JCN, truth_N, choices_JCN[0], (choices_JCN != choices_JCN[0]).any((0, 1))
                continue
            for class_index in np.unique(truth_N):
                hits_J = probs_JCN[:, class_index, truth_N == class_index].sum(1, dtype=np.float64)
                soft_hits[:, class_index] += hits_J
            choices_JN = decision.choose(torch.from_numpy(probs_JCN)[:, :, None])[:, 0].numpy()
            yield probs_JCN, truth_N, choices_JN[0], (choices_JN != choices_JN[0]).any(0)

    sample = sample_pixels(image_id, sequence, num_classes, blocks(), MOST_DISPUTED)
    return MemberSample(**vars(sample), members=np.array(members), soft_hits=soft_hits, soft_areas=soft_areas)


def of_members(image: MemberSample, numbers: Sequence[int]) -> MemberSample | None:
    """Returns an image as some members alone predict it, who are numbered anew from 0; None where none of them does."""
    kept = [row for row, number in enumerate(image.members) if number in numbers]
    if not kept:
        return None
    own = {name: getattr(image, name)[kept] for name in ("probs", "soft_hits", "soft_areas")}
    return replace(image, members=np.array([list(numbers).index(number) for number in image.members[kept]]), **own)


def weighted_scores(image: MemberSample, weights: np.ndarray, score: str = "dice") -> np.ndarray:
    """Returns the estimated score of each class, float64 (C,), under weights (M, 1) or (M, C)."""
    own = np.broadcast_to(normalised(weights[image.members]), image.probs.shape[:2])
    return image.scores(np.einsum("jcp,jc->cp", image.probs.astype(np.float32), own), score)


def fit_greedy(
    images: Sequence[MemberSample], num_members: int, scored: Sequence[int] | None = None, score: str = "dice"
) -> np.ndarray:
    """Returns weights (M, 1): the member that helps most is added, again and again; the best bag on the way is kept.

    Args:
        scored: indices of the classes whose mean score is to rise; None: all.
        score: one that `counted_score` returns.
    """

    def mean_score(bag: np.ndarray) -> float:
        return float(mean_scored([weighted_scores(image, bag[:, None], score) for image in images], scored).mean())

    bag = np.zeros(num_members)
    best, best_score = np.ones(num_members), mean_score(np.ones(num_members))
    for _ in range(GREEDY_ROUNDS):
        tries = [mean_score(bag + np.eye(num_members)[member]) for member in range(num_members)]
        bag = bag + np.eye(num_members)[int(np.argmax(tries))]
        if max(tries) > best_score:
            best, best_score = bag.copy(), max(tries)
    return normalised(best)


def fit_soft(
    images: Sequence[MemberSample], num_members: int, per_class: bool, scored: Sequence[int] | None = None
) -> np.ndarray:
    """Returns the weights, (M, 1) or (M, C), of the highest mean soft Dice over the classes that are in an image.

    The soft Dice of weighted probabilities is 2 w.hits / w.(areas + truth): all that it needs of an image are sums per
    member and class, so it uses every pixel. `scored` is as in `fit_greedy`.
    """
    num_classes = len(images[0].true_areas)
    hits_IMC = np.zeros((len(images), num_members, num_classes))
    bases_IMC = np.zeros_like(hits_IMC)
    for hits_MC, bases_MC, image in zip(hits_IMC, bases_IMC, images, strict=True):
        hits_MC[image.members], bases_MC[image.members] = image.soft_hits, image.soft_areas + image.true_areas
    is_present_IC = np.array([image.true_areas > 0 for image in images])

    def fit_classes(indices: Sequence[int]) -> np.ndarray:
        return _ascend(*(values[..., indices] for values in (hits_IMC, bases_IMC, is_present_IC)))

    if per_class:
        return np.stack([fit_classes([class_index]) for class_index in range(num_classes)], 1)
    return fit_classes(list(range(num_classes) if scored is None else scored))[:, None]


def ways_to_fit(
    num_members: int, scored: Sequence[int] | None, score: str
) -> dict[Kind, Callable[[Sequence[MemberSample]], np.ndarray]]:
    """Returns the functions from images to weights, by kind; `scored` and `score` are as in `fit_greedy`."""
    return {
        "greedy": partial(fit_greedy, num_members=num_members, scored=scored, score=score),
        "soft": partial(fit_soft, num_members=num_members, per_class=False, scored=scored),
        "soft per class": partial(fit_soft, num_members=num_members, per_class=True),
    }


def fit_weights(
    images: Sequence[MemberSample], num_members: int, scored: Sequence[int] | None = None, score: str = "dice"
) -> Fitted[Kind, np.ndarray, Kind | None]:
    """Returns the kind of fit whose weights beat equal ones beyond noise, None where no kind does; trials are by kind.

    Only images that are out of fold for two members or more, and have a value of the score, take part. Of the kinds
    that gain on held-out sequences, the one with the highest lower bound is adopted.
    `scored` and `score` are as in `fit_greedy`.
    """
    images = [image for image in images if len(image.members) > 1]
    equal = np.full((num_members, 1), 1 / num_members)

    def mean_score(image: MemberSample, weights: np.ndarray) -> float:
        return float(mean_scored(weighted_scores(image, weights, score), scored))

    plain = {image.image_id: mean_score(image, equal) for image in images}
    images = [image for image in images if not np.isnan(plain[image.image_id])]
    fits = ways_to_fit(num_members, scored, score)
    trials = try_settings(
        images, fits, lambda image, weights: mean_score(image, weights) - plain[image.image_id], len(fits)
    )
    best = max(trials.adopted, key=lambda kind: trials.adopted[kind].gain.low, default=None)
    label = f"mean {LABELS[score]}"
    unchanged = "equal weights" if images else "equal weights, as no image is out of fold for two members"
    words = trials.words(unchanged, f"weights fitted by {best}", label, lambda kind, weights: kind)
    return Fitted(best, trials, words)


def _ascend(hits_IMC: np.ndarray, bases_IMC: np.ndarray, is_present_IC: np.ndarray) -> np.ndarray:
    """Returns the point of the simplex, float64 (M,), of the highest mean ratio, by projected gradient."""
    num_members = hits_IMC.shape[1]
    weights = np.full(num_members, 1 / num_members)
    if not is_present_IC.any():
        return weights

    def value(weights: np.ndarray) -> tuple[float, np.ndarray]:
        tops_IC = 2 * np.einsum("imc,m->ic", hits_IMC, weights)
        bottoms_IC = np.einsum("imc,m->ic", bases_IMC, weights)
        counts_IC = is_present_IC & (bottoms_IC > 0)
        bottoms_IC = np.where(counts_IC, bottoms_IC, 1)
        ratios_IC = np.where(counts_IC, tops_IC / bottoms_IC, 0)
        slopes_IC = np.where(counts_IC, 1 / bottoms_IC, 0)
        gradient = np.einsum("imc,ic->m", 2 * hits_IMC, slopes_IC)
        gradient -= np.einsum("imc,ic->m", bases_IMC, slopes_IC * ratios_IC)
        return ratios_IC.sum() / is_present_IC.sum(), gradient / is_present_IC.sum()

    step, (score, gradient) = 1.0, value(weights)
    for _ in range(GRADIENT_STEPS):
        moved = project(weights + step * gradient)
        moved_score, moved_gradient = value(moved)
        if moved_score > score:
            weights, score, gradient, step = moved, moved_score, moved_gradient, step * 1.5
        else:
            step /= 2
    return weights


def project(point: np.ndarray) -> np.ndarray:
    """Returns the nearest point of the simplex: no coordinate below 0, sum 1.

    >>> project(np.array([0.9, 0.5, -0.2])).round(3).tolist()
    [0.7, 0.3, 0.0]
    """
    ordered = np.sort(point)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, len(point) + 1)
    return np.maximum(point - excess[ordered > excess][-1], 0)
