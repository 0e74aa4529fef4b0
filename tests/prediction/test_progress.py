"""What was made of each image survives a kill, and nothing that is damaged or of other settings is taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.prediction.progress import Progress


def test_results_come_back_as_they_were_put_in_and_partial_files_are_asked_for_again(tmp_path):
    ids = [f"a/{number}" for number in range(20)]
    results = {
        image_id: {"mask": np.full((3, 5), number, np.uint8), "empty": np.zeros((2, 0), np.float16)}
        for number, image_id in enumerate(ids)
    }
    progress = Progress(tmp_path / "pass", "key", ids)
    for image_id in ids[:18]:
        progress.put(image_id, results[image_id])
    again = Progress(tmp_path / "pass", "key", ids)
    assert again.missing() == ids[16:]
    for image_id in again.missing():
        again.put(image_id, results[image_id])
    assert again.missing() == []
    for image_id in ids:
        for name, array in results[image_id].items():
            assert again[image_id][name].dtype == array.dtype
            assert np.array_equal(again[image_id][name], array)


@pytest.mark.parametrize("change", ["key", "ids", "flip", "cut"])
def test_results_of_another_key_or_list_and_damaged_ones_are_made_again(tmp_path, change):
    ids = [f"{number}" for number in range(16)]
    progress = Progress(tmp_path, "key", ids)
    for image_id in ids:
        progress.put(image_id, {"mask": np.random.default_rng(0).integers(0, 9, (9, 9), np.uint8)})
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if change == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[: len(data) // 2] if change == "cut" else data)
    key, ids = ("other" if change == "key" else "key"), (ids[::-1] if change == "ids" else ids)
    assert Progress(tmp_path, key, ids).missing() == ids
