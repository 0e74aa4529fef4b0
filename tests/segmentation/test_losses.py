"""Every loss against its formula in float64, against the libraries where they are right, and at the edges."""

import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pytorch_toolbelt import losses as toolbelt
from torch import Tensor

from pipeline.errors import UserError
from pipeline.segmentation.learning import adaptive_class_weights, normalise_class_weights
from pipeline.segmentation.losses import (
    TERMS,
    bitempered,
    cross_entropy,
    focal,
    mixed_loss,
)

NAMES = sorted(TERMS)
OVERLAP_PRICES = {"dice": (0.5, 0.5), "jaccard": (1.0, 1.0), "tversky": (0.3, 0.7)}  # false positives, false negatives


def loss_of(*mix: tuple[str, float], weights: list[float] | None = None):
    """Returns the loss of a mix with class weights, which need not be normalised."""
    weights_C = None if weights is None else normalise_class_weights(weights)
    return lambda logits_BCHW, mask_BHW: mixed_loss(mix, logits_BCHW, mask_BHW, weights_C).total


def plain(name: str):
    return loss_of((name, 1.0))


def weighted(name: str, weights: list[float] | None):
    return loss_of((name, 1.0), weights=weights)


def make_batch(seed: int = 0, num_classes: int = 4, size: int = 12, ignored: bool = True) -> tuple[Tensor, Tensor]:
    """Logits (2, C, size, size) float64 and a mask of blobs, some of it ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits_BCHW = 2 * torch.randn((2, num_classes, size, size), generator=generator, dtype=torch.float64)
    mask_BHW = torch.randint(0, num_classes, (2, size // 4, size // 4), generator=generator)
    mask_BHW = mask_BHW.repeat_interleave(4, 1).repeat_interleave(4, 2)
    if ignored:
        mask_BHW[0, :3, 5:] = 255
    return logits_BCHW, mask_BHW


def value_and_gradient(loss, logits_BCHW: Tensor, mask_BHW: Tensor) -> tuple[Tensor, Tensor]:
    logits_BCHW = logits_BCHW.detach().clone().requires_grad_()
    value = loss(logits_BCHW, mask_BHW)
    value.backward()
    return value.detach(), logits_BCHW.grad


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[float] | None]:
    num_classes = draw(st.integers(2, 5))
    num_images, rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    logits = draw(npst.arrays(np.float64, (num_images, num_classes, rows, columns), elements=st.floats(-20, 20)))
    values = st.one_of(st.integers(0, num_classes - 1), st.just(255))
    mask = draw(npst.arrays(np.uint8, (num_images, rows, columns), elements=values))
    weights = draw(st.none() | st.lists(st.floats(0.1, 9), min_size=num_classes, max_size=num_classes))
    return logits, mask, weights


def by_formula(name: str, logits: np.ndarray, mask: np.ndarray, weights: list[float] | None) -> float:
    """The loss written down pixel by pixel and class by class in float64."""
    num_classes = logits.shape[1]
    weights_C = np.array(weights or [1.0] * num_classes) * num_classes / sum(weights or [1.0] * num_classes)
    counted_P = mask.reshape(-1) != 255
    logits_PC = np.moveaxis(logits, 1, -1).reshape(-1, num_classes)[counted_P]
    true_P = mask.reshape(-1)[counted_P].astype(int)
    log_probs_PC = logits_PC - np.logaddexp.reduce(logits_PC, axis=1, keepdims=True)
    probs_PC = np.exp(log_probs_PC)
    if not len(true_P):
        return 0.0
    if name == "bitempered":
        costs_P = [tempered_by_formula(logits, true) for logits, true in zip(logits_PC, true_P, strict=True)]
        return float(np.sum(weights_C[true_P] * costs_P) / np.sum(weights_C[true_P]))
    if name == "bce":
        signs_PC = np.where(np.arange(num_classes) == true_P[:, None], -1, 1)
        costs_PC = np.logaddexp(0, signs_PC * logits_PC)
        return float((costs_PC * weights_C).sum() / (weights_C.sum() * len(true_P)))
    if name in ("ce", "focal"):
        own_P, gamma = log_probs_PC[np.arange(len(true_P)), true_P], 2 if name == "focal" else 0
        return float(np.sum(weights_C[true_P] * (-np.expm1(own_P)) ** gamma * -own_P) / np.sum(weights_C[true_P]))
    present = [c for c in range(num_classes) if (true_P == c).any()]
    losses = {}
    for c in present:
        truth_P = true_P == c
        if name == "lovasz":
            losses[c] = lovasz_by_sets(np.abs(truth_P - probs_PC[:, c]), truth_P)
        else:
            overlap = probs_PC[truth_P, c].sum()
            false_positive, false_negative = probs_PC[:, c].sum() - overlap, truth_P.sum() - overlap
            price_positive, price_negative = OVERLAP_PRICES[name]
            area = overlap + price_positive * false_positive + price_negative * false_negative
            losses[c] = 1 - overlap / max(area, 1e-7)
    total = sum(weights_C[c] * loss for c, loss in losses.items())
    return float(total / (sum(weights_C[c] for c in present) if name == "lovasz" else num_classes))


def tempered_by_formula(logits_C: np.ndarray, true: int, t1: float = 0.8, t2: float = 1.2) -> float:
    """Bi-tempered loss of a pixel as a Bregman divergence; the softmax's normalization is found by halving."""

    def probs_at(level: float) -> np.ndarray:
        return (1 + (t2 - 1) * (level - logits_C)) ** (-1 / (t2 - 1))

    low, high = float(logits_C.max()), float(logits_C.max()) + (len(logits_C) ** (t2 - 1) - 1) / (t2 - 1)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if probs_at(middle).sum() > 1 else (low, middle)
    probs_C = probs_at(high)
    own = -(probs_C[true] ** (1 - t1) - 1) / (1 - t1)  # log_t1(1) is 0
    return float(own - (1 - (probs_C ** (2 - t1)).sum()) / (2 - t1))


