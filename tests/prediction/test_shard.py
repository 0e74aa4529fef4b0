"""A shard is a file of the safetensors format: its own library reads what is written here by hand."""

from __future__ import annotations

import resource
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from pipeline.errors import UserError
from pipeline.prediction.store import is_whole, mapped_array, read_facts, write_shard

SHAPES = st.lists(st.integers(0, 5), min_size=1, max_size=3)


@given(st.dictionaries(st.text(max_size=9), st.tuples(SHAPES, st.sampled_from(["u1", "f2"])), max_size=5), st.text())
def test_safetensors_reads_arrays_and_facts_of_any_names(tmp_path_factory, kinds, key):
    kinds.pop("__metadata__", None)
    path = tmp_path_factory.mktemp("shard") / "shard-00000.safetensors"
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 256, shape).astype(dtype) for name, (shape, dtype) in kinds.items()}
    images = {name: {"size": [1, 2]} for name in arrays}
    sha256 = write_shard(path, key, images, arrays)
    facts = read_facts(path)
    assert facts == {"key": key, "sha256": sha256, "images": images} and is_whole(path, facts)
    with safe_open(path, "np") as shard:
        for name, array in arrays.items():
            found = shard.get_tensor(name)
            assert np.array_equal(found, array) and found.dtype == array.dtype
            if array.size:  # an empty file region cannot be mapped
                mapped = mapped_array(path, name)
                assert np.array_equal(mapped, array) and mapped.dtype == array.dtype


@pytest.mark.parametrize("changed", [{"key": "other"}, {"images": {"a": {"size": [2, 1]}}}, {"sha256": "0" * 64}])
def test_facts_that_are_not_those_of_the_content_are_damage(tmp_path, changed):
    path = tmp_path / "shard-00000.safetensors"
    write_shard(path, "key", {"a": {"size": [1, 2]}}, {"a": np.zeros(3, np.uint8)})
    assert is_whole(path, read_facts(path)) and not is_whole(path, read_facts(path) | changed)


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*shard-00000"):
            write_shard(tmp_path / "shard-00000.safetensors", "key", {"a": {}}, {"a": np.zeros(9999, np.uint8)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
