"""Each batch has its share of pseudo-labelled samples; these come equally often, and labelled ones as without."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.loaders import EpochSampler
from pipeline.data.sampler import PseudoSampler

SEED = 3


class Frames(list):
    """As many samples as there are frames (height, width)."""

    def frames(self):
        return np.array(self)


def make(
    num_labelled=11, num_pseudo=7, batch_size=4, per_batch=1, frames=((32, 32),), pseudo_frames=((32, 32),), **more
):
    """Returns the sampler of batches, and that of the labelled samples alone."""
    labelled = Frames(frames[index % len(frames)] for index in range(num_labelled))
    pseudo = Frames(pseudo_frames[index % len(pseudo_frames)] for index in range(num_pseudo))
    alone = EpochSampler(labelled, batch_size - per_batch, SEED, **more)
    return PseudoSampler(EpochSampler(labelled, batch_size - per_batch, SEED, **more), pseudo, per_batch), alone


def parts(batches, num_labelled):
    """Returns the labelled and the pseudo-labelled keys of each batch."""
    return [[[key for key in batch if (key.index < num_labelled) is own] for batch in batches] for own in (True, False)]


@given(
    num_labelled=st.integers(6, 40),
    num_pseudo=st.integers(1, 30),
    per_batch=st.integers(1, 5),
    num_each=st.integers(1, 5),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    frames=st.sampled_from([((32, 32),), ((32, 32), (64, 32))]),
    pseudo_frames=st.sampled_from([((32, 32),), ((64, 64), (32, 32))]),
)
def test_batches_are_those_of_labelled_samples_with_a_share_of_pseudo_labelled_ones(
    num_labelled, num_pseudo, per_batch, num_each, shuffle, drop_last, frames, pseudo_frames
):
    options = {"frames": frames, "pseudo_frames": pseudo_frames, "shuffle": shuffle, "drop_last": drop_last}
    both, alone = make(num_labelled, num_pseudo, per_batch + num_each, per_batch, **options)
    drawn = Counter()
    for epoch in (1, 2, 3):
        batches = both.batches(epoch)
        assert len(batches) == len(both) == len(alone)
        labelled, pseudo = parts(batches, num_labelled)
        assert [sorted(batch) for batch in labelled] == [sorted(batch) for batch in alone.batches(epoch)]
        for own, other in zip(labelled, pseudo, strict=True):
            assert len(other) == min(per_batch, per_batch * len(own) // num_each)
        keys = [key for batch in batches for key in batch]
        assert len(set(keys)) == len(keys), "a sample that comes twice is augmented differently"
        drawn.update(key.index - num_labelled for batch in pseudo for key in batch)
        assert all(key.epoch == epoch and 0 <= key.index < num_labelled + num_pseudo for key in keys)
    counts = [drawn[index] for index in range(num_pseudo)]
    assert max(counts) - min(counts) <= 3, "each epoch begins where the one before ended"


def test_through_the_epochs_all_are_drawn_once_before_one_is_drawn_again():
    both, _ = make(num_labelled=12, num_pseudo=20, batch_size=4, per_batch=1)
    drawn = [key.index for epoch in range(1, 6) for batch in parts(both.batches(epoch), 12)[1] for key in batch]
    assert len(drawn) == 20 and sorted(drawn) == list(range(12, 32))
    assert drawn != sorted(drawn)


@given(st.integers(1, 50), st.integers(0, 3))
def test_an_epoch_begun_later_is_the_rest_of_the_whole_epoch(epoch, start_step):
    both, _ = make()
    both.begin(epoch)
    whole = list(both)
    both.begin(epoch, start_step)
    assert list(both) == whole[start_step:]
    assert whole == make()[0].batches(epoch), "another process draws the same"


def test_small_images_come_to_small_ones():
    sizes = ((32, 32), (96, 96))
    both, _ = make(num_labelled=40, num_pseudo=40, frames=sizes, pseudo_frames=sizes, batch_size=8, per_batch=4)
    matched = 0
    for batch in both.batches(1):
        frames = {sizes[key.index % 2] for key in batch}
        matched += len(frames) == 1
    assert matched >= len(both) - 2


def test_micro_batches_hold_both_kinds():
    both, _ = make(num_labelled=60, num_pseudo=60, batch_size=8, per_batch=4)
    firsts = [sum(key.index >= 60 for key in batch[:4]) for batch in both.batches(1)]
    assert 0 < sum(firsts) / len(firsts) < 4 and len(set(firsts)) > 1
    ordered, _ = make(num_labelled=60, num_pseudo=60, batch_size=8, per_batch=4, shuffle=False)
    assert [key.index for key in ordered.batches(1)[0]] == [0, 1, 2, 3, 60, 61, 62, 63]


@pytest.mark.parametrize("augment", [True, False])
def test_a_phase_without_augmentation_says_so_in_all_keys(augment):
    assert {key.augment for batch in make()[0].batches(1, augment) for key in batch} == {augment}
