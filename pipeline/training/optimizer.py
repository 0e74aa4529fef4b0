"""A network's optimizer by name, with its parameter groups, and the running average of a network's weights.

The learning rate is no setting of this module: it is a pure function of the training plan, and the trainer assigns
`group["lr"] = lr * group["lr_factor"]` to every group before every step. Until then it is 0.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.training.ranger import Ranger

OPTIMIZERS = ("Ranger", "RAdam", "AdamW", "SGD")


def parameter_groups(
    network: nn.Module, weight_decay: float, encoder_lr_factor: float, decay_norm_and_bias: bool
) -> list[dict[str, Any]]:
    """Every parameter of the network, frozen ones too, in at most four groups (encoder or not, decayed or not).

    Parameters of one dimension are the scales and shifts of norms and the biases. Groups are left undivided where a
    division would change nothing, and their order depends on the network and the settings alone, as resuming needs.

    Returns:
        Groups with `params`, `lr`, `lr_factor` (1, or the encoder's) and `weight_decay`; none is empty.
    """
    split_decay = weight_decay != 0 and not decay_norm_and_bias
    split_encoder = encoder_lr_factor != 1
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, param in network.named_parameters():
        is_encoder = split_encoder and name.startswith("encoder.")
        is_exempt = split_decay and param.dim() <= 1
        groups.setdefault((is_encoder, is_exempt), []).append(param)
    return [
        {
            "params": params,
            "lr": 0.0,
            "lr_factor": encoder_lr_factor if is_encoder else 1.0,
            "weight_decay": 0.0 if is_exempt else weight_decay,
        }
        for (is_encoder, is_exempt), params in sorted(groups.items(), key=lambda item: item[0])
    ]


def assign_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every parameter group: `lr` times the group's `lr_factor`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def build_optimizer(
    network: nn.Module,
    name: str,
    weight_decay: float = 0.0,
    encoder_lr_factor: float = 1.0,
    decay_norm_and_bias: bool = True,
    momentum: float = 0.9,
) -> torch.optim.Optimizer:
    """The optimizer of that name over all parameters of the network.

    Weight decay is decoupled (`weight_decay * lr` of the weight each step) but in SGD, where it is added to the
    gradient as is usual there. A network of the fused kinds may be moved to its device before or after.

    Args:
        network: its encoder, if it has one, is `network.encoder`.
        name: Ranger (RAdam with Lookahead and gradient centralization), RAdam, AdamW or SGD.
        weight_decay: 0 for none.
        encoder_lr_factor: the encoder's learning rate over the decoder's.
        decay_norm_and_bias: whether norms and biases decay too.
        momentum: of SGD; the others have their own.

    Raises:
        UserError: unknown name, or an encoder factor for a network without an encoder.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"SOLVER.OPTIMIZER is {name!r}, known are {', '.join(OPTIMIZERS)}")
    if encoder_lr_factor != 1 and not hasattr(network, "encoder"):
        raise UserError(
            f"SOLVER.ENCODER_LR_FACTOR is {encoder_lr_factor}, but {type(network).__name__} has no encoder: set it to 1"
        )
    groups = parameter_groups(network, weight_decay, encoder_lr_factor, decay_norm_and_bias)
    if name == "Ranger":
        return Ranger(groups)
    if name == "RAdam":
        return torch.optim.RAdam(groups, decoupled_weight_decay=True)
    if name == "AdamW":
        return torch.optim.AdamW(groups, fused=True)
    optimizer = torch.optim.SGD(groups, momentum=momentum, fused=True)
    if momentum:
        optimizer.register_step_pre_hook(_begin_momentum)
    return optimizer


def _begin_momentum(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Gives parameters without momentum one of 0: the fused SGD wants it of all or none, and thawed parts have none."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param.grad is not None and optimizer.state[param].get("momentum_buffer") is None:
                optimizer.state[param]["momentum_buffer"] = torch.zeros_like(param)


class EmaWeights:
    """Running average of a network's weights and batch-norm statistics, to be judged and saved in their place.

    The decay grows with the updates, `min(decay, (1 + n) / (10 + n))`, so that a short run is not held by its random
    start. Integer buffers (batch counts) are copied.

    Source: Tarvainen and Valpola 2017, https://arxiv.org/abs/1703.01780; the growing decay is TensorFlow's
    `ExponentialMovingAverage(num_updates)`.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay {decay} of the weight average must be in [0, 1)")
        self.decay = decay
        self.num_updates = 0
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """The average moved towards the network's present weights; call it after every optimizer step."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        current = network.state_dict()
        floats = [name for name, value in self.weights.items() if value.is_floating_point()]
        others = [name for name, value in self.weights.items() if not value.is_floating_point()]
        torch._foreach_lerp_([self.weights[name] for name in floats], [current[name] for name in floats], 1 - decay)
        if others:
            torch._foreach_copy_([self.weights[name] for name in others], [current[name] for name in others])

    @contextlib.contextmanager
    def placed_in(self, network: nn.Module) -> Iterator[None]:
        """The average stands in the network within the block, the network's own weights again after it."""
        own = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs: `num_updates` and a copy of the averaged `weights`."""
        weights: dict[str, Tensor] = {name: value.clone() for name, value in self.weights.items()}
        return {"num_updates": self.num_updates, "weights": weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """State taken over as a copy, onto the devices of the present one.

        Raises:
            KeyError: the saved average is of another network.
        """
        if state["weights"].keys() != self.weights.keys():
            strangers = sorted(state["weights"].keys() ^ self.weights.keys())
            raise KeyError(f"saved weight average is of another network: {strangers[0]} is in one of the two only")
        self.num_updates = state["num_updates"]
        for name, value in state["weights"].items():
            self.weights[name].copy_(value)
