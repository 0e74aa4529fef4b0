"""What is trained: network, optimizer, loss scaler and averaged weights, saved and restored as one; what is frozen."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from pipeline.config.schema import Config
from pipeline.errors import UserError
from pipeline.training.blocks import checkpoint_blocks
from pipeline.training.device import choose_device, choose_precision
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.memory import MicroBatches, PartLimit, micro_batches
from pipeline.training.optimizer import EmaWeights, build_optimizer
from pipeline.training.ranks import group
from pipeline.training.ranks.engine import reduce_gradients, share_batch_norms
from pipeline.training.weights import load_weights


@dataclass
class Learner:
    """A network and all that changes with it.

    Attributes:
        micro: how batches of training are cut; None: as the config says.
        limit: how many images are validated at once.
    """

    config: Config
    network: nn.Module
    forward: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: EmaWeights | None
    device: torch.device
    precision: torch.dtype
    micro: MicroBatches | None = None
    limit: PartLimit = field(default_factory=PartLimit)
    ddp: DistributedDataParallel | None = None  # of several ranks: the network with reduced gradients
    reduced: Sequence[str] = ()  # the parameters that it reduces

    def __post_init__(self) -> None:
        self.micro = micro_batches(self.config) if self.micro is None else self.micro

    def join_ranks(self) -> None:
        """Makes the ranks' networks learn together; to be called whenever other parts are frozen."""
        learning = [name for name, param in self.network.named_parameters() if param.requires_grad]
        if group.count() == 1 or learning == self.reduced:
            return
        self.ddp = self.forward = None
        gc.collect()  # what the earlier one has attached to the parameters goes with it
        self.ddp, self.reduced = reduce_gradients(self.network), learning
        self.forward = torch.compile(self.ddp) if self.config.solver.compile else self.ddp

    def reducing(self, is_last: bool) -> contextlib.AbstractContextManager:
        """Returns the context of a micro-batch; gradients are reduced over the ranks in that of the last one."""
        return self.ddp.no_sync() if self.ddp is not None and not is_last else contextlib.nullcontext()

    def outputs(self, image_BHWC: Tensor) -> Any:
        """Returns the network's outputs for images on the device, computed in the run's precision."""
        with autocast(self.device, self.precision):
            return self.forward(normalise(image_BHWC, scaling_of(self.network, self.config.model.encoder)))

    def state_dict(self) -> dict[str, Any]:
        """Returns network, optimizer (slow weights included), scaler and averaged weights."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Restores what `state_dict` returned. The content is used up: load it from disk again for a second time.

        Raises:
            UserError: it is that of a finished run, which has weights alone, or its weights are not this network's.
        """
        if "optimizer" not in content:
            raise UserError(
                "the best checkpoint holds weights alone, as its training had ended; to go on from it a run needs "
                "RUNTIME.KEEP_STATE=true from the start. To begin anew: the same command with `train --force`"
            )
        load_weights(self.network, content["network"], "the checkpoint")
        self.optimizer.load_state_dict(content["optimizer"])
        if content["scaler"]:  # empty when what was saved ran without one, e.g. on a CPU
            self.scaler.load_state_dict(content["scaler"])
        if self.ema:
            self.ema.load_state_dict(content["ema"])

    @contextlib.contextmanager
    def validated(self) -> Iterator[nn.Module]:
        """Yields the network in evaluation mode, with the averaged weights where there are any, then undoes both."""
        training = [module for module in self.network.modules() if module.training]
        self.network.eval()
        try:
            with self.ema.placed_in(self.network) if self.ema else contextlib.nullcontext(), torch.inference_mode():
                yield self.network
        finally:
            for module in training:  # one by one: a frozen batch norm stays in evaluation mode
                module.training = True


