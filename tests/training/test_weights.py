"""Files of encoder weights: by encoder and tag in the folders, or named by path."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.config.schema import Encoder
from pipeline.errors import UserError
from pipeline.training.inputs import find_encoder_weights

TINY = Encoder("tu-lcnet_035", "LCN", None)


def test_weights_are_found_by_encoder_and_tag_in_the_first_folder_that_has_them(tmp_path):
    encoder, folders = dataclasses.replace(TINY, weights="imagenet"), [tmp_path / name for name in ("a", "b", "c")]
    assert find_encoder_weights(encoder, folders) is None and find_encoder_weights(TINY, folders) is None
    for folder in folders[1:]:
        folder.mkdir()
        (folder / "tu-lcnet_035-imagenet.safetensors").write_bytes(b"")
    assert find_encoder_weights(encoder, folders) == folders[1] / "tu-lcnet_035-imagenet.safetensors"
    assert find_encoder_weights(TINY, folders) is None


def test_weights_may_be_named_by_path(tmp_path):
    path = tmp_path / "mine.safetensors"
    with pytest.raises(UserError, match=r"MODEL\.ENCODER\.WEIGHTS: there is no file .*mine\.safetensors"):
        find_encoder_weights(dataclasses.replace(TINY, weights=str(path)), ())
    path.write_bytes(b"")
    assert find_encoder_weights(dataclasses.replace(TINY, weights=str(path)), ()) == path
