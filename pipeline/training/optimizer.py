"""A network's optimizer by name, with its parameter groups, and the running average of a network's weights.

The learning rate is not set here: it is a pure function of the training plan, and the trainer assigns
`group["lr"] = lr * group["lr_factor"]` to every group before every step. Until then it is 0.
"""

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.schema import Optimizer
from pipeline.errors import UserError
from pipeline.training.blocks import layers_of
from pipeline.training.ranger import Ranger

# The rate at construction, before the plan's replaces it. Some optimizers refuse 0, timm's Adafactor takes steps of its
# own without one, and AdaBound, given its default here, closes in on 100 times the plan's rate.
START_LR = 1e-3
HEAD = "segmentation_head"  # as the library names it


def parameter_groups(
    network: nn.Module,
    weight_decay: float,
    encoder_lr_factor: float,
    decay_norm_and_bias: bool,
    encoder_lr_decay: float = 1.0,
    head_lr_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """Returns every parameter of the network, frozen ones too, in groups: by part, and decayed or not.

    The parts are the layers of the encoder, the head that makes classes of features, and the rest.

    Parameters of one dimension are the scales and shifts of norms and the biases. Groups are left undivided where a
    division would change nothing, and their order depends on the network and the settings alone, as resuming needs.

    Args:
        encoder_lr_decay: the rate of a layer of the encoder is this times that of the next one; of the last it is
            `encoder_lr_factor` of the plan's. 1: the encoder is one group.

    Returns:
        Groups with `params`, `lr`, `lr_factor` (that of the part) and `weight_decay`; none is empty.

    Source: of the decay by layers BEiT, Bao et al. 2021, https://arxiv.org/abs/2106.08254, and timm's
    `param_groups_layer_decay`, which cannot tell the layers of encoders that return features.
    """
    split_decay = weight_decay != 0 and not decay_norm_and_bias
    layers = layers_of(network.encoder) if encoder_lr_decay != 1 else {}
    last = max(layers.values(), default=0)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    factors = {0: 1.0, 2 + last: head_lr_factor}  # by depth: 0 is the rest, 1 the encoder's last layer, then the head
    for name, param in network.named_parameters():
        part, _, own = name.partition(".")
        depth = 0
        if part == "encoder" and (encoder_lr_factor != 1 or encoder_lr_decay != 1):
            depth = 1 + last - layers.get(own, last)
            factors[depth] = encoder_lr_factor * encoder_lr_decay ** (depth - 1)
        elif part == HEAD and head_lr_factor != 1:
            depth = 2 + last
        groups.setdefault((depth, split_decay and param.dim() <= 1), []).append(param)
    return [
        {
            "params": params,
            "lr": START_LR,
            "lr_factor": factors[depth],
            "weight_decay": 0.0 if is_exempt else weight_decay,
        }
        for (depth, is_exempt), params in sorted(groups.items(), key=lambda item: item[0])
    ]


def assign_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every parameter group: `lr` times the group's `lr_factor`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def build_optimizer(network: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Returns the optimizer of SOLVER.OPTIMIZER over all parameters of the network, at a learning rate of 0.

    In Ranger, RAdam and AdamW weight decay is decoupled (`weight_decay * lr` of the weight each step); in Adam and SGD
    it is added to the gradient as is usual there. An optimizer of a library does as its documentation says.

    Args:
        network: its encoder, if it has one, is `network.encoder`, its head `network.segmentation_head`. It may be
            moved to its device before or after.
        settings: their momentum is for SGD, and for those of the libraries that have a setting of this name.

    Raises:
        UserError: a rate for a part that the network does not have, or a name that the installed library lacks.
    """
    factors = {
        "ENCODER_LR_FACTOR": ("encoder", settings.encoder_lr_factor),
        "ENCODER_LR_DECAY": ("encoder", settings.encoder_lr_decay),
        "HEAD_LR_FACTOR": (HEAD, settings.head_lr_factor),
    }
    for key, (part, factor) in factors.items():
        if factor != 1 and not hasattr(network, part):
            found = f"SOLVER.OPTIMIZER.{key} is {factor}, but {type(network).__name__} has no {part}"
            raise UserError(f"{found}: set it to 1")
    own = (settings.weight_decay, settings.encoder_lr_factor, settings.decay_norm_and_bias, settings.encoder_lr_decay)
    groups = parameter_groups(network, *own, settings.head_lr_factor)
    library, _, own_name = settings.name.rpartition(".")
    makers = {"": _own, "timm": _of_timm, "torch_optimizer": _of_torch_optimizer}
    optimizer = makers[library](own_name, groups, settings.momentum)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    return optimizer


def _own(name: str, groups: list[dict[str, Any]], momentum: float) -> torch.optim.Optimizer:
    if name == "Ranger":
        return Ranger(groups)
    if name == "RAdam":
        return torch.optim.RAdam(groups, decoupled_weight_decay=True)
    if name in ("AdamW", "Adam"):
        return getattr(torch.optim, name)(groups, fused=True)
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


def _of_timm(name: str, groups: list[dict[str, Any]], momentum: float) -> torch.optim.Optimizer:
    import timm.optim  # takes seconds where nothing else has imported it

    if name not in timm.optim.list_optimizers():
        raise UserError(f"SOLVER.OPTIMIZER.NAME: timm {timm.__version__} has no {name}; a newer one has")
    return timm.optim.create_optimizer_v2(groups, name, lr=START_LR, momentum=momentum)


def _of_torch_optimizer(name: str, groups: list[dict[str, Any]], momentum: float) -> torch.optim.Optimizer:
    import torch_optimizer

    # Ranger calls torch as in 2019; torch says so at the first step and does the same as ever.
    warnings.filterwarnings("ignore", message="This overload of", category=UserWarning)
    maker = getattr(torch_optimizer, name)
    has_momentum = "momentum" in inspect.signature(maker).parameters
    return maker(groups, lr=START_LR, **({"momentum": momentum} if has_momentum else {}))


class EmaWeights:
    """Running average of a network's weights and batch-norm statistics, which is validated and saved in their place.

    The decay grows with the updates, `min(decay, (1 + n) / (10 + n))`, so that a short run is not held by its random
    start. Integer buffers (batch counts) are copied.

    Source: Tarvainen and Valpola 2017, https://arxiv.org/abs/1703.01780; the growing decay is TensorFlow's
    `ExponentialMovingAverage(num_updates)`.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Moves the average towards the network's present weights; to be called after every optimizer step."""
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
        """Puts the average into the network within the block, and the network's own weights back after it."""
        own = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.weights)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint needs: `num_updates` and a copy of the averaged `weights`."""
        weights: dict[str, Tensor] = {name: value.clone() for name, value in self.weights.items()}
        return {"num_updates": self.num_updates, "weights": weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copies a saved state of the same network into this one, onto its devices."""
        self.num_updates = state["num_updates"]
        for name, value in state["weights"].items():
            self.weights[name].copy_(value)
