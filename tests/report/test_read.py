"""What a run's folder keeps is read back as it was."""

from __future__ import annotations

import json

import pytest

from pipeline.config.load import load
from pipeline.report.read import read_config


@pytest.mark.parametrize("overrides", [(), ("MODEL.NAME=Unet", "MODEL.OPTIONS={DECODER_CHANNELS: [64, 32, 16, 8, 4]}")])
def test_a_config_is_read_back_as_it_was_written(tmp_path, overrides):
    loaded = load("ExpBAA", overrides)
    (tmp_path / "config.yaml").write_text(loaded.text)
    assert read_config(tmp_path / "config.yaml") == json.loads(json.dumps(loaded.values))
