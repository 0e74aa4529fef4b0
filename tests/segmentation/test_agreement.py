"""The share of pixels that a stored prediction gets right, on a network whose classes are known."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.config.load import load
from pipeline.segmentation.predict import Prediction, Predictor, agreement
from pipeline.segmentation.samples import whole_images
from tests.data.catalogs import IndexMasks, plain_images

HEIGHT, WIDTH = 20, 40


class Redness(torch.nn.Module):
    """Class 1 where a pixel is red, else 0."""

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        red = image_BCHW[:, :1]
        return torch.cat([-red, red], 1)


def test_agreement_is_the_share_of_equal_pixels_of_the_unpadded_images(tmp_path):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, : WIDTH // 2, 2] = 255  # OpenCV's red
    cv2.imwrite(str(tmp_path / "a.png"), image)
    row = {"id": "a", "image": "a.png", "width": WIDTH, "height": HEIGHT}
    dataset = whole_images(pd.DataFrame([row]), plain_images(tmp_path), IndexMasks(tmp_path))
    config = load("demo").config
    predictor = Predictor(Redness(), config.model.encoder, config.predict, 2, torch.device("cpu"), torch.float32)
    logits = np.zeros((2, HEIGHT, WIDTH), np.float16)
    logits[1, :, : WIDTH // 2] = 1
    stored = {"a": Prediction(logits, 1, False, (0, 0), (HEIGHT, WIDTH))}
    assert agreement(predictor, dataset, [0], stored) == 1
    logits[1, :, : WIDTH // 4] = -1
    assert agreement(predictor, dataset, [0], stored) == pytest.approx(0.75)
