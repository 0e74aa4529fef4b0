"""What SOLVER.CHECKPOINT_ENCODER saves and costs on a CPU: a training step of FPN with several encoders.

    python -m tests.benchmarks.bench_checkpoint

Kept: the bytes that the forward pass keeps for the backward pass, weights left out. Peak: the most resident memory of a
process of its own, over that before its first step. Seconds: processor time of a step, the two ways alternating.
"""

from __future__ import annotations

import resource
import statistics
import time
import warnings

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from pipeline.training.blocks import checkpoint_blocks
from tests.benchmarks.street_images import in_own_process

ENCODERS = ("resnet34", "tu-convnext_nano", "timm-efficientnet-b0")
BATCH_SIZE, HEIGHT, WIDTH, NUM_STEPS = 4, 224, 416, 3


def measure(encoder: str, is_checkpointed: bool) -> tuple[float, float, float]:
    """Returns MiB kept, MiB of the peak over the start, and seconds of a step."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        network = smp.FPN(encoder, encoder_weights=None, classes=12).to(memory_format=torch.channels_last)
    if is_checkpointed:
        checkpoint_blocks(network)
    weights = {param.data_ptr() for param in network.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    images = torch.randn(BATCH_SIZE, 3, HEIGHT, WIDTH).to(memory_format=torch.channels_last)
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(NUM_STEPS):
        began = time.process_time()
        network(images).square().mean().backward()
        seconds.append(time.process_time() - began)
        network.zero_grad(set_to_none=True)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    with saved_tensors_hooks(count, lambda tensor: tensor):
        network(images)
    return sum(kept.values()) / 2**20, peak, statistics.median(seconds[1:])


def main() -> None:
    print(f"FPN, batch {BATCH_SIZE} of {WIDTH}x{HEIGHT}, one core, float32")
    for encoder in ENCODERS:
        plain, twice = (in_own_process(measure, encoder, is_on) for is_on in (False, True))
        columns = zip(("kept", "peak", "step"), ("MiB", "MiB", "s"), plain, twice, strict=True)
        cells = (f"{name} {one:7.2f} -> {other:7.2f} {unit} (x{other / one:.2f})" for name, unit, one, other in columns)
        print(f"  {encoder:<22}" + "   ".join(cells))


if __name__ == "__main__":
    main()
