"""What training needs of segmentation: class weights, losses with their terms, scores of samples and of validations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.competition import OF_BOXES, ScoreOptions
from pipeline.config.load import load
from pipeline.scores import KINDS, OF_VOLUMES, Chosen, chosen_scores
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.learning import MaskScorer, bind, count_pixels, fixed_weights, learning, score_of_classes
from pipeline.segmentation.mask_scores import score_masks
from pipeline.segmentation.scores import summarise
from pipeline.task import Learning, Scores

CPU = torch.device("cpu")
CLASSES = ("Road", "Car", "Boat")
NAN = float("nan")
ADAPTIVE = ("ADAPTIVE.ENABLE=true", "ADAPTIVE.MAX_WEIGHT=3")


def made(*changes: str, num_classes: int = 3, scored=None, in_loss=None, num_outputs: int | None = None) -> Learning:
    """Returns the learning of classes; all are scored and in the loss, unless told otherwise."""
    every = tuple(range(num_classes))
    loss_fn = load("demo", tuple(f"LOSS_FN.{change}" for change in changes)).config.loss_fn
    return bind(CLASSES[:num_classes], scored or every, in_loss or every, num_outputs or num_classes, loss_fn, CPU)


def batch(num_outputs: int = 3) -> tuple[Tensor, Tensor]:
    """Returns random logits (2, C, 4, 4), and a mask of the same outputs."""
    logits = torch.randn(2, num_outputs, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.randint(0, num_outputs, (2, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return logits, mask


def weighs(one: Learning, epoch: int, class_scores: Sequence[float], weights: Sequence[float], num_outputs: int):
    """Returns whether the loss of an epoch is a cross-entropy with these class weights."""
    logits, mask = batch(num_outputs)
    found = one.criterion("1 ce", epoch, class_scores)(logits, mask).total
    return torch.allclose(found, F.cross_entropy(logits, mask.long(), torch.tensor(weights)))


def test_equal_weights_of_all_classes_are_none():
    assert fixed_weights(None, in_loss=(0, 1), num_classes=2, num_outputs=2) is None


def test_given_weights_sum_to_the_number_of_classes():
    assert fixed_weights((3.0, 1.0), (0, 1), 2, 2).tolist() == [1.5, 0.5]


def test_classes_outside_the_loss_weigh_nothing_and_a_padding_class_one():
    assert fixed_weights((3.0, 1.0, 1.0), (0, 2), 3, 4).tolist() == [2.25, 0.0, 0.75, 1.0]
    one = made(in_loss=(0, 2), num_outputs=4)
    assert weighs(one, 0, (), [1.5, 0.0, 1.5, 1.0], num_outputs=4)


def test_adaptive_weights_begin_after_the_first_epoch():
    one = made(*ADAPTIVE, num_classes=2)
    assert weighs(one, 0, [1.0, 0.0], [1.0, 1.0], num_outputs=2)
    assert weighs(one, 1, [1.0, 0.0], [0.5, 1.5], num_outputs=2)


def test_adaptive_weights_leave_out_classes_outside_the_loss():
    one = made(*ADAPTIVE, in_loss=(0, 1), num_outputs=4)
    assert weighs(one, 5, [1.0, 0.0, 0.0], [0.75, 2.25, 0.0, 1.0], num_outputs=4)


def test_without_adaptation_every_epoch_has_the_fixed_weights():
    assert weighs(made(), 5, [1.0, 0.0, 0.5], [1.0, 1.0, 1.0], num_outputs=3)


def test_the_loss_that_validates_every_epoch_has_weights_that_never_change():
    assert weighs(made(*ADAPTIVE), 0, (), [1.0, 1.0, 1.0], num_outputs=3)


def test_a_loss_is_the_weighted_sum_of_its_terms_which_are_recorded_unweighted():
    logits, mask = batch()
    logits.requires_grad_()
    total, terms, _ = made().criterion("0.7 ce + 0.3 dice", 0, ())(logits, mask)
    ce, dice = (made().criterion(mix, 0, ())(logits, mask).total for mix in ("1 ce", "1 dice"))
    assert terms == {"ce": ce, "dice": dice} and total.requires_grad and not terms["ce"].requires_grad
    assert float(total.detach()) == pytest.approx(0.7 * float(terms["ce"]) + 0.3 * float(terms["dice"]), abs=1e-7)


def test_a_class_of_weight_zero_has_no_gradient_through_its_pixels():
    logits = torch.zeros(1, 3, 1, 2, requires_grad=True)
    mask = torch.tensor([[[0, 2]]], dtype=torch.uint8)
    made(in_loss=(0, 1)).criterion("1 ce", 0, ())(logits, mask).total.backward()
    assert logits.grad[..., 1].abs().max() == 0 and logits.grad[..., 0].abs().max() > 0


def test_sums_over_samples_are_their_scores_and_ignore_padding():
    one = made(num_classes=2, num_outputs=3)
    logits = torch.zeros(2, 3, 1, 2)
    logits[:, 1] = 1.0  # everything is predicted as class 1; output 2 is the padding class
    sums = one.sample_sums(logits, torch.tensor([[[1, 1]], [[0, 255]]], dtype=torch.uint8))
    sums += one.sample_sums(logits[:1], torch.tensor([[[1, 2]]], dtype=torch.uint8))
    assert sums.dtype == torch.float64 and len(sums) == one.num_sums
    scores = one.sample_scores((sums / 3).tolist())
    assert scores.by_name["dice"].classes == pytest.approx([2 / 3, 2 / 3])
    assert scores.by_name["iou"].classes == pytest.approx([2 / 3, 2 / 3])
    assert scores.by_name["iou"].mean == pytest.approx(2 / 3) and scores.class_scores == scores.by_name["dice"].classes


def test_parts_of_a_batch_are_split_and_joined_in_order():
    one, (logits, mask) = made(), batch()
    assert torch.equal(torch.cat(one.split_labels(mask, 2)), mask)
    assert torch.equal(one.join_outputs([logits[:1], logits[1:]]), logits)


def score(
    truths: Sequence[Sequence], predictions: Sequence[Sequence], num_classes: int, num_outputs: int = 0, scored=None
) -> Scores:
    """Returns the scores of batches of masks (lists of rows), predicted with certainty."""
    num_outputs = num_outputs or num_classes
    scorer = made(num_classes=num_classes, num_outputs=num_outputs, scored=scored).scorer()
    for truth, predicted in zip(truths, predictions, strict=True):
        logits = F.one_hot(torch.tensor(predicted), num_outputs).permute(0, 3, 1, 2).float()
        scorer.add(logits, torch.tensor(truth, dtype=torch.uint8))
    return scorer.scores()


def test_dice_is_the_mean_over_images_and_one_where_both_lack_the_class():
    result = score([[[[0, 1]], [[0, 0]]]], [[[[0, 0]], [[0, 0]]]], num_classes=2)
    assert result.by_name["dice"].classes == pytest.approx([(2 / 3 + 1) / 2, (0 + 1) / 2])
    assert result.by_name["iou"].classes == pytest.approx([(1 / 2 + 1) / 2, (0 + 1) / 2])
    assert result.by_name["miou"].classes == pytest.approx([3 / 4, 0])
    assert result.has_hit == [True, False] and result.class_scores == result.by_name["dice"].classes
    assert result.by_name["dice"].mean == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert result.by_name["miou"].mean == pytest.approx(3 / 8)


def test_means_are_over_the_scored_classes():
    result = score([[[[0, 1]], [[0, 0]]]], [[[[0, 0]], [[0, 0]]]], num_classes=2, scored=(1,))
    assert [result.by_name[name].mean for name in ("dice", "iou", "miou")] == pytest.approx([0.5, 0.5, 0.0])


def test_a_class_in_no_mask_and_no_prediction_is_not_missed_and_has_no_miou():
    result = score([[[[0, 0]]]], [[[[0, 0]]]], num_classes=2)
    assert result.has_hit == [True, True] and result.by_name["dice"].classes == [1.0, 1.0]
    assert math.isnan(result.by_name["miou"].classes[1]) and result.by_name["miou"].mean == 1.0
    assert score([[[[0, 0]]]], [[[[0, 0]]]], num_classes=2, scored=(1,)).by_name["miou"].mean is None


def test_scores_of_several_batches_are_those_of_all_images():
    truths, predictions = [[[0, 1]], [[0, 0]], [[1, 1]]], [[[0, 0]], [[0, 0]], [[1, 0]]]
    whole = score([truths], [predictions], num_classes=2)
    assert score([truths[:1], truths[1:]], [predictions[:1], predictions[1:]], num_classes=2) == whole


def test_ignored_and_padded_pixels_count_nowhere():
    result = score([[[[0, 255, 2]]]], [[[[0, 1, 1]]]], num_classes=2, num_outputs=3)
    assert result.by_name["dice"].classes == [1.0, 1.0]


def test_a_pixel_that_the_network_calls_padding_is_given_to_the_best_real_class():
    result = score([[[[0, 0]]]], [[[[2, 0]]]], num_classes=2, num_outputs=3)
    assert result.by_name["dice"].classes == [1.0, 1.0]


@pytest.mark.parametrize("name", [name for name in KINDS if name not in (*OF_VOLUMES, *OF_BOXES)])
def test_a_validation_says_what_the_evaluation_of_the_same_masks_does(name):
    generator = np.random.default_rng(0)
    predicted, truth = generator.integers(0, 3, (2, 6, 9, 14), dtype=np.uint8)
    truth[generator.random(truth.shape) < 0.1] = 255
    truth[:2][truth[:2] == 2] = 1  # images without the class
    options = ScoreOptions(beta=0.5, tolerance=1.0, thresholds=(0.5, 0.7))
    chosen = Chosen(tuple(dict.fromkeys(("dice", "iou", "miou", name))), options)
    scorer = MaskScorer(3, (1, 2), chosen)
    for start in (0, 4):
        logits = F.one_hot(torch.from_numpy(predicted[start : start + 4]).long(), 3).permute(0, 3, 1, 2).float()
        scorer.add(logits, torch.from_numpy(truth[start : start + 4]))
    found = scorer.scores().by_name
    confusion_ICC = np.stack([SOFTMAX.count_masks(*pair, 3) for pair in zip(predicted, truth, strict=True)])
    each = [score_masks(chosen.of_masks, *pair, 3, options) for pair in zip(predicted, truth, strict=True)]
    of_masks = {name: np.stack([own[name] for own in each]) for name in chosen.of_masks}
    wanted = summarise(confusion_ICC, CLASSES, (1, 2), name, chosen, of_masks)["scores"]
    assert list(found) == list(wanted) == list(chosen.names)
    for one, score in found.items():
        assert score.mean == pytest.approx(wanted[one]["mean"])
        assert score.classes == pytest.approx(list(wanted[one]["classes"].values()))


def test_what_several_scorers_collect_is_scored_as_by_one():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(10, 3, 6, 7, generator=generator)
    masks = torch.randint(0, 3, (10, 6, 7), generator=generator, dtype=torch.uint8)
    chosen = Chosen(("dice", "iou", "miou", "boundary_f", "global_dice"), ScoreOptions())
    # Three batches of images, then two images in windows; those of the first are divided between the scorers.
    batches = [(slice(0, 2), None), (slice(2, 4), None), (slice(4, 5), None)]
    batches += [(slice(5, 7), "a"), (slice(7, 8), "a"), (slice(8, 10), "b")]
    whole, first, second, joined = (MaskScorer(3, (1, 2), chosen) for _ in range(4))
    for number, (part, image_id) in enumerate(batches):
        for scorer in (whole, first if number < 4 else second):
            scorer.add(logits[part], masks[part], *([image_id] if image_id else []))
    for scorer in (first, second):
        joined.take(scorer.collected())
    assert joined.scores() == whole.scores()


def test_the_competitions_own_score_and_the_watched_one_are_computed_and_no_other():
    loaded = load("demo", ("SOLVER.MONITOR=valid_global_dice",))
    assert chosen_scores(loaded.competition).names == ("dice", "iou", "miou")
    found = learning(SimpleNamespace(loaded=loaded), CPU).scorer().chosen.names
    assert found == ("dice", "iou", "miou", "global_dice")


def test_masks_beyond_the_classes_are_ignored():
    mask_BHW = torch.tensor([[[0, 11, 12, 255]]], dtype=torch.uint8)
    counts_CC = count_pixels(torch.zeros(1, 13, 1, 4), mask_BHW, 12)[0]
    assert (counts_CC.sum(), counts_CC[0, 0], counts_CC[11, 0]) == (2, 1, 1)


def test_a_mean_leaves_out_classes_without_a_value():
    assert score_of_classes([0.5, NAN, 0.7], (0, 1, 2)).mean == pytest.approx(0.6)
    assert score_of_classes([0.5, NAN, 0.7], (1,)).mean is None


def test_a_runs_learning_has_the_classes_and_outputs_of_its_config(monkeypatch):
    shown = pd.DataFrame([[9] * 12], columns=[f"pixels_{index}" for index in range(12)])
    monkeypatch.setattr("pipeline.segmentation.learning.split_rows", lambda paths, subset: shown)
    loaded = load("demo", ("DATASETS.PADDING=class", "DATASETS.CLASSES=[Road, Car]"))
    one = learning(SimpleNamespace(loaded=loaded, paths=None), CPU)
    assert len(one.classes) == 12 and [one.classes[index] for index in one.scored] == ["Car", "Road"]
    logits, mask = torch.zeros(1, 13, 4, 4), torch.full((1, 4, 4), 12, dtype=torch.uint8)
    assert float(one.criterion("1 ce", 0, ())(logits, mask).total) == pytest.approx(math.log(13))


def test_an_image_whose_pixels_are_all_ignored_counts_in_no_score_of_a_validation():
    logits = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    masks = torch.randint(0, 3, (3, 4, 4), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    masks[1] = 255
    chosen = Chosen(("dice", "iou", "miou", "boundary_f"))
    every, known, none = (MaskScorer(3, (0, 1, 2), chosen) for _ in range(3))
    every.add(logits, masks)
    known.add(logits[[0, 2]], masks[[0, 2]])
    none.add(logits[[1]], masks[[1]])
    found, expected = every.scores().by_name, known.scores().by_name
    assert {name: score.mean for name, score in found.items()} == {name: score.mean for name, score in expected.items()}
    assert {score.mean for score in none.scores().by_name.values()} == {None}
