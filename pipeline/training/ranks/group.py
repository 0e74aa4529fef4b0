"""The ranks: processes that train one network together, each on its part of every batch.

What is here holds in a process that trains alone, too: it is then the only rank, and every sum is its own. So losses,
running sums and the training loop ask no questions.

Within `joint_batches` sums over a batch are sums over the batches of all ranks. Each rank then has the loss of the
whole batch, and the gradient of the sum over ranks of these equal losses; torch's DistributedDataParallel divides the
gradients by the number of ranks, which leaves the gradient of one loss of the whole batch.

Letters: ... any axes.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# The first rank may prepare data while the others wait. A rank that dies is noticed at once, by the process that
# started it, see `launch.py`; this is for one that hangs.
TIME_OUT = timedelta(minutes=30)


@dataclass
class _Group:
    """This process among its ranks.

    Attributes:
        control: for decisions and Python objects, on the CPU; no GPU is made to wait for them.
        is_joint: whether sums are over all ranks.
    """

    rank: int
    count: int
    control: Any
    is_joint: bool = False


_own: list[_Group] = []  # none, or the one that this process has joined


def join(rank: int, count: int, meeting: Path, device: torch.device) -> None:
    """Makes this process one of `count` ranks; returns when all are there.

    Args:
        meeting: a file that does not exist yet, the same for all.
        device: where the network is.
    """
    is_gpu = device.type == "cuda"
    backend = "nccl" if is_gpu and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=count, timeout=TIME_OUT)
    control = dist.new_group(backend="gloo", timeout=TIME_OUT) if backend != "gloo" else dist.group.WORLD
    _own.append(_Group(rank, count, control))


def leave() -> None:
    """Ends what `join` began."""
    _own.clear()
    dist.destroy_process_group()


def rank() -> int:
    """Returns the number of this process among its ranks, from 0 on."""
    return _own[0].rank if _own else 0


def count() -> int:
    """Returns the number of ranks; 1: this process trains alone."""
    return _own[0].count if _own else 1


def is_first() -> bool:
    """Returns whether this process writes the run's files and log."""
    return rank() == 0


@contextlib.contextmanager
def joint_batches() -> Iterator[None]:
    """Within the block, sums over a batch are sums over the batches of all ranks. All ranks enter it together."""
    if not _own:
        yield
        return
    _own[0].is_joint = True
    try:
        yield
    finally:
        _own[0].is_joint = False


def is_joint() -> bool:
    """Returns whether sums are over several ranks."""
    return bool(_own) and _own[0].is_joint


def summed(values: Tensor) -> Tensor:
    """Returns the sum of a tensor (...) over the ranks, with its gradient; itself outside `joint_batches`."""
    return reduced(values) if is_joint() else values


def mean(value: Tensor) -> Tensor:
    """Returns the mean of a tensor (...) over the ranks, with its gradient; itself outside `joint_batches`."""
    return reduced(value) / count() if is_joint() else value


def gathered(values: Tensor) -> Tensor:
    """Returns a tensor (..., N) of each rank, all in one (..., N * ranks) in the order of ranks, without a gradient.

    Outside `joint_batches` it is the tensor itself. All ranks give the same shape.
    """
    if not is_joint():
        return values
    sent = values.detach().contiguous()
    sent = sent.byte() if sent.dtype == torch.bool else sent
    parts = [torch.empty_like(sent) for _ in range(count())]
    dist.all_gather(parts, sent)
    return torch.cat(parts, -1).to(values.dtype)


def own_part(values: Tensor) -> Tensor:
    """Returns this rank's part (..., N) of what has the form that `gathered` returns."""
    return values.tensor_split(count(), -1)[rank()] if is_joint() else values


def reduced(values: Tensor) -> Tensor:
    """Returns the sum of a tensor (...) over all ranks, with its gradient, inside a block and outside."""
    return _Reduced.apply(values)


class _Reduced(torch.autograd.Function):
    """The sum over ranks. What each makes of it gets into the gradient of all.

    As `torch.distributed.nn.functional.all_reduce`, which torch is about to remove.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Reduced.apply(grad)


def any_of(flag: bool) -> bool:
    """Returns whether the flag is set in any rank. All ranks ask together, and get the same answer."""
    if not _own:
        return flag
    answer = torch.tensor(int(flag))
    dist.all_reduce(answer, dist.ReduceOp.MAX, group=_own[0].control)
    return bool(answer)


def wait() -> None:
    """Waits until all ranks are here."""
    any_of(False)


def objects_of_all(own: Any) -> list[Any]:
    """Returns an object of each rank, in their order; tensors in it are on the CPU."""
    if not _own:
        return [own]
    found = [None] * count()
    with warnings.catch_warnings():  # of torch, about its own buffers
        warnings.simplefilter("ignore")
        dist.all_gather_object(found, own, group=_own[0].control)
    return found


def of_first(own: Any) -> Any:
    """Returns the first rank's object, in all ranks: what depends on the time is decided by one clock."""
    return objects_of_all(own)[0]


@contextlib.contextmanager
def first_before_others() -> Iterator[None]:
    """The first rank does the block before the others begin it; all leave it together."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()
    wait()


def seed_step(seed: int) -> None:
    """Seeds torch for one step: the first rank, or one alone, with the seed itself, each other with one drawn from it.

    Ranks with the same seed would drop the same neurons of different samples.
    """
    torch.manual_seed(seed)
    if rank():
        torch.manual_seed(int(torch.randint(2**62, (rank(),))[-1]))
