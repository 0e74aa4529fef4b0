"""Class weights by how often the training masks show a class: worked by hand, and in a run."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.segmentation.class_weights import KINDS, measured_weights, weights_of
from pipeline.segmentation.learning import learning
from pipeline.training.inputs import split_rows
from tests.tiny import executed, run_of, run_stages


def test_weights_of_worked_shares():
    pixels = np.array([600, 300, 100])
    assert measured_weights("inverse", pixels, 1000) == pytest.approx([1 / 0.6, 1 / 0.3, 10])
    assert measured_weights("inverse_sqrt", pixels, 1000) == pytest.approx(np.sqrt([1 / 0.6, 1 / 0.3, 10]))
    assert measured_weights("log", pixels, 1000) == pytest.approx([2.07286, 3.60189, 8.82389], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@given(counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_a_rarer_class_never_weighs_less_and_an_absent_one_is_like_the_rarest(kind, counts):
    pixels = np.array(counts)
    weights = measured_weights(kind, pixels, max(1, sum(counts)))
    assert np.isfinite(weights).all() and (weights > 0).all()
    assert (np.diff(weights[np.argsort(-pixels, kind="stable")]) >= -1e-12).all()
    if (pixels > 0).any():
        assert weights[pixels == 0] == pytest.approx(weights[pixels > 0].max())


def test_an_unknown_kind_is_refused_with_what_was_meant():
    with pytest.raises(UserError, match=r"LOSS_FN.WEIGHTS: found 'invers', expected .* one of inverse, inverse_sqrt"):
        load("demo", ("LOSS_FN.WEIGHTS=invers",))


def test_a_run_weighs_its_losses_by_the_masks_of_its_training_images_and_names_their_settings(workshop):
    mix = "0.6 ce(stride=2, smooth=0.1) + 0.4 tversky(alpha=0.5, beta=1)"
    loaded = workshop.tiny("LOSS_FN.WEIGHTS=inverse_sqrt", f"LOSS_FN.MIX={mix}", "SWEEP.ENABLE=false")
    paths, lines = run_stages(loaded, "train")
    assert "train" in executed(lines)
    masks = [mask_of(workshop, image_id) for image_id in split_rows(paths, "train")["id"]]
    shares = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=12) / np.concatenate(masks).size
    expected = 1 / np.sqrt(np.where(shares > 0, shares, shares[shares > 0].min()))
    run = run_of(loaded, lines.append)
    assert weights_of(run) == pytest.approx(expected)
    assert lines[-1].startswith("class weights (inverse_sqrt): ") and lines[-1] in lines[:-1]
    logits, mask = torch.randn(1, 12, 64, 64), torch.from_numpy(masks[0])[None]
    found = learning(run, torch.device("cpu")).criterion("ce", 0, ())(logits, mask).total
    weights = torch.from_numpy(expected).float()
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, mask.long(), weights))
    history = pd.read_csv(paths / "history.csv")
    parts = [f"valid_loss_{name}" for name in ("ce(stride=2 smooth=0.1)", "tversky(alpha=0.5 beta=1)")]
    assert (0.6 * history[parts[0]] + 0.4 * history[parts[1]]).tolist() == pytest.approx(history["valid_loss"].tolist())
    steps = pd.read_csv(paths / "steps.csv")
    assert list(steps.columns[4:]) == [name.removeprefix("valid_loss_") for name in parts]


def mask_of(workshop, image_id: str) -> np.ndarray:
    return cv2.imread(str(workshop.data / f"masks/masks/{image_id}.png"), cv2.IMREAD_GRAYSCALE)
