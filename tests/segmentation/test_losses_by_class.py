"""Losses of several classes per pixel, against plain formulas, torch and segmentation_models_pytorch."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.competition import IGNORE
from pipeline.segmentation.losses_by_class import TERMS, mixed_loss
from pipeline.segmentation.planes import FULL


def batch(soft: bool = False, ignored: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 3, 12, 10, generator=generator, dtype=torch.float64) * 2
    share = torch.rand(2, 12, 10, 3, generator=generator)
    share = share if soft else share.round()
    mask = (share * FULL).round().to(torch.uint8)
    if ignored:
        mask[:, :4] = IGNORE
        mask[:, :, :3, 1] = IGNORE
    return logits, mask


def loss(name: str, logits: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    return mixed_loss([(name, 1.0)], logits, mask, weights).total


def test_bce_is_torchs_on_hard_and_soft_labels():
    for soft in (False, True):
        logits, mask = batch(soft)
        wanted = F.binary_cross_entropy_with_logits(logits, mask.movedim(-1, 1).double() / FULL)
        assert loss("bce", logits, mask).item() == pytest.approx(wanted.item(), abs=1e-9)
        assert loss("ce", logits, mask) == loss("bce", logits, mask)


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("dice", smp.losses.DiceLoss("multilabel", eps=1e-7)),
        ("jaccard", smp.losses.JaccardLoss("multilabel", eps=1e-7)),
        ("tversky", smp.losses.TverskyLoss("multilabel", eps=1e-7, alpha=0.3, beta=0.7)),
        ("focal", smp.losses.FocalLoss("multilabel", gamma=2.0)),
    ],
)
def test_on_hard_labels_they_are_those_of_the_library(name, peer):
    logits, mask = batch()
    wanted = peer(logits, mask.movedim(-1, 1).double() / FULL)
    assert loss(name, logits, mask).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_lovasz_is_the_mean_of_the_librarys_of_each_class_on_probabilities():
    logits, mask = batch()
    probs, truth = logits.sigmoid(), mask.movedim(-1, 1) > 0
    wanted = []
    for index in range(3):
        errors, own = (truth[:, index].double() - probs[:, index]).abs().flatten(), truth[:, index].flatten()
        order = errors.argsort(descending=True)
        union = own.sum() + (~own[order]).cumsum(0)
        jaccard = 1 - (own.sum() - own[order].cumsum(0)) / union
        wanted.append((errors[order] * jaccard.diff(prepend=jaccard.new_zeros(1))).sum())
    assert loss("lovasz", logits, mask).item() == pytest.approx(torch.stack(wanted).mean().item(), rel=1e-7)


@pytest.mark.parametrize("name", ["bce", "dice", "jaccard", "tversky", "focal"])
def test_a_soft_label_is_matched_best_by_its_own_share(name):
    mask = torch.full((1, 4, 4, 1), 96, dtype=torch.uint8)  # two fifths
    probs = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    values = [loss(name, torch.logit(prob).expand(1, 1, 4, 4), mask).item() for prob in probs]
    assert probs[torch.tensor(values).argmin()].item() == pytest.approx(0.4)


@pytest.mark.parametrize("name", TERMS)
def test_ignored_pixels_of_a_plane_change_nothing_and_get_no_gradient(name):
    logits, mask = batch(ignored=True)
    logits.requires_grad_()
    value = loss(name, logits, mask)
    value.backward()
    ignored = (mask == IGNORE).movedim(-1, 1)
    assert (logits.grad[ignored] == 0).all() and logits.grad[~ignored].abs().sum() > 0
    if name != "boundary":  # an outline sees its neighbours
        moved = torch.where(ignored, logits.detach() + 3, logits.detach())
        assert loss(name, moved, mask).item() == pytest.approx(value.item(), rel=1e-12)
    nothing = torch.full_like(mask, IGNORE)
    assert loss(name, logits, nothing).item() == 0


@pytest.mark.parametrize("name", TERMS)
def test_its_gradient_is_that_of_finite_differences_or_points_downhill(name):
    logits, mask = batch(soft=True)
    logits = logits[:, :, :6, :5].clone().requires_grad_()
    mask = mask[:, :6, :5]
    value = loss(name, logits, mask)
    value.backward()
    assert loss(name, (logits - 1e-3 * logits.grad).detach(), mask) < value
    weighted = loss(name, logits, mask, torch.tensor([3.0, 0.0, 0.0]))
    weighted.backward()
    assert torch.isfinite(weighted)


def test_a_mask_of_other_classes_is_refused():
    logits, mask = batch()
    with pytest.raises(ValueError, match="do not fit"):
        mixed_loss([("bce", 1.0)], logits, mask[..., :2])
