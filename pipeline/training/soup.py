"""Greedy soup: networks are added to a mean one by one, where the score rises; proven on images that chose nothing.

In: the score of each validation image by any mean of the networks, and the images' sequences. Out: the networks that
are averaged, and what their mean gains over the first network.

A soup that is chosen and scored on the same images is flattered. So whole sequences are assigned to folds, the soup is
chosen anew without each fold, and its gain is measured there; as for the decoding (`segmentation/out_of_fold.py`).
Where every fold chooses the same soup that does not help: its gain is then that of the luckiest of several. So the
interval is widened for the number of other networks (Bonferroni). In a simulation of 2 to 9 equally good networks on 4
to 20 sequences, 0 to 3 % of the soups are adopted with it, without it up to 6 %.

Source: Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482, recipe 1; the proof is our own.

Letters: I images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.intervals import LEAST_SEQUENCES, MAX_FOLDS, Interval, assign_folds
from pipeline.verdicts import held_out_gain

Soup = tuple[int, ...]  # numbers of networks, in order
ScoresOf = Callable[[Soup], np.ndarray]  # float64 (I,), of the mean of these networks; asked again and again
LEAST_RISE = 1e-9  # of a mean score; less is rounding


@dataclass(frozen=True)
class Chosen:
    """What a greedy choice came to.

    Attributes:
        soup: chosen on all images.
        gain: over the first network, by soups that were chosen without the image's fold; widened.
        verdict: on the gain, in words.
        in_sample: the gain of `soup`, on the images that chose it.
        by_fold: the soup that was chosen without each fold.
    """

    soup: Soup
    gain: Interval
    verdict: str
    in_sample: float
    by_fold: tuple[Soup, ...]


def greedy_soup(num_networks: int, mean_of: Callable[[Soup], float]) -> Soup:
    """Returns the networks whose mean is taken: the best one, then each next best that raises the score.

    Of equally good networks the first one comes first.

    >>> scores = {(0,): 0.5, (1,): 0.6, (2,): 0.4, (0, 1): 0.7, (0, 1, 2): 0.7}
    >>> greedy_soup(3, scores.__getitem__)
    (0, 1)
    """
    first, *others = sorted(range(num_networks), key=lambda number: -mean_of((number,)))
    soup: Soup = (first,)
    for number in others:
        trial = tuple(sorted((*soup, number)))
        if mean_of(trial) > mean_of(soup) + LEAST_RISE:
            soup = trial
    return soup


def choose_soup(num_networks: int, scores_of: ScoresOf, groups: np.ndarray) -> Chosen | None:
    """Returns the soup of networks and its gain over the first one, or None where there are too few sequences.

    Args:
        scores_of: its images must be those of `groups`, and each has a score.
        groups: int (I,), the sequence of each image.
    """
    num_sequences = len(np.unique(groups))
    if num_sequences < LEAST_SEQUENCES:
        return None
    folds = assign_folds(groups, min(MAX_FOLDS, num_sequences))
    gains, by_fold = np.zeros(len(groups)), []
    for fold in np.unique(folds):
        soup = _chosen_on(num_networks, scores_of, folds != fold)
        gains[folds == fold] = (scores_of(soup) - scores_of((0,)))[folds == fold]
        by_fold.append(soup)
    soup = _chosen_on(num_networks, scores_of, np.ones(len(groups), bool))
    in_sample = float(np.mean(scores_of(soup) - scores_of((0,))))
    return Chosen(soup, *held_out_gain(gains, groups, max(1, num_networks - 1)), in_sample, tuple(by_fold))


def _chosen_on(num_networks: int, scores_of: ScoresOf, is_used: np.ndarray) -> Soup:
    return greedy_soup(num_networks, lambda soup: float(np.mean(scores_of(soup)[is_used])))
