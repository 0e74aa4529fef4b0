"""Which device and number format a run uses, and what is said where a GPU cannot do what it is asked.

fp16 with a scaler on cards below compute capability 8 (a T4's bf16 is emulated though torch reports it as supported),
bf16 from there on. On a CPU float32, since results should not depend on the make of the CPU unless that is asked for:
bfloat16 nearly halves a step where the CPU has instructions for it (`tests/benchmarks/bench_step.py`, part 4).
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from pipeline.config.schema import Config
from pipeline.errors import UserError

NATIVE_BF16_CAPABILITY = 8
CPU_BF16, CPU_FP16 = ("avx512_bf16", "amx_bf16"), ("avx512_fp16", "amx_fp16")
NO_DETERMINISTIC_WAY = re.compile(r"(\S+) does not have a deterministic implementation")
ONE_VALUE = "Expected more than 1 value per channel when training"
NO_MEMORY = re.compile(r"out of memory|can't allocate memory|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED")
GPU = re.compile(r"CUDA|CUDNN|CUBLAS|HIP|GPU")
SIZES = re.compile(r"allocate ([\d.]+ \w+)[\s\S]*?total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free")
ARCHITECTURE = re.compile(r"(sm|compute)_(\d+)(\d)")
GIB = 1024**3


def choose_device(name: str) -> torch.device:
    """Returns the device of a run. `auto` takes a GPU that torch can use, and says so where it cannot use it.

    Raises:
        UserError: CUDA was asked for, and there is none or its card is too old for this torch.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            "RUNTIME.DEVICE is cuda, but torch finds no GPU; ./run.sh doctor says why. Or set RUNTIME.DEVICE=auto"
        )
    # A P100 on Kaggle: torch finds it, and the first thing asked of it fails.
    if has_kernels(torch.cuda.get_device_capability(), torch.cuda.get_arch_list()):
        return torch.device("cuda")
    major, minor = torch.cuda.get_device_capability()
    fault = f"{torch.cuda.get_device_name()} (capability {major}.{minor}) is too old for torch {torch.__version__}"
    if name == "cuda":
        raise UserError(f"{fault}; choose another accelerator (on Kaggle: T4 x2), or set RUNTIME.DEVICE=cpu")
    _log_once(f"{fault}: this runs on the CPU. On Kaggle choose the accelerator T4 x2")
    return torch.device("cpu")


