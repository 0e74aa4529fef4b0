"""Full-size logits as bytes: the class of each pixel exactly, probabilities nearly, and any rows of them alone."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipeline.inference import compact, ensemble
from pipeline.inference.compact import BEST, Bands, CompactLogits, band_rows, compress, to_codes
from pipeline.inference.ensemble import METHODS, Recipe, combine
from pipeline.inference.predict import Prediction
from pipeline.model.decision import choose

LOGIT = st.floats(-60000, 60000, width=32) | st.floats(-4, 4, width=32) | st.sampled_from([0.0, 1.0])
LOGITS = arrays(np.float32, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7), elements=LOGIT)
CODES = arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=12))


def roots(logits_CHW: np.ndarray) -> np.ndarray:
    """Square roots of the probabilities next to the best one's, in float64."""
    return np.exp((logits_CHW.astype(np.float64) - logits_CHW.max(0).astype(np.float64)) / 2)


@given(LOGITS)
@settings(max_examples=300)
def test_decoding_keeps_each_pixels_class_on_ties_too_and_stays_within_the_stated_error(logits):
    tensor = torch.from_numpy(logits)[None]
    codes = to_codes(tensor)[0].numpy()
    found = np.asarray(CompactLogits(compress(codes)))
    assert np.array_equal(found.argmax(0), choose(tensor)[0].numpy())
    assert np.array_equal(codes.argmax(0), logits.argmax(0)) and ((codes == BEST).sum(0) == 1).all()
    assert np.abs(roots(found) - roots(logits)).max() <= 1 / BEST + 1e-6
    assert found.dtype == np.float32 and (found.max(0) == 0).all()


@given(CODES, st.integers(1, 64), st.data())
@settings(max_examples=200)
def test_bands_give_back_any_rows_and_columns(codes, band_pixels, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "BAND_PIXELS", band_pixels)
        bands = compress(codes)
        assert len(bands.ends) == -(-codes.shape[1] // band_rows(codes.shape[2])) and bands.shape == codes.shape
        assert np.array_equal(bands[:, :], codes)
        top, bottom = sorted(data.draw(st.tuples(*[st.integers(0, codes.shape[1])] * 2)))
        left, right = sorted(data.draw(st.tuples(*[st.integers(0, codes.shape[2])] * 2)))
        assert np.array_equal(bands[:, top:bottom], codes[:, top:bottom])
        assert np.array_equal(bands[1:, top:bottom, left:right], codes[1:, top:bottom, left:right])


def test_others_read_it_in_the_four_lines_of_the_docstring():
    logits = torch.randn((1, 5, 60, 1280), generator=torch.Generator().manual_seed(0)) * 3
    bands, num_classes, width = compress(to_codes(logits)[0].numpy()), 5, 1280
    starts = (0, *bands.ends[:-1])
    parts = []
    for start, end in zip(starts, bands.ends, strict=True):
        differences = np.frombuffer(zlib.decompress(bands.data[start:end]), np.uint8).reshape(num_classes, -1, width)
        codes = differences.cumsum(1, np.uint8).cumsum(2, np.uint8)
        probs = codes.astype(np.float32) ** 2
        parts.append(probs / probs.sum(0))
    found, wanted = np.concatenate(parts, 1), logits[0].softmax(0).numpy()
    assert len(bands.ends) == 3 and np.abs(found - wanted).max() < 0.01
    assert np.array_equal(found.argmax(0), wanted.argmax(0))


def test_only_the_bands_that_hold_wanted_rows_are_decoded(monkeypatch):
    bands, decoded = compress(np.zeros((2, 100, 1280), np.uint8)), []
    band = Bands._band
    monkeypatch.setattr(Bands, "_band", lambda self, number: decoded.append(number) or band(self, number))
    for top, bottom in ensemble.row_blocks(100, 1280):
        bands[:, top:bottom]
    assert decoded == [0, 1, 2, 3]  # the blocks of an ensemble are the bands
    bands[:, 24:26]
    assert decoded[4:] == [0, 1]


def test_smooth_probabilities_take_a_fifth_of_a_byte_each_and_noise_not_more_than_itself():
    coarse = torch.randn((1, 12, 6, 10), generator=torch.Generator().manual_seed(0)) * 8
    smooth = torch.nn.functional.interpolate(coarse, size=(180, 320), mode="bicubic")
    codes = to_codes(smooth)[0].numpy()
    assert compress(codes).data.nbytes < 0.2 * codes.nbytes
    noise = np.random.default_rng(0).integers(0, 256, (12, 60, 1280), dtype=np.uint8)
    assert compress(noise).data.nbytes < 1.001 * noise.nbytes


def test_several_members_decide_as_they_do_in_full():  # on street images see benchmarks/bench_store.py
    generator = torch.Generator().manual_seed(0)
    common = torch.randn((1, 12, 12, 20), generator=generator) * 6
    full, small = [], []
    for _ in range(4):
        coarse = common + torch.randn(common.shape, generator=generator) * 2
        logits = torch.nn.functional.interpolate(coarse, size=(360, 640), mode="bicubic")
        facts = (1, False, (0, 0), (360, 640))
        full.append(Prediction(logits[0].numpy(), *facts))
        small.append(Prediction(CompactLogits(compress(to_codes(logits)[0].numpy())), *facts))
    recipes = [*map(Recipe, METHODS), Recipe("WEIGHTED", np.array([[0.1], [0.2], [0.3], [0.4]]))]
    for recipe, wanted, found in zip(recipes, combine(full, recipes), combine(small, recipes), strict=True):
        assert (wanted == found).mean() >= 0.998, recipe.method
