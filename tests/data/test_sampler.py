"""An epoch visits every sample, begins at any step, and shows rare classes at the rate asked for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.loaders import (
    EpochSampler,
    SampleKey,
    rare_class_shares,
    same_size_batches,
)
from pipeline.data.order import SHARDS_AT_A_TIME, by_shards, draw_shares, num_batches, similar_together
from pipeline.errors import UserError

MANY_SIZES = [(32 * (1 + 3 * number % 5), 32 * (1 + 7 * number % 9)) for number in range(22)]


class Frames(list):
    """As many samples as there are frames (height, width); all that a sampler asks of a dataset."""

    def frame(self, index):
        return self[index]

    def frames(self):
        return np.array(self)


def sampler(num_samples=20, batch_size=4, seed=3, frames=None, **settings_):
    return EpochSampler(Frames(frames or [(32, 32)] * num_samples), batch_size, seed, **settings_)


def indices(batches):
    return [key.index for batch in batches for key in batch]


@given(st.integers(1, 60), st.integers(1, 9), st.booleans(), st.booleans())
def test_an_epoch_visits_every_sample_once_but_for_the_dropped_rest(num_samples, batch_size, shuffle, drop_last):
    if num_samples < batch_size and drop_last:
        return
    made = sampler(num_samples, batch_size, shuffle=shuffle, drop_last=drop_last)
    batches = list(made)
    visited = Counter(indices(batches))
    assert len(batches) == len(made) == num_batches(num_samples, batch_size, drop_last)
    assert max(visited.values()) == 1
    assert len(visited) == (num_samples - num_samples % batch_size if drop_last else num_samples)
    if batch_size > 1 and num_samples > 1:
        assert min(map(len, batches)) > 1, "batch norm cannot learn from a batch of one"


@given(st.integers(1, 50), st.integers(0, 6), st.sampled_from([None, MANY_SIZES]))
def test_an_epoch_begun_later_is_the_rest_of_the_whole_epoch(epoch, start_step, frames):
    made = sampler(len(MANY_SIZES), frames=frames)
    made.begin(epoch)
    whole = list(made)
    made.begin(epoch, start_step)
    assert list(made) == whole[start_step:]


def test_the_order_depends_on_seed_and_epoch_alone():
    assert sampler().batches(4) == sampler().batches(4)
    orders = {tuple(indices(sampler(seed=seed).batches(epoch))) for seed in (1, 2) for epoch in (1, 2, 3)}
    assert len(orders) == 6
    assert indices(sampler(shuffle=False).batches(4)) == list(range(20))


def test_keys_carry_epoch_and_whether_to_augment():
    made = sampler(4)
    made.begin(epoch=9, augment=False)
    assert {(key.epoch, key.augment, key.repeat) for batch in made for key in batch} == {(9, False, 0)}


def test_fewer_samples_than_a_batch_are_a_batch_unless_the_rest_is_dropped():
    assert len(list(sampler(3, drop_last=False))) == 1
    assert len(list(sampler(3))) == 0, "refused where a training is put together"


def test_images_of_one_size_share_batches_and_all_are_visited():
    frames = [(32, 32), (64, 32), (96, 96)] * 8
    batches = sampler(frames=frames, seed=1, drop_last=False).batches(1)
    assert sorted(indices(batches)) == list(range(24))
    assert all(len({frames[key.index] for key in batch}) == 1 for batch in batches)
    first = [frames[sampler(frames=frames).batches(epoch)[0][0].index] for epoch in range(1, 15)]
    assert len(set(first)) == 3, "batches are shuffled too, not sorted by size"


def num_padded(frames, order, batch_size):
    """Returns the pixels of batches that are padded to their largest height and width."""
    batches = [frames[order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    return sum(len(batch) * batch.max(0).prod() for batch in batches)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=60), st.integers(1, 9))
def test_batches_of_similar_sizes_have_every_sample_once_and_equal_sizes_in_their_order(sizes, batch_size):
    frames = np.array(sizes)
    order = similar_together(frames, batch_size)
    assert sorted(order.tolist()) == list(range(len(frames)))
    equal = [[index for index in order if sizes[index] == size] for size in set(sizes)]
    assert all(group == sorted(group) for group in equal)


def test_batches_of_similar_sizes_have_fewer_pixels_than_batches_sorted_by_size():
    frames, num_fewer = np.random.default_rng(0).integers(5, 21, (200, 2)), 0
    for batch_size in (4, 16, 32):
        sorted_by_size = num_padded(frames, np.lexsort(frames.T[::-1]), batch_size)
        num_fewer += num_padded(frames, similar_together(frames, batch_size), batch_size) < 0.97 * sorted_by_size
    assert num_fewer == 3


def presence_of(rates, num_samples=4000, seed=0):
    return np.random.default_rng(seed).random((num_samples, len(rates))) < np.array(rates)


def test_rare_classes_reach_the_rate_and_the_rest_stays_even():
    presence = presence_of([0.9, 0.5, 0.02, 0.005])
    shares = rare_class_shares(presence, 0.2, ("a", "b", "c", "d"))
    assert shares.sum() == pytest.approx(1)
    assert shares @ presence[:, 2:] == pytest.approx([0.2, 0.2], abs=1e-3)
    plain = shares[~presence[:, 2:].any(axis=1)]
    assert plain == pytest.approx(plain[0]), "samples without a rare class are equal"


def test_a_rate_below_every_share_changes_nothing():
    presence = presence_of([0.9, 0.5])
    assert rare_class_shares(presence, 0.3, ("a", "b")) == pytest.approx(1 / 4000)


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 0.9), min_size=1, max_size=6), st.floats(0.01, 0.3), st.integers(0, 99))
def test_every_class_that_exists_reaches_any_rate_that_can_be_reached(rates, rate, seed):
    presence = presence_of(rates, 300, seed)
    shares = rare_class_shares(presence, rate, [str(index) for index in range(len(rates))])
    there = presence.any(axis=0)
    assert (shares @ presence[:, there] >= rate - 1e-3).all()


def test_an_impossible_rate_is_refused_and_names_the_class_that_falls_short():
    presence = np.eye(3, dtype=bool)[np.arange(90) % 3]
    with pytest.raises(UserError, match=r"RARE_CLASS_RATE is 0.4.*[abc] stays at 0\.[0-9]+. Lower the rate"):
        rare_class_shares(presence, 0.4, ("a", "b", "c"))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50).filter(lambda shares: sum(shares) > 0.1), st.integers(0, 99))
def test_drawn_counts_differ_from_expected_ones_by_less_than_one(weights, seed):
    shares = np.array(weights) / np.sum(weights)
    counts = np.bincount(draw_shares(shares, np.random.default_rng(seed)), minlength=len(shares))
    assert counts.sum() == len(shares)
    assert (np.abs(counts - shares * len(shares)) < 1 + 1e-6).all()


def test_a_sample_drawn_twice_gets_another_augmentation():
    shares = np.array([0.5, 0.125, 0.125, 0.125, 0.125])
    keys = [key for batch in sampler(5, 5, shares=shares).batches(1) for key in batch]
    repeats = sorted(key.repeat for key in keys if key.index == 0)
    assert repeats == list(range(len(repeats))) and len(repeats) in (2, 3)
    assert len(set(keys)) == 5 and isinstance(keys[0], SampleKey)


def test_validation_batches_hold_one_size_and_keep_the_order():
    frames = Frames([(32, 32), (64, 32), (32, 32), (32, 32), (64, 32)])
    frames.group = frames.frame
    assert same_size_batches(frames, 2) == [[0, 2], [1, 4], [3]]
    frames.group = lambda index: (frames.frame(index), index != 2)  # one has no labels
    assert same_size_batches(frames, 2) == [[0, 3], [1, 4], [2]]
    assert same_size_batches(Frames(), 2) == []


@given(st.integers(1, 3000), st.integers(1, 6), st.integers(1, 400), st.integers(0, 9))
def test_an_order_by_shards_has_every_sample_once(num_images, per_image, window, seed):
    ranks = np.repeat(np.random.default_rng(seed).permutation(num_images), per_image)
    order = by_shards(ranks, window, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(num_images * per_image))


@given(st.integers(64, 400), st.integers(0, 9))
def test_an_order_by_shards_needs_few_images_at_a_time_and_each_shard_once(window, seed):
    num_images, per_image = 20 * window, 4
    ranks = np.repeat(np.arange(num_images), per_image)
    shards = ranks[by_shards(ranks, window, np.random.default_rng(seed))] // -(-window // SHARDS_AT_A_TIME)
    stretch = window // 2 * per_image
    assert max(len(set(shards[start : start + stretch].tolist())) for start in range(0, len(shards), stretch)) <= 28
    positions = [np.flatnonzero(shards == shard) for shard in range(shards.max() + 1)]
    # The end of the order continues at its beginning, so the longest gap of a shard may be anywhere.
    spans = [len(shards) - np.diff([*own, own[0] + len(shards)]).max() for own in positions]
    assert max(spans) < 1.3 * window * per_image


def test_an_order_by_shards_mixes_evenly_from_its_beginning_to_its_end():
    ranks = np.repeat(np.arange(1600), 4)
    order = by_shards(ranks, 160, np.random.default_rng(1))
    batches = ranks[order].reshape(-1, 32) // 10
    kinds = [len(set(batch.tolist())) for batch in batches]
    assert min(kinds) > 8 and abs(np.mean(kinds[:10]) - np.mean(kinds)) < 2 > abs(np.mean(kinds[-10:]) - np.mean(kinds))
    drawn = np.random.default_rng(1).integers(0, 16, (1000, 32))
    assert np.mean(kinds) > 0.9 * np.mean([len(set(batch.tolist())) for batch in drawn])


def test_epochs_in_order_of_shards_differ_and_can_be_begun_anywhere():
    ranks = np.repeat(np.arange(100), 3)
    made = sampler(300, 8, ranks=ranks, window=20)
    assert made.batches(4) == made.batches(4) != made.batches(5)
    assert made.batches(4) != sampler(300, 8).batches(4)
    made.begin(4, start_step=17)
    assert list(made) == made.batches(4)[17:]
    assert sorted(indices(sampler(300, 8, ranks=ranks, window=20, drop_last=False).batches(1))) == list(range(300))
    few = sampler(300, 8, ranks=ranks, window=100)
    assert len({key.index // 30 for key in few.batches(1)[0]}) > 3, "no more images than the window: any order"


def test_rare_classes_are_drawn_as_often_in_order_of_shards():
    shares = np.where(np.arange(300) % 50 == 0, 20, 1) / (6 * 20 + 294)
    made = sampler(300, 4, shares=shares, ranks=np.repeat(np.arange(100), 3), window=20)
    own, other = (Counter(indices(one.batches(2))) for one in (made, sampler(300, 4, shares=shares)))
    assert own == other
    keys = [key for batch in made.batches(2) for key in batch]
    assert len(set(keys)) == len(keys), "of one drawn twice, each has another augmentation"


def test_an_order_by_shards_is_refused_for_samples_of_several_sizes():
    with pytest.raises(UserError, match="SHUFFLE_WINDOW needs samples of one size, found 2 sizes"):
        sampler(frames=[(32, 32), (64, 32)] * 8, ranks=np.arange(16), window=4)
