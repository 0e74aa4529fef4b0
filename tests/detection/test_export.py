"""A network for boxes as ONNX: its README's code finds the boxes and scores that the network finds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.commands.export import read_me
from pipeline.detection.export import export_network
from pipeline.detection.networks import decoded, network_of
from pipeline.detection.predict import make_predictor
from pipeline.training.encoder import normalise, scaling_of
from tests.detection.box_competition import RETINANET, YOLOX, tiny


@pytest.mark.parametrize(
    ("network", "scale"),
    [(RETINANET, 1), (YOLOX, 1), pytest.param(RETINANET, 0.5, marks=pytest.mark.slow)],
    ids=["RetinaNet", "YOLOX", "RetinaNet, resized"],
)
def test_the_code_of_the_readme_finds_the_boxes_of_the_network(tmp_path, monkeypatch, network, scale):
    loaded = tiny(Path("nowhere"), f"DATASETS.INPUT_SCALE={scale}", more=network)
    torch.manual_seed(0)
    predictor = make_predictor(loaded, network_of(loaded), torch.device("cpu"), torch.float32)
    exported = export_network(predictor, (60, 96), tmp_path)
    facts = {"run": "tiny", "classes": list(loaded.competition.class_names), **exported.facts}
    (tmp_path / "export.json").write_text(json.dumps(facts))
    assert facts["onnx"]["difference"] <= 1e-4
    assert facts["onnx"]["size"] == (None if scale == 1 else (64, 96))  # what resizes has a fixed size in the file
    (code,) = re.findall(r"```python\n(.*?)```", read_me(facts, exported), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for shape in ((1, 64, 96), (2, 160, 128)) if scale == 1 else ((1, 64, 96),):
        image_BHWC = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
        given = image_BHWC.transpose(0, 3, 1, 2).astype(np.float32)
        values = {"given": given}
        exec(re.sub(r"np\.zeros\(.*np\.float32\)", "given", code), values)
        scaling = scaling_of(predictor.network, loaded.config.model.encoder)
        with torch.inference_mode():
            outputs = predictor.network(normalise(torch.from_numpy(image_BHWC), scaling))
            boxes, scores = decoded(loaded, outputs, shape[1:])
        np.testing.assert_allclose(values["boxes"], boxes.numpy(), atol=0.02)
        np.testing.assert_allclose(values["scores"], scores.numpy(), atol=1e-4)
