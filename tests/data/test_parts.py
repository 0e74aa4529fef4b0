"""Parts of batches for processes that train together: all of them once, micro-batch by micro-batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.parts import PartSampler, block
from tests.data.test_sampler import sampler


@given(st.integers(2, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4))
def test_the_parts_of_a_micro_batch_together_are_that_micro_batch(num_parts, micro_batches, size, start_step):
    batch_size = num_parts * micro_batches * size
    whole = sampler(5 * batch_size + 1, batch_size)
    whole.begin(2, start_step)
    expected = list(whole)
    parts = [PartSampler(whole, part, num_parts, micro_batches) for part in range(num_parts)]
    for part in parts:
        part.begin(2, start_step)
    assert {(len(part), part.batch_size) for part in parts} == {(5, micro_batches * size)}
    found = list(zip(*(list(part) for part in parts), strict=True))
    assert len(found) == len(expected)
    for batch, own in zip(expected, found, strict=True):
        for index in range(micro_batches):
            together = [key for keys in own for key in keys[index * size : (index + 1) * size]]
            assert together == batch[index * num_parts * size : (index + 1) * num_parts * size]


@given(st.lists(st.integers(), max_size=20), st.integers(1, 5))
def test_blocks_are_a_list_cut_into_pieces_of_about_one_length(items, num_parts):
    blocks = [block(items, part, num_parts) for part in range(num_parts)]
    assert [item for own in blocks for item in own] == items
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
