"""Losses for soft labels: those for hard labels where a label is whole, and least where the prediction is the label."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.check_pseudo import SOFT_LOSSES
from pipeline.segmentation import losses
from pipeline.segmentation.planes import from_index
from pipeline.segmentation.soft_losses import TERMS, as_index, mixed_loss

CLASSES = 4
NAMES = ("ce", "ce(stride=2)", "ce(smooth=0.2)", "bce", "bce(positive=3)", "dice", "jaccard", "tversky(alpha=0.6)")


def drawn(seed: int, ignored: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits and an index mask of random classes, some pixels of it ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, CLASSES, 5, 6), generator=generator, dtype=torch.float64)
    mask = torch.randint(CLASSES - 1, (2, 5, 6), generator=generator).to(torch.uint8)  # the last class never shows
    return logits, mask.masked_fill(torch.rand(mask.shape, generator=generator) < ignored, 255)


def as_planes(mask: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.from_numpy(from_index(one.numpy(), CLASSES)) for one in mask])


def test_config_and_losses_name_the_same_losses():
    assert tuple(TERMS) == SOFT_LOSSES


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**16), ignored=st.sampled_from([0.0, 0.3, 1.0]), is_weighted=st.booleans())
def test_whole_labels_give_loss_and_gradient_of_the_hard_ones(name, seed, ignored, is_weighted):
    logits, mask = drawn(seed, ignored)
    weights = torch.tensor([0.5, 2.0, 1.5, 0.0]) if is_weighted else None
    found = []
    for of, labels in ((losses.mixed_loss, mask), (mixed_loss, as_planes(mask)), (mixed_loss, mask)):
        own = logits.clone().requires_grad_()
        loss = of([(name, 1.0)], own, labels, weights).total
        loss.backward()
        found.append((loss.detach(), own.grad))
    for loss, gradient in found[1:]:
        assert torch.allclose(loss, found[0][0], atol=1e-9)
        assert torch.allclose(gradient, found[0][1], atol=1e-9)


@pytest.mark.parametrize("name", SOFT_LOSSES)
def test_no_prediction_has_a_lower_loss_than_the_label_itself(name):
    shares = torch.tensor([120, 60, 36, 24], dtype=torch.uint8).expand(1, 3, 3, 4)
    exact = (shares.double() / 240).movedim(-1, 1)
    at_label = torch.logit(exact) if name == "bce" else exact.log()
    least = mixed_loss([(name, 1.0)], at_label, shares).total
    generator = torch.Generator().manual_seed(3)
    for size in (0.01, 0.1, 1.0):
        moved = at_label + size * torch.randn(at_label.shape, generator=generator, dtype=torch.float64)
        assert mixed_loss([(name, 1.0)], moved, shares).total > least


def test_the_gradient_of_the_cross_entropy_is_that_of_the_divergence_from_the_label():
    shares = torch.tensor([[[[120, 60, 36, 24], [255, 255, 255, 255]]]], dtype=torch.uint8)
    logits = torch.tensor([0.3, -1.0, 2.0, 0.1], dtype=torch.float64).view(1, 4, 1, 1).repeat(1, 1, 1, 2)
    own = logits.clone().requires_grad_()
    mixed_loss([("ce", 1.0)], own, shares).total.backward()
    wanted = logits[0, :, 0, 0].softmax(0) - torch.tensor([0.5, 0.25, 0.15, 0.1], dtype=torch.float64)
    assert torch.allclose(own.grad[0, :, 0, 0], wanted)
    assert own.grad[0, :, 0, 1].abs().max() == 0, "an ignored pixel moves nothing"


def test_a_loss_without_soft_labels_and_shapes_that_do_not_fit_are_no_silent_answer():
    logits, mask = drawn(1)
    with pytest.raises(KeyError):
        mixed_loss([("lovasz", 1.0)], logits, as_planes(mask))
    with pytest.raises(ValueError, match="do not fit"):
        mixed_loss([("ce", 1.0)], logits, as_planes(mask)[:, :3])


@given(st.integers(0, 2**16))
def test_samples_are_scored_by_the_class_of_the_largest_share(seed):
    mask = drawn(seed)[1]
    assert torch.equal(as_index(as_planes(mask)), mask) and torch.equal(as_index(mask), mask)