def lovasz_by_sets(errors_P: np.ndarray, truth_P: np.ndarray) -> float:
    """Definition of the Lovasz extension: Jaccard loss of the growing set of the worst pixels, times drops of error."""
    order = np.argsort(-errors_P, kind="stable")
    total = 0.0
    for rank, pixel in enumerate(order):
        wrong = order[: rank + 1]
        missed, false = truth_P[wrong].sum(), (~truth_P[wrong]).sum()
        jaccard_loss = 1 - (truth_P.sum() - missed) / (truth_P.sum() + false)
        next_error = errors_P[order[rank + 1]] if rank + 1 < len(order) else 0.0
        total += (errors_P[pixel] - next_error) * jaccard_loss
    return total


@pytest.mark.parametrize("name", [name for name in NAMES if name != "boundary"])
@settings(max_examples=60, deadline=None)
@given(batch=batches())
def test_loss_is_its_formula(name: str, batch: tuple[np.ndarray, np.ndarray, list[float] | None]) -> None:
    logits, mask, weights = batch
    loss = weighted(name, weights)
    expected = by_formula(name, logits, mask, weights)
    logits_BCHW, mask_BHW = torch.from_numpy(logits), torch.from_numpy(mask)
    assert float(loss(logits_BCHW, mask_BHW)) == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert float(loss(logits_BCHW.float(), mask_BHW)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_the_slope(name: str) -> None:
    logits_BCHW, mask_BHW = make_batch(size=8)
    loss = weighted(name, [1, 2, 3, 4])
    assert torch.autograd.gradcheck(lambda logits: loss(logits, mask_BHW), logits_BCHW.requires_grad_(), atol=1e-6)


LIBRARY = {
    "dice": toolbelt.DiceLoss("multiclass"),
    "jaccard": toolbelt.JaccardLoss("multiclass"),
    "tversky": smp.losses.TverskyLoss("multiclass", alpha=0.3, beta=0.7),
    "lovasz": smp.losses.LovaszLoss("multiclass"),
    "ce": torch.nn.CrossEntropyLoss(),
}


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_loss_and_gradient_are_the_librarys(name: str, memory_format: torch.memory_format) -> None:
    logits_BCHW, mask_BHW = make_batch(num_classes=6, ignored=False)
    mask_BHW = mask_BHW % 5  # the sixth class is absent
    logits_BCHW = logits_BCHW.float().contiguous(memory_format=memory_format)
    value, gradient = value_and_gradient(plain(name), logits_BCHW, mask_BHW.byte())
    expected, expected_gradient = value_and_gradient(LIBRARY[name], logits_BCHW, mask_BHW)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("dice", toolbelt.DiceLoss("multiclass", ignore_index=255)),
        ("lovasz", smp.losses.LovaszLoss("multiclass", ignore_index=255)),
        ("ce", torch.nn.CrossEntropyLoss(ignore_index=255)),
    ],
)
def test_ignored_pixels_are_left_out_as_the_library_does(name: str, library: torch.nn.Module) -> None:
    logits_BCHW, mask_BHW = make_batch()
    logits_BCHW = logits_BCHW.float()
    value, gradient = value_and_gradient(plain(name), logits_BCHW, mask_BHW)
    expected, expected_gradient = value_and_gradient(library, logits_BCHW, mask_BHW)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-7)


