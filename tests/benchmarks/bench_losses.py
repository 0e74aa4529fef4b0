"""Soft Dice forward and backward, 2 x 12 x 352 x 640: one-hot targets, pytorch-toolbelt, smp and ours.

OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.benchmarks.bench_losses
"""

import warnings
from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.segmentation.losses import TERMS, mixed_loss
from tests.benchmarks.timing import alternate, show

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pytorch-toolbelt 0.8 uses a deprecated name of torch
    from pytorch_toolbelt.losses import DiceLoss
    from pytorch_toolbelt.losses.functional import soft_dice_score

SHAPE_BCHW, BLOB_PX, NUM_ROUNDS, NUM_SLOW_ROUNDS = (2, 12, 352, 640), 16, 15, 3


def make_batch() -> tuple[Tensor, Tensor]:
    """Logits and a uint8 mask of blobs in which every class occurs."""
    num_images, num_classes, height, width = SHAPE_BCHW
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(0, num_classes, (num_images, height // BLOB_PX, width // BLOB_PX), generator=generator)
    mask = mask.repeat_interleave(BLOB_PX, 1).repeat_interleave(BLOB_PX, 2)
    return 2 * torch.randn(SHAPE_BCHW, generator=generator), mask.to(torch.uint8)


def one_hot_dice(logits: Tensor, one_hot: Tensor) -> Tensor:
    """The original's way: float32 one-hot targets, which its data set had made beforehand (not timed here)."""
    flat = (*one_hot.shape[:2], -1)
    probs = logits.log_softmax(1).exp()
    losses = 1 - soft_dice_score(probs.view(flat), one_hot.view(flat), dims=(0, 2))
    return (losses * (one_hot.sum((0, 2, 3)) > 0)).mean()


def forward_backward(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    value = loss(logits)
    value.backward()
    return value.detach(), logits.grad


def main() -> None:
    """Prints soft Dice in both memory layouts, then every loss of ours beside cross entropy."""
    logits, mask = make_batch()
    one_hot = F.one_hot(mask.long(), SHAPE_BCHW[1]).permute(0, 3, 1, 2).float().contiguous()
    partly_ignored = mask.clone()
    partly_ignored[:, :20] = 255
    dice, library, smp_dice = (
        lambda x, truth: mixed_loss([("dice", 1.0)], x, truth).total,
        DiceLoss("multiclass"),
        smp.losses.DiceLoss("multiclass"),
    )
    ways = {
        "soft_dice_score on float32 one-hot targets": lambda x: one_hot_dice(x, one_hot),
        "pytorch-toolbelt DiceLoss": lambda x: library(x, mask.long()),
        "smp DiceLoss": lambda x: smp_dice(x, mask.long()),
        "ours": lambda x: dice(x, mask),
        "ours, a row of pixels ignored": lambda x: dice(x, partly_ignored),
        "bound: torch cross entropy": lambda x: F.cross_entropy(x, mask.long()),
    }
    for memory_format in (torch.contiguous_format, torch.channels_last):
        laid_out = logits.contiguous(memory_format=memory_format)
        value, gradient = forward_backward(ways["ours"], laid_out)
        expected, expected_gradient = forward_backward(ways["soft_dice_score on float32 one-hot targets"], laid_out)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(
            gradient, expected_gradient, rtol=1e-3, atol=1e-5 * float(expected_gradient.abs().max())
        )
        timed = {name: lambda way=way, laid_out=laid_out: forward_backward(way, laid_out) for name, way in ways.items()}
        show(f"soft Dice, {memory_format}", alternate(timed, NUM_ROUNDS), "x2 over float32 one-hot targets")
    timed = {"torch cross entropy": lambda: forward_backward(ways["bound: torch cross entropy"], logits)}
    for name in TERMS:
        timed[name] = lambda name=name: forward_backward(lambda x: mixed_loss([(name, 1.0)], x, mask).total, logits)
    lovasz = smp.losses.LovaszLoss("multiclass")
    timed["smp LovaszLoss"] = lambda: forward_backward(lambda x: lovasz(x, mask), logits)
    show("all losses", alternate(timed, NUM_SLOW_ROUNDS), "none: for the choice of a loss")


if __name__ == "__main__":
    main()
