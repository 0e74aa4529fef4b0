"""One step of FPN/efficientnet-b3, 369 tensors: Ranger of torch_optimizer and ours, and others of the libraries.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.benchmarks.bench_optimizer

Runs on a GPU if there is one. Calls are counted at torch's dispatcher, in the step that also moves the slow weights.
"""

from collections.abc import Callable

import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.training.ranger import Ranger
from tests.benchmarks.timing import alternate, show
from tests.training.toy import optimizer_named

NUM_ROUNDS, LOOKAHEAD_STEPS = 30, 6
OTHERS = ("torch_optimizer.Ranger", "torch_optimizer.DiffGrad", "timm.lamb", "timm.adan", "timm.muon")


class CountedCalls(TorchDispatchMode):
    """Counts the operations that reach the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def main() -> None:
    """Prints calls and times of a step."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shapes = [param.shape for param in smp.FPN("efficientnet-b3", encoder_weights=None, classes=12).parameters()]

    def optimizer_of(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> torch.optim.Optimizer:
        generator = torch.Generator().manual_seed(0)
        params = [nn.Parameter(torch.randn(shape, generator=generator).to(device)) for shape in shapes]
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator).to(device)
        return make(params)

    def by_name(name: str) -> torch.optim.Optimizer:
        optimizer = optimizer_of(lambda params: optimizer_named(nn.ParameterList(params), name))
        optimizer.param_groups[0]["lr"] = 1e-3
        return optimizer

    optimizers = {name: by_name(name) for name in OTHERS} | {
        "ours, foreach, not centralized (same bits)": optimizer_of(lambda p: Ranger(p, centralize=False, fused=False)),
        "ours, fused, not centralized": optimizer_of(lambda p: Ranger(p, centralize=False)),
        "ours, foreach, centralized": optimizer_of(lambda p: Ranger(p, fused=False)),
        "ours, fused, centralized (the default)": optimizer_of(lambda p: Ranger(p)),
        "bound: fused AdamW, another optimizer": optimizer_of(lambda p: torch.optim.AdamW(p, fused=True)),
    }
    print(f"{len(shapes)} tensors, {sum(shape.numel() for shape in shapes):,} numbers, on {device}")
    for _ in range(2 * LOOKAHEAD_STEPS - 1):
        for optimizer in optimizers.values():
            optimizer.step()
    for name, optimizer in optimizers.items():
        with CountedCalls() as calls:
            optimizer.step()
        print(f"  {name:44s} {calls.count:6d} calls in a step")

    def timed(optimizer: torch.optim.Optimizer) -> None:
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    seconds = alternate(
        {name: lambda optimizer=optimizer: timed(optimizer) for name, optimizer in optimizers.items()}, NUM_ROUNDS
    )
    show("one step", seconds, "at most 200 calls a step; never slower on a CPU")


if __name__ == "__main__":
    main()
