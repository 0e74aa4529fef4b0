"""Per-image Dice and IoU from index masks, and the class of the highest logit: naive ways, peers and ours.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.benchmarks.bench_metrics

Masks are CamVid's, enlarged to 1280x720, where ../shared is there, else drawn as blobs; 12 classes.
"""

from pathlib import Path

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.decision import choose, count
from pipeline.segmentation.learning import dice_iou
from tests.benchmarks.timing import alternate, show

NUM_CLASSES, HEIGHT, WIDTH, NUM_ROUNDS = 12, 720, 1280, 15
CAMVID = Path(__file__).resolve().parents[3] / "shared" / "data" / "camvid" / "masks" / "masks"


def load_masks() -> Tensor:
    """Four masks (4, H, W) uint8, 255 where CamVid has Void."""
    paths = sorted(CAMVID.glob("*.png"))[::150][:4]
    if paths:
        masks = [
            cv2.resize(cv2.imread(str(path), 0), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST) for path in paths
        ]
        return torch.from_numpy(np.stack(masks)).masked_fill_(torch.from_numpy(np.stack(masks)) == 11, 255)
    blobs = torch.randint(0, NUM_CLASSES, (4, HEIGHT // 40, WIDTH // 40), dtype=torch.uint8)
    return blobs.repeat_interleave(40, 1).repeat_interleave(40, 2)


def scores(hits: Tensor, predicted: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    union = predicted + true - hits
    dice = torch.where(union == 0, 1.0, 2 * hits.double() / (predicted + true))
    return dice, torch.where(union == 0, 1.0, hits.double() / union)


def by_one_hot(pred: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The original's way: float32 one-hot tensors of prediction and label, multiplied and summed."""
    counts = (mask != 255).unsqueeze(1)
    label = F.one_hot(mask.long() * counts.squeeze(1), NUM_CLASSES).permute(0, 3, 1, 2).float() * counts
    predicted = F.one_hot(pred.long(), NUM_CLASSES).permute(0, 3, 1, 2).float() * counts
    return scores((label * predicted).sum((2, 3)), predicted.sum((2, 3)), label.sum((2, 3)))


def by_comparison(pred: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """One-hot tensors of bytes, made by comparison."""
    classes = torch.arange(NUM_CLASSES, dtype=torch.uint8).view(1, -1, 1, 1)
    label, predicted = mask.unsqueeze(1) == classes, (pred.unsqueeze(1) == classes) & (mask != 255).unsqueeze(1)
    return scores((label & predicted).sum((2, 3)), predicted.sum((2, 3)), label.sum((2, 3)))


def by_smp(pred: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    signed = mask.long().masked_fill_(mask == 255, -1)
    hits, false, missed, _ = smp.metrics.get_stats(
        pred.long(), signed, mode="multiclass", num_classes=NUM_CLASSES, ignore_index=-1
    )
    return scores(hits, hits + false, hits + missed)


def by_bincount(pred: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The usual torch way: int64 codes of the scored pixels."""
    counts = mask != 255
    codes = mask[counts].long() * NUM_CLASSES + pred[counts].long()
    confusion = torch.bincount(codes, minlength=NUM_CLASSES**2).view(1, NUM_CLASSES, NUM_CLASSES)
    return scores(confusion.diagonal(dim1=1, dim2=2), confusion.sum(1), confusion.sum(2))


def ours(pred: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return dice_iou(*SOFTMAX.split_counts(count(pred, mask, NUM_CLASSES)))


def main() -> None:
    """Prints both comparisons."""
    masks = load_masks()
    preds = masks.roll(5, dims=1).masked_fill_(masks.roll(5, dims=1) == 255, 3)
    turn = [0]

    def next_pair() -> tuple[Tensor, Tensor]:
        turn[0] = (turn[0] + 1) % len(masks)
        return preds[turn[0], None], masks[turn[0], None]

    ways = (by_one_hot, by_comparison, by_smp, by_bincount, ours)
    for way in ways:
        for actual, expected in zip(way(preds[:1], masks[:1]), ours(preds[:1], masks[:1]), strict=True):
            torch.testing.assert_close(actual.double(), expected, rtol=1e-6, atol=1e-7)
    seconds = alternate({way.__name__: lambda way=way: way(*next_pair()) for way in ways}, NUM_ROUNDS)
    show("Dice and IoU of one image from index masks", seconds, "x45 over one-hot tensors")

    small = torch.randn((1, NUM_CLASSES, HEIGHT // 8, WIDTH // 8), generator=torch.Generator().manual_seed(0))
    logits = F.interpolate(small, scale_factor=8, mode="bilinear")
    nhwc = logits.contiguous(memory_format=torch.channels_last)
    assert torch.equal(choose(logits), logits.argmax(1).byte())
    seconds = alternate(
        {
            "argmax(1), NCHW": lambda: logits.argmax(1).to(torch.uint8),
            "max(1).indices, NCHW": lambda: logits.max(1).indices.to(torch.uint8),
            "argmax(1), already channels_last": lambda: nhwc.argmax(1).to(torch.uint8),
            "choose, NCHW": lambda: choose(logits),
        },
        NUM_ROUNDS,
    )
    show(f"class of the highest of {NUM_CLASSES} x {HEIGHT} x {WIDTH} logits", seconds, "x9 over argmax(1)")


if __name__ == "__main__":
    main()
