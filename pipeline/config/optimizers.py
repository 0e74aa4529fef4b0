"""Which optimizers SOLVER.OPTIMIZER.NAME may name, and why others are refused. Imports none of the libraries.

A name without a prefix is the project's own: Ranger (`training/ranger.py`), or an optimizer of torch. One of a library
has the library's name and spelling: `timm.lamb`, `torch_optimizer.DiffGrad`. So no name means two things, and none
changes its meaning when a library adds an optimizer.

`tests/training/test_optimizer_libraries.py` holds these lists to the installed libraries. What is offered resumes with
the same bits, moves in proportion to the rate of its group, and decays weights towards 0; what is refused fails one of
these.
"""

from __future__ import annotations

from pipeline.wording import nearest, plain_word

OURS = ("Ranger", "RAdam", "AdamW", "Adam", "SGD")
TIMM = """
adabelief adadelta adafactor adafactorbv adagrad adam adamax adamp adamuon adamw adamwlegacy adan adanw adopt adoptw
cadafactor cadafactorbv cadamp cadamw cadan cadanw cadopt cadoptw clamb clambw claprop clion cmars cnadamw crmsproptf
csgdp csgdw lamb lambc lambcw lambw laprop larc lars lion mars momentum muon nadam nadamlegacy nadamuon nadamw nesterov
nesterovw nlarc nlars nmuon novograd novogradw radabelief radam radamlegacy radamw rmsprop rmsproptf rmsproptfw sgd sgdp
sgdw
"""
TORCH_OPTIMIZER = """
AccSGD AdaBelief AdaBound AdaMod AggMo Apollo DiffGrad LARS Lamb NovoGrad PID QHAdam QHM Ranger RangerQH RangerVA SGDW
Shampoo Yogi
"""


def _named(library: str, names: str) -> tuple[str, ...]:
    return tuple(f"{library}.{name}" for name in names.split())


OFFERED = (*OURS, *_named("timm", TIMM), *_named("torch_optimizer", TORCH_OPTIMIZER))

_REASONS = {
    "needs second derivatives, which a training step does not compute": (
        *_named("timm", "adahessian"),
        *_named("torch_optimizer", "Adahessian"),
    ),
    "moves weights at a learning rate of 0, too: its steps are not in proportion to the plan's rate": (
        *_named("timm", "madgrad madgradw"),
        *_named("torch_optimizer", "MADGRAD A2GradExp A2GradInc A2GradUni"),
    ),
    "gives every parameter group the step of the first, so that ENCODER_LR_FACTOR does nothing; use RAdam": (
        *_named("torch_optimizer", "RAdam"),
    ),
    "takes the plan's highest learning rate for its weight decay from its construction, before the plan is known": (
        *_named("timm", "adafactorbvc adamc adoptc cadafactorbvc cadamc cadoptc clionc cnadamc csgdc lambcd lapropc"),
        *_named("timm", "lionc nadamc novogradc rmsproptfc sgdc"),
    ),
    "fails on the kernels of these networks, which are in channels_last memory format; timm has one that does not": (
        *_named("torch_optimizer", "AdamP SGDP"),
    ),
    "fails on the kernels of these networks, which are in channels_last memory format": (
        *_named("torch_optimizer", "SWATS"),
    ),
    "fails on convolutions; use timm.adafactor": _named("torch_optimizer", "Adafactor"),
    "wraps another optimizer; Ranger has it built in": _named("torch_optimizer", "Lookahead"),
    "compiles its steps for each shape of weights, which takes minutes before the first; no test holds its resume": (
        *_named("timm", "kron kronc kronw"),
    ),
    "needs the package bitsandbytes and a GPU; no test holds its resume": (
        *_named("timm", "bnbadam bnbadam8bit bnbadamw bnbadamw8bit bnbademamix bnbademamix8bit bnblion bnblion8bit"),
        *_named("timm", "bnbsgd bnbsgd8bit"),
    ),
    "needs NVIDIA's package apex and a GPU; no test holds its resume": (
        *_named("timm", "fusedadam fusedadamw fusedlamb fusednovograd fusedsgd"),
    ),
}
REFUSED = {name: reason for reason, names in _REASONS.items() for name in names}

# Each of their steps is made of two: up along the gradient, and back with that of the second forward and backward pass.
TWO_STEPS = ("SAM", "ASAM", "GSAM", "ESAM", "LookSAM", "WSAM", "BSAM", "FriendlySAM")
TWO_STEPS_REASON = "needs two forward and backward passes for each step, and a training step does one; use AdamW"

WITHOUT_DECAY = {
    "torch_optimizer.Apollo": "stops with an error when weights decay",
    "torch_optimizer.SGDW": "subtracts the same number from every weight instead of a share of it; timm.sgdw is right",
}

# Their steps at one learning rate grow or shrink for thousands of steps, so those of a short sweep say nothing about a
# training's. Those of Ranger and RAdam grow, too, but by a known formula: see `training/lr_sweep.py`.
UNEVEN = ("timm.adagrad", "torch_optimizer.AdaBound", "torch_optimizer.AdaMod", "torch_optimizer.Shampoo")


def why_refused(name: str, weight_decay: float) -> str | None:
    """Returns why SOLVER.OPTIMIZER.NAME is refused, with what to write instead, or None.

    >>> why_refused("adamw", 0.0)
    'no optimizer is called adamw; did you mean AdamW or timm.adamw?'
    >>> why_refused("SAM", 0.0)
    'SAM needs two forward and backward passes for each step, and a training step does one; use AdamW'
    >>> why_refused("torch_optimizer.Lookahead", 0.0)
    'torch_optimizer.Lookahead wraps another optimizer; Ranger has it built in'
    >>> why_refused("timm.lamb", 0.01) is None
    True
    """
    if name in REFUSED:
        return f"{name} {REFUSED[name]}"
    if name in OFFERED:
        decays = weight_decay != 0 and name in WITHOUT_DECAY
        return f"{name} {WITHOUT_DECAY[name]}; or set SOLVER.OPTIMIZER.WEIGHT_DECAY: 0" if decays else None
    known, word = (*OFFERED, *REFUSED), plain_word(name.rpartition(".")[2])
    if word in map(plain_word, TWO_STEPS):
        return f"{name} {TWO_STEPS_REASON}"
    near = [other for other in known if plain_word(other.rpartition(".")[2]) == word] or nearest(name, known, most=2)
    offered = [other for other in near if other in OFFERED]
    if near and not offered:  # to propose it would be to have it typed, only to be refused
        return f"{near[0]} {REFUSED[near[0]]}"
    hint = f"did you mean {' or '.join(offered)}?" if offered else f"expected {', '.join(OURS)}, or e.g. timm.lamb"
    return f"no optimizer is called {name}; {hint}"
