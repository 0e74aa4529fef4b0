"""Losses with settings, for one class and for several classes per pixel: against torch, smp and plain formulas."""

from __future__ import annotations

import math

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_toolbelt.losses.bitempered_loss import bi_tempered_logistic_loss
from torch import Tensor

from pipeline.config.competition import IGNORE
from pipeline.config.loss_mix import parse_mix
from pipeline.segmentation import losses, losses_by_class
from pipeline.segmentation.loss_parts import hardest, on_grid
from pipeline.segmentation.planes import FULL

NUM_CLASSES = 4
WEIGHTS = torch.tensor([0.4, 1.0, 0.6, 2.0], dtype=torch.float64)
EVERY = (
    *("ce(stride=8)", "ce(top=0.2)", "ce(top=0.1, below=0.7)", "ce(smooth=0.1)", "ce(stride=2, top=0.5, smooth=0.2)"),
    *("focal(gamma=0.5)", "focal(gamma=1)", "focal(gamma=5)", "focal(gamma=0, stride=8, top=0.3)"),
    *("tversky(alpha=0, beta=1)", "tversky(alpha=0.7, beta=0.3)"),
)
OF_SOFTMAX = (
    *EVERY,
    *("bce", "bce(positive=5)", "bce(stride=4, top=0.2, below=0.6, smooth=0.1, positive=0.2)"),
    "bitempered(t1=0.5, t2=1.5, top=0.5)",
    "bitempered(t1=0, t2=4)",
    "bitempered(t1=0.9, t2=1.1, stride=4)",
)
OF_SIGMOID = (*EVERY, "bce(positive=5)", "bce(stride=4, top=0.2, below=0.6, smooth=0.1, positive=0.2)")


def softmax_batch(size: int = 12, ignored: bool = True) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn((2, NUM_CLASSES, size, size), generator=generator, dtype=torch.float64)
    mask = torch.randint(0, NUM_CLASSES, (2, size, size), generator=generator, dtype=torch.uint8)
    if ignored:
        mask[0, :4] = IGNORE
    return logits, mask


def sigmoid_batch(size: int = 12, ignored: bool = True) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    logits = 2 * torch.randn((2, NUM_CLASSES, size, size), generator=generator, dtype=torch.float64)
    mask = (torch.rand((2, size, size, NUM_CLASSES), generator=generator) > 0.6).to(torch.uint8) * FULL
    if ignored:
        mask[0, :4, :, 1] = IGNORE
    return logits, mask


WAYS = {
    "softmax": (losses.mixed_loss, softmax_batch, OF_SOFTMAX),
    "sigmoid": (losses_by_class.mixed_loss, sigmoid_batch, OF_SIGMOID),
}
WAYS_OF_PIXELS = [("softmax", "ce"), ("softmax", "focal"), ("softmax", "bce"), ("sigmoid", "bce")]
EACH = [(way, text) for way, (_, _, texts) in WAYS.items() for text in texts]


def softmax_loss(text: str, logits: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    return losses.mixed_loss(parse_mix(text), logits, mask, weights).total


def sigmoid_loss(text: str, logits: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    return losses_by_class.mixed_loss(parse_mix(text), logits, mask, weights).total


def truth_of(mask: Tensor) -> Tensor:
    return mask.movedim(-1, 1).double() / FULL


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smooth", [0.0, 0.1, 0.5])
def test_smoothed_cross_entropy_is_torchs(smooth, weights):
    logits, mask = softmax_batch()
    wanted = F.cross_entropy(logits, mask.long(), weights, ignore_index=IGNORE, label_smoothing=smooth)
    torch.testing.assert_close(softmax_loss(f"ce(smooth={smooth})", logits, mask, weights), wanted)


def test_smoothed_and_weighted_binary_cross_entropy_are_those_of_smp_and_torch():
    logits, mask = sigmoid_batch(ignored=False)
    smoothed = smp.losses.SoftBCEWithLogitsLoss(smooth_factor=0.1, ignore_index=None)(logits, truth_of(mask))
    torch.testing.assert_close(sigmoid_loss("bce(smooth=0.1)", logits, mask), smoothed)
    positive = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))(logits, truth_of(mask))
    torch.testing.assert_close(sigmoid_loss("bce(positive=3)", logits, mask), positive)


