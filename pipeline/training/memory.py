"""What is done when memory runs out: a step is repeated in more parts, images are predicted fewer at a time.

Out of memory are a GPU (`torch.OutOfMemoryError`) and the host (`MemoryError`, and the error of torch's allocator).
Linux often kills a process that needs too much of the host's memory, which nothing here can prevent.

A step that is repeated begins again from where it began: gradients, running statistics of batch norms, sums of the
epoch and random numbers are as they were. Its loss is the mean over the parts, weighted by their samples, as with
SOLVER.ACCUMULATE. So what is summed over samples stays the same but for rounding. What depends on the samples of a part
together does not: batch norm, and losses of sums over the batch. See `docs/repeatability.md`.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.config.schema import Config
from pipeline.files import sha256_text, write_json
from pipeline.training.device import NO_MEMORY

Result = TypeVar("Result")
FAULTS = (MemoryError, RuntimeError)  # among which `is_out_of_memory` chooses; torch's own is a RuntimeError


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that a GPU's or the host's memory is too small.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    (True, True)
    >>> is_out_of_memory(RuntimeError("shapes differ"))
    False
    """
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or bool(NO_MEMORY.search(str(error)))


@dataclass
class MicroBatches:
    """Into how many parts a batch of training is cut; more of them once one did not fit.

    Attributes:
        accumulate: parts of a whole batch.
        batch_size: samples of a whole batch.
        path: where it is remembered for the next process; None: nowhere.
        key: of the settings and the device that it is remembered for.
        log: takes a line for the user.
        before: the state before the step that is being done.
    """

    accumulate: int
    batch_size: int
    path: Path | None = None
    key: str = ""
    log: Callable[[str], None] = tqdm.write
    before: Snapshot | None = None

    def recall(self) -> None:
        """Takes over what an earlier process has found out for the same settings and device."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            known = int(found["accumulate"]) if found["key"] == self.key else 0
        except (OSError, ValueError, KeyError, TypeError):
            return
        if self.accumulate < known <= self.batch_size:
            self.accumulate = known
            self.log(f"batches of {self.batch_size} are processed in {known} micro-batches, as memory ran out before")

    def num_parts(self, num_samples: int) -> int:
        """Returns into how many parts to cut a batch; a last, smaller one into fewer.

        >>> micro = MicroBatches(accumulate=4, batch_size=8)
        >>> micro.num_parts(8), micro.num_parts(5), micro.num_parts(1)
        (4, 2, 1)
        """
        return max(1, num_samples * self.accumulate // self.batch_size)

    def fitted(self, attempt: Callable[[int], Result], num_samples: int, network: nn.Module, sums: Tensor) -> Result:
        """Returns what an attempt returns, in twice as many parts as often as memory runs out.

        Args:
            attempt: (number of parts) does forward and backward on a batch; begins with zero gradients.
            num_samples: of the batch.
            network: whose buffers are put back before another attempt.
            sums: likewise.

        Raises:
            torch.OutOfMemoryError, MemoryError, RuntimeError: a single sample does not fit.
        """
        if self.before is None or not self.before.is_of(network, sums):
            self.before = Snapshot(network, sums)
        before = self.before
        before.take()
        while True:
            num_parts = self.num_parts(num_samples)
            try:
                return attempt(num_parts)
            except FAULTS as error:
                if not is_out_of_memory(error) or num_parts >= num_samples:
                    raise
                kind = "the host" if isinstance(error, MemoryError) or "CPU" in str(error) else "the GPU"
            # Outside the handler, which would keep alive what did not fit.
            before.restore()
            self._increase(num_samples, num_parts, kind)

    def _increase(self, num_samples: int, num_parts: int, kind: str) -> None:
        wanted = min(2 * num_parts, num_samples)
        while self.num_parts(num_samples) < wanted:
            self.accumulate += 1
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.log(
            f"out of memory on {kind}: the step is repeated, and batches of {self.batch_size} are processed in "
            f"{self.accumulate} micro-batches from now on, as with SOLVER.ACCUMULATE={self.accumulate}"
        )
        if self.path is not None:
            write_json(self.path, {"key": self.key, "accumulate": self.accumulate})


class Snapshot:
    """What a forward pass changes besides gradients: buffers of a network, sums, and torch's random numbers.

    It is taken before every step, so the memory for it is kept, and a few calls copy all tensors.
    """

    def __init__(self, network: nn.Module, sums: Tensor) -> None:
        self.live = [*network.buffers(), sums]
        self.device = sums.device
        self.kept = [torch.empty_like(value) for value in self.live]

    def is_of(self, network: nn.Module, sums: Tensor) -> bool:
        """Returns whether these are its tensors; a network may get others, when it is loaded or moved."""
        now = [*network.buffers(), sums]
        return len(now) == len(self.live) and all(map(operator.is_, now, self.live))

    @torch.no_grad()
    def take(self) -> None:
        """Keeps how everything is now."""
        torch._foreach_copy_(self.kept, self.live)
        self.random = torch.get_rng_state()
        self.random_on_gpu = torch.cuda.get_rng_state(self.device) if self._is_on_gpu else None

    @torch.no_grad()
    def restore(self) -> None:
        """Puts everything back."""
        torch._foreach_copy_(self.live, self.kept)
        torch.set_rng_state(self.random)
        if self.random_on_gpu is not None:
            torch.cuda.set_rng_state(self.random_on_gpu, self.device)

    @property
    def _is_on_gpu(self) -> bool:
        return self.device.type == "cuda" and torch.cuda.is_available()


def micro_batches(
    config: Config, path: Path | None = None, device: torch.device | None = None, **options: Any
) -> MicroBatches:
    """Returns how a config cuts its batches, with what was found out before on this device for the same settings."""
    batch_size, solver, datasets = config.dataloaders.train.batch_size, config.solver, config.datasets
    card = torch.cuda.get_device_name(device) if device is not None and device.type == "cuda" else "cpu"
    deciding = (card, config.model, datasets.augmentation.tile, datasets.input_scale, batch_size, solver.precision)
    key = sha256_text(repr((*deciding, solver.checkpoint_encoder)))
    found = MicroBatches(solver.accumulate, batch_size, path, key, **options)
    if path is not None:
        found.recall()
    return found


@dataclass
class PartLimit:
    """How much is predicted at once; less once it did not fit.

    Attributes:
        too_many: the fewest numbers of images that did not fit together.
    """

    too_many: int | None = None
    said: list[str] = field(default_factory=list)

    def allows(self, images_B: Tensor) -> bool:
        return self.too_many is None or images_B.numel() < self.too_many

    def note(self, images_B: Tensor) -> None:
        """Remembers images that did not fit, and says so."""
        self.too_many = images_B.numel()
        half = -(-len(images_B) // 2)
        tqdm.write(f"out of memory: {len(images_B)} images at once do not fit; {half} at a time from now on")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def in_parts(
    function: Callable[[Tensor], Any],
    images_B: Tensor,
    join: Callable[[Sequence[Any]], Any] = torch.cat,
    limit: PartLimit | None = None,
) -> Any:
    """Returns what a function returns for images (B, ...), in halves joined by `join` where memory is short.

    Args:
        limit: remembers from call to call what did not fit.

    Raises:
        torch.OutOfMemoryError, MemoryError, RuntimeError: a single image does not fit.
    """
    limit = PartLimit() if limit is None else limit
    if len(images_B) == 1 or limit.allows(images_B):
        try:
            return function(images_B)
        except FAULTS as error:
            if not is_out_of_memory(error) or len(images_B) == 1:
                raise
        # Outside the handler, which would keep alive what did not fit.
        limit.note(images_B)
    return join([in_parts(function, part, join, limit) for part in images_B.tensor_split(2)])