def test_weighted_cross_entropy_is_torchs() -> None:
    logits_BCHW, mask_BHW = make_batch()
    weights = [4.0, 3.0, 2.0, 1.0]
    expected = F.cross_entropy(logits_BCHW, mask_BHW, torch.tensor(weights).double(), ignore_index=255)
    torch.testing.assert_close(weighted("ce", weights)(logits_BCHW, mask_BHW), expected)


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_count_nowhere(name: str) -> None:
    logits_BCHW, mask_BHW = make_batch()
    ignored_BCHW = (mask_BHW == 255).unsqueeze(1).expand_as(logits_BCHW)
    loss = plain(name)
    value, gradient = value_and_gradient(loss, logits_BCHW, mask_BHW)
    assert gradient[ignored_BCHW].count_nonzero() == 0
    assert gradient[~ignored_BCHW].count_nonzero() > 0
    other_BCHW = torch.where(ignored_BCHW, -3 * logits_BCHW, logits_BCHW)
    torch.testing.assert_close(loss(other_BCHW, mask_BHW), value)


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_is_left_as_it_was(name: str) -> None:
    logits_BCHW, mask_BHW = make_batch()
    value_and_gradient(plain(name), logits_BCHW, mask_BHW)
    assert all(torch.equal(*pair) for pair in zip((logits_BCHW, mask_BHW), make_batch(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_ignored_pixels_costs_nothing(name: str) -> None:
    logits_BCHW, mask_BHW = make_batch()
    loss = weighted(name, [1, 2, 3, 4])
    value, gradient = value_and_gradient(loss, logits_BCHW.float(), torch.full_like(mask_BHW, 255))
    assert float(value) == 0.0
    assert gradient.count_nonzero() == 0


def edge_masks() -> dict[str, Tensor]:
    single = torch.zeros(1, 8, 8, dtype=torch.uint8)
    single[0, 4, 4] = 3
    one_left = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    one_left[0, 0, 0] = 2
    return {"full": torch.full((1, 8, 8), 1, dtype=torch.uint8), "single pixel": single, "one pixel left": one_left}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_loss_is_finite_at_the_edges(name: str, dtype: torch.dtype) -> None:
    for edge, mask_BHW in edge_masks().items():
        for scale in (0.0, 1.0, 60.0, 6e4):  # up to the end of float16
            logits_BCHW = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0)).clamp(-1, 1) * scale
            value, gradient = value_and_gradient(plain(name), logits_BCHW.to(dtype), mask_BHW)
            assert value.dtype == torch.float32, (edge, scale)
            assert math.isfinite(value), (edge, scale)
            assert gradient.isfinite().all(), (edge, scale)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_does_not_lower_the_precision(name: str) -> None:
    logits_BCHW, mask_BHW = make_batch()
    half_BCHW = logits_BCHW.bfloat16()
    loss = plain(name)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(half_BCHW, mask_BHW), loss(half_BCHW.float(), mask_BHW))
        assert loss(half_BCHW, mask_BHW).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_a_certain_right_answer_costs_nothing_and_a_wrong_one_much(name: str) -> None:
    _, mask_BHW = make_batch(ignored=False)
    right_BCHW = 50 * F.one_hot(mask_BHW, 4).permute(0, 3, 1, 2).double() - 25
    wrong_BCHW = 50 * F.one_hot((mask_BHW + 1) % 4, 4).permute(0, 3, 1, 2).double() - 25
    loss = plain(name)
    # The softmax with heavy tails leaves 3 * 11 ** -5 = 2e-5 to the wrong classes.
    assert float(loss(right_BCHW, mask_BHW)) == pytest.approx(0, abs=1e-4 if name == "bitempered" else 1e-6)
    assert float(loss(wrong_BCHW, mask_BHW)) > (0.2 if name == "boundary" else 0.9)  # outlines are in the same place


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), order=st.permutations(range(4)))
def test_the_order_of_classes_and_images_does_not_matter(name: str, seed: int, order: list[int]) -> None:
    logits_BCHW, mask_BHW = make_batch(seed)
    weights = [1.0, 2.0, 3.0, 4.0]
    expected = weighted(name, weights)(logits_BCHW, mask_BHW)
    new_place = torch.full((256,), 255)
    new_place[torch.tensor(order)] = torch.arange(4)
    permuted = weighted(name, [weights[old] for old in order])
    torch.testing.assert_close(permuted(logits_BCHW[:, order].flip(0), new_place[mask_BHW].flip(0)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_equal_class_weights_are_no_weights(name: str) -> None:
    logits_BCHW, mask_BHW = make_batch()
    expected = plain(name)(logits_BCHW, mask_BHW)
    torch.testing.assert_close(weighted(name, [7] * 4)(logits_BCHW, mask_BHW), expected)


def test_a_mix_is_the_weighted_sum_of_its_parts() -> None:
    logits_BCHW, mask_BHW = make_batch()
    parts = {name: plain(name)(logits_BCHW, mask_BHW) for name in NAMES}
    mix = [("ce", 0.6), ("focal", 0.2), ("lovasz", 0.2), ("dice", 1.5)]
    expected = sum(weight * parts[name] for name, weight in mix)
    torch.testing.assert_close(loss_of(*mix)(logits_BCHW, mask_BHW), expected)


def test_focal_and_tversky_contain_their_relatives() -> None:
    batch = (*make_batch(), None)
    torch.testing.assert_close(focal(*batch, gamma=0.0), cross_entropy(*batch))
    torch.testing.assert_close(TERMS["tversky"](*batch, alpha=0.5, beta=0.5), TERMS["dice"](*batch))
    torch.testing.assert_close(TERMS["tversky"](*batch, alpha=1.0, beta=1.0), TERMS["jaccard"](*batch))


def test_bitempered_becomes_the_cross_entropy_and_is_bounded() -> None:
    logits_BCHW, mask_BHW = make_batch()
    near = bitempered(logits_BCHW, mask_BHW, None, t1=1 - 1e-5, t2=1 + 1e-5)
    torch.testing.assert_close(near, cross_entropy(logits_BCHW, mask_BHW, None), rtol=1e-4, atol=1e-4)
    wrong_BCHW = 6e4 * F.one_hot((mask_BHW.clamp_max(3) + 1) % 4, 4).permute(0, 3, 1, 2).double()
    assert 4.99 < float(bitempered(wrong_BCHW, mask_BHW, None)) < 5


@pytest.mark.slow
def test_pytorch_toolbelt_is_imported_by_the_first_bitempered_loss_only_and_without_a_warning(python_modules) -> None:
    start = (
        "import warnings, torch; warnings.simplefilter('error'); from pipeline.segmentation.losses import mixed_loss"
    )
    call = "mixed_loss([({name!r}, 1)], torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1).long())"
    assert "pytorch_toolbelt" not in python_modules(f"{start}; {call.format(name='focal')}")
    assert "pytorch_toolbelt" in python_modules(f"{start}; {call.format(name='bitempered')}")


def test_boundary_of_a_worked_square() -> None:
    # 6 x 6 square in 20 x 20; a prediction moved by 2 pixels still meets every outline, by 5 pixels only corners do
    def logits_of(mask_BHW: Tensor) -> Tensor:
        return 50 * F.one_hot(mask_BHW, 2).permute(0, 3, 1, 2).double()

    mask_BHW = torch.zeros(1, 20, 20, dtype=torch.int64)
    mask_BHW[0, 4:10, 4:10] = 1
    loss = plain("boundary")
    assert float(loss(logits_of(mask_BHW.roll(2, dims=2)), mask_BHW)) == pytest.approx(0, abs=1e-6)
    far = float(loss(logits_of(mask_BHW.roll((5, 5), dims=(1, 2))), mask_BHW))
    assert 0.3 < float(loss(logits_of(mask_BHW.roll(5, dims=2)), mask_BHW)) < far < 1


def test_adaptive_weights_of_a_worked_validation() -> None:
    # (1 - dice) * (3 - 1) + 1 = 1, 2, 3; sum 6, so scaled by 3 / 6
    weights = adaptive_class_weights([1.0, 0.5, 0.0], max_weight=3.0)
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.0, 1.5]))
    torch.testing.assert_close(adaptive_class_weights(torch.tensor([0.2, 0.2]), 3.0), torch.ones(2))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20).filter(lambda weights: sum(weights) > 1e-6))
def test_normalised_weights_sum_to_the_number_of_classes(weights: list[float]) -> None:
    weights_C = normalise_class_weights(weights)
    assert float(weights_C.sum()) == pytest.approx(len(weights), rel=1e-5)
    assert weights_C.dtype == torch.float32


@pytest.mark.parametrize("weights", [[1, 2, -1], [0, 0, 0], [1, 2, math.inf]])
def test_impossible_class_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(UserError, match="wanted"):
        weighted("dice", weights)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("lovasz", "boundary")])
def test_a_mask_value_outside_the_classes_is_refused(name: str) -> None:
    logits_BCHW, mask_BHW = make_batch()
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        plain(name)(logits_BCHW, mask_BHW.masked_fill(mask_BHW == 3, 4))


def test_shapes_that_do_not_fit_are_refused() -> None:
    logits_BCHW, mask_BHW = make_batch()
    with pytest.raises(ValueError, match="do not fit"):
        plain("ce")(logits_BCHW, mask_BHW[:, 1:])