@pytest.mark.parametrize("positive", [1.0, 3.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_binary_cross_entropy_of_one_class_per_pixel_is_torchs_against_the_one_hot_label(positive, weights):
    logits, mask = softmax_batch()
    known = mask != IGNORE
    truth = F.one_hot(mask[known].long(), NUM_CLASSES).double()
    wanted = F.binary_cross_entropy_with_logits(
        logits.movedim(1, -1)[known], truth, weights, pos_weight=torch.tensor(positive)
    )
    if weights is not None:
        wanted = wanted / weights.mean()
    torch.testing.assert_close(softmax_loss(f"bce(positive={positive})", logits, mask, weights), wanted)


@pytest.mark.parametrize("text", ["bce", "bce(smooth=0.1, top=0.3, positive=2)", "bce(stride=3, top=0.2, below=0.6)"])
def test_binary_cross_entropy_of_an_index_mask_is_that_of_its_planes(text):
    logits, mask = softmax_batch()
    planes = (mask[..., None] == torch.arange(NUM_CLASSES)).to(torch.uint8) * FULL
    planes[mask == IGNORE] = IGNORE
    found, wanted = softmax_loss(text, logits, mask, WEIGHTS), sigmoid_loss(text, logits, planes, WEIGHTS)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.7, 0.3), (0.2, 2.0)])
def test_tversky_and_focal_with_settings_are_smps(alpha, beta):
    text = f"tversky(alpha={alpha}, beta={beta})"
    logits, mask = softmax_batch(ignored=False)
    wanted = smp.losses.TverskyLoss("multiclass", alpha=alpha, beta=beta, eps=1e-7)(logits, mask.long())
    torch.testing.assert_close(softmax_loss(text, logits, mask), wanted, rtol=1e-6, atol=1e-9)
    logits, mask = sigmoid_batch(ignored=False)
    wanted = smp.losses.TverskyLoss("multilabel", alpha=alpha, beta=beta, eps=1e-7)(logits, truth_of(mask))
    torch.testing.assert_close(sigmoid_loss(text, logits, mask), wanted, rtol=1e-6, atol=1e-9)
    focal = smp.losses.FocalLoss("multilabel", gamma=alpha + 2)(logits, truth_of(mask))
    torch.testing.assert_close(sigmoid_loss(f"focal(gamma={alpha + 2})", logits, mask), focal, rtol=1e-6, atol=1e-9)


