"""Weights of an ensemble's members, fitted on out-of-fold images only and adopted only when they prove themselves.

In: per image, what the members that did not train on it say, and the truth. Out: weights per member, or per member
and class. Two ways to fit: greedy selection with replacement, and the soft Dice by projected gradient. Each is judged
on sequences that it was not fitted on; unless its gain over equal weights is above 0 beyond noise, equal weights stay.

Letters: M members of the ensemble, J those that judge an image, C classes, P pixels.

Source: Caruana et al., "Ensemble selection from libraries of models", ICML 2004 (here with hard Dice as the score);
Duchi et al. 2008 for the projection onto the simplex.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from pipeline.config.competition import IGNORE
from pipeline.intervals import TAIL, Interval, deal_folds, group_numbers, interval
from pipeline.segmentation import decision
from pipeline.segmentation.ensemble import logits_rows, normalised, row_blocks
from pipeline.segmentation.predict import Prediction

Kind = Literal["greedy", "soft", "soft per class"]
KINDS: tuple[Kind, ...] = ("greedy", "soft", "soft per class")
MOST_FOLDS = 5
LEAST_SEQUENCES = 4  # with fewer, one odd sequence decides
MOST_DISPUTED = 1024  # disputed pixels kept of an image: the noise of sampling is far below that between images
GREEDY_ROUNDS = 20  # weights then come in twentieths
KEPT = ("probs", "truth", "scale", "agreed", "soft_hits", "soft_areas", "truth_areas")  # what is more than a name
GRADIENT_STEPS = 300  # enough for a change below 1e-4 in the weights on five members


@dataclass(frozen=True)
class Evidence:
    """What one image says about the members that judge it.

    Where all of them choose one class, no weights per member can change it (those per member and class might), so such
    pixels are only scored.

    Attributes:
        judges: numbers of the members that did not train on this image, (J,).
        probs: float16 (J, C, P) at disputed pixels.
        truth: uint8 (P,) there.
        scale: how many disputed pixels each kept one stands for.
        agreed: int64 (C, C), truth by choice, at the other pixels.
        soft_hits: float64 (J, C), the sum of a class's probability over its true pixels.
        soft_areas: float64 (J, C), the sum of a class's probability, over all pixels that count.
        truth_areas: float64 (C,), true pixels.
    """

    image_id: str
    sequence: str
    judges: tuple[int, ...]
    probs: np.ndarray
    truth: np.ndarray
    scale: float
    agreed: np.ndarray
    soft_hits: np.ndarray
    soft_areas: np.ndarray
    truth_areas: np.ndarray


@dataclass(frozen=True)
class Fit:
    """What came of fitting.

    Attributes:
        weights: float64 (M, 1) or (M, C): the adopted ones, or equal ones.
        by_image: weights fitted without an image's sequence, by which it may be judged; empty when equal ones stay.
        kind: how the adopted weights were fitted, or "equal".
        gains: per kind, the gain in Dice over equal weights on sequences that the weights were not fitted on.
        in_sample: per kind, the gain on the very images of the fit.
        words: what was decided and why, for people.
    """

    weights: np.ndarray
    by_image: Mapping[str, np.ndarray]
    kind: str
    gains: Mapping[str, Interval]
    in_sample: Mapping[str, float]
    words: str


def look(
    image_id: str, sequence: str, judges: Sequence[int], predictions: Sequence[Prediction], truth_HW: np.ndarray
) -> Evidence:
    """Returns what an image says about its judges; reads each prediction once, a few rows at a time.

    Args:
        predictions: one per judge.
        truth_HW: uint8, `IGNORE` counts nowhere.
    """
    num_classes = len(predictions[0].logits)
    agreed = np.zeros(num_classes * num_classes, np.int64)
    soft_hits, soft_areas = (np.zeros((len(judges), num_classes)) for _ in range(2))
    disputed: list[tuple[np.ndarray, np.ndarray]] = []
    for top, bottom in row_blocks(*truth_HW.shape):
        truth_N = truth_HW[top:bottom].ravel()
        counts_N = truth_N != IGNORE
        truth_N = truth_N[counts_N]
        probs_JCN = np.stack(
            [decision.probs(logits_rows(one, top, bottom), 0).flatten(1).numpy()[:, counts_N] for one in predictions]
        )
        soft_areas += probs_JCN.sum(2, dtype=np.float64)
        for class_index in np.unique(truth_N):
            soft_hits[:, class_index] += probs_JCN[:, class_index, truth_N == class_index].sum(1, dtype=np.float64)
        choices_JN = torch.from_numpy(probs_JCN).max(1).indices.numpy()
        is_agreed_N = (choices_JN == choices_JN[0]).all(0)
        codes = truth_N[is_agreed_N].astype(np.int64) * num_classes + choices_JN[0, is_agreed_N]
        agreed += np.bincount(codes, minlength=len(agreed))
        disputed.append((probs_JCN[:, :, ~is_agreed_N].astype(np.float16), truth_N[~is_agreed_N]))
    probs = np.concatenate([probs for probs, _ in disputed], 2)
    truth = np.concatenate([truth for _, truth in disputed])
    kept = np.sort(np.random.default_rng(0).permutation(len(truth))[:MOST_DISPUTED])
    truth_areas = np.bincount(truth_HW[truth_HW != IGNORE], minlength=num_classes).astype(np.float64)
    return Evidence(
        image_id,
        sequence,
        tuple(judges),
        np.ascontiguousarray(probs[:, :, kept]),
        truth[kept],
        len(truth) / max(1, len(kept)),
        agreed.reshape(num_classes, num_classes),
        soft_hits,
        soft_areas,
        truth_areas,
    )


def evidence_arrays(evidence: Evidence) -> dict[str, np.ndarray]:
    """Returns all of the evidence but whose it is, to be kept on disk."""
    return {name: np.asarray(getattr(evidence, name)) for name in KEPT}


def evidence_from(image_id: str, sequence: str, judges: Sequence[int], arrays: Mapping[str, np.ndarray]) -> Evidence:
    """Returns the evidence from what `evidence_arrays` returned."""
    kept = {name: arrays[name] for name in KEPT} | {"scale": arrays["scale"].item()}
    return Evidence(image_id, sequence, tuple(judges), **kept)


def image_dice(evidence: Evidence, weights: np.ndarray) -> np.ndarray:
    """Returns the Dice of each class, float64 (C,), under weights (M, 1) or (M, C); disputed pixels by their sample."""
    own = normalised(weights[list(evidence.judges)])
    hits, areas = evidence.agreed.diagonal().astype(np.float64), evidence.agreed.sum(0).astype(np.float64)
    if len(evidence.truth):
        scores_CP = np.einsum(
            "jcp,jc->cp", evidence.probs.astype(np.float32), np.broadcast_to(own, evidence.probs.shape[:2])
        )
        choices = scores_CP.argmax(0)
        num_classes = len(hits)
        areas += evidence.scale * np.bincount(choices, minlength=num_classes)
        hits += evidence.scale * np.bincount(choices[choices == evidence.truth], minlength=num_classes)
    areas += evidence.truth_areas
    return np.where(areas > 0, 2 * hits / np.where(areas > 0, areas, 1), 1.0)


def fit_greedy(images: Sequence[Evidence], num_members: int, scored: list[int] | slice = slice(None)) -> np.ndarray:
    """Returns weights (M, 1): the member that helps most is added, again and again; the best bag on the way is kept.

    Args:
        scored: indices of the classes whose mean Dice is to rise; all, where nothing is said.
    """

    def score(bag: np.ndarray) -> float:
        return float(np.mean([image_dice(evidence, bag[:, None])[scored].mean() for evidence in images]))

    bag = np.zeros(num_members)
    best, best_score = np.ones(num_members), score(np.ones(num_members))
    for _ in range(GREEDY_ROUNDS):
        tries = [score(bag + np.eye(num_members)[member]) for member in range(num_members)]
        bag = bag + np.eye(num_members)[int(np.argmax(tries))]
        if max(tries) > best_score:
            best, best_score = bag.copy(), max(tries)
    return normalised(best)


def fit_soft(
    images: Sequence[Evidence], num_members: int, per_class: bool, scored: list[int] | slice = slice(None)
) -> np.ndarray:
    """Returns the weights, (M, 1) or (M, C), of the highest mean soft Dice over the classes that an image shows.

    The soft Dice of weighted probabilities is 2 w.hits / w.(areas + truth): all that it needs of an image are sums per
    member and class, so every pixel counts and none is kept. `scored` is as in `fit_greedy`.
    """
    num_classes = len(images[0].truth_areas)
    hits_IMC = np.zeros((len(images), num_members, num_classes))
    bases_IMC = np.zeros_like(hits_IMC)
    for hits_MC, bases_MC, evidence in zip(hits_IMC, bases_IMC, images, strict=True):
        judges = list(evidence.judges)
        hits_MC[judges], bases_MC[judges] = evidence.soft_hits, evidence.soft_areas + evidence.truth_areas
    is_shown_IC = np.array([evidence.truth_areas > 0 for evidence in images])
    if not per_class:
        return _ascend(*(values[..., scored] for values in (hits_IMC, bases_IMC, is_shown_IC)))[:, None]
    columns = [
        _ascend(*(values[..., [class_index]] for values in (hits_IMC, bases_IMC, is_shown_IC)))
        for class_index in range(num_classes)
    ]
    return np.stack(columns, 1)


def fit(images: Sequence[Evidence], num_members: int, scored: list[int] | slice = slice(None)) -> Fit:
    """Returns the weights to use: the best kind of fit where it beats equal weights beyond noise, else equal ones.

    Only images with two judges or more take part. The gain of a kind is measured on sequences which its weights were
    not fitted on; of kinds that prove themselves, the one with the highest lower bound is adopted. `scored` is as in
    `fit_greedy`.
    """
    equal = np.full((num_members, 1), 1 / num_members)
    images = [evidence for evidence in images if len(evidence.judges) > 1]
    groups = group_numbers([one.image_id for one in images], [one.sequence for one in images]) if images else []
    num_groups = len(set(groups))
    if num_groups < LEAST_SEQUENCES:
        found = "no image is" if not images else f"only {num_groups} sequences are"
        words = f"equal weights: {found} judged by two members or more, and {LEAST_SEQUENCES} sequences are needed"
        return Fit(equal, {}, "equal", {}, {}, words)
    folds = deal_folds(groups, min(MOST_FOLDS, num_groups)).tolist()
    plain = np.array([image_dice(evidence, equal)[scored].mean() for evidence in images])
    gains, in_sample, whole, by_image = {}, {}, {}, {}
    others_of = {fold: [one for one, own in zip(images, folds, strict=True) if own != fold] for fold in set(folds)}
    for kind in KINDS:
        held_out = {fold: _fit_kind(kind, others, num_members, scored) for fold, others in others_of.items()}
        by_image[kind] = {one.image_id: held_out[fold] for one, fold in zip(images, folds, strict=True)}
        dice = np.array([image_dice(one, by_image[kind][one.image_id])[scored].mean() for one in images])
        # The best of several kinds is looked for, so each must prove itself the more (Bonferroni).
        gains[kind] = interval(dice - plain, groups, TAIL / len(KINDS))
        whole[kind] = _fit_kind(kind, images, num_members, scored)
        in_sample[kind] = float(np.mean([image_dice(one, whole[kind])[scored].mean() for one in images] - plain))
    best = max(KINDS, key=lambda kind: gains[kind].low)
    said = "; ".join(f"{kind} {_said(gains[kind])}, in sample {in_sample[kind]:+.4f}" for kind in KINDS)
    if gains[best].low <= 0:
        words = f"equal weights: no fit gains beyond noise on sequences that it has not seen ({said})"
        return Fit(equal, {}, "equal", gains, in_sample, words)
    words = f"weights fitted by {best}: it gains on sequences that it has not seen ({said})"
    return Fit(whole[best], by_image[best], best, gains, in_sample, words)


def _fit_kind(kind: Kind, images: Sequence[Evidence], num_members: int, scored: list[int] | slice) -> np.ndarray:
    if kind == "greedy":
        return fit_greedy(images, num_members, scored)
    return fit_soft(images, num_members, kind == "soft per class", scored)


def _said(gain: Interval) -> str:
    return f"{gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"


def _ascend(hits_IMC: np.ndarray, bases_IMC: np.ndarray, is_shown_IC: np.ndarray) -> np.ndarray:
    """Returns the point of the simplex, float64 (M,), of the highest mean ratio, by projected gradient."""
    num_members = hits_IMC.shape[1]
    weights = np.full(num_members, 1 / num_members)
    if not is_shown_IC.any():
        return weights

    def value(weights: np.ndarray) -> tuple[float, np.ndarray]:
        tops_IC = 2 * np.einsum("imc,m->ic", hits_IMC, weights)
        bottoms_IC = np.einsum("imc,m->ic", bases_IMC, weights)
        counts_IC = is_shown_IC & (bottoms_IC > 0)
        bottoms_IC = np.where(counts_IC, bottoms_IC, 1)
        ratios_IC = np.where(counts_IC, tops_IC / bottoms_IC, 0)
        slopes_IC = np.where(counts_IC, 1 / bottoms_IC, 0)
        gradient = np.einsum("imc,ic->m", 2 * hits_IMC, slopes_IC)
        gradient -= np.einsum("imc,ic->m", bases_IMC, slopes_IC * ratios_IC)
        return ratios_IC.sum() / is_shown_IC.sum(), gradient / is_shown_IC.sum()

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