def build_learner(config: Config, network: nn.Module) -> Learner:
    """Returns a learner at its start, on the device of the run, with the weights that the network has.

    Raises:
        UserError: SOLVER.CHECKPOINT_ENCODER for a network whose encoder has no blocks.
    """
    device, solver = choose_device(config.runtime.device), config.solver
    network.to(device)
    if group.count() > 1 and config.runtime.sync_batch_norm:
        network = share_batch_norms(network, device)
    if solver.checkpoint_encoder:
        checkpoint_blocks(network)
    precision = choose_precision(solver.precision, device)
    return Learner(
        config=config,
        network=network,
        forward=torch.compile(network) if solver.compile else network,
        optimizer=build_optimizer(network, solver.optimizer),
        scaler=build_scaler(device, precision),
        ema=EmaWeights(network, solver.ema_decay) if solver.ema_decay is not None else None,
        device=device,
        precision=precision,
    )


def freeze(network: nn.Module, names: Sequence[str]) -> None:
    """Freezes exactly the named parts of a network in training mode; everything else learns.

    A frozen batch norm also keeps its statistics, as the DeepLab recipes have it (Chen et al., arXiv:1706.05587).

    Args:
        names: `encoder`, a module's path such as `encoder.layer1`, or `batch_norm` for all of them.

    Raises:
        UserError: the network has no such part (names what it has), or nothing would be left to learn.
    """
    network.requires_grad_(True)
    for name in names:
        for module in _parts_named(network, name):
            module.requires_grad_(False)
            for inner in module.modules():
                if isinstance(inner, BatchNorm):
                    inner.eval()
    if not any(param.requires_grad for param in network.parameters()):
        raise UserError(f"FREEZE: {', '.join(names)} leaves nothing to learn; freeze less")


def frozen_words(network: nn.Module) -> str:
    """Returns which parts of a network are frozen and which learn, with their parameters, for the log."""
    listed: dict[str, list[str]] = {"frozen": [], "learning": []}
    for name, part in network.named_children():
        sizes = {False: 0, True: 0}
        for param in part.parameters():
            sizes[param.requires_grad] += param.numel()
        for key, size in (("frozen", sizes[False]), ("learning", sizes[True])):
            if size:
                listed[key].append(f"{name} ({size / 1e6:.1f} M parameters)")
    return "; ".join(f"{key}: {', '.join(parts)}" for key, parts in listed.items() if parts)


def _parts_named(network: nn.Module, name: str) -> list[nn.Module]:
    if name == "batch_norm":
        return [module for module in network.modules() if isinstance(module, BatchNorm)]
    try:
        return [network.get_submodule(name)]
    except AttributeError:
        own = [child for child, _ in network.named_children()]
        stages = (f"encoder.{child}" for child, _ in network.encoder.named_children()) if "encoder" in own else ()
        parts = ["batch_norm", *own, *stages]
        raise UserError(f"FREEZE: the network has no part {name!r}; it has {', '.join(parts)}") from None


def build_scaler(device: torch.device, precision: torch.dtype) -> torch.amp.GradScaler:
    """Returns a fresh loss scaler, which does nothing but in float16."""
    return torch.amp.GradScaler(device.type, enabled=precision == torch.float16)


def validated_weights(content: dict[str, Any]) -> dict[str, Tensor]:
    """Returns the weights of a checkpoint that were validated: the averaged ones where the run kept them."""
    averaged = content["ema"]["weights"] if content["ema"] else {}
    return {**content["network"], **averaged}


@contextlib.contextmanager
def autocast(device: torch.device, precision: torch.dtype) -> Iterator[None]:
    """Within the block a network runs in `precision`."""
    is_lower = precision != torch.float32
    with torch.autocast(device.type, dtype=precision, enabled=is_lower):
        # Asked for the repeatable way torch upsamples by a decomposition of its own, past autocast's rule for it.
        is_past = is_lower and torch.are_deterministic_algorithms_enabled()
        with Float32Upsampling() if is_past else contextlib.nullcontext():
            yield


class Float32Upsampling(TorchFunctionMode):
    """Within the block what is upsampled is float32, as it is under autocast without REPRODUCIBLE."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.interpolate:
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))