def test_bitempered_with_settings_is_toolbelts():
    logits, mask = softmax_batch(ignored=False)
    rows = logits.movedim(1, -1).flatten(0, 2)
    wanted = bi_tempered_logistic_loss(rows, mask.long().flatten(), 0.5, 1.5, num_iters=30, reduction="mean")
    torch.testing.assert_close(softmax_loss("bitempered(t1=0.5, t2=1.5)", logits, mask), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_hardest_fifth_is_the_mean_of_the_highest_losses(weights):
    logits, mask = softmax_batch()
    cost = F.cross_entropy(logits, mask.long(), weights, ignore_index=IGNORE, reduction="none").flatten()
    weight = (torch.ones(NUM_CLASSES).double() if weights is None else weights)[mask.clamp_max(3).long()].flatten()
    number = math.ceil(0.2 * int((mask != IGNORE).sum()))
    top = cost.topk(number).indices
    torch.testing.assert_close(softmax_loss("ce(top=0.2)", logits, mask, weights), cost[top].sum() / weight[top].sum())
    logits, planes = sigmoid_batch()
    cost = F.binary_cross_entropy_with_logits(logits, truth_of(planes).clamp_max(1), reduction="none")
    cost = cost[(planes != IGNORE).movedim(-1, 1)]
    wanted = cost.topk(math.ceil(0.2 * len(cost))).values.mean()
    torch.testing.assert_close(sigmoid_loss("bce(top=0.2)", logits, planes), wanted)


@pytest.mark.parametrize(("top", "below"), [(0.05, 0.3), (0.9, 0.01)])
def test_mining_keeps_the_pixels_of_a_low_probability_but_at_least_a_share(top, below):
    """The rule of mmsegmentation's `OHEMPixelSampler`, written down."""
    logits, mask = softmax_batch()
    known = mask != IGNORE
    probs = logits.softmax(1).gather(1, mask.clamp_max(3).long()[:, None])[:, 0][known].sort().values
    least = probs[math.ceil(top * len(probs)) - 1]
    kept = probs[probs <= max(float(least), below)]
    torch.testing.assert_close(softmax_loss(f"ce(top={top}, below={below})", logits, mask), -kept.log().mean())


@pytest.mark.parametrize("stride", [2, 5, 8])
@pytest.mark.parametrize(("way", "name"), WAYS_OF_PIXELS)
def test_subsampled_labels_are_a_smaller_batch(way, name, stride):
    mixed, batch, _ = WAYS[way]
    logits, mask = batch(size=21)
    start = (21 - 1) % stride // 2
    few = (slice(None), slice(start, None, stride), slice(start, None, stride))
    wanted = mixed(parse_mix(name), logits[:, :, few[1], few[2]], mask[few]).total
    assert torch.equal(mixed(parse_mix(f"{name}(stride={stride})"), logits, mask).total, wanted)


def test_on_a_frame_of_the_pascal_recipe_they_are_the_labels_of_the_logits_before_the_upsampling():
    low = torch.randn((1, NUM_CLASSES, 41, 41), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.randint(0, NUM_CLASSES, (1, 321, 321), generator=torch.Generator().manual_seed(1))
    full = F.interpolate(low, size=(321, 321), mode="bilinear", align_corners=True)
    wanted = F.cross_entropy(low, mask[:, ::8, ::8])
    torch.testing.assert_close(softmax_loss("ce(stride=8)", full, mask), wanted)


@given(st.integers(1, 60), st.integers(1, 64))
def test_the_grid_of_a_stride_lies_in_the_middle_and_is_never_empty(length, stride):
    rows = on_grid(torch.arange(length).expand(length, length), stride)[0].tolist()
    assert rows and rows == list(range(rows[0], length, stride))
    assert 0 <= (length - 1 - rows[-1]) - rows[0] <= 1 or len(rows) == 1


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.floats(0.01, 1), st.randoms())
def test_the_hardest_are_the_share_wanted_and_what_is_as_hard(values, top, random):
    counts = torch.tensor([random.random() < 0.7 for _ in values])
    cost = torch.tensor(values, dtype=torch.float32)
    kept, number = hardest(cost, counts, top), math.ceil(top * int(counts.sum()) - 1e-6)
    assert not (kept & ~counts).any()
    if counts.any():
        least = cost[counts].sort(descending=True).values[max(number, 1) - 1]
        assert torch.equal(kept, counts & (cost >= least))


@pytest.mark.parametrize(("way", "text"), EACH)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_value_and_gradient_are_finite_at_extreme_logits(way, text, weights):
    mixed, batch, _ = WAYS[way]
    logits, mask = batch()
    for scale in (0.0, 1.0, 60.0, 3e4):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            own = (logits.clamp(-2, 2) * scale).to(dtype).requires_grad_()
            total = mixed(parse_mix(text), own, mask, weights).total
            total.backward()
            assert total.isfinite() and own.grad.isfinite().all(), (scale, dtype)
            assert total.dtype == torch.float32


@pytest.mark.parametrize(("way", "text"), EACH)
def test_the_gradient_is_the_slope_and_none_where_ignored(way, text):
    mixed, batch, _ = WAYS[way]
    logits, mask = batch(size=5)

    def loss(values: Tensor) -> Tensor:
        return mixed(parse_mix(text), values, mask, WEIGHTS).total

    logits.requires_grad_()
    assert torch.autograd.gradcheck(loss, logits, atol=1e-5, rtol=1e-3)
    loss(logits).backward()
    ignored = (mask == IGNORE).unsqueeze(1).expand_as(logits) if way == "softmax" else (mask == IGNORE).movedim(-1, 1)
    assert (logits.grad[ignored] == 0).all() and logits.grad[~ignored].any()


@pytest.mark.parametrize(("way", "text"), EACH)
def test_a_batch_of_ignored_pixels_costs_nothing(way, text):
    mixed, batch, _ = WAYS[way]
    logits, mask = batch()
    logits.requires_grad_()
    total = mixed(parse_mix(text), logits, torch.full_like(mask, IGNORE), WEIGHTS).total
    total.backward()
    assert total == 0 and not logits.grad.any()


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=20, deadline=None)
@given(names=st.lists(st.sampled_from(EVERY), min_size=1, max_size=4, unique=True), data=st.data())
def test_a_mix_is_the_weighted_sum_of_its_terms_which_it_names(way, names, data):
    mixed, batch, _ = WAYS[way]
    logits, mask = batch()
    weights = [data.draw(st.floats(0.1, 2)) for _ in names]
    mix = parse_mix(" + ".join(f"{weight!r} {name}" for weight, name in zip(weights, names, strict=True)))
    found = mixed(mix, logits, mask)
    assert list(found.terms) == [name for name, _ in mix]
    alone = [mixed(parse_mix(name), logits, mask).total for name in names]
    for value, own in zip(found.terms.values(), alone, strict=True):
        torch.testing.assert_close(value, own)
    torch.testing.assert_close(found.total, sum(w * own for w, own in zip(weights, alone, strict=True)))