def has_kernels(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Returns whether a torch that was built for these architectures can use a card of this compute capability.

    Code for one architecture (`sm`) runs on cards of the same generation, intermediate code (`compute`) on all later
    ones (CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility"). Other makers' names say nothing.

    >>> built_for = ["sm_75", "sm_80", "sm_90", "compute_120"]
    >>> [has_kernels(card, built_for) for card in ((6, 0), (7, 0), (7, 5), (8, 9), (10, 0), (12, 1))]
    [False, False, True, True, False, True]
    """
    known = [found.groups() for found in map(ARCHITECTURE.match, built_for) if found]
    for kind, major, minor in known:
        architecture = (int(major), int(minor))
        if architecture <= capability and (kind == "compute" or architecture[0] == capability[0]):
            return True
    return not known


@functools.cache
def _log_once(line: str) -> None:
    tqdm.write(line)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Returns the number format of the forward pass, of `SOLVER.PRECISION`."""
    if name not in ("auto", "fastest"):
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]
    if device.type == "cpu":
        is_lower = name == "fastest" and any(cpu_capabilities().get(instructions) for instructions in CPU_BF16)
        return torch.bfloat16 if is_lower else torch.float32
    is_native = torch.cuda.get_device_capability(device)[0] >= NATIVE_BF16_CAPABILITY
    return torch.bfloat16 if is_native else torch.float16


def described(device: torch.device, precision: torch.dtype) -> str:
    """Returns device and number format in words.

    >>> described(torch.device("cpu"), torch.float32)
    'the CPU, float32'
    """
    number = str(precision).removeprefix("torch.")
    if device.type == "cpu":
        is_slow = precision != torch.float32 and is_emulated(precision, cpu_capabilities())
        hint = " (this CPU has no instructions for it: SOLVER.PRECISION=float32 is usually faster)"
        return f"the CPU, {number}{hint if is_slow else ''}"
    card = torch.cuda.get_device_properties(device)
    return f"{card.name}, {card.total_memory / GIB:.0f} GiB, {number}"


def cpu_capabilities() -> Mapping[str, Any]:
    """Returns what torch knows of this CPU; nothing before torch 2.11."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def is_emulated(precision: torch.dtype, capabilities: Mapping[str, Any]) -> bool:
    """Returns whether an x86 CPU computes a lower precision by way of float32. Of other CPUs nothing is claimed.

    >>> is_emulated(torch.bfloat16, {"architecture": "x86_64", "avx512_bf16": True})
    False
    >>> is_emulated(torch.bfloat16, {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False})
    True
    >>> is_emulated(torch.bfloat16, {})
    False
    """
    needed = CPU_BF16 if precision == torch.bfloat16 else CPU_FP16
    return capabilities.get("architecture") == "x86_64" and not any(capabilities.get(name) for name in needed)


def make_reproducible(is_wanted: bool) -> None:
    """Makes CUDA choose deterministic operations, or the fastest ones. The CPU is deterministic either way.

    To be called before the first operation on the GPU, since cuBLAS reads its setting only once. What it leaves open
    and what it costs: `docs/repeatability.md`.
    """
    if is_wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else torch refuses matrix products
    torch.backends.cudnn.benchmark = not is_wanted
    torch.backends.cudnn.deterministic = is_wanted
    # torch would fill all new memory, against programs that read what they have not written; ours does not.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(is_wanted)


@contextlib.contextmanager
def explained_faults(fix: str) -> Iterator[None]:
    """Turns errors of torch that a setting caused into errors that name the setting and the fix.

    Args:
        fix: what to type when a GPU's memory is too small.

    Raises:
        UserError: the memory is too small; SOLVER.REPRODUCIBLE asks for what CUDA has no repeatable way to do; or a
            batch norm behind a global pooling gets a single image.
    """
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as error:
        explained = _explained("out of memory" if isinstance(error, MemoryError) else str(error), fix)
        if explained is None:
            raise
        raise UserError(explained) from None


def memory_fix(config: Config) -> str:
    """Returns what to type when a step of training does not fit into a GPU's memory."""
    more = "" if config.solver.checkpoint_encoder else ", and so does SOLVER.CHECKPOINT_ENCODER=true"
    return f"Not one sample fits. A smaller tile or MODEL.ENCODER.NAME needs less{more}."


def validation_memory_fix(config: Config) -> str:
    """Returns what to type when validation images, which are predicted whole, do not fit into a GPU's memory."""
    batch_size = config.dataloaders.valid.batch_size
    windows = "set IMAGE.WHOLE_PX in the competition's file below their number of pixels, so that windows are predicted"
    if batch_size == 1:
        return f"A single validation image does not fit; {windows}. A smaller MODEL.ENCODER.NAME needs less."
    fewer = f"DATALOADERS.VALID.BATCH_SIZE={max(1, batch_size // 2)} validates fewer images at once"
    return f"{fewer}; if a single image does not fit, {windows}."


def _explained(message: str, fix: str) -> str | None:
    """Returns the message for an error of torch, or None where the error is of another kind.

    >>> print(_explained("cumsum_cuda does not have a deterministic implementation, but ...", "").splitlines()[0])
    SOLVER.REPRODUCIBLE: torch has no repeatable way to do cumsum_cuda on this GPU.
    """
    operation = NO_DETERMINISTIC_WAY.search(message)
    if operation:
        return (
            f"SOLVER.REPRODUCIBLE: torch has no repeatable way to do {operation.group(1)} on this GPU.\n"
            "Choose another MODEL.NAME or LOSS_FN.MIX without it, set RUNTIME.DEVICE=cpu, or SOLVER.REPRODUCIBLE=false."
        )
    if ONE_VALUE in message:
        return (
            "this network has a batch norm after a global pooling, which needs at least two images per forward pass.\n"
            "Raise DATALOADERS.TRAIN.BATCH_SIZE or lower SOLVER.ACCUMULATE."
        )
    if not NO_MEMORY.search(message):
        return None
    sizes = SIZES.search(message)
    whose = "the GPU's" if GPU.search(message) else "the machine's"
    detail = " ({0} more were wanted, {2} of {1} are free)".format(*sizes.groups()) if sizes else ""
    tool = "nvidia-smi" if GPU.search(message) else "top"
    return f"{whose} memory is too small{detail}.\n{fix}\n{tool} shows whether another program holds some of it."
