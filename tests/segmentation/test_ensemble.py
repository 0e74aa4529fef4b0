"""The five ways to combine members, held to a direct computation in float64 over whole images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.prediction.store import PredictionStore
from pipeline.segmentation import ensemble
from pipeline.segmentation.ensemble import METHODS, Recipe, check_members, combine, logits_rows, mean_probs, row_blocks
from pipeline.segmentation.predict import Prediction, decode, full_logits, unpack
from tests.segmentation.members import CLASSES, draw_prediction, write_store

SURE = 1e-4  # scores nearer than that may be ranked either way by float32


def direct_probs(prediction: Prediction) -> np.ndarray:
    """Probabilities of the whole image in float64, (C, height, width)."""
    logits = torch.from_numpy(prediction.logits).double()[None]
    if prediction.factor > 1:
        scale, corners = prediction.factor, prediction.align_corners
        logits = F.interpolate(logits, scale_factor=scale, mode="bilinear", align_corners=corners)
    (top, left), (height, width) = prediction.offset, prediction.size
    return logits[0, :, top : top + height, left : left + width].softmax(0).numpy()


def direct_scores(probs_MCHW: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """What the classes are ranked by, and where the ranking does not hang on rounding."""
    highest = probs_MCHW.max(0)
    if recipe.method == "MW":
        choices = np.eye(probs_MCHW.shape[1])[probs_MCHW.argmax(1)]
        votes = np.moveaxis(choices.sum(0), -1, 0)
        scores = np.where(votes == votes.max(0), highest, -1.0)
        two = np.sort(probs_MCHW, axis=1)[:, -2:]
        is_sure = (two[:, 1] - two[:, 0] > SURE).all(0)
    else:
        scores = {
            "AP": lambda: probs_MCHW.mean(0),
            "BP": lambda: highest,
            "GEO": lambda: np.exp(np.log(probs_MCHW).mean(0)),
            "WEIGHTED": lambda: (probs_MCHW * recipe.weights[:, :, None, None]).sum(0),
        }[recipe.method]()
        is_sure = np.ones(scores.shape[1:], bool)
    two = np.sort(scores, axis=0)[-2:]
    return scores, is_sure & (two[1] - two[0] > SURE)


@st.composite
def members(draw) -> tuple[list[Prediction], np.ndarray]:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    kinds = draw(st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.booleans()), min_size=1, max_size=5))
    num_classes = draw(st.integers(2, 6))
    drawn = [draw_prediction(generator, size, *kind, num_classes=num_classes) for kind in kinds]
    weights = generator.dirichlet(np.ones(len(drawn)), num_classes).T
    return drawn, weights


@given(members(), st.sampled_from([16, 100, 2**14]))
@settings(max_examples=80)
def test_every_method_equals_the_direct_computation(drawn, block_pixels):
    predictions, weights = drawn
    recipes = [*map(Recipe, METHODS), Recipe("WEIGHTED", weights)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "BLOCK_PIXELS", block_pixels)
        masks = combine(predictions, recipes)
    probs = np.stack([direct_probs(prediction) for prediction in predictions])
    for recipe, mask in zip(recipes, masks, strict=True):
        scores, is_sure = direct_scores(probs, recipe)
        assert mask.dtype == np.uint8
        assert mask.shape == predictions[0].size
        assert (mask == scores.argmax(0))[is_sure].all(), recipe.method


@given(members())
@settings(max_examples=40)
def test_rows_of_logits_are_those_of_the_whole_image(drawn):
    for prediction in drawn[0]:
        whole = full_logits(prediction)
        for top, bottom in row_blocks(*prediction.size):
            torch.testing.assert_close(logits_rows(prediction, top, bottom), whole[:, top:bottom], rtol=1e-4, atol=1e-4)


@given(members())
@settings(max_examples=40)
def test_one_recipe_alone_gives_what_it_gives_among_others(drawn):
    predictions, weights = drawn
    recipes = [*map(Recipe, METHODS), Recipe("WEIGHTED", weights)]
    together = combine(predictions, recipes)
    for recipe, mask in zip(recipes, together, strict=True):
        assert np.array_equal(combine(predictions, [recipe])[0], mask)


@given(members())
@settings(max_examples=40)
def test_equal_weights_are_the_mean_and_the_order_of_members_does_not_matter(drawn):
    predictions, _ = drawn
    equal = np.full((len(predictions), 1), 1 / len(predictions))
    forward, weighted = combine(predictions, [Recipe("AP"), Recipe("WEIGHTED", equal)])
    backward = combine(predictions[::-1], [Recipe("AP")])[0]
    probs = np.stack([direct_probs(prediction) for prediction in predictions])
    _, is_sure = direct_scores(probs, Recipe("AP"))
    assert (forward == weighted)[is_sure].all()
    assert (forward == backward)[is_sure].all()


def test_one_member_alone_is_decoded_as_without_an_ensemble():
    generator = np.random.default_rng(1)
    for factor, corners in ((1, False), (4, True), (8, False)):
        prediction = draw_prediction(generator, (50, 70), factor, corners)
        masks = combine([prediction], list(map(Recipe, METHODS)))
        assert all((mask == decode(prediction)).mean() > 0.9995 for mask in masks)


def test_a_tied_vote_goes_to_the_class_with_the_highest_single_probability():
    probs = np.array([[0.6, 0.4, 0.0], [0.3, 0.7, 0.0], [0.0, 0.45, 0.55], [0.0, 0.45, 0.55]])
    predictions = [
        Prediction(np.log(np.maximum(row, 1e-4)).astype(np.float16)[:, None, None], 1, False, (0, 0), (1, 1))
        for row in probs
    ]
    assert combine(predictions[:2], [Recipe("MW")])[0].item() == 1
    assert combine(predictions, [Recipe("MW")])[0].item() == 2
    assert combine(predictions, [Recipe("AP")])[0].item() == 1


def test_an_excluded_class_is_never_chosen_and_the_others_keep_their_ranks():
    predictions = [draw_prediction(np.random.default_rng(seed), (20, 30)) for seed in range(3)]
    scores, _ = direct_scores(np.stack([direct_probs(one) for one in predictions]), Recipe("AP"))
    scores[[0, 2]] = -1
    plain, excluded = combine(predictions, [Recipe("AP")]), combine(predictions, [Recipe("AP")], (0, 2))
    assert 0 in plain[0]
    assert np.array_equal(excluded[0], scores.argmax(0))


def test_mean_probabilities_sum_to_one_and_cover_the_image():
    predictions = [draw_prediction(np.random.default_rng(seed), (37, 600), 4, True) for seed in range(3)]
    blocks = list(mean_probs(predictions))
    assert [(top, bottom) for top, bottom, _ in blocks] == list(row_blocks(37, 600))
    whole = torch.cat([probs for _, _, probs in blocks], 1)
    assert whole.shape == (len(CLASSES), 37, 600)
    torch.testing.assert_close(whole.sum(0), torch.ones(37, 600))


def test_a_view_on_the_disk_is_the_prediction_itself(tmp_path):
    drawn = {f"p{index}": draw_prediction(np.random.default_rng(index), (20, 30), 4, True) for index in range(20)}
    store = PredictionStore(write_store(tmp_path / "store", drawn), unpack)
    for image_id, prediction in drawn.items():
        view = store.view(image_id)
        assert np.array_equal(view.logits, prediction.logits)
        facts = [{name: value for name, value in vars(one).items() if name != "logits"} for one in (view, prediction)]
        assert facts[0] == facts[1]
        assert np.array_equal(combine([view], [Recipe("AP")])[0], combine([prediction], [Recipe("AP")])[0])


def test_members_of_another_competition_or_class_order_are_refused_by_name():
    facts = {"classes": ["sky", "road"], "competition": "demo"}
    check_members({"ExpA": facts, "ExpB": dict(facts)})
    with pytest.raises(UserError, match="ExpB cannot be combined with ExpA: classes of ExpB: road, sky"):
        check_members({"ExpA": facts, "ExpB": facts | {"classes": ["road", "sky"]}})
    with pytest.raises(UserError, match=r"ExpC .*competition of ExpC: camvid; competition of ExpA: demo"):
        check_members({"ExpA": facts, "ExpB": facts, "ExpC": facts | {"competition": "camvid"}})


def test_predictions_of_different_sizes_are_refused():
    generator = np.random.default_rng(0)
    with pytest.raises(UserError, match="sizes"):
        combine([draw_prediction(generator, (4, 5)), draw_prediction(generator, (5, 4))], [Recipe("AP")])
