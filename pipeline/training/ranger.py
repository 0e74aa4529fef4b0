"""Ranger, the original's optimizer: rectified Adam, Lookahead and gradient centralization, on lists of tensors.

The arithmetic is that of `torch_optimizer.Ranger` (pytorch_ranger 9.3.19), which has no gradient centralization, and
of lessw2020's Ranger 20.4.11, which has. Both loop over the parameters, a dozen small calls for each; here every
operation takes a list of tensors. Two implementations:

- `fused=False`: the `torch._foreach_*` operations, with the same bits as `torch_optimizer.Ranger`.
- `fused=True`: one pass through torch's fused AdamW kernel. Once the variance is rectified, RAdam's update is Adam's
  without bias correction at the learning rate `lr * step_size`, and a very large step count switches bias correction
  off. Equal up to rounding (the kernel contracts multiply and add), in a third of the time. The first five steps,
  before rectification, use the foreach operations.

Source: RAdam, Liu et al. 2020, https://arxiv.org/abs/1908.03265; Lookahead, Zhang et al. 2019,
https://arxiv.org/abs/1907.08610; gradient centralization, Yong et al. 2020, https://arxiv.org/abs/2004.01461;
https://github.com/lessw2020/Ranger-Deep-Learning-Optimizer.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

RECTIFY_ABOVE = 5  # length of the simple moving average from which on its variance is tractable (paper: 4, Ranger: 5)
NO_BIAS_CORRECTION = 1e9  # step count at which beta ** step is 0 for every beta below 1 - 1e-7
CHUNK_NUMEL = 2**21  # elements per list on a CPU: 8 MB of float32 stay near the core through all operations


def rectified_step(step: int, beta1: float, beta2: float) -> tuple[float, bool]:
    """Returns the factor on the learning rate at a step (1, 2, ...), and whether the variance is rectified.

    While it is not, the update is plain momentum.

    >>> rectified_step(1, 0.95, 0.999)
    (19.999999999999982, False)
    >>> size, is_rectified = rectified_step(100_000, 0.95, 0.999)
    >>> round(size, 6), is_rectified
    (1.0, True)
    """
    beta2_t = beta2**step
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * beta2_t / (1 - beta2_t)
    momentum_correction = 1 - beta1**step
    if length <= RECTIFY_ABOVE:
        return 1.0 / momentum_correction, False
    variance = (1 - beta2_t) * (length - 4) / (longest - 4) * (length - 2) / length * longest / (longest - 2)
    return math.sqrt(variance) / momentum_correction, True


def centralized(grads: list[Tensor]) -> list[Tensor]:
    """Returns gradients minus the mean over each output channel; the given tensors are left unchanged.

    Tensors of one dimension (norms, biases) are returned as they are, and so are channels of a single element, whose
    gradient would otherwise always be 0. Channels of one shape are concatenated: 142 kernels take 27 means.

    >>> centralized([torch.tensor([[1.0, 3.0], [5.0, 5.0]]), torch.tensor([2.0])])
    [tensor([[-1.,  1.],
            [ 0.,  0.]]), tensor([2.])]
    """
    by_shape: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, grad in enumerate(grads):
        if grad.dim() > 1 and grad.shape[1:].numel() > 1:
            by_shape[(grad.shape[1:], grad.dtype, grad.device)].append(index)
    centred = list(grads)
    for indices in by_shape.values():
        rows = torch.cat([grads[index] for index in indices])
        rows.sub_(rows.mean(dim=tuple(range(1, rows.dim())), keepdim=True))
        parts = rows.split([len(grads[index]) for index in indices])
        for index, part in zip(indices, parts, strict=True):
            centred[index] = part
    return centred


class Ranger(torch.optim.Optimizer):
    """Rectified Adam with Lookahead and gradient centralization; all state, slow weights included, is in `state_dict`.

    Each parameter counts its own steps, so one that is thawed late has its own warm-up; parameters without a gradient
    are skipped. Weight decay is decoupled: `weight_decay * lr` of the weight each step.

    Args:
        params: parameters or groups of them; every setting below may differ between groups.
        lr: learning rate; the trainer assigns it every step.
        betas: decay of the running means of gradient and squared gradient.
        eps: added to the root of the running square.
        weight_decay: share of the weight subtracted per step and unit of learning rate.
        k: steps between two moves of the slow weights.
        alpha: how far the slow weights move towards the fast ones, 0 to 1.
        centralize: subtract the mean from the gradient of each output channel (the original did).
        fused: use torch's fused kernel where it applies; without it the bits are those of `torch_optimizer.Ranger`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        k: int = 6,
        alpha: float = 0.5,
        centralize: bool = True,
        fused: bool = True,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "k": k, "alpha": alpha}
        super().__init__(params, defaults | {"centralize": centralize})
        self.fused = fused

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a copy of the state: torch's own method would share its tensors, and later steps would change them."""
        super().load_state_dict(copy.deepcopy(state_dict))

    @torch.no_grad()
    def step(self) -> None:
        """Updates every parameter that has a gradient."""
        grads = self._gradients()
        for group in self.param_groups:
            for (step, *_), params in self._same_step(group["params"]).items():
                for chunk in _chunks(params):
                    self._update(group, step, chunk, [grads[param] for param in chunk])
                if step % group["k"] == 0:
                    slow = [self.state[param]["slow"] for param in params]
                    torch._foreach_add_(slow, torch._foreach_sub(params, slow), alpha=group["alpha"])
                    torch._foreach_copy_(params, slow)

    def _gradients(self) -> dict[Tensor, Tensor]:
        """Returns the gradient of each parameter that has one, centralized where its group says so."""
        plain, to_centre = {}, {}  # over all groups, so that one mean serves many kernels
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    (to_centre if group["centralize"] else plain)[param] = param.grad
        return plain | dict(zip(to_centre, centralized(list(to_centre.values())), strict=True))

    def _same_step(self, params: list[Tensor]) -> dict[tuple[Any, ...], list[Tensor]]:
        """Increments the step of each parameter with a gradient; returns them by step, dtype and device."""
        lists: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
        for param in params:
            if param.grad is None:
                continue
            state = self.state[param]
            if not state:
                state["step"] = 0
                state["exp_avg"] = torch.zeros_like(param)
                state["exp_avg_sq"] = torch.zeros_like(param)
                state["slow"] = param.detach().clone()
            state["step"] += 1
            lists[(state["step"], param.dtype, param.device)].append(param)
        return lists

    def _update(self, group: dict[str, Any], step: int, params: list[Tensor], grads: list[Tensor]) -> None:
        """Applies RAdam's update to parameters that have taken the same number of steps."""
        means = [self.state[param]["exp_avg"] for param in params]
        squares = [self.state[param]["exp_avg_sq"] for param in params]
        lr, (beta1, beta2), eps, decay = group["lr"], group["betas"], group["eps"], group["weight_decay"]
        step_size, is_rectified = rectified_step(step, beta1, beta2)
        if self.fused and is_rectified and _fit_fused_kernel(params, grads, means, squares):
            never = torch.full((), NO_BIAS_CORRECTION, device=params[0].device)
            settings = {"beta1": beta1, "beta2": beta2, "eps": eps, "amsgrad": False, "maximize": False}
            settings |= {"lr": step_size * lr, "weight_decay": decay / step_size}  # their product stays decay * lr
            torch._fused_adamw_(params, grads, means, squares, [], [never] * len(params), **settings)
            return
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, grads, alpha=1 - beta1)
        if decay != 0:
            torch._foreach_add_(params, params, alpha=-decay * lr)
        if is_rectified:
            roots = torch._foreach_sqrt(squares)
            torch._foreach_add_(roots, eps)
            torch._foreach_addcdiv_(params, means, roots, -step_size * lr)
        else:
            torch._foreach_add_(params, means, alpha=-step_size * lr)


def _fit_fused_kernel(*lists: list[Tensor]) -> bool:
    """Returns whether the fused kernel may be used: it reads raw memory and does not check that layouts agree."""
    if lists[0][0].device.type not in ("cpu", "cuda"):
        return False
    for first, *others in zip(*lists, strict=True):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            if first.is_contiguous(memory_format=memory_format):
                break
        else:
            return False
        for other in others:
            if other.dtype != first.dtype or not other.is_contiguous(memory_format=memory_format):
                return False
    return True


def _chunks(params: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yields the list in chunks that fit a CPU's cache; whole on a GPU, where the number of calls matters more."""
    if params[0].device.type != "cpu":
        yield params
        return
    chunk: list[Tensor] = []
    numel = 0
    for param in params:
        chunk.append(param)
        numel += param.numel()
        if numel >= CHUNK_NUMEL:
            yield chunk
            chunk, numel = [], 0
    if chunk:
        yield chunk
